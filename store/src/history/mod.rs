//! The history: typed readings by device, key and time; in files of its own, or
//! in PostgreSQL (`postgres`).
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

mod cache;
mod catalog;
mod compact;
mod error;
mod file;
mod files;
mod flush;
mod manifest;
mod memtable;
mod metrics;
mod options;
mod partition;
mod plan;
pub(crate) mod postgres;
mod query;
mod reading;
mod rows;
mod scan;
mod shared;
mod snapshot;
mod stream;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use prometheus::Registry;
use schema::{DeviceId, PartitionId, Position, RecordRows, TenantId};

pub use error::HistoryError;
pub use options::{Clock, DAY_MS, DiskBudget, HistoryOptions};
pub use reading::{
    AggregateQuery, Bucket, Buckets, Order, Page, RangeQuery, Reading, ReadingValue, Sample,
};

pub use scan::{
    DEFAULT_SCAN_BYTES, HistoryView, MAX_SCAN_SERIES, ScanDevice, ScanGroup, ScanQuery,
};

use catalog::SeriesId;
use postgres::Tables;
use shared::Shared;

use crate::sql::PostgresOptions;

/// The history of one installation; clones are handles on the same files or
/// tables.
#[derive(Clone, Debug)]
pub struct History {
    kept: Kept,
}

/// Where readings are kept.
#[derive(Clone, Debug)]
enum Kept {
    Files(Arc<Shared>),
    Tables(Arc<Tables>),
}

/// Takes the records of one partition, in order.
#[derive(Debug)]
pub struct HistoryWriter {
    kept: Kept,
    partition: PartitionId,
}

/// Tells a query that nobody waits for its answer any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
        let shared = Shared::open(dir, partitions, options, registry)?;
        Ok(Self { kept: Kept::Files(shared) })
    }

    /// Opens the tables in PostgreSQL, and claims all partitions. Blocks.
    ///
    /// # Errors
    /// [`HistoryError`] if PostgreSQL can't be reached or the tables are of
    /// another number of partitions.
    pub fn open_postgres(
        postgres: &PostgresOptions,
        partitions: u16,
        options: HistoryOptions,
        registry: &Registry,
    ) -> Result<Self, HistoryError> {
        let tables = Tables::open(postgres, partitions, options, registry)?;
        Ok(Self { kept: Kept::Tables(tables) })
    }

    /// The partition's writer; there is one at a time.
    ///
    /// # Errors
    /// [`HistoryError::Partition`] or [`HistoryError::WriterTaken`].
    pub fn writer(&self, partition: PartitionId) -> Result<HistoryWriter, HistoryError> {
        match &self.kept {
            Kept::Files(shared) => {
                let mut state = shared.partition(partition)?.state();
                if std::mem::replace(&mut state.has_writer, true) {
                    return Err(HistoryError::WriterTaken(partition));
                }
            }
            Kept::Tables(tables) => tables.take_writer(partition)?,
        }
        Ok(HistoryWriter { kept: self.kept.clone(), partition })
    }

    /// All records below it are in durable files or tables; the journal must
    /// keep the rest. A partition that there isn't is at 0.
    #[must_use]
    pub fn durable_position(&self, partition: PartitionId) -> Position {
        match &self.kept {
            Kept::Files(shared) => {
                let found = shared.partition(partition);
                found.map_or(Position(0), |partition| partition.state().durable)
            }
            Kept::Tables(tables) => tables.durable_position(partition),
        }
    }

    /// The newest value of each of `keys`, or of every key of the device, in
    /// order of the keys' names. Keys without readings are left out.
    ///
    /// # Errors
    /// [`HistoryError::Closed`], or PostgreSQL's.
    pub async fn latest(
        &self,
        device: DeviceId,
        keys: Option<Vec<String>>,
    ) -> Result<Vec<Reading>, HistoryError> {
        self.ask("latest", move |kept, _| match kept {
            Kept::Files(shared) => Ok(query::latest(shared, device, keys.as_deref())),
            Kept::Tables(tables) => postgres::latest(tables, device, keys.as_deref()),
        })
        .await
    }

    /// A page of readings.
    ///
    /// # Errors
    /// [`HistoryError::Corrupt`] names a damaged file, [`HistoryError::Cursor`]
    /// a cursor of another question.
    pub async fn range(&self, query: RangeQuery) -> Result<Page, HistoryError> {
        self.ask("range", move |kept, cancelled| match kept {
            Kept::Files(shared) => query::range(shared, &query, cancelled),
            Kept::Tables(tables) => postgres::range(tables, &query),
        })
        .await
    }

    /// Readings reduced to buckets, oldest first; empty ones are left out.
    ///
    /// # Errors
    /// [`HistoryError::Corrupt`] names a damaged file; [`HistoryError::Buckets`]
    /// and [`HistoryError::BucketWidth`] say what can't be asked.
    pub async fn aggregate(&self, query: AggregateQuery) -> Result<Vec<Bucket>, HistoryError> {
        self.ask("aggregate", move |kept, cancelled| match kept {
            Kept::Files(shared) => query::aggregate(shared, &query, cancelled),
            Kept::Tables(tables) => postgres::aggregate(tables, &query),
        })
        .await
    }

    /// The keys that the device has sent, in order of their names. It may read
    /// from the database: call it away from the runtime's threads.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub fn keys(&self, device: DeviceId) -> Result<Vec<String>, HistoryError> {
        match &self.kept {
            Kept::Files(shared) => Ok(query::keys(shared, device)),
            Kept::Tables(tables) => postgres::keys(tables, device),
        }
    }

    /// Readings of the tenant that are older are neither shown nor kept; 0
    /// days keeps them for ever, which is also the default.
    pub fn set_retention(&self, tenant: TenantId, days: u32) {
        match &self.kept {
            Kept::Files(shared) => {
                shared.set_retention(tenant, days);
                shared.want_compaction();
            }
            Kept::Tables(tables) => tables.set_retention(tenant, days),
        }
    }

    /// Brings all that was written into durable files or tables.
    ///
    /// # Errors
    /// [`HistoryError::Background`] if a file can't be written; it is tried
    /// again in the background.
    pub async fn flush(&self) -> Result<(), HistoryError> {
        self.block(|kept| match kept {
            Kept::Files(shared) => flush::all(shared),
            Kept::Tables(tables) => tables.flush(),
        })
        .await
    }

    /// Merges files, and removes what has expired, until all is in order; gives
    /// the number of merges, or of weeks that were dropped. The background does
    /// the same by and by.
    ///
    /// # Errors
    /// [`HistoryError`] names the file that can't be read or written.
    pub async fn compact(&self) -> Result<usize, HistoryError> {
        self.block(|kept| match kept {
            Kept::Files(shared) => compact::run_all(shared),
            Kept::Tables(tables) => postgres::expire(tables),
        })
        .await
    }

    /// Flushes and ends the background threads; a failed flush is logged.
    /// Without it nothing is lost either: the next start reads the journal from
    /// the durable position.
    pub async fn close(&self) {
        if let Err(error) = self.flush().await {
            tracing::warn!(%error, "the history closes with readings that only the journal has");
        }
        self.halt().await;
    }

    /// Ends the background threads and leaves what is in memory to the journal.
    pub async fn halt(&self) {
        let ended = self.block(|kept| {
            match kept {
                Kept::Files(shared) => shared.end(),
                Kept::Tables(tables) => tables.halt(),
            }
            Ok(())
        });
        if let Err(error) = ended.await {
            tracing::warn!(%error, "the history did not end");
        }
    }

    /// Runs a query away from the runtime's threads, a few at a time.
    async fn ask<T: Send + 'static>(
        &self,
        kind: &'static str,
        answer: impl FnOnce(&Kept, &AtomicBool) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let started = Instant::now();
        let queries = match &self.kept {
            Kept::Files(shared) => shared.queries.clone(),
            Kept::Tables(tables) => tables.readers.places.clone(),
        };
        let permit = queries.acquire_owned().await.map_err(|_| HistoryError::Closed)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let _guard = CancelOnDrop(cancelled.clone());
        let result = self
            .block(move |kept| {
                let _permit = permit;
                answer(kept, &cancelled)
            })
            .await;
        let seconds = started.elapsed().as_secs_f64();
        let query_seconds = match &self.kept {
            Kept::Files(shared) => &shared.metrics.query_seconds,
            Kept::Tables(tables) => &tables.metrics.query_seconds,
        };
        query_seconds.with_label_values(&[kind]).observe(seconds);
        result
    }

    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Kept) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let kept = self.kept.clone();
        match tokio::task::spawn_blocking(move || work(&kept)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(HistoryError::Closed),
        }
    }
}

