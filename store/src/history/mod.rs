//! The embedded history: typed readings by device, key and time.
//!
//! On a reading's way it stands behind the recorder, which reads the journal
//! and writes each record here. The journal is its write-ahead log: rows go to
//! a memtable in memory, and from there to Parquet files; the position up to
//! which they are in files is moved in the same transaction that adds the
//! files. After a crash the recorder starts again at that position. A re-send
//! of the same device, key and time replaces, so it is stored once.
//!
//! It never reads the journal, and never gives a shorter answer for a damaged
//! file: that is an error which names the file.

mod error;
mod options;
mod reading;

use std::path::Path;

use prometheus::Registry;
use schema::{DeviceId, PartitionId, Position, RecordRows, TenantId};

pub use error::HistoryError;
pub use options::{Clock, DAY_MS, DiskBudget, HistoryOptions};
pub use reading::{
    AggregateQuery, Bucket, Buckets, Order, Page, RangeQuery, Reading, ReadingValue, Sample,
};

/// The history of one installation; clones are handles on the same files.
#[derive(Clone, Debug)]
pub struct History {}

/// Takes the records of one partition, in order.
#[derive(Debug)]
pub struct HistoryWriter {}

impl History {
    /// Opens `history.db` and the files beside it in the folder `history`.
    ///
    /// # Errors
    /// [`HistoryError`] if the manifest or a partition's catalog can't be read.
    pub fn open(
        _dir: &Path,
        _partitions: u16,
        _options: HistoryOptions,
        _registry: &Registry,
    ) -> Result<Self, HistoryError> {
        Err(HistoryError::Closed)
    }

    /// The partition's writer; there is one at a time.
    ///
    /// # Errors
    /// [`HistoryError::Partition`] or [`HistoryError::WriterTaken`].
    pub fn writer(&self, partition: PartitionId) -> Result<HistoryWriter, HistoryError> {
        Err(HistoryError::WriterTaken(partition))
    }

    /// All records below it are in durable files; the journal must keep the rest.
    #[must_use]
    pub fn durable_position(&self, _partition: PartitionId) -> Position {
        Position(0)
    }

    /// The newest value of each of `keys`, or of every key of the device.
    ///
    /// # Errors
    /// [`HistoryError::Closed`].
    pub async fn latest(
        &self,
        _device: DeviceId,
        _keys: Option<Vec<String>>,
    ) -> Result<Vec<Reading>, HistoryError> {
        Err(HistoryError::Closed)
    }

    /// A page of readings.
    ///
    /// # Errors
    /// [`HistoryError::Corrupt`] names a damaged file.
    pub async fn range(&self, _query: RangeQuery) -> Result<Page, HistoryError> {
        Err(HistoryError::Closed)
    }

    /// Readings reduced to buckets.
    ///
    /// # Errors
    /// [`HistoryError::Corrupt`] names a damaged file.
    pub async fn aggregate(&self, _query: AggregateQuery) -> Result<Vec<Bucket>, HistoryError> {
        Err(HistoryError::Closed)
    }

    /// The keys that the device has sent, in order of their names.
    #[must_use]
    pub fn keys(&self, _device: DeviceId) -> Vec<String> {
        Vec::new()
    }

    /// Readings of the tenant that are older are neither shown nor kept; 0
    /// days keeps them for ever, which is also the default.
    pub fn set_retention(&self, _tenant: TenantId, _days: u32) {}

    /// Brings all that was written into durable files.
    ///
    /// # Errors
    /// [`HistoryError`] if a file can't be written.
    pub async fn flush(&self) -> Result<(), HistoryError> {
        Err(HistoryError::Closed)
    }

    /// Flushes and ends the background threads. Without it nothing is lost
    /// either: the next start reads the journal from the durable position.
    pub async fn close(&self) {}
}

impl HistoryWriter {
    /// Where the reader of the journal must start.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(0)
    }

    /// Waits until [`HistoryWriter::write`] will not have to wait for a flush.
    pub async fn ready(&self) {}

    /// Takes the rows of one record of readings; queries see them when it
    /// returns. Blocks while as many memtables as may wait for their flush do;
    /// await [`HistoryWriter::ready`] before it on a runtime thread.
    ///
    /// # Errors
    /// [`HistoryError::Position`] if the record was written already; the rows
    /// are not taken.
    pub fn write(&mut self, _position: Position, _rows: &RecordRows) -> Result<(), HistoryError> {
        Err(HistoryError::Closed)
    }

    /// Notes that all records below `next` are of no concern to the history
    /// (attributes), so that its durable position passes them.
    ///
    /// # Errors
    /// [`HistoryError::Closed`].
    pub fn advance(&mut self, _next: Position) -> Result<(), HistoryError> {
        Err(HistoryError::Closed)
    }
}
