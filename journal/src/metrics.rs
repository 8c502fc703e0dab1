//! Names and meaning of the journal's metrics. What is a state is worked out
//! when somebody looks, so that it costs nothing on a reading's way.

use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, Opts, Registry, exponential_buckets,
};

use crate::JournalStatus;

pub(crate) const APPENDS: &str = "baken_journal_appends_total";
pub(crate) const RECORDS: &str = "baken_journal_records_total";
pub(crate) const ROWS: &str = "baken_journal_rows_total";
pub(crate) const BYTES: &str = "baken_journal_record_bytes_total";
const COMMIT_RECORDS: &str = "baken_journal_commit_records";
const COMMIT_BYTES: &str = "baken_journal_commit_bytes";
const SYNC_SECONDS: &str = "baken_journal_sync_seconds";
const STALLS: &str = "baken_journal_stalls_total";
const FILE_FAILURES: &str = "baken_journal_file_failures_total";
const CORRUPTIONS: &str = "baken_journal_corruptions_total";
const TORN_BYTES: &str = "baken_journal_torn_bytes_total";
const REBUILT_SIDECARS: &str = "baken_journal_rebuilt_sidecars_total";
const DELETED_SEGMENTS: &str = "baken_journal_deleted_segments_total";
const QUEUE_BYTES: &str = "baken_journal_queue_bytes";
const QUEUE_LIMIT_BYTES: &str = "baken_journal_queue_limit_bytes";
const OLDEST_POSITION: &str = "baken_journal_oldest_position";
const NEXT_POSITION: &str = "baken_journal_next_position";
const STOPPED: &str = "baken_journal_partition_stopped";
const READER_LAG: &str = "baken_journal_reader_lag_records";
const SEGMENTS: &str = "baken_journal_segments";
const DISK_BYTES: &str = "baken_journal_disk_bytes";
const STALLED: &str = "baken_journal_stalled";
const HELD_BACK_BYTES: &str = "baken_journal_held_back_bytes";

/// What is counted as it happens.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub appends: IntCounter,
    pub records: IntCounter,
    pub rows: IntCounter,
    pub bytes: IntCounter,
    pub commit_records: Histogram,
    pub commit_bytes: Histogram,
    pub sync_seconds: Histogram,
    pub stalls: IntCounter,
    pub file_failures: IntCounter,
    pub corruptions: IntCounter,
    pub torn_bytes: IntCounter,
    pub rebuilt_sidecars: IntCounter,
    pub deleted_segments: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let histogram = |name: &str, help: &str, buckets| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        Ok(Self {
            appends: counter(APPENDS, "Records taken into the queue")?,
            records: counter(RECORDS, "Records made durable")?,
            rows: counter(ROWS, "Rows of the records made durable")?,
            bytes: counter(BYTES, "Bytes of the records made durable")?,
            commit_records: histogram(
                COMMIT_RECORDS,
                "Records made durable by one sync",
                exponential_buckets(1.0, 2.0, 13)?,
            )?,
            commit_bytes: histogram(
                COMMIT_BYTES,
                "Bytes made durable by one sync",
                exponential_buckets(1_024.0, 4.0, 9)?,
            )?,
            sync_seconds: histogram(
                SYNC_SECONDS,
                "How long the disk takes to make a commit durable",
                exponential_buckets(0.000_1, 2.0, 16)?,
            )?,
            stalls: counter(STALLS, "Times that the journal could not write, as on a full disk")?,
            file_failures: counter(
                FILE_FAILURES,
                "Segments given up because writing or syncing them failed",
            )?,
            corruptions: counter(CORRUPTIONS, "Partitions stopped by damaged records")?,
            torn_bytes: counter(TORN_BYTES, "Bytes of torn writes cut off at opening")?,
            rebuilt_sidecars: counter(
                REBUILT_SIDECARS,
                "Sidecars that were missing or damaged and were made anew",
            )?,
            deleted_segments: counter(DELETED_SEGMENTS, "Segments deleted by retention")?,
        })
    }
}

