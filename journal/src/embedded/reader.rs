//! Reading a partition: from memory while a reader keeps up, else from the
//! segments, a large piece at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use schema::{PartitionId, Position, RecordKind, TimestampMs};
use tokio::sync::watch;

use super::frame::{HEADER_BYTES, Place, open_frame};
use super::recovery::corruption;
use super::scan::scan;
use super::segment::{Segment, Slot, read_up_to};
use super::shared::{Shared, View};
use super::sidecar::{self, Damage, Sealed};
use crate::error::DamageReason;
use crate::{Entry, ReadError};

/// The most entries that are taken from memory at once.
const TAIL_ENTRIES: usize = 256;
/// The most places that are copied from a segment that is being written.
const SLOTS_AT_ONCE: usize = 4_096;
/// Frames of other partitions up to this many bytes are read over rather than
/// begin another read.
const MAX_GAP_BYTES: u64 = 32 << 10;

/// Reads the durable entries of one partition in order, each once.
#[derive(Debug)]
pub struct EmbeddedReader {
    shared: Arc<Shared>,
    partition: u16,
    next: u64,
    /// Entries from `next` on.
    buffer: VecDeque<Entry>,
    view: watch::Receiver<View>,
    cursor: Option<Arc<Cursor>>,
}

/// An open segment.
#[derive(Debug)]
struct Cursor {
    segment: Arc<Segment>,
    file: File,
    /// The partition's places, if the segment is sealed.
    slots: Option<Vec<Slot>>,
}

/// Entries from the file, and where they came from.
type Piece = (VecDeque<Entry>, Arc<Cursor>);

impl EmbeddedReader {
    pub(super) fn new(
        shared: Arc<Shared>,
        partition: PartitionId,
        from: Position,
    ) -> Result<Self, ReadError> {
        let state = &shared.partitions[usize::from(partition.0)];
        let view = state.view.subscribe();
        let oldest = state.oldest.load(Ordering::Acquire);
        let next = view.borrow().next;
        if from.0 < oldest {
            return Err(ReadError::Expired { partition, position: from, oldest: Position(oldest) });
        }
        if from.0 > next {
            return Err(ReadError::Ahead { partition, position: from, next: Position(next) });
        }
        let buffer = VecDeque::new();
        Ok(Self { shared, partition: partition.0, next: from.0, buffer, view, cursor: None })
    }

    /// The position of the entry that is read next.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.next)
    }

    /// The next entry; waits until there is one. Cancelling it loses nothing.
    ///
    /// # Errors
    /// The entry cannot be read; asking again gives it, or the error, again.
    pub async fn next(&mut self) -> Result<Entry, ReadError> {
        loop {
            if let Some(entry) = self.take_from_memory() {
                return Ok(entry);
            }
            let view = *self.view.borrow_and_update();
            if self.next < view.next {
                // The file is read where blocking is allowed.
                let (shared, cursor) = (self.shared.clone(), self.cursor.clone());
                let (partition, position) = (self.partition, self.next);
                let piece = tokio::task::spawn_blocking(move || {
                    read_piece(&shared, partition, position, cursor)
                });
                let piece = piece.await.map_err(|_| ReadError::Closed)?;
                (self.buffer, self.cursor) =
                    piece.map(|(buffer, cursor)| (buffer, Some(cursor)))?;
                continue;
            }
            self.check_end(view)?;
            self.view.changed().await.map_err(|_| ReadError::Closed)?;
        }
    }

    /// The next entry if there is one. Reads the file on the calling thread if
    /// the entry is not in memory.
    ///
    /// # Errors
    /// The entry cannot be read; asking again gives it, or the error, again.
    pub fn try_next(&mut self) -> Result<Option<Entry>, ReadError> {
        if let Some(entry) = self.take_from_memory() {
            return Ok(Some(entry));
        }
        let view = *self.view.borrow();
        if self.next >= view.next {
            return self.check_end(view).map(|()| None);
        }
        let (buffer, cursor) =
            read_piece(&self.shared, self.partition, self.next, self.cursor.take())?;
        (self.buffer, self.cursor) = (buffer, Some(cursor));
        Ok(self.take_from_memory())
    }

    fn take_from_memory(&mut self) -> Option<Entry> {
        if self.buffer.is_empty() {
            let partition = &self.shared.partitions[usize::from(self.partition)];
            let tail = partition.tail.lock().unwrap_or_else(PoisonError::into_inner);
            let durable = usize::try_from(partition.view.borrow().next - self.next);
            let limit = durable.unwrap_or(usize::MAX).min(TAIL_ENTRIES);
            tail.copy(self.next, limit, &mut self.buffer);
        }
        let entry = self.buffer.pop_front()?;
        self.next = entry.position.0 + 1;
        Some(entry)
    }

    /// Whether more can come behind the last durable entry.
    fn check_end(&self, view: View) -> Result<(), ReadError> {
        let partition = &self.shared.partitions[usize::from(self.partition)];
        if let Some(corruption) = partition.stopped.get().filter(|_| view.stopped) {
            return Err(ReadError::Corrupt(corruption.clone()));
        }
        if view.closed { Err(ReadError::Closed) } else { Ok(()) }
    }
}

