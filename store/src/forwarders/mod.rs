//! Where each forwarder stands in the journal, what its platform acknowledged
//! last of each series, and the values that were refused.
//!
//! All of a forwarder's progress is written in one transaction, so that place,
//! counts, last values and dead letters never contradict one another. What the
//! texts and bytes say is the forwarders' own business.

mod sql;
mod writer;

use std::path::Path;
use std::sync::Arc;

use prometheus::Registry;
use schema::{DeviceId, PartitionId, Position, TimestampMs};

use crate::sql::{Database, PostgresOptions, Readers, Session, SqlError};
use writer::{Request, Writer};

/// The file's name in the store's folder.
const FILE: &str = "forwarders.db";

/// Reads that run at once, and connections that are kept open for them.
const MAX_READS: usize = 4;
const MAX_IDLE_READERS: usize = 1;

/// The row of a record behind which a forwarder goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanePlace {
    pub position: Position,
    pub row: u32,
}

/// Where a forwarder stands in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLane {
    pub forwarder: u64,
    pub partition: PartitionId,
    /// None where it is at rest and begins anew.
    pub place: Option<LanePlace>,
    /// JSON.
    pub counts: String,
    /// Records of the journal that it could not read any more.
    pub expired: u64,
}

/// A step of a forwarder in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneCommit {
    pub lane: StoredLane,
    /// The last values of devices; none forgets the device.
    pub devices: Vec<(DeviceId, Option<Vec<u8>>)>,
    pub dead_letters: Vec<NewDeadLetter>,
}

/// A value that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDeadLetter {
    pub at: TimestampMs,
    pub reason: String,
    /// JSON.
    pub value: String,
}

/// A refused value that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Ascending in time; never used again.
    pub sequence: u64,
    pub at: TimestampMs,
    pub reason: String,
    /// JSON.
    pub value: String,
}

/// What a person did with a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sent again, and taken by the platform.
    Resent,
    Discarded,
}

/// How many dead letters there are and were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterTotals {
    pub kept: u64,
    pub resent: u64,
    pub discarded: u64,
    pub overflowed: u64,
}

/// Why the forwarders' file could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ForwarderStoreError {
    #[error(transparent)]
    Sql(Arc<SqlError>),
    #[error("the forwarders' thread could not be started or a metric registered: {0}")]
    Start(String),
    #[error("the forwarders' store is closed")]
    Closed,
}

impl ForwarderStoreError {
    /// True where the same call may succeed later without any other change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Sql(error) if error.is_retryable())
    }
}

impl From<SqlError> for ForwarderStoreError {
    fn from(error: SqlError) -> Self {
        Self::Sql(Arc::new(error))
    }
}

/// A handle on the forwarders' file; clones share it.
#[derive(Clone, Debug)]
pub struct ForwarderStore {
    writer: Arc<Writer>,
    readers: Arc<Readers>,
}

/// The tables in PostgreSQL.
pub(crate) fn database(options: &PostgresOptions) -> Arc<Database> {
    Database::schema(options, "baken_forwarders", sql::POSTGRES_MIGRATIONS)
}

impl ForwarderStore {
    /// Opens `forwarders.db` in `dir`.
    ///
    /// # Errors
    /// [`ForwarderStoreError`] when the file cannot be opened.
    pub fn open(dir: &Path, registry: &Registry) -> Result<Self, ForwarderStoreError> {
        Self::open_in(Database::file(dir.join(FILE), sql::MIGRATIONS), registry)
    }

    /// Opens the forwarders' tables in PostgreSQL. Blocks.
    ///
    /// # Errors
    /// [`ForwarderStoreError`] when they cannot be opened.
    pub fn open_postgres(
        options: &PostgresOptions,
        registry: &Registry,
    ) -> Result<Self, ForwarderStoreError> {
        Self::open_in(database(options), registry)
    }

    fn open_in(database: Arc<Database>, registry: &Registry) -> Result<Self, ForwarderStoreError> {
        let writer = Arc::new(Writer::start(database.open()?, registry)?);
        let readers = Arc::new(Readers::new(database, MAX_READS, MAX_IDLE_READERS));
        Ok(Self { writer, readers })
    }

    /// Makes steps of forwarders durable, all or none. A forwarder keeps at most
    /// `max_dead_letters`; its oldest make room.
    ///
    /// # Errors
    /// [`ForwarderStoreError`]; then nothing was written.
    pub async fn commit(
        &self,
        steps: Vec<LaneCommit>,
        max_dead_letters: u32,
    ) -> Result<(), ForwarderStoreError> {
        self.writer.ask(Request::Commit { steps, max_dead_letters }).await.map(|_| ())
    }

    /// Takes a forwarder's places and last values away and keeps its counts and
    /// dead letters: it begins anew when it is needed again.
    ///
    /// # Errors
    /// [`ForwarderStoreError`].
    pub async fn rest(&self, forwarder: u64) -> Result<(), ForwarderStoreError> {
        self.writer.ask(Request::Rest(forwarder)).await.map(|_| ())
    }

    /// Takes all of a forwarder away.
    ///
    /// # Errors
    /// [`ForwarderStoreError`].
    pub async fn forget(&self, forwarder: u64) -> Result<(), ForwarderStoreError> {
        self.writer.ask(Request::Forget(forwarder)).await.map(|_| ())
    }

    /// Takes dead letters of a forwarder away, and counts what became of them.
    /// The answer is how many of them were there.
    ///
    /// # Errors
    /// [`ForwarderStoreError`].
    pub async fn settle(
        &self,
        forwarder: u64,
        sequences: Vec<u64>,
        fate: Fate,
    ) -> Result<u64, ForwarderStoreError> {
        self.writer.ask(Request::Settle { forwarder, sequences, fate }).await
    }

    /// All places of all forwarders.
    ///
    /// # Errors
    /// [`ForwarderStoreError`].
    pub async fn lanes(&self) -> Result<Vec<StoredLane>, ForwarderStoreError> {
        self.read(sql::lanes).await
    }

    /// The last values of a forwarder's devices in a partition.
    ///
    /// # Errors
    /// [`ForwarderStoreError`].
    pub async fn devices(
        &self,
        forwarder: u64,
        partition: PartitionId,
    ) -> Result<Vec<(DeviceId, Vec<u8>)>, ForwarderStoreError> {
        self.read(move |file| sql::devices(file, forwarder, partition)).await
    }

    /// Dead letters of a forwarder behind the sequence `after`, oldest first.
    ///
    /// # Errors
    /// [`ForwarderStoreError`].
    pub async fn dead_letters(
        &self,
        forwarder: u64,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, ForwarderStoreError> {
        self.read(move |file| sql::dead_letters(file, forwarder, after, limit)).await
    }

    /// How many dead letters a forwarder has, and what became of the others.
    ///
    /// # Errors
    /// [`ForwarderStoreError`].
    pub async fn dead_letter_totals(
        &self,
        forwarder: u64,
    ) -> Result<DeadLetterTotals, ForwarderStoreError> {
        self.read(move |file| sql::totals(file, forwarder)).await
    }

    /// Finishes what is queued and closes the file.
    pub async fn close(&self) {
        self.writer.close().await;
    }

    /// Reads on a thread for blocking work: at a start, and when a person looks.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Session) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, ForwarderStoreError> {
        let read = self.readers.read(query).await;
        read.map_err(|_| ForwarderStoreError::Closed)?.map_err(Into::into)
    }
}

#[cfg(test)]
mod tests;
