//! A segment: one file of the journal, its header, and where its frames are.
//!
//! The header stands twice at the start, each copy in blocks of its own, and
//! says at which position each partition goes on, so that a segment's
//! positions are known with no other segment and no frame read. Layout, stored
//! and stable, little-endian: magic (8), CRC-32C of all behind it (4),
//! format (2), partitions (2), sequence (8), folder (8), created_at (8), then
//! the first position of each partition (8 each); filled up to whole blocks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::frame::{BLOCK_BYTES, align, u16_at, u32_at, u64_at};
use super::sidecar::Damage;

/// The format of segments and sidecars that this program reads and writes.
pub(super) const FORMAT: u16 = 1;
const MAGIC: [u8; 8] = *b"BakenSeg";
const FIXED_BYTES: usize = 40;

/// Where a frame is; a length of 0 says that it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub offset: u32,
    /// Of header and record.
    pub len: u32,
}

/// What the header of a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub folder_id: u64,
    pub sequence: u64,
    pub created_at: i64,
    /// Per partition, the position of its first frame here or in a later segment.
    pub firsts: Box<[u64]>,
}

impl SegmentHeader {
    /// Both copies, filled up to whole blocks: what a segment's file begins with.
    pub(super) fn encode(&self) -> Vec<u8> {
        let size = copy_bytes(self.firsts.len());
        let mut bytes = vec![0; size * 2];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[12..14].copy_from_slice(&FORMAT.to_le_bytes());
        let partitions = u16::try_from(self.firsts.len()).expect("at most MAX_PARTITIONS");
        bytes[14..16].copy_from_slice(&partitions.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.folder_id.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.created_at.to_le_bytes());
        for (place, first) in bytes[FIXED_BYTES..].chunks_exact_mut(8).zip(&self.firsts) {
            place.copy_from_slice(&first.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[12..size]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        let (first, second) = bytes.split_at_mut(size);
        second.copy_from_slice(first);
        bytes
    }

    fn decode(copy: &[u8], partitions: u16) -> Option<Self> {
        if copy[0..8] != MAGIC
            || u32_at(copy, 8) != crc32c::crc32c(&copy[12..])
            || u16_at(copy, 12) != FORMAT
            || u16_at(copy, 14) != partitions
        {
            return None;
        }
        Some(Self {
            sequence: u64_at(copy, 16),
            folder_id: u64_at(copy, 24),
            created_at: u64_at(copy, 32).cast_signed(),
            firsts: (0..usize::from(partitions))
                .map(|partition| u64_at(copy, FIXED_BYTES + partition * 8))
                .collect(),
        })
    }

    /// The header of a segment of `partitions`, by whichever copy is whole;
    /// `None` if neither is.
    pub(super) fn read(file: &File, partitions: u16) -> io::Result<Option<Self>> {
        let size = copy_bytes(usize::from(partitions));
        let mut bytes = vec![0; size * 2];
        let read = read_up_to(file, &mut bytes, 0)?;
        let whole = bytes[..read].chunks_exact(size);
        Ok(whole.into_iter().find_map(|copy| Self::decode(copy, partitions)))
    }
}

impl SegmentHeader {
    /// Makes both copies whole if one is not, so that a later damage of the
    /// other one costs nothing.
    pub(super) fn restore(&self, file: &File) -> io::Result<()> {
        let whole = self.encode();
        let mut found = vec![0; whole.len()];
        let read = read_up_to(file, &mut found, 0)?;
        if found[..read] == whole { Ok(()) } else { file.write_all_at(&whole, 0) }
    }
}

/// The offset of the first frame.
pub(super) fn frames_start(partitions: usize) -> u64 {
    copy_bytes(partitions) as u64 * 2
}

fn copy_bytes(partitions: usize) -> usize {
    (FIXED_BYTES + partitions * 8)
        .next_multiple_of(usize::try_from(BLOCK_BYTES).expect("a block is small"))
}

/// The seed of the checksums of a segment's frames.
pub(super) fn frame_seed(folder_id: u64, sequence: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&folder_id.to_le_bytes()), &sequence.to_le_bytes())
}

pub(super) fn segment_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:020}.segment"))
}

/// Reads until `buffer` is full or the file ends.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// A segment as all threads see it. Its frames' places are in memory while it
/// is written, and in its sidecar afterwards.
#[derive(Debug)]
pub(super) struct Segment {
    pub sequence: u64,
    pub path: PathBuf,
    pub seed: u32,
    pub firsts: Box<[u64]>,
    /// The end of the last durable frame.
    pub bytes: AtomicU64,
    pub last_appended_at: AtomicI64,
    /// Per partition, dense from `firsts`; `None` once the sidecar has them.
    pub slots: Mutex<Option<Vec<Vec<Slot>>>>,
    /// What is known to be damaged in it.
    pub damages: Mutex<Vec<Damage>>,
}

impl Segment {
    pub(super) fn new(dir: &Path, header: &SegmentHeader) -> Self {
        Self {
            sequence: header.sequence,
            path: segment_path(dir, header.sequence),
            seed: frame_seed(header.folder_id, header.sequence),
            firsts: header.firsts.clone(),
            bytes: AtomicU64::new(frames_start(header.firsts.len())),
            last_appended_at: AtomicI64::new(header.created_at),
            slots: Mutex::new(Some(vec![Vec::new(); header.firsts.len()])),
            damages: Mutex::default(),
        }
    }

    pub(super) fn header(&self, folder_id: u64) -> SegmentHeader {
        SegmentHeader {
            folder_id,
            sequence: self.sequence,
            created_at: self.last_appended_at.load(Ordering::Relaxed),
            firsts: self.firsts.clone(),
        }
    }

    /// Room that the segment takes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        align(self.bytes.load(Ordering::Relaxed))
    }

    /// Up to `limit` slots of `partition` from `position` on, if they are in memory.
    pub(super) fn slots_in_memory(
        &self,
        partition: usize,
        position: u64,
        limit: usize,
    ) -> Option<Vec<Slot>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = &slots.as_ref()?[partition];
        let skip = usize::try_from(position - self.firsts[partition]).unwrap_or(usize::MAX);
        Some(slots.iter().skip(skip).take(limit).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_copy_of_the_header_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let header = SegmentHeader {
            folder_id: 7,
            sequence: 3,
            created_at: -1,
            firsts: vec![5, 0, u64::MAX].into(),
        };
        let path = dir.path().join("segment");
        for damaged in [0, 1] {
            let mut bytes = header.encode();
            assert_eq!(bytes.len() as u64, frames_start(3));
            bytes[damaged * 4_096 + 20] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let file = File::open(&path).unwrap();
            assert_eq!(SegmentHeader::read(&file, 3).unwrap(), Some(header.clone()));
            assert_eq!(SegmentHeader::read(&file, 4).unwrap(), None);
        }
        let mut bytes = header.encode();
        bytes[20] ^= 1;
        bytes[4_096 + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(SegmentHeader::read(&File::open(&path).unwrap(), 3).unwrap(), None);
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(SegmentHeader::read(&File::open(&path).unwrap(), 3).unwrap(), None);
    }
}
