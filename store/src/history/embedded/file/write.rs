//! Writes a history file: series by series in the order of the file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::UInt32Type;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt32Array, UInt64Array, new_null_array,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use schema::{TenantId, ValueKind};

use super::checked::CheckedSink;
use super::{Contents, SCHEMA, SeriesRows, column};
use crate::history::HistoryError;
use crate::history::embedded::catalog::{Names, SeriesId};
use crate::history::options::{DiskBudget, HistoryOptions};
use crate::history::rows::{Row, Rows, kind_bit};

/// Rows that are gathered before they are encoded.
const BATCH_ROWS: usize = 32_768;
/// Texts that are gathered at most, in bytes.
const BATCH_TEXT_BYTES: usize = 32 << 20;
/// The largest dictionary of a text column, in bytes: a read of one series
/// has to read all of it.
const TEXT_DICTIONARY_BYTES: usize = 32 << 10;

/// How files are written.
#[derive(Clone, Debug)]
pub(in crate::history) struct WriterOptions {
    pub row_group_rows: usize,
    pub page_rows: usize,
    pub disk: DiskBudget,
}

impl From<&HistoryOptions> for WriterOptions {
    fn from(options: &HistoryOptions) -> Self {
        Self {
            row_group_rows: options.row_group_rows,
            page_rows: options.page_rows,
            disk: options.disk.clone(),
        }
    }
}

/// What was written, for the manifest.
#[derive(Clone, Debug)]
pub(in crate::history) struct FileSummary {
    pub bytes: u64,
    pub rows: u64,
    pub min_ms: i64,
    pub max_ms: i64,
    /// In order, each once.
    pub tenants: Vec<TenantId>,
    pub contents: Contents,
}

/// A file being written.
#[derive(Debug)]
pub(in crate::history) struct FileWriter {
    path: PathBuf,
    writer: ArrowWriter<CheckedSink>,
    names: Arc<Names>,
    keys: Arc<StringArray>,
    batch: Batch,
    index: Vec<SeriesRows>,
    rows: u32,
    min_ms: i64,
    max_ms: i64,
    tenants: Vec<TenantId>,
}

#[derive(Debug, Default)]
struct Batch {
    tenants: Vec<u64>,
    devices: Vec<u64>,
    keys: Vec<u32>,
    rows: Rows,
    kinds: u8,
}

impl FileWriter {
    /// Makes the file; `names` must know every series that will be written.
    pub fn create(
        path: &Path,
        names: Arc<Names>,
        options: &WriterOptions,
    ) -> Result<Self, HistoryError> {
        let failed = |source| io_error("make", path, source);
        let file = File::create(path).map_err(failed)?;
        let sink = CheckedSink::new(file, options.disk.clone());
        let writer = ArrowWriter::try_new(sink, SCHEMA.clone(), Some(properties(options)))
            .map_err(|error| write_error(path, error))?;
        let keys = Arc::new(StringArray::from_iter_values(names.keys.iter()));
        Ok(Self {
            path: path.to_owned(),
            writer,
            names,
            keys,
            batch: Batch::default(),
            index: Vec::new(),
            rows: 0,
            min_ms: i64::MAX,
            max_ms: i64::MIN,
            tenants: Vec::new(),
        })
    }

    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    /// Adds rows of a series. The series come in the order of the file, the
    /// rows of a series in order of time.
    pub fn push(&mut self, id: SeriesId, from: &Rows, rows: &[Row]) -> Result<(), HistoryError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
        self.min_ms = self.min_ms.min(first.observed_at);
        self.max_ms = self.max_ms.max(last.observed_at);
        let series = self.names.series[id.0 as usize];
        if self.index.last().is_none_or(|entry| entry.series != id.0) {
            self.index.push(SeriesRows { series: id.0, start: self.rows, rows: 0, kinds: 0 });
            if self.tenants.last() != Some(&series.tenant) {
                self.tenants.push(series.tenant);
            }
        }
        let mut rest = rows;
        while !rest.is_empty() {
            let room = BATCH_ROWS - self.batch.rows.len();
            let (now, later) = rest.split_at(rest.len().min(room));
            rest = later;
            self.batch.add(series.tenant.0, series.device.0, series.key, from, now);
            let kinds = now.iter().fold(0, |mask, row| mask | kind_bit(row.kind));
            self.batch.kinds |= kinds;
            let count = u32::try_from(now.len()).expect("a batch is far smaller");
            self.rows = self.rows.checked_add(count).expect("files are cut below 32 bits");
            let entry = self.index.last_mut().expect("pushed above");
            entry.rows += count;
            entry.kinds |= kinds;
            if self.batch.rows.len() >= BATCH_ROWS
                || self.batch.rows.texts.len() >= BATCH_TEXT_BYTES
            {
                self.encode()?;
            }
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<(), HistoryError> {
        if self.batch.rows.is_empty() {
            return Ok(());
        }
        let batch = self.batch.take(&self.keys);
        self.writer.write(&batch).map_err(|error| write_error(&self.path, error))
    }

    /// Writes the footer and makes the file durable.
    pub fn finish(mut self) -> Result<FileSummary, HistoryError> {
        self.encode()?;
        let path = self.path;
        let sink = self.writer.into_inner().map_err(|error| write_error(&path, error))?;
        let (bytes, checksums) =
            sink.finish().map_err(|source| io_error("write", &path, source))?;
        let mut tenants = self.tenants;
        tenants.sort_unstable();
        tenants.dedup();
        Ok(FileSummary {
            bytes,
            rows: u64::from(self.rows),
            min_ms: self.min_ms,
            max_ms: self.max_ms,
            tenants,
            contents: Contents { series: self.index, checksums },
        })
    }
}

impl Batch {
    fn add(&mut self, tenant: u64, device: u64, key: u32, from: &Rows, rows: &[Row]) {
        let len = self.rows.len() + rows.len();
        self.tenants.resize(len, tenant);
        self.devices.resize(len, device);
        self.keys.resize(len, key);
        if from.texts.is_empty() {
            self.rows.rows.extend_from_slice(rows);
        } else {
            rows.iter().for_each(|row| self.rows.push_row(from, *row));
        }
    }

