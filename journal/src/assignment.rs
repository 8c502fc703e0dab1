//! Which partitions are this process's to work on, for one role, and the tasks
//! that work on them.

use std::collections::BTreeMap;
use std::future::pending;

use prometheus::{IntCounter, IntGauge, Opts, Registry};
use schema::PartitionId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::kafka::Membership;

/// Partitions that are this process's now, by `role`.
const OWNED: &str = "baken_partitions_owned";
/// Partitions that came and went, by `role` and `kind`: assigned, revoked, lost.
const MOVES: &str = "baken_partition_moves_total";

/// The partition whose owner also does what is done once for all of them.
pub const FIRST: PartitionId = PartitionId(0);

/// What has changed of the partitions that are this process's.
#[derive(Debug)]
pub enum AssignmentChange {
    /// Its own from now on. A former owner may not know yet that it has lost
    /// them: what it writes must bear an epoch.
    Assigned(Vec<PartitionId>),
    /// Another is to have them. It gets them when the [`Release`] is dropped, or
    /// when its patience ends, so that what is in hand can be finished.
    Revoked(Vec<PartitionId>, Release),
    /// Another may have them already: this process was not heard for too long.
    Lost(Vec<PartitionId>),
}

/// While it is kept, revoked partitions are not yet another's.
#[derive(Debug)]
pub struct Release {
    // Whoever waits for it sees that it is gone.
    _kept: std::sync::mpsc::SyncSender<()>,
}

impl Release {
    pub(crate) fn new(kept: std::sync::mpsc::SyncSender<()>) -> Self {
        Self { _kept: kept }
    }
}

/// The partitions of one role that are this process's, as they come and go.
/// Dropped, it gives all of them back.
#[derive(Debug)]
pub struct Assignment {
    changes: mpsc::Receiver<AssignmentChange>,
    /// Of a journal that other processes may share.
    membership: Option<Membership>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Metrics {
    owned: IntGauge,
    assigned: IntCounter,
    revoked: IntCounter,
    lost: IntCounter,
}

impl Metrics {
    fn register(role: &str, registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Partitions that are this node's.";
        let owned = IntGauge::with_opts(Opts::new(OWNED, help).const_label("role", role))?;
        registry.register(Box::new(owned.clone()))?;
        let moves = |kind: &str| {
            let options = Opts::new(MOVES, "Partitions that came to this node and left it.");
            let options = options.const_label("role", role).const_label("kind", kind);
            let counter = IntCounter::with_opts(options)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            owned,
            assigned: moves("assigned")?,
            revoked: moves("revoked")?,
            lost: moves("lost")?,
        })
    }

    fn count(&self, change: &AssignmentChange) {
        let (counter, partitions) = match change {
            AssignmentChange::Assigned(partitions) => (&self.assigned, partitions),
            AssignmentChange::Revoked(partitions, _) => (&self.revoked, partitions),
            AssignmentChange::Lost(partitions) => (&self.lost, partitions),
        };
        counter.inc_by(partitions.len() as u64);
    }
}

/// A task that works on a partition, and the word for it to end.
struct Work {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Whatever ends the keeper of a task ends the task.
impl Drop for Work {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Assignment {
    pub(crate) fn new(
        changes: mpsc::Receiver<AssignmentChange>,
        membership: Option<Membership>,
        role: &str,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self { changes, membership, metrics: Metrics::register(role, registry)? })
    }

    /// All partitions, for as long as the process runs.
    pub(crate) fn of_all(
        partitions: u16,
        role: &str,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let (sender, changes) = mpsc::channel(1);
        let all = (0..partitions).map(PartitionId).collect();
        // The receiver is here, and has room.
        let _ = sender.try_send(AssignmentChange::Assigned(all));
        Self::new(changes, None, role, registry)
    }

    /// Whether all partitions are this process's for as long as it runs, so that
    /// they may be told of before their tasks have begun.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.membership.is_none()
    }

    /// Waits for the next change. Cancelling it loses nothing.
    pub async fn next(&mut self) -> AssignmentChange {
        match self.changes.recv().await {
            Some(change) => change,
            // Nothing changes any more.
            None => pending().await,
        }
    }

    /// Runs a task for each partition, from when it is this process's until it is
    /// another's or `stopping` turns true; then all have ended and all partitions
    /// are given back. `begin` makes the task, which ends when its own word turns
    /// true.
    pub async fn run<T>(
        mut self,
        mut stopping: watch::Receiver<bool>,
        mut begin: impl FnMut(PartitionId, watch::Receiver<bool>) -> T,
    ) where
        T: Future<Output = ()> + Send + 'static,
    {
        let mut running: BTreeMap<PartitionId, Work> = BTreeMap::new();
        loop {
            let change = tokio::select! {
                change = self.next() => change,
                // Whoever starts it may be gone, which stops it too.
                _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
            };
            self.metrics.count(&change);
            match change {
                AssignmentChange::Assigned(partitions) => {
                    for partition in partitions {
                        end(running.remove(&partition)).await;
                        let (stop, is_stopping) = watch::channel(false);
                        let task = tokio::spawn(begin(partition, is_stopping));
                        running.insert(partition, Work { stop, task });
                    }
                }
                AssignmentChange::Revoked(partitions, release) => {
                    end(taken(&mut running, &partitions)).await;
                    drop(release);
                }
                AssignmentChange::Lost(partitions) => end(taken(&mut running, &partitions)).await,
            }
            self.metrics.owned.set(i64::try_from(running.len()).unwrap_or(i64::MAX));
        }
        end(running.into_values()).await;
        self.metrics.owned.set(0);
        self.leave().await;
    }

    /// Runs one task for all partitions, on one process at a time: where the first
    /// partition is.
    pub async fn run_once<T>(
        self,
        stopping: watch::Receiver<bool>,
        mut begin: impl FnMut(watch::Receiver<bool>) -> T,
    ) where
        T: Future<Output = ()> + Send + 'static,
    {
        let each = |partition: PartitionId, ending: watch::Receiver<bool>| {
            let work = (partition == FIRST).then(|| begin(ending));
            async move {
                if let Some(work) = work {
                    work.await;
                }
            }
        };
        self.run(stopping, each).await;
    }

    /// Gives all partitions back, so that others have them at once. What works on
    /// them must have ended.
    pub async fn leave(self) {
        let Self { changes, membership, .. } = self;
        // Nobody answers what is revoked now.
        drop(changes);
        if let Some(membership) = membership {
            membership.leave().await;
        }
    }
}

fn taken(running: &mut BTreeMap<PartitionId, Work>, partitions: &[PartitionId]) -> Vec<Work> {
    partitions.iter().filter_map(|partition| running.remove(partition)).collect()
}

/// Ends tasks, all at once.
async fn end(works: impl IntoIterator<Item = Work>) {
    let works: Vec<Work> = works.into_iter().collect();
    for work in &works {
        work.stop.send_replace(true);
    }
    for mut work in works {
        if let Err(error) = (&mut work.task).await {
            tracing::error!(%error, "a partition's task failed");
        }
    }
}
