//! A disk that fails as it is told to.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};

use journal::{Disk, LocalDisk};

pub const ENOSPC: i32 = 28;
pub const EIO: i32 = 5;
pub const EFBIG: i32 = 27;
pub const EDQUOT: i32 = 122;

#[derive(Debug)]
pub struct FailingDisk {
    /// Bytes that may still be written before `write_error` comes.
    pub room: AtomicU64,
    pub write_error: AtomicI32,
    /// At most this many bytes by one write.
    pub write_limit: AtomicUsize,
    /// So many syncs fail from now on.
    pub failing_syncs: AtomicUsize,
    pub sync_error: AtomicI32,
    pub truncate_fails: AtomicBool,
    pub free_bytes: AtomicU64,
    pub syncs: AtomicUsize,
}

impl Default for FailingDisk {
    fn default() -> Self {
        Self {
            room: AtomicU64::new(u64::MAX),
            write_error: AtomicI32::new(ENOSPC),
            write_limit: AtomicUsize::new(usize::MAX),
            failing_syncs: AtomicUsize::new(0),
            sync_error: AtomicI32::new(EIO),
            truncate_fails: AtomicBool::new(false),
            free_bytes: AtomicU64::new(u64::MAX),
            syncs: AtomicUsize::new(0),
        }
    }
}

impl Disk for FailingDisk {
    fn write(&self, file: &File, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let room = self.room.load(Ordering::SeqCst);
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let allowed = wanted
            .min(self.write_limit.load(Ordering::SeqCst))
            .min(usize::try_from(room).unwrap_or(usize::MAX));
        if allowed == 0 && wanted > 0 {
            return Err(io::Error::from_raw_os_error(self.write_error.load(Ordering::SeqCst)));
        }
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let written = LocalDisk.write(file, &[IoSlice::new(&all[..allowed])], offset)?;
        if room != u64::MAX {
            self.room.store(room - written as u64, Ordering::SeqCst);
        }
        Ok(written)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        let fails = self
            .failing_syncs
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if fails.is_ok() {
            return Err(io::Error::from_raw_os_error(self.sync_error.load(Ordering::SeqCst)));
        }
        LocalDisk.sync(file)
    }

    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        if self.truncate_fails.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        LocalDisk.truncate(file, len)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.free_bytes.load(Ordering::SeqCst))
    }
}
