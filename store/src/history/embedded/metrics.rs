//! What the history counts and measures.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use super::keep::keep;
use super::options::HistoryOptions;
use crate::metrics as names;

#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub rows: IntCounter,
    pub deduplicated: IntCounter,
    pub expired: IntCounter,
    pub memtable_rows: IntGauge,
    pub memtable_bytes: IntGauge,
    pub waiting: IntGauge,
    pub blocked: IntCounter,
    pub series: IntGauge,
    pub files: IntGauge,
    pub file_bytes: IntGauge,
    pub flush_seconds: Histogram,
    pub flushed_rows: IntCounter,
    pub flushed_bytes: IntCounter,
    pub compaction_seconds: Histogram,
    pub compacted_rows: IntCounter,
    pub compacted_bytes: IntCounter,
    pub compacted_files: IntCounter,
    pub failures: IntCounterVec,
    pub query_seconds: HistogramVec,
    pub cache_bytes: IntGauge,
    pub cache_misses: IntCounter,
}

impl Metrics {
    /// Makes them known to `registry`; a name that is taken is left as it is.
    pub fn new(registry: &Registry, options: &HistoryOptions, partitions: u16) -> Self {
        let counter = |name, help| keep(registry, IntCounter::new(name, help));
        let gauge = |name, help| keep(registry, IntGauge::new(name, help));
        let seconds = |name: &str, help: &str| {
            let buckets = prometheus::exponential_buckets(0.001, 2.0, 17);
            HistogramOpts::new(name, help).buckets(buckets.expect("the numbers are right"))
        };
        let limit = |per_partition: usize| {
            let all = per_partition.saturating_mul(usize::from(partitions));
            i64::try_from(all).unwrap_or(i64::MAX)
        };
        gauge(names::HISTORY_MEMTABLE_LIMIT_ROWS, "Rows of memtables at which they are flushed")
            .set(limit(options.memtable_rows));
        gauge(names::HISTORY_MEMTABLE_LIMIT_BYTES, "Bytes of memtables at which they are flushed")
            .set(limit(options.memtable_bytes));
        gauge(names::HISTORY_WAITING_LIMIT, "Memtables that may wait for their flush")
            .set(limit(options.waiting_memtables));
        gauge(names::HISTORY_CACHE_LIMIT_BYTES, "Bytes of file metadata kept in memory at most")
            .set(i64::try_from(options.cache_bytes).unwrap_or(i64::MAX));
        Self {
            rows: counter(names::HISTORY_ROWS, "Readings written"),
            deduplicated: counter(names::HISTORY_DEDUPLICATED, "Readings that replaced another"),
            expired: counter(names::HISTORY_EXPIRED, "Readings removed by retention"),
            memtable_rows: gauge(names::HISTORY_MEMTABLE_ROWS, "Rows in memtables"),
            memtable_bytes: gauge(names::HISTORY_MEMTABLE_BYTES, "Bytes in memtables"),
            waiting: gauge(names::HISTORY_WAITING, "Memtables that wait for their flush"),
            blocked: counter(names::HISTORY_BLOCKED, "Writes that waited for a flush"),
            series: gauge(names::HISTORY_SERIES, "Series: pairs of device and key"),
            files: gauge(names::HISTORY_FILES, "Files"),
            file_bytes: gauge(names::HISTORY_FILE_BYTES, "Bytes in files"),
            flush_seconds: keep(
                registry,
                Histogram::with_opts(seconds(names::HISTORY_FLUSH_SECONDS, "Time of a flush")),
            ),
            flushed_rows: counter(names::HISTORY_FLUSHED_ROWS, "Rows written by flushes"),
            flushed_bytes: counter(names::HISTORY_FLUSHED_BYTES, "Bytes written by flushes"),
            compaction_seconds: keep(
                registry,
                Histogram::with_opts(seconds(
                    names::HISTORY_COMPACTION_SECONDS,
                    "Time of a compaction",
                )),
            ),
            compacted_rows: counter(names::HISTORY_COMPACTED_ROWS, "Rows that compaction wrote"),
            compacted_bytes: counter(names::HISTORY_COMPACTED_BYTES, "Bytes that compaction wrote"),
            compacted_files: counter(names::HISTORY_COMPACTED_FILES, "Files that compaction read"),
            failures: keep(
                registry,
                IntCounterVec::new(
                    Opts::new(names::HISTORY_FAILURES, "Failed flushes and compactions, by work"),
                    &["work"],
                ),
            ),
            query_seconds: keep(
                registry,
                HistogramVec::new(
                    seconds(names::HISTORY_QUERY_SECONDS, "Time of a query, by kind"),
                    &["kind"],
                ),
            ),
            cache_bytes: gauge(names::HISTORY_CACHE_BYTES, "Bytes of file metadata in memory"),
            cache_misses: counter(names::HISTORY_CACHE_MISSES, "Files opened for a query"),
        }
    }
}
