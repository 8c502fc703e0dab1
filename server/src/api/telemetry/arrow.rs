//! Readings and buckets as an Arrow IPC stream, in batches of a few thousand
//! rows. The value columns are those of a journal record.

use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt64Array,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use store::history::{Bucket, ReadingValue, Sample};

use super::json::Shown;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

pub fn readings(samples: &[Sample], out: &mut impl Write) -> io::Result<()> {
    let schema = Arc::new(Schema::new(vec![
        time("ts"),
        Field::new("number", DataType::Float64, true),
        Field::new("integer", DataType::Int64, true),
        Field::new("boolean", DataType::Boolean, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("json", DataType::Utf8, true),
    ]));
    write(&schema, samples, out, |samples| {
        let values = || samples.iter().map(|sample| &sample.value);
        vec![
            times(samples.iter().map(|sample| sample.observed_at.0)),
            Arc::new(Float64Array::from_iter(values().map(|value| match value {
                ReadingValue::Number(number) => Some(*number),
                _ => None,
            }))),
            Arc::new(Int64Array::from_iter(values().map(|value| match value {
                ReadingValue::Integer(integer) => Some(*integer),
                _ => None,
            }))),
            Arc::new(BooleanArray::from_iter(values().map(|value| match value {
                ReadingValue::Boolean(boolean) => Some(*boolean),
                _ => None,
            }))),
            Arc::new(StringArray::from_iter(values().map(|value| match value {
                ReadingValue::Text(text) => Some(text),
                _ => None,
            }))),
            Arc::new(StringArray::from_iter(values().map(|value| match value {
                ReadingValue::Json(json) => Some(json),
                _ => None,
            }))),
        ]
    })
}

/// `first` and `last` are JSON texts, because a bucket may hold several types.
pub fn buckets(buckets: &[Bucket], out: &mut impl Write) -> io::Result<()> {
    let schema = Arc::new(Schema::new(vec![
        time("from"),
        time("to"),
        Field::new("min", DataType::Float64, true),
        Field::new("max", DataType::Float64, true),
        Field::new("avg", DataType::Float64, true),
        Field::new("first", DataType::Utf8, false),
        Field::new("last", DataType::Utf8, false),
        Field::new("count", DataType::UInt64, false),
    ]));
    write(&schema, buckets, out, |buckets| {
        let all = || buckets.iter();
        vec![
            times(all().map(|bucket| bucket.from.0)),
            times(all().map(|bucket| bucket.to.0)),
            Arc::new(Float64Array::from_iter(all().map(|bucket| bucket.min))),
            Arc::new(Float64Array::from_iter(all().map(|bucket| bucket.max))),
            Arc::new(Float64Array::from_iter(all().map(|bucket| bucket.avg))),
            Arc::new(StringArray::from_iter_values(all().map(|bucket| json(&bucket.first)))),
            Arc::new(StringArray::from_iter_values(all().map(|bucket| json(&bucket.last)))),
            Arc::new(UInt64Array::from_iter_values(all().map(|bucket| bucket.count))),
        ]
    })
}

fn time(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false)
}

fn times(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC"))
}

fn json(value: &ReadingValue) -> String {
    serde_json::to_string(&Shown(value.clone())).expect("values are numbers and texts")
}

fn write<T>(
    schema: &SchemaRef,
    items: &[T],
    out: &mut impl Write,
    columns: impl Fn(&[T]) -> Vec<ArrayRef>,
) -> io::Result<()> {
    let mut writer = StreamWriter::try_new(out, schema).map_err(failed)?;
    for items in items.chunks(BATCH_ROWS) {
        let batch = RecordBatch::try_new(schema.clone(), columns(items)).map_err(failed)?;
        writer.write(&batch).map_err(failed)?;
    }
    writer.finish().map_err(failed)
}

fn failed(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, source) => source,
        other => io::Error::other(other),
    }
}