    fn take(&mut self, keys: &Arc<StringArray>) -> RecordBatch {
        let Self { tenants, devices, keys: indexes, rows, kinds } = std::mem::take(self);
        let indexes = UInt32Array::from(indexes);
        let keys = DictionaryArray::<UInt32Type>::try_new(indexes, keys.clone())
            .expect("every key has its name");
        let times: Vec<i64> = rows.rows.iter().map(|row| row.observed_at).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(tenants)),
            Arc::new(UInt64Array::from(devices)),
            Arc::new(keys),
            Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC")),
            value_column(&rows, kinds, ValueKind::Number),
            value_column(&rows, kinds, ValueKind::Integer),
            value_column(&rows, kinds, ValueKind::Boolean),
            value_column(&rows, kinds, ValueKind::Text),
            value_column(&rows, kinds, ValueKind::Json),
        ];
        RecordBatch::try_new(SCHEMA.clone(), columns)
            .expect("the columns are built to the schema and of one length")
    }
}

/// The column of one kind of value; `kinds` are those that occur at all.
fn value_column(rows: &Rows, kinds: u8, kind: ValueKind) -> ArrayRef {
    let column = match kind {
        ValueKind::Number => column::NUMBER,
        ValueKind::Integer => column::INTEGER,
        ValueKind::Boolean => column::BOOLEAN,
        ValueKind::Text => column::TEXT,
        ValueKind::Json => column::JSON,
    };
    let rows_of = &rows.rows;
    if kinds & kind_bit(kind) == 0 {
        return new_null_array(SCHEMA.field(column).data_type(), rows_of.len());
    }
    let nulls = (kinds != kind_bit(kind)).then(|| {
        NullBuffer::new(BooleanBuffer::collect_bool(rows_of.len(), |at| rows_of[at].kind == kind))
    });
    let of_kind = |row: &Row| if row.kind == kind { row.bits } else { 0 };
    match kind {
        ValueKind::Number => {
            let values: Vec<f64> = rows_of.iter().map(|row| f64::from_bits(of_kind(row))).collect();
            Arc::new(Float64Array::new(values.into(), nulls))
        }
        ValueKind::Integer => {
            let values: Vec<i64> = rows_of.iter().map(|row| of_kind(row).cast_signed()).collect();
            Arc::new(Int64Array::new(values.into(), nulls))
        }
        ValueKind::Boolean => {
            let values =
                BooleanBuffer::collect_bool(rows_of.len(), |at| of_kind(&rows_of[at]) != 0);
            Arc::new(BooleanArray::new(values, nulls))
        }
        ValueKind::Text | ValueKind::Json => text_column(rows, kind, nulls),
    }
}

fn text_column(rows: &Rows, kind: ValueKind, nulls: Option<NullBuffer>) -> ArrayRef {
    let mut bytes = Vec::new();
    let lengths: Vec<usize> = rows
        .rows
        .iter()
        .map(|row| {
            let text = if row.kind == kind { rows.text(row) } else { &[] };
            bytes.extend_from_slice(text);
            text.len()
        })
        .collect();
    let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
    Arc::new(
        StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls)
            .expect("only whole strings are kept"),
    )
}

fn properties(options: &WriterOptions) -> WriterProperties {
    let sorted = [column::DEVICE, column::KEY, column::OBSERVED_AT].map(|column| SortingColumn {
        column_idx: i32::try_from(column).expect("nine columns"),
        descending: false,
        nulls_first: false,
    });
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(format!("baken {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::LZ4_RAW)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .set_data_page_row_count_limit(options.page_rows)
        .set_write_batch_size(options.page_rows.min(1_024))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_sorting_columns(Some(sorted.to_vec()));
    // Tenant and device are long runs of one number, which LZ4 folds as well as
    // deltas do, for a tenth of the work.
    for column in [column::OBSERVED_AT, column::INTEGER] {
        builder = builder.set_column_encoding(path_of(column), Encoding::DELTA_BINARY_PACKED);
    }
    for column in [column::DEVICE, column::KEY, column::OBSERVED_AT] {
        builder = builder.set_column_statistics_enabled(path_of(column), EnabledStatistics::Page);
    }
    for column in [column::TENANT, column::NUMBER, column::INTEGER] {
        builder = builder.set_column_statistics_enabled(path_of(column), EnabledStatistics::Chunk);
    }
    for column in [column::KEY, column::TEXT] {
        builder = builder.set_column_dictionary_enabled(path_of(column), true);
    }
    builder
        .set_column_dictionary_page_size_limit(path_of(column::TEXT), TEXT_DICTIONARY_BYTES)
        .set_column_encoding(path_of(column::NUMBER), Encoding::BYTE_STREAM_SPLIT)
        .build()
}

fn path_of(column: usize) -> parquet::schema::types::ColumnPath {
    SCHEMA.field(column).name().as_str().into()
}

pub(in crate::history) fn io_error(
    doing: &'static str,
    path: &Path,
    source: std::io::Error,
) -> HistoryError {
    HistoryError::Io { doing, path: path.to_owned(), source }
}

/// A failed write is the disk's: what is written is our own columns.
fn write_error(path: &Path, error: ParquetError) -> HistoryError {
    let source = match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(source) => *source,
            Err(other) => std::io::Error::other(other),
        },
        other => std::io::Error::other(other),
    };
    io_error("write", path, source)
}
