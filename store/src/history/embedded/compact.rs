//! Merges files of a partition, so that their number stays bounded, each
//! device, key and time is stored once, and what has expired goes.
//!
//! Crash safe by the manifest: the merged files are durable before one
//! transaction puts them in the place of the others. Memory is bounded by
//! blocks of rows, whatever the size of the files.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::HistoryError;
use super::catalog::{Names, SeriesId};
use super::file::{Contents, FileReader, FileWriter, Scan, WriterOptions};
use super::files::{FileEntry, file_name, remove_failed, sorted, sync_dir};
use super::manifest::NewFile;
use super::partition::Partition;
use super::plan::{Job, JobKind, next_job, window};
use super::rows::{Row, Rows, merge};
use super::shared::Shared;

/// Rows of one series that a merge reads from one file at a time.
const BLOCK_ROWS: usize = 32_768;

/// Runs jobs until all partitions are in order; gives how many.
pub(super) fn run_all(shared: &Shared) -> Result<usize, HistoryError> {
    let _one_at_a_time =
        shared.compacting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut jobs = 0;
    let mut first_error = None;
    for partition in &shared.partitions {
        loop {
            let (files, flushes, closed) = {
                let state = partition.state();
                (state.files.clone(), state.flushes, state.closed)
            };
            if closed {
                return Err(HistoryError::Closed);
            }
            let cutoff = |tenant| shared.cutoff(tenant);
            let Some(job) = next_job(&files, flushes, &shared.options, cutoff) else { break };
            if let Err(error) = run(shared, partition, &job) {
                first_error.get_or_insert(error);
                break;
            }
            jobs += 1;
        }
    }
    first_error.map_or(Ok(jobs), Err)
}

fn run(shared: &Shared, partition: &Partition, job: &Job) -> Result<(), HistoryError> {
    let started = Instant::now();
    let rows_before: u64 = job.files.iter().map(|file| file.record.rows).sum();
    let contents = job
        .files
        .iter()
        .map(|file| file.contents(&shared.manifest))
        .collect::<Result<Vec<Contents>, _>>()?;
    let mut paths = Vec::new();
    let mut merger = Merger::new(shared, partition, job, &contents);
    let merged = if job.kind == JobKind::Drop { Ok(Vec::new()) } else { merger.merge(&mut paths) };
    let expired = if job.kind == JobKind::Drop { rows_before } else { merger.expired };
    let removed: Vec<u64> = job.files.iter().map(|file| file.record.id).collect();
    let publishing = shared.publishing();
    let committed = merged.and_then(|added| {
        sync_dir(&shared.dir)?;
        for (file, contents) in job.files.iter().zip(contents) {
            file.keep_contents(contents);
        }
        shared.manifest.commit_compaction(&removed, &added)?;
        Ok(added)
    });
    let added = committed.inspect_err(|_| remove_failed(&paths))?;
    let metrics = &shared.metrics;
    let rows: u64 = added.iter().map(|file| file.record.rows).sum();
    metrics.compacted_rows.inc_by(rows);
    metrics.compacted_bytes.inc_by(added.iter().map(|file| file.record.bytes).sum());
    metrics.compacted_files.inc_by(removed.len() as u64);
    metrics.expired.inc_by(expired);
    metrics.deduplicated.inc_by(rows_before.saturating_sub(rows + expired));
    metrics.compaction_seconds.observe(started.elapsed().as_secs_f64());
    replace(shared, partition, &removed, added);
    drop(publishing);
    let (files, kind) = (removed.len(), job.kind);
    tracing::debug!(partition = partition.id.0, ?kind, files, rows, "merged history files");
    Ok(())
}

/// Lets queries see the merged files in the place of the others.
fn replace(shared: &Shared, partition: &Partition, removed: &[u64], added: Vec<NewFile>) {
    let mut state = partition.state();
    let mut files = Vec::with_capacity(state.files.len());
    for file in state.files.iter() {
        if removed.contains(&file.record.id) {
            file.set_obsolete();
            shared.cache.forget(file.record.id);
        } else {
            files.push(file.clone());
        }
    }
    files.extend(added.into_iter().map(|file| Arc::new(FileEntry::new(&shared.dir, file.record))));
    state.files = sorted(files);
    drop(state);
    shared.count_files();
}

