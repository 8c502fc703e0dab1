//! A scan's way through time: one slice after another, each as long as fits
//! the memory that is given, with what is read of files page by page.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;

use super::merge::Lane;
use super::{Seen, ViewSeries};
use crate::history::HistoryError;
use crate::history::embedded::catalog::SeriesId;
use crate::history::embedded::file::{FileReader, RowGroupReader, Segment, SeriesRows};
use crate::history::embedded::files::FileEntry;
use crate::history::embedded::memtable::Slice as MemorySlice;
use crate::history::embedded::shared::Shared;
use crate::history::rows::{Row, Rows, merge};

/// With as many files open, no further one is opened before the scan has come to
/// where it begins: the footers and indexes of files over many series are large.
const MAX_OPEN_AHEAD: usize = 16;

/// The slices of some devices of a view.
#[derive(Debug)]
pub(super) struct Slices<'a> {
    shared: &'a Shared,
    /// All before it is given out.
    now: i64,
    to: i64,
    slice_bytes: usize,
    lanes: Vec<LaneState>,
    /// The lane of each series, by partition and number.
    places: HashMap<(u32, u32), usize>,
    /// The last one begins first.
    waiting: Vec<Waiting>,
    open: Vec<OpenFile>,
}

/// One series with what is in memory of it.
#[derive(Debug)]
struct LaneState {
    device: u32,
    key: u32,
    from: i64,
    /// Older first, by rank.
    sources: Vec<Source>,
    merged: Merged,
}

/// Rows in order of time; of equal times the source with the higher rank counts.
#[derive(Debug)]
struct Source {
    rank: u64,
    rows: SourceRows,
    /// Rows given out by the slice of now.
    taken: usize,
}

#[derive(Debug)]
enum SourceRows {
    Memory(MemorySlice),
    File(Rows),
}

/// What a lane has in the slice of now.
#[derive(Debug, Default)]
enum Merged {
    #[default]
    Nothing,
    /// The first rows of one source.
    One {
        source: usize,
        range: Range<usize>,
    },
    Many(Rows),
}

#[derive(Debug)]
struct Waiting {
    partition: u32,
    rank: u64,
    entry: Arc<FileEntry>,
}

#[derive(Debug)]
struct OpenFile {
    rank: u64,
    reader: Arc<FileReader>,
    /// Those of the scan, in the order of the file.
    series: Vec<FileSeries>,
    kinds: u8,
    begins: i64,
    rows_per_ms: f64,
    block_rows: usize,
    /// Where the last read left its row group, for the next to go on from.
    group: Option<(usize, usize, RowGroupReader)>,
}

#[derive(Debug)]
struct FileSeries {
    lane: usize,
    /// Those that are not read yet.
    rest: SeriesRows,
}

/// Neighbouring rows to be read into a lane.
#[derive(Debug)]
struct Pick {
    /// The place in the file's series.
    series: usize,
    segment: Segment,
}

impl SourceRows {
    fn rows(&self) -> (&Rows, Range<usize>) {
        match self {
            Self::Memory(slice) => (&slice.run.rows, slice.range.clone()),
            Self::File(rows) => (rows, 0..rows.len()),
        }
    }

    fn first(&self) -> Option<i64> {
        let (rows, range) = self.rows();
        rows.rows[range].first().map(|row| row.observed_at)
    }

    fn forget(&mut self, count: usize) {
        match self {
            Self::Memory(slice) => slice.range.start += count,
            // Their texts would stay while rows behind them do.
            Self::File(rows) if count > 0 && !rows.texts.is_empty() => {
                let mut rest = Rows::default();
                rest.append(rows, count..rows.len());
                *rows = rest;
            }
            Self::File(rows) => rows.drop_front(count),
        }
    }
}

/// All that the devices observed in one slice of time.
#[derive(Debug)]
pub(super) struct Slice<'a> {
    lanes: &'a [LaneState],
}

