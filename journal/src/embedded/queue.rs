//! Records on their way to the writer: bounded in bytes, in the order in which
//! they were taken in.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use schema::{Position, Record, RecordKind, RecordRows};
use tokio::sync::{Semaphore, oneshot};

use super::frame::HEADER_BYTES;
use crate::{AppendError, Pending};

/// A record that waits to be durable.
#[derive(Debug)]
pub(super) struct Queued {
    pub partition: u16,
    pub kind: RecordKind,
    pub rows: u32,
    pub payload: Bytes,
    pub decoded: Option<Arc<RecordRows>>,
    pub payload_crc: u32,
    /// Its share of the queue's room.
    pub room: u32,
    pub done: oneshot::Sender<Result<Position, AppendError>>,
}

impl Queued {
    pub(super) fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

/// What the writer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Group,
    /// Nothing came for a while.
    Idle,
    /// Nothing is left and nothing will come.
    Closed,
}

/// What the writer asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    /// The most bytes of a group, unless its one record is larger.
    pub limit_bytes: usize,
    /// How long to wait for a first record.
    pub patience: Duration,
    /// A group is taken at the earliest then, unless enough waits.
    pub not_before: Option<Instant>,
}

#[derive(Debug, Default)]
struct Inside {
    records: VecDeque<Queued>,
    bytes: usize,
    closing: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    inside: Mutex<Inside>,
    changed: Condvar,
    room: Semaphore,
    limit_bytes: usize,
    /// With as many bytes a group waits for nothing more.
    enough_bytes: usize,
}

impl Queue {
    pub(super) fn new(limit_bytes: usize, enough_bytes: usize) -> Self {
        Self {
            inside: Mutex::default(),
            changed: Condvar::new(),
            room: Semaphore::new(limit_bytes),
            limit_bytes,
            enough_bytes,
        }
    }

    pub(super) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Bytes taken, about: what is being handed to a waiting submitter counts.
    pub(super) fn used_bytes(&self) -> usize {
        self.limit_bytes.saturating_sub(self.room.available_permits())
    }

    /// Waits for room and queues the record. A record larger than the queue
    /// waits until it is alone in it.
    pub(super) async fn push(
        &self,
        partition: u16,
        record: Record,
    ) -> Result<Pending, AppendError> {
        let payload_crc = crc32c::crc32c(&record.payload);
        let room = (HEADER_BYTES + record.memory_bytes()).min(self.limit_bytes);
        let room = u32::try_from(room).expect("options keep the limit below 1 GiB");
        let permits = self.room.acquire_many(room).await.map_err(|_| AppendError::Closed)?;
        let (done, pending) = oneshot::channel();
        let queued = Queued {
            partition,
            kind: record.kind,
            rows: record.rows,
            payload: record.payload,
            decoded: record.decoded,
            payload_crc,
            room,
            done,
        };
        let mut inside = self.lock();
        if inside.closing {
            return Err(AppendError::Closed);
        }
        permits.forget();
        let before = inside.bytes;
        inside.bytes += queued.frame_bytes();
        inside.records.push_back(queued);
        let is_first = inside.records.len() == 1;
        let is_enough = before < self.enough_bytes && inside.bytes >= self.enough_bytes;
        drop(inside);
        if is_first || is_enough {
            self.changed.notify_one();
        }
        Ok(Pending(pending))
    }

    /// Moves the next group to `group`, which is empty: as many records as fit,
    /// at least one.
    pub(super) fn take(&self, group: &mut Vec<Queued>, want: Want) -> Taken {
        let mut inside = self.wait(self.lock(), want.patience, |inside| inside.records.is_empty());
        if inside.records.is_empty() {
            return if inside.closing { Taken::Closed } else { Taken::Idle };
        }
        if let Some(not_before) = want.not_before {
            let pause = not_before.saturating_duration_since(Instant::now());
            inside = self.wait(inside, pause, |inside| inside.bytes < self.enough_bytes);
        }
        let mut bytes = 0;
        let mut count = 0;
        for record in &inside.records {
            if count > 0 && bytes + record.frame_bytes() > want.limit_bytes {
                break;
            }
            bytes += record.frame_bytes();
            count += 1;
        }
        inside.bytes -= bytes;
        group.extend(inside.records.drain(..count));
        Taken::Group
    }

    /// Waits while `longer` says so and the queue is open, at most `pause`.
    fn wait<'a>(
        &self,
        inside: MutexGuard<'a, Inside>,
        pause: Duration,
        longer: impl Fn(&Inside) -> bool,
    ) -> MutexGuard<'a, Inside> {
        if pause.is_zero() || inside.closing || !longer(&inside) {
            return inside;
        }
        self.changed
            .wait_timeout_while(inside, pause, |inside| !inside.closing && longer(inside))
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().records.is_empty()
    }

    /// Gives room back to submitters.
    pub(super) fn release(&self, room: usize) {
        self.room.add_permits(room);
    }

    /// No record is taken in any more.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.room.close();
        self.changed.notify_one();
    }

    /// Waits until the queue is closed, at most `patience`; answers whether it is.
    pub(super) fn wait_closed(&self, patience: Duration) -> bool {
        self.wait(self.lock(), patience, |_| true).closing
    }

    /// Drops all that waits; their submitters see the journal closed.
    pub(super) fn abandon(&self) {
        let mut inside = self.lock();
        inside.records.clear();
        inside.bytes = 0;
    }

    /// A panic while it is held leaves a whole queue, so poison says nothing.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