/// How far a reader that holds the journal is behind.
#[derive(Debug)]
pub(crate) struct ReaderLag {
    pub reader: &'static str,
    pub partition: u16,
    pub records: u64,
}

/// Where the gauges come from.
pub(crate) trait State: Send + Sync {
    /// `None` once the journal is gone.
    fn look(&self) -> Option<(JournalStatus, Vec<ReaderLag>)>;
}

/// Answers the gauges when they are asked for.
pub(crate) struct Gauges<S> {
    state: S,
    queue_bytes: Gauge,
    queue_limit_bytes: Gauge,
    segments: Gauge,
    disk_bytes: Gauge,
    stalled: Gauge,
    held_back_bytes: Gauge,
    oldest_position: GaugeVec,
    next_position: GaugeVec,
    stopped: GaugeVec,
    reader_lag: GaugeVec,
    /// Two who ask at the same time don't take one another's values away.
    asked: Mutex<()>,
}

impl<S: State> Gauges<S> {
    pub(crate) fn new(state: S) -> prometheus::Result<Self> {
        let by_partition = |name, help| GaugeVec::new(Opts::new(name, help), &["partition"]);
        Ok(Self {
            state,
            queue_bytes: Gauge::new(QUEUE_BYTES, "Bytes of records not durable yet")?,
            queue_limit_bytes: Gauge::new(QUEUE_LIMIT_BYTES, "Where submitters wait")?,
            segments: Gauge::new(SEGMENTS, "Segments kept")?,
            disk_bytes: Gauge::new(DISK_BYTES, "Bytes of all segments")?,
            stalled: Gauge::new(STALLED, "1 while the journal cannot write")?,
            held_back_bytes: Gauge::new(
                HELD_BACK_BYTES,
                "Bytes kept beyond retention because a reader still needs them",
            )?,
            oldest_position: by_partition(OLDEST_POSITION, "First position kept")?,
            next_position: by_partition(NEXT_POSITION, "First position not durable yet")?,
            stopped: by_partition(STOPPED, "1 if damaged records stopped the partition")?,
            reader_lag: GaugeVec::new(
                Opts::new(READER_LAG, "Durable records that a reader still needs"),
                &["reader", "partition"],
            )?,
            asked: Mutex::default(),
        })
    }

    fn all(&self) -> [&dyn Collector; 10] {
        [
            &self.queue_bytes,
            &self.queue_limit_bytes,
            &self.segments,
            &self.disk_bytes,
            &self.stalled,
            &self.held_back_bytes,
            &self.oldest_position,
            &self.next_position,
            &self.stopped,
            &self.reader_lag,
        ]
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floats")]
    fn set(&self, status: &JournalStatus, lags: &[ReaderLag]) {
        self.queue_bytes.set(status.queue_bytes as f64);
        self.queue_limit_bytes.set(status.queue_limit_bytes as f64);
        self.segments.set(status.segments as f64);
        self.disk_bytes.set(status.bytes_on_disk as f64);
        let stalled = matches!(status.writing, crate::Writing::Stalled { .. });
        self.stalled.set(f64::from(u8::from(stalled)));
        self.held_back_bytes.set(status.held_back.as_ref().map_or(0, |held| held.bytes) as f64);
        for partition in &status.partitions {
            let label = partition.partition.to_string();
            self.oldest_position.with_label_values(&[&label]).set(partition.oldest.0 as f64);
            self.next_position.with_label_values(&[&label]).set(partition.next.0 as f64);
            let stopped = f64::from(u8::from(partition.stopped.is_some()));
            self.stopped.with_label_values(&[&label]).set(stopped);
        }
        // Who reads elsewhere now is not told of any more.
        self.reader_lag.reset();
        for lag in lags {
            let labels = [lag.reader, &lag.partition.to_string()];
            self.reader_lag.with_label_values(&labels).set(lag.records as f64);
        }
    }
}

impl<S: State> Collector for Gauges<S> {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((status, lags)) = self.state.look() else { return Vec::new() };
        self.set(&status, &lags);
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}
