//! The journal in a folder of this machine: one series of segments for all
//! partitions, so that one sync makes durable what came for all of them.
//!
//! Submitters put records into a bounded queue ([`queue`]); one thread writes
//! them in groups ([`writer`], [`group`]) as frames ([`frame`]) of a segment
//! ([`segment`]). A full segment is sealed with a [`sidecar`], and deleted in
//! time ([`retention`]). Readers ([`reader`]) take entries from memory
//! (`tail`) or from segments. Opening ([`folder`], [`recovery`], [`scan`])
//! finds all again. [`copy`] tells what a backup has to take.

mod copy;
mod disk;
mod folder;
mod frame;
mod group;
mod options;
mod queue;
mod reader;
mod recovery;
mod retention;
mod scan;
mod segment;
mod shared;
mod sidecar;
mod writer;

pub use copy::{JournalFile, JournalFiles, Kept};
pub use disk::{Disk, LocalDisk};
pub use options::{EmbeddedOptions, MAX_PARTITIONS};
pub use reader::EmbeddedReader;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use schema::{PartitionId, Position, Record};

use self::shared::Shared;
use self::writer::Writer;
use crate::metrics::{Gauges, Metrics};
use crate::{AppendError, Bounds, JournalStatus, OpenError, Pending, ReadError};

/// A handle to the journal of a folder. When the last one goes, the journal is
/// closed, which blocks until all that was taken is durable; `close` first where
/// that matters.
#[derive(Clone, Debug)]
pub struct EmbeddedJournal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedJournal {
    pub(crate) fn open(
        options: EmbeddedOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, OpenError> {
        options.check()?;
        let lock = folder::take(&options.dir, &*options.disk)?;
        let sequences = folder::segments(&options.dir)?;
        let meta =
            folder::meta(&options.dir, options.partitions, sequences.is_empty(), &*options.disk)?;
        let recovered = recovery::recover(&options, meta, &sequences)?;
        let metrics = Metrics::register(registry)?;
        metrics.torn_bytes.inc_by(recovered.torn_bytes);
        metrics.rebuilt_sidecars.inc_by(recovered.rebuilt_sidecars);
        tracing::info!(
            dir = %options.dir.display(),
            segments = recovered.segments.len(),
            torn_bytes = recovered.torn_bytes,
            rebuilt_sidecars = recovered.rebuilt_sidecars,
            "opened the journal"
        );
        let shared = Arc::new(Shared::new(options, meta, &recovered, metrics));
        registry.register(Box::new(Gauges::new(Arc::downgrade(&shared))?))?;
        let writer = Writer::new(shared.clone(), recovered, lock);
        let writer = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run())
            .map_err(folder::io_error("start the thread of", shared.dir()))?;
        Ok(Self { inner: Arc::new(Inner { shared, writer: Mutex::new(Some(writer)) }) })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.shared().meta.partitions
    }

    pub(crate) async fn submit(
        &self,
        partition: PartitionId,
        record: Record,
    ) -> Result<Pending, AppendError> {
        let shared = self.shared();
        let partitions = self.partitions();
        let state = shared
            .partitions
            .get(usize::from(partition.0))
            .ok_or(AppendError::NoSuchPartition { partition, partitions })?;
        if let Some(corruption) = state.stopped.get() {
            return Err(AppendError::PartitionStopped(corruption.clone()));
        }
        let (bytes, limit) = (record.payload.len(), shared.options.record_bytes);
        if bytes > limit {
            return Err(AppendError::TooLarge { bytes, limit });
        }
        let pending = shared.queue.push(partition.0, record).await?;
        shared.metrics.appends.inc();
        Ok(pending)
    }

    pub(crate) fn reader(
        &self,
        partition: PartitionId,
        from: Position,
    ) -> Result<EmbeddedReader, ReadError> {
        let partitions = self.partitions();
        if partition.0 >= partitions {
            return Err(ReadError::NoSuchPartition { partition, partitions });
        }
        EmbeddedReader::new(self.shared().clone(), partition, from)
    }

    pub(crate) fn bounds(&self, partition: PartitionId) -> Bounds {
        let state = &self.shared().partitions[usize::from(partition.0)];
        Bounds {
            oldest: Position(state.oldest.load(Ordering::Acquire)),
            next: Position(state.view.borrow().next),
        }
    }

    pub(crate) fn hold(&self, name: &'static str, partition: PartitionId, needed: Position) {
        self.shared().hold(name, partition, needed);
    }

    pub(crate) fn status(&self) -> JournalStatus {
        self.shared().status()
    }

    pub(crate) async fn close(&self) {
        self.shared().queue.close();
        let mut ended = self.shared().ended.subscribe();
        // An error says that the sender is gone, which `shared` holds.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A panic of the writer was reported where it happened.
            let _ = writer.join();
        }
    }
}
