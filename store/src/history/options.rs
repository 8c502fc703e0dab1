//! Named limits of the history, each with its default. The tests make them
//! tiny, so that every boundary is crossed by a few rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use schema::TimestampMs;

/// A day: the default span of one time window of files.
pub const DAY_MS: i64 = 86_400_000;

/// How the history is kept. All sizes are per partition unless they say otherwise.
#[derive(Clone, Debug)]
pub struct HistoryOptions {
    /// Rows that are gathered in arrival order before they are sorted as a run.
    pub chunk_rows: usize,
    /// A memtable of this many rows is flushed to a file.
    pub memtable_rows: usize,
    /// A memtable of this many bytes, texts included, is flushed.
    pub memtable_bytes: usize,
    /// A memtable whose first row is this old is flushed, so that the journal
    /// may forget its records.
    pub memtable_age_ms: u64,
    /// Full memtables that may wait for their flush; then a writer waits.
    pub waiting_memtables: usize,
    /// How long a failed flush or compaction waits before it is tried again.
    pub retry_ms: u64,
    /// The span of the windows of time that compaction sorts files into, so
    /// that retention can drop whole files. Part of the stored layout only by
    /// the files' own time bounds: it may be changed at any start.
    pub window_ms: i64,
    /// As many neighbouring runs of files of about one size are merged.
    pub fanout: usize,
    /// Files that span several windows before they are split into windows.
    pub mixed_files: usize,
    /// A window that no flush has touched for so many flushes is merged into one run.
    pub quiet_flushes: u64,
    /// A compaction cuts its output into files of about this many rows, between series.
    pub file_rows: usize,
    /// Output files that one compaction writes at the same time.
    pub open_outputs: usize,
    /// False leaves compaction to calls of `History::compact`.
    pub background_compaction: bool,
    /// Rows of a Parquet row group.
    pub row_group_rows: usize,
    /// Rows of a Parquet page: what is decoded at least to read one reading.
    pub page_rows: usize,
    /// Bytes of file footers, page indexes and series indexes kept in memory,
    /// over all partitions.
    pub cache_bytes: usize,
    /// Queries that read files at the same time, over all partitions.
    pub concurrent_queries: usize,
    /// The most readings of one page of a range.
    pub page_limit: usize,
    /// Bytes of texts at which a page of a range ends early, so that a page of
    /// long texts fits memory as one of numbers does.
    pub page_text_bytes: usize,
    /// The most buckets of one answer.
    pub bucket_limit: usize,
    pub clock: Clock,
    /// Makes file writes fail as on a full disk; for tests.
    pub disk: DiskBudget,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        Self {
            chunk_rows: 65_536,
            memtable_rows: 2_000_000,
            memtable_bytes: 96 << 20,
            memtable_age_ms: 60_000,
            waiting_memtables: 1,
            retry_ms: 1_000,
            window_ms: DAY_MS,
            fanout: 8,
            mixed_files: 4,
            quiet_flushes: 120,
            file_rows: 32_000_000,
            open_outputs: 16,
            background_compaction: true,
            row_group_rows: 1_000_000,
            page_rows: 4_096,
            cache_bytes: 128 << 20,
            concurrent_queries: 4,
            page_limit: 100_000,
            page_text_bytes: 8 << 20,
            bucket_limit: 100_000,
            clock: Clock::System,
            disk: DiskBudget::default(),
        }
    }
}

/// Where the time of retention comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    System,
    /// Milliseconds since 1970, set by a test.
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    #[must_use]
    pub fn now(&self) -> TimestampMs {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Self::Fixed(now_ms) => TimestampMs(now_ms.load(Ordering::Relaxed)),
        }
    }
}

/// Bytes that may still be written to files before writes fail with
/// `StorageFull`. The default has no end.
#[derive(Clone, Debug, Default)]
pub struct DiskBudget(Option<Arc<AtomicI64>>);

impl DiskBudget {
    #[must_use]
    pub fn limited(bytes: Arc<AtomicI64>) -> Self {
        Self(Some(bytes))
    }

    pub(super) fn take(&self, bytes: usize) -> std::io::Result<()> {
        let Some(left) = &self.0 else { return Ok(()) };
        let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(wanted).filter(|rest| *rest >= 0)
        });
        taken.map(|_| ()).map_err(|_| std::io::ErrorKind::StorageFull.into())
    }
}