/// Reads entries of `partition` from `position` on, which is durable: at least
/// one.
fn read_piece(
    shared: &Shared,
    partition: u16,
    position: u64,
    cursor: Option<Arc<Cursor>>,
) -> Result<Piece, ReadError> {
    let index = usize::from(partition);
    let segment =
        shared.segment_of(index, position).ok_or_else(|| expired(shared, partition, position))?;
    let cursor = match cursor {
        Some(cursor) if cursor.segment.sequence == segment.sequence => cursor,
        _ => Arc::new(Cursor {
            file: File::open(&segment.path)
                .map_err(|error| read_error(shared, &segment, partition, position, error))?,
            segment: segment.clone(),
            slots: None,
        }),
    };
    let skip = usize::try_from(position - segment.firsts[index]).unwrap_or(usize::MAX);
    if let Some(slots) = &cursor.slots {
        let entries = read_slots(shared, &cursor, partition, position, slots.get(skip..))?;
        return Ok((entries, cursor));
    }
    if let Some(slots) = segment.slots_in_memory(index, position, SLOTS_AT_ONCE) {
        let entries = read_slots(shared, &cursor, partition, position, Some(&slots))?;
        return Ok((entries, cursor));
    }
    let slots = load_slots(shared, &cursor, index)
        .map_err(|error| read_error(shared, &segment, partition, position, error))?;
    let file = File::open(&segment.path)
        .map_err(|error| read_error(shared, &segment, partition, position, error))?;
    let cursor = Arc::new(Cursor { segment, file, slots: Some(slots) });
    let slots = cursor.slots.as_deref().and_then(|slots| slots.get(skip..));
    let entries = read_slots(shared, &cursor, partition, position, slots)?;
    Ok((entries, cursor))
}

fn expired(shared: &Shared, partition: u16, position: u64) -> ReadError {
    let oldest = shared.partitions[usize::from(partition)].oldest.load(Ordering::Acquire);
    ReadError::Expired {
        partition: PartitionId(partition),
        position: Position(position),
        oldest: Position(oldest),
    }
}

fn read_error(
    shared: &Shared,
    segment: &Segment,
    partition: u16,
    position: u64,
    error: io::Error,
) -> ReadError {
    let oldest = shared.partitions[usize::from(partition)].oldest.load(Ordering::Acquire);
    if error.kind() == io::ErrorKind::NotFound && position < oldest {
        return expired(shared, partition, position);
    }
    ReadError::Io { path: segment.path.clone(), source: Arc::new(error) }
}

