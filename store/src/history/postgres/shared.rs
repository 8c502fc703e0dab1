//! What all tasks of the history in PostgreSQL share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use hashbrown::HashMap;
use schema::{PartitionId, Position, TenantId};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};

use super::PostgresHistoryOptions;
use super::commit::{Group, OnItsWay};
use super::link::Pool;
use super::metrics::Metrics;
use super::partition::{Ended, Partition};
use super::spans::Spans;
use crate::history::HistoryError;
use crate::history::options::DAY_MS;
use crate::sql::PostgresOptions;

#[derive(Debug)]
pub(super) struct Shared {
    pub server: PostgresOptions,
    pub options: PostgresHistoryOptions,
    pub partitions: Vec<Partition>,
    pub pool: Arc<Pool>,
    pub metrics: Metrics,
    /// True where `readings` is TimescaleDB's.
    pub is_timescale: bool,
    /// Held by the committer that looks what is due.
    pub turn: AsyncMutex<()>,
    /// Wakes it.
    pub gathered: Notify,
    /// Wakes who removes what has expired.
    pub retention_changed: Notify,
    spans: RwLock<Arc<Spans>>,
    retention_days: RwLock<HashMap<TenantId, u32>>,
    /// Where the next look for what is due begins, so that all have their turn.
    first: AtomicUsize,
    closed: AtomicBool,
    closing: watch::Sender<bool>,
}

impl Shared {
    pub fn new(
        server: PostgresOptions,
        options: PostgresHistoryOptions,
        positions: &[Position],
        pool: Arc<Pool>,
        is_timescale: bool,
        metrics: Metrics,
    ) -> Self {
        let ids = (0u16..).map(PartitionId);
        let partitions = ids.zip(positions).map(|(id, at)| Partition::new(id, *at)).collect();
        Self {
            server,
            options,
            partitions,
            pool,
            metrics,
            is_timescale,
            turn: AsyncMutex::default(),
            gathered: Notify::new(),
            retention_changed: Notify::new(),
            spans: RwLock::default(),
            retention_days: RwLock::default(),
            first: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            closing: watch::Sender::new(false),
        }
    }

    pub fn runtime(&self) -> &Handle {
        self.pool.runtime()
    }

    pub fn partition(&self, partition: PartitionId) -> Result<&Partition, HistoryError> {
        let known = u16::try_from(self.partitions.len()).unwrap_or(u16::MAX);
        let found = self.partitions.get(usize::from(partition.0));
        found.ok_or(HistoryError::Partition { asked: partition, known })
    }

    /// What is due, up to the limit of a transaction, and when the next look is.
    pub fn take_due(&self) -> (Group, Option<Instant>) {
        let now = Instant::now();
        let first = self.first.fetch_add(1, Ordering::Relaxed);
        let (mut group, mut rows, mut bytes) = (Group::new(), 0, 0);
        let mut next: Option<Instant> = None;
        for step in 0..self.partitions.len() {
            let partition = (first + step) % self.partitions.len();
            let mut state = self.partitions[partition].state();
            let Some(due) = state.due(&self.options) else { continue };
            if due > now {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            let (more_rows, more_bytes) = state.gathered();
            let is_over = rows + more_rows > self.options.group_rows
                || bytes + more_bytes > self.options.batch_bytes;
            if !group.is_empty() && is_over {
                // For the committer that looks next.
                self.gathered.notify_one();
                break;
            }
            (rows, bytes) = (rows + more_rows, bytes + more_bytes);
            let epoch = state.epoch;
            group.push(OnItsWay { partition, epoch, batch: state.begin_commit() });
            drop(state);
            // The writer has room again.
            self.partitions[partition].notify();
        }
        (group, next)
    }

    /// Notes that a batch is in the database.
    pub fn committed(&self, one: OnItsWay) {
        let partition = &self.partitions[one.partition];
        let mut state = partition.state();
        if state.epoch == one.epoch {
            state.committed(one.batch);
        } else {
            state.is_committing = false;
        }
        drop(state);
        partition.notify();
        self.gathered.notify_one();
    }

    /// Notes that a partition's writer can't go on.
    pub fn end(&self, one: &OnItsWay, why: Ended) {
        let partition = &self.partitions[one.partition];
        let mut state = partition.state();
        state.is_committing = false;
        if state.epoch == one.epoch {
            state.ended = Some(why);
        }
        drop(state);
        self.metrics.fenced.inc();
        partition.notify();
    }

    /// Notes why an attempt failed.
    pub fn failed(&self, group: &Group, error: HistoryError) {
        let error = Arc::new(error);
        for one in group {
            let partition = &self.partitions[one.partition];
            partition.state().failed = Some(error.clone());
            partition.notify();
        }
    }

    /// Leaves a batch to the journal.
    pub fn give_up(&self, one: &OnItsWay) {
        let partition = &self.partitions[one.partition];
        partition.state().is_committing = false;
        partition.notify();
    }

    /// Ends a partition's writer for a defect of ours.
    pub fn abandon(&self, partition: usize) {
        let partition = &self.partitions[partition];
        let mut state = partition.state();
        state.is_committing = false;
        state.ended.get_or_insert(Ended::Closed);
        drop(state);
        partition.notify();
    }

    pub fn spans(&self) -> Arc<Spans> {
        self.spans.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_spans(&self, spans: Arc<Spans>) {
        self.metrics.spans.set(spans.count());
        *self.spans.write().unwrap_or_else(PoisonError::into_inner) = spans;
    }

    /// Looks them up anew before they are needed next.
    pub fn forget_spans(&self) {
        self.set_spans(Arc::default());
    }

    /// Readings of the tenant before this time are neither shown nor kept.
    pub fn cutoff(&self, tenant: TenantId) -> i64 {
        let days = self.retention_days.read().unwrap_or_else(PoisonError::into_inner);
        match days.get(&tenant) {
            None | Some(0) => i64::MIN,
            Some(days) => self.options.clock.now().0.saturating_sub(i64::from(*days) * DAY_MS),
        }
    }

    pub fn set_retention(&self, tenant: TenantId, days: u32) {
        let mut known = self.retention_days.write().unwrap_or_else(PoisonError::into_inner);
        if known.insert(tenant, days) != Some(days) {
            self.retention_changed.notify_one();
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Resolves when the history is closed.
    pub async fn closing(&self) {
        // An error would mean that the sender, which is here, is gone.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Ends all work; what is not committed is left to the journal.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.closing.send_replace(true);
        for partition in &self.partitions {
            partition.state().ended.get_or_insert(Ended::Closed);
            partition.notify();
        }
        self.pool.close();
        self.gathered.notify_waiters();
        self.gathered.notify_one();
    }
}
