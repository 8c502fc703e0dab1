//! The workers of this node's partitions, on threads of their own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use journal::{FIRST, Journal, OpenError};
use schema::{PartitionId, Position};
use serde::{Deserialize, Serialize};
use store::Store;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::commands::AlarmCommands;
use crate::follower::Follower;
use crate::metrics::AlarmMetrics;
use crate::partition::PartitionWorker;
use crate::transitions::{Publisher, PublisherHandle, Publishing};

/// How the workers run. Part of the server's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmOptions {
    /// Threads for all partitions together; 0 takes half of the cores, so that
    /// the other half is left to the broker while a backlog is caught up.
    pub threads: usize,
    /// How long a device must be silent before its deadlines fire by the clock.
    pub grace_ms: i64,
    /// Records that are evaluated before a commit, at most.
    pub max_batch_records: usize,
    /// How often a position without transitions is committed.
    pub commit_interval_ms: u64,
    /// The longest pause of an idle partition.
    pub idle_ms: u64,
    /// A snapshot is due after so many rows …
    pub snapshot_rows: u64,
    /// … or so long after the last one.
    pub snapshot_interval_ms: u64,
    /// The pause before a failed write is tried again.
    pub retry_ms: u64,
    /// The longest time from one reading that tells of a router's refused
    /// messages to the next, while they go on.
    pub refused_repeat_ms: u64,
}

impl Default for AlarmOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            grace_ms: 2_000,
            max_batch_records: 64,
            commit_interval_ms: 1_000,
            idle_ms: 500,
            snapshot_rows: 2_000_000,
            snapshot_interval_ms: 30_000,
            retry_ms: 250,
            refused_repeat_ms: 62_000,
        }
    }
}

/// Why the workers did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot start the alarm workers' threads: {0}")]
    Threads(#[from] std::io::Error),
    #[error("cannot register the alarm workers' metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("cannot take part in the work on the partitions: {0}")]
    Assignment(#[from] OpenError),
}

/// How far the alarms of a partition are that this node works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    pub partition: PartitionId,
    /// All that came of records before it is committed.
    pub position: Position,
    /// Durable records behind it.
    pub behind: u64,
    /// Why it stopped, if it did.
    pub stopped: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Of a partition that is another's, where it stood when it was last ours.
    pub position: Position,
    /// This node works on it.
    pub is_owned: bool,
    pub stopped: Option<String>,
}

/// The name of the work on the partitions.
const ROLE: &str = "alarms";

/// The running workers of the partitions that are this node's, and the way in for
/// commands to all. Dropped, they end as well, without being waited for.
#[derive(Debug)]
pub struct AlarmWorkers {
    journal: Journal,
    progress: Arc<[watch::Receiver<Progress>]>,
    commands: AlarmCommands,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
    runtime: Option<Runtime>,
}

/// What the workers of all partitions have in common.
#[derive(Debug)]
struct Workshop {
    journal: Journal,
    store: Store,
    options: AlarmOptions,
    metrics: AlarmMetrics,
    senders: Vec<watch::Sender<Progress>>,
    commands: AlarmCommands,
    publisher: Option<PublisherHandle>,
}

impl Workshop {
    /// Works on a partition until `ending` turns true.
    fn work(
        &self,
        partition: PartitionId,
        ending: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let worker = PartitionWorker {
            journal: self.journal.clone(),
            directory: self.store.directory().clone(),
            store: self.store.alarms().clone(),
            partition,
            options: self.options.clone(),
            progress: self.senders[usize::from(partition.0)].clone(),
            stopping: ending.clone(),
            metrics: self.metrics.of(partition),
            publisher: self.publisher.clone(),
        };
        let once = (partition == FIRST).then(|| self.once(ending));
        async move {
            let once = async {
                if let Some(once) = once {
                    once.await;
                }
            };
            tokio::join!(worker.run(), once);
        }
    }

    /// What one node does for all partitions.
    fn once(&self, ending: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
        let follower = Follower {
            journal: self.journal.clone(),
            directory: self.store.directory().clone(),
            store: self.store.alarms().clone(),
            commands: self.commands.clone(),
            retry: Duration::from_millis(self.options.retry_ms),
            refused_repeat: Duration::from_millis(self.options.refused_repeat_ms),
            carried: self.metrics.carried.clone(),
            stopping: ending.clone(),
        };
        let deliver = self.commands.clone().deliver_at_start(ending);
        async move {
            tokio::join!(follower.run(), deliver);
        }
    }
}

