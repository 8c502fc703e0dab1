//! What all connections of a fleet share: the clock, the counters and the word
//! of what to do now. Touched once for each socket read, not for each message.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer than any run; what takes longer counts as this.
const MAX_LATENCY_US: u64 = 24 * 3_600 * 1_000_000;

/// What the connections are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connect and offer nothing yet.
    Connect,
    /// Offer messages.
    Load,
    /// Offer nothing new; go on until all that waits is acknowledged.
    Drain,
    /// Leave at once.
    Stop,
}

/// The word of what to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    pub phase: Phase,
    /// Counts up for each reconnect storm: everyone drops and connects anew.
    pub storm: u64,
}

/// One for each fleet.
#[derive(Debug)]
pub struct Shared {
    started: Instant,
    load_from_us: AtomicU64,
    pub counters: Counters,
    latencies_us: Mutex<Histogram<u64>>,
    reasons: Mutex<BTreeMap<String, u64>>,
}

/// Of all connections together; messages unless the name says otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    pub offered: AtomicU64,
    pub acknowledged: AtomicU64,
    pub refused: AtomicU64,
    pub sent_again: AtomicU64,
    /// PUBACKs that came out of the order of their publishes.
    pub acknowledged_out_of_order: AtomicU64,
    /// Packets that the server pushed down.
    pub received: AtomicU64,
    /// Connections that are up now.
    pub connected: AtomicU64,
    /// Times that a connection came up.
    pub connects: AtomicU64,
    /// Times that the server or the network ended one.
    pub breaks: AtomicU64,
    /// Times that none came about.
    pub connect_failures: AtomicU64,
}

/// A distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// Adds to a counter.
pub fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Reads a counter.
#[must_use]
pub fn counted(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            load_from_us: AtomicU64::new(u64::MAX),
            counters: Counters::default(),
            latencies_us: Mutex::new(
                Histogram::new_with_max(MAX_LATENCY_US, 3).expect("three digits are allowed"),
            ),
            reasons: Mutex::default(),
        }
    }
}

impl Shared {
    /// Microseconds since the fleet was made.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The load begins now: the schedules of a given rate count from here.
    pub fn begin(&self) {
        self.load_from_us.store(self.now_us(), Ordering::Relaxed);
    }

    /// When the load began, in terms of [`Shared::now_us`].
    #[must_use]
    pub fn load_from_us(&self) -> u64 {
        self.load_from_us.load(Ordering::Relaxed)
    }

    /// The distribution of PUBACKs, for a batch of records.
    pub fn latencies(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.latencies_us.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time from first sending a message until its PUBACK.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "microseconds of a run fit a double")]
    pub fn latency(&self) -> Latency {
        let latencies = self.latencies();
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        Latency {
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            max_ms: latencies.max() as f64 / 1e3,
        }
    }

    /// Counts why a message was refused or a connection ended.
    pub fn reason(&self, reason: impl Into<String>) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        *reasons.entry(reason.into()).or_default() += 1;
    }

    /// The reasons so far, with how often each came.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_microseconds_and_of_hours_are_told_apart() {
        let shared = Shared::default();
        shared.latencies().saturating_record_n(50, 98);
        shared.latencies().saturating_record_n(4_000_000, 1);
        shared.latencies().saturating_record_n(7_200_000_000, 1);
        let Latency { p50_ms, p99_ms, max_ms, .. } = shared.latency();
        assert!((p50_ms - 0.05).abs() < 1e-3, "{p50_ms}");
        assert!((p99_ms - 4_000.0).abs() < 10.0, "{p99_ms}");
        assert!((max_ms - 7_200_000.0).abs() < 10_000.0, "{max_ms}");
    }
}
