//! The history: typed readings by device, key and time.
//!
//! On a reading's way it stands behind the recorder, which reads the journal
//! and writes each record here. The journal is its write-ahead log: the position
//! up to which records are durable here moves in the same transaction as their
//! readings. After a crash the recorder starts again at that position. A re-send
//! of the same device, key and time replaces, so it is stored once.
//!
//! On one machine it is Parquet files with a manifest ([`EmbeddedHistory`]), in
//! a cluster tables of PostgreSQL ([`PostgresHistory`]). It never reads the
//! journal, and never gives a shorter answer for what can't be read.

mod buckets;
mod embedded;
mod error;
mod keep;
mod options;
mod postgres;
mod reading;
mod rows;
mod scan;

use std::path::Path;

use prometheus::Registry;
use schema::{DeviceId, PartitionId, Position, RecordRows, TenantId};

pub use embedded::{EmbeddedHistory, EmbeddedView, EmbeddedWriter};
pub(crate) use embedded::{HistoryFiles, KeptFile};
pub use error::HistoryError;
pub use options::{Clock, DAY_MS, DiskBudget, HistoryOptions};
pub use postgres::{PostgresHistory, PostgresHistoryOptions, PostgresView, PostgresWriter};
pub use reading::{
    AggregateQuery, Bucket, Buckets, Order, Page, RangeQuery, Reading, ReadingValue, Sample,
};
pub use scan::{
    DEFAULT_SCAN_BYTES, HistoryView, MAX_SCAN_SERIES, ScanDevice, ScanGroup, ScanQuery,
};

use crate::PostgresOptions;

/// The history of one installation; clones are handles on the same one.
#[derive(Clone, Debug)]
pub enum History {
    /// In a folder of this machine.
    Embedded(EmbeddedHistory),
    /// In PostgreSQL, which several nodes share.
    Postgres(PostgresHistory),
}

/// Takes the records of one partition, in order.
#[derive(Debug)]
pub enum HistoryWriter {
    Embedded(EmbeddedWriter),
    Postgres(PostgresWriter),
}

impl History {
    /// Opens `history.db` and the files beside it in the folder `history`.
    ///
    /// # Errors
    /// [`HistoryError`] if the manifest or a partition's catalog can't be read.
    pub fn open(
        dir: &Path,
        partitions: u16,
        options: HistoryOptions,
        registry: &Registry,
    ) -> Result<Self, HistoryError> {
        EmbeddedHistory::open(dir, partitions, options, registry).map(Self::Embedded)
    }

    /// Connects to PostgreSQL and brings the schema `baken_history` forward.
    ///
    /// # Errors
    /// [`HistoryError::Postgres`] if it can't be reached or refuses;
    /// [`HistoryError::Partitions`] if it was made for another number of them.
    pub async fn open_postgres(
        server: &PostgresOptions,
        partitions: u16,
        options: &PostgresHistoryOptions,
        registry: &Registry,
    ) -> Result<Self, HistoryError> {
        let opened = PostgresHistory::open(server, partitions, options, registry);
        opened.await.map(Self::Postgres)
    }

    /// The partition's writer; there is one at a time. In PostgreSQL this claims
    /// the partition: a former writer, of whichever node, commits nothing more.
    ///
    /// # Errors
    /// [`HistoryError::Partition`] or [`HistoryError::WriterTaken`].
    pub async fn writer(&self, partition: PartitionId) -> Result<HistoryWriter, HistoryError> {
        match self {
            Self::Embedded(history) => history.writer(partition).map(HistoryWriter::Embedded),
            Self::Postgres(history) => history.writer(partition).await.map(HistoryWriter::Postgres),
        }
    }

    /// All records below it are durable here; the journal must keep the rest.
    /// A partition that there isn't is at 0.
    #[must_use]
    pub fn durable_position(&self, partition: PartitionId) -> Position {
        match self {
            Self::Embedded(history) => history.durable_position(partition),
            Self::Postgres(history) => history.durable_position(partition),
        }
    }

    /// The newest value of each of `keys`, or of every key of the device, in
    /// order of the keys' names. Keys without readings are left out.
    ///
    /// # Errors
    /// [`HistoryError::Closed`]; [`HistoryError::Postgres`] if it is away.
    pub async fn latest(
        &self,
        device: DeviceId,
        keys: Option<Vec<String>>,
    ) -> Result<Vec<Reading>, HistoryError> {
        match self {
            Self::Embedded(history) => history.latest(device, keys).await,
            Self::Postgres(history) => history.latest(device, keys).await,
        }
    }

    /// A page of readings.
    ///
    /// # Errors
    /// [`HistoryError::Corrupt`] names a damaged file, [`HistoryError::Cursor`]
    /// a cursor of another question.
    pub async fn range(&self, query: RangeQuery) -> Result<Page, HistoryError> {
        match self {
            Self::Embedded(history) => history.range(query).await,
            Self::Postgres(history) => history.range(query).await,
        }
    }

