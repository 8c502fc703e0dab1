//! Rows on their way from a payload to a journal record.

use schema::{DeviceId, TimestampMs, Value};

use super::KeyId;

/// One value of one key of one device at one time; 32 bytes. A text or nested
/// value stands in its [`Rows`].
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub device: DeviceId,
    pub observed_at: TimestampMs,
    /// A number's or integer's bits, a boolean as 0 or 1, a text's first byte.
    bits: u64,
    pub key: KeyId,
    /// The kind in the lowest three bits, a text's length in bytes above them.
    kind_and_len: u32,
}

const KIND_BITS: u32 = 3;
const KIND_MASK: u32 = (1 << KIND_BITS) - 1;
const NONE: u32 = 0;
const NUMBER: u32 = 1;
const INTEGER: u32 = 2;
const BOOLEAN: u32 = 3;
const TEXT: u32 = 4;
const JSON: u32 = 5;
/// Set aside by a later value of the same key in the same object.
const DROPPED: u32 = 6;

/// The longest text of one row, in bytes.
const MAX_TEXT_BYTES: usize = (u32::MAX >> KIND_BITS) as usize;

/// Rows of one router, in the order that they were sent, with their texts.
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
    text: String,
    dropped: usize,
}

/// A place to go back to when a message turns out bad half-way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    rows: usize,
    text: usize,
}

impl Rows {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for `rows` rows before the first allocation.
    #[must_use]
    pub fn with_capacity(rows: usize) -> Self {
        Self { rows: Vec::with_capacity(rows), text: String::new(), dropped: 0 }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes that the rows take in memory.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.rows.len() * size_of::<Row>() + self.text.len()
    }

    /// Empties the rows and keeps their memory.
    pub fn clear(&mut self) {
        self.truncate(Mark { rows: 0, text: 0 });
    }

    #[must_use]
    pub fn as_slice(&self) -> &[Row] {
        &self.rows
    }

