//! Rows that are not in files yet: a chunk in arrival order, and runs of
//! sorted chunks. The journal still holds all of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;
use schema::{Position, Value};

use super::catalog::SeriesId;
use super::rows::{Row, Rows, time_slice};

/// Texts of a chunk in bytes at which it is sealed, so that an arena's offsets
/// stay far below 32 bits.
const CHUNK_TEXT_BYTES: usize = 16 << 20;

/// Sorted rows of many series. Cheap to share with queries: it never changes.
#[derive(Debug)]
pub(super) struct Run {
    pub rows: Rows,
    /// The series in the run, in order of their numbers.
    series: Vec<u32>,
    /// Where each series' rows start, and at last where they end.
    starts: Vec<u32>,
}

/// Rows in arrival order. Its buffers are used again for the next chunk:
/// fresh pages from the system cost more than the sort.
#[derive(Debug, Default)]
struct Chunk {
    series: Vec<u32>,
    rows: Rows,
    /// Series and place of each row, for the sort.
    order: Vec<u64>,
    spare: Vec<u64>,
}

/// What is being written to.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    runs: Vec<Arc<Run>>,
    chunk: Chunk,
    sealed_rows: usize,
    sealed_bytes: usize,
    /// When its first row came; for the age limit.
    pub since: Option<Instant>,
}

/// A full memtable that waits for its flush.
#[derive(Debug)]
pub(super) struct Frozen {
    pub runs: Vec<Arc<Run>>,
    pub rows: usize,
    pub bytes: usize,
    /// The position behind its last record: durable once it is in a file.
    pub next: Position,
}

/// Rows of one series in a run, in order of time.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub run: Arc<Run>,
    pub range: Range<usize>,
}

impl Run {
    fn slice(&self, id: SeriesId) -> Option<Range<usize>> {
        let place = self.series.binary_search(&id.0).ok()?;
        Some(self.starts[place] as usize..self.starts[place + 1] as usize)
    }

    /// Each series with its rows.
    pub fn slices(&self) -> impl Iterator<Item = (u32, Range<u32>)> + '_ {
        let ranges = self.starts.windows(2).map(|pair| pair[0]..pair[1]);
        self.series.iter().copied().zip(ranges)
    }

    fn bytes(&self) -> usize {
        self.rows.bytes() + 8 * self.series.len()
    }
}

impl Chunk {
    /// Sorts by series and time; of equal times the row that came last stays.
    fn seal(&mut self) -> Run {
        let Self { series, rows: Rows { rows, texts }, order, spare } = self;
        order.clear();
        order.extend((0..).zip(&*series).map(|(place, id)| (u64::from(*id) << 32) | place));
        sort_by_series(order, spare);
        let texts = std::mem::take(texts);
        let mut run = Run {
            rows: Rows { rows: Vec::with_capacity(rows.len()), texts },
            series: Vec::new(),
            starts: Vec::new(),
        };
        for group in order.chunk_by(|a, b| a >> 32 == b >> 32) {
            let start = run.rows.rows.len();
            run.series.push((group[0] >> 32) as u32);
            run.starts.push(u32::try_from(start).expect("a chunk has fewer rows than 32 bits"));
            let picked = group.iter().map(|place| rows[(place & 0xffff_ffff) as usize]);
            run.rows.rows.extend(picked);
            settle(&mut run.rows.rows, start);
        }
        let end = run.rows.rows.len();
        run.starts.push(u32::try_from(end).expect("a chunk has fewer rows than 32 bits"));
        series.clear();
        rows.clear();
        run
    }

    /// The rows of some series, sorted; as [`Chunk::seal`] of only these.
    fn of_many<T>(&self, wanted: &HashMap<u32, T>) -> Run {
        let mut order: Vec<u64> = (0u64..)
            .zip(&self.series)
            .filter(|(_, id)| wanted.contains_key(*id))
            .map(|(place, id)| (u64::from(*id) << 32) | place)
            .collect();
        order.sort_unstable();
        let mut run = Run { rows: Rows::default(), series: Vec::new(), starts: Vec::new() };
        for group in order.chunk_by(|a, b| a >> 32 == b >> 32) {
            let start = run.rows.rows.len();
            run.series.push((group[0] >> 32) as u32);
            run.starts.push(u32::try_from(start).expect("a chunk has fewer rows than 32 bits"));
            for place in group {
                run.rows.push_row(&self.rows, self.rows.rows[(place & 0xffff_ffff) as usize]);
            }
            settle(&mut run.rows.rows, start);
        }
        let end = run.rows.rows.len();
        run.starts.push(u32::try_from(end).expect("a chunk has fewer rows than 32 bits"));
        run
    }

