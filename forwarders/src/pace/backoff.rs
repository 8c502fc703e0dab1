//! Pauses between attempts: exponential with full jitter, so that forwarders
//! which lost a platform together do not come back together.

use std::time::Duration;

/// How often it failed in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How often it failed since it last succeeded.
    #[must_use]
    pub fn failures(self) -> u32 {
        self.failures
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The pause after one more failure: anything up to `min` × 2ⁿ, at most
    /// `max`; `random` is in 0..1. A platform that asks for more time gets it,
    /// up to `max`.
    pub fn failed(
        &mut self,
        random: f64,
        asked: Option<Duration>,
        (min, max): (Duration, Duration),
    ) -> Duration {
        let ceiling = min.saturating_mul(1 << self.failures.min(30)).min(max);
        self.failures = self.failures.saturating_add(1);
        let pause = ceiling.mul_f64(random.clamp(0.0, 1.0));
        pause.max(asked.unwrap_or_default()).min(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(10));

    #[test]
    fn the_ceiling_doubles_up_to_the_longest_pause_and_success_starts_anew() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<u128> =
            (0..12).map(|_| backoff.failed(1.0, None, BOUNDS).as_millis()).collect();
        assert_eq!(ceilings[..4], [500, 1_000, 2_000, 4_000]);
        assert_eq!(ceilings[11], 600_000);
        assert_eq!(backoff.failures(), 12);
        backoff.succeeded();
        assert_eq!(backoff.failed(0.5, None, BOUNDS), Duration::from_millis(250));
    }

    #[test]
    fn a_platform_that_asks_for_time_gets_it_within_reason() {
        let mut backoff = Backoff::default();
        let asked = Some(Duration::from_secs(30));
        assert_eq!(backoff.failed(0.1, asked, BOUNDS), Duration::from_secs(30));
        let asked = Some(Duration::from_hours(24));
        assert_eq!(backoff.failed(0.1, asked, BOUNDS), BOUNDS.1);
    }
}
