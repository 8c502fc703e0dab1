//! Reading a whole segment: at opening for the last one, and to make a missing
//! sidecar anew.
//!
//! Two kinds of broken bytes must be told apart. What lies below the highest
//! `durable_to` of any frame was synced and may have been acknowledged: broken
//! bytes there are damage, which stops the partitions that they belong to. What
//! lies above is at most one group that nobody may have been told of: broken
//! bytes there are a torn write, and are cut off. In a sealed segment nothing
//! is torn, because the next segment says what it must hold.

use std::fs::File;
use std::io;

use super::frame::{FrameHeader, HEADER_BYTES, MAGIC, Place, align};
use super::segment::{SegmentHeader, Slot, frame_seed, frames_start, read_up_to};
use super::sidecar::Damage;
use crate::error::DamageReason;

const WINDOW_BYTES: usize = 1 << 20;

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Per partition, dense from the header's firsts.
    pub slots: Vec<Vec<Slot>>,
    pub damages: Vec<Damage>,
    /// The end of the last frame that is kept.
    pub data_end: u64,
    /// Whether a mark behind the last frame says that all of it was synced.
    pub marked: bool,
    /// Bytes of a torn write behind `data_end`.
    pub torn_bytes: u64,
    /// Where the file is to be cut if there are any.
    pub cut_at: u64,
    pub last_appended_at: Option<i64>,
    /// Of the last frame that is kept.
    pub previous: Option<Place>,
    /// The ordinal of the next frame.
    pub ordinal: u32,
}

/// What was found at an offset, in order.
#[derive(Debug)]
enum Found {
    Frame { header: FrameHeader, whole: bool },
    Gap { from: u64, to: u64 },
}

/// Reads the segment of `header`. `ends` are the first positions of the segment
/// behind it, `None` if it is the last one.
pub(super) fn scan(file: &File, header: &SegmentHeader, ends: Option<&[u64]>) -> io::Result<Scan> {
    let (found, file_bytes) = find(file, header)?;
    let mut resolver = Resolver::new(header, ends, file_bytes);
    let proven = match ends {
        Some(_) => u64::MAX,
        None => proven_end(&found),
    };
    for (index, item) in found.iter().enumerate() {
        if !resolver.take(item, found.get(index + 1), proven)? {
            break;
        }
    }
    Ok(resolver.finish())
}

/// Whether `file` holds any frame of the segment that proves another one to be
/// durable. Tells a damaged header from one that was never written whole.
pub(super) fn holds_proven_frames(file: &File, header: &SegmentHeader) -> io::Result<bool> {
    let (found, _) = find(file, header)?;
    Ok(proven_end(&found) > frames_start(header.firsts.len()))
}

/// All below it was synced.
fn proven_end(found: &[Found]) -> u64 {
    let durable = found.iter().map(|item| match item {
        Found::Frame { header, .. } => u64::from(header.durable_to),
        Found::Gap { .. } => 0,
    });
    durable.max().unwrap_or(0)
}

fn find(file: &File, header: &SegmentHeader) -> io::Result<(Vec<Found>, u64)> {
    let seed = frame_seed(header.folder_id, header.sequence);
    let file_bytes = file.metadata()?.len();
    let mut window = Window { file, buffer: Vec::new(), start: 0 };
    let mut found = Vec::new();
    let mut offset = frames_start(header.firsts.len());
    while offset < file_bytes {
        let bytes = window.get(offset, HEADER_BYTES)?;
        if let Some(header) = FrameHeader::decode(bytes, seed, offset) {
            let length = header.payload_len as usize;
            let whole = if header.end() > file_bytes {
                false
            } else {
                let payload = window.get(offset + HEADER_BYTES as u64, length)?;
                payload.len() == length && crc32c::crc32c(payload) == header.payload_crc
            };
            offset = header.next_offset();
            found.push(Found::Frame { header, whole });
        } else {
            let next = window.find_header(offset + 1, file_bytes, seed)?;
            found.push(Found::Gap { from: offset, to: next });
            offset = next;
        }
    }
    Ok((found, file_bytes))
}

