//! Gathers rows column by column and encodes them as one record.

use std::mem::take;
use std::sync::Arc;

use arrow_array::types::UInt16Type;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt16Array, UInt64Array,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use hashbrown::HashMap;

use super::columns::{KINDS, Kinds};
use super::{MAX_RECORD_ROWS, Origin, Record, RecordKind, RecordRows};
use crate::{TimestampMs, Value, ValueKind};

/// A key's place in the dictionary of the record being built; valid until
/// [`RecordBuilder::finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalKey(u16);

/// The record is full: [`MAX_RECORD_ROWS`] rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a journal record holds at most {MAX_RECORD_ROWS} rows")]
pub struct RowLimit;

/// Below this [`RecordBuilder::size_bytes`] buffers are not compressed: it would
/// take several times as long as all else of encoding, for a few kilobytes.
const MIN_COMPRESSED_BYTES: usize = 12 << 10;

/// Builds one record after another, keeping its hash table between them.
#[derive(Debug)]
pub struct RecordBuilder {
    kind: RecordKind,
    local_keys: HashMap<Box<str>, LocalKey, foldhash::fast::RandomState>,
    key_names: Vec<Box<str>>,
    tenants: Vec<u64>,
    routers: Vec<u64>,
    devices: Vec<u64>,
    keys: Vec<u16>,
    observed_at: Vec<i64>,
    received_at: Vec<i64>,
    kinds: Vec<Option<ValueKind>>,
    present: Kinds,
    /// A number's or integer's bits, a boolean as 0 or 1, a text's length.
    bits: Vec<u64>,
    texts: Vec<u8>,
    jsons: Vec<u8>,
}