    /// Readings reduced to buckets, oldest first; empty ones are left out.
    ///
    /// # Errors
    /// [`HistoryError::Corrupt`] names a damaged file; [`HistoryError::Buckets`]
    /// and [`HistoryError::BucketWidth`] say what can't be asked.
    pub async fn aggregate(&self, query: AggregateQuery) -> Result<Vec<Bucket>, HistoryError> {
        match self {
            Self::Embedded(history) => history.aggregate(query).await,
            Self::Postgres(history) => history.aggregate(query).await,
        }
    }

    /// The keys that the device has sent, in order of their names.
    ///
    /// # Errors
    /// [`HistoryError::Postgres`] if it is away.
    pub async fn keys(&self, device: DeviceId) -> Result<Vec<String>, HistoryError> {
        match self {
            Self::Embedded(history) => Ok(history.keys(device)),
            Self::Postgres(history) => history.keys(device).await,
        }
    }

    /// Looks up what scans of these devices see.
    ///
    /// # Errors
    /// [`HistoryError::Postgres`] if it is away.
    pub async fn view<K: Send + Sync + 'static>(
        &self,
        query: ScanQuery<K>,
    ) -> Result<HistoryView<K>, HistoryError> {
        match self {
            Self::Embedded(history) => history.view(query).await.map(HistoryView::Embedded),
            Self::Postgres(history) => history.view(query).await.map(HistoryView::Postgres),
        }
    }

    /// Readings of the tenant that are older are neither shown nor kept; 0
    /// days keeps them for ever, which is also the default.
    pub fn set_retention(&self, tenant: TenantId, days: u32) {
        match self {
            Self::Embedded(history) => history.set_retention(tenant, days),
            Self::Postgres(history) => history.set_retention(tenant, days),
        }
    }

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// [`HistoryError::Background`] if it can't be written; it is tried again in
    /// the background.
    pub async fn flush(&self) -> Result<(), HistoryError> {
        match self {
            Self::Embedded(history) => history.flush().await,
            Self::Postgres(history) => history.flush().await,
        }
    }

    /// Waits until queries see all that was written before the call, or nothing
    /// more can come of it.
    pub async fn settled(&self) {
        match self {
            // They see it at once.
            Self::Embedded(_) => {}
            Self::Postgres(history) => history.settled().await,
        }
    }

    /// Merges files and removes what has expired until all is in order; gives
    /// the number of pieces of work. The background does the same by and by.
    ///
    /// # Errors
    /// [`HistoryError`] names what can't be read or written.
    pub async fn compact(&self) -> Result<usize, HistoryError> {
        match self {
            Self::Embedded(history) => history.compact().await,
            Self::Postgres(history) => history.compact().await,
        }
    }

    /// Flushes and ends the background's work; a failed flush is logged.
    /// Without it nothing is lost either: the next start reads the journal from
    /// the durable position.
    pub async fn close(&self) {
        if let Err(error) = self.flush().await {
            tracing::warn!(%error, "the history closes with readings that only the journal has");
        }
        self.halt().await;
    }

    /// Ends the background's work and leaves what is in memory to the journal.
    pub async fn halt(&self) {
        match self {
            Self::Embedded(history) => history.halt().await,
            Self::Postgres(history) => history.halt().await,
        }
    }
}

impl HistoryWriter {
    /// Where the reader of the journal must start, and then the next record
    /// that [`HistoryWriter::write`] expects.
    #[must_use]
    pub fn position(&self) -> Position {
        match self {
            Self::Embedded(writer) => writer.position(),
            Self::Postgres(writer) => writer.position(),
        }
    }

    /// Waits until [`HistoryWriter::write`] will not have to wait.
    pub async fn ready(&self) {
        match self {
            Self::Embedded(writer) => writer.ready().await,
            Self::Postgres(writer) => writer.ready().await,
        }
    }

    /// Takes the rows of one record of readings. In a folder queries see them
    /// when it returns; in PostgreSQL when they are durable. Records between may
    /// be left out. Blocks while it has no room; await [`HistoryWriter::ready`]
    /// before it on a runtime thread.
    ///
    /// # Errors
    /// [`HistoryError::Position`] if the record was written already; the rows
    /// are not taken. [`HistoryError::Closed`] after [`History::close`],
    /// [`HistoryError::Fenced`] after another writer's claim.
    pub fn write(&mut self, position: Position, rows: &RecordRows) -> Result<(), HistoryError> {
        match self {
            Self::Embedded(writer) => writer.write(position, rows),
            Self::Postgres(writer) => writer.write(position, rows),
        }
    }

    /// Notes that all records below `next` are of no concern to the history
    /// (attributes), so that its durable position passes them.
    ///
    /// # Errors
    /// As for [`HistoryWriter::write`].
    pub fn advance(&mut self, next: Position) -> Result<(), HistoryError> {
        match self {
            Self::Embedded(writer) => writer.advance(next),
            Self::Postgres(writer) => writer.advance(next),
        }
    }
}