/// A piece of the file in memory that moves forwards.
struct Window<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    start: u64,
}

impl Window<'_> {
    /// `length` bytes at `offset`, fewer at the end of the file.
    fn get(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let end = self.start + self.buffer.len() as u64;
        if offset < self.start || offset + length as u64 > end {
            self.buffer.resize(length.max(WINDOW_BYTES), 0);
            let read = read_up_to(self.file, &mut self.buffer, offset)?;
            self.buffer.truncate(read);
            self.start = offset;
        }
        let from = usize::try_from(offset - self.start).expect("it lies in the buffer");
        let to = self.buffer.len().min(from + length);
        Ok(&self.buffer[from.min(to)..to])
    }

    /// The offset of the first whole header at or behind `from`, or `end`.
    fn find_header(&mut self, mut from: u64, end: u64, seed: u32) -> io::Result<u64> {
        while from < end {
            let bytes = self.get(from, WINDOW_BYTES)?;
            let hit = bytes.windows(MAGIC.len()).position(|four| four == MAGIC);
            let Some(hit) = hit else {
                // The last bytes may be the first of a magic that goes on.
                from += bytes.len().saturating_sub(MAGIC.len() - 1).max(1) as u64;
                continue;
            };
            let offset = from + hit as u64;
            if FrameHeader::decode(self.get(offset, HEADER_BYTES)?, seed, offset).is_some() {
                return Ok(offset);
            }
            from = offset + 1;
        }
        Ok(end)
    }
}

/// Turns what was found into the places of each partition's frames.
struct Resolver<'a> {
    firsts: &'a [u64],
    ends: Option<&'a [u64]>,
    file_bytes: u64,
    scan: Scan,
    /// Frames that ordinals say are lost, and that positions say are lost.
    lost: u64,
    missing: u64,
    last_gap: Option<u64>,
    /// Per partition, the offset of its last frame.
    last_frames: Vec<Option<u64>>,
    kept_end: u64,
    /// Where the next frame would begin.
    next_offset: u64,
}

impl<'a> Resolver<'a> {
    fn new(header: &'a SegmentHeader, ends: Option<&'a [u64]>, file_bytes: u64) -> Self {
        let partitions = header.firsts.len();
        let start = frames_start(partitions);
        Self {
            firsts: &header.firsts,
            ends,
            file_bytes,
            scan: Scan { slots: vec![Vec::new(); partitions], data_end: start, ..Scan::default() },
            lost: 0,
            missing: 0,
            last_gap: None,
            last_frames: vec![None; partitions],
            kept_end: start,
            next_offset: start,
        }
    }

    /// Takes the next thing; answers whether to go on, or cut here.
    fn take(&mut self, item: &Found, after: Option<&Found>, proven: u64) -> io::Result<bool> {
        match item {
            Found::Frame { header, .. } if header.is_mark() => {
                if u64::from(header.offset) == align(self.scan.data_end) {
                    self.kept_end = header.end();
                    self.scan.marked = true;
                }
                Ok(true)
            }
            Found::Frame { header, whole } => {
                if !whole && u64::from(header.offset) >= proven {
                    return Ok(false);
                }
                self.take_frame(header, *whole)?;
                Ok(true)
            }
            Found::Gap { from, to } => self.take_gap(*from, *to, after, proven),
        }
    }

    fn take_frame(&mut self, header: &FrameHeader, whole: bool) -> io::Result<()> {
        let Place { partition, position } = header.place;
        let index = usize::from(partition);
        if index >= self.firsts.len() {
            return Err(nonsense("a frame of a partition that the journal does not have"));
        }
        if self.ends.is_some_and(|ends| position >= ends[index]) {
            // Never confirmed: it stands again in the next segment.
            return Ok(());
        }
        if position < self.expected(index) {
            return Err(nonsense("a frame whose position was taken already"));
        }
        let lost_at = self.last_gap.unwrap_or(u64::from(header.offset));
        self.lose_up_to(index, position, lost_at)?;
        let len = u32::try_from(header.end() - u64::from(header.offset))
            .map_err(|_| nonsense("a frame longer than a segment"))?;
        self.scan.slots[index].push(Slot { offset: header.offset, len });
        if !whole {
            self.damage(index, position, u64::from(header.offset), DamageReason::Payload);
        }
        self.last_frames[index] = Some(u64::from(header.offset));
        self.scan.data_end = header.end();
        self.kept_end = header.end();
        self.next_offset = header.next_offset();
        self.scan.marked = false;
        self.scan.previous = Some(header.place);
        self.scan.ordinal = header.ordinal + 1;
        self.scan.last_appended_at = self.scan.last_appended_at.max(Some(header.appended_at));
        Ok(())
    }