    /// The value of a row of this list; `None` is a deleted attribute.
    #[must_use]
    pub fn value(&self, row: &Row) -> Option<Value<'_>> {
        match row.kind_and_len & KIND_MASK {
            NUMBER => Some(Value::Number(f64::from_bits(row.bits))),
            INTEGER => Some(Value::Integer(row.bits.cast_signed())),
            BOOLEAN => Some(Value::Boolean(row.bits != 0)),
            TEXT => Some(Value::Text(self.text_of(row))),
            JSON => Some(Value::Json(self.text_of(row))),
            _ => None,
        }
    }

    fn text_of(&self, row: &Row) -> &str {
        let start = usize::try_from(row.bits).expect("an offset into memory");
        &self.text[start..start + (row.kind_and_len >> KIND_BITS) as usize]
    }

    /// Where the next row will stand.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { rows: self.rows.len(), text: self.text.len() }
    }

    /// Forgets all rows from `mark` on.
    pub fn truncate(&mut self, mark: Mark) {
        self.rows.truncate(mark.rows);
        self.text.truncate(mark.text);
        self.dropped = 0;
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If a text is longer than 512 MiB, which no payload is.
    pub fn push(
        &mut self,
        device: DeviceId,
        key: KeyId,
        observed_at: TimestampMs,
        value: Option<Value<'_>>,
    ) {
        let (bits, kind_and_len) = self.place(value);
        self.rows.push(Row { device, observed_at, bits, key, kind_and_len });
    }

    fn place(&mut self, value: Option<Value<'_>>) -> (u64, u32) {
        match value {
            None => (0, NONE),
            Some(Value::Number(number)) => (number.to_bits(), NUMBER),
            Some(Value::Integer(integer)) => (integer.cast_unsigned(), INTEGER),
            Some(Value::Boolean(boolean)) => (u64::from(boolean), BOOLEAN),
            Some(Value::Text(text)) => self.place_text(text, TEXT),
            Some(Value::Json(json)) => self.place_text(json, JSON),
        }
    }

    fn place_text(&mut self, text: &str, kind: u32) -> (u64, u32) {
        assert!(text.len() <= MAX_TEXT_BYTES, "a payload is far below 512 MiB");
        let start = self.text.len() as u64;
        self.text.push_str(text);
        let len = u32::try_from(text.len()).expect("checked above");
        (start, (len << KIND_BITS) | kind)
    }

    /// Gives the row at `index` another value: the last of a repeated key wins.
    pub(crate) fn replace(&mut self, index: usize, value: Option<Value<'_>>) {
        if self.rows[index].kind_and_len & KIND_MASK == DROPPED {
            self.dropped -= 1;
        }
        let (bits, kind_and_len) = self.place(value);
        let row = &mut self.rows[index];
        (row.bits, row.kind_and_len) = (bits, kind_and_len);
    }

    /// Takes the row at `index` back; [`Rows::compact`] removes it.
    pub(crate) fn set_aside(&mut self, index: usize) {
        let row = &mut self.rows[index];
        if row.kind_and_len & KIND_MASK != DROPPED {
            row.kind_and_len = DROPPED;
            self.dropped += 1;
        }
    }

    /// Removes the rows that were set aside since `mark`.
    pub(crate) fn compact(&mut self, mark: Mark) {
        if self.dropped == 0 {
            return;
        }
        let mut kept = mark.rows;
        for index in mark.rows..self.rows.len() {
            if self.rows[index].kind_and_len & KIND_MASK != DROPPED {
                self.rows[kept] = self.rows[index];
                kept += 1;
            }
        }
        self.rows.truncate(kept);
        self.dropped = 0;
    }

    /// Gives all rows from `mark` on another time.
    pub(crate) fn set_observed_at(&mut self, mark: Mark, observed_at: TimestampMs) {
        for row in &mut self.rows[mark.rows..] {
            row.observed_at = observed_at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_takes_32_bytes() {
        assert_eq!(size_of::<Row>(), 32);
    }

    #[test]
    fn every_value_comes_back() {
        let values = [
            None,
            Some(Value::Number(-0.5)),
            Some(Value::Integer(i64::MIN)),
            Some(Value::Boolean(true)),
            Some(Value::Boolean(false)),
            Some(Value::Text("")),
            Some(Value::Text("läuft")),
            Some(Value::Json("[1]")),
        ];
        let mut rows = Rows::new();
        for value in values {
            rows.push(DeviceId(1), KeyId::default(), TimestampMs(5), value);
        }
        let read: Vec<_> = rows.as_slice().iter().map(|row| rows.value(row)).collect();
        assert_eq!(read, values);
    }

    #[test]
    fn a_mark_takes_rows_and_texts_back() {
        let mut rows = Rows::new();
        let at = TimestampMs(0);
        rows.push(DeviceId(1), KeyId::default(), at, Some(Value::Text("kept")));
        let mark = rows.mark();
        rows.push(DeviceId(1), KeyId::default(), at, Some(Value::Text("gone")));
        rows.truncate(mark);
        assert_eq!((rows.mark(), rows.text.as_str()), (mark, "kept"));
    }

    #[test]
    fn a_row_set_aside_is_removed_unless_it_gets_a_value_again() {
        let mut rows = Rows::new();
        let mark = rows.mark();
        for number in 0..4 {
            rows.push(DeviceId(1), KeyId::default(), TimestampMs(0), Some(Value::Integer(number)));
        }
        rows.set_aside(0);
        rows.set_aside(2);
        rows.set_aside(2);
        rows.replace(0, Some(Value::Integer(9)));
        rows.compact(mark);
        let read: Vec<_> = rows.as_slice().iter().map(|row| rows.value(row)).collect();
        assert_eq!(read, [9, 1, 3].map(|number| Some(Value::Integer(number))));
    }
}