impl RecordBuilder {
    #[must_use]
    pub fn new(kind: RecordKind) -> Self {
        Self {
            kind,
            local_keys: HashMap::default(),
            key_names: Vec::new(),
            tenants: Vec::new(),
            routers: Vec::new(),
            devices: Vec::new(),
            keys: Vec::new(),
            observed_at: Vec::new(),
            received_at: Vec::new(),
            kinds: Vec::new(),
            present: Kinds::default(),
            bits: Vec::new(),
            texts: Vec::new(),
            jsons: Vec::new(),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Bytes that the rows so far take before compression, about.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.len() * 59 + self.texts.len() + self.jsons.len()
    }

    /// The place of `name` in this record's dictionary.
    ///
    /// # Errors
    /// [`RowLimit`] when as many keys as a record may have rows are taken.
    pub fn key(&mut self, name: &str) -> Result<LocalKey, RowLimit> {
        if let Some(&local) = self.local_keys.get(name) {
            return Ok(local);
        }
        let local = LocalKey(u16::try_from(self.key_names.len()).map_err(|_| RowLimit)?);
        self.key_names.push(name.into());
        self.local_keys.insert(name.into(), local);
        Ok(local)
    }

    /// Adds a row; no value means a deleted attribute.
    ///
    /// # Errors
    /// [`RowLimit`] when the record is full; the row is not added.
    pub fn push(
        &mut self,
        origin: Origin,
        key: LocalKey,
        observed_at: TimestampMs,
        received_at: TimestampMs,
        value: Option<Value<'_>>,
    ) -> Result<(), RowLimit> {
        if self.len() >= MAX_RECORD_ROWS {
            return Err(RowLimit);
        }
        self.tenants.push(origin.tenant.0);
        self.routers.push(origin.router.0);
        self.devices.push(origin.device.0);
        self.keys.push(key.0);
        self.observed_at.push(observed_at.0);
        self.received_at.push(received_at.0);
        let kind = value.as_ref().map(Value::kind);
        self.kinds.push(kind);
        if let Some(kind) = kind {
            self.present.insert(kind);
        }
        self.bits.push(match value {
            None => 0,
            Some(Value::Number(number)) => number.to_bits(),
            Some(Value::Integer(integer)) => integer.cast_unsigned(),
            Some(Value::Boolean(boolean)) => u64::from(boolean),
            Some(Value::Text(text)) => {
                self.texts.extend_from_slice(text.as_bytes());
                text.len() as u64
            }
            Some(Value::Json(json)) => {
                self.jsons.extend_from_slice(json.as_bytes());
                json.len() as u64
            }
        });
        Ok(())
    }

    /// Encodes the rows as one record and starts anew. From 12 KiB on its buffers
    /// are compressed.
    ///
    /// # Panics
    /// If Arrow refuses to write its own columns, which is a defect of ours.
    #[must_use]
    pub fn finish(&mut self) -> Record {
        let rows = self.len();
        let is_compressed = self.size_bytes() >= MIN_COMPRESSED_BYTES;
        let compression = is_compressed.then_some(CompressionType::LZ4_FRAME);
        let present = take(&mut self.present);
        let schema = present.schema();
        let kinds = take(&mut self.kinds);
        let batch = RecordBatch::try_new(schema.clone(), self.columns(present, &kinds))
            .expect("the columns are built to the schema and of one length");
        let options = IpcWriteOptions::default()
            .try_with_compression(compression)
            .expect("LZ4 is compiled in");
        let mut writer =
            StreamWriter::try_new_with_options(Vec::with_capacity(4096), schema, options)
                .expect("a schema can be written to memory");
        writer.write(&batch).expect("a batch can be written to memory");
        let payload = writer.into_inner().expect("the end marker can be written to memory");
        self.local_keys.clear();
        self.expect(rows);
        let decoded =
            RecordRows::of(batch, present, kinds.into()).expect("the batch has our own columns");
        Record {
            kind: self.kind,
            rows: u32::try_from(rows).expect("at most MAX_RECORD_ROWS rows"),
            payload: Bytes::from(payload),
            decoded: Some(Arc::new(decoded)),
        }
    }

    /// Makes room for as many rows as there were: records of a partition are of
    /// about one size, and growing row by row copies each column several times.
    fn expect(&mut self, rows: usize) {
        self.tenants.reserve_exact(rows);
        self.routers.reserve_exact(rows);
        self.devices.reserve_exact(rows);
        self.keys.reserve_exact(rows);
        self.observed_at.reserve_exact(rows);
        self.received_at.reserve_exact(rows);
        self.kinds.reserve_exact(rows);
        self.bits.reserve_exact(rows);
    }

    fn columns(&mut self, present: Kinds, kinds: &[Option<ValueKind>]) -> Vec<ArrayRef> {
        let bits = take(&mut self.bits);
        let names = StringArray::from_iter_values(self.key_names.drain(..));
        let keys = UInt16Array::from(take(&mut self.keys));
        let keys = DictionaryArray::<UInt16Type>::try_new(keys, Arc::new(names))
            .expect("every index was given out by `key`");
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(take(&mut self.tenants))),
            Arc::new(UInt64Array::from(take(&mut self.routers))),
            Arc::new(UInt64Array::from(take(&mut self.devices))),
            Arc::new(keys),
            timestamps(take(&mut self.observed_at)),
            timestamps(take(&mut self.received_at)),
        ];
        for kind in KINDS.into_iter().filter(|kind| present.contains(*kind)) {
            let nulls = nulls(kinds, kind);
            columns.push(match kind {
                ValueKind::Number => {
                    let values = masked(kinds, &bits, kind, f64::from_bits);
                    Arc::new(Float64Array::new(values, nulls))
                }
                ValueKind::Integer => {
                    let values = masked(kinds, &bits, kind, u64::cast_signed);
                    Arc::new(Int64Array::new(values, nulls))
                }
                ValueKind::Boolean => {
                    let is_true = |row| kinds[row] == Some(kind) && bits[row] == 1;
                    let values = BooleanBuffer::collect_bool(kinds.len(), is_true);
                    Arc::new(BooleanArray::new(values, nulls))
                }
                ValueKind::Text => strings(kinds, &bits, kind, nulls, take(&mut self.texts)),
                ValueKind::Json => strings(kinds, &bits, kind, nulls, take(&mut self.jsons)),
            });
        }
        columns
    }
}

fn timestamps(millis: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(millis).with_timezone("UTC"))
}

/// Which rows have no value of this kind; nothing where all have one.
fn nulls(kinds: &[Option<ValueKind>], kind: ValueKind) -> Option<NullBuffer> {
    let valid = BooleanBuffer::collect_bool(kinds.len(), |row| kinds[row] == Some(kind));
    Some(NullBuffer::new(valid)).filter(|nulls| nulls.null_count() > 0)
}

fn masked<T: arrow_buffer::ArrowNativeType>(
    kinds: &[Option<ValueKind>],
    bits: &[u64],
    kind: ValueKind,
    convert: impl Fn(u64) -> T,
) -> ScalarBuffer<T> {
    let values: Vec<T> = kinds
        .iter()
        .zip(bits)
        .map(|(&k, &b)| if k == Some(kind) { convert(b) } else { T::default() })
        .collect();
    ScalarBuffer::from(values)
}

fn strings(
    kinds: &[Option<ValueKind>],
    bits: &[u64],
    kind: ValueKind,
    nulls: Option<NullBuffer>,
    bytes: Vec<u8>,
) -> ArrayRef {
    let lengths = kinds
        .iter()
        .zip(bits)
        .map(|(&k, &b)| if k == Some(kind) { usize::try_from(b).unwrap_or(0) } else { 0 });
    let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
    Arc::new(
        StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls)
            .expect("only whole strings were appended"),
    )
}
