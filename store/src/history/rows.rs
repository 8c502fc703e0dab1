//! Rows of readings as they lie in memory: 24 bytes each, with texts in an
//! arena beside them. One row is one cache line's worth of work wherever it is
//! gathered, which is why this is not kept by column.

use std::ops::Range;

use schema::{TimestampMs, Value, ValueKind};

use super::reading::{ReadingValue, Sample};

/// A reading without its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub observed_at: i64,
    /// A number's or integer's bits, a boolean as 0 or 1, or a text's place in
    /// the arena: offset in the upper half, length in the lower.
    pub bits: u64,
    pub kind: ValueKind,
}

/// Rows with the texts that they refer to.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub rows: Vec<Row>,
    pub texts: Vec<u8>,
}

/// The bit of a kind in a mask of kinds.
pub(super) fn kind_bit(kind: ValueKind) -> u8 {
    1 << (kind as u8 - 1)
}

impl Row {
    pub fn is_text(&self) -> bool {
        matches!(self.kind, ValueKind::Text | ValueKind::Json)
    }
}

impl Rows {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.texts.clear();
    }

    /// Bytes of memory in use.
    pub fn bytes(&self) -> usize {
        self.rows.len() * size_of::<Row>() + self.texts.len()
    }

    pub fn push(&mut self, observed_at: i64, value: Value<'_>) {
        let kind = value.kind();
        let bits = match value {
            Value::Number(number) => number.to_bits(),
            Value::Integer(integer) => integer.cast_unsigned(),
            Value::Boolean(boolean) => u64::from(boolean),
            Value::Text(text) | Value::Json(text) => self.keep_text(text.as_bytes()),
        };
        self.rows.push(Row { observed_at, bits, kind });
    }

    /// Puts a text into the arena; gives the bits that find it again.
    pub fn keep_text(&mut self, text: &[u8]) -> u64 {
        let offset = u32::try_from(self.texts.len()).expect("arenas are sealed far below 4 GiB");
        self.texts.extend_from_slice(text);
        (u64::from(offset) << 32) | text.len() as u64
    }

    pub fn text(&self, row: &Row) -> &[u8] {
        let offset = (row.bits >> 32) as usize;
        &self.texts[offset..offset + (row.bits & 0xffff_ffff) as usize]
    }

    /// Adds a row of `from`, with its text.
    pub fn push_row(&mut self, from: &Self, row: Row) {
        let bits = if row.is_text() { self.keep_text(from.text(&row)) } else { row.bits };
        self.rows.push(Row { bits, ..row });
    }

    /// Adds rows of `from`, with their texts.
    pub fn append(&mut self, from: &Self, range: Range<usize>) {
        if from.texts.is_empty() {
            self.rows.extend_from_slice(&from.rows[range]);
        } else {
            for row in &from.rows[range] {
                self.push_row(from, *row);
            }
        }
    }

    /// Forgets the first rows. Their texts stay until all rows are gone.
    pub fn drop_front(&mut self, count: usize) {
        self.rows.drain(..count);
        if self.rows.is_empty() {
            self.texts.clear();
        }
    }

    /// Forgets the rows from `count` on, likewise.
    pub fn truncate(&mut self, count: usize) {
        self.rows.truncate(count);
        if self.rows.is_empty() {
            self.texts.clear();
        }
    }

    pub fn value(&self, row: &Row) -> ReadingValue {
        let text = || String::from_utf8_lossy(self.text(row)).into();
        match row.kind {
            ValueKind::Number => ReadingValue::Number(f64::from_bits(row.bits)),
            ValueKind::Integer => ReadingValue::Integer(row.bits.cast_signed()),
            ValueKind::Boolean => ReadingValue::Boolean(row.bits != 0),
            ValueKind::Text => ReadingValue::Text(text()),
            ValueKind::Json => ReadingValue::Json(text()),
        }
    }

    pub fn sample(&self, row: &Row) -> Sample {
        Sample { observed_at: TimestampMs(row.observed_at), value: self.value(row) }
    }
}

