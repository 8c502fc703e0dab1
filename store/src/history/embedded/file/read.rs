//! Reads a history file: the rows of one series by as few pages as hold them,
//! or all rows in order for compaction.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::column::page::PageReader;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{BoolType, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMask, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use schema::ValueKind;

use super::checked::{CheckedFile, SharedFile};
use super::{Contents, Damage, SeriesRows, column};
use crate::history::HistoryError;
use crate::history::embedded::catalog::SeriesId;
use crate::history::rows::{Row, Rows, kind_bit};

/// An open file with its footer, page index and series index.
#[derive(Debug)]
pub(in crate::history) struct FileReader {
    path: PathBuf,
    file: SharedFile,
    metadata: ParquetMetaData,
    /// In order of series numbers.
    series: Vec<SeriesRows>,
    /// The first row of each row group, and at last the number of rows.
    group_starts: Vec<usize>,
}

/// Neighbouring rows of one series in one row group that are read together:
/// those of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::history) struct Segment {
    pub group: usize,
    /// Counted in the row group.
    pub start: usize,
    pub rows: usize,
}

impl FileReader {
    /// Opens a file of a known length.
    pub fn open(path: &Path, bytes: u64, contents: &Contents) -> Result<Self, HistoryError> {
        let failed = |error| read_error(path, error);
        let file = File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => corrupt(path, "it is missing"),
            _ => super::write::io_error("open", path, error),
        })?;
        let file = CheckedFile::new(file, bytes, contents.checksums.clone()).map_err(failed)?;
        let file = SharedFile(Arc::new(file));
        let metadata = ParquetMetaDataReader::new()
            .with_offset_index_policy(PageIndexPolicy::Required)
            .with_column_index_policy(PageIndexPolicy::Required)
            .with_column_index_mask(ColumnChunkMask::columns([column::OBSERVED_AT]))
            .parse_and_finish(&file)
            .map_err(failed)?;
        if metadata.file_metadata().schema_descr().num_columns() != column::COUNT {
            return Err(corrupt(path, "it has other columns than format version 1"));
        }
        let mut group_starts = vec![0];
        for group in metadata.row_groups() {
            let rows = usize::try_from(group.num_rows()).unwrap_or(0);
            group_starts.push(group_starts.last().unwrap_or(&0) + rows);
        }
        let indexed =
            contents.series.last().map_or(0, |last| last.start as usize + last.rows as usize);
        if group_starts.last() != Some(&indexed) {
            return Err(corrupt(path, "it has another number of rows than its series index"));
        }
        let mut series = contents.series.clone();
        series.sort_unstable_by_key(|entry| entry.series);
        Ok(Self { path: path.to_owned(), file, metadata, series, group_starts })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of memory that the reader takes.
    pub fn memory_size(&self) -> usize {
        self.metadata.memory_size()
            + self.file.0.memory_size()
            + self.series.len() * size_of::<SeriesRows>()
            + size_of::<Self>()
    }

    /// The rows of a series, if the file has any.
    pub fn find(&self, id: SeriesId) -> Option<SeriesRows> {
        let place = self.series.binary_search_by_key(&id.0, |entry| entry.series).ok()?;
        Some(self.series[place])
    }

    /// The parts of a series' rows that may have times from `from` to before
    /// `to`, a page each, in order of time.
    pub fn segments(
        &self,
        of: SeriesRows,
        from: i64,
        to: i64,
    ) -> Result<Vec<Segment>, HistoryError> {
        let mut segments = Vec::new();
        let (first, end) = (of.start as usize, (of.start + of.rows) as usize);
        for (group, bounds) in self.group_starts.windows(2).enumerate() {
            let (start, stop) = (first.max(bounds[0]), end.min(bounds[1]));
            if start < stop {
                let rows = start - bounds[0]..stop - bounds[0];
                self.segments_in(group, rows, (from, to), &mut segments)?;
            }
        }
        Ok(segments)
    }

    fn segments_in(
        &self,
        group: usize,
        rows: std::ops::Range<usize>,
        (from, to): (i64, i64),
        out: &mut Vec<Segment>,
    ) -> Result<(), HistoryError> {
        let index = self.metadata.page_index_for_row_group(group);
        let offsets = index
            .offset_index(column::OBSERVED_AT)
            .ok_or_else(|| corrupt(&self.path, "it has no page index"))?;
        let times = match index.column_index(column::OBSERVED_AT) {
            Some(ColumnIndexMetaData::INT64(times)) => times,
            _ => return Err(corrupt(&self.path, "its times have no page index")),
        };
        let first_row = |page: usize| {
            offsets.page_locations().get(page).map_or(usize::MAX, |location| {
                usize::try_from(location.first_row_index).unwrap_or(usize::MAX)
            })
        };
        let pages = offsets.page_locations();
        let first_page = pages.partition_point(|page| {
            usize::try_from(page.first_row_index).unwrap_or(usize::MAX) <= rows.start
        });
        for page in first_page.saturating_sub(1)..pages.len() {
            let (start, end) = (first_row(page).max(rows.start), first_row(page + 1).min(rows.end));
            if start >= rows.end {
                break;
            }
            // A page's bounds count for the series too, even where the page
            // holds rows of others: they are then only wider.
            let (Some(min), Some(max)) = (times.min_value(page), times.max_value(page)) else {
                return Err(corrupt(&self.path, "its times have an empty page"));
            };
            if *min < to && *max >= from {
                out.push(Segment { group, start, rows: end - start });
            }
        }
        Ok(())
    }

    /// The rows of a series without the pages before the first that may have a
    /// time at or after `from`; none if no page has.
    pub fn rows_from(&self, of: SeriesRows, from: i64) -> Result<Option<SeriesRows>, HistoryError> {
        let Some(first) = self.segments(of, from, i64::MAX)?.first().copied() else {
            return Ok(None);
        };
        let first = u32::try_from(self.first_row(first)).expect("a file counts rows by u32");
        Ok(Some(SeriesRows { start: first, rows: of.rows - (first - of.start), ..of }))
    }

    /// The segment's first row, counted over the whole file.
    pub fn first_row(&self, segment: Segment) -> usize {
        self.group_starts[segment.group] + segment.start
    }

    /// The mean length of the texts of a kind, in bytes and at least 1.
    fn mean_text_bytes(&self, kind: ValueKind) -> usize {
        let column = if kind == ValueKind::Text { column::TEXT } else { column::JSON };
        let chunks = self.metadata.row_groups().iter().map(|group| group.column(column));
        let bytes: i64 = chunks
            .map(|chunk| {
                chunk.unencoded_byte_array_data_bytes().unwrap_or(chunk.uncompressed_size())
            })
            .sum();
        let rows = self.group_starts.last().copied().unwrap_or(0).max(1);
        usize::try_from(bytes).unwrap_or(0) / rows + 1
    }

    /// How many rows with these kinds of value may be held in memory together,
    /// so that long texts don't fill it.
    pub fn block_rows(&self, kinds: u8, budget_bytes: usize) -> usize {
        let texts = [ValueKind::Text, ValueKind::Json]
            .into_iter()
            .filter(|kind| kinds & kind_bit(*kind) != 0)
            .map(|kind| self.mean_text_bytes(kind))
            .sum::<usize>();
        (budget_bytes / (size_of::<Row>() + texts)).max(16)
    }

    /// All columns of all rows as Arrow batches.
    pub fn batches(&self) -> Result<ParquetRecordBatchReader, HistoryError> {
        ParquetRecordBatchReaderBuilder::try_new(self.file.clone())
            .and_then(ParquetRecordBatchReaderBuilder::build)
            .map_err(|error| read_error(&self.path, error))
    }

    fn groups(&self) -> usize {
        self.group_starts.len() - 1
    }

    fn group_rows(&self, group: usize) -> usize {
        self.group_starts[group + 1] - self.group_starts[group]
    }

    fn pages(&self, group: usize, column: usize) -> Result<Box<dyn PageReader>, ParquetError> {
        let chunk = self.metadata.row_group(group).column(column);
        let index = self.metadata.page_index_for_row_group(group);
        let locations = index.offset_index(column).map(|offsets| offsets.page_locations().clone());
        let rows = self.group_rows(group);
        let reader =
            SerializedPageReader::new(Arc::new(self.file.clone()), chunk, rows, locations)?;
        Ok(Box::new(reader))
    }
}

