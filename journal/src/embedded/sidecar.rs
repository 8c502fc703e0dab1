//! A sidecar: where the frames of a sealed segment are, beside it in a file of
//! its own, so that opening a folder reads no sealed segment.
//!
//! It is derived: never synced, checked when read, and made anew from its
//! segment when it is missing or damaged. Layout, stored and stable,
//! little-endian. Head: magic (8), CRC-32C of the rest of the head (4),
//! format (2), partitions (2), sequence (8), folder (8), end of the last frame
//! (8), last appended_at (8), damages (4), bytes of the head (4); per partition
//! first position (8), frames (4), CRC-32C of its slots (4); per damage
//! partition (2), reason (1), zero (5), offset (8), position (8). Behind the
//! head the slots of each partition in turn: offset (4), length (4).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::frame::{u16_at, u32_at, u64_at};
use super::segment::{FORMAT, Slot, read_up_to};
use crate::error::DamageReason;

const MAGIC: [u8; 8] = *b"BakenIdx";
const FIXED_BYTES: usize = 56;
const RANGE_BYTES: usize = 16;
const DAMAGE_BYTES: usize = 24;
const SLOT_BYTES: usize = 8;
/// So that a damaged length asks for no absurd memory.
const MAX_HEAD_BYTES: usize = 16 << 20;

/// Acknowledged data that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub partition: u16,
    pub position: u64,
    pub offset: u64,
    pub reason: DamageReason,
}

/// What is known of a sealed segment without its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SidecarHead {
    pub folder_id: u64,
    pub sequence: u64,
    /// The end of the last frame.
    pub data_end: u64,
    pub last_appended_at: i64,
    pub ranges: Vec<Range>,
    pub damages: Vec<Damage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub first: u64,
    pub count: u32,
    slots_crc: u32,
}

impl Range {
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

pub(super) fn sidecar_path(segment: &Path) -> PathBuf {
    segment.with_extension("index")
}

/// What a sidecar is made from.
#[derive(Debug)]
pub(super) struct Sealed<'a> {
    pub folder_id: u64,
    pub sequence: u64,
    pub data_end: u64,
    pub last_appended_at: i64,
    pub firsts: &'a [u64],
    pub slots: &'a [Vec<Slot>],
    pub damages: &'a [Damage],
}