/// The part of `rows` with times from `from` (inclusive) to `to` (exclusive).
/// The rows of a series are in order of time, each time once.
pub(super) fn time_slice(rows: &[Row], from: i64, to: i64) -> Range<usize> {
    let start = rows.partition_point(|row| row.observed_at < from);
    let end = rows.partition_point(|row| row.observed_at < to);
    start..end.max(start)
}

/// Merges rows of one series, older sources first, each in order of time; of
/// equal times the later source's row stays.
pub(super) fn merge(sources: &[(&Rows, Range<usize>)], out: &mut Rows) {
    let mut end = i64::MIN;
    let mut first = true;
    let in_order = sources.iter().filter(|(_, range)| !range.is_empty()).all(|(rows, range)| {
        let behind = first || rows.rows[range.start].observed_at > end;
        first = false;
        end = rows.rows[range.end - 1].observed_at;
        behind
    });
    if in_order {
        for (rows, range) in sources {
            out.append(rows, range.clone());
        }
        return;
    }
    let mut all: Vec<(Row, u32)> = Vec::new();
    for (source, (rows, range)) in (0..).zip(sources) {
        all.extend(rows.rows[range.clone()].iter().map(|row| (*row, source)));
    }
    // Stable: of equal times the row of the latest source comes last. The
    // sort finds the runs that the sources are, so this is a merge.
    all.sort_by_key(|(row, _)| row.observed_at);
    for (place, (row, source)) in all.iter().enumerate() {
        if all.get(place + 1).is_none_or(|(next, _)| next.observed_at != row.observed_at) {
            out.push_row(sources[*source as usize].0, *row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(readings: &[(i64, Value<'_>)]) -> Rows {
        let mut rows = Rows::default();
        for (at, value) in readings {
            rows.push(*at, *value);
        }
        rows
    }

    fn samples(rows: &Rows) -> Vec<(i64, ReadingValue)> {
        rows.rows.iter().map(|row| (row.observed_at, rows.value(row))).collect()
    }

    #[test]
    fn a_later_source_wins_at_equal_times() {
        let old = rows(&[(1, Value::Text("a")), (3, Value::Integer(3)), (5, Value::Number(0.5))]);
        let new = rows(&[(2, Value::Boolean(true)), (3, Value::Json("{}"))]);
        let mut out = Rows::default();
        merge(&[(&old, 0..3), (&new, 0..2)], &mut out);
        assert_eq!(
            samples(&out),
            [
                (1, ReadingValue::Text("a".into())),
                (2, ReadingValue::Boolean(true)),
                (3, ReadingValue::Json("{}".into())),
                (5, ReadingValue::Number(0.5)),
            ]
        );
    }

    #[test]
    fn sources_one_behind_the_other_are_joined_and_empty_ones_do_no_harm() {
        let old = rows(&[(1, Value::Text("a")), (2, Value::Text("b"))]);
        let new = rows(&[(i64::MAX, Value::Text("c"))]);
        let mut out = Rows::default();
        merge(&[(&new, 0..0), (&old, 0..2), (&old, 1..1), (&new, 0..1)], &mut out);
        let times: Vec<i64> = out.rows.iter().map(|row| row.observed_at).collect();
        assert_eq!(times, [1, 2, i64::MAX]);
        assert_eq!(out.text(&out.rows[2]), b"c");
    }

    #[test]
    fn a_slice_of_time_takes_its_start_and_leaves_its_end() {
        let rows = rows(&[(1, Value::Integer(0)), (2, Value::Integer(0)), (4, Value::Integer(0))]);
        assert_eq!(time_slice(&rows.rows, 2, 4), 1..2);
        assert_eq!(time_slice(&rows.rows, i64::MIN, i64::MAX), 0..3);
        assert_eq!(time_slice(&rows.rows, 3, 1), 2..2);
    }
}
