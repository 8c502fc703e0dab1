//! The folder's files as they are at one moment, for whoever copies them beside
//! a journal that goes on: sealed segments, which nothing changes any more, and
//! the last one up to the end of what is durable in it.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use schema::Position;

use super::EmbeddedJournal;
use super::folder::META_FILE;
use super::segment::Segment;
use super::shared::{Hold, Shared};
use super::sidecar::sidecar_path;
use crate::error::Corruption;

/// The name under which the journal keeps what is copied.
pub(super) const HOLD: &str = "backup";

/// A file to be copied, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalFile {
    pub path: PathBuf,
    /// How much of it counts: it may grow behind that, and is never changed
    /// before it.
    pub bytes: u64,
}

/// Retention deletes nothing, while this lives, that a reader needed when it was
/// made.
#[derive(Debug)]
pub struct Kept {
    shared: Arc<Shared>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut holds = self.shared.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.retain(|hold| hold.name != HOLD);
    }
}

impl EmbeddedJournal {
    /// Keeps what readers need now, and all of a partition of which no reader has
    /// spoken. One at a time.
    #[must_use]
    pub fn keep(&self) -> Kept {
        let shared = Arc::clone(self.shared());
        let mut holds = shared.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.retain(|hold| hold.name != HOLD);
        let needed = shared.partitions.iter().enumerate().map(|(index, partition)| {
            let spoken = holds.iter().filter_map(|hold| hold.needed[index]).min();
            Some(spoken.unwrap_or_else(|| partition.oldest.load(Ordering::Acquire)))
        });
        let needed = needed.collect();
        holds.push(Hold { name: HOLD, needed });
        drop(holds);
        Kept { shared }
    }

    /// The files as they are now, up to the last record that is durable.
    ///
    /// # Errors
    /// A partition is stopped: a copy would be damaged as the folder is.
    pub fn files(&self, kept: &Kept) -> Result<JournalFiles, Arc<Corruption>> {
        let shared = &kept.shared;
        if let Some(stopped) = shared.partitions.iter().find_map(|it| it.stopped.get()) {
            return Err(Arc::clone(stopped));
        }
        let segments = shared.segments.read().unwrap_or_else(PoisonError::into_inner).clone();
        let segments = segments.into_iter().map(|segment| {
            let bytes = segment.bytes.load(Ordering::Acquire);
            (segment, bytes)
        });
        Ok(JournalFiles { meta: shared.dir().join(META_FILE), segments: segments.collect() })
    }
}

/// The journal's files as they were at one moment.
#[derive(Debug)]
pub struct JournalFiles {
    meta: PathBuf,
    /// With how much of each counts.
    segments: Vec<(Arc<Segment>, u64)>,
}

impl JournalFiles {
    /// The files that hold the records of each partition from `needed` on. A
    /// folder with these alone opens as one whose older records retention has
    /// deleted.
    #[must_use]
    pub fn needed(&self, needed: &[Position]) -> Vec<JournalFile> {
        let whole = |path: PathBuf| {
            let bytes = std::fs::metadata(&path).ok()?.len();
            Some(JournalFile { path, bytes })
        };
        let mut files: Vec<JournalFile> = whole(self.meta.clone()).into_iter().collect();
        for (index, (segment, bytes)) in self.segments.iter().enumerate().skip(self.first(needed)) {
            files.push(JournalFile { path: segment.path.clone(), bytes: *bytes });
            // The last one was still written, and a sidecar that is missing is
            // made anew.
            if index + 1 < self.segments.len() {
                files.extend(whole(sidecar_path(&segment.path)));
            }
        }
        files
    }

    /// The first segment that holds anything needed. The last one always counts:
    /// it says where positions go on.
    fn first(&self, needed: &[Position]) -> usize {
        let is_over = |(behind, _): &&(Arc<Segment>, u64)| {
            needed.iter().zip(&behind.firsts).all(|(needed, end)| needed.0 >= *end)
        };
        self.segments.iter().skip(1).take_while(is_over).count()
    }
}
