//! Reads a record back, column by column, without copying a text.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int64Type, TimestampMillisecondType, UInt16Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch, StringArray};
use arrow_buffer::{BooleanBuffer, Buffer, ScalarBuffer};
use arrow_ipc::reader::StreamDecoder;
use bytes::Bytes;

use super::columns::{KINDS, Kinds};
use super::{Origin, RECORD_VERSION};
use crate::{DeviceId, RouterId, TenantId, TimestampMs, Value, ValueKind};

/// Why a journal record can't be read. It came from our own journal behind a
/// checksum, so each of these stops the partition and wants a person.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error(
        "record version {found} is newer than {RECORD_VERSION}, the newest that this build reads"
    )]
    Version { found: u8 },
    #[error("not an Arrow stream: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
    #[error("the Arrow stream holds no record batch")]
    Empty,
    #[error("the record's columns differ from those of version {RECORD_VERSION}")]
    Columns,
    #[error("a command's body can't be read: {0}")]
    Body(#[from] serde_json::Error),
}

/// A decoded record; rows by index from 0 to [`RecordRows::len`].
#[derive(Debug, Clone)]
pub struct RecordRows {
    batch: RecordBatch,
    tenants: ScalarBuffer<u64>,
    routers: ScalarBuffer<u64>,
    devices: ScalarBuffer<u64>,
    keys: ScalarBuffer<u16>,
    key_names: StringArray,
    observed_at: ScalarBuffer<i64>,
    received_at: ScalarBuffer<i64>,
    /// Of each row's value, so that it is looked for in its own column only, and
    /// nobody asks one column after another whether it is there.
    kinds: Arc<[Option<ValueKind>]>,
    numbers: Option<ScalarBuffer<f64>>,
    integers: Option<ScalarBuffer<i64>>,
    booleans: Option<BooleanBuffer>,
    texts: Option<StringArray>,
    jsons: Option<StringArray>,
    memory_bytes: usize,
}

impl RecordRows {
    /// Decodes the payload of a record of the given version.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no record of ours.
    pub fn decode(version: u8, payload: &Bytes) -> Result<Self, DecodeError> {
        check_version(version)?;
        let mut buffer = Buffer::from(payload.clone());
        let batch = StreamDecoder::new().decode(&mut buffer)?.ok_or(DecodeError::Empty)?;
        Self::from_batch(batch)
    }

    /// Takes the columns of a batch with the record's schema.
    ///
    /// # Errors
    /// [`DecodeError::Columns`] when the schema is another.
    pub fn from_batch(batch: RecordBatch) -> Result<Self, DecodeError> {
        let columns = Kinds::of(batch.schema_ref());
        if batch.schema_ref().fields() != columns.schema().fields() {
            return Err(DecodeError::Columns);
        }
        let kinds = kinds_of_rows(&batch, columns);
        Self::of(batch, columns, kinds.into())
    }

    /// Takes columns that are to the schema, with the kind of each row's value.
    pub(super) fn of(
        batch: RecordBatch,
        columns: Kinds,
        kinds: Arc<[Option<ValueKind>]>,
    ) -> Result<Self, DecodeError> {
        let ids =
            |column: usize| batch.column(column).as_primitive::<UInt64Type>().values().clone();
        let times = |column: usize| {
            batch.column(column).as_primitive::<TimestampMillisecondType>().values().clone()
        };
        let keys = batch.column(3).as_dictionary::<UInt16Type>();
        let key_names = keys.values().as_string::<i32>().clone();
        let indexes = keys.keys().values().clone();
        if indexes.iter().any(|&index| usize::from(index) >= key_names.len()) {
            return Err(DecodeError::Columns);
        }
        let column = |kind| columns.column(kind).map(|place| batch.column(place));
        Ok(Self {
            tenants: ids(0),
            routers: ids(1),
            devices: ids(2),
            keys: indexes,
            key_names,
            observed_at: times(4),
            received_at: times(5),
            numbers: column(ValueKind::Number)
                .map(|column| column.as_primitive::<Float64Type>().values().clone()),
            integers: column(ValueKind::Integer)
                .map(|column| column.as_primitive::<Int64Type>().values().clone()),
            booleans: column(ValueKind::Boolean).map(|column| column.as_boolean().values().clone()),
            texts: column(ValueKind::Text).map(|column| column.as_string().clone()),
            jsons: column(ValueKind::Json).map(|column| column.as_string().clone()),
            memory_bytes: batch.get_array_memory_size() + size_of_val(&*kinds),
            kinds,
            batch,
        })
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the columns take of memory, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// The Arrow batch itself.
    #[must_use]
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    #[must_use]
    pub fn origin(&self, row: usize) -> Origin {
        Origin {
            tenant: TenantId(self.tenants[row]),
            router: RouterId(self.routers[row]),
            device: DeviceId(self.devices[row]),
        }
    }

    /// Device ids, a row each.
    #[must_use]
    pub fn devices(&self) -> &[u64] {
        &self.devices
    }

    /// How many distinct keys the record names; key indexes are below it.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.key_names.len()
    }

    /// The name behind a key index.
    #[must_use]
    pub fn key_name(&self, index: usize) -> &str {
        self.key_names.value(index)
    }

    /// Key indexes, a row each, into [`RecordRows::key_name`].
    #[must_use]
    pub fn key_indexes(&self) -> &[u16] {
        &self.keys
    }

    #[must_use]
    pub fn key(&self, row: usize) -> &str {
        self.key_name(usize::from(self.keys[row]))
    }

    /// When the device says that it was, a row each, in milliseconds since 1970.
    #[must_use]
    pub fn observed_at_ms(&self) -> &[i64] {
        &self.observed_at
    }

    #[must_use]
    pub fn observed_at(&self, row: usize) -> TimestampMs {
        TimestampMs(self.observed_at[row])
    }

    /// When the broker read it from its socket.
    #[must_use]
    pub fn received_at(&self, row: usize) -> TimestampMs {
        TimestampMs(self.received_at[row])
    }

    /// The row's value; `None` is a deleted attribute.
    #[must_use]
    #[inline]
    pub fn value(&self, row: usize) -> Option<Value<'_>> {
        Some(match self.kinds[row]? {
            ValueKind::Number => Value::Number(self.numbers.as_ref()?[row]),
            ValueKind::Integer => Value::Integer(self.integers.as_ref()?[row]),
            ValueKind::Boolean => Value::Boolean(self.booleans.as_ref()?.value(row)),
            ValueKind::Text => Value::Text(self.texts.as_ref()?.value(row)),
            ValueKind::Json => Value::Json(self.jsons.as_ref()?.value(row)),
        })
    }
}

/// The kind of each row's value; of several, which no record of ours has, the
/// first in the order of the columns.
fn kinds_of_rows(batch: &RecordBatch, columns: Kinds) -> Vec<Option<ValueKind>> {
    let mut kinds = vec![None; batch.num_rows()];
    for kind in KINDS.into_iter().rev() {
        let Some(place) = columns.column(kind) else { continue };
        match batch.column(place).nulls() {
            None => kinds.fill(Some(kind)),
            Some(nulls) => nulls.valid_indices().for_each(|row| kinds[row] = Some(kind)),
        }
    }
    kinds
}

/// Version 1 had all columns of values, which this program reads as well.
pub(super) fn check_version(version: u8) -> Result<(), DecodeError> {
    match version {
        1..=RECORD_VERSION => Ok(()),
        found => Err(DecodeError::Version { found }),
    }
}
