//! A frame: what stands around a record in a segment.
//!
//! The layout is stored and stable, all numbers little-endian:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | magic |
//! | 4 | 4 | CRC-32C of bytes 8..64, seeded by the segment |
//! | 8 | 4 | CRC-32C of the record |
//! | 12 | 4 | length of the record, which follows the header |
//! | 16 | 2 | partition |
//! | 18 | 1 | kind of the record; 0 is a mark |
//! | 19 | 1 | version of the record |
//! | 20 | 4 | rows of the record |
//! | 24 | 8 | position |
//! | 32 | 8 | appended_at |
//! | 40 | 4 | offset of this frame in the segment |
//! | 44 | 4 | durable_to |
//! | 48 | 8 | position of the frame before this one in the segment |
//! | 56 | 2 | partition of the frame before this one; `u16::MAX` if none |
//! | 58 | 1 | 1 if the group ends with this frame |
//! | 59 | 1 | 0 |
//! | 60 | 4 | ordinal of this frame in the segment |
//!
//! `durable_to` is what tells a torn tail from damage: all below it had been
//! synced before this frame was written. A mark is a header alone, written
//! without a sync behind a group when no other group follows at once, only to
//! say that the group was synced; the next group is written over it.
//!
//! The next group begins at the next block, also behind a group whose end was
//! torn off, so that none of its frames says that it ends.
//!
//! The seed makes a frame of another segment or folder, and the offset a frame
//! inside a record, no frame of this segment.

use crate::error::DamageReason;

pub(super) const HEADER_BYTES: usize = 64;
pub(super) const MAGIC: [u8; 4] = *b"BKNf";
/// Groups begin at multiples of this, so that no write ever touches a block of
/// the disk that holds acknowledged records.
pub(super) const BLOCK_BYTES: u64 = 4_096;
const MARK: u8 = 0;
const NO_PARTITION: u16 = u16::MAX;

/// The place of a frame in the order of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub partition: u16,
    pub position: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub payload_crc: u32,
    pub payload_len: u32,
    pub place: Place,
    pub kind: u8,
    pub version: u8,
    pub rows: u32,
    pub appended_at: i64,
    pub offset: u32,
    pub durable_to: u32,
    pub previous: Option<Place>,
    pub ends_group: bool,
    pub ordinal: u32,
}

impl FrameHeader {
    pub(super) fn mark(
        offset: u32,
        previous: Option<Place>,
        ordinal: u32,
        appended_at: i64,
    ) -> Self {
        Self {
            payload_crc: 0,
            payload_len: 0,
            place: Place { partition: NO_PARTITION, position: 0 },
            kind: MARK,
            version: 0,
            rows: 0,
            appended_at,
            offset,
            durable_to: offset,
            previous,
            ends_group: true,
            ordinal,
        }
    }

    pub(super) fn is_mark(&self) -> bool {
        self.kind == MARK
    }

    /// The offset behind the record.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.offset) + HEADER_BYTES as u64 + u64::from(self.payload_len)
    }

    /// Where the frame behind this one begins.
    pub(super) fn next_offset(&self) -> u64 {
        if self.ends_group { align(self.end()) } else { self.end() }
    }

    pub(super) fn encode(&self, seed: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let previous = self.previous.unwrap_or(Place { partition: NO_PARTITION, position: 0 });
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.place.partition.to_le_bytes());
        bytes[18] = self.kind;
        bytes[19] = self.version;
        bytes[20..24].copy_from_slice(&self.rows.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.place.position.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.appended_at.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.offset.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.durable_to.to_le_bytes());
        bytes[48..56].copy_from_slice(&previous.position.to_le_bytes());
        bytes[56..58].copy_from_slice(&previous.partition.to_le_bytes());
        bytes[58] = u8::from(self.ends_group);
        bytes[60..64].copy_from_slice(&self.ordinal.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes`, if it is one of the segment of
    /// `seed` at `offset`.
    pub(super) fn decode(bytes: &[u8], seed: u32, offset: u64) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        if bytes[0..4] != MAGIC
            || u32_at(bytes, 4) != crc32c::crc32c_append(seed, &bytes[8..])
            || u64::from(u32_at(bytes, 40)) != offset
        {
            return None;
        }
        let previous = Place { partition: u16_at(bytes, 56), position: u64_at(bytes, 48) };
        Some(Self {
            payload_crc: u32_at(bytes, 8),
            payload_len: u32_at(bytes, 12),
            place: Place { partition: u16_at(bytes, 16), position: u64_at(bytes, 24) },
            kind: bytes[18],
            version: bytes[19],
            rows: u32_at(bytes, 20),
            appended_at: u64_at(bytes, 32).cast_signed(),
            offset: u32_at(bytes, 40),
            durable_to: u32_at(bytes, 44),
            previous: (previous.partition != NO_PARTITION).then_some(previous),
            ends_group: bytes[58] == 1,
            ordinal: u32_at(bytes, 60),
        })
    }
}

/// Takes a frame apart that stands at `offset` and is expected to be of
/// `place`; `bytes` are exactly the frame.
pub(super) fn open_frame(
    bytes: &[u8],
    seed: u32,
    offset: u64,
    place: Place,
) -> Result<FrameHeader, DamageReason> {
    let header = FrameHeader::decode(bytes, seed, offset).ok_or(DamageReason::Header)?;
    if header.place != place || header.payload_len as usize != bytes.len() - HEADER_BYTES {
        return Err(DamageReason::Header);
    }
    if crc32c::crc32c(&bytes[HEADER_BYTES..]) != header.payload_crc {
        return Err(DamageReason::Payload);
    }
    Ok(header)
}

/// The first start of a block at or behind `offset`.
pub(super) fn align(offset: u64) -> u64 {
    offset.next_multiple_of(BLOCK_BYTES)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes is an array of N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            payload_crc: 0x0102_0304,
            payload_len: 5,
            place: Place { partition: 3, position: 77 },
            kind: 1,
            version: 1,
            rows: 9,
            appended_at: -2,
            offset: 8_192,
            durable_to: 8_192,
            previous: Some(Place { partition: 1, position: 4 }),
            ends_group: true,
            ordinal: 6,
        }
    }

    #[test]
    fn comes_back_as_it_went() {
        let bytes = header().encode(42);
        assert_eq!(FrameHeader::decode(&bytes, 42, 8_192), Some(header()));
        let mark = FrameHeader::mark(12_288, None, 7, 5);
        assert_eq!(FrameHeader::decode(&mark.encode(1), 1, 12_288), Some(mark));
    }

    #[test]
    fn has_a_stable_layout() {
        let golden = "424b4e66\
                      ????????\
                      0403020105000000030001010900000\
                      04d00000000000000feffffffffffffff\
                      002000000020000004000000000000000100010006000000";
        let text: String = header().encode(42).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text[..8], golden[..8]);
        assert_eq!(text[16..], golden[16..]);
    }

    #[test]
    fn is_of_one_segment_and_one_offset() {
        let bytes = header().encode(42);
        assert_eq!(FrameHeader::decode(&bytes, 43, 8_192), None);
        assert_eq!(FrameHeader::decode(&bytes, 42, 8_193), None);
        assert_eq!(FrameHeader::decode(&bytes[..63], 42, 8_192), None);
    }

    #[test]
    fn no_flipped_bit_goes_unseen() {
        let bytes = header().encode(42);
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&flipped, 42, 8_192), None, "bit {bit}");
        }
    }
}
