//! The data folder: one process at a time, the installation's secret, the admin
//! token, and where the running process can be reached.
//!
//! It knows nothing of what journal and store keep in their own folders below.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

pub(crate) const LOCK_FILE: &str = "baken.lock";
const SECRET_FILE: &str = "secret";
/// The token of the whole installation that the first start makes.
pub const ADMIN_TOKEN_FILE: &str = "admin-token";
/// Where the running process can be reached.
pub const RUN_FILE: &str = "run.json";

/// That the folder's installation went on elsewhere.
const MIGRATED_FILE: &str = "migrated.json";

/// That a backup is being written into the folder, which is not whole as long as
/// the file is there.
const RESTORING_FILE: &str = "restoring";

/// The folder's own files that belong to a backup.
pub(crate) const KEPT_FILES: [&str; 3] = [SECRET_FILE, ADMIN_TOKEN_FILE, MIGRATED_FILE];

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot make or open {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{} is in use by another baken{}: stop it first, or name another folder with --data",
        path.display(),
        holder.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse { path: PathBuf, holder: Option<String> },
    #[error(
        "{} is missing, but the folder or its database has been used: without it no token can be \
         checked; restore it from a backup, or name another node's by `server.secret_file`",
        path.display()
    )]
    SecretLost { path: PathBuf },
    #[error(
        "{} says that this installation was carried to PostgreSQL{}: a node on the folder alone \
         would go on apart from it; set `store.url`{}, or delete that file if the folder is to \
         live on by itself",
        path.display(),
        if *with_journal { " and to Kafka" } else { "" },
        if *with_journal { " and `journal.url`" } else { "" }
    )]
    Migrated { path: PathBuf, with_journal: bool },
    #[error(
        "{} holds part of a backup only, whose restoring was broken off: remove the folder and \
         restore it again",
        path.display()
    )]
    Restoring { path: PathBuf },
    #[error("{} must hold 64 hexadecimal digits and nothing else", path.display())]
    SecretBroken { path: PathBuf },
    #[error("the operating system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Where the running process can be reached; `run.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    pub pid: u32,
    pub version: String,
    /// The API's address as a URL.
    pub api: String,
    /// Plain MQTT, if it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<String>,
    /// MQTT over TLS, if it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt_tls: Option<String>,
}

/// That the installation was carried elsewhere, and so must not go on here;
/// `migrated.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigratedFile {
    /// Of the program that did it.
    pub version: String,
    /// False where the folder's journal stays in use.
    pub with_journal: bool,
}