/// Reads rows of a row group, on from wherever it is.
pub(in crate::history) struct RowGroupReader {
    path: PathBuf,
    times: ColumnReaderImpl<Int64Type>,
    numbers: Option<Column<DoubleType>>,
    integers: Option<Column<Int64Type>>,
    booleans: Option<Column<BoolType>>,
    texts: Option<Column<ByteArrayType>>,
    jsons: Option<Column<ByteArrayType>>,
}

/// A column of one kind of value, with what was last read of it.
struct Column<T: DataType> {
    reader: ColumnReaderImpl<T>,
    /// 1 where the row has a value of the kind.
    levels: Vec<i16>,
    values: Vec<T::T>,
    next: usize,
}

impl std::fmt::Debug for RowGroupReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowGroupReader").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RowGroupReader {
    /// `kinds` are those that the rows to be read have.
    pub fn open(file: &FileReader, group: usize, kinds: u8) -> Result<Self, HistoryError> {
        let failed = |error| read_error(&file.path, error);
        let descriptor = |column| file.metadata.file_metadata().schema_descr().column(column);
        let pages = file.pages(group, column::OBSERVED_AT).map_err(failed)?;
        Ok(Self {
            path: file.path.clone(),
            times: ColumnReaderImpl::new(descriptor(column::OBSERVED_AT), pages),
            numbers: Column::open(file, group, kinds, ValueKind::Number, column::NUMBER)?,
            integers: Column::open(file, group, kinds, ValueKind::Integer, column::INTEGER)?,
            booleans: Column::open(file, group, kinds, ValueKind::Boolean, column::BOOLEAN)?,
            texts: Column::open(file, group, kinds, ValueKind::Text, column::TEXT)?,
            jsons: Column::open(file, group, kinds, ValueKind::Json, column::JSON)?,
        })
    }

    pub fn skip(&mut self, rows: usize) -> Result<(), HistoryError> {
        self.try_skip(rows).map_err(|error| read_error(&self.path, error))
    }

    fn try_skip(&mut self, rows: usize) -> Result<(), ParquetError> {
        check(self.times.skip_records(rows)?, rows)?;
        skip(&mut self.numbers, rows)?;
        skip(&mut self.integers, rows)?;
        skip(&mut self.booleans, rows)?;
        skip(&mut self.texts, rows)?;
        skip(&mut self.jsons, rows)
    }

    /// Adds the next rows to `out`.
    pub fn read(&mut self, rows: usize, out: &mut Rows) -> Result<(), HistoryError> {
        self.try_read(rows, out).map_err(|error| read_error(&self.path, error))
    }

    fn try_read(&mut self, rows: usize, out: &mut Rows) -> Result<(), ParquetError> {
        let mut times = Vec::with_capacity(rows);
        let (read, _, _) = self.times.read_records(rows, None, None, &mut times)?;
        check(read, rows)?;
        load(&mut self.numbers, rows)?;
        load(&mut self.integers, rows)?;
        load(&mut self.booleans, rows)?;
        load(&mut self.texts, rows)?;
        load(&mut self.jsons, rows)?;
        out.rows.reserve(rows);
        for (row, observed_at) in times.into_iter().enumerate() {
            let (bits, kind) = if let Some(number) = take(&mut self.numbers, row) {
                (number.to_bits(), ValueKind::Number)
            } else if let Some(integer) = take(&mut self.integers, row) {
                (integer.cast_unsigned(), ValueKind::Integer)
            } else if let Some(boolean) = take(&mut self.booleans, row) {
                (u64::from(*boolean), ValueKind::Boolean)
            } else if let Some(text) = take(&mut self.texts, row) {
                (out.keep_text(text.data()), ValueKind::Text)
            } else if let Some(json) = take(&mut self.jsons, row) {
                (out.keep_text(json.data()), ValueKind::Json)
            } else {
                return Err(damage("a row has no value of the kinds in its series index"));
            };
            out.rows.push(Row { observed_at, bits, kind });
        }
        Ok(())
    }
}

