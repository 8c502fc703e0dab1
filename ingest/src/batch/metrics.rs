//! The batchers' metrics, resolved once per partition.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use schema::PartitionId;

use crate::metrics as names;

#[derive(Debug)]
pub(super) struct BatchMetrics {
    submissions: IntCounterVec,
    rows: IntCounterVec,
    records: IntCounterVec,
    failed: IntCounterVec,
    queue_bytes: IntGaugeVec,
    queue_limit_bytes: IntGaugeVec,
    record_rows: Histogram,
    durable_seconds: Histogram,
    keys: IntGauge,
}

#[derive(Clone, Debug)]
pub(super) struct PartitionMetrics {
    pub submissions: IntCounter,
    pub rows: IntCounter,
    pub records: IntCounter,
    pub failed: IntCounter,
    pub queue_bytes: IntGauge,
    pub record_rows: Histogram,
    pub durable_seconds: Histogram,
    pub keys: IntGauge,
}

impl BatchMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let label = &["partition"];
        let counter = |name, help| IntCounterVec::new(Opts::new(name, help), label);
        let gauge = |name, help| IntGaugeVec::new(Opts::new(name, help), label);
        let rows = prometheus::exponential_buckets(1.0, 4.0, 9)?;
        let seconds = prometheus::exponential_buckets(0.000_25, 2.0, 16)?;
        let metrics = Self {
            submissions: counter(names::BATCH_SUBMISSIONS_TOTAL, "Submissions accepted.")?,
            rows: counter(names::BATCH_ROWS_TOTAL, "Rows put into journal records.")?,
            records: counter(names::BATCH_RECORDS_TOTAL, "Journal records made.")?,
            failed: counter(names::BATCH_FAILED_TOTAL, "Submissions the journal couldn't take.")?,
            queue_bytes: gauge(names::BATCH_QUEUE_BYTES, "Bytes submitted and not durable yet.")?,
            queue_limit_bytes: gauge(names::BATCH_QUEUE_LIMIT_BYTES, "The most such bytes.")?,
            record_rows: Histogram::with_opts(
                HistogramOpts::new(names::BATCH_RECORD_ROWS, "Rows of a journal record.")
                    .buckets(rows),
            )?,
            durable_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    names::BATCH_DURABLE_SECONDS,
                    "From the arrival of a record's first submission until it is durable.",
                )
                .buckets(seconds),
            )?,
            keys: IntGauge::new(names::BATCH_KEYS, "Distinct keys that the process knows.")?,
        };
        for vec in [&metrics.submissions, &metrics.rows, &metrics.records, &metrics.failed] {
            registry.register(Box::new(vec.clone()))?;
        }
        for vec in [&metrics.queue_bytes, &metrics.queue_limit_bytes] {
            registry.register(Box::new(vec.clone()))?;
        }
        registry.register(Box::new(metrics.record_rows.clone()))?;
        registry.register(Box::new(metrics.durable_seconds.clone()))?;
        registry.register(Box::new(metrics.keys.clone()))?;
        Ok(metrics)
    }

    pub(super) fn of(&self, partition: PartitionId, limit_bytes: usize) -> PartitionMetrics {
        let label = partition.to_string();
        let label = &[label.as_str()];
        let limit_bytes = i64::try_from(limit_bytes).unwrap_or(i64::MAX);
        self.queue_limit_bytes.with_label_values(label).set(limit_bytes);
        PartitionMetrics {
            submissions: self.submissions.with_label_values(label),
            rows: self.rows.with_label_values(label),
            records: self.records.with_label_values(label),
            failed: self.failed.with_label_values(label),
            queue_bytes: self.queue_bytes.with_label_values(label),
            record_rows: self.record_rows.clone(),
            durable_seconds: self.durable_seconds.clone(),
            keys: self.keys.clone(),
        }
    }
}
