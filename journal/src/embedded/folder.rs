//! The folder: who may use it, and what is fixed in it for life.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::disk::Disk;
use super::segment::FORMAT;
use crate::OpenError;

const LOCK_FILE: &str = "lock";
pub(super) const META_FILE: &str = "journal.meta";

/// What is fixed when a folder is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub partitions: u16,
    /// Random, so that a segment of another folder is no segment of this one.
    pub folder_id: u64,
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { action, path, source }
}

/// The folder is ours as long as it lives.
#[derive(Debug)]
pub(super) struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing is not enough while a child that was forked by another thread
        // has not yet begun its own program: it has the file open, too.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Creates the folder if it is not there, and takes it for this process.
pub(super) fn take(dir: &Path, disk: &dyn Disk) -> Result<FolderLock, OpenError> {
    if !dir.is_dir() {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).map_err(io_error("sync", parent))?;
        }
    }
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(FolderLock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(error) => Err(io_error("lock", &path)(error.into())),
    }
}

/// The numbers of the segments, in order. Removes unfinished sidecars.
pub(super) fn segments(dir: &Path) -> Result<Vec<u64>, OpenError> {
    let mut sequences = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let path = entry.map_err(io_error("list", dir))?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("segment") => sequences.push(stem.parse().map_err(|_| OpenError::Damaged {
                path: path.clone(),
                reason: "its name is not the number of a segment".into(),
            })?),
            Some("index-unfinished") => {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
            _ => {}
        }
    }
    sequences.sort_unstable();
    Ok(sequences)
}

/// Reads what is fixed, or fixes it in a folder without segments.
pub(super) fn meta(
    dir: &Path,
    partitions: u16,
    empty: bool,
    disk: &dyn Disk,
) -> Result<Meta, OpenError> {
    let path = dir.join(META_FILE);
    let meta = match fs::read_to_string(&path) {
        Ok(text) => parse(&text, &path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && empty => {
            let meta = Meta { partitions, folder_id: random_id() };
            write(&path, dir, &meta, disk)?;
            meta
        }
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    if meta.partitions != partitions {
        return Err(OpenError::Partitions {
            dir: dir.to_owned(),
            found: meta.partitions,
            wanted: partitions,
        });
    }
    Ok(meta)
}

/// The hasher's seed is drawn from the operating system's randomness.
fn random_id() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

fn write(path: &PathBuf, dir: &Path, meta: &Meta, disk: &dyn Disk) -> Result<(), OpenError> {
    let unfinished = dir.join("journal.meta-unfinished");
    let text = body(meta);
    let text = format!("{text}crc32c {:08x}\n", crc32c::crc32c(text.as_bytes()));
    fs::write(&unfinished, text).map_err(io_error("write", &unfinished))?;
    let file = File::open(&unfinished).map_err(io_error("open", &unfinished))?;
    file.sync_all().map_err(io_error("sync", &unfinished))?;
    fs::rename(&unfinished, path).map_err(io_error("rename", &unfinished))?;
    disk.sync_dir(dir).map_err(io_error("sync", dir))
}

fn body(meta: &Meta) -> String {
    format!(
        "baken-journal\nformat {FORMAT}\npartitions {}\nfolder {:016x}\n",
        meta.partitions, meta.folder_id
    )
}

fn parse(text: &str, path: &Path) -> Result<Meta, OpenError> {
    let damaged =
        |reason: &str| OpenError::Damaged { path: path.to_owned(), reason: reason.into() };
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.ok_or_else(|| damaged(&format!("it has no line {name:?}")))
    };
    let format: u16 =
        field("format")?.parse().map_err(|_| damaged("its format is not a number"))?;
    if format != FORMAT {
        return Err(OpenError::Format { path: path.to_owned(), found: format, known: FORMAT });
    }
    let meta = Meta {
        partitions: field("partitions")?
            .parse()
            .map_err(|_| damaged("its partitions are not a number"))?,
        folder_id: u64::from_str_radix(field("folder")?, 16)
            .map_err(|_| damaged("its folder is not a number"))?,
    };
    let crc = format!("{:08x}", crc32c::crc32c(body(&meta).as_bytes()));
    if field("crc32c")? != crc {
        return Err(damaged("its checksum does not match"));
    }
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalDisk;

    #[test]
    fn meta_is_fixed_for_life() {
        let dir = tempfile::tempdir().unwrap();
        let first = meta(dir.path(), 4, true, &LocalDisk).unwrap();
        assert_eq!(meta(dir.path(), 4, false, &LocalDisk).unwrap(), first);
        let error = meta(dir.path(), 5, false, &LocalDisk).unwrap_err();
        assert!(matches!(error, OpenError::Partitions { found: 4, wanted: 5, .. }), "{error}");
    }

    #[test]
    fn no_flipped_byte_of_meta_goes_unseen() {
        let dir = tempfile::tempdir().unwrap();
        meta(dir.path(), 4, true, &LocalDisk).unwrap();
        let path = dir.path().join(META_FILE);
        let whole = fs::read(&path).unwrap();
        // The first line and the last line feed carry nothing.
        for at in "baken-journal\n".len()..whole.len() - 1 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert!(meta(dir.path(), 4, false, &LocalDisk).is_err(), "byte {at}");
        }
    }

    #[test]
    fn meta_is_not_made_anew_beside_segments() {
        let dir = tempfile::tempdir().unwrap();
        let error = meta(dir.path(), 4, false, &LocalDisk).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
    }
}
