//! What can go wrong, one enum per family of operations.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use schema::{PartitionId, Position};

/// The journal was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the journal in {} is in use by another process", dir.display())]
    Locked { dir: PathBuf },
    #[error(
        "the journal in {} has {found} partitions and was to be opened with {wanted}; \
         a journal keeps its number of partitions for life",
        dir.display()
    )]
    Partitions { dir: PathBuf, found: u16, wanted: u16 },
    #[error("{} was written in format {found}; this program knows format {known}", path.display())]
    Format { path: PathBuf, found: u16, known: u16 },
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("journal option {option}: {reason}")]
    Option { option: &'static str, reason: String },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the Kafka brokers do not answer: {0}")]
    Brokers(String),
    #[error("topic {topic}: {reason}")]
    Topic { topic: String, reason: String },
    #[error("topic {topic} has {setting} {found} and must have {wanted}")]
    TopicShape { topic: String, setting: &'static str, found: String, wanted: String },
    #[error("cannot register the journal's metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl OpenError {
    /// Whether opening again later, with nothing changed by a person, may do.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::Io { .. } | Self::Brokers(_))
    }
}

/// A record was not taken in. It is not in the journal, unless the error is
/// [`AppendError::Closed`] or [`AppendError::Interrupted`], which leave that open.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the partition takes no more records: {0}")]
    PartitionStopped(Arc<Corruption>),
    #[error("a record of {bytes} bytes is over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the journal has {partitions} partitions, so none with number {partition}")]
    NoSuchPartition { partition: PartitionId, partitions: u16 },
    #[error("the brokers have not said whether the record is durable: {0}")]
    Interrupted(String),
    #[error("the journal is closed")]
    Closed,
}

impl AppendError {
    /// Whether the same record may be taken in later. A full disk is no error:
    /// the record stays pending.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Interrupted(_) | Self::Closed => true,
            Self::PartitionStopped(_) | Self::TooLarge { .. } | Self::NoSuchPartition { .. } => {
                false
            }
        }
    }
}

/// An entry was not read. The reader stays where it is.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{0}")]
    Corrupt(Arc<Corruption>),
    #[error(
        "position {position} of partition {partition} is no longer kept; the oldest is {oldest}"
    )]
    Expired { partition: PartitionId, position: Position, oldest: Position },
    #[error(
        "position {position} of partition {partition} is ahead of the journal, whose next is {next}; \
         the journal was replaced, or the position is of another one"
    )]
    Ahead { partition: PartitionId, position: Position, next: Position },
    #[error(
        "position {position} of partition {partition} holds a record of kind {kind}, \
         which only a later version of this program knows"
    )]
    UnknownKind { partition: PartitionId, position: Position, kind: u8 },
    #[error("the journal has {partitions} partitions, so none with number {partition}")]
    NoSuchPartition { partition: PartitionId, partitions: u16 },
    #[error(
        "position {position} of partition {partition} holds a message that is no record of Baken; \
         nobody else may write to the journal's topic"
    )]
    Foreign { partition: PartitionId, position: Position },
    #[error(
        "partition {partition} has position {found} where {position} should follow; \
         records were deleted from the journal's topic"
    )]
    Gap { partition: PartitionId, position: Position, found: Position },
    #[error("the Kafka client refuses: {0}")]
    Client(String),
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: Arc<io::Error> },
    #[error("the journal is closed")]
    Closed,
}

impl ReadError {
    /// Whether reading again may do.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Io { .. } => true,
            Self::Corrupt(_)
            | Self::Expired { .. }
            | Self::Ahead { .. }
            | Self::UnknownKind { .. }
            | Self::Foreign { .. }
            | Self::Gap { .. }
            | Self::Client(_)
            | Self::NoSuchPartition { .. }
            | Self::Closed => false,
        }
    }
}

/// Where acknowledged data is damaged. It stops its partition until a person
/// has restored the segment or given the records up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "partition {partition} is damaged at position {position}: {reason} (segment {}, offset {offset})",
    segment.display()
)]
pub struct Corruption {
    pub partition: PartitionId,
    /// The first position that cannot be read.
    pub position: Position,
    pub segment: PathBuf,
    /// Bytes from the start of the segment.
    pub offset: u64,
    pub reason: DamageReason,
}

/// What is wrong with a frame. The numbers are part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum DamageReason {
    #[error("the frame's header does not match its checksum")]
    Header = 1,
    #[error("the record does not match its checksum")]
    Payload = 2,
    #[error("the frame is missing")]
    Missing = 3,
    #[error("a frame was lost there and it cannot be told of which partition")]
    Undetermined = 4,
}

impl DamageReason {
    pub(crate) fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Header),
            2 => Some(Self::Payload),
            3 => Some(Self::Missing),
            4 => Some(Self::Undetermined),
            _ => None,
        }
    }
}