    fn of_series(&self, id: SeriesId) -> Rows {
        let mut found = Rows::default();
        for (place, _) in self.series.iter().enumerate().filter(|(_, series)| **series == id.0) {
            found.push_row(&self.rows, self.rows.rows[place]);
        }
        settle(&mut found.rows, 0);
        found
    }
}

/// Sorts by the upper half and keeps the order of what is equal there: byte by
/// byte from the lowest, as many as the largest number has. Numbers of series
/// are dense, so that is one pass for hundreds of series and two for thousands,
/// where sorting by comparison takes sixteen.
fn sort_by_series(order: &mut Vec<u64>, spare: &mut Vec<u64>) {
    let largest = order.iter().max().map_or(0, |place| place >> 32);
    spare.clear();
    spare.resize(order.len(), 0);
    let mut shift = 0;
    while largest >> shift > 0 {
        let digit = |place: u64| (place >> (32 + shift)) as usize & 0xff;
        let mut ends = [0_usize; 256];
        order.iter().for_each(|place| ends[digit(*place)] += 1);
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        for place in &*order {
            let next = &mut ends[digit(*place)];
            spare[*next] = *place;
            *next += 1;
        }
        std::mem::swap(order, spare);
        shift += 8;
    }
}

/// Puts the rows from `start` on, which came in this order, in order of time,
/// each time once.
fn settle(rows: &mut Vec<Row>, start: usize) {
    let part = &rows[start..];
    if part.is_sorted_by(|a, b| a.observed_at < b.observed_at) {
        return;
    }
    rows[start..].sort_by_key(|row| row.observed_at);
    let mut kept = start;
    for place in start..rows.len() {
        if place + 1 < rows.len() && rows[place + 1].observed_at == rows[place].observed_at {
            continue;
        }
        rows[kept] = rows[place];
        kept += 1;
    }
    rows.truncate(kept);
}

impl Memtable {
    pub fn rows(&self) -> usize {
        self.sealed_rows + self.chunk.rows.len()
    }

