//! Backups of a node's folder: taken beside a node that goes on or of a folder
//! that is at rest, looked through, and restored.
//!
//! A backup is a folder with the files of the data folder as they were at one
//! moment ([`take`]) and a list of them with their sums ([`manifest`]), which is
//! written last: without it nobody takes it for one. It copies files and knows
//! nothing of what is in them.

mod copy;
mod job;
mod manifest;
mod restore;
mod take;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use journal::Corruption;

pub(crate) use job::{Backups, Outcome, Running, StartError, default_name};
pub(crate) use manifest::{Manifest, list};
pub(crate) use restore::{check, restore};
pub(crate) use take::{Source, take};

/// Why a backup could not be taken, is none, or can't be restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is there already, and a backup makes its folder itself", path.display())]
    Exists { path: PathBuf },
    #[error(
        "{} has no backup.json, so it is no backup, or one that was broken off before its end",
        path.display()
    )]
    Unfinished { path: PathBuf },
    #[error("{} is damaged: {reason}", path.display())]
    Manifest { path: PathBuf, reason: String },
    #[error(
        "{} has format {found}, but this version knows format {known}: use the version that took it",
        path.display()
    )]
    Format { path: PathBuf, found: u32, known: u32 },
    #[error("{} is in the backup's list, but not there", path.display())]
    Missing { path: PathBuf },
    #[error("{} has {found} bytes, but must have {expected}", path.display())]
    Size { path: PathBuf, found: u64, expected: u64 },
    #[error(
        "{} is damaged: its SHA-256 is {found}, but must be {expected}",
        path.display()
    )]
    Sum { path: PathBuf, found: String, expected: String },
    #[error(
        "there is too little room for {}: {needed} bytes are to be written and {reserve} must stay \
         free, but {free} are free",
        path.display()
    )]
    Room { path: PathBuf, needed: u64, reserve: u64, free: u64 },
    #[error(
        "{} must be empty or not there, but has {entry:?} in it: restore into another folder",
        path.display()
    )]
    NotEmpty { path: PathBuf, entry: String },
    #[error(transparent)]
    Folder(#[from] crate::folder::FolderError),
    #[error(transparent)]
    Store(#[from] store::backup::BackupError),
    #[error("the journal can't be copied while it is damaged: {0}")]
    Damaged(Arc<Corruption>),
    #[error(
        "nothing of this installation is in the folder: its journal is in Kafka and all else in \
         PostgreSQL; docs/operations.md says how these are backed up"
    )]
    NothingHere,
    #[error("the node stops, and the backup with it")]
    Cancelled,
    #[error("the backup's thread ended early")]
    Thread,
}

pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { doing, path, source }
}

/// How far the work is, for whoever watches it, and whether it is to end early;
/// clones are of the same work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<State>);

#[derive(Debug, Default)]
struct State {
    step: Mutex<String>,
    bytes: AtomicU64,
    total_bytes: AtomicU64,
    is_cancelled: AtomicBool,
}

impl Progress {
    /// What is being done, and how many bytes of how many are.
    pub fn now(&self) -> (String, u64, u64) {
        let step = self.0.step.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (step, self.0.bytes.load(Ordering::Relaxed), self.0.total_bytes.load(Ordering::Relaxed))
    }

    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::Relaxed);
    }

    fn begin(&self, step: &str, total_bytes: u64) {
        step.clone_into(&mut self.0.step.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.bytes.store(0, Ordering::Relaxed);
        self.0.total_bytes.store(total_bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) -> Result<(), BackupError> {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        match self.0.is_cancelled.load(Ordering::Relaxed) {
            true => Err(BackupError::Cancelled),
            false => Ok(()),
        }
    }
}
