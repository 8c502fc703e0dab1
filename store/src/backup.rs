//! The store in a folder as it is at one moment, for whoever copies it beside a
//! node that goes on.
//!
//! Each file is held as it is by a transaction that reads, which costs nothing
//! at the moment itself; what is written meanwhile waits in the write-ahead log,
//! and nobody waits for the copy. The order of the moments makes the parts fit
//! one another and the journal: what is derived from the journal first, then
//! whatever the caller does, who looks where the journal ends, and the directory
//! last. So the journal has all that the first lack, and the directory knows
//! every device that the journal names.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use schema::Position;
use tokio::sync::OwnedMutexGuard;

use crate::directory;
use crate::history::{History, HistoryError, HistoryFiles, KeptFile};
use crate::sql::{SqlError, sqlite};
use crate::{Directory, Store};

/// The files of what is derived from the journal, the manifest of the history
/// apart.
const DERIVED: [&str; 3] = ["alarms.db", "attributes.db", "forwarders.db"];

const MANIFEST: &str = "history.db";

/// The folder of the history's own files.
const HISTORY_DIR: &str = "history";

/// Pages that are copied between two looks at whether to go on.
const STEP_PAGES: i32 = 256;

/// Why the store could not be held or copied.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("the file {file} of the store: {source}")]
    Sql { file: String, source: SqlError },
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("the file {file} of the store is in use and can't be copied now")]
    Busy { file: String },
}

/// No event is carried from the directory to the alarms while it lives, so that
/// one is never missing in both.
#[derive(Debug)]
pub struct Uncarried {
    _guard: OwnedMutexGuard<()>,
}

/// Waits until no event is on its way.
pub async fn uncarried(directory: &Directory) -> Uncarried {
    Uncarried { _guard: directory.carrying().await }
}

/// The store as it was.
#[derive(Debug)]
pub struct Snapshot {
    databases: Vec<Held>,
    history: HistoryFiles,
}

/// A database as it was.
#[derive(Debug)]
pub struct Held {
    name: &'static str,
    connection: Connection,
}

/// A file of the history, which nothing changes.
#[derive(Debug)]
pub struct HeldFile {
    /// Its path below the store's folder.
    pub name: PathBuf,
    pub source: Source,
    _kept: Option<KeptFile>,
}

/// Where a file's bytes are.
#[derive(Debug)]
pub enum Source {
    Path(PathBuf),
    /// It may have lost its name.
    Open(File),
}

impl Snapshot {
    /// Takes the moment of a store in the folder `dir`; `between` is done when
    /// all but the directory is held. Blocks for as long as opening five files
    /// takes.
    ///
    /// # Errors
    /// [`BackupError`]; nothing is held then.
    ///
    /// # Panics
    /// If the store is not in a folder.
    pub fn take<T>(
        store: &Store,
        dir: &Path,
        _uncarried: &Uncarried,
        between: impl FnOnce() -> T,
    ) -> Result<(Self, T), BackupError> {
        let History::Embedded(history) = store.history() else {
            unreachable!("the caller copies a folder");
        };
        let mut databases = Vec::new();
        for name in DERIVED {
            databases.push(Held::pin(dir, name)?);
        }
        let (manifest, history) = history.files_at(|| Held::pin(dir, MANIFEST))?;
        databases.push(manifest);
        let done = between();
        databases.push(Held::pin(dir, directory::FILE)?);
        Ok((Self { databases, history }, done))
    }

    /// For each partition the first record that the store has not in itself: what
    /// a journal beside its copy must have.
    ///
    /// # Errors
    /// [`BackupError::Sql`].
    pub fn needed(&self, partitions: u16) -> Result<Vec<Position>, BackupError> {
        let mut needed = vec![u64::MAX; usize::from(partitions)];
        for (file, question) in POSITIONS {
            let held = self.databases.iter().find(|held| held.name == file);
            let held = held.expect("all files are held");
            let mut named = vec![false; needed.len()];
            for (partition, position) in held.positions(question)? {
                if let Some(place) = needed.get_mut(usize::from(partition)) {
                    *place = (*place).min(position);
                    named[usize::from(partition)] = true;
                }
            }
            // A forwarder that has no place begins at the journal's end.
            if file != "forwarders.db" {
                let begins = needed.iter_mut().zip(&named).filter(|(_, is_named)| !**is_named);
                begins.for_each(|(place, _)| *place = 0);
            }
        }
        Ok(needed.into_iter().map(Position).collect())
    }

