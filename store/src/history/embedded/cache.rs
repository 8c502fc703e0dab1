//! Open files with their footers and indexes, as many as fit a number of
//! bytes; the longest unused goes first.

use std::sync::{Arc, Mutex};

use hashbrown::HashMap;

use super::HistoryError;
use super::file::{Contents, FileReader};
use super::files::FileEntry;
use super::manifest::Manifest;
use super::metrics::Metrics;

/// What an entry counts beside its own bytes: its file descriptor, so that the
/// limit in bytes also limits the number of open files.
const OPEN_FILE_BYTES: usize = 32 << 10;

#[derive(Debug)]
pub(super) struct Cache {
    limit_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    files: HashMap<u64, Open>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Open {
    reader: Arc<FileReader>,
    bytes: usize,
    used: u64,
}

impl Cache {
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, kept: Mutex::default() }
    }

    /// The open file, opened now if need be.
    pub fn reader(
        &self,
        file: &FileEntry,
        manifest: &Manifest,
        metrics: &Metrics,
    ) -> Result<Arc<FileReader>, HistoryError> {
        if let Some(reader) = self.find(file.record.id) {
            return Ok(reader);
        }
        metrics.cache_misses.inc();
        let contents = file.contents(manifest)?;
        let reader = Arc::new(FileReader::open(&file.path, file.record.bytes, &contents)?);
        self.keep(file.record.id, &reader);
        metrics.cache_bytes.set(i64::try_from(self.bytes()).unwrap_or(i64::MAX));
        Ok(reader)
    }

    /// Forgets a file that is no longer in the manifest.
    pub fn forget(&self, file: u64) {
        let mut kept = self.kept.lock().expect("no panic while it is held");
        if let Some(open) = kept.files.remove(&file) {
            kept.bytes -= open.bytes;
        }
    }

    fn bytes(&self) -> usize {
        self.kept.lock().expect("no panic while it is held").bytes
    }

    fn find(&self, file: u64) -> Option<Arc<FileReader>> {
        let mut kept = self.kept.lock().expect("no panic while it is held");
        kept.clock += 1;
        let now = kept.clock;
        let open = kept.files.get_mut(&file)?;
        open.used = now;
        Some(open.reader.clone())
    }

    fn keep(&self, file: u64, reader: &Arc<FileReader>) {
        let bytes = reader.memory_size() + OPEN_FILE_BYTES;
        let mut kept = self.kept.lock().expect("no panic while it is held");
        while kept.bytes + bytes > self.limit_bytes {
            let oldest = kept.files.iter().min_by_key(|(_, open)| open.used).map(|(id, _)| *id);
            let Some(open) = oldest.and_then(|oldest| kept.files.remove(&oldest)) else { break };
            kept.bytes -= open.bytes;
        }
        if kept.bytes + bytes > self.limit_bytes {
            return;
        }
        kept.clock += 1;
        let open = Open { reader: reader.clone(), bytes, used: kept.clock };
        if let Some(before) = kept.files.insert(file, open) {
            kept.bytes -= before.bytes;
        }
        kept.bytes += bytes;
    }
}

/// Decodes what the manifest holds of a file.
pub(super) fn decode_contents(file: &FileEntry, bytes: &[u8]) -> Result<Contents, HistoryError> {
    Contents::decode(bytes).map_err(|damage| HistoryError::Corrupt {
        path: file.path.clone(),
        reason: damage.to_string(),
    })
}