impl HistoryWriter {
    /// Where the reader of the journal must start, and then the next record
    /// that [`HistoryWriter::write`] expects.
    #[must_use]
    pub fn position(&self) -> Position {
        match &self.kept {
            Kept::Files(shared) => self.of(shared).state().next,
            Kept::Tables(tables) => tables.next(self.partition),
        }
    }

    /// Waits until [`HistoryWriter::write`] will not have to wait.
    pub async fn ready(&self) {
        match &self.kept {
            Kept::Files(shared) => self.of(shared).ready(&shared.options).await,
            Kept::Tables(tables) => tables.ready(self.partition).await,
        }
    }

    /// Takes the rows of one record of readings; queries see them when it
    /// returns, or in PostgreSQL a moment later. Records between may be left out.
    /// Blocks while as much waits as may; await [`HistoryWriter::ready`] before
    /// it on a runtime thread.
    ///
    /// # Errors
    /// [`HistoryError::Position`] if the record was written already; the rows
    /// are not taken. [`HistoryError::Closed`] after [`History::close`],
    /// [`HistoryError::Fenced`] where another node records the partition.
    pub fn write(&mut self, position: Position, rows: &RecordRows) -> Result<(), HistoryError> {
        match &self.kept {
            Kept::Files(shared) => {
                let Shared { options, metrics, .. } = &**shared;
                if self.of(shared).write(position, rows, options, metrics)? {
                    shared.want_flush();
                }
                Ok(())
            }
            Kept::Tables(tables) => tables.write(self.partition, position, rows),
        }
    }

    /// Notes that all records below `next` are of no concern to the history
    /// (attributes), so that its durable position passes them.
    ///
    /// # Errors
    /// [`HistoryError::Position`] if `next` is behind; [`HistoryError::Closed`].
    pub fn advance(&mut self, next: Position) -> Result<(), HistoryError> {
        match &self.kept {
            Kept::Files(shared) => self.of(shared).advance(next),
            Kept::Tables(tables) => tables.advance(self.partition, next),
        }
    }

    fn of<'a>(&self, shared: &'a Shared) -> &'a partition::Partition {
        &shared.partitions[usize::from(self.partition.0)]
    }
}

impl Drop for HistoryWriter {
    fn drop(&mut self) {
        match &self.kept {
            Kept::Files(shared) => self.of(shared).state().has_writer = false,
            Kept::Tables(tables) => tables.leave_writer(self.partition),
        }
    }
}
