//! The readings of one series as a stream of blocks in order of time, merged
//! from files and memory, newest or oldest first. Files are opened and pages
//! read only when the stream comes to them, so that a short page of a long
//! history is cheap.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::HistoryError;
use super::file::{FileReader, RowGroupReader, Segment};
use super::files::FileEntry;
use super::memtable::Slice;
use super::partition::SeriesView;
use super::reading::Order;
use super::rows::{Row, Rows, merge, time_slice};
use super::shared::Shared;

/// Rows of the first block that is read of a source; each next one is twice as
/// long, up to the budget.
const FIRST_ROWS: usize = 2_048;
/// Bytes of rows that a source holds at most, about.
const BLOCK_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Stream<'a> {
    shared: &'a Shared,
    order: Order,
    from: i64,
    to: i64,
    lanes: Vec<Lane>,
    sources: Vec<Source>,
}

/// One source with what was read of it and not given out yet.
#[derive(Debug)]
struct Lane {
    /// The first time it may have, in the order of the stream.
    bound: i64,
    opened: bool,
    ended: bool,
    buffer: Rows,
    next_rows: usize,
}

#[derive(Debug)]
enum Source {
    Memory { slice: Slice },
    File { series: super::catalog::SeriesId, entry: Arc<FileEntry>, pages: Option<Box<Pages>> },
}

/// The pages of a file that are still to be read.
#[derive(Debug)]
struct Pages {
    file: Arc<FileReader>,
    kinds: u8,
    segments: VecDeque<Segment>,
    max_rows: usize,
    /// Where the last read left its row group, for the next to go on from.
    open: Option<(usize, usize, RowGroupReader)>,
}

impl<'a> Stream<'a> {
    /// `views` are the series in each partition that knows it.
    pub fn new(shared: &'a Shared, views: Vec<SeriesView>, order: Order, span: (i64, i64)) -> Self {
        let (from, to) = span;
        let mut stream = Self { shared, order, from, to, lanes: Vec::new(), sources: Vec::new() };
        for view in views {
            for entry in view.files.iter() {
                let (min, max) = (entry.record.min_ms, entry.record.max_ms);
                if min < to && max >= from {
                    let entry = entry.clone();
                    let source = Source::File { series: view.id, entry, pages: None };
                    stream.add(source, min.max(from), max.min(to - 1));
                }
            }
            for slice in view.memory {
                let rows = &slice.run.rows.rows[slice.range.clone()];
                let (Some(first), Some(last)) = (rows.first(), rows.last()) else { continue };
                let (min, max) = (first.observed_at, last.observed_at);
                stream.add(Source::Memory { slice }, min, max);
            }
        }
        stream
    }

    fn add(&mut self, source: Source, min: i64, max: i64) {
        let bound = if self.order == Order::Ascending { min } else { max };
        let buffer = Rows::default();
        self.lanes.push(Lane { bound, opened: false, ended: false, buffer, next_rows: FIRST_ROWS });
        self.sources.push(source);
    }

    /// The next rows, always with the oldest first; blocks come in the order
    /// of the stream. `None` at the end.
    pub fn next(&mut self) -> Result<Option<Rows>, HistoryError> {
        loop {
            let Some(horizon) = self.advance()? else { return Ok(None) };
            let parts: Vec<Range<usize>> =
                self.lanes.iter().map(|lane| self.within(&lane.buffer.rows, horizon)).collect();
            let sources: Vec<(&Rows, Range<usize>)> = self
                .lanes
                .iter()
                .zip(&parts)
                .map(|(lane, part)| (&lane.buffer, part.clone()))
                .collect();
            let mut merged = Rows::default();
            merge(&sources, &mut merged);
            for (lane, part) in self.lanes.iter_mut().zip(parts) {
                match self.order {
                    Order::Ascending => lane.buffer.drop_front(part.end),
                    Order::Descending => lane.buffer.truncate(part.start),
                }
            }
            if !merged.is_empty() {
                return Ok(Some(merged));
            }
        }
    }