impl<'a> Slice<'a> {
    /// Sorted by device, then key; none is empty. `name` gives the caller's word
    /// for a key of a device, both by their places.
    pub fn lanes<K>(&self, name: impl Fn(u32, u32) -> K) -> Vec<Lane<'a, K>> {
        let lane = |state: &'a LaneState| {
            let (rows, texts): (&[Row], &Rows) = match &state.merged {
                Merged::Nothing => return None,
                Merged::One { source, range } => {
                    let texts = state.sources[*source].rows.rows().0;
                    (&texts.rows[range.clone()], texts)
                }
                Merged::Many(rows) => (&rows.rows, rows),
            };
            let key = name(state.device, state.key);
            Some(Lane { device: state.device, key, rows, texts })
        };
        self.lanes.iter().filter_map(lane).collect()
    }
}

impl<'a> Slices<'a> {
    pub fn new(view: &'a Seen, devices: &[usize], slice_bytes: usize) -> Self {
        let mut slices = Self {
            shared: &view.shared,
            now: i64::MIN,
            to: view.to,
            slice_bytes,
            lanes: Vec::new(),
            places: HashMap::new(),
            waiting: Vec::new(),
            open: Vec::new(),
        };
        for (number, device) in (0u32..).zip(devices) {
            for series in &view.series[*device] {
                slices.add(number, series);
            }
        }
        let from = slices.lanes.iter().map(|lane| lane.from).min().unwrap_or(view.to);
        slices.now = from;
        for (partition, files) in (0u32..).zip(&view.files) {
            if !slices.places.keys().any(|(known, _)| *known == partition) {
                continue;
            }
            for (order, entry) in (0u64..).zip(files.iter()) {
                if entry.record.min_ms < view.to && entry.record.max_ms >= from {
                    let rank = (u64::from(partition) << 32) | order;
                    slices.waiting.push(Waiting { partition, rank, entry: entry.clone() });
                }
            }
        }
        slices.waiting.sort_by_key(|file| std::cmp::Reverse(file.entry.record.min_ms));
        slices
    }

    fn add(&mut self, device: u32, series: &ViewSeries) {
        let same = |lane: &&mut LaneState| lane.device == device && lane.key == series.key;
        if self.lanes.last_mut().filter(same).is_none() {
            self.lanes.push(LaneState {
                device,
                key: series.key,
                from: series.from,
                sources: Vec::new(),
                merged: Merged::Nothing,
            });
        }
        let place = self.lanes.len() - 1;
        let lane = &mut self.lanes[place];
        lane.from = lane.from.max(series.from);
        self.places.insert((series.partition, series.id.0), place);
        for (order, slice) in (0u64..).zip(&series.memory) {
            // Behind all files of the partition.
            let rank = (u64::from(series.partition) << 32) | (1 << 31) | order;
            let rows = SourceRows::Memory(slice.clone());
            let mut source = Source { rank, rows, taken: 0 };
            source.skip_to(lane.from);
            lane.sources.push(source);
        }
    }

