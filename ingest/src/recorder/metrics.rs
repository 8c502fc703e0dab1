//! The recorder's metrics, resolved once per partition.

use prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use schema::PartitionId;

use crate::metrics as names;

#[derive(Debug)]
pub(super) struct RecorderMetrics {
    position: IntGaugeVec,
    lag_records: IntGaugeVec,
    lag_seconds: GaugeVec,
    stopped: IntGaugeVec,
    rows: IntCounterVec,
    retries: IntCounterVec,
}

#[derive(Debug)]
pub(super) struct PartitionMetrics {
    pub position: IntGauge,
    pub lag_records: IntGauge,
    pub lag_seconds: Gauge,
    pub stopped: IntGauge,
    pub rows: IntCounter,
    pub retries: IntCounter,
    lags: (Vec<IntGaugeVec>, GaugeVec, String),
}

impl RecorderMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let label = &["partition"];
        let counter = |name, help| IntCounterVec::new(Opts::new(name, help), label);
        let gauge = |name, help| IntGaugeVec::new(Opts::new(name, help), label);
        let metrics = Self {
            position: gauge(names::RECORDER_POSITION, "The next journal position to record.")?,
            lag_records: gauge(names::RECORDER_LAG_RECORDS, "Durable records not recorded yet.")?,
            lag_seconds: GaugeVec::new(
                Opts::new(
                    names::RECORDER_LAG_SECONDS,
                    "Age of the last record taken; 0 if none waits.",
                ),
                label,
            )?,
            stopped: gauge(names::RECORDER_STOPPED, "1 where recording has stopped.")?,
            rows: counter(names::RECORDER_ROWS_TOTAL, "Rows recorded.")?,
            retries: counter(names::RECORDER_RETRIES_TOTAL, "Writes and reads tried again.")?,
        };
        for vec in [&metrics.position, &metrics.lag_records, &metrics.stopped] {
            registry.register(Box::new(vec.clone()))?;
        }
        registry.register(Box::new(metrics.lag_seconds.clone()))?;
        registry.register(Box::new(metrics.rows.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        Ok(metrics)
    }

    pub(super) fn of(&self, partition: PartitionId) -> PartitionMetrics {
        let name = partition.to_string();
        let label = &[name.as_str()];
        let gauges = [&self.position, &self.lag_records, &self.stopped];
        PartitionMetrics {
            position: self.position.with_label_values(label),
            lag_records: self.lag_records.with_label_values(label),
            lag_seconds: self.lag_seconds.with_label_values(label),
            stopped: self.stopped.with_label_values(label),
            rows: self.rows.with_label_values(label),
            retries: self.retries.with_label_values(label),
            lags: (gauges.into_iter().cloned().collect(), self.lag_seconds.clone(), name),
        }
    }
}

impl PartitionMetrics {
    /// How far a partition is, is told by its owner only.
    pub(super) fn forget(&self) {
        let (gauges, seconds, name) = &self.lags;
        // They may never have been set.
        for gauge in gauges {
            let _ = gauge.remove_label_values(&[name.as_str()]);
        }
        let _ = seconds.remove_label_values(&[name.as_str()]);
    }
}
