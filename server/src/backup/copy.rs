//! Copies files with their sums, at a bounded pace and durably.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::manifest::hex_of;
use super::{BackupError, Progress, io_error};

const CHUNK_BYTES: usize = 1 << 20;

/// What is written is made durable in such pieces, so that the journal's own
/// fsync on the same disk never waits for more.
const SYNC_BYTES: u64 = 8 << 20;

/// The longest pause between two looks at whether to go on.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How quickly may be copied, over all files together.
#[derive(Debug)]
pub(super) struct Pace {
    /// 0 sets no bound.
    bytes_per_s: u64,
    began: Instant,
    bytes: u64,
    progress: Progress,
}

impl Pace {
    pub fn new(bytes_per_s: u64, progress: &Progress) -> Self {
        Self { bytes_per_s, began: Instant::now(), bytes: 0, progress: progress.clone() }
    }

    /// So much was copied; waits until more may be.
    pub fn took(&mut self, bytes: u64) -> Result<(), BackupError> {
        self.progress.add(bytes)?;
        self.bytes += bytes;
        if self.bytes_per_s == 0 {
            return Ok(());
        }
        let due_ms = self.bytes.saturating_mul(1_000) / self.bytes_per_s;
        let due = self.began + Duration::from_millis(due_ms);
        loop {
            let wait = due.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Ok(());
            }
            thread::park_timeout(wait.min(LONGEST_PAUSE));
            self.progress.add(0)?;
        }
    }
}

/// Makes a folder that only its owner reads, and those above it that are not there.
pub(super) fn make_folder(path: &Path) -> Result<(), BackupError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(io_error("make", path))
}

/// When a file was last written, in nanoseconds since 1970.
pub(super) fn written_at_ns(meta: &fs::Metadata) -> i64 {
    meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec())
}

/// Copies the first `bytes` to a new file that only its owner reads; durable on
/// return but for its name. Gives the sum.
pub(super) fn copy(
    (from, source): (&Path, &File),
    to: &Path,
    bytes: u64,
    pace: &mut Pace,
) -> Result<String, BackupError> {
    let mut target = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(io_error("make", to))?;
    let mut unsynced = 0;
    let sum = each_chunk((from, source), bytes, |chunk| {
        target.write_all(chunk).map_err(io_error("write", to))?;
        unsynced += chunk.len() as u64;
        if unsynced >= SYNC_BYTES {
            unsynced = 0;
            target.sync_data().map_err(io_error("sync", to))?;
        }
        pace.took(chunk.len() as u64)
    })?;
    target.sync_all().map_err(io_error("sync", to))?;
    // Nobody reads it soon; what queries read is to stay in memory.
    let _ = rustix::fs::fadvise(&target, 0, None, rustix::fs::Advice::DontNeed);
    Ok(sum)
}

/// The sum of a file's first `bytes`.
pub(super) fn sum(path: &Path, bytes: u64, pace: &mut Pace) -> Result<String, BackupError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    each_chunk((path, &file), bytes, |chunk| pace.took(chunk.len() as u64))
}

fn each_chunk(
    (path, file): (&Path, &File),
    bytes: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), BackupError>,
) -> Result<String, BackupError> {
    let mut file = file.take(bytes);
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut hash, mut read) = (Sha256::new(), 0);
    loop {
        let count = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(io_error("read", path)(source)),
        };
        hash.update(&chunk[..count]);
        read += count as u64;
        take(&chunk[..count])?;
    }
    match read == bytes {
        true => Ok(hex_of(hash)),
        false => Err(BackupError::Size { path: path.to_owned(), found: read, expected: bytes }),
    }
}

/// Makes the names in a folder and in all folders below it durable.
pub(super) fn sync_folders(folder: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let path = entry.map_err(io_error("list", folder))?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", folder))
}

/// Refuses what would leave less than `reserve` bytes free on the disk of `folder`.
pub(super) fn check_room(folder: &Path, needed: u64, reserve: u64) -> Result<(), BackupError> {
    let disk = rustix::fs::statvfs(folder)
        .map_err(|errno| io_error("look for room at", folder)(errno.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match needed.saturating_add(reserve) > free {
        true => Err(BackupError::Room { path: folder.to_owned(), needed, reserve, free }),
        false => Ok(()),
    }
}
