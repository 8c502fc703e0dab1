//! The one thread that writes: it takes all that is queued, writes it at once,
//! syncs once, and answers in order.
//!
//! When the disk is full it cuts off what it had begun and tries again, slower
//! and slower, until there is room. When the disk fails otherwise, it never
//! trusts the file again: after a failed sync the kernel may hold pages for
//! clean that never reached the disk, so that a second sync would lie. The
//! segment then ends at its last durable group, whose blocks no later write has
//! touched, and the records, which are still in memory, go to a new segment.

use std::fs;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use schema::{Position, TimestampMs};

use super::folder::FolderLock;
use super::frame::{FrameHeader, align};
use super::group::{Frames, Target};
use super::queue::{Queued, Taken, Want};
use super::recovery::{Active, Recovered};
use super::retention::retain;
use super::segment::{Segment, SegmentHeader, frames_start};
use super::shared::{Shared, now};
use super::sidecar::{self, Sealed};
use crate::status::{StallReason, Writing};
use crate::{AppendError, Entry};

/// How much may be written before free room is looked at again.
const RESERVE_CHECK_BYTES: u64 = 8 << 20;

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    active: Option<Active>,
    next_sequence: u64,
    /// Per partition, the position of the next record.
    next: Vec<u64>,
    group: Vec<Queued>,
    frames: Frames,
    /// Entries of the group by partition, on their way to the tails.
    staged: Vec<Vec<Entry>>,
    unchecked_bytes: u64,
    retained_at: Instant,
    /// Held as long as the folder is ours.
    _lock: FolderLock,
}

