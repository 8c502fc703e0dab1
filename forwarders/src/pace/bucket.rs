//! A token bucket for each target account, so that a platform's own limit is
//! kept before it discards or refuses what goes over it.

use std::time::Duration;

/// `rate` tokens a second, `burst` of them at once.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// Full at time zero of the caller's clock.
    #[must_use]
    pub fn new(rate_per_s: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self { rate: f64::from(rate_per_s.max(1)), burst, tokens: burst, at: Duration::ZERO }
    }

    /// Takes `count` tokens and says how long to wait until they are there. They
    /// are taken in any case, so that callers are served in the order in which
    /// they ask; more than the burst is waited for as a whole.
    pub fn take(&mut self, count: u32, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.rate).min(self.burst) - f64::from(count);
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.tokens / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_goes_out_after_the_burst() {
        let mut bucket = Bucket::new(100, 10);
        let mut now = Duration::ZERO;
        let mut taken = 0;
        while now < Duration::from_secs(10) {
            now += bucket.take(1, now);
            taken += 1;
        }
        assert!((1_005..=1_015).contains(&taken), "{taken}");
    }

    #[test]
    fn callers_that_ask_at_once_are_spread() {
        let mut bucket = Bucket::new(10, 1);
        let waits: Vec<u128> = (0..4).map(|_| bucket.take(1, Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 300]);
        assert_eq!(bucket.take(5, Duration::from_secs(100)).as_millis(), 400);
    }
}