    /// The databases and the history's files.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Held>, Vec<HeldFile>) {
        let HistoryFiles { data, catalogs } = self.history;
        let below = |name: &str| Path::new(HISTORY_DIR).join(name);
        let mut files: Vec<HeldFile> = catalogs
            .into_iter()
            .map(|(name, file)| HeldFile {
                name: below(&name),
                source: Source::Open(file),
                _kept: None,
            })
            .collect();
        for kept in data {
            let path = kept.path.clone();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = below(&name.unwrap_or_default());
            files.push(HeldFile { name, source: Source::Path(path), _kept: Some(kept) });
        }
        (self.databases, files)
    }
}

/// Where readers of the journal stand in each partition, and what their work
/// goes back to.
const POSITIONS: [(&str, &str); 4] = [
    (MANIFEST, "SELECT partition, position FROM partitions"),
    ("attributes.db", "SELECT partition, next FROM positions"),
    ("alarms.db", "SELECT partition, position FROM snapshots"),
    ("forwarders.db", "SELECT partition, position FROM lanes WHERE position IS NOT NULL"),
];

impl Held {
    fn pin(dir: &Path, name: &'static str) -> Result<Self, BackupError> {
        let failed = |source| BackupError::Sql { file: name.to_owned(), source };
        let path = dir.join(name);
        let open = || -> Result<Connection, SqlError> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&path, flags)
                .map_err(|source| SqlError::Open { path: path.clone(), source })?;
            connection.busy_timeout(Duration::from_millis(sqlite::BUSY_TIMEOUT_MS))?;
            // A transaction sees what was committed when it first reads.
            connection.execute_batch("BEGIN")?;
            let _: i64 =
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            Ok(connection)
        };
        Ok(Self { name, connection: open().map_err(failed)? })
    }

    /// The file's name in the store's folder.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes of the copy.
    ///
    /// # Errors
    /// [`BackupError::Sql`].
    pub fn bytes(&self) -> Result<u64, BackupError> {
        let pragma = |name: &str| -> Result<u64, SqlError> {
            Ok(self.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?)
        };
        let sizes = || Ok(pragma("page_count")? * pragma("page_size")?);
        sizes().map_err(|source| self.failed(source))
    }

    fn positions(&self, question: &str) -> Result<Vec<(u16, u64)>, BackupError> {
        let ask = || -> Result<Vec<(u16, u64)>, SqlError> {
            let mut statement = self.connection.prepare(question)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        ask().map_err(|source| self.failed(source))
    }

    /// Writes the database to a new file, some pages at a time; `go_on` is told of
    /// the bytes between and may end it.
    ///
    /// # Errors
    /// [`BackupError::Busy`] where the held database changed underneath, which
    /// must not be, or the error of `go_on`.
    pub fn copy_to<E: From<BackupError>>(
        self,
        path: &Path,
        mut go_on: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let page: u64 = {
            let size = self.connection.query_row("PRAGMA page_size", [], |row| row.get(0));
            size.map_err(|error| E::from(self.failed(error.into())))?
        };
        let mut target = Connection::open(path)
            .map_err(|source| self.failed(SqlError::Open { path: path.to_owned(), source }))?;
        {
            let backup = Backup::new(&self.connection, &mut target)
                .map_err(|error| self.failed(error.into()))?;
            let mut left = None;
            loop {
                let step =
                    backup.step(STEP_PAGES).map_err(|error| E::from(self.failed(error.into())))?;
                let progress = backup.progress();
                let before = left.unwrap_or(progress.pagecount);
                let pages = u64::try_from(before - progress.remaining).unwrap_or(0);
                left = Some(progress.remaining);
                go_on(pages * page)?;
                match step {
                    StepResult::Done => break,
                    StepResult::More => {}
                    _ => return Err(BackupError::Busy { file: self.name.to_owned() }.into()),
                }
            }
        }
        target.close().map_err(|(_, error)| E::from(self.failed(error.into())))
    }

    fn failed(&self, source: SqlError) -> BackupError {
        BackupError::Sql { file: self.name.to_owned(), source }
    }
}