/// A file that is read in order.
struct Input {
    scan: Scan,
    /// The place of the next series in the file's contents.
    next: usize,
    buffer: Rows,
    /// Rows of the series at hand that are not in the buffer yet.
    left: usize,
    block_rows: usize,
}

struct Merger<'a> {
    shared: &'a Shared,
    partition: &'a Partition,
    job: &'a Job,
    contents: &'a [Contents],
    names: Arc<Names>,
    expired: u64,
}

/// The windows that one pass over the inputs writes.
struct Pass {
    open: BTreeMap<i64, FileWriter>,
    /// The number and path of each window's open file.
    ids: BTreeMap<i64, u64>,
    done: BTreeSet<i64>,
    /// Seen, but left to a later pass.
    later: bool,
}

impl<'a> Merger<'a> {
    fn new(
        shared: &'a Shared,
        partition: &'a Partition,
        job: &'a Job,
        contents: &'a [Contents],
    ) -> Self {
        let names = Arc::new(partition.state().catalog.names().clone());
        Self { shared, partition, job, contents, names, expired: 0 }
    }

    /// Writes the merged files; `paths` are those that were made, on an error too.
    fn merge(&mut self, paths: &mut Vec<PathBuf>) -> Result<Vec<NewFile>, HistoryError> {
        let mut series: Vec<u32> =
            self.contents.iter().flat_map(|file| &file.series).map(|entry| entry.series).collect();
        series.sort_unstable();
        series.dedup();
        let order = self.names.file_order(series);
        let readers = self.open_readers()?;
        let mut added = Vec::new();
        let mut done = BTreeSet::new();
        // A split may meet more windows than may be written at once.
        loop {
            self.expired = 0;
            let mut pass = Pass { open: BTreeMap::new(), ids: BTreeMap::new(), done, later: false };
            let mut inputs = self.inputs(&readers);
            for id in &order {
                self.merge_series(SeriesId(*id), &mut inputs, &mut pass, paths)?;
                self.cut(&mut pass, &mut added)?;
            }
            let windows: Vec<i64> = pass.ids.keys().copied().collect();
            while let Some((window, writer)) = pass.open.pop_first() {
                added.push(self.finish(writer, pass.ids[&window])?);
            }
            done = pass.done;
            done.extend(windows);
            if !pass.later {
                return Ok(added);
            }
        }
    }

    fn open_readers(&self) -> Result<Vec<Arc<FileReader>>, HistoryError> {
        let files = self.job.files.iter().zip(self.contents);
        files
            .map(|(file, contents)| {
                FileReader::open(&file.path, file.record.bytes, contents).map(Arc::new)
            })
            .collect()
    }

    fn inputs(&self, readers: &[Arc<FileReader>]) -> Vec<Input> {
        readers
            .iter()
            .map(|reader| Input {
                scan: Scan::new(reader.clone()),
                next: 0,
                buffer: Rows::default(),
                left: 0,
                block_rows: reader.block_rows(u8::MAX, BLOCK_ROWS * size_of::<Row>()),
            })
            .collect()
    }

    /// Merges the rows of one series, older files first, a block at a time.
    fn merge_series(
        &mut self,
        id: SeriesId,
        inputs: &mut [Input],
        pass: &mut Pass,
        paths: &mut Vec<PathBuf>,
    ) -> Result<(), HistoryError> {
        let cutoff = self.shared.cutoff(self.names.series[id.0 as usize].tenant);
        for (input, contents) in inputs.iter_mut().zip(self.contents) {
            if let Some(entry) = contents.series.get(input.next)
                && entry.series == id.0
            {
                input.next += 1;
                input.left = entry.rows as usize;
            }
        }
        let mut merged = Rows::default();
        loop {
            let Some(horizon) = fill(inputs)? else { return Ok(()) };
            let sources: Vec<(&Rows, Range<usize>)> = inputs
                .iter()
                .map(|input| (&input.buffer, 0..through(&input.buffer.rows, horizon)))
                .collect();
            let counts: Vec<usize> = sources.iter().map(|(_, range)| range.end).collect();
            merged.clear();
            merge(&sources, &mut merged);
            for (input, count) in inputs.iter_mut().zip(counts) {
                input.buffer.drop_front(count);
            }
            let kept = merged.rows.partition_point(|row| row.observed_at < cutoff);
            self.expired += kept as u64;
            self.write(id, &merged, kept, pass, paths)?;
        }
    }

