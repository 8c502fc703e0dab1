//! The way into the partitions' batchers, bounded in bytes.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use journal::Journal;
use schema::{MAX_RECORD_ROWS, PartitionId, RecordKind, RouterId, TenantId, TimestampMs};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::batcher::Batcher;
use super::metrics::{BatchMetrics, PartitionMetrics};
use super::{KeyTable, Rows};

/// What one socket read of one router brought, of one kind.
#[derive(Debug)]
pub struct Submission {
    pub tenant: TenantId,
    pub router: RouterId,
    /// When the broker read it from its socket.
    pub received_at: TimestampMs,
    pub kind: RecordKind,
    pub rows: Rows,
}

/// How submissions are gathered. Part of the server's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchOptions {
    /// The most bytes of submissions of one partition that are not durable yet.
    /// Past it submitters wait, and so their sockets.
    pub queue_bytes: usize,
    /// A record is closed once it has as many rows; at most 65,536.
    pub max_record_rows: usize,
    /// A record is closed once it has as many bytes before compression.
    pub max_record_bytes: usize,
    /// Records of one partition that the journal may have in hand while the
    /// next is being gathered.
    pub max_records_in_flight: usize,
    /// While the journal has a record of the partition in hand, the next one is
    /// worth its own cost only with as many rows; fewer wait for that one, and
    /// share the fsync that they would have waited for anyway.
    pub pipelined_rows: usize,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            queue_bytes: 16 << 20,
            max_record_rows: 16_384,
            max_record_bytes: 4 << 20,
            max_records_in_flight: 4,
            pipelined_rows: 1_024,
        }
    }
}

/// What a submission counts at least against `queue_bytes`, for its own parts
/// and its place in the queue.
const MIN_SUBMISSION_BYTES: usize = 256;

/// Why a submission is not durable. Nothing of it may be acknowledged; the
/// publisher keeps it and sends it again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the journal can't take the readings: {0}")]
    Journal(#[from] journal::AppendError),
    #[error("the journal is being closed")]
    Closed,
}

/// The node's queues into its partitions; a cheap handle.
#[derive(Clone, Debug)]
pub struct Submitter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    keys: KeyTable,
    lanes: Vec<Lane>,
    closing: watch::Sender<bool>,
    batchers: Mutex<JoinSet<()>>,
}

/// The queue into one partition.
#[derive(Debug)]
struct Lane {
    /// What bounds the queue, in bytes.
    room: Arc<Semaphore>,
    room_bytes: usize,
    /// Holds as many submissions as the room has places for, so it is never full.
    queue: mpsc::Sender<Queued>,
    metrics: PartitionMetrics,
}

/// A submission on its way, with who waits for it.
#[derive(Debug)]
pub(super) struct Queued {
    pub submission: Submission,
    pub waiter: Waiter,
}

impl Queued {
    pub(super) fn rows(&self) -> usize {
        self.submission.rows.as_slice().len()
    }
}

/// Who waits for a submission, and the room that it takes until it is durable.
#[derive(Debug)]
pub(super) struct Waiter {
    pub done: oneshot::Sender<Result<(), SubmitError>>,
    pub since: Instant,
    pub room: OwnedSemaphorePermit,
}

