//! What the manifest holds of a file beside its name: which rows are of which
//! series, and a CRC-32C of each block of the file's bytes.
//!
//! The encoding is part of the stored format. Version 1: the version (1 byte);
//! the number of series; for each, in the order of the file, its number, its
//! rows and the mask of its kinds of value; the number of blocks; their
//! checksums; and last a CRC-32C of all before. Numbers are LEB128, checksums
//! four bytes little-endian.

use super::Damage;

const VERSION: u8 = 1;

/// The rows of one series in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::history) struct SeriesRows {
    pub series: u32,
    /// The first row, counted over the whole file.
    pub start: u32,
    pub rows: u32,
    /// Which kinds of value occur, by `kind_bit`.
    pub kinds: u8,
}

/// The series index and the checksums of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::history) struct Contents {
    /// In the order of the file.
    pub series: Vec<SeriesRows>,
    pub checksums: Vec<u32>,
}

impl Contents {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 5 * self.series.len() + 4 * self.checksums.len());
        out.push(VERSION);
        put(&mut out, self.series.len() as u64);
        for entry in &self.series {
            put(&mut out, u64::from(entry.series));
            put(&mut out, u64::from(entry.rows));
            out.push(entry.kinds);
        }
        put(&mut out, self.checksums.len() as u64);
        for checksum in &self.checksums {
            out.extend_from_slice(&checksum.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let split = bytes.len().checked_sub(4).ok_or_else(damage)?;
        let (body, crc) = bytes.split_at(split);
        if crc32c::crc32c(body).to_le_bytes() != crc {
            return Err(damage());
        }
        let mut rest = body;
        if byte(&mut rest)? != VERSION {
            return Err(damage());
        }
        let mut contents = Self::default();
        let mut start = 0u32;
        for _ in 0..get(&mut rest)? {
            let series = u32::try_from(get(&mut rest)?).map_err(|_| damage())?;
            let rows = u32::try_from(get(&mut rest)?).map_err(|_| damage())?;
            let kinds = byte(&mut rest)?;
            contents.series.push(SeriesRows { series, start, rows, kinds });
            start = start.checked_add(rows).ok_or_else(damage)?;
        }
        for _ in 0..get(&mut rest)? {
            let (checksum, behind) = rest.split_first_chunk().ok_or_else(damage)?;
            contents.checksums.push(u32::from_le_bytes(*checksum));
            rest = behind;
        }
        if rest.is_empty() { Ok(contents) } else { Err(damage()) }
    }
}

fn damage() -> Damage {
    Damage("its series index in the manifest fails its checksum".to_owned())
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn byte(rest: &mut &[u8]) -> Result<u8, Damage> {
    let (first, behind) = rest.split_first().ok_or_else(damage)?;
    *rest = behind;
    Ok(*first)
}

fn get(rest: &mut &[u8]) -> Result<u64, Damage> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let part = byte(rest)?;
        number |= u64::from(part & 0x7f) << shift;
        if part < 0x80 {
            return Ok(number);
        }
    }
    Err(damage())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_any_flipped_bit_is_noticed() {
        let contents = Contents {
            series: vec![
                SeriesRows { series: 300, start: 0, rows: 5, kinds: 1 },
                SeriesRows { series: u32::MAX, start: 5, rows: 70_000, kinds: 0b11111 },
            ],
            checksums: vec![0, u32::MAX, 7],
        };
        let bytes = contents.encode();
        assert_eq!(Contents::decode(&bytes).unwrap(), contents);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Contents::decode(&damaged).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(Contents::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
