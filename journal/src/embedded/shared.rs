//! What submitters, readers and the writer share. No lock here is held across
//! a write or a sync.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use schema::{PartitionId, Position, TimestampMs};
use tokio::sync::watch;

use super::copy;
use super::folder::Meta;
use super::options::EmbeddedOptions;
use super::queue::Queue;
use super::recovery::Recovered;
use super::segment::Segment;
use crate::error::Corruption;
use crate::metrics::{Metrics, ReaderLag, State};
use crate::status::{HeldBack, JournalStatus, PartitionStatus, Writing};
use crate::tail::Tail;

/// What a reader waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// First position that is not durable.
    pub next: u64,
    pub stopped: bool,
    pub closed: bool,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub oldest: AtomicU64,
    pub view: watch::Sender<View>,
    pub tail: Mutex<Tail>,
    pub stopped: OnceLock<Arc<Corruption>>,
}

/// What a named reader still needs, per partition.
#[derive(Debug)]
pub(super) struct Hold {
    pub name: &'static str,
    pub needed: Vec<Option<u64>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub options: EmbeddedOptions,
    pub meta: Meta,
    pub partitions: Vec<Partition>,
    /// In order; the last one may be written.
    pub segments: RwLock<Vec<Arc<Segment>>>,
    pub queue: Queue,
    pub writing: Mutex<Writing>,
    pub holds: Mutex<Vec<Hold>>,
    pub held_back: Mutex<Option<HeldBack>>,
    pub metrics: Metrics,
    /// True once the writer has ended.
    pub ended: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(
        options: EmbeddedOptions,
        meta: Meta,
        recovered: &Recovered,
        metrics: Metrics,
    ) -> Self {
        let tail_bytes = options.tail_bytes / usize::from(meta.partitions);
        let oldest = recovered.segments.first().map(|segment| segment.firsts.clone());
        let partitions = recovered.next.iter().enumerate().map(|(index, &next)| Partition {
            oldest: AtomicU64::new(oldest.as_ref().map_or(next, |oldest| oldest[index])),
            view: watch::Sender::new(View { next, stopped: false, closed: false }),
            tail: Mutex::new(Tail::new(tail_bytes)),
            stopped: OnceLock::new(),
        });
        let shared = Self {
            meta,
            partitions: partitions.collect(),
            segments: RwLock::new(recovered.segments.clone()),
            queue: Queue::new(options.queue_bytes, options.commit_enough_bytes),
            writing: Mutex::new(Writing::Writable),
            holds: Mutex::default(),
            held_back: Mutex::default(),
            metrics,
            ended: watch::Sender::new(false),
            options,
        };
        for stop in recovered.stops.iter().flatten() {
            shared.stop(stop.clone());
        }
        shared
    }

    /// Stops a partition at its first known damage.
    pub(super) fn stop(&self, corruption: Corruption) -> Arc<Corruption> {
        let partition = &self.partitions[usize::from(corruption.partition.0)];
        let corruption = Arc::new(corruption);
        if partition.stopped.set(corruption.clone()).is_ok() {
            tracing::error!(
                partition = corruption.partition.0,
                position = corruption.position.0,
                segment = %corruption.segment.display(),
                offset = corruption.offset,
                reason = %corruption.reason,
                "acknowledged records are damaged; the partition takes no more until its segment \
                 is restored"
            );
            self.metrics.corruptions.inc();
            partition.view.send_modify(|view| view.stopped = true);
        }
        corruption
    }

    /// The segment that holds `position` if any does, and the firsts of the one behind it.
    pub(super) fn segment_of(&self, partition: usize, position: u64) -> Option<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let behind = segments.partition_point(|segment| segment.firsts[partition] <= position);
        segments.get(behind.checked_sub(1)?).cloned()
    }

    /// First positions of the segment behind `sequence`; `None` if it is the last.
    pub(super) fn ends_of(&self, sequence: u64) -> Option<Box<[u64]>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let behind = segments.partition_point(|segment| segment.sequence <= sequence);
        segments.get(behind).map(|segment| segment.firsts.clone())
    }

    pub(super) fn hold(&self, name: &'static str, partition: PartitionId, needed: Position) {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let index = match holds.iter().position(|hold| hold.name == name) {
            Some(index) => index,
            None => {
                holds.push(Hold { name, needed: vec![None; self.partitions.len()] });
                holds.len() - 1
            }
        };
        holds[index].needed[usize::from(partition.0)] = Some(needed.0);
    }

    pub(super) fn status(&self) -> JournalStatus {
        let (segments, bytes_on_disk) = {
            let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
            (segments.len(), segments.iter().map(|segment| segment.disk_bytes()).sum())
        };
        let partitions =
            self.partitions.iter().enumerate().map(|(index, partition)| PartitionStatus {
                partition: PartitionId(u16::try_from(index).expect("counted by u16")),
                oldest: Position(partition.oldest.load(Ordering::Acquire)),
                next: Position(partition.view.borrow().next),
                stopped: partition.stopped.get().cloned(),
            });
        JournalStatus {
            writing: self.writing.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            bytes_on_disk,
            segments,
            queue_bytes: self.queue.used_bytes(),
            queue_limit_bytes: self.queue.limit_bytes(),
            partitions: partitions.collect(),
            held_back: self.held_back.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn lags(&self) -> Vec<ReaderLag> {
        let holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lags = Vec::new();
        // What is kept for a copy is nobody's lag.
        for hold in holds.iter().filter(|hold| hold.name != copy::HOLD) {
            for (index, needed) in hold.needed.iter().enumerate() {
                if let Some(needed) = needed {
                    let next = self.partitions[index].view.borrow().next;
                    lags.push(ReaderLag {
                        reader: hold.name,
                        partition: u16::try_from(index).expect("counted by u16"),
                        records: next.saturating_sub(*needed),
                    });
                }
            }
        }
        lags
    }

    pub(super) fn dir(&self) -> &PathBuf {
        &self.options.dir
    }
}

impl State for Weak<Shared> {
    fn look(&self) -> Option<(JournalStatus, Vec<ReaderLag>)> {
        let shared = self.upgrade()?;
        Some((shared.status(), shared.lags()))
    }
}

pub(super) fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
