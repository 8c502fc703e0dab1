//! The files that a rule test is about.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use alarms::scenario::MAX_FILE_BYTES;

/// How deep folders are searched.
const MAX_DEPTH: usize = 32;

/// A path and why it can't be looked at.
pub(super) type Wrong = (PathBuf, String);

/// Files that are named, whatever their ending, and all of the folders that end
/// in `.scenario`; each once, in the order of their paths. Folders whose name
/// begins with a dot, and links to folders, are left alone.
pub(super) fn find(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<Wrong>) {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for path in paths {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => search(path, 0, &mut found, &mut wrong),
            Ok(_) => found.push(path.clone()),
            Err(error) => wrong.push((path.clone(), error.to_string())),
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|path| seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone())));
    (found, wrong)
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>, wrong: &mut Vec<Wrong>) {
    if depth > MAX_DEPTH {
        wrong.push((folder.to_owned(), format!("folders are searched {MAX_DEPTH} deep")));
        return;
    }
    let entries = match fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => {
            wrong.push((folder.to_owned(), error.to_string()));
            return;
        }
    };
    let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() {
            if !hidden && !path.is_symlink() {
                search(&path, depth + 1, found, wrong);
            }
        } else if path.extension().is_some_and(|ending| ending == "scenario") {
            found.push(path);
        }
    }
}

/// A file's text.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if usize::try_from(length).map_or(true, |length| length > MAX_FILE_BYTES) {
        return Err(format!("a file has at most {MAX_FILE_BYTES} bytes, and this one {length}"));
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}
