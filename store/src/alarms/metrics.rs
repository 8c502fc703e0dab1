//! The alarm store's metrics; their names are stable.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// Transactions that were made durable.
const COMMITS: &str = "baken_alarm_store_commits_total";
/// Events written by them.
const EVENTS: &str = "baken_alarm_store_events_total";
/// Notices of notifications written by them.
const NOTICES: &str = "baken_alarm_store_notices_total";
/// How long a transaction took, its fsync included.
const COMMIT_SECONDS: &str = "baken_alarm_store_commit_seconds";
/// Requests waiting for the writer.
const QUEUE: &str = "baken_alarm_store_queue_requests";
/// How many may wait before workers are slowed.
const QUEUE_LIMIT: &str = "baken_alarm_store_queue_limit_requests";
/// Reading statements that run.
const READS: &str = "baken_alarm_store_running_reads";
/// How many may run at once.
const READS_LIMIT: &str = "baken_alarm_store_running_limit_reads";
/// Reading statements that wait for their turn.
const READS_WAITING: &str = "baken_alarm_store_waiting_reads";

#[derive(Clone, Debug)]
pub(super) struct Meters {
    pub commits: IntCounter,
    pub events: IntCounter,
    pub notices: IntCounter,
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
            notices: IntCounter::new(NOTICES, "Notices written to the alarm store.")?,
            commit_seconds: Histogram::with_opts(
                HistogramOpts::new(COMMIT_SECONDS, "Time of a transaction, fsync included.")
                    .buckets(buckets),
            )?,
            queue: IntGauge::new(QUEUE, "Requests that wait for the alarm store.")?,
        };
        registry.register(Box::new(meters.commits.clone()))?;
        registry.register(Box::new(meters.events.clone()))?;
        registry.register(Box::new(meters.notices.clone()))?;
        registry.register(Box::new(meters.commit_seconds.clone()))?;
        registry.register(Box::new(meters.queue.clone()))?;
        Ok(meters)
    }
}

#[derive(Clone, Debug)]
pub(super) struct ReadMeters {
    pub running: IntGauge,
    pub waiting: IntGauge,
}

/// Counts in a gauge until it is dropped, also where its caller goes away.
#[derive(Debug)]
pub(super) struct Counted(IntGauge);

impl Counted {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ReadMeters {
    pub fn register(registry: &Registry, limit: usize) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        gauge(READS_LIMIT, "Reading statements of the alarm store that may run at once.")?
            .set(i64::try_from(limit).unwrap_or(i64::MAX));
        Ok(Self {
            running: gauge(READS, "Reading statements of the alarm store that run.")?,
            waiting: gauge(READS_WAITING, "Reading statements that wait for their turn.")?,
        })
    }

    pub fn wait(&self) -> Counted {
        Counted::new(&self.waiting)
    }

    pub fn run(&self) -> Counted {
        Counted::new(&self.running)
    }
}