/// The places of a sealed segment, from its sidecar or, if that is damaged,
/// from the segment itself.
fn load_slots(shared: &Shared, cursor: &Cursor, partition: usize) -> io::Result<Vec<Slot>> {
    let segment = &cursor.segment;
    if let Some(slots) = sidecar::read_slots(&segment.path, segment.sequence, partition)? {
        return Ok(slots);
    }
    tracing::warn!(segment = %segment.path.display(), "a sidecar is damaged; it is made anew");
    let ends = shared.ends_of(segment.sequence);
    let header = segment.header(shared.meta.folder_id);
    let mut scan = scan(&cursor.file, &header, ends.as_deref())?;
    shared.metrics.rebuilt_sidecars.inc();
    let sealed = Sealed {
        folder_id: header.folder_id,
        sequence: header.sequence,
        data_end: scan.data_end,
        last_appended_at: scan.last_appended_at.unwrap_or(header.created_at),
        firsts: &header.firsts,
        slots: &scan.slots,
        damages: &scan.damages,
    };
    if let Err(error) = sidecar::write(&segment.path, &sealed) {
        tracing::warn!(%error, segment = %segment.path.display(), "cannot write a sidecar");
    }
    for &damage in &scan.damages {
        shared.stop(corruption(&segment.path, damage));
    }
    Ok(std::mem::take(&mut scan.slots[partition]))
}

/// Reads a run of frames in one piece and takes it apart. Damage behind the
/// first entry is left to the next call.
fn read_slots(
    shared: &Shared,
    cursor: &Cursor,
    partition: u16,
    position: u64,
    slots: Option<&[Slot]>,
) -> Result<VecDeque<Entry>, ReadError> {
    let segment = &cursor.segment;
    let damaged = |offset: u32, reason| {
        let offset = u64::from(offset);
        let damage = Damage { partition, position, offset, reason };
        ReadError::Corrupt(shared.stop(corruption(&segment.path, damage)))
    };
    let slots = slots.unwrap_or_default();
    let Some(&first) = slots.first() else { return Err(damaged(0, DamageReason::Missing)) };
    if first.len == 0 {
        return Err(damaged(first.offset, DamageReason::Missing));
    }
    let run = run_length(slots, shared.options.read_ahead_bytes as u64);
    let last = slots[run - 1];
    let length = u64::from(last.offset) + u64::from(last.len) - u64::from(first.offset);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let read = read_up_to(&cursor.file, &mut bytes, u64::from(first.offset))
        .map_err(|error| read_error(shared, segment, partition, position, error))?;
    bytes.truncate(read);
    let bytes = Bytes::from(bytes);
    let mut entries = VecDeque::with_capacity(run);
    for (slot, position) in slots[..run].iter().zip(position..) {
        let place = Place { partition, position };
        match open_entry(&bytes, first.offset, *slot, segment.seed, place) {
            Ok(entry) => entries.push_back(entry?),
            Err(reason) if entries.is_empty() => return Err(damaged(slot.offset, reason)),
            Err(_) => break,
        }
    }
    Ok(entries)
}

/// How many of `slots` are read at once: at least one, then as long as the
/// piece stays within `limit` and no frame is lost or far away.
fn run_length(slots: &[Slot], limit: u64) -> usize {
    let start = u64::from(slots[0].offset);
    let mut end = start + u64::from(slots[0].len);
    let mut run = 1;
    for slot in &slots[1..] {
        let next_end = u64::from(slot.offset) + u64::from(slot.len);
        let far = u64::from(slot.offset) > end + MAX_GAP_BYTES;
        if slot.len == 0 || far || next_end - start > limit {
            break;
        }
        end = next_end;
        run += 1;
    }
    run
}

fn open_entry(
    piece: &Bytes,
    piece_offset: u32,
    slot: Slot,
    seed: u32,
    place: Place,
) -> Result<Result<Entry, ReadError>, DamageReason> {
    let from = (slot.offset - piece_offset) as usize;
    let to = from + slot.len as usize;
    if to > piece.len() {
        return Err(DamageReason::Missing);
    }
    let header = open_frame(&piece[from..to], seed, u64::from(slot.offset), place)?;
    let position = Position(place.position);
    let Some(kind) = RecordKind::from_u8(header.kind) else {
        let partition = PartitionId(place.partition);
        return Ok(Err(ReadError::UnknownKind { partition, position, kind: header.kind }));
    };
    Ok(Ok(Entry {
        position,
        kind,
        version: header.version,
        rows: header.rows,
        appended_at: TimestampMs(header.appended_at),
        payload: piece.slice(from + HEADER_BYTES..to),
        decoded: None,
    }))
}
