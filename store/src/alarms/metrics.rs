//! The alarm store's metrics; their names are stable.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// Transactions that were made durable.
const COMMITS: &str = "baken_alarm_store_commits_total";
/// Events written by them.
const EVENTS: &str = "baken_alarm_store_events_total";
/// How long a transaction took, its fsync included.
const COMMIT_SECONDS: &str = "baken_alarm_store_commit_seconds";
/// Requests waiting for the writer.
const QUEUE: &str = "baken_alarm_store_queue_requests";
/// How many may wait before workers are slowed.
const QUEUE_LIMIT: &str = "baken_alarm_store_queue_limit_requests";

#[derive(Clone, Debug)]
pub(super) struct Meters {
    pub commits: IntCounter,
    pub events: IntCounter,
    pub commit_seconds: Histogram,
    pub queue: IntGauge,
}

impl Meters {
    pub fn register(registry: &Registry, queue_limit: usize) -> Result<Self, prometheus::Error> {
        let buckets = vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];
        let limit = IntGauge::new(QUEUE_LIMIT, "Requests that may wait for the alarm store.")?;
        limit.set(i64::try_from(queue_limit).unwrap_or(i64::MAX));
        registry.register(Box::new(limit))?;
        let meters = Self {
            commits: IntCounter::new(COMMITS, "Durable transactions of the alarm store.")?,
            events: IntCounter::new(EVENTS, "Events written to the alarm store.")?,
            commit_seconds: Histogram::with_opts(
                HistogramOpts::new(COMMIT_SECONDS, "Time of a transaction, fsync included.")
                    .buckets(buckets),
            )?,
            queue: IntGauge::new(QUEUE, "Requests that wait for the alarm store.")?,
        };
        registry.register(Box::new(meters.commits.clone()))?;
        registry.register(Box::new(meters.events.clone()))?;
        registry.register(Box::new(meters.commit_seconds.clone()))?;
        registry.register(Box::new(meters.queue.clone()))?;
        Ok(meters)
    }
}
