//! Looks through a backup, and makes a data folder of it.

use std::fs::{self, File};
use std::path::Path;

use super::copy::{Pace, check_room, copy, make_folder, sum, sync_folders};
use super::manifest::{Listed, Manifest};
use super::{BackupError, Progress, io_error};
use crate::folder::{DataFolder, FolderError, LOCK_FILE};

/// What an empty folder may have: what a new file system has in its root, and what
/// a restore that found too little room has left.
const NOTHING: [&str; 2] = ["lost+found", LOCK_FILE];

/// Looks whether all files of a backup are there as they were written.
pub(crate) fn check(from: &Path, progress: &Progress) -> Result<Manifest, BackupError> {
    let manifest = Manifest::read(from)?;
    progress.begin("check", manifest.bytes());
    let mut pace = Pace::new(0, progress);
    for file in &manifest.files {
        let path = from.join(&file.path);
        let found = sized(&path, file)?;
        compare(&path, file, sum(&path, found, &mut pace)?)?;
    }
    Ok(manifest)
}

/// The size of a file, which is as the list says.
fn sized(path: &Path, file: &Listed) -> Result<u64, BackupError> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(BackupError::Missing { path: path.to_owned() });
        }
        meta => meta.map_err(io_error("read", path))?,
    };
    let found = meta.len();
    match meta.is_file() && found == file.bytes {
        true => Ok(found),
        false => Err(BackupError::Size { path: path.to_owned(), found, expected: file.bytes }),
    }
}

fn compare(path: &Path, file: &Listed, found: String) -> Result<(), BackupError> {
    match found == file.sha256 {
        true => Ok(()),
        false => {
            Err(BackupError::Sum { path: path.to_owned(), found, expected: file.sha256.clone() })
        }
    }
}

/// Makes the data folder `to` of the backup: all of it, or a folder that no node
/// opens. Nothing is written before all of the backup is found to be whole.
pub(crate) fn restore(
    from: &Path,
    to: &Path,
    progress: &Progress,
) -> Result<Manifest, BackupError> {
    refuse_used(to)?;
    let manifest = check(from, progress)?;
    let folder = DataFolder::open(to)?;
    check_room(to, manifest.bytes(), 0)?;
    folder.begin_restoring()?;
    progress.begin("restore", manifest.bytes());
    let mut pace = Pace::new(0, progress);
    for file in &manifest.files {
        let (source, target) = (from.join(&file.path), to.join(&file.path));
        if let Some(parent) = target.parent() {
            make_folder(parent)?;
        }
        let opened = File::open(&source).map_err(io_error("open", &source))?;
        let found = copy((&source, &opened), &target, file.bytes, &mut pace)?;
        compare(&source, file, found)?;
    }
    sync_folders(to)?;
    folder.end_restoring()?;
    Ok(manifest)
}

/// A folder that holds anything is somebody's.
fn refuse_used(to: &Path) -> Result<(), BackupError> {
    let entries = match fs::read_dir(to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(io_error("list", to))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io_error("list", to))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.retain(|name| !NOTHING.contains(&name.as_str()));
    let Some(first) = names.iter().min() else { return Ok(()) };
    // One that a process has open is told by that.
    match DataFolder::refuse_in_use(to) {
        Err(error @ (FolderError::InUse { .. } | FolderError::Restoring { .. })) => {
            Err(error.into())
        }
        _ => Err(BackupError::NotEmpty { path: to.to_owned(), entry: first.clone() }),
    }
}