impl AlarmWorkers {
    /// Works on the partitions that are this node's: all of a journal in a folder,
    /// a share of one in Kafka. Their transitions are published for others, where
    /// it is said how.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then. A partition that can't be taken over
    /// is no such error: it stands in [`AlarmWorkers::status`] as stopped.
    pub fn start(
        journal: &Journal,
        store: &Store,
        options: &AlarmOptions,
        publishing: Option<Publishing>,
        registry: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads(options))
            .thread_name("alarms")
            .enable_time()
            .build()?;
        let assignment = journal.assignment(ROLE, registry)?;
        let (mut workers, mut workshop) = Self::assemble(journal, store, options, registry)?;
        let publisher = publishing
            .map(|it| Publisher::new(store.alarms(), it, journal.partitions(), registry))
            .transpose()?;
        let (publisher, handle) = publisher.unzip();
        workshop.publisher = handle;
        if assignment.is_whole() {
            for sender in &workshop.senders {
                sender.send_modify(|progress| progress.is_owned = true);
            }
        }
        let begin = move |partition, ending| workshop.work(partition, ending);
        let work = assignment.run(workers.stop.subscribe(), begin);
        let publish = async {
            if let Some(publisher) = publisher {
                publisher.run().await;
            }
        };
        let work = async {
            tokio::join!(work, publish);
        };
        workers.task.get_mut().unwrap_or_else(PoisonError::into_inner).replace(runtime.spawn(work));
        workers.runtime = Some(runtime);
        Ok(workers)
    }

    /// Works on no partition; commands are taken all the same, and answered when
    /// another node has done them.
    ///
    /// # Errors
    /// [`StartError::Metrics`].
    pub fn elsewhere(
        journal: &Journal,
        store: &Store,
        options: &AlarmOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        Ok(Self::assemble(journal, store, options, registry)?.0)
    }

    fn assemble(
        journal: &Journal,
        store: &Store,
        options: &AlarmOptions,
        registry: &prometheus::Registry,
    ) -> Result<(Self, Workshop), StartError> {
        let metrics = AlarmMetrics::register(registry)?;
        let channels = (0..journal.partitions()).map(|_| watch::channel(Progress::default()));
        let (senders, progress): (Vec<_>, Vec<_>) = channels.unzip();
        let progress: Arc<[_]> = progress.into();
        let commands =
            AlarmCommands::new(journal.clone(), store.alarms().clone(), progress.clone());
        let workers = Self {
            journal: journal.clone(),
            progress,
            commands: commands.clone(),
            stop: watch::Sender::new(false),
            task: Mutex::default(),
            runtime: None,
        };
        let (journal, store, options) = (journal.clone(), store.clone(), options.clone());
        let publisher = None;
        let workshop = Workshop { journal, store, options, metrics, senders, commands, publisher };
        Ok((workers, workshop))
    }

    /// The way in for commands and profiles.
    #[must_use]
    pub fn commands(&self) -> &AlarmCommands {
        &self.commands
    }

    /// How far each partition of this node is.
    #[must_use]
    pub fn status(&self) -> Vec<PartitionStatus> {
        let of = |(partition, progress): (u16, &watch::Receiver<Progress>)| {
            let partition = PartitionId(partition);
            let Progress { position, is_owned, stopped } = progress.borrow().clone();
            let behind = self.journal.bounds(partition).next.0.saturating_sub(position.0);
            is_owned.then_some(PartitionStatus { partition, position, behind, stopped })
        };
        (0..).zip(self.progress.iter()).filter_map(of).collect()
    }

    /// Ends each task behind the records that it has in hand, with a snapshot,
    /// so that the next start, or the next owner, replays little.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the alarm workers failed");
        }
    }
}

impl Drop for AlarmWorkers {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            // A runtime may be dropped by a task of another; waiting there panics.
            runtime.shutdown_background();
        }
    }
}

fn threads(options: &AlarmOptions) -> usize {
    if options.threads > 0 {
        return options.threads;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}
