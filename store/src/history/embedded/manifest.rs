//! `history.db`: which files there are, and up to where in the journal they
//! go. A change of files and of a position is one transaction.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use schema::{PartitionId, Position, TenantId};

use super::HistoryError;
use super::file::{Contents, FileSummary};
use crate::sql::{SqlError, sqlite};

const MIGRATIONS: &[&str] =
    &[include_str!("../../../../schema/migrations/embedded/history/0001-manifest.sql")];

/// The version of the Parquet columns that is written, and the newest that is read.
const FORMAT: i64 = 1;

/// A file as the manifest knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileRecord {
    pub id: u64,
    pub partition: PartitionId,
    pub first_flush: u64,
    pub last_flush: u64,
    pub rows: u64,
    pub bytes: u64,
    pub min_ms: i64,
    pub max_ms: i64,
    pub tenants: Vec<TenantId>,
}

/// A file that a transaction adds.
#[derive(Debug)]
pub(super) struct NewFile {
    pub record: FileRecord,
    pub contents: Contents,
}

/// The file of a partition's series and newest values.
#[derive(Clone, Debug)]
pub(super) struct CatalogRecord {
    pub file: u64,
    pub bytes: u64,
    pub contents: Contents,
}

/// Where a partition's history stands.
#[derive(Clone, Debug, Default)]
pub(super) struct PartitionRecord {
    pub position: Position,
    pub flushes: u64,
    pub catalog: Option<CatalogRecord>,
}

/// What one flush changes.
#[derive(Debug)]
pub(super) struct FlushCommit {
    pub partition: PartitionId,
    pub position: Position,
    /// Neither file if the flush only moves the position.
    pub file: Option<NewFile>,
    pub catalog: Option<CatalogRecord>,
}

#[derive(Debug)]
pub(super) struct Manifest {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    next_file: AtomicU64,
}

impl NewFile {
    pub fn new(id: u64, partition: PartitionId, flushes: (u64, u64), summary: FileSummary) -> Self {
        let record = FileRecord {
            id,
            partition,
            first_flush: flushes.0,
            last_flush: flushes.1,
            rows: summary.rows,
            bytes: summary.bytes,
            min_ms: summary.min_ms,
            max_ms: summary.max_ms,
            tenants: summary.tenants,
        };
        Self { record, contents: summary.contents }
    }
}