    /// Reads on where it must; gives the time up to which (in the order of the
    /// stream) everything is in the buffers.
    fn advance(&mut self) -> Result<Option<i64>, HistoryError> {
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].opened {
                self.fill(lane)?;
            }
        }
        loop {
            let horizon = self.horizon();
            let waiting = |lane: &Lane| !lane.opened;
            let next = (0..self.lanes.len())
                .filter(|lane| waiting(&self.lanes[*lane]))
                .min_by_key(|lane| self.rank(self.lanes[*lane].bound));
            match (horizon, next) {
                (None, None) => return Ok(None),
                (Some(horizon), None) => return Ok(Some(horizon)),
                (Some(horizon), Some(next))
                    if self.rank(self.lanes[next].bound) > self.rank(horizon) =>
                {
                    return Ok(Some(horizon));
                }
                (_, Some(next)) => {
                    self.lanes[next].opened = true;
                    self.fill(next)?;
                }
            }
        }
    }

    /// Greater is later in the order of the stream.
    fn rank(&self, time: i64) -> i64 {
        if self.order == Order::Ascending { time } else { !time }
    }

    /// The least reach of the lanes that have more, or the greatest of those
    /// that have all in their buffer.
    fn horizon(&self) -> Option<i64> {
        let reach = |lane: &Lane| match self.order {
            Order::Ascending => lane.buffer.rows.last().map(|row| row.observed_at),
            Order::Descending => lane.buffer.rows.first().map(|row| row.observed_at),
        };
        let opened = || self.lanes.iter().filter(|lane| lane.opened);
        let more = opened().filter(|lane| !lane.ended).filter_map(reach);
        let least = more.min_by_key(|time| self.rank(*time));
        least.or_else(|| opened().filter_map(reach).max_by_key(|time| self.rank(*time)))
    }

    /// The rows up to the horizon.
    fn within(&self, rows: &[Row], horizon: i64) -> Range<usize> {
        match self.order {
            Order::Ascending => 0..rows.partition_point(|row| row.observed_at <= horizon),
            Order::Descending => rows.partition_point(|row| row.observed_at < horizon)..rows.len(),
        }
    }

    /// Reads the next block of a lane whose buffer is empty.
    fn fill(&mut self, lane: usize) -> Result<(), HistoryError> {
        while self.lanes[lane].buffer.is_empty() && !self.lanes[lane].ended {
            let wanted = self.lanes[lane].next_rows;
            self.lanes[lane].next_rows = wanted.saturating_mul(2);
            let (order, from, to) = (self.order, self.from, self.to);
            let buffer = &mut self.lanes[lane].buffer;
            let ended = match &mut self.sources[lane] {
                Source::Memory { slice } => take_memory(slice, order, wanted, buffer),
                Source::File { series, entry, pages } => {
                    let pages = match pages {
                        Some(pages) => pages,
                        None => {
                            let opened = Pages::open(self.shared, entry, *series, (from, to))?;
                            pages.insert(Box::new(opened))
                        }
                    };
                    pages.take(order, wanted, buffer)?
                }
            };
            let within = time_slice(&buffer.rows, from, to);
            buffer.truncate(within.end);
            buffer.drop_front(within.start.min(buffer.len()));
            self.lanes[lane].ended = ended;
        }
        Ok(())
    }
}

/// Moves rows of a slice to the buffer; true if there are no more.
fn take_memory(slice: &mut Slice, order: Order, wanted: usize, buffer: &mut Rows) -> bool {
    let count = slice.range.len().min(wanted);
    let part = match order {
        Order::Ascending => slice.range.start..slice.range.start + count,
        Order::Descending => slice.range.end - count..slice.range.end,
    };
    buffer.append(&slice.run.rows, part.clone());
    match order {
        Order::Ascending => slice.range.start = part.end,
        Order::Descending => slice.range.end = part.start,
    }
    slice.range.is_empty()
}

impl Pages {
    fn open(
        shared: &Shared,
        entry: &FileEntry,
        series: super::catalog::SeriesId,
        (from, to): (i64, i64),
    ) -> Result<Self, HistoryError> {
        let file = shared.cache.reader(entry, &shared.manifest, &shared.metrics)?;
        let (mut kinds, mut segments, mut max_rows) = (0, VecDeque::new(), 1);
        if let Some(found) = file.find(series) {
            kinds = found.kinds;
            segments = file.segments(found, from, to)?.into();
            max_rows = file.block_rows(kinds, BLOCK_BYTES);
        }
        Ok(Self { file, kinds, segments, max_rows, open: None })
    }

    /// Reads the next pages to the buffer; true if there are no more.
    fn take(
        &mut self,
        order: Order,
        wanted: usize,
        buffer: &mut Rows,
    ) -> Result<bool, HistoryError> {
        let wanted = wanted.min(self.max_rows);
        let mut picked = Vec::new();
        let mut rows = 0;
        while rows < wanted
            && let Some(segment) = self.next_segment(order, wanted - rows)
        {
            rows += segment.rows;
            picked.push(segment);
        }
        if order == Order::Descending {
            picked.reverse();
            self.open = None;
        }
        for segment in picked {
            self.read(segment, buffer)?;
        }
        Ok(self.segments.is_empty())
    }

    /// The next segment; of one that is longer than the memory for it, a part.
    fn next_segment(&mut self, order: Order, room: usize) -> Option<Segment> {
        let segment = match order {
            Order::Ascending => self.segments.pop_front()?,
            Order::Descending => self.segments.pop_back()?,
        };
        if segment.rows <= self.max_rows {
            return Some(segment);
        }
        let count = room.min(self.max_rows);
        let head = |rows| Segment { rows, ..segment };
        let tail = |rows| Segment { start: segment.start + segment.rows - rows, rows, ..segment };
        let rest = segment.rows - count;
        match order {
            Order::Ascending => {
                self.segments.push_front(tail(rest));
                Some(head(count))
            }
            Order::Descending => {
                self.segments.push_back(head(rest));
                Some(tail(count))
            }
        }
    }

    fn read(&mut self, segment: Segment, buffer: &mut Rows) -> Result<(), HistoryError> {
        let (_, at, reader) = match &mut self.open {
            Some(open) if open.0 == segment.group && open.1 <= segment.start => open,
            open => {
                let reader = RowGroupReader::open(&self.file, segment.group, self.kinds)?;
                open.insert((segment.group, 0, reader))
            }
        };
        reader.skip(segment.start - *at)?;
        reader.read(segment.rows, buffer)?;
        *at = segment.start + segment.rows;
        Ok(())
    }
}