    /// The next slice that has readings.
    pub fn next(&mut self) -> Result<Option<Slice<'_>>, HistoryError> {
        loop {
            self.forget();
            if self.open.is_empty() {
                let Some(first) = self.first_known() else { return Ok(None) };
                self.now = self.now.max(first);
            }
            if self.now >= self.to {
                return Ok(None);
            }
            let end = self.plan()?;
            let found = self.merge_until(end);
            self.now = end;
            if found {
                return Ok(Some(Slice { lanes: &self.lanes }));
            }
        }
    }

    /// Lets go of what the last slice gave out, and of files that are read.
    fn forget(&mut self) {
        self.open.retain(|file| !file.series.is_empty());
        let open: Vec<u64> = self.open.iter().map(|file| file.rank).collect();
        for lane in &mut self.lanes {
            lane.merged = Merged::Nothing;
            lane.sources.retain_mut(|source| {
                source.rows.forget(std::mem::take(&mut source.taken));
                source.rows.first().is_some() || open.contains(&source.rank)
            });
        }
    }

    /// The first time in memory or of a file that is not open.
    fn first_known(&self) -> Option<i64> {
        let sources = self.lanes.iter().flat_map(|lane| &lane.sources);
        let memory = sources.filter_map(|source| source.rows.first());
        let file = self.waiting.last().map(|file| file.entry.record.min_ms);
        memory.chain(file).min()
    }

    /// Decides where the slice ends, and reads what files have before that.
    fn plan(&mut self) -> Result<i64, HistoryError> {
        self.open_before(self.now.saturating_add(1))?;
        let mut end = self.guess();
        while let Some(begins) = self.waiting.last().map(|file| file.entry.record.min_ms)
            && begins < end
        {
            if self.open.len() >= MAX_OPEN_AHEAD {
                end = begins;
                break;
            }
            self.open_before(begins.saturating_add(1))?;
            end = end.min(self.guess()).max(begins.saturating_add(1));
        }
        let fits = self.open.iter().map(|file| file.block_rows).min().unwrap_or(usize::MAX);
        loop {
            let mut picks = Vec::new();
            for file in &self.open {
                picks.push(file.pick(end)?);
            }
            let all = || picks.iter().flatten();
            let rows: usize = all().map(|pick| pick.segment.rows).sum();
            // A page of each series is the least that can be read.
            let least = all().count() <= self.open.iter().map(|file| file.series.len()).sum();
            if rows <= fits || least || end <= self.now.saturating_add(1) {
                self.read(end, picks)?;
                return Ok(end);
            }
            end = self.now + end.saturating_sub(self.now) / 2;
        }
    }

    /// Where a slice would end that fits, were readings spread evenly. A file
    /// counts from where it begins.
    fn guess(&self) -> i64 {
        let fits = self.open.iter().map(|file| file.block_rows).min().unwrap_or(0);
        let after = |start: i64, rows_per_ms: f64| {
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                reason = "a guess"
            )]
            let span = (fits as f64 / rows_per_ms) as i64;
            start.saturating_add(span.max(1))
        };
        let (mut begun, mut all) = (0.0, 0.0);
        for file in &self.open {
            all += file.rows_per_ms;
            begun += if file.begins <= self.now { file.rows_per_ms } else { 0.0 };
        }
        let later = self.open.iter().filter(|file| file.begins > self.now);
        let ends = later.map(|file| after(file.begins, all));
        // In memory all is there already: on to the next file.
        let next = || self.waiting.last().map_or(self.to, |file| file.entry.record.min_ms);
        let end = if begun > 0.0 { after(self.now, begun) } else { next() };
        ends.fold(end, i64::min).max(self.now.saturating_add(1)).min(self.to)
    }

    fn open_before(&mut self, end: i64) -> Result<(), HistoryError> {
        while let Some(file) = self.waiting.pop_if(|file| file.entry.record.min_ms < end) {
            if let Some(opened) = self.open_file(&file)? {
                self.open.push(opened);
            }
        }
        Ok(())
    }

    /// Opens a file; none if it has nothing of the scan.
    fn open_file(&self, file: &Waiting) -> Result<Option<OpenFile>, HistoryError> {
        let Shared { cache, manifest, metrics, .. } = self.shared;
        let reader = cache.reader(&file.entry, manifest, metrics)?;
        let (mut series, mut kinds, mut rows) = (Vec::new(), 0, 0u32);
        for ((partition, id), lane) in &self.places {
            if *partition != file.partition {
                continue;
            }
            let Some(found) = reader.find(SeriesId(*id)) else { continue };
            let Some(rest) = reader.rows_from(found, self.lanes[*lane].from)? else { continue };
            kinds |= found.kinds;
            rows += rest.rows;
            series.push(FileSeries { lane: *lane, rest });
        }
        if series.is_empty() {
            return Ok(None);
        }
        series.sort_unstable_by_key(|series| series.rest.start);
        let record = &file.entry.record;
        #[allow(clippy::cast_precision_loss, reason = "a guess")]
        let span_ms = record.max_ms.saturating_sub(record.min_ms.max(self.now)).max(0) as f64 + 1.0;
        let block_rows = reader.block_rows(kinds, self.slice_bytes);
        let rows_per_ms = f64::from(rows) / span_ms;
        Ok(Some(OpenFile {
            rank: file.rank,
            reader,
            series,
            kinds,
            begins: record.min_ms,
            rows_per_ms,
            block_rows,
            group: None,
        }))
    }

    fn read(&mut self, end: i64, picks: Vec<Vec<Pick>>) -> Result<(), HistoryError> {
        for (file, picks) in self.open.iter_mut().zip(picks) {
            for pick in picks {
                let lane = &mut self.lanes[file.series[pick.series].lane];
                let from = lane.from;
                let source = lane.source(file.rank);
                let SourceRows::File(rows) = &mut source.rows else { continue };
                file.read(pick.segment, rows)?;
                source.skip_to(from);
                let rest = &mut file.series[pick.series].rest;
                let read = u32::try_from(pick.segment.rows).expect("a file counts rows by u32");
                rest.start += read;
                rest.rows -= read;
            }
            let over = end >= self.to;
            file.series.retain(|series| series.rest.rows > 0 && !over);
        }
        Ok(())
    }

    /// Prepares each lane's rows before `end`; false if there are none.
    fn merge_until(&mut self, end: i64) -> bool {
        let mut found = false;
        for lane in &mut self.lanes {
            for source in &mut lane.sources {
                let (rows, range) = source.rows.rows();
                source.taken = rows.rows[range].partition_point(|row| row.observed_at < end);
            }
            let mut parts = lane.sources.iter().enumerate().filter(|(_, source)| source.taken > 0);
            let (first, more) = (parts.next(), parts.next().is_some());
            lane.merged = match first {
                None => Merged::Nothing,
                Some((place, source)) if !more => {
                    let start = source.rows.rows().1.start;
                    Merged::One { source: place, range: start..start + source.taken }
                }
                Some(_) => {
                    let mut parts = Vec::new();
                    for source in &lane.sources {
                        let (rows, range) = source.rows.rows();
                        parts.push((rows, range.start..range.start + source.taken));
                    }
                    let mut rows = Rows::default();
                    merge(&parts, &mut rows);
                    Merged::Many(rows)
                }
            };
            found |= first.is_some();
        }
        found
    }
}