impl<T: DataType> Column<T> {
    fn open(
        file: &FileReader,
        group: usize,
        kinds: u8,
        kind: ValueKind,
        column: usize,
    ) -> Result<Option<Self>, HistoryError> {
        if kinds & kind_bit(kind) == 0 {
            return Ok(None);
        }
        let pages = file.pages(group, column).map_err(|error| read_error(&file.path, error))?;
        let descriptor = file.metadata.file_metadata().schema_descr().column(column);
        let reader = ColumnReaderImpl::new(descriptor, pages);
        Ok(Some(Self { reader, levels: Vec::new(), values: Vec::new(), next: 0 }))
    }
}

fn skip<T: DataType>(column: &mut Option<Column<T>>, rows: usize) -> Result<(), ParquetError> {
    let Some(column) = column else { return Ok(()) };
    check(column.reader.skip_records(rows)?, rows)
}

fn load<T: DataType>(column: &mut Option<Column<T>>, rows: usize) -> Result<(), ParquetError> {
    let Some(column) = column else { return Ok(()) };
    column.levels.clear();
    column.values.clear();
    column.next = 0;
    let Column { reader, levels, values, .. } = column;
    let (read, _, _) = reader.read_records(rows, Some(levels), None, values)?;
    check(read, rows)
}

fn take<T: DataType>(column: &mut Option<Column<T>>, row: usize) -> Option<&T::T> {
    let column = column.as_mut()?;
    if column.levels[row] == 0 {
        return None;
    }
    column.next += 1;
    column.values.get(column.next - 1)
}

