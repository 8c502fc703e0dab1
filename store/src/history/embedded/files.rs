//! The files of a partition as queries and compaction see them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::HistoryError;
use super::cache::decode_contents;
use super::file::Contents;
use super::manifest::{FileRecord, Manifest};

/// A file that is in the manifest, or was when a query began.
#[derive(Debug)]
pub(super) struct FileEntry {
    pub record: FileRecord,
    pub path: PathBuf,
    /// No longer in the manifest: removed when the last query has ended.
    obsolete: AtomicBool,
    /// Kept until the file leaves the manifest, for queries that hold it then.
    late_contents: std::sync::OnceLock<Contents>,
}

/// All files of a partition, older flushes first.
pub(super) type FileList = Arc<Vec<Arc<FileEntry>>>;

impl FileEntry {
    pub fn new(dir: &Path, record: FileRecord) -> Self {
        let path = dir.join(file_name(record.partition.0, record.id));
        Self { record, path, obsolete: AtomicBool::new(false), late_contents: Default::default() }
    }

    /// The series index and checksums.
    pub fn contents(&self, manifest: &Manifest) -> Result<Contents, HistoryError> {
        if let Some(contents) = self.late_contents.get() {
            return Ok(contents.clone());
        }
        match manifest.contents(self.record.id)? {
            Some(bytes) => decode_contents(self, &bytes),
            // It left the manifest between the two looks.
            None => self.late_contents.get().cloned().ok_or_else(|| HistoryError::Corrupt {
                path: self.path.clone(),
                reason: "the manifest has no series index of it".to_owned(),
            }),
        }
    }

    /// Before the manifest forgets the file: keeps what queries may still need.
    pub fn keep_contents(&self, contents: Contents) {
        let _ = self.late_contents.set(contents);
    }

    pub fn set_obsolete(&self) {
        self.obsolete.store(true, Ordering::Relaxed);
    }
}

impl Drop for FileEntry {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Relaxed)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "cannot remove a history file that is merged");
        }
    }
}

/// The order of files in which later ones count: by flush, then by number.
pub(super) fn sorted(mut files: Vec<Arc<FileEntry>>) -> FileList {
    files.sort_by_key(|file| (file.record.first_flush, file.record.id));
    Arc::new(files)
}

/// The name of a history file; stable.
pub(super) fn file_name(partition: u16, id: u64) -> String {
    format!("p{partition:05}-{id:012}.parquet")
}

/// The name of a catalog file; stable.
pub(super) fn catalog_name(partition: u16, id: u64) -> String {
    format!("p{partition:05}-{id:012}.series.parquet")
}

/// Makes the names of new files durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), HistoryError> {
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| HistoryError::Io {
        doing: "sync",
        path: dir.to_owned(),
        source,
    })
}

/// Removes what a failed flush or compaction wrote.
pub(super) fn remove_failed(paths: &[PathBuf]) {
    for path in paths {
        // What was not made yet can't be removed; what stays is an orphan of
        // the next start.
        let _ = std::fs::remove_file(path);
    }
}

/// Removes files that no transaction has added: what a crash left behind.
pub(super) fn remove_orphans(
    dir: &Path,
    known: &hashbrown::HashSet<String>,
) -> Result<(), HistoryError> {
    let failed = |source| HistoryError::Io { doing: "list", path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(".parquet") && !known.contains(name) {
            tracing::info!(name, "removing a history file of an unfinished flush");
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}
