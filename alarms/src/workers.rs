//! All partitions' workers, on threads of their own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use journal::Journal;
use schema::{PartitionId, Position};
use serde::{Deserialize, Serialize};
use store::Store;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::commands::AlarmCommands;
use crate::follower::Follower;
use crate::metrics::AlarmMetrics;
use crate::partition::PartitionWorker;

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
}

/// How far a partition's alarms are.
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
    pub position: Position,
    pub stopped: Option<String>,
}

/// The running workers. Dropped, they end as well, without being waited for.
#[derive(Debug)]
pub struct AlarmWorkers {
    journal: Journal,
    progress: Arc<[watch::Receiver<Progress>]>,
    commands: AlarmCommands,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
    runtime: Option<Runtime>,
}

impl AlarmWorkers {
    /// Takes over all partitions of the journal and starts a task for each.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then. A partition that can't be taken over
    /// is no such error: it stands in [`AlarmWorkers::status`] as stopped.
    pub fn start(
        journal: &Journal,
        store: &Store,
        options: &AlarmOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        let metrics = AlarmMetrics::register(registry)?;
        let (stop, stopping) = watch::channel(false);
        let (mut workers, mut progress) = (Vec::new(), Vec::new());
        for partition in (0..journal.partitions()).map(PartitionId) {
            let (sender, receiver) = watch::channel(Progress::default());
            progress.push(receiver);
            workers.push(PartitionWorker {
                journal: journal.clone(),
                directory: store.directory().clone(),
                store: store.alarms().clone(),
                partition,
                options: options.clone(),
                progress: sender,
                stopping: stopping.clone(),
                metrics: metrics.of(partition),
            });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads(options))
            .thread_name("alarms")
            .enable_time()
            .build()?;
        let progress: Arc<[_]> = progress.into();
        let commands =
            AlarmCommands::new(journal.clone(), store.alarms().clone(), progress.clone());
        let mut tasks = JoinSet::new();
        for worker in workers {
            tasks.spawn_on(worker.run(), runtime.handle());
        }
        let follower = Follower {
            journal: journal.clone(),
            directory: store.directory().clone(),
            store: store.alarms().clone(),
            commands: commands.clone(),
            retry: Duration::from_millis(options.retry_ms),
            refused_repeat: Duration::from_millis(options.refused_repeat_ms),
            carried: metrics.carried.clone(),
            stopping: stopping.clone(),
        };
        tasks.spawn_on(follower.run(), runtime.handle());
        tasks.spawn_on(commands.clone().deliver_at_start(stopping), runtime.handle());
        let (tasks, runtime) = (Mutex::new(tasks), Some(runtime));
        Ok(Self { journal: journal.clone(), progress, commands, stop, tasks, runtime })
    }

    /// The way in for commands and profiles.
    #[must_use]
    pub fn commands(&self) -> &AlarmCommands {
        &self.commands
    }

    /// How far each partition is.
    #[must_use]
    pub fn status(&self) -> Vec<PartitionStatus> {
        let of = |(partition, progress): (u16, &watch::Receiver<Progress>)| {
            let partition = PartitionId(partition);
            let Progress { position, stopped } = progress.borrow().clone();
            let behind = self.journal.bounds(partition).next.0.saturating_sub(position.0);
            PartitionStatus { partition, position, behind, stopped }
        };
        (0..).zip(self.progress.iter()).map(of).collect()
    }

    /// Ends each task behind the records that it has in hand, with a snapshot,
    /// so that the next start replays little.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "an alarm worker failed");
            }
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
