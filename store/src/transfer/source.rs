//! The folder that is copied from: read, and never changed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};
use schema::{PartitionId, Position};
use sha2::{Digest as _, Sha256};

use super::{JournalAfterwards, TransferError, TransferOptions};
use crate::sql::{SqlError, sqlite};

/// Questions whose answers change whenever the folder is used: each start of a
/// node claims its partitions anew.
const MARKS: &[(&str, &str)] = &[
    ("directory.db", "SELECT coalesce(max(sequence), 0), count(*) FROM documents"),
    ("directory.db", "SELECT id, 0 FROM next_id"),
    ("attributes.db", "SELECT partition, next FROM positions ORDER BY partition"),
    ("alarms.db", "SELECT epoch, position FROM partitions ORDER BY partition"),
    ("alarms.db", "SELECT coalesce(max(sequence), 0), count(*) FROM events"),
    ("alarms.db", "SELECT coalesce(max(sequence), 0), count(*) FROM notices"),
    ("alarms.db", "SELECT coalesce(max(changed_at), 0), count(*) FROM messages"),
    ("forwarders.db", "SELECT coalesce(sum(position), 0), count(*) FROM lanes"),
    ("history.db", "SELECT position, flushes FROM partitions ORDER BY partition"),
];

pub(super) struct Source {
    dir: PathBuf,
    pub partitions: u16,
    /// Tells this folder, as it is now, from all others.
    pub fingerprint: String,
}

impl Source {
    pub fn open(options: &TransferOptions) -> Result<Self, TransferError> {
        let mut source = Self {
            dir: options.dir.clone(),
            partitions: options.partitions,
            fingerprint: String::new(),
        };
        source.fingerprint = source.mark().map_err(TransferError::Source)?;
        Ok(source)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A connection to a part's file that can only read.
    pub fn file(&self, name: &str) -> Result<Connection, SqlError> {
        sqlite::open_reader(&self.dir.join(name))
    }

    fn mark(&self) -> Result<String, SqlError> {
        let mut text = String::new();
        for (file, question) in MARKS {
            let connection = self.file(file)?;
            let mut statement = connection.prepare(question)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (first, second): (i64, i64) = (row.get(0)?, row.get(1)?);
                let _ = write!(text, "{first} {second};");
            }
            text.push('\n');
        }
        let hash = Sha256::digest(text.as_bytes());
        Ok(hash.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
    }

    /// Whether all of the journal was taken, where the next one is another.
    pub fn check_positions(&self, options: &TransferOptions) -> Result<(), TransferError> {
        let JournalAfterwards::New { ends } = &options.journal else { return Ok(()) };
        for (partition, end) in (0..).map(PartitionId).zip(ends) {
            for (what, file, question) in READERS {
                let found = self.number(file, question, partition);
                let found = Position(found.map_err(TransferError::Source)?.unwrap_or(0));
                if found != *end {
                    return Err(TransferError::Behind { what, partition, found, end: *end });
                }
            }
            if !options.leave_unsent {
                self.check_forwarders(partition, *end)?;
            }
        }
        Ok(())
    }

    fn check_forwarders(&self, partition: PartitionId, end: Position) -> Result<(), TransferError> {
        let lane = "SELECT forwarder, position FROM lanes
                    WHERE partition = ?1 AND position IS NOT NULL AND position <> ?2 LIMIT 1";
        let behind = || -> Result<Option<(u64, u64)>, SqlError> {
            let connection = self.file("forwarders.db")?;
            let found = connection
                .query_row(lane, params![partition.0, end.0], |row| Ok((row.get(0)?, row.get(1)?)));
            Ok(found.optional()?)
        };
        match behind().map_err(TransferError::Source)? {
            None => Ok(()),
            Some((forwarder, found)) => {
                Err(TransferError::Unsent { forwarder, partition, found: Position(found), end })
            }
        }
    }

    fn number(
        &self,
        file: &str,
        question: &str,
        partition: PartitionId,
    ) -> Result<Option<u64>, SqlError> {
        let connection = self.file(file)?;
        Ok(connection.query_row(question, [partition.0], |row| row.get(0)).optional()?)
    }
}

pub(super) fn partitions(dir: &Path) -> Result<u16, SqlError> {
    let manifest = sqlite::open_reader(&dir.join("history.db"))?;
    Ok(manifest.query_row("SELECT partitions FROM layout", [], |row| row.get(0))?)
}

/// Who takes the journal's records, and where they stand. What the alarms'
/// snapshot has not seen is in the journal only.
const READERS: [(&str, &str, &str); 4] = [
    ("the readings", "history.db", "SELECT position FROM partitions WHERE partition = ?1"),
    ("the attributes", "attributes.db", "SELECT next FROM positions WHERE partition = ?1"),
    ("the alarms", "alarms.db", "SELECT position FROM partitions WHERE partition = ?1"),
    ("the alarms' snapshot", "alarms.db", SNAPSHOT),
];

const SNAPSHOT: &str = "SELECT CASE WHEN EXISTS (SELECT 1 FROM ticks t WHERE t.partition = s.partition)
       OR EXISTS (SELECT 1 FROM met_devices m WHERE m.partition = s.partition) THEN 0 ELSE position END
     FROM snapshots s WHERE partition = ?1";