    /// Writes rows to the files of their windows.
    fn write(
        &self,
        id: SeriesId,
        rows: &Rows,
        from: usize,
        pass: &mut Pass,
        paths: &mut Vec<PathBuf>,
    ) -> Result<(), HistoryError> {
        let window_ms = self.shared.options.window_ms.max(1);
        // The only window of a file that is purged or merged is its own; one
        // that spans several stays whole unless it is split.
        let of = |row: &Row| match self.job.kind {
            JobKind::Purge => 0,
            _ => window(row.observed_at, window_ms),
        };
        for part in rows.rows[from..].chunk_by(|a, b| of(a) == of(b)) {
            let window = of(&part[0]);
            if pass.done.contains(&window) {
                continue;
            }
            if !pass.open.contains_key(&window) {
                if pass.ids.len() >= self.shared.options.open_outputs.max(1)
                    && !pass.ids.contains_key(&window)
                {
                    pass.later = true;
                    continue;
                }
                let file = self.shared.manifest.new_file();
                let path = self.shared.dir.join(file_name(self.partition.id.0, file));
                paths.push(path.clone());
                let options = WriterOptions::from(&self.shared.options);
                let writer = FileWriter::create(&path, self.names.clone(), &options)?;
                pass.open.insert(window, writer);
                pass.ids.insert(window, file);
            }
            let writer = pass.open.get_mut(&window).expect("opened above");
            writer.push(id, rows, part)?;
        }
        Ok(())
    }

    /// Closes files that are long enough, between two series.
    fn cut(&self, pass: &mut Pass, added: &mut Vec<NewFile>) -> Result<(), HistoryError> {
        let limit = self.shared.options.file_rows.max(1);
        let full: Vec<i64> = pass
            .open
            .iter()
            .filter(|(_, writer)| writer.rows() >= limit)
            .map(|(window, _)| *window)
            .collect();
        for window in full {
            let writer = pass.open.remove(&window).expect("just found");
            added.push(self.finish(writer, pass.ids[&window])?);
        }
        Ok(())
    }

    fn finish(&self, writer: FileWriter, id: u64) -> Result<NewFile, HistoryError> {
        let summary = writer.finish()?;
        let records = || self.job.files.iter().map(|file| &file.record);
        let first = records().map(|file| file.first_flush).min().unwrap_or(0);
        let last = records().map(|file| file.last_flush).max().unwrap_or(0);
        Ok(NewFile::new(id, self.partition.id, (first, last), summary))
    }
}

/// Reads on where a buffer is empty; gives the time up to which all inputs are
/// in the buffers, `None` at the end of the series.
fn fill(inputs: &mut [Input]) -> Result<Option<i64>, HistoryError> {
    let mut horizon = None;
    for input in inputs {
        if input.buffer.is_empty() && input.left > 0 {
            let rows = input.left.min(input.block_rows);
            input.scan.read(rows, &mut input.buffer)?;
            input.left -= rows;
        }
        let Some(last) = input.buffer.rows.last() else { continue };
        let reach = if input.left > 0 { last.observed_at } else { i64::MAX };
        horizon = Some(horizon.map_or(reach, |known: i64| known.min(reach)));
    }
    Ok(horizon)
}

fn through(rows: &[Row], horizon: i64) -> usize {
    rows.partition_point(|row| row.observed_at <= horizon)
}
