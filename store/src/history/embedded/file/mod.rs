//! The history's Parquet files, format version 1.
//!
//! Rows are sorted by device, key and time, each of them once. Any Parquet
//! reader opens the files; the series index and the checksums that make our
//! own reads quick and safe stand in the manifest ([`contents`]).
//!
//! | column | type | null | encoding |
//! | --- | --- | --- | --- |
//! | tenant, device | UInt64 | no | delta |
//! | key | Utf8 | no | dictionary |
//! | observed_at | Timestamp(ms, UTC) | no | delta |
//! | number | Float64 | unless the value is one | byte stream split |
//! | integer | Int64 | unless the value is one | delta |
//! | boolean | Boolean | unless the value is one | plain |
//! | text | Utf8 | unless the value is one | dictionary |
//! | json | Utf8 | unless the value is one | plain |
//!
//! All columns are compressed by LZ4 (`LZ4_RAW`).

mod checked;
mod contents;
mod read;
mod write;

pub(super) use checked::Damage;
pub(super) use contents::{Contents, SeriesRows};
pub(super) use read::{FileReader, RowGroupReader, Scan, Segment, corrupt};
pub(super) use write::{FileSummary, FileWriter, WriterOptions, io_error};

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// The places of the columns, stable in version 1.
pub(super) mod column {
    pub const TENANT: usize = 0;
    pub const DEVICE: usize = 1;
    pub const KEY: usize = 2;
    pub const OBSERVED_AT: usize = 3;
    pub const NUMBER: usize = 4;
    pub const INTEGER: usize = 5;
    pub const BOOLEAN: usize = 6;
    pub const TEXT: usize = 7;
    pub const JSON: usize = 8;
    pub const COUNT: usize = 9;
}

pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let timestamp = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let key = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("tenant", DataType::UInt64, false),
        Field::new("device", DataType::UInt64, false),
        Field::new("key", key, false),
        Field::new("observed_at", timestamp, false),
        Field::new("number", DataType::Float64, true),
        Field::new("integer", DataType::Int64, true),
        Field::new("boolean", DataType::Boolean, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("json", DataType::Utf8, true),
    ]))
});
