//! From rows by series to groups by device and time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::ControlFlow;

use schema::{TimestampMs, Value, ValueKind};

use super::slices::Slice;
use super::{ScanDevice, ScanGroup};
use crate::history::rows::{Row, Rows};

/// The rows of one series in one slice of time, each time once.
#[derive(Debug)]
pub(super) struct Lane<'a, K> {
    /// The device's place in the scan.
    pub device: u32,
    /// What the caller calls the key.
    pub key: K,
    pub rows: &'a [Row],
    /// What the rows' texts lie in.
    pub texts: &'a Rows,
}

/// The series of one device, and its next time.
struct Stream<'a, 'b, K> {
    lanes: &'b mut [Lane<'a, K>],
}

impl<'a, K: Copy> Stream<'a, '_, K> {
    #[inline]
    fn next_at(&self) -> Option<i64> {
        self.lanes.iter().filter_map(|lane| lane.rows.first()).map(|row| row.observed_at).min()
    }

    /// Takes the values at `at`; gives the next time.
    #[inline]
    fn take(&mut self, at: i64, values: &mut Vec<(K, Value<'a>)>) -> Option<i64> {
        let mut next = None;
        for lane in &mut *self.lanes {
            let Some((first, rest)) = lane.rows.split_first() else { continue };
            if first.observed_at == at {
                values.push((lane.key, value(first, lane.texts)));
                lane.rows = rest;
            }
            if let Some(row) = lane.rows.first() {
                next = Some(next.map_or(row.observed_at, |at: i64| at.min(row.observed_at)));
            }
        }
        next
    }
}

/// Gives out all of a slice.
pub(super) fn groups<K: Copy>(
    slice: &Slice<'_>,
    known: &[ScanDevice<K>],
    devices: &[usize],
    visit: &mut impl FnMut(&ScanGroup<'_, K>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut lanes = slice.lanes(|device, key| known[devices[device as usize]].keys[key as usize].1);
    let mut streams: Vec<(u32, Stream<'_, '_, K>)> = Vec::new();
    for of_device in lanes.chunk_by_mut(|a, b| a.device == b.device) {
        let device = of_device[0].device;
        streams.push((device, Stream { lanes: of_device }));
    }
    let mut heap: BinaryHeap<Reverse<(i64, u32)>> = (0u32..)
        .zip(&streams)
        .filter_map(|(place, (_, stream))| stream.next_at().map(|at| Reverse((at, place))))
        .collect();
    let mut values: Vec<(K, Value<'_>)> = Vec::new();
    while let Some(mut top) = heap.peek_mut() {
        let Reverse((at, place)) = *top;
        let (device, stream) = &mut streams[place as usize];
        values.clear();
        match stream.take(at, &mut values) {
            Some(next) => *top = Reverse((next, place)),
            None => {
                PeekMut::pop(top);
            }
        }
        let at = TimestampMs(at);
        visit(&ScanGroup { device: devices[*device as usize], at, values: &values })?;
    }
    ControlFlow::Continue(())
}

/// The caller's crate has the loop, so that it must be able to take this in.
#[inline]
fn value<'a>(row: &Row, texts: &'a Rows) -> Value<'a> {
    match row.kind {
        ValueKind::Number => Value::Number(f64::from_bits(row.bits)),
        ValueKind::Integer => Value::Integer(row.bits.cast_signed()),
        ValueKind::Boolean => Value::Boolean(row.bits != 0),
        ValueKind::Text => Value::Text(text(row, texts)),
        ValueKind::Json => Value::Json(text(row, texts)),
    }
}

#[inline(never)]
fn text<'a>(row: &Row, texts: &'a Rows) -> &'a str {
    // It was written from text, and the file's checksums were right.
    std::str::from_utf8(texts.text(row)).unwrap_or_default()
}
