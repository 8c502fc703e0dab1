//! Rates of one session and of one tenant, as token buckets.
//!
//! MQTT 5 is refused with a reason when a bucket is empty; MQTT 3.1.1 has no
//! such reason, so what it sent is taken and its socket is then not read until
//! the debt is paid. Time is an argument.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::options::{Rate, RateLimits};

/// One rate as a bucket; holds the time in microseconds at which it is full.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    interval_us: u64,
    burst_us: u64,
    full_at_us: u64,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        let burst_us = u64::from(rate.seconds.max(1)) * 1_000_000;
        Self { interval_us: burst_us / u64::from(rate.count.max(1)), burst_us, full_at_us: 0 }
    }

    fn has_room(&self, count: u64, now_us: u64) -> bool {
        let debt_us = self.full_at_us.saturating_sub(now_us);
        debt_us.saturating_add(self.interval_us.saturating_mul(count)) <= self.burst_us
    }

    fn take(&mut self, count: u64, now_us: u64) {
        let taken_us = self.interval_us.saturating_mul(count);
        self.full_at_us = self.full_at_us.max(now_us).saturating_add(taken_us);
    }

    /// When there is room for one more.
    fn open_at_us(&self) -> u64 {
        (self.full_at_us + self.interval_us).saturating_sub(self.burst_us)
    }
}

/// The buckets of one session.
#[derive(Debug)]
pub(super) struct Rates {
    messages: Vec<Bucket>,
    telemetry_messages: Vec<Bucket>,
    telemetry_data_points: Vec<Bucket>,
}

impl Rates {
    pub(super) fn new(limits: &RateLimits) -> Option<Box<Self>> {
        let buckets = |rates: &[Rate]| rates.iter().copied().map(Bucket::new).collect();
        (!limits.is_empty()).then(|| {
            Box::new(Self {
                messages: buckets(&limits.messages),
                telemetry_messages: buckets(&limits.telemetry_messages),
                telemetry_data_points: buckets(&limits.telemetry_data_points),
            })
        })
    }

    /// Whether a message has room by its number.
    pub(super) fn has_room(&self, is_telemetry: bool, now_us: u64) -> bool {
        self.counting(is_telemetry).all(|bucket| bucket.has_room(1, now_us))
            && (!is_telemetry
                || self.telemetry_data_points.iter().all(|bucket| bucket.has_room(1, now_us)))
    }

    fn counting(&self, is_telemetry: bool) -> impl Iterator<Item = &Bucket> {
        let telemetry = if is_telemetry { &self.telemetry_messages[..] } else { &[] };
        self.messages.iter().chain(telemetry)
    }

    pub(super) fn take(&mut self, is_telemetry: bool, data_points: usize, now_us: u64) {
        self.messages.iter_mut().for_each(|bucket| bucket.take(1, now_us));
        if is_telemetry {
            self.telemetry_messages.iter_mut().for_each(|bucket| bucket.take(1, now_us));
            for bucket in &mut self.telemetry_data_points {
                bucket.take(data_points as u64, now_us);
            }
        }
    }

    /// The time before which nothing more may be sent.
    pub(super) fn open_at_us(&self) -> u64 {
        let all = [&self.messages, &self.telemetry_messages, &self.telemetry_data_points];
        all.into_iter().flatten().map(Bucket::open_at_us).max().unwrap_or(0)
    }
}

/// The readings of one tenant on this node, over all its connections: one
/// atomic, touched once per socket read.
#[derive(Debug, Default)]
pub(crate) struct TenantMeter {
    full_at_us: AtomicU64,
}

/// A tenant may be a second ahead of its average.
const TENANT_BURST_US: u64 = 1_000_000;

impl TenantMeter {
    /// Whether the tenant has readings left; `per_s` 0 sets no limit.
    pub(super) fn has_room(&self, per_s: u32, now_us: u64) -> bool {
        per_s == 0 || self.open_at_us() <= now_us
    }

    pub(super) fn take(&self, per_s: u32, readings: usize, now_us: u64) {
        if per_s == 0 || readings == 0 {
            return;
        }
        let taken_us = readings as u64 * 1_000_000 / u64::from(per_s);
        // Which of two connections is first does not matter.
        let _ = self.full_at_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at_us| {
            Some(full_at_us.max(now_us).saturating_add(taken_us))
        });
    }

    /// The time before which the tenant is over its rate.
    pub(super) fn open_at_us(&self) -> u64 {
        self.full_at_us.load(Ordering::Relaxed).saturating_sub(TENANT_BURST_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    #[test]
    fn all_rates_of_a_list_hold() {
        let limits = RateLimits {
            messages: vec![Rate { count: 10, seconds: 1 }, Rate { count: 15, seconds: 60 }],
            ..RateLimits::default()
        };
        let mut rates = Rates::new(&limits).unwrap();
        let mut sent = |now_us| {
            let mut sent = 0;
            while rates.has_room(true, now_us) {
                rates.take(true, 1, now_us);
                sent += 1;
            }
            sent
        };
        assert_eq!(sent(0), 10);
        assert_eq!(sent(SECOND_US), 5);
        assert_eq!(sent(2 * SECOND_US), 0);
        assert_eq!(sent(62 * SECOND_US), 10);
    }

    #[test]
    fn a_debt_says_until_when() {
        let limits = RateLimits {
            telemetry_data_points: vec![Rate { count: 100, seconds: 1 }],
            ..RateLimits::default()
        };
        let mut rates = Rates::new(&limits).unwrap();
        rates.take(true, 300, 0);
        assert!(rates.has_room(false, 0) && !rates.has_room(true, 0));
        let open_at_us = rates.open_at_us();
        assert!(!rates.has_room(true, open_at_us - 1) && rates.has_room(true, open_at_us));
    }

    #[test]
    fn a_tenant_may_be_a_second_ahead() {
        let meter = TenantMeter::default();
        assert!(meter.has_room(10, 0));
        meter.take(10, 25, 0);
        assert!(!meter.has_room(10, SECOND_US));
        assert!(meter.has_room(10, meter.open_at_us()));
        assert!(meter.has_room(0, 0), "0 sets no limit");
    }
}