/// A data folder that this process has locked. The lock lasts until it is
/// dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if it is not there, readable by its owner only, and
    /// locks it.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FolderError::Io { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let holder = lock.read_to_string(&mut holder).is_ok().then_some(holder);
                let holder = holder.map(|pid| pid.trim().to_owned()).filter(|pid| !pid.is_empty());
                return Err(FolderError::InUse { path: path.to_owned(), holder });
            }
            Err(error) => return Err(failed(&lock_path)(error.into())),
        }
        lock.set_len(0).map_err(failed(&lock_path))?;
        writeln!(lock, "{}", std::process::id()).map_err(failed(&lock_path))?;
        if path.join(RESTORING_FILE).exists() {
            return Err(FolderError::Restoring { path: path.to_owned() });
        }
        let folder = Self { path: path.to_owned(), _lock: lock };
        folder.remove(RUN_FILE);
        Ok(folder)
    }

    /// An error where another process has the folder open, or a restore has not
    /// come to its end there. A folder that is none of Baken's is left alone.
    pub(crate) fn refuse_in_use(path: &Path) -> Result<(), FolderError> {
        match path.join(LOCK_FILE).exists() {
            true => Self::open(path).map(|_| ()),
            false => Ok(()),
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The installation's secret: that of the file, or where none is named the
    /// folder's own, made at the first start. `is_used` says that something may
    /// be sealed by it already.
    pub fn secret(&self, file: &Path, is_used: bool) -> Result<Secret, FolderError> {
        let is_own = file.as_os_str().is_empty();
        let path = if is_own { self.path.join(SECRET_FILE) } else { file.to_owned() };
        match fs::read_to_string(&path) {
            Ok(text) => Secret::from_hex(text.trim()).ok_or(FolderError::SecretBroken { path }),
            Err(error) if is_own && error.kind() == io::ErrorKind::NotFound => {
                if is_used {
                    return Err(FolderError::SecretLost { path });
                }
                let secret = Secret::generate().map_err(FolderError::Random)?;
                self.write_private(SECRET_FILE, &format!("{}\n", secret.to_hex()))?;
                Ok(secret)
            }
            Err(source) => Err(FolderError::Io { path, source }),
        }
    }

    /// The admin token, if its file is there.
    pub fn admin_token(&self) -> Result<Option<String>, FolderError> {
        read_admin_token(&self.path)
            .map_err(|source| FolderError::Io { path: self.path.join(ADMIN_TOKEN_FILE), source })
    }

    pub fn write_admin_token(&self, token: &str) -> Result<(), FolderError> {
        self.write_private(ADMIN_TOKEN_FILE, &format!("{token}\n"))
    }

    pub fn write_run_file(&self, run: &RunFile) -> Result<(), FolderError> {
        let text = serde_json::to_string(run).expect("strings always become JSON");
        self.write_private(RUN_FILE, &format!("{text}\n"))
    }

    pub fn write_migrated(&self, migrated: &MigratedFile) -> Result<(), FolderError> {
        let text = serde_json::to_string(migrated).expect("strings always become JSON");
        self.write_private(MIGRATED_FILE, &format!("{text}\n"))
    }

    /// Refuses to go on in a folder whose installation lives elsewhere by now.
    pub fn refuse_migrated(&self, has_store: bool, has_journal: bool) -> Result<(), FolderError> {
        let path = self.path.join(MIGRATED_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(FolderError::Io { path, source }),
        };
        // Half a file says as much as a whole one.
        let with_journal =
            serde_json::from_str(&text).map_or(true, |it: MigratedFile| it.with_journal);
        if has_store && (has_journal || !with_journal) {
            return Ok(());
        }
        Err(FolderError::Migrated { path, with_journal })
    }

    /// From now until [`DataFolder::end_restoring`] nobody else opens it.
    pub(crate) fn begin_restoring(&self) -> Result<(), FolderError> {
        self.write_private(RESTORING_FILE, "")
    }

    /// All of the backup is there, durably.
    pub(crate) fn end_restoring(&self) -> Result<(), FolderError> {
        let path = self.path.join(RESTORING_FILE);
        let remove = || {
            fs::remove_file(&path)?;
            File::open(&self.path)?.sync_all()
        };
        remove().map_err(|source| FolderError::Io { path: path.clone(), source })
    }

    /// The process stops: nobody is to look for it any more.
    pub fn remove_run_file(&self) {
        self.remove(RUN_FILE);
    }

    fn remove(&self, name: &str) {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "cannot remove a file"),
        }
    }

    /// Writes a file that only its owner reads; whole or not at all.
    fn write_private(&self, name: &str, text: &str) -> Result<(), FolderError> {
        let path = self.path.join(name);
        let fresh = self.path.join(format!("{name}.new"));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| FolderError::Io { path: path.clone(), source })
    }
}

/// The admin token of a folder that may be another process's.
pub fn read_admin_token(folder: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(folder.join(ADMIN_TOKEN_FILE)) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the process on this folder can be reached, if one runs.
pub fn read_run_file(folder: &Path) -> io::Result<Option<RunFile>> {
    match fs::read_to_string(folder.join(RUN_FILE)) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = DataFolder::open(&path).unwrap();
        let error = DataFolder::open(&path).unwrap_err().to_string();
        let expected = format!("in use by another baken (process {})", std::process::id());
        assert!(error.contains(&expected), "{error}");
        drop(first);
        DataFolder::open(&path).unwrap();
    }

    #[test]
    fn the_secret_is_made_once_and_missed_when_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (own, named) = (Path::new(""), dir.path().join("named"));
        let folder = DataFolder::open(dir.path()).unwrap();
        let secret = folder.secret(own, false).unwrap();
        assert_eq!(folder.secret(own, true).unwrap(), secret);
        let path = dir.path().join(SECRET_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // One that is named is never made, and comes before the folder's own.
        let error = folder.secret(&named, false).unwrap_err();
        assert!(matches!(error, FolderError::Io { .. }), "{error}");
        fs::write(&named, format!("{}\n", "0f".repeat(32))).unwrap();
        assert_ne!(folder.secret(&named, true).unwrap(), secret);
        fs::write(&path, "abc").unwrap();
        let error = folder.secret(own, true).unwrap_err();
        assert!(matches!(error, FolderError::SecretBroken { .. }), "{error}");
        fs::remove_file(&path).unwrap();
        let error = folder.secret(own, true).unwrap_err();
        assert!(matches!(error, FolderError::SecretLost { .. }), "{error}");
    }

    #[test]
    fn the_admin_token_and_the_run_file_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path()).unwrap();
        assert_eq!(folder.admin_token().unwrap(), None);
        folder.write_admin_token("abc").unwrap();
        assert_eq!(read_admin_token(dir.path()).unwrap().as_deref(), Some("abc"));
        let run = RunFile {
            pid: 1,
            version: "0".to_owned(),
            api: "http://127.0.0.1:1".to_owned(),
            mqtt: Some("127.0.0.1:2".to_owned()),
            mqtt_tls: None,
        };
        folder.write_run_file(&run).unwrap();
        assert_eq!(read_run_file(dir.path()).unwrap(), Some(run));
        folder.remove_run_file();
        assert_eq!(read_run_file(dir.path()).unwrap(), None);
    }
}