/// Writes the sidecar of `segment` in one go, by another name first, so that a
/// reader never sees half of one.
pub(super) fn write(segment: &Path, sealed: &Sealed<'_>) -> io::Result<()> {
    let path = sidecar_path(segment);
    let unfinished = path.with_extension("index-unfinished");
    let written =
        fs::write(&unfinished, encode(sealed)).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // What is left of it is removed at the next opening at the latest.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn encode(sealed: &Sealed<'_>) -> Vec<u8> {
    let head_bytes =
        FIXED_BYTES + sealed.firsts.len() * RANGE_BYTES + sealed.damages.len() * DAMAGE_BYTES;
    let frames: usize = sealed.slots.iter().map(Vec::len).sum();
    let mut bytes = Vec::with_capacity(head_bytes + frames * SLOT_BYTES);
    let count =
        |number: usize| u32::try_from(number).expect("a segment has fewer frames than bytes");
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    let partitions = u16::try_from(sealed.firsts.len()).expect("at most MAX_PARTITIONS");
    bytes.extend_from_slice(&partitions.to_le_bytes());
    bytes.extend_from_slice(&sealed.sequence.to_le_bytes());
    bytes.extend_from_slice(&sealed.folder_id.to_le_bytes());
    bytes.extend_from_slice(&sealed.data_end.to_le_bytes());
    bytes.extend_from_slice(&sealed.last_appended_at.to_le_bytes());
    bytes.extend_from_slice(&count(sealed.damages.len()).to_le_bytes());
    bytes.extend_from_slice(&count(head_bytes).to_le_bytes());
    let slots: Vec<Vec<u8>> = sealed.slots.iter().map(|slots| encode_slots(slots)).collect();
    for (first, slots) in sealed.firsts.iter().zip(&slots) {
        bytes.extend_from_slice(&first.to_le_bytes());
        bytes.extend_from_slice(&count(slots.len() / SLOT_BYTES).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(slots).to_le_bytes());
    }
    for damage in sealed.damages {
        bytes.extend_from_slice(&damage.partition.to_le_bytes());
        bytes.push(damage.reason as u8);
        bytes.extend_from_slice(&[0; 5]);
        bytes.extend_from_slice(&damage.offset.to_le_bytes());
        bytes.extend_from_slice(&damage.position.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    for slots in slots {
        bytes.extend_from_slice(&slots);
    }
    bytes
}

fn encode_slots(slots: &[Slot]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(slots.len() * SLOT_BYTES);
    for slot in slots {
        bytes.extend_from_slice(&slot.offset.to_le_bytes());
        bytes.extend_from_slice(&slot.len.to_le_bytes());
    }
    bytes
}

/// The head of the sidecar of `segment`; `None` if it is missing or damaged.
pub(super) fn read_head(
    segment: &Path,
    folder_id: u64,
    sequence: u64,
) -> io::Result<Option<SidecarHead>> {
    match File::open(sidecar_path(segment)) {
        Ok(file) => Ok(decode_head(&file)?
            .filter(|head| head.folder_id == folder_id && head.sequence == sequence)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn decode_head(file: &File) -> io::Result<Option<SidecarHead>> {
    let mut fixed = [0; FIXED_BYTES];
    if read_up_to(file, &mut fixed, 0)? < FIXED_BYTES || fixed[0..8] != MAGIC {
        return Ok(None);
    }
    let partitions = usize::from(u16_at(&fixed, 14));
    let damages = u32_at(&fixed, 48) as usize;
    let head_bytes = u32_at(&fixed, 52) as usize;
    let expected = damages
        .checked_mul(DAMAGE_BYTES)
        .and_then(|bytes| bytes.checked_add(FIXED_BYTES + partitions * RANGE_BYTES));
    if u16_at(&fixed, 12) != FORMAT || expected != Some(head_bytes) || head_bytes > MAX_HEAD_BYTES {
        return Ok(None);
    }
    let mut head = vec![0; head_bytes];
    if read_up_to(file, &mut head, 0)? < head_bytes
        || crc32c::crc32c(&head[12..]) != u32_at(&head, 8)
    {
        return Ok(None);
    }
    let (ranges, damages) = head[FIXED_BYTES..].split_at(partitions * RANGE_BYTES);
    let damages: Option<Vec<Damage>> =
        damages.chunks_exact(DAMAGE_BYTES).map(decode_damage).collect();
    Ok(damages.map(|damages| SidecarHead {
        sequence: u64_at(&head, 16),
        folder_id: u64_at(&head, 24),
        data_end: u64_at(&head, 32),
        last_appended_at: u64_at(&head, 40).cast_signed(),
        ranges: ranges
            .chunks_exact(RANGE_BYTES)
            .map(|range| Range {
                first: u64_at(range, 0),
                count: u32_at(range, 8),
                slots_crc: u32_at(range, 12),
            })
            .collect(),
        damages,
    }))
}

fn decode_damage(bytes: &[u8]) -> Option<Damage> {
    Some(Damage {
        partition: u16_at(bytes, 0),
        reason: DamageReason::from_u8(bytes[2])?,
        offset: u64_at(bytes, 8),
        position: u64_at(bytes, 16),
    })
}

/// The slots of one partition; `None` if the sidecar is missing or damaged.
pub(super) fn read_slots(
    segment: &Path,
    sequence: u64,
    partition: usize,
) -> io::Result<Option<Vec<Slot>>> {
    let file = match File::open(sidecar_path(segment)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(head) = decode_head(&file)?.filter(|head| head.sequence == sequence) else {
        return Ok(None);
    };
    let Some(range) = head.ranges.get(partition) else { return Ok(None) };
    let before: u64 = head.ranges[..partition].iter().map(|range| u64::from(range.count)).sum();
    let head_bytes =
        FIXED_BYTES + head.ranges.len() * RANGE_BYTES + head.damages.len() * DAMAGE_BYTES;
    let mut bytes = vec![0; range.count as usize * SLOT_BYTES];
    let read = read_up_to(&file, &mut bytes, head_bytes as u64 + before * SLOT_BYTES as u64)?;
    if read < bytes.len() || crc32c::crc32c(&bytes) != range.slots_crc {
        return Ok(None);
    }
    let slots = bytes
        .chunks_exact(SLOT_BYTES)
        .map(|slot| Slot { offset: u32_at(slot, 0), len: u32_at(slot, 4) });
    Ok(Some(slots.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_one(segment: &Path) -> (Vec<Vec<Slot>>, Vec<Damage>) {
        let slots = vec![
            vec![Slot { offset: 8_192, len: 100 }, Slot { offset: 9_000, len: 0 }],
            vec![],
            vec![Slot { offset: 8_292, len: 64 }],
        ];
        let damages = vec![Damage {
            partition: 0,
            position: 6,
            offset: 9_000,
            reason: DamageReason::Missing,
        }];
        let sealed = Sealed {
            folder_id: 9,
            sequence: 4,
            data_end: 9_999,
            last_appended_at: 1,
            firsts: &[5, 6, 7],
            slots: &slots,
            damages: &damages,
        };
        write(segment, &sealed).unwrap();
        (slots, damages)
    }

    #[test]
    fn comes_back_as_it_went() {
        let dir = tempfile::tempdir().unwrap();
        let segment = dir.path().join("4.segment");
        assert_eq!(read_head(&segment, 9, 4).unwrap(), None);
        let (slots, damages) = write_one(&segment);
        let head = read_head(&segment, 9, 4).unwrap().unwrap();
        assert_eq!(head.damages, damages);
        assert_eq!((head.data_end, head.last_appended_at), (9_999, 1));
        let ranges: Vec<_> = head.ranges.iter().map(|range| (range.first, range.end())).collect();
        assert_eq!(ranges, [(5, 7), (6, 6), (7, 8)]);
        for (partition, slots) in slots.iter().enumerate() {
            assert_eq!(read_slots(&segment, 4, partition).unwrap().as_ref(), Some(slots));
        }
        assert_eq!(read_head(&segment, 8, 4).unwrap(), None, "of another folder");
        assert_eq!(read_slots(&segment, 5, 0).unwrap(), None, "of another segment");
    }

    #[test]
    fn no_flipped_byte_goes_unseen() {
        let dir = tempfile::tempdir().unwrap();
        let segment = dir.path().join("4.segment");
        let (slots, _) = write_one(&segment);
        let head = read_head(&segment, 9, 4).unwrap();
        let path = sidecar_path(&segment);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            fs::write(&path, &flipped).unwrap();
            let seen = read_head(&segment, 9, 4).unwrap() != head
                || (0..3).any(|p| read_slots(&segment, 4, p).unwrap().as_ref() != Some(&slots[p]));
            assert!(seen, "byte {at}");
        }
    }
}