impl Source {
    /// Forgets rows that are too old to be seen.
    fn skip_to(&mut self, from: i64) {
        let (rows, range) = self.rows.rows();
        let count = rows.rows[range].partition_point(|row| row.observed_at < from);
        self.rows.forget(count);
    }
}

impl LaneState {
    /// What is read of the file of this rank.
    fn source(&mut self, rank: u64) -> &mut Source {
        let place = match self.sources.binary_search_by_key(&rank, |source| source.rank) {
            Ok(place) => place,
            Err(place) => {
                let rows = SourceRows::File(Rows::default());
                self.sources.insert(place, Source { rank, rows, taken: 0 });
                place
            }
        };
        &mut self.sources[place]
    }
}

impl OpenFile {
    /// The pages that may hold rows before `end`, in the order of the file.
    fn pick(&self, end: i64) -> Result<Vec<Pick>, HistoryError> {
        let mut picks = Vec::new();
        for (place, series) in self.series.iter().enumerate() {
            let mut next = series.rest.start as usize;
            for segment in self.reader.segments(series.rest, i64::MIN, end)? {
                // A page that ends a series may begin the next one, whose
                // earlier times then stand in its bounds: only what follows
                // without a gap is before the end.
                if self.reader.first_row(segment) != next {
                    break;
                }
                next += segment.rows;
                picks.push(Pick { series: place, segment });
            }
        }
        Ok(picks)
    }

    fn read(&mut self, segment: Segment, rows: &mut Rows) -> Result<(), HistoryError> {
        let (_, at, reader) = match &mut self.group {
            Some(group) if group.0 == segment.group && group.1 <= segment.start => group,
            group => {
                let reader = RowGroupReader::open(&self.reader, segment.group, self.kinds)?;
                group.insert((segment.group, 0, reader))
            }
        };
        reader.skip(segment.start - *at)?;
        reader.read(segment.rows, rows)?;
        *at = segment.start + segment.rows;
        Ok(())
    }
}