fn check(read: usize, wanted: usize) -> Result<(), ParquetError> {
    if read == wanted { Ok(()) } else { Err(damage("a column has fewer rows than its row group")) }
}

/// Reads all rows of a file in order.
#[derive(Debug)]
pub(in crate::history) struct Scan {
    file: Arc<FileReader>,
    kinds: u8,
    next_group: usize,
    group: Option<RowGroupReader>,
    left_in_group: usize,
    buffer: Rows,
    taken: usize,
    buffer_rows: usize,
}

/// Bytes of rows that a scan holds at most, about.
const SCAN_BYTES: usize = 1 << 20;

impl Scan {
    pub fn new(file: Arc<FileReader>) -> Self {
        let kinds = file.series.iter().fold(0, |mask, entry| mask | entry.kinds);
        let buffer_rows = file.block_rows(kinds, SCAN_BYTES);
        Self {
            file,
            kinds,
            next_group: 0,
            group: None,
            left_in_group: 0,
            buffer: Rows::default(),
            taken: 0,
            buffer_rows,
        }
    }

    /// Adds the next rows to `out`.
    pub fn read(&mut self, rows: usize, out: &mut Rows) -> Result<(), HistoryError> {
        let mut left = rows;
        while left > 0 {
            self.fill()?;
            let now = left.min(self.buffer.len() - self.taken);
            out.append(&self.buffer, self.taken..self.taken + now);
            self.taken += now;
            left -= now;
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<(), HistoryError> {
        if self.taken < self.buffer.len() {
            return Ok(());
        }
        self.buffer.clear();
        self.taken = 0;
        while self.left_in_group == 0 {
            if self.next_group >= self.file.groups() {
                return Err(corrupt(self.file.path(), "it has fewer rows than its series index"));
            }
            self.group = Some(RowGroupReader::open(&self.file, self.next_group, self.kinds)?);
            self.left_in_group = self.file.group_rows(self.next_group);
            self.next_group += 1;
        }
        let rows = self.left_in_group.min(self.buffer_rows);
        let group = self.group.as_mut().expect("opened above");
        group.read(rows, &mut self.buffer)?;
        self.left_in_group -= rows;
        Ok(())
    }
}

fn damage(reason: &str) -> ParquetError {
    ParquetError::External(Box::new(Damage(reason.to_owned())))
}

pub(in crate::history) fn corrupt(path: &Path, reason: &str) -> HistoryError {
    HistoryError::Corrupt { path: path.to_owned(), reason: reason.to_owned() }
}

/// Tells a failing disk from a damaged file.
fn read_error(path: &Path, error: ParquetError) -> HistoryError {
    let reason = match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(source)
                if source.kind() != std::io::ErrorKind::UnexpectedEof
                    && source.raw_os_error().is_some() =>
            {
                return super::write::io_error("read", path, *source);
            }
            Ok(source) => source.to_string(),
            Err(other) => other.to_string(),
        },
        other => other.to_string(),
    };
    HistoryError::Corrupt { path: path.to_owned(), reason }
}
