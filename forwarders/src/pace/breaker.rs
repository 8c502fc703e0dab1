//! A circuit breaker for each target account: five hundred forwarders to one
//! dead server make one attempt at a time between them, not five hundred.

use std::time::Duration;

use crate::limits::{BREAKER_FAILURES, BREAKER_OPEN_MS};

/// Whether to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Only this caller; the others wait for what becomes of it.
    Probe,
    /// Not before this long has passed.
    Wait(Duration),
}

/// `now` is any clock that does not go back, the same for all calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    failures: u32,
    /// When the next probe may be made; none while all may go.
    probe_at: Option<Duration>,
}

impl Breaker {
    /// Asks before an attempt. A probe that nobody reports of is given up when
    /// its time has passed, and the next caller gets one.
    pub fn ask(&mut self, now: Duration) -> Gate {
        match self.probe_at {
            None => Gate::Open,
            Some(at) if now < at => Gate::Wait(at - now),
            Some(_) => {
                self.probe_at = Some(now + Self::pause());
                Gate::Probe
            }
        }
    }

    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub fn failed(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= BREAKER_FAILURES {
            self.probe_at = Some(now + Self::pause());
        }
    }

    fn pause() -> Duration {
        Duration::from_millis(BREAKER_OPEN_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_close_the_way_but_for_one_at_a_time() {
        let second = Duration::from_secs;
        let mut breaker = Breaker::default();
        for _ in 1..BREAKER_FAILURES {
            breaker.failed(second(1));
            assert_eq!(breaker.ask(second(1)), Gate::Open);
        }
        breaker.failed(second(1));
        assert_eq!(breaker.ask(second(2)), Gate::Wait(second(9)));
        assert_eq!(breaker.ask(second(11)), Gate::Probe);
        assert_eq!(breaker.ask(second(11)), Gate::Wait(second(10)));
        breaker.failed(second(12));
        assert_eq!(breaker.ask(second(13)), Gate::Wait(second(9)));
        assert_eq!(breaker.ask(second(22)), Gate::Probe);
        breaker.succeeded();
        assert_eq!(breaker.ask(second(22)), Gate::Open);
    }
}
