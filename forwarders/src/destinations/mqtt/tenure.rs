//! Whether connections that the platform accepts are soon ended by it. A platform
//! lets one connection be a device at a time: two that insist would throw one
//! another out at full speed, and neither would send anything. So the more often
//! a connection was ended early in a row, the longer is waited before the next.

use std::time::Duration;

/// A connection that lasts so long is settled, and its end no matter of who was
/// there first.
const SETTLED: Duration = Duration::from_secs(60);

/// The pause after the second connection in a row that was ended early; each
/// further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause, so that the place is taken within a minute of its being
/// free.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How the connections of one identity ended. Times are those of any clock that
/// does not go back.
#[derive(Debug, Default)]
pub(super) struct Tenure {
    ended_early: u32,
    free_at: Duration,
}

impl Tenure {
    /// The platform has ended a connection that lasted so long.
    pub fn ended(&mut self, lasted: Duration, now: Duration) {
        if lasted >= SETTLED {
            *self = Self::default();
            return;
        }
        self.ended_early = self.ended_early.saturating_add(1);
        // Once is a platform that restarts, or a connection of a test.
        if let Some(doublings) = self.ended_early.checked_sub(2) {
            let pause = FIRST_PAUSE.saturating_mul(1 << doublings.min(10)).min(LONGEST_PAUSE);
            self.free_at = now + pause;
        }
    }

    /// How long no connection is to be made.
    pub fn pause(&self, now: Duration) -> Option<Duration> {
        self.free_at.checked_sub(now).filter(|pause| !pause.is_zero())
    }

    /// How many connections in a row were ended early.
    pub fn ended_early(&self) -> u32 {
        self.ended_early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_are_ended_early_follow_one_another_ever_more_slowly() {
        let second = Duration::from_secs;
        let mut tenure = Tenure::default();
        let mut now = second(100);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            tenure.ended(second(1), now);
            let pause = tenure.pause(now).unwrap_or_default();
            pauses.push(pause.as_secs());
            now += pause;
            assert_eq!(tenure.pause(now), None);
        }
        assert_eq!(pauses, [0, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(tenure.ended_early(), 9);
    }

    #[test]
    fn a_connection_that_was_settled_starts_anew() {
        let second = Duration::from_secs;
        let mut tenure = Tenure::default();
        tenure.ended(second(1), second(10));
        tenure.ended(second(1), second(11));
        assert_eq!(tenure.pause(second(12)), Some(second(1)));
        tenure.ended(second(60), second(80));
        assert_eq!((tenure.pause(second(80)), tenure.ended_early()), (None, 0));
    }
}
