//! `backup.json`: what a backup holds. It is written last, whole or not at all.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{BackupError, io_error};

/// The list's file in the backup's folder; stable.
pub(crate) const MANIFEST_FILE: &str = "backup.json";

/// The format that is written, and the only one that is read.
const FORMAT: u32 = 1;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub format: u32,
    /// Of Baken.
    pub version: String,
    /// Milliseconds since 1970: what was acknowledged before is in it.
    pub begun_at: i64,
    pub finished_at: i64,
    pub partitions: u16,
    pub journal: Place,
    pub store: Place,
    /// Whether `server.secret_file` names a file outside the folder, without which
    /// no token can be checked after a restore.
    pub secret_is_elsewhere: bool,
    pub files: Vec<Listed>,
}

/// Whether a part is in the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// In the folder, and so in the backup.
    Folder,
    /// In Kafka or PostgreSQL, which have backups of their own.
    Elsewhere,
}

/// A file of the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    /// Below the backup's folder and below the data folder.
    pub path: String,
    pub bytes: u64,
    /// In hexadecimal digits.
    pub sha256: String,
    /// Of a file that never changes: when it was written, in nanoseconds since
    /// 1970. Where name, size and this are the same, so is the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_at_ns: Option<i64>,
}

/// The list with the sum of its own text.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    sha256: String,
    #[serde(borrow)]
    backup: &'a RawValue,
}

pub(super) fn hex_of(hash: Sha256) -> String {
    hex::encode(hash.finalize())
}

impl Manifest {
    pub fn new(partitions: u16, begun_at: i64) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            begun_at,
            finished_at: 0,
            partitions,
            journal: Place::Elsewhere,
            store: Place::Elsewhere,
            secret_is_elsewhere: false,
            files: Vec::new(),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Reads and checks the list of the backup in `folder`.
    pub fn read(folder: &Path) -> Result<Self, BackupError> {
        let path = folder.join(MANIFEST_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(BackupError::Unfinished { path: folder.to_owned() });
            }
            Err(source) => return Err(BackupError::Io { doing: "read", path, source }),
        };
        let damaged = |reason: String| BackupError::Manifest { path: path.clone(), reason };
        let sealed: Sealed<'_> =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let sum = hex_of(Sha256::new_with_prefix(sealed.backup.get()));
        if sum != sealed.sha256 {
            let expected = &sealed.sha256;
            return Err(damaged(format!("its SHA-256 is {sum}, but must be {expected}")));
        }
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format: found } = serde_json::from_str(sealed.backup.get())
            .map_err(|error| damaged(error.to_string()))?;
        if found != FORMAT {
            return Err(BackupError::Format { path, found, known: FORMAT });
        }
        let manifest: Self = serde_json::from_str(sealed.backup.get())
            .map_err(|error| damaged(error.to_string()))?;
        match manifest.files.iter().find(|file| !is_below(&file.path)) {
            Some(file) => Err(damaged(format!(
                "the path {:?} must be below the folder, without `..`",
                file.path
            ))),
            None => Ok(manifest),
        }
    }

    /// Writes the list, after which the backup is one.
    pub fn write(&self, folder: &Path) -> Result<(), BackupError> {
        let text = serde_json::to_string_pretty(self).expect("texts and numbers are JSON");
        let raw = RawValue::from_string(text).expect("it is JSON");
        let sha256 = hex_of(Sha256::new_with_prefix(raw.get()));
        let text = serde_json::to_string(&Sealed { sha256, backup: &raw }).expect("it is JSON");
        let (path, fresh) = (folder.join(MANIFEST_FILE), folder.join("backup.json.new"));
        let write = || {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(io_error("write", &path))
    }
}

/// Whether a path of the list leads to a place below its folder.
fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// What stands in a folder of backups.
#[derive(Debug)]
pub(crate) struct Found {
    pub name: String,
    /// Or why it is no backup.
    pub manifest: Result<Manifest, BackupError>,
}

/// All that stands in a folder of backups, in order of names.
pub(crate) fn list(folder: &Path) -> Result<Vec<Found>, BackupError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(BackupError::Io { doing: "list", path: folder.into(), source }),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path: PathBuf = entry.map_err(io_error("list", folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_dir() && !name.starts_with('.') && name != "lost+found" {
            found.push(Found { name: name.to_owned(), manifest: Manifest::read(&path) });
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// The newest finished backup of a folder of backups.
pub(super) fn newest(folder: &Path) -> Option<(PathBuf, Manifest)> {
    let all = list(folder).ok()?.into_iter();
    let finished = all.filter_map(|found| Some((found.name, found.manifest.ok()?)));
    let (name, manifest) = finished.max_by_key(|(_, manifest)| manifest.finished_at)?;
    Some((folder.join(name), manifest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Manifest {
        let file = Listed {
            path: "store/alarms.db".to_owned(),
            bytes: 3,
            sha256: "ab".repeat(32),
            written_at_ns: None,
        };
        Manifest { files: vec![file], finished_at: 2, ..Manifest::new(4, 1) }
    }

    #[test]
    fn reads_back_and_no_flipped_byte_goes_unseen() {
        let folder = tempfile::tempdir().unwrap();
        let error = Manifest::read(folder.path()).unwrap_err();
        assert!(matches!(error, BackupError::Unfinished { .. }), "{error}");
        one().write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), one());
        let path = folder.path().join(MANIFEST_FILE);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() - 1 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert!(Manifest::read(folder.path()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_path_out_of_the_folder_is_refused() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "./a", "."] {
            assert!(!is_below(path), "{path}");
        }
        assert!(is_below("store/history/p00000-000000000001.parquet"));
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = one();
        "../secret".clone_into(&mut manifest.files[0].path);
        manifest.write(folder.path()).unwrap();
        let error = Manifest::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("\"../secret\" must be below"), "{error}");
    }

    #[test]
    fn another_format_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        Manifest { format: 2, ..one() }.write(folder.path()).unwrap();
        let error = Manifest::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("format 2, but this version knows format 1"), "{error}");
    }
}
