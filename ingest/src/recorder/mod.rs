//! The recorder: from the journal into the history and the attributes.
//!
//! A task per partition reads durable records in their order, writes readings
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

use journal::Journal;
use schema::{PartitionId, Position};
use serde::{Deserialize, Serialize};
use store::history::HistoryError;
use store::{Attributes, History};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

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
    #[error("cannot write to the history: {0}")]
    History(#[from] HistoryError),
    #[error("cannot register the recorder's metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// How far a partition is recorded.
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

/// The running recorder. Dropped, it ends as well, without waiting for it.
#[derive(Debug)]
pub struct Recorder {
    journal: Journal,
    progress: Vec<Arc<Progress>>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
    runtime: Option<Runtime>,
}

impl Recorder {
    /// Starts a task for each partition of the journal.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then. A partition that can't be read is no
    /// such error: it stands in [`Recorder::status`] as stopped.
    pub async fn start(
        journal: &Journal,
        history: &History,
        attributes: &Attributes,
        options: &RecorderOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        let metrics = RecorderMetrics::register(registry)?;
        let (stop, stopping) = watch::channel(false);
        let mut recorders = Vec::new();
        let mut progress = Vec::new();
        for partition in (0..journal.partitions()).map(PartitionId) {
            let recorder = PartitionRecorder {
                journal: journal.clone(),
                partition,
                writer: history.writer(partition).await?,
                history: history.clone(),
                attributes: attributes.clone(),
                options: options.clone(),
                stopping: stopping.clone(),
                progress: Arc::default(),
                metrics: metrics.of(partition),
            };
            progress.push(Arc::clone(&recorder.progress));
            recorders.push(recorder);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads(options))
            .thread_name("recorder")
            .enable_time()
            .build()?;
        let mut tasks = JoinSet::new();
        for recorder in recorders {
            tasks.spawn_on(recorder.run(), runtime.handle());
        }
        let (tasks, runtime) = (Mutex::new(tasks), Some(runtime));
        Ok(Self { journal: journal.clone(), progress, stop, tasks, runtime })
    }

    /// How far each partition is.
    #[must_use]
    pub fn status(&self) -> Vec<PartitionStatus> {
        let of = |(partition, progress): (u16, &Arc<Progress>)| {
            let partition = PartitionId(partition);
            let position = progress.position();
            let behind = self.journal.bounds(partition).next.0.saturating_sub(position.0);
            PartitionStatus { partition, position, behind, stopped: progress.stopped() }
        };
        (0..).zip(&self.progress).map(of).collect()
    }

    /// Ends each task behind the records that it has in hand. What is not in
    /// the history's files then is read from the journal again at the next start.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a recorder's task failed");
            }
        }
    }
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
