//! The history in a folder: Parquet files with a manifest in SQLite.
//!
//! Rows go to a memtable in memory, and from there to Parquet files; the
//! position up to which they are in files is moved in the same transaction that
//! adds the files. A damaged file never makes an answer shorter: that is an
//! error which names the file.

mod cache;
mod catalog;
mod compact;
mod copy;
mod file;
mod files;
mod flush;
mod manifest;
mod memtable;
mod metrics;
mod partition;
mod plan;
mod query;
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

use super::options::HistoryOptions;
use super::reading::{AggregateQuery, Bucket, Page, RangeQuery, Reading};
use super::{
    HistoryError, MAX_SCAN_SERIES, ScanDevice, ScanGroup, ScanQuery, buckets, keep, options,
    reading, rows,
};

pub(crate) use copy::{HistoryFiles, KeptFile};
pub use scan::EmbeddedView;

use catalog::SeriesId;
use shared::Shared;

/// The history in a folder; clones are handles on the same files.
#[derive(Clone, Debug)]
pub struct EmbeddedHistory {
    shared: Arc<Shared>,
}

/// Takes the records of one partition, in order.
#[derive(Debug)]
pub struct EmbeddedWriter {
    shared: Arc<Shared>,
    partition: PartitionId,
}

/// Tells a query that nobody waits for its answer any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl EmbeddedHistory {
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
        Ok(Self { shared: Shared::open(dir, partitions, options, registry)? })
    }

    /// The partition's writer; there is one at a time.
    ///
    /// # Errors
    /// [`HistoryError::Partition`] or [`HistoryError::WriterTaken`].
    pub fn writer(&self, partition: PartitionId) -> Result<EmbeddedWriter, HistoryError> {
        let mut state = self.shared.partition(partition)?.state();
        if std::mem::replace(&mut state.has_writer, true) {
            return Err(HistoryError::WriterTaken(partition));
        }
        Ok(EmbeddedWriter { shared: self.shared.clone(), partition })
    }

    /// All records below it are in durable files; the journal must keep the
    /// rest. A partition that there isn't is at 0.
    #[must_use]
    pub fn durable_position(&self, partition: PartitionId) -> Position {
        self.shared.partition(partition).map_or(Position(0), |partition| partition.state().durable)
    }

    /// The newest value of each of `keys`, or of every key of the device, in
    /// order of the keys' names. Keys without readings are left out.
    ///
    /// # Errors
    /// [`HistoryError::Closed`].
    pub async fn latest(
        &self,
        device: DeviceId,
        keys: Option<Vec<String>>,
    ) -> Result<Vec<Reading>, HistoryError> {
        self.ask("latest", move |shared, _| Ok(query::latest(shared, device, keys.as_deref())))
            .await
    }

    /// A page of readings.
    ///
    /// # Errors
    /// [`HistoryError::Corrupt`] names a damaged file, [`HistoryError::Cursor`]
    /// a cursor of another question.
    pub async fn range(&self, query: RangeQuery) -> Result<Page, HistoryError> {
        self.ask("range", move |shared, cancelled| query::range(shared, &query, cancelled)).await
    }

    /// Readings reduced to buckets, oldest first; empty ones are left out.
    ///
    /// # Errors
    /// [`HistoryError::Corrupt`] names a damaged file; [`HistoryError::Buckets`]
    /// and [`HistoryError::BucketWidth`] say what can't be asked.
    pub async fn aggregate(&self, query: AggregateQuery) -> Result<Vec<Bucket>, HistoryError> {
        self.ask("aggregate", move |shared, cancelled| query::aggregate(shared, &query, cancelled))
            .await
    }

    /// The keys that the device has sent, in order of their names.
    #[must_use]
    pub fn keys(&self, device: DeviceId) -> Vec<String> {
        query::keys(&self.shared, device)
    }

    /// All series of a partition, in order of device and key.
    ///
    /// # Errors
    /// [`HistoryError::Partition`].
    pub(crate) fn series(
        &self,
        partition: PartitionId,
    ) -> Result<Vec<(TenantId, DeviceId, Arc<str>)>, HistoryError> {
        let state = self.shared.partition(partition)?.state();
        let names = state.catalog.names();
        let all = (0..).take(state.catalog.len()).collect();
        let series = names.file_order(all).into_iter().map(|id| {
            let series = names.series[id as usize];
            (series.tenant, series.device, Arc::clone(&names.keys[series.key as usize]))
        });
        Ok(series.collect())
    }

    /// Readings of the tenant that are older are neither shown nor kept; 0
    /// days keeps them for ever, which is also the default.
    pub fn set_retention(&self, tenant: TenantId, days: u32) {
        self.shared.set_retention(tenant, days);
        self.shared.want_compaction();
    }

    /// Brings all that was written into durable files.
    ///
    /// # Errors
    /// [`HistoryError::Background`] if a file can't be written; it is tried
    /// again in the background.
    pub async fn flush(&self) -> Result<(), HistoryError> {
        self.block(|shared| {
            for partition in &shared.partitions {
                flush::freeze_if_due(shared, partition, true);
            }
            shared.want_flush();
            shared.partitions.iter().try_for_each(|partition| {
                let target = partition.state().frozen.back().map(|frozen| frozen.next);
                target.map_or(Ok(()), |target| flush::wait_durable(partition, target))
            })
        })
        .await
    }

    /// Merges files and removes what has expired until all is in order; gives
    /// the number of merges. The background does the same by and by.
    ///
    /// # Errors
    /// [`HistoryError`] names the file that can't be read or written.
    pub async fn compact(&self) -> Result<usize, HistoryError> {
        self.block(compact::run_all).await
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
        let ended = self.block(|shared| {
            shared.end();
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
        answer: impl FnOnce(&Shared, &AtomicBool) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let started = Instant::now();
        let permit = self.shared.queries.clone().acquire_owned().await;
        let permit = permit.map_err(|_| HistoryError::Closed)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let _guard = CancelOnDrop(cancelled.clone());
        let result = self
            .block(move |shared| {
                let _permit = permit;
                answer(shared, &cancelled)
            })
            .await;
        let seconds = started.elapsed().as_secs_f64();
        self.shared.metrics.query_seconds.with_label_values(&[kind]).observe(seconds);
        result
    }

    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let shared = self.shared.clone();
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(HistoryError::Closed),
        }
    }
}

