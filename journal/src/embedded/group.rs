//! A group of records as frames: the shape in which one write and one sync make
//! them durable.

use std::fs::File;
use std::io::{self, IoSlice};

use schema::RECORD_VERSION;

use super::disk::Disk;
use super::frame::{FrameHeader, HEADER_BYTES, Place};
use super::queue::Queued;
use super::segment::Slot;

/// The most slices that one write takes (`UIO_MAXIOV`).
const MAX_SLICES: usize = 1_024;
/// The most bytes of one write. With whole groups of 64 records of 64 KiB in
/// one write, the writer took 64 to 102 us of CPU a record; in such pieces 32 to
/// 42 (ext4, Linux 6.18, in a virtual machine). Why is not known; the size of
/// the page cache's folios is a guess that was not tested.
const MAX_WRITE_BYTES: usize = 64 << 10;

/// Where a group goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub seed: u32,
    /// Where the group begins; all before it is durable.
    pub offset: u64,
    pub ordinal: u32,
    pub previous: Option<Place>,
    pub appended_at: i64,
}

/// The frames of a group, kept between groups for their memory.
#[derive(Debug, Default)]
pub(super) struct Frames {
    headers: Vec<[u8; HEADER_BYTES]>,
    pub places: Vec<(Place, Slot)>,
    /// Per partition, the position of the next record.
    pub next: Vec<u64>,
    pub end: u64,
    pub appended_at: i64,
}

impl Frames {
    /// Makes the headers of `group`, whose partitions go on at `next`.
    pub(super) fn build(&mut self, group: &[Queued], next: &[u64], target: Target) {
        self.headers.clear();
        self.places.clear();
        self.next.clear();
        self.next.extend_from_slice(next);
        let within = |offset: u64| u32::try_from(offset).expect("segments stay below 4 GiB");
        let mut offset = target.offset;
        let mut previous = target.previous;
        for (ordinal, record) in (target.ordinal..).zip(group) {
            let position = &mut self.next[usize::from(record.partition)];
            let place = Place { partition: record.partition, position: *position };
            let header = FrameHeader {
                payload_crc: record.payload_crc,
                payload_len: within(record.payload.len() as u64),
                place,
                kind: record.kind as u8,
                version: RECORD_VERSION,
                rows: record.rows,
                appended_at: target.appended_at,
                offset: within(offset),
                durable_to: within(target.offset),
                previous,
                ends_group: self.places.len() + 1 == group.len(),
                ordinal,
            };
            let len = within(record.frame_bytes() as u64);
            self.headers.push(header.encode(target.seed));
            self.places.push((place, Slot { offset: header.offset, len }));
            offset = header.end();
            previous = Some(place);
            *position += 1;
        }
        self.end = offset;
        self.appended_at = target.appended_at;
    }

    /// Writes `before`, which may be empty, and the frames behind it at `offset`.
    pub(super) fn write(
        &self,
        disk: &dyn Disk,
        file: &File,
        before: &[u8],
        group: &[Queued],
        mut offset: u64,
    ) -> io::Result<()> {
        let mut slices = Vec::with_capacity(group.len() * 2 + 1);
        slices.push(IoSlice::new(before));
        for (header, record) in self.headers.iter().zip(group) {
            slices.push(IoSlice::new(header));
            slices.push(IoSlice::new(&record.payload));
        }
        let mut rest = &mut slices[..];
        // Drops slices that hold nothing.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let count = fitting(rest);
            let first = [IoSlice::new(&rest[0][..rest[0].len().min(MAX_WRITE_BYTES)])];
            let slices = if count == 0 { &first[..] } else { &rest[..count] };
            match disk.write(file, slices, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// How many of `slices` go with one write; none if the first is too large.
fn fitting(slices: &[IoSlice<'_>]) -> usize {
    let mut bytes = 0;
    let fits = slices.iter().take(MAX_SLICES).take_while(|slice| {
        bytes += slice.len();
        bytes <= MAX_WRITE_BYTES
    });
    fits.count()
}