/// Why a group did not become durable.
enum Failure {
    /// It may be tried again at the same place.
    Full(StallReason),
    /// The segment must not be written again.
    File(StallReason),
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, recovered: Recovered, lock: FolderLock) -> Self {
        Self {
            staged: vec![Vec::new(); recovered.next.len()],
            shared,
            active: recovered.active,
            next_sequence: recovered.next_sequence,
            next: recovered.next,
            group: Vec::new(),
            frames: Frames::default(),
            unchecked_bytes: RESERVE_CHECK_BYTES,
            retained_at: Instant::now(),
            _lock: lock,
        }
    }

    /// Runs until the queue is closed and empty, then gives the folder free.
    pub(super) fn run(self) {
        let ended = Ended(self.shared.clone());
        self.write();
        drop(ended);
    }

    fn write(mut self) {
        let patience = Duration::from_millis(self.shared.options.retention_check_ms);
        let options = &self.shared.options;
        let (limit_bytes, interval_ms) = (options.group_bytes, options.commit_interval_ms);
        let mut not_before = None;
        loop {
            if self.shared.queue.is_empty() {
                self.mark();
            }
            match self
                .shared
                .queue
                .take(&mut self.group, Want { limit_bytes, patience, not_before })
            {
                Taken::Group => {
                    not_before = Some(Instant::now() + Duration::from_millis(interval_ms));
                    self.commit();
                }
                Taken::Idle => {}
                Taken::Closed => break,
            }
            if self.retained_at.elapsed() >= patience {
                self.retain();
            }
        }
        self.finish();
    }

    fn commit(&mut self) {
        self.refuse_stopped();
        if self.group.is_empty() {
            return;
        }
        let options = &self.shared.options;
        let longest = Duration::from_millis(options.retry_max_ms);
        let mut pause = Duration::from_millis(options.retry_min_ms);
        let mut gave_up_file = false;
        loop {
            let reason = match self.try_commit() {
                Ok(()) => break,
                Err(Failure::Full(reason)) => reason,
                Err(Failure::File(reason)) => {
                    self.give_up_file(&reason);
                    if !gave_up_file {
                        gave_up_file = true;
                        continue;
                    }
                    reason
                }
            };
            self.stall(reason);
            if self.shared.queue.wait_closed(pause) {
                return self.fail_all();
            }
            pause = (pause * 2).min(longest);
            self.retain();
        }
        self.resume();
        self.publish();
    }

    /// Answers the records of stopped partitions and takes them out.
    fn refuse_stopped(&mut self) {
        let partitions = &self.shared.partitions;
        if partitions.iter().all(|partition| partition.stopped.get().is_none()) {
            return;
        }
        let mut room = 0;
        for queued in std::mem::take(&mut self.group) {
            match partitions[usize::from(queued.partition)].stopped.get() {
                None => self.group.push(queued),
                Some(corruption) => {
                    room += queued.room as usize;
                    let _ =
                        queued.done.send(Err(AppendError::PartitionStopped(corruption.clone())));
                }
            }
        }
        self.shared.queue.release(room);
    }

    /// Writes and syncs the group, in a new segment if it must be.
    fn try_commit(&mut self) -> Result<(), Failure> {
        let group_bytes: u64 = self.group.iter().map(|record| record.frame_bytes() as u64).sum();
        self.check_reserve(group_bytes)?;
        if let Some(active) = &self.active {
            let empty = active.end == frames_start(self.next.len());
            if !empty && active.end + group_bytes > self.shared.options.segment_bytes {
                self.seal();
            }
        }
        let appended_at = now();
        if self.active.is_some() { self.append(appended_at) } else { self.begin(appended_at) }
    }

    fn check_reserve(&mut self, group_bytes: u64) -> Result<(), Failure> {
        let options = &self.shared.options;
        self.unchecked_bytes += group_bytes;
        if options.reserve_bytes == 0 || self.unchecked_bytes < RESERVE_CHECK_BYTES {
            return Ok(());
        }
        // A disk that does not say how full it is says so when it is full.
        let free_bytes = options.disk.free_bytes(&options.dir).unwrap_or(u64::MAX);
        let reserve_bytes = options.reserve_bytes;
        if free_bytes < reserve_bytes.saturating_add(group_bytes) {
            return Err(Failure::Full(StallReason::Reserve { free_bytes, reserve_bytes }));
        }
        self.unchecked_bytes = 0;
        Ok(())
    }

    /// Adds the group to the active segment.
    fn append(&mut self, appended_at: TimestampMs) -> Result<(), Failure> {
        let active = self.active.as_mut().expect("the caller has looked");
        let disk = &*self.shared.options.disk;
        let target = Target {
            seed: active.segment.seed,
            offset: active.end,
            ordinal: active.ordinal,
            previous: active.previous,
            appended_at: appended_at.0,
        };
        self.frames.build(&self.group, &self.next, target);
        active.marked = false;
        if let Err(error) = self.frames.write(disk, &active.file, &[], &self.group, active.end) {
            let reason = reason(&error);
            let cut = disk.truncate(&active.file, active.end);
            // A segment at the largest size of a file is given up, too.
            let full = is_full(&error) && !is_too_large(&error) && cut.is_ok();
            return Err(if full { Failure::Full(reason) } else { Failure::File(reason) });
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), Failure> {
        let active = self.active.as_ref().expect("only a written segment is synced");
        let timer = self.shared.metrics.sync_seconds.start_timer();
        let synced = self.shared.options.disk.sync(&active.file);
        timer.observe_duration();
        synced.map_err(|error| Failure::File(reason(&error)))
    }

    /// Begins a segment with the group: header and frames go with one sync.
    fn begin(&mut self, appended_at: TimestampMs) -> Result<(), Failure> {
        let header = SegmentHeader {
            folder_id: self.shared.meta.folder_id,
            sequence: self.next_sequence,
            created_at: appended_at.0,
            firsts: self.next.clone().into(),
        };
        self.next_sequence += 1;
        let segment = Segment::new(self.shared.dir(), &header);
        let disk = &*self.shared.options.disk;
        let target = Target {
            seed: segment.seed,
            offset: frames_start(self.next.len()),
            ordinal: 0,
            previous: None,
            appended_at: appended_at.0,
        };
        let file = disk.create(&segment.path).map_err(|error| failure(&error))?;
        self.frames.build(&self.group, &self.next, target);
        let written = disk
            .sync_dir(self.shared.dir())
            .and_then(|()| self.frames.write(disk, &file, &header.encode(), &self.group, 0))
            .and_then(|()| {
                let _timer = self.shared.metrics.sync_seconds.start_timer();
                disk.sync(&file)
            });
        if let Err(error) = written {
            // If it stays, opening finds that it holds nothing that counts.
            let _ = fs::remove_file(&segment.path);
            return Err(failure(&error));
        }
        let segment = Arc::new(segment);
        let mut segments = self.shared.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.push(segment.clone());
        drop(segments);
        self.active = Some(Active {
            segment,
            file,
            end: target.offset,
            ordinal: 0,
            previous: None,
            marked: false,
        });
        Ok(())
    }

    /// What has become durable is shown to readers and answered, in order.
    fn publish(&mut self) {
        let active = self.active.as_mut().expect("a group was just written");
        let segment = &active.segment;
        let last = self.frames.places.last().expect("a group has a record").0;
        active.end = align(self.frames.end);
        active.ordinal += u32::try_from(self.group.len()).expect("a segment is below 4 GiB");
        active.previous = Some(last);
        segment.bytes.store(self.frames.end, Ordering::Relaxed);
        let appended_at = TimestampMs(self.frames.appended_at);
        segment.last_appended_at.fetch_max(appended_at.0, Ordering::Relaxed);
        {
            let mut slots = segment.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let slots = slots.as_mut().expect("an active segment has its slots in memory");
            for (place, slot) in &self.frames.places {
                slots[usize::from(place.partition)].push(*slot);
            }
        }
        for (queued, (place, _)) in self.group.iter().zip(&self.frames.places) {
            self.staged[usize::from(place.partition)].push(Entry {
                position: Position(place.position),
                kind: queued.kind,
                version: schema::RECORD_VERSION,
                rows: queued.rows,
                appended_at,
                payload: queued.payload.clone(),
                decoded: queued.decoded.clone(),
            });
        }
        self.next.copy_from_slice(&self.frames.next);
        for (index, staged) in self.staged.iter_mut().enumerate().filter(|(_, s)| !s.is_empty()) {
            let partition = &self.shared.partitions[index];
            let mut tail = partition.tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend(staged.drain(..));
            drop(tail);
            partition.view.send_modify(|view| view.next = self.next[index]);
        }
        self.answer();
    }

    /// Counts first, so that whoever has an answer finds it counted.
    fn answer(&mut self) {
        let metrics = &self.shared.metrics;
        let (mut room, mut rows, mut bytes) = (0, 0, 0);
        for queued in &self.group {
            room += queued.room as usize;
            rows += u64::from(queued.rows);
            bytes += queued.payload.len() as u64;
        }
        let records = self.group.len() as u64;
        metrics.records.inc_by(records);
        metrics.rows.inc_by(rows);
        metrics.bytes.inc_by(bytes);
        #[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floats")]
        {
            metrics.commit_records.observe(records as f64);
            metrics.commit_bytes.observe(bytes as f64);
        }
        self.shared.queue.release(room);
        for (queued, (place, _)) in self.group.drain(..).zip(&self.frames.places) {
            // Nobody may wait for it any more.
            let _ = queued.done.send(Ok(Position(place.position)));
        }
    }

    /// Says behind the last group that it is durable, for a later opening.
    fn mark(&mut self) {
        let Some(active) = self.active.as_mut().filter(|active| !active.marked) else { return };
        let offset = u32::try_from(active.end).expect("segments stay below 4 GiB");
        let mark = FrameHeader::mark(offset, active.previous, active.ordinal, 0);
        let bytes = mark.encode(active.segment.seed);
        // Only a hint: a group is durable with or without it.
        let _ =
            self.shared.options.disk.write(&active.file, &[io::IoSlice::new(&bytes)], active.end);
        active.marked = true;
    }

    /// Ends the active segment and writes its sidecar.
    fn seal(&mut self) {
        let Some(active) = self.active.take() else { return };
        let segment = &active.segment;
        let mut slots = segment.slots.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let damages = segment.damages.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let written = sidecar::write(
            &segment.path,
            &Sealed {
                folder_id: self.shared.meta.folder_id,
                sequence: segment.sequence,
                data_end: segment.bytes.load(Ordering::Relaxed),
                last_appended_at: segment.last_appended_at.load(Ordering::Relaxed),
                firsts: &segment.firsts,
                slots: slots.as_deref().unwrap_or_default(),
                damages: &damages,
            },
        );
        match written {
            Ok(()) => slots = None,
            Err(error) => tracing::warn!(
                %error,
                segment = %segment.path.display(),
                "cannot write the sidecar of a segment; its places stay in memory"
            ),
        }
        *segment.slots.lock().unwrap_or_else(PoisonError::into_inner) = slots;
        self.retain();
    }

    fn retain(&mut self) {
        self.retained_at = Instant::now();
        retain(&self.shared);
    }

    fn give_up_file(&mut self, reason: &StallReason) {
        self.shared.metrics.file_failures.inc();
        let segment = self.active.as_ref().map(|active| active.segment.path.display().to_string());
        tracing::error!(
            %reason,
            segment = segment.unwrap_or_default(),
            "writing the journal failed; what is not durable goes to a new segment"
        );
        if let Some(active) = &self.active {
            // The next segment's header says what this one holds in any case.
            let _ = self.shared.options.disk.truncate(&active.file, active.end);
        }
        self.seal();
    }

    fn stall(&self, reason: StallReason) {
        let mut writing = self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match &*writing {
            Writing::Stalled { since, .. } => *since,
            Writing::Writable | Writing::Closed => {
                self.shared.metrics.stalls.inc();
                tracing::error!(
                    %reason,
                    "the journal cannot write; nothing is acknowledged until it can"
                );
                now()
            }
        };
        *writing = Writing::Stalled { reason, since };
    }

    fn resume(&self) {
        let mut writing = self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*writing, Writing::Stalled { .. }) {
            *writing = Writing::Writable;
            tracing::info!("the journal writes again");
        }
    }

    /// Closed while stalled: what waits is not durable, and its submitters
    /// learn that it may not be.
    fn fail_all(&mut self) {
        self.group.clear();
        self.shared.queue.abandon();
    }

    fn finish(&mut self) {
        self.mark();
        if let Some(active) = &self.active
            && let Err(error) = self.shared.options.disk.sync(&active.file)
        {
            // All groups were synced; only the mark may be lost.
            tracing::warn!(%error, "cannot sync the journal's last mark");
        }
    }
}

/// Whoever waits learns that the writer has ended, even by a panic.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.queue.close();
        self.0.queue.abandon();
        *self.0.writing.lock().unwrap_or_else(PoisonError::into_inner) = Writing::Closed;
        for partition in &self.0.partitions {
            partition.view.send_modify(|view| view.closed = true);
        }
        self.0.ended.send_replace(true);
    }
}

fn failure(error: &io::Error) -> Failure {
    if is_full(error) { Failure::Full(reason(error)) } else { Failure::File(reason(error)) }
}

fn reason(error: &io::Error) -> StallReason {
    if is_full(error) {
        StallReason::DiskFull(error.to_string())
    } else {
        StallReason::Io(error.to_string())
    }
}

fn is_full(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG))
}

fn is_too_large(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::FBIG)
}
