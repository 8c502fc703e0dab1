//! The forwarders' metrics. Their names are stable: dashboards and alerting
//! rules stand on them. No metric has a label per forwarder or device.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use schema::PartitionId;

/// The next journal position to be read for live forwarders, by `partition`.
pub const POSITION: &str = "baken_forwarders_position";
/// Journal rows read, by `partition`; those read again for forwarders that are
/// behind count again.
pub const ROWS: &str = "baken_forwarders_rows_total";
/// 1 where forwarding has stopped, by `partition`.
pub const STOPPED: &str = "baken_forwarders_stopped";
/// How often a forwarder's queue was full, by `partition`.
pub const LEFT_BEHIND: &str = "baken_forwarders_left_behind_total";
/// Records deleted by retention before a forwarder had read them, by `partition`.
pub const EXPIRED: &str = "baken_forwarders_expired_records_total";
/// Attempts to send, and those that failed, by `platform`.
pub const ATTEMPTS: &str = "baken_forwarders_attempts_total";
pub const FAILURES: &str = "baken_forwarders_failures_total";
/// How long an attempt took, by `platform`.
pub const ATTEMPT_SECONDS: &str = "baken_forwarders_attempt_seconds";
/// Forwarders by `state`.
pub const FORWARDERS: &str = "baken_forwarders";
/// Values by what became of them, over all forwarders; see [`VALUES_FATES`].
pub const VALUES: &str = "baken_forwarders_values";
/// Values queued or in flight of one forwarder and partition before it is left
/// behind.
pub const QUEUE_LIMIT: &str = "baken_forwarders_queue_limit_values";

/// The values of the label `fate` of [`VALUES`].
pub const VALUES_FATES: [&str; 7] =
    ["selected", "sent", "suppressed", "outstanding", "dead_letters", "dropped", "expired_records"];

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    position: IntGaugeVec,
    rows: IntCounterVec,
    stopped: IntGaugeVec,
    left_behind: IntCounterVec,
    expired: IntCounterVec,
    attempts: IntCounterVec,
    failures: IntCounterVec,
    seconds: HistogramVec,
    pub forwarders: IntGaugeVec,
    pub values: IntGaugeVec,
}

/// Resolved once for each partition.
#[derive(Clone, Debug)]
pub(crate) struct PartitionMetrics {
    pub position: IntGauge,
    pub rows: IntCounter,
    pub stopped: IntGauge,
    pub left_behind: IntCounter,
    pub expired: IntCounter,
}

/// Resolved once for each sender.
#[derive(Clone, Debug)]
pub(crate) struct SenderMetrics {
    pub attempts: IntCounter,
    pub failures: IntCounter,
    pub seconds: Histogram,
}

impl Metrics {
    pub fn register(registry: &Registry, queue_values: usize) -> Result<Self, prometheus::Error> {
        let counter = |name, help, label| IntCounterVec::new(Opts::new(name, help), &[label]);
        let gauge = |name, help, label| IntGaugeVec::new(Opts::new(name, help), &[label]);
        let partition = "partition";
        let metrics = Self {
            position: gauge(POSITION, "The next journal position to be forwarded.", partition)?,
            rows: counter(ROWS, "Journal rows read for forwarders.", partition)?,
            stopped: gauge(STOPPED, "1 where forwarding has stopped.", partition)?,
            left_behind: counter(LEFT_BEHIND, "Times that a queue was full.", partition)?,
            expired: counter(EXPIRED, "Records deleted before they were read.", partition)?,
            attempts: counter(ATTEMPTS, "Attempts to send.", "platform")?,
            failures: counter(FAILURES, "Attempts to send that failed.", "platform")?,
            seconds: HistogramVec::new(
                HistogramOpts::new(ATTEMPT_SECONDS, "How long an attempt to send took.")
                    .buckets(prometheus::exponential_buckets(0.001, 2.0, 15)?),
                &["platform"],
            )?,
            forwarders: gauge(FORWARDERS, "Forwarders by how they stand.", "state")?,
            values: gauge(VALUES, "Values of all forwarders by what became of them.", "fate")?,
        };
        for gauge in [&metrics.position, &metrics.stopped, &metrics.forwarders, &metrics.values] {
            registry.register(Box::new(gauge.clone()))?;
        }
        for counter in [
            &metrics.rows,
            &metrics.left_behind,
            &metrics.expired,
            &metrics.attempts,
            &metrics.failures,
        ] {
            registry.register(Box::new(counter.clone()))?;
        }
        registry.register(Box::new(metrics.seconds.clone()))?;
        let limit = IntGauge::new(QUEUE_LIMIT, "Values of a forwarder that may be outstanding.")?;
        limit.set(i64::try_from(queue_values).unwrap_or(i64::MAX));
        registry.register(Box::new(limit))?;
        Ok(metrics)
    }

    pub fn of_partition(&self, partition: PartitionId) -> PartitionMetrics {
        let label = partition.to_string();
        let label = &[label.as_str()];
        PartitionMetrics {
            position: self.position.with_label_values(label),
            rows: self.rows.with_label_values(label),
            stopped: self.stopped.with_label_values(label),
            left_behind: self.left_behind.with_label_values(label),
            expired: self.expired.with_label_values(label),
        }
    }

    pub fn of_platform(&self, platform: &str) -> SenderMetrics {
        let label = &[platform];
        SenderMetrics {
            attempts: self.attempts.with_label_values(label),
            failures: self.failures.with_label_values(label),
            seconds: self.seconds.with_label_values(label),
        }
    }
}
