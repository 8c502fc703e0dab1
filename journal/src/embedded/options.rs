//! The embedded journal's options and their limits.

use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Disk, LocalDisk};
use crate::OpenError;

/// The most partitions of one embedded journal.
pub const MAX_PARTITIONS: u16 = 1_024;

/// The most bytes of a segment, so that an offset fits 32 bits with room for
/// one more group.
const MAX_SEGMENT_BYTES: u64 = 1 << 31;
const MAX_RECORD_BYTES: usize = 1 << 30;
/// Every publisher waits as long for its PUBACK.
const MAX_COMMIT_INTERVAL_MS: u64 = 1_000;

/// How an embedded journal is kept. Sizes are soft by one record or group.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The folder; created if it is not there.
    pub dir: PathBuf,
    /// Fixed when the folder is created.
    pub partitions: u16,
    /// A new segment is begun rather than go over this.
    pub segment_bytes: u64,
    /// Whole segments are deleted, oldest first, while all take more than this.
    pub retention_bytes: u64,
    /// Whole segments are deleted when their last record is older than this.
    pub retention_ms: u64,
    /// How often retention is looked at, beside at every new segment.
    pub retention_check_ms: u64,
    /// Bytes of records that wait to be durable; submitters wait at this limit.
    pub queue_bytes: usize,
    /// The most bytes of records of one commit.
    pub group_bytes: usize,
    /// A commit begins at the earliest this long after the one before began,
    /// so that a fleet of many small messages pays for a few hundred commits a
    /// second and not for a few thousand, on a disk that would sync as often.
    /// The first record after a pause never waits; 0 paces nothing.
    pub commit_interval_ms: u64,
    /// With as many bytes waiting, a commit begins at once.
    pub commit_enough_bytes: usize,
    /// The most bytes of one record.
    pub record_bytes: usize,
    /// Recent records kept in memory for readers, all partitions together.
    pub tail_bytes: usize,
    /// What a reader that is behind reads at once.
    pub read_ahead_bytes: usize,
    /// The journal stalls rather than leave less than this free on its disk, so
    /// that its readers can go on and free some; 0 to use all.
    pub reserve_bytes: u64,
    /// First and longest pause between attempts to write to a failing disk.
    pub retry_min_ms: u64,
    pub retry_max_ms: u64,
    /// The disk; tests put a failing one here.
    pub disk: Arc<dyn Disk>,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            partitions: 4,
            segment_bytes: 64 << 20,
            retention_bytes: 8 << 30,
            retention_ms: 7 * 24 * 3_600_000,
            retention_check_ms: 10_000,
            queue_bytes: 64 << 20,
            group_bytes: 16 << 20,
            commit_interval_ms: 4,
            commit_enough_bytes: 64 << 10,
            record_bytes: 32 << 20,
            tail_bytes: 16 << 20,
            read_ahead_bytes: 1 << 20,
            reserve_bytes: 256 << 20,
            retry_min_ms: 100,
            retry_max_ms: 5_000,
            disk: Arc::new(LocalDisk),
        }
    }
}

impl EmbeddedOptions {
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let wrong = |option, reason: String| Err(OpenError::Option { option, reason });
        if self.dir.as_os_str().is_empty() {
            return wrong("dir", "must be given".into());
        }
        if self.partitions == 0 || self.partitions > MAX_PARTITIONS {
            return wrong("partitions", format!("must be from 1 to {MAX_PARTITIONS}"));
        }
        if self.segment_bytes == 0 || self.segment_bytes > MAX_SEGMENT_BYTES {
            return wrong("segment_bytes", format!("must be from 1 to {MAX_SEGMENT_BYTES}"));
        }
        if self.record_bytes == 0 || self.record_bytes > MAX_RECORD_BYTES {
            return wrong("record_bytes", format!("must be from 1 to {MAX_RECORD_BYTES}"));
        }
        if self.group_bytes == 0 || self.group_bytes > MAX_RECORD_BYTES {
            return wrong("group_bytes", format!("must be from 1 to {MAX_RECORD_BYTES}"));
        }
        if self.queue_bytes == 0 || self.queue_bytes > MAX_RECORD_BYTES {
            return wrong("queue_bytes", format!("must be from 1 to {MAX_RECORD_BYTES}"));
        }
        if self.commit_interval_ms > MAX_COMMIT_INTERVAL_MS {
            let reason = format!("must be from 0 to {MAX_COMMIT_INTERVAL_MS}");
            return wrong("commit_interval_ms", reason);
        }
        if self.retention_check_ms == 0 {
            return wrong("retention_check_ms", "must be 1 or more".into());
        }
        if self.retry_min_ms == 0 || self.retry_min_ms > self.retry_max_ms {
            return wrong("retry_min_ms", "must be from 1 to retry_max_ms".into());
        }
        Ok(())
    }
}
