//! Named limits of the history in PostgreSQL, each with its default. The tests
//! make them tiny, so that every boundary is crossed by a few rows.

use crate::history::options::{Clock, DAY_MS};

/// How the history in PostgreSQL is written, kept and read.
#[derive(Clone, Debug)]
pub struct PostgresHistoryOptions {
    /// Rows of a partition at which its batch is committed, and at which its
    /// writer waits while another batch is on its way.
    pub batch_rows: usize,
    /// Bytes of a partition's batch, texts included, with the same effect.
    pub batch_bytes: usize,
    /// A batch whose first row is this old is committed, however small.
    pub batch_age_ms: u64,
    /// A position that moved without readings is committed after this time.
    pub position_age_ms: u64,
    /// Batches of several partitions share a transaction up to this many rows.
    pub group_rows: usize,
    /// Connections that commit.
    pub write_connections: usize,
    /// Connections that answer, which is how many questions are answered at the
    /// same time.
    pub read_connections: usize,
    /// First and longest pause before a failed commit is tried again.
    pub retry_min_ms: u64,
    pub retry_max_ms: u64,
    /// The time that one partition of the table spans. Part of the stored layout
    /// only by the partitions' own bounds: it may be changed at any start.
    pub span_ms: i64,
    /// The same with TimescaleDB: the time of one chunk.
    pub chunk_ms: i64,
    /// Spans that may be there. Beyond it only times near the clock's get one;
    /// readings of others are kept in a table of their own.
    pub max_spans: usize,
    /// How far ahead of the clock a reading may be to get a span.
    pub span_ahead_ms: i64,
    /// With TimescaleDB, chunks are compressed when they are this old.
    pub compress_after_ms: i64,
    /// Rows that retention removes in one transaction.
    pub expire_rows: usize,
    /// How often it is looked for what has expired.
    pub upkeep_interval_ms: u64,
    /// The most readings of one page of a range.
    pub page_limit: usize,
    /// Bytes of texts at which a page of a range ends early.
    pub page_text_bytes: usize,
    /// The most buckets of one answer.
    pub bucket_limit: usize,
    pub clock: Clock,
}

impl Default for PostgresHistoryOptions {
    fn default() -> Self {
        Self {
            batch_rows: 25_000,
            batch_bytes: 8 << 20,
            batch_age_ms: 150,
            position_age_ms: 1_000,
            group_rows: 25_000,
            write_connections: 3,
            read_connections: 8,
            retry_min_ms: 50,
            retry_max_ms: 5_000,
            span_ms: 7 * DAY_MS,
            chunk_ms: DAY_MS,
            max_spans: 520,
            span_ahead_ms: 28 * DAY_MS,
            compress_after_ms: 7 * DAY_MS,
            expire_rows: 20_000,
            upkeep_interval_ms: 600_000,
            page_limit: 100_000,
            page_text_bytes: 8 << 20,
            bucket_limit: 100_000,
            clock: Clock::System,
        }
    }
}
