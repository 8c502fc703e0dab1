//! What the journal says about itself, for health checks and for people.

use std::sync::Arc;

use schema::{PartitionId, Position, TimestampMs};

use crate::Corruption;

/// A snapshot of the journal's state.
#[derive(Clone, Debug)]
pub struct JournalStatus {
    pub writing: Writing,
    /// Room taken by all segments, the preallocated part of the last included.
    pub bytes_on_disk: u64,
    pub segments: usize,
    /// Bytes of records that are not durable yet, and their limit.
    pub queue_bytes: usize,
    pub queue_limit_bytes: usize,
    /// In the order of their numbers.
    pub partitions: Vec<PartitionStatus>,
    /// The reader that keeps more than retention wants, if one does.
    pub held_back: Option<HeldBack>,
}

impl JournalStatus {
    /// Nothing that a person must look at.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.writing == Writing::Writable && self.partitions.iter().all(|p| p.stopped.is_none())
    }
}

/// Whether records become durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writing {
    Writable,
    /// Records stay pending and it is tried again and again.
    Stalled {
        reason: StallReason,
        since: TimestampMs,
    },
    Closed,
}

/// Why no record becomes durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StallReason {
    #[error("the disk is full: {0}")]
    DiskFull(String),
    #[error(
        "{free_bytes} bytes are free on the disk; the journal leaves {reserve_bytes} to the history and the database"
    )]
    Reserve { free_bytes: u64, reserve_bytes: u64 },
    #[error("the disk refuses to write: {0}")]
    Io(String),
    #[error("the brokers make no record durable")]
    Brokers,
}

/// The state of one partition.
#[derive(Clone, Debug)]
pub struct PartitionStatus {
    pub partition: PartitionId,
    pub oldest: Position,
    pub next: Position,
    /// Why it takes no more records, if so.
    pub stopped: Option<Arc<Corruption>>,
}

/// A reader that needs segments which retention would have deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    pub reader: &'static str,
    pub partition: PartitionId,
    pub needed: Position,
    /// Bytes kept for it alone.
    pub bytes: u64,
}