impl Manifest {
    /// Opens or makes the manifest of a history with so many partitions.
    pub fn open(path: &Path, partitions: u16) -> Result<Self, HistoryError> {
        let connection = sqlite::open(path, MIGRATIONS)?;
        let layout: Option<(u16, i64)> = connection
            .query_row("SELECT partitions, next_file FROM layout", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
            .map_err(SqlError::from)?;
        let next_file = match layout {
            Some((known, _)) if known != partitions => {
                return Err(HistoryError::Partitions { known, asked: partitions });
            }
            Some((_, next_file)) => next_file.cast_unsigned(),
            None => {
                connection
                    .execute("INSERT INTO layout VALUES (1, ?1, 1)", [partitions])
                    .map_err(SqlError::from)?;
                1
            }
        };
        let reader = sqlite::open_reader(path)?;
        Ok(Self {
            writer: Mutex::new(connection),
            reader: Mutex::new(reader),
            next_file: AtomicU64::new(next_file),
        })
    }

    /// A number for a file to be written.
    pub fn new_file(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    pub fn partition(&self, partition: PartitionId) -> Result<PartitionRecord, HistoryError> {
        let connection = self.reader.lock().expect("no panic while it is held");
        let mut statement = connection
            .prepare_cached(
                "SELECT position, flushes, catalog, catalog_bytes, catalog_contents
                 FROM partitions WHERE partition = ?1",
            )
            .map_err(SqlError::from)?;
        type Columns = (i64, i64, Option<i64>, Option<i64>, Option<Vec<u8>>);
        let found: Option<Columns> = statement
            .query_row([partition.0], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()
            .map_err(SqlError::from)?;
        let Some((position, flushes, file, bytes, contents)) = found else {
            return Ok(PartitionRecord::default());
        };
        let catalog = match (file, bytes, contents) {
            (Some(file), Some(bytes), Some(contents)) => Some(CatalogRecord {
                file: file.cast_unsigned(),
                bytes: bytes.cast_unsigned(),
                contents: Contents::decode(&contents)
                    .map_err(|damage| HistoryError::Contents(damage.0))?,
            }),
            _ => None,
        };
        Ok(PartitionRecord {
            position: Position(position.cast_unsigned()),
            flushes: flushes.cast_unsigned(),
            catalog,
        })
    }

    /// All files of a partition.
    pub fn files(&self, partition: PartitionId) -> Result<Vec<FileRecord>, HistoryError> {
        let connection = self.reader.lock().expect("no panic while it is held");
        let mut statement = connection
            .prepare_cached(
                "SELECT id, first_flush, last_flush, rows, bytes, min_ms, max_ms, tenants, format
                 FROM files WHERE partition = ?1 ORDER BY id",
            )
            .map_err(SqlError::from)?;
        let rows = statement
            .query_map([partition.0], |row| {
                let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
                let record = FileRecord {
                    id: number(0)?,
                    partition,
                    first_flush: number(1)?,
                    last_flush: number(2)?,
                    rows: number(3)?,
                    bytes: number(4)?,
                    min_ms: row.get(5)?,
                    max_ms: row.get(6)?,
                    tenants: Vec::new(),
                };
                Ok((record, row.get::<_, String>(7)?, row.get::<_, i64>(8)?))
            })
            .map_err(SqlError::from)?;
        let mut files = Vec::new();
        for row in rows {
            let (record, tenants, format) = row.map_err(SqlError::from)?;
            if format > FORMAT {
                return Err(HistoryError::Format { file: record.id, found: format });
            }
            let tenants = serde_json::from_str(&tenants)
                .map_err(|error| HistoryError::Contents(error.to_string()))?;
            files.push(FileRecord { tenants, ..record });
        }
        Ok(files)
    }

    /// The series index and checksums of a file; `None` if it isn't in the manifest.
    pub fn contents(&self, file: u64) -> Result<Option<Vec<u8>>, HistoryError> {
        let connection = self.reader.lock().expect("no panic while it is held");
        let mut statement = connection
            .prepare_cached("SELECT contents FROM file_contents WHERE file = ?1")
            .map_err(SqlError::from)?;
        let contents = statement
            .query_row([file.cast_signed()], |row| row.get(0))
            .optional()
            .map_err(SqlError::from)?;
        Ok(contents)
    }

    /// Adds a flush's file and moves the partition's position, in one transaction.
    pub fn commit_flush(&self, commit: &FlushCommit) -> Result<(), HistoryError> {
        self.transaction(|transaction| {
            transaction.execute(
                "INSERT INTO partitions (partition, position, flushes) VALUES (?1, ?2, 1)
                 ON CONFLICT DO UPDATE SET position = excluded.position, flushes = flushes + 1",
                params![commit.partition.0, commit.position.0.cast_signed()],
            )?;
            if let Some(catalog) = &commit.catalog {
                transaction.execute(
                    "UPDATE partitions SET catalog = ?2, catalog_bytes = ?3, catalog_contents = ?4
                     WHERE partition = ?1",
                    params![
                        commit.partition.0,
                        catalog.file.cast_signed(),
                        catalog.bytes.cast_signed(),
                        catalog.contents.encode(),
                    ],
                )?;
            }
            commit.file.iter().try_for_each(|file| add(transaction, file))
        })
    }

    /// Puts files in the place of others, in one transaction.
    pub fn commit_compaction(
        &self,
        removed: &[u64],
        added: &[NewFile],
    ) -> Result<(), HistoryError> {
        self.transaction(|transaction| {
            for file in removed {
                let file = file.cast_signed();
                transaction.execute("DELETE FROM files WHERE id = ?1", [file])?;
            }
            added.iter().try_for_each(|file| add(transaction, file))
        })
    }

    fn transaction(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), HistoryError> {
        let mut connection = self.writer.lock().expect("no panic while it is held");
        let next_file = self.next_file.load(Ordering::Relaxed).cast_signed();
        let run = || {
            let transaction = connection.transaction()?;
            change(&transaction)?;
            transaction.execute("UPDATE layout SET next_file = ?1", [next_file])?;
            transaction.commit()
        };
        run().map_err(|error| SqlError::from(error).into())
    }
}

fn add(transaction: &Transaction<'_>, file: &NewFile) -> rusqlite::Result<()> {
    let NewFile { record, contents } = file;
    let tenants = serde_json::to_string(&record.tenants).expect("numbers are JSON");
    transaction.execute(
        "INSERT INTO files (id, partition, first_flush, last_flush, format, rows, bytes,
                            min_ms, max_ms, tenants)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            record.id.cast_signed(),
            record.partition.0,
            record.first_flush.cast_signed(),
            record.last_flush.cast_signed(),
            FORMAT,
            record.rows.cast_signed(),
            record.bytes.cast_signed(),
            record.min_ms,
            record.max_ms,
            tenants,
        ],
    )?;
    transaction.execute(
        "INSERT INTO file_contents (file, contents) VALUES (?1, ?2)",
        params![record.id.cast_signed(), contents.encode()],
    )?;
    Ok(())
}
