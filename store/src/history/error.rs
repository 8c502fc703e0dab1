//! What may go wrong with the history.

use std::path::PathBuf;
use std::sync::Arc;

use schema::{PartitionId, Position};

use crate::SqlError;

/// Why a call of the history failed.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("the history's manifest: {0}")]
    Manifest(#[from] SqlError),
    #[error("the history in PostgreSQL: {0}")]
    Postgres(#[source] SqlError),
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// A file is not what was written. Nothing of it is given out.
    #[error("the history file {} is damaged: {reason}", path.display())]
    Corrupt { path: PathBuf, reason: String },
    #[error("the history's manifest is damaged: {0}")]
    Contents(String),
    #[error(
        "history file {file} has format {found}, which this program does not know: it was written \
         by a later version of Baken"
    )]
    Format { file: u64, found: i64 },
    #[error("the history was written with {known} partitions and can't be opened with {asked}")]
    Partitions { known: u16, asked: u16 },
    #[error("the history has {known} partitions and no partition {asked}")]
    Partition { asked: PartitionId, known: u16 },
    #[error("partition {0} has a writer already")]
    WriterTaken(PartitionId),
    /// Writing it would put readings in twice, or the reader started at a wrong place.
    #[error("record {got} was written already: the history of partition {partition} is at {next}")]
    Position { partition: PartitionId, got: Position, next: Position },
    /// What this writer had not committed, the other reads from the journal.
    #[error("another writer has taken the history of partition {0} over")]
    Fenced(PartitionId),
    #[error(
        "the history of partition {partition} in PostgreSQL is at {found}, where this writer has \
         brought it to {known}: was it restored from a copy?"
    )]
    Moved { partition: PartitionId, found: Position, known: Position },
    #[error("partition {0} has as many series as a 32-bit number can count")]
    SeriesLimit(PartitionId),
    #[error("the cursor is not one that this query gave out")]
    Cursor,
    #[error("the answer would have {asked} buckets, more than {limit}")]
    Buckets { asked: u64, limit: usize },
    #[error("a bucket is at least a millisecond, and there is at least one point")]
    BucketWidth,
    #[error("a scan of {asked} series at once, more than {limit}")]
    ScanSeries { asked: usize, limit: usize },
    /// A background flush or compaction failed; it will be tried again.
    #[error("{0}")]
    Background(#[source] Arc<HistoryError>),
    #[error("the history is closed")]
    Closed,
}

impl From<tokio_postgres::Error> for HistoryError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error.into())
    }
}

impl HistoryError {
    /// True where the same call may succeed later: the disk is full or failing
    /// for now, the manifest is busy, or PostgreSQL is away.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Manifest(error) | Self::Postgres(error) => error.is_retryable(),
            Self::Io { source, .. } => source.kind() != std::io::ErrorKind::NotFound,
            Self::Background(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// True where the caller asked for something that can't be had, as opposed
    /// to a fault of ours.
    #[must_use]
    pub fn is_bad_request(&self) -> bool {
        matches!(self, Self::Cursor | Self::Buckets { .. } | Self::BucketWidth)
    }
}