    pub fn bytes(&self) -> usize {
        self.sealed_bytes + self.chunk.rows.bytes() + 4 * self.chunk.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Adds a row; gives how many rows were dropped as re-sent if that sealed a chunk.
    pub fn push(&mut self, id: SeriesId, at: i64, value: Value<'_>, chunk_rows: usize) -> usize {
        self.chunk.series.push(id.0);
        self.chunk.rows.push(at, value);
        if self.chunk.series.len() >= chunk_rows || self.chunk.rows.texts.len() >= CHUNK_TEXT_BYTES
        {
            return self.seal();
        }
        0
    }

    fn seal(&mut self) -> usize {
        if self.chunk.series.is_empty() {
            return 0;
        }
        let came = self.chunk.series.len();
        let run = self.chunk.seal();
        self.sealed_rows += run.rows.len();
        self.sealed_bytes += run.bytes();
        let dropped = came - run.rows.len();
        self.runs.push(Arc::new(run));
        dropped
    }

    /// Starts anew; what was gathered goes on to the flush.
    pub fn freeze(&mut self, next: Position) -> (Frozen, usize) {
        let dropped = self.seal();
        let chunk = std::mem::take(&mut self.chunk);
        let full = std::mem::replace(self, Self { chunk, ..Self::default() });
        let frozen =
            Frozen { runs: full.runs, rows: full.sealed_rows, bytes: full.sealed_bytes, next };
        (frozen, dropped)
    }

    /// All runs, older first, the last of them made of what these series have
    /// in the chunk.
    pub fn runs_of<T>(&self, wanted: &HashMap<u32, T>) -> Vec<Arc<Run>> {
        let chunk = Arc::new(self.chunk.of_many(wanted));
        self.runs.iter().cloned().chain(std::iter::once(chunk)).collect()
    }

    /// The rows of a series in a span of time, older sources first.
    pub fn slices(&self, id: SeriesId, from: i64, to: i64, out: &mut Vec<Slice>) {
        slices_of(&self.runs, id, from, to, out);
        let rows = self.chunk.of_series(id);
        let range = time_slice(&rows.rows, from, to);
        if !range.is_empty() {
            let run = Run { rows, series: Vec::new(), starts: Vec::new() };
            out.push(Slice { run: Arc::new(run), range });
        }
    }
}

impl Frozen {
    /// The rows of a series in a span of time, older sources first.
    pub fn slices(&self, id: SeriesId, from: i64, to: i64, out: &mut Vec<Slice>) {
        slices_of(&self.runs, id, from, to, out);
    }
}

pub(super) fn slices_of(runs: &[Arc<Run>], id: SeriesId, from: i64, to: i64, out: &mut Vec<Slice>) {
    for run in runs {
        let Some(range) = run.slice(id) else { continue };
        let within = time_slice(&run.rows.rows[range.clone()], from, to);
        if !within.is_empty() {
            let range = range.start + within.start..range.start + within.end;
            out.push(Slice { run: run.clone(), range });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(slices: &[Slice]) -> Vec<Vec<(i64, u64)>> {
        let rows = |slice: &Slice| slice.run.rows.rows[slice.range.clone()].to_vec();
        slices
            .iter()
            .map(|slice| rows(slice).iter().map(|row| (row.observed_at, row.bits)).collect())
            .collect()
    }

    #[test]
    fn a_chunk_and_its_run_answer_alike() {
        let arrivals = [(7, 5), (3, 1), (7, 4), (7, 5), (3, 2), (7, 9)];
        let mut answers = Vec::new();
        for chunk_rows in [6, 100] {
            let mut memtable = Memtable::default();
            for (value, (series, at)) in arrivals.into_iter().enumerate() {
                memtable.push(SeriesId(series), at, Value::Integer(value as i64), chunk_rows);
            }
            let mut slices = Vec::new();
            memtable.slices(SeriesId(7), 4, 9, &mut slices);
            answers.push(integers(&slices));
        }
        assert_eq!(answers[0], [[(4, 2), (5, 3)]]);
        assert_eq!(answers[0], answers[1]);
    }

    #[test]
    fn places_are_sorted_by_series_and_keep_their_order() {
        for series in [1_u64, 7, 300, 70_000, 1 << 31] {
            let mut order: Vec<u64> = (0..5_000_u64)
                .map(|place| {
                    ((place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 30) % series) << 32 | place
                })
                .collect();
            let mut expected = order.clone();
            expected.sort_unstable();
            sort_by_series(&mut order, &mut Vec::new());
            assert_eq!(order, expected, "{series} series");
        }
    }

    #[test]
    fn freezing_keeps_the_order_of_runs_and_counts_what_was_re_sent() {
        let mut memtable = Memtable::default();
        for (at, value) in [(1, 1), (1, 2), (1, 3), (2, 4), (1, 5)] {
            memtable.push(SeriesId(0), at, Value::Integer(value), 2);
        }
        assert_eq!((memtable.rows(), memtable.runs.len()), (4, 2));
        let (frozen, dropped) = memtable.freeze(Position(9));
        assert_eq!((frozen.rows, dropped, frozen.next), (4, 0, Position(9)));
        let mut slices = Vec::new();
        frozen.slices(SeriesId(0), 0, 9, &mut slices);
        assert_eq!(integers(&slices), [vec![(1, 2)], vec![(1, 3), (2, 4)], vec![(1, 5)]]);
        assert!(memtable.is_empty());
    }

    #[test]
    fn texts_follow_their_rows_through_the_sort() {
        let mut memtable = Memtable::default();
        for (series, at, text) in [(2, 2, "second"), (1, 1, "other"), (2, 1, "first")] {
            memtable.push(SeriesId(series), at, Value::Text(text), 3);
        }
        let mut slices = Vec::new();
        memtable.slices(SeriesId(2), 0, 9, &mut slices);
        let rows = &slices[0].run.rows;
        let texts: Vec<&[u8]> =
            rows.rows[slices[0].range.clone()].iter().map(|row| rows.text(row)).collect();
        assert_eq!(texts, [b"first".as_slice(), b"second"]);
    }
}
