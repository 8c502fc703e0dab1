//! The history's files as the manifest names them at one moment, kept for as
//! long as they are copied.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::files::{FileEntry, catalog_name};
use super::{EmbeddedHistory, HistoryError, file::io_error};

/// Files that nothing changes, and that are there for as long as this lives.
#[derive(Debug)]
pub(crate) struct HistoryFiles {
    pub data: Vec<KeptFile>,
    /// A catalog that is replaced goes at once, so each is open.
    pub catalogs: Vec<(String, File)>,
}

/// A file that compaction may replace meanwhile: it is removed when nobody has it
/// any more.
#[derive(Debug)]
pub(crate) struct KeptFile {
    pub path: PathBuf,
    _entry: Arc<FileEntry>,
}

impl EmbeddedHistory {
    /// Runs `pin`, which is to take the manifest as it is then, while no file
    /// comes or goes; gives what it gives and the files.
    pub(crate) fn files_at<T, E: From<HistoryError>>(
        &self,
        pin: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, HistoryFiles), E> {
        let shared = &self.shared;
        let _publishing = shared.publishing();
        let pinned = pin()?;
        let (mut data, mut catalogs) = (Vec::new(), Vec::new());
        for partition in &shared.partitions {
            let state = partition.state();
            let keep = |entry: &Arc<FileEntry>| KeptFile {
                path: entry.path.clone(),
                _entry: Arc::clone(entry),
            };
            data.extend(state.files.iter().map(keep));
            let catalog = state.catalog_file;
            drop(state);
            let Some(number) = catalog else { continue };
            let name = catalog_name(partition.id.0, number);
            let path = shared.dir.join(&name);
            let file = File::open(&path).map_err(|source| io_error("open", &path, source))?;
            catalogs.push((name, file));
        }
        Ok((pinned, HistoryFiles { data, catalogs }))
    }
}