impl Submitter {
    /// Starts a batcher for each partition of `journal` on the current runtime.
    ///
    /// # Errors
    /// When a metric of the same name is registered already.
    pub fn start(
        journal: &Journal,
        options: &BatchOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let keys = KeyTable::new();
        let metrics = BatchMetrics::register(registry)?;
        let (closing, closed) = watch::channel(false);
        let mut batchers = JoinSet::new();
        let mut lanes = Vec::new();
        let room_bytes = options.queue_bytes.clamp(MIN_SUBMISSION_BYTES, u32::MAX as usize);
        let room_bytes = room_bytes.min(Semaphore::MAX_PERMITS);
        let options = BatchOptions {
            max_record_rows: options.max_record_rows.clamp(1, MAX_RECORD_ROWS),
            max_records_in_flight: options.max_records_in_flight.max(1),
            ..options.clone()
        };
        for partition in (0..journal.partitions()).map(PartitionId) {
            let (queue, submissions) = mpsc::channel(room_bytes / MIN_SUBMISSION_BYTES);
            let metrics = metrics.of(partition, room_bytes);
            let batcher = Batcher::new(
                journal.clone(),
                partition,
                options.clone(),
                keys.clone(),
                metrics.clone(),
            );
            batchers.spawn(batcher.run(submissions, closed.clone()));
            let room = Arc::new(Semaphore::new(room_bytes));
            lanes.push(Lane { room, room_bytes, queue, metrics });
        }
        Ok(Self {
            shared: Arc::new(Shared { keys, lanes, closing, batchers: Mutex::new(batchers) }),
        })
    }

    /// The keys of the node; every [`super::KeyCache`] is made from it.
    #[must_use]
    pub fn keys(&self) -> &KeyTable {
        &self.shared.keys
    }

    /// Waits for room in the partition's queue. The submissions of one caller
    /// keep their order. Dropping this future before it is ready submits nothing.
    /// A submission larger than the whole queue waits until it has the queue to
    /// itself. One without rows is durable at once.
    ///
    /// # Errors
    /// [`SubmitError::Closed`] once [`Submitter::close`] was called.
    ///
    /// # Panics
    /// If the journal has no such partition, or for commands, which are no rows.
    pub async fn submit(
        &self,
        partition: PartitionId,
        submission: Submission,
    ) -> Result<Completion, SubmitError> {
        assert_ne!(submission.kind, RecordKind::Commands, "commands are no rows of a router");
        let lane = &self.shared.lanes[usize::from(partition.0)];
        let (done, completion) = oneshot::channel();
        if submission.rows.is_empty() {
            done.send(Ok(())).unwrap_or_default();
            return Ok(Completion { done: completion });
        }
        let bytes = submission.rows.size_bytes().clamp(MIN_SUBMISSION_BYTES, lane.room_bytes);
        let permits = u32::try_from(bytes).expect("the room is at most u32::MAX bytes");
        let room = match Arc::clone(&lane.room).try_acquire_many_owned(permits) {
            Ok(room) => room,
            Err(_) => Arc::clone(&lane.room)
                .acquire_many_owned(permits)
                .await
                .map_err(|_| SubmitError::Closed)?,
        };
        lane.metrics.submissions.inc();
        lane.metrics.queue_bytes.add(i64::from(permits));
        let waiter = Waiter { done, since: Instant::now(), room };
        // Full it can't be: each place costs its share of the room.
        match lane.queue.try_send(Queued { submission, waiter }) {
            Ok(()) => Ok(Completion { done: completion }),
            Err(_) => {
                lane.metrics.queue_bytes.sub(i64::from(permits));
                Err(SubmitError::Closed)
            }
        }
    }

    /// Takes no more submissions and waits until those taken are durable or
    /// have failed.
    ///
    /// # Panics
    /// If a batcher panicked.
    pub async fn close(&self) {
        for lane in &self.shared.lanes {
            lane.room.close();
        }
        self.shared.closing.send_replace(true);
        let mut batchers = {
            let mut shared = self.shared.batchers.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *shared)
        };
        while let Some(result) = batchers.join_next().await {
            result.expect("a batcher does not panic");
        }
    }
}

/// Resolves once all of a submission's rows are durable, or can't be.
#[derive(Debug)]
#[must_use = "nothing may be acknowledged before it resolves"]
pub struct Completion {
    done: oneshot::Receiver<Result<(), SubmitError>>,
}

impl Future for Completion {
    type Output = Result<(), SubmitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done)
            .poll(context)
            .map(|result| result.unwrap_or(Err(SubmitError::Closed)))
    }
}