    fn take_gap(
        &mut self,
        from: u64,
        to: u64,
        after: Option<&Found>,
        proven: u64,
    ) -> io::Result<bool> {
        let Some(Found::Frame { header: after, .. }) = after else {
            // Nothing whole follows: torn, or, if it is sealed, found missing
            // by its ends.
            return Ok(self.ends.is_some());
        };
        let lost = u64::from(after.ordinal.saturating_sub(self.scan.ordinal));
        if lost == 0 {
            // What fills the last block of a group whose end was cut off.
            return Ok(true);
        }
        if from >= proven {
            return Ok(false);
        }
        self.last_gap = Some(from);
        self.lost += lost;
        self.scan.ordinal = after.ordinal;
        if proven < to {
            // Damaged below `proven` and torn above: whose the frames below
            // were cannot be told, and their bytes are not cut.
            self.scan.data_end = proven;
            self.kept_end = proven;
            self.next_offset = proven;
            return Ok(false);
        }
        self.scan.data_end = to;
        self.kept_end = to;
        self.next_offset = to;
        if let Some(Place { partition, position }) = after.previous {
            let index = usize::from(partition);
            let voided = self.ends.is_some_and(|ends| position >= ends[index]);
            if !voided && position >= self.expected(index) {
                self.lose_up_to(index, position + 1, from)?;
                self.last_frames[index] = Some(from);
            }
            self.scan.previous = Some(Place { partition, position });
        }
        Ok(true)
    }

    fn expected(&self, index: usize) -> u64 {
        self.firsts[index] + self.scan.slots[index].len() as u64
    }

    /// Notes all positions below `position` that no frame was found for.
    fn lose_up_to(&mut self, index: usize, position: u64, offset: u64) -> io::Result<()> {
        let expected = self.expected(index);
        let count = position.saturating_sub(expected);
        if count == 0 {
            return Ok(());
        }
        if count > self.file_bytes / HEADER_BYTES as u64 {
            return Err(nonsense("more frames missing than the segment could hold"));
        }
        self.damage(index, expected, offset, DamageReason::Header);
        let lost = Slot { offset: u32::try_from(offset).unwrap_or(u32::MAX), len: 0 };
        self.scan.slots[index].extend((0..count).map(|_| lost));
        self.missing += count;
        Ok(())
    }

    fn damage(&mut self, index: usize, position: u64, offset: u64, reason: DamageReason) {
        let partition = u16::try_from(index).expect("partitions are counted by u16");
        self.scan.damages.push(Damage { partition, position, offset, reason });
    }

    fn finish(mut self) -> Scan {
        if let Some(ends) = self.ends {
            let offset = self.last_gap.unwrap_or(self.scan.data_end);
            for (index, &end) in ends.iter().enumerate() {
                if self.lose_up_to(index, end, offset).is_err() {
                    // Beyond belief, so with no slot for each: the first is enough.
                    self.damage(index, self.expected(index), offset, DamageReason::Missing);
                }
            }
        } else if self.lost > self.missing {
            let gap = self.last_gap.unwrap_or(self.scan.data_end);
            for index in 0..self.firsts.len() {
                if self.last_frames[index].is_none_or(|offset| offset < gap) {
                    self.damage(index, self.expected(index), gap, DamageReason::Undetermined);
                }
            }
        }
        self.scan.torn_bytes = self.file_bytes.saturating_sub(self.kept_end);
        self.scan.cut_at = self.next_offset;
        self.scan
    }
}

/// Checksums hold and yet it makes no sense: a defect of ours or a forgery.
fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
