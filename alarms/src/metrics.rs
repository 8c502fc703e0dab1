//! The alarm workers' metrics; their names are stable.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use schema::PartitionId;

/// Readings by `result`: evaluated, late, repeated, unknown_device.
const READINGS: &str = "baken_alarms_readings_total";
/// Transitions by `kind`.
const TRANSITIONS: &str = "baken_alarms_transitions_total";
/// Alarms raised, by `severity`; its rate over ten minutes is the standards'
/// first figure.
const RAISED: &str = "baken_alarms_raised_total";
/// Rounds of rules.
const ROUNDS: &str = "baken_alarms_rule_rounds_total";
/// Durable records that are not evaluated yet, by `partition`.
const LAG: &str = "baken_alarms_lag_records";
/// Alarms that are active, by `partition`.
const ACTIVE: &str = "baken_alarms_active_alarms";
/// From the socket read of a reading to the committed transition that it
/// caused; those that a deadline caused are not in it.
const TIME_TO_ALARM: &str = "baken_alarms_time_to_alarm_seconds";
/// How long a snapshot took to make.
const SNAPSHOT_SECONDS: &str = "baken_alarms_snapshot_seconds";
/// The size of the last snapshot, by `partition`.
const SNAPSHOT_BYTES: &str = "baken_alarms_snapshot_bytes";
/// Partitions that stopped and want a person.
const STOPPED: &str = "baken_alarms_stopped_partitions";
/// Changes of devices and locations that were told to the partitions.
const CARRIED: &str = "baken_alarms_directory_changes_total";

#[derive(Clone, Debug)]
pub(crate) struct AlarmMetrics {
    readings: IntCounterVec,
    transitions: IntCounterVec,
    raised: IntCounterVec,
    rounds: IntCounter,
    lag: IntGaugeVec,
    active: IntGaugeVec,
    time_to_alarm: Histogram,
    snapshot_seconds: Histogram,
    snapshot_bytes: IntGaugeVec,
    pub stopped: IntGauge,
    pub carried: IntCounter,
}

/// The metrics of one partition.
#[derive(Clone, Debug)]
pub(crate) struct PartitionMetrics {
    pub evaluated: IntCounter,
    pub late: IntCounter,
    pub repeated: IntCounter,
    pub unknown_device: IntCounter,
    pub transitions: IntCounterVec,
    pub raised: IntCounterVec,
    pub rounds: IntCounter,
    pub lag: IntGauge,
    pub active: IntGauge,
    pub time_to_alarm: Histogram,
    pub snapshot_seconds: Histogram,
    pub snapshot_bytes: IntGauge,
    pub stopped: IntGauge,
    of_partition: ([IntGaugeVec; 3], String),
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

impl AlarmMetrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by_partition = |name, help| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), &["partition"])?)
        };
        let seconds = |name, help, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            register(registry, Histogram::with_opts(options)?)
        };
        let fine =
            [0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
        let coarse = [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
        let counters = |name, help, label: &str| {
            register(registry, IntCounterVec::new(Opts::new(name, help), &[label])?)
        };
        Ok(Self {
            readings: counters(READINGS, "Readings by what became of them.", "result")?,
            transitions: counters(TRANSITIONS, "Transitions of alarms by kind.", "kind")?,
            raised: counters(RAISED, "Alarms raised, by severity.", "severity")?,
            rounds: register(registry, IntCounter::new(ROUNDS, "Rounds of alarm rules.")?)?,
            lag: by_partition(LAG, "Durable records that are not evaluated yet.")?,
            active: by_partition(ACTIVE, "Active alarms.")?,
            time_to_alarm: seconds(
                TIME_TO_ALARM,
                "From the receipt of a reading to the committed transition.",
                &fine,
            )?,
            snapshot_seconds: seconds(SNAPSHOT_SECONDS, "Time to make a snapshot.", &coarse)?,
            snapshot_bytes: by_partition(SNAPSHOT_BYTES, "Size of the last snapshot.")?,
            stopped: register(registry, IntGauge::new(STOPPED, "Partitions that stopped.")?)?,
            carried: register(
                registry,
                IntCounter::new(CARRIED, "Changes of the directory told to the partitions.")?,
            )?,
        })
    }

    pub fn of(&self, partition: PartitionId) -> PartitionMetrics {
        let label = partition.to_string();
        let gauge = |family: &IntGaugeVec| family.with_label_values(&[label.as_str()]);
        PartitionMetrics {
            evaluated: self.readings.with_label_values(&["evaluated"]),
            late: self.readings.with_label_values(&["late"]),
            repeated: self.readings.with_label_values(&["repeated"]),
            unknown_device: self.readings.with_label_values(&["unknown_device"]),
            transitions: self.transitions.clone(),
            raised: self.raised.clone(),
            rounds: self.rounds.clone(),
            lag: gauge(&self.lag),
            active: gauge(&self.active),
            time_to_alarm: self.time_to_alarm.clone(),
            snapshot_seconds: self.snapshot_seconds.clone(),
            snapshot_bytes: gauge(&self.snapshot_bytes),
            stopped: self.stopped.clone(),
            of_partition: (
                [self.lag.clone(), self.active.clone(), self.snapshot_bytes.clone()],
                label,
            ),
        }
    }
}

impl PartitionMetrics {
    /// What is told of a partition is told by its owner only.
    pub fn forget(&self) {
        let (families, label) = &self.of_partition;
        for family in families {
            // It may never have been set.
            let _ = family.remove_label_values(&[label.as_str()]);
        }
    }
}
