//! The recorder: from the journal into the history and the attributes.
//!
//! A task for each partition of this node reads durable records in their order, writes readings
//! to the history and attributes to theirs, and tells the journal how far both
//! are on disk, so that retention keeps what a restart would need. It skips no
//! record: one that can't be read stops its partition, which is logged, counted
//! and shown, until a person has looked.
//!
//! The tasks run on threads of their own, because decoding and writing a record
//! takes up to some milliseconds of CPU: while a backlog is caught up, they get
//! no more than their threads' share of the cores, and no connection waits
//! behind them for a runtime thread.

mod metrics;
mod partition;

use std::sync::{Arc, Mutex, PoisonError};

use journal::{Journal, OpenError};
use schema::{PartitionId, Position};
use serde::{Deserialize, Serialize};
use store::{Attributes, History};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::metrics::RecorderMetrics;
use self::partition::{PartitionRecorder, Progress};

/// How the recorder runs. Part of the server's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecorderOptions {
    /// Threads for all partitions together; 0 takes as many as there are cores.
    /// While a backlog is caught up the broker's threads have an equal share.
    pub threads: usize,
    /// Attributes of at most so many records share a transaction.
    pub max_batch_records: usize,
    /// How often an idle partition tells the journal what it still needs.
    pub hold_interval_ms: u64,
    /// First and longest pause before a failed write is tried again.
    pub retry_min_ms: u64,
    pub retry_max_ms: u64,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            max_batch_records: 64,
            hold_interval_ms: 1_000,
            retry_min_ms: 100,
            retry_max_ms: 5_000,
        }
    }
}

/// Why the recorder did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot start the recorder's threads: {0}")]
    Threads(#[from] std::io::Error),
    #[error("cannot register the recorder's metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("cannot take part in the work on the partitions: {0}")]
    Assignment(#[from] OpenError),
}

/// How far a partition of this node is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    pub partition: PartitionId,
    /// The next position to be recorded.
    pub position: Position,
    /// Durable records that are not recorded yet.
    pub behind: u64,
    /// Why it stopped, if it did.
    pub stopped: Option<String>,
}

/// The name of the work on the partitions.
const ROLE: &str = "recorder";

/// The running recorder of the partitions that are this node's. Dropped, it ends
/// as well, without waiting for it.
#[derive(Debug)]
pub struct Recorder {
    journal: Journal,
    progress: Arc<[Mutex<Option<Arc<Progress>>>]>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
    runtime: Option<Runtime>,
}

impl Recorder {
    /// Records the partitions that are this node's: all of a journal in a folder,
    /// a share of one in Kafka.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then. A partition that can't be read is no
    /// such error: it stands in [`Recorder::status`] as stopped.
    pub fn start(
        journal: &Journal,
        history: &History,
        attributes: &Attributes,
        options: &RecorderOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        let metrics = RecorderMetrics::register(registry)?;
        let assignment = journal.assignment(ROLE, registry)?;
        let mut recorder = Self::elsewhere(journal);
        // Before the first record is submitted. What may be another's is held when it
        // is known to be ours: nobody would let go what never was.
        if assignment.is_whole() {
            for partition in (0..journal.partitions()).map(PartitionId) {
                partition::hold(journal, history, attributes, partition);
                set(&recorder.progress, partition, Some(Arc::default()));
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads(options))
            .thread_name("recorder")
            .enable_time()
            .build()?;
        let progress = recorder.progress.clone();
        let (journal, history) = (journal.clone(), history.clone());
        let (attributes, options) = (attributes.clone(), options.clone());
        let begin = move |partition: PartitionId, ending| {
            let own = Arc::new(Progress::default());
            set(&progress, partition, Some(own.clone()));
            let recorder = PartitionRecorder {
                journal: journal.clone(),
                partition,
                history: history.clone(),
                attributes: attributes.clone(),
                options: options.clone(),
                stopping: ending,
                progress: own,
                metrics: metrics.of(partition),
            };
            let progress = progress.clone();
            async move {
                recorder.run().await;
                set(&progress, partition, None);
            }
        };
        let work = assignment.run(recorder.stop.subscribe(), begin);
        recorder
            .task
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(runtime.spawn(work));
        recorder.runtime = Some(runtime);
        Ok(recorder)
    }

    /// Records no partition: others do.
    #[must_use]
    pub fn elsewhere(journal: &Journal) -> Self {
        Self {
            journal: journal.clone(),
            progress: (0..journal.partitions()).map(|_| Mutex::default()).collect(),
            stop: watch::Sender::new(false),
            task: Mutex::default(),
            runtime: None,
        }
    }

    /// How far each partition of this node is.
    #[must_use]
    pub fn status(&self) -> Vec<PartitionStatus> {
        let of = |(partition, progress): (u16, &Mutex<Option<Arc<Progress>>>)| {
            let progress = progress.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
            let partition = PartitionId(partition);
            let position = progress.position();
            let behind = self.journal.bounds(partition).next.0.saturating_sub(position.0);
            Some(PartitionStatus { partition, position, behind, stopped: progress.stopped() })
        };
        (0..).zip(self.progress.iter()).filter_map(of).collect()
    }

    /// Ends each task behind the records that it has in hand. What is not in
    /// the history's files then is read from the journal again at the next start.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the recorder failed");
        }
    }
}

fn set(
    all: &[Mutex<Option<Arc<Progress>>>],
    partition: PartitionId,
    progress: Option<Arc<Progress>>,
) {
    *all[usize::from(partition.0)].lock().unwrap_or_else(PoisonError::into_inner) = progress;
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn threads(options: &RecorderOptions) -> usize {
    match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}