impl EmbeddedWriter {
    /// Where the reader of the journal must start, and then the next record
    /// that [`EmbeddedWriter::write`] expects.
    #[must_use]
    pub fn position(&self) -> Position {
        self.partition().state().next
    }

    /// Waits until [`EmbeddedWriter::write`] will not have to wait for a flush.
    pub async fn ready(&self) {
        self.partition().ready(&self.shared.options).await;
    }

    /// Takes the rows of one record of readings; queries see them when it
    /// returns. Records between may be left out. Blocks while as many memtables
    /// as may wait for their flush do; await [`EmbeddedWriter::ready`] before it
    /// on a runtime thread.
    ///
    /// # Errors
    /// [`HistoryError::Position`] if the record was written already; the rows
    /// are not taken. [`HistoryError::Closed`] after [`EmbeddedHistory::close`].
    pub fn write(&mut self, position: Position, rows: &RecordRows) -> Result<(), HistoryError> {
        let Shared { options, metrics, .. } = &*self.shared;
        if self.partition().write(position, rows, options, metrics)? {
            self.shared.want_flush();
        }
        Ok(())
    }

    /// Notes that all records below `next` are of no concern to the history
    /// (attributes), so that its durable position passes them.
    ///
    /// # Errors
    /// [`HistoryError::Position`] if `next` is behind; [`HistoryError::Closed`].
    pub fn advance(&mut self, next: Position) -> Result<(), HistoryError> {
        self.partition().advance(next)
    }

    fn partition(&self) -> &partition::Partition {
        &self.shared.partitions[usize::from(self.partition.0)]
    }
}

impl Drop for EmbeddedWriter {
    fn drop(&mut self) {
        self.partition().state().has_writer = false;
    }
}
