//! What producer, feed and readers of one journal have in common.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use schema::{PartitionId, Position, RecordRows, TimestampMs};
use tokio::sync::{Semaphore, watch};

use super::KafkaOptions;
use super::consumers::Consumers;
use super::metrics::Counts;
use crate::metrics::ReaderLag;
use crate::tail::Tail;
use crate::{Bounds, JournalStatus, PartitionStatus, StallReason, Writing};

/// Records that this process has made are known decoded until they come back,
/// at most so many of a partition.
const MAX_DECODED: usize = 512;

/// Without an acknowledgement for so long, while records wait, the journal
/// counts as stalled.
const STALL_MS: i64 = 5_000;

/// What a reader waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// From here on entries are, or will be, in memory.
    pub base: u64,
    /// The first position that was not fetched yet.
    pub next: u64,
    pub closed: bool,
}

#[derive(Debug)]
pub(super) struct Partition {
    /// The first position that Kafka keeps, as far as we know.
    pub oldest: AtomicU64,
    /// The first position that is not durable, as far as we know.
    pub next: AtomicU64,
    pub tail: Mutex<Tail>,
    pub view: watch::Sender<View>,
    /// Readers that are there; the feed follows the partition for them.
    pub readers: AtomicUsize,
    /// What this process has appended and not fetched yet, decoded.
    decoded: Mutex<VecDeque<(u64, Arc<RecordRows>)>>,
    /// What readers that have spoken still need.
    holds: Mutex<Vec<(&'static str, u64)>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub options: KafkaOptions,
    pub partitions: Vec<Partition>,
    pub counts: Counts,
    /// Bytes that may wait for the brokers.
    pub room: Arc<Semaphore>,
    /// Readers that are behind and have a consumer for it.
    pub catching_up: Arc<Semaphore>,
    pub consumers: Consumers,
    pub closed: AtomicBool,
    /// Records that wait for the brokers, and when one was last acknowledged or
    /// the first began to wait.
    pub pending: AtomicUsize,
    progressed_at: AtomicI64,
    /// Partitions that the feed is to follow from a position, or to leave.
    pub wanted: Mutex<Vec<(u16, Option<u64>)>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Partition {
    fn new(oldest: u64, next: u64, tail_bytes: usize) -> Self {
        Self {
            oldest: AtomicU64::new(oldest),
            next: AtomicU64::new(next),
            tail: Mutex::new(Tail::new(tail_bytes)),
            view: watch::Sender::new(View { base: u64::MAX, next: 0, closed: false }),
            readers: AtomicUsize::new(0),
            decoded: Mutex::default(),
            holds: Mutex::default(),
        }
    }

    /// What is at `position` was made here and is at hand decoded.
    pub fn keep_decoded(&self, position: u64, rows: Arc<RecordRows>) {
        let mut decoded = lock(&self.decoded);
        if decoded.len() == MAX_DECODED {
            decoded.pop_front();
        }
        decoded.push_back((position, rows));
    }

    /// The same, once, and without all that is before it.
    pub fn take_decoded(&self, position: u64) -> Option<Arc<RecordRows>> {
        let mut decoded = lock(&self.decoded);
        while decoded.front().is_some_and(|(kept, _)| *kept < position) {
            decoded.pop_front();
        }
        decoded.pop_front_if(|(kept, _)| *kept == position).map(|(_, rows)| rows)
    }

    pub fn bounds(&self) -> Bounds {
        let next = self.next.load(Ordering::Acquire);
        Bounds {
            oldest: Position(self.oldest.load(Ordering::Acquire).min(next)),
            next: Position(next),
        }
    }
}

impl Shared {
    /// `watermarks`: oldest and next of each partition.
    pub fn new(options: KafkaOptions, watermarks: &[(u64, u64)], counts: Counts) -> Self {
        let tail_bytes = options.tail_bytes / watermarks.len().max(1);
        let partition = |(oldest, next): &(u64, u64)| Partition::new(*oldest, *next, tail_bytes);
        Self {
            partitions: watermarks.iter().map(partition).collect(),
            counts,
            room: Arc::new(Semaphore::new(options.queue_bytes)),
            catching_up: Arc::new(Semaphore::new(super::MAX_CATCHING_UP)),
            closed: AtomicBool::new(false),
            consumers: Consumers::default(),
            pending: AtomicUsize::new(0),
            progressed_at: AtomicI64::new(now_ms()),
            wanted: Mutex::default(),
            options,
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub fn begin_waiting(&self) {
        if self.pending.fetch_add(1, Ordering::AcqRel) == 0 {
            self.progressed_at.store(now_ms(), Ordering::Release);
        }
    }

    pub fn end_waiting(&self, acknowledged: bool) {
        self.pending.fetch_sub(1, Ordering::AcqRel);
        if acknowledged {
            self.progressed_at.store(now_ms(), Ordering::Release);
        }
    }

    pub fn hold(&self, name: &'static str, partition: PartitionId, needed: Position) {
        let mut holds = lock(&self.partitions[usize::from(partition.0)].holds);
        match holds.iter_mut().find(|(known, _)| *known == name) {
            Some((_, held)) => *held = needed.0,
            None => holds.push((name, needed.0)),
        }
    }

    pub fn let_go(&self, name: &'static str, partition: PartitionId) {
        let mut holds = lock(&self.partitions[usize::from(partition.0)].holds);
        holds.retain(|(known, _)| *known != name);
    }

    pub fn status(&self) -> JournalStatus {
        let progressed_at = self.progressed_at.load(Ordering::Acquire);
        let is_stalled = self.pending.load(Ordering::Acquire) > 0
            && now_ms().saturating_sub(progressed_at) > STALL_MS;
        let writing = match (self.is_closed(), is_stalled) {
            (true, _) => Writing::Closed,
            (false, true) => {
                Writing::Stalled { reason: StallReason::Brokers, since: TimestampMs(progressed_at) }
            }
            (false, false) => Writing::Writable,
        };
        let partitions = (0u16..).zip(&self.partitions).map(|(number, partition)| {
            let Bounds { oldest, next } = partition.bounds();
            PartitionStatus { partition: PartitionId(number), oldest, next, stopped: None }
        });
        let free = self.room.available_permits();
        JournalStatus {
            writing,
            bytes_on_disk: 0,
            segments: 0,
            queue_bytes: self.options.queue_bytes.saturating_sub(free),
            queue_limit_bytes: self.options.queue_bytes,
            partitions: partitions.collect(),
            held_back: None,
        }
    }

    /// How far each reader that has spoken is behind.
    pub fn lags(&self) -> Vec<ReaderLag> {
        let all = (0u16..).zip(&self.partitions);
        let lags = all.flat_map(|(partition, state)| {
            let next = state.bounds().next.0;
            let of = move |(reader, needed): (&'static str, u64)| ReaderLag {
                reader,
                partition,
                records: next.saturating_sub(needed),
            };
            lock(&state.holds).clone().into_iter().map(of)
        });
        lags.collect()
    }
}
