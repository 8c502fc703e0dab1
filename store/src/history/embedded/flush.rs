//! Brings memtables into files, on a thread of its own.
//!
//! The order makes a crash harmless at any point: the files are durable before
//! the one transaction that names them and moves the position; until then the
//! journal still has the rows, and what is on disk without a name is removed
//! at the next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use schema::Position;

use super::HistoryError;
use super::catalog::{Names, SeriesId};
use super::file::{FileWriter, WriterOptions};
use super::files::{FileEntry, catalog_name, file_name, remove_failed, sorted, sync_dir};
use super::manifest::{CatalogRecord, FlushCommit, NewFile};
use super::memtable::Frozen;
use super::partition::Partition;
use super::rows::{Rows, merge};
use super::shared::Shared;
use super::snapshot;

/// Freezes the memtable if it is older than the limit, or `now` anyway.
pub(super) fn freeze_if_due(shared: &Shared, partition: &Partition, now: bool) {
    let mut state = partition.state();
    let age_limit = Duration::from_millis(shared.options.memtable_age_ms);
    let old = state.active.since.is_some_and(|since| since.elapsed() >= age_limit);
    let due = now || (old && state.frozen.len() < shared.options.waiting_memtables);
    if due && state.is_dirty() {
        state.freeze(&shared.metrics);
    }
}

/// Flushes the oldest waiting memtable; false if none waits.
pub(super) fn flush_one(shared: &Shared, partition: &Partition) -> Result<bool, HistoryError> {
    let Some(frozen) = partition.state().frozen.front().cloned() else { return Ok(false) };
    let started = Instant::now();
    let prepared = prepare(shared, partition, &frozen);
    let _publishing = shared.publishing();
    let result = prepared.and_then(|new| commit(shared, partition, &frozen, new));
    let mut state = partition.state();
    match result {
        Ok(written) => {
            state.frozen.pop_front();
            state.durable = frozen.next;
            state.flushes += 1;
            state.failure = None;
            let mut stale = None;
            if let Some((file, catalog)) = written {
                let mut files = state.files.as_ref().clone();
                files.push(Arc::new(file));
                state.files = sorted(files);
                stale = state.catalog_file.replace(catalog);
            }
            drop(state);
            done(shared, partition, &frozen, stale, started);
            Ok(true)
        }
        Err(error) => {
            state.failures += 1;
            let error = Arc::new(error);
            state.failure = Some(error.clone());
            drop(state);
            partition.notify();
            Err(HistoryError::Background(error))
        }
    }
}

fn done(
    shared: &Shared,
    partition: &Partition,
    frozen: &Frozen,
    stale: Option<u64>,
    started: Instant,
) {
    if let Some(stale) = stale {
        let path = shared.dir.join(catalog_name(partition.id.0, stale));
        if let Err(error) = std::fs::remove_file(&path) {
            let path = path.display();
            tracing::warn!(%path, %error, "cannot remove the catalog before this one");
        }
    }
    let metrics = &shared.metrics;
    metrics.waiting.dec();
    metrics.memtable_rows.sub(i64::try_from(frozen.rows).unwrap_or(0));
    metrics.memtable_bytes.sub(i64::try_from(frozen.bytes).unwrap_or(0));
    metrics.flush_seconds.observe(started.elapsed().as_secs_f64());
    shared.count_files();
    partition.notify();
}

/// The files of a flush, durable and not named yet.
struct Prepared {
    file: NewFile,
    catalog: CatalogRecord,
    paths: [PathBuf; 2],
}

/// Writes the files; none where the flush only moves the position.
fn prepare(
    shared: &Shared,
    partition: &Partition,
    frozen: &Frozen,
) -> Result<Option<Prepared>, HistoryError> {
    if frozen.rows == 0 {
        return Ok(None);
    }
    let (id, catalog_id) = (shared.manifest.new_file(), shared.manifest.new_file());
    let paths = [
        shared.dir.join(file_name(partition.id.0, id)),
        shared.dir.join(catalog_name(partition.id.0, catalog_id)),
    ];
    match write_files(shared, partition, frozen, (id, &paths[0]), (catalog_id, &paths[1])) {
        Ok((file, catalog)) => Ok(Some(Prepared { file, catalog, paths })),
        Err(error) => {
            // A disk that is full must not fill up further with every attempt.
            remove_failed(&paths);
            Err(error)
        }
    }
}

/// Names the files; gives the data file and the catalog's number.
fn commit(
    shared: &Shared,
    partition: &Partition,
    frozen: &Frozen,
    prepared: Option<Prepared>,
) -> Result<Option<(FileEntry, u64)>, HistoryError> {
    let mut commit =
        FlushCommit { partition: partition.id, position: frozen.next, file: None, catalog: None };
    let Some(Prepared { file, catalog, paths }) = prepared else {
        shared.manifest.commit_flush(&commit)?;
        return Ok(None);
    };
    let entry = FileEntry::new(&shared.dir, file.record.clone());
    let catalog_id = catalog.file;
    (commit.file, commit.catalog) = (Some(file), Some(catalog));
    shared.manifest.commit_flush(&commit).inspect_err(|_| remove_failed(&paths))?;
    Ok(Some((entry, catalog_id)))
}

fn write_files(
    shared: &Shared,
    partition: &Partition,
    frozen: &Frozen,
    (id, path): (u64, &Path),
    (catalog, catalog_path): (u64, &Path),
) -> Result<(NewFile, CatalogRecord), HistoryError> {
    // The catalog may be ahead of the memtable: then the replay of the journal
    // finds its series there already, and its newest values come out the same.
    let (names, latest, flush) = {
        let state = partition.state();
        (state.catalog.names().clone(), state.catalog.all_latest(), state.flushes)
    };
    let names = Arc::new(names);
    let options = WriterOptions::from(&shared.options);
    let mut writer = FileWriter::create(path, names.clone(), &options)?;
    let rows = merge_runs(frozen, &names, &mut writer)?;
    let summary = writer.finish()?;
    let catalog = snapshot::write(catalog_path, catalog, names, &latest, &options)?;
    sync_dir(&shared.dir)?;
    shared.metrics.deduplicated.inc_by((frozen.rows - rows) as u64);
    shared.metrics.flushed_rows.inc_by(summary.rows);
    shared.metrics.flushed_bytes.inc_by(summary.bytes + catalog.bytes);
    Ok((NewFile::new(id, partition.id, (flush, flush), summary), catalog))
}

/// A series' rows in a run.
#[derive(Clone, Copy, Default)]
struct Piece {
    run: u32,
    start: u32,
    end: u32,
}

/// Writes all rows of the runs in the order of the file, of equal times the
/// last; gives how many.
fn merge_runs(
    frozen: &Frozen,
    names: &Names,
    writer: &mut FileWriter,
) -> Result<usize, HistoryError> {
    let (order, pieces, ends) = pieces(frozen, names);
    let mut merged = Rows::default();
    let mut sources = Vec::new();
    let mut rows = 0;
    let mut start = 0;
    for (id, end) in order.into_iter().zip(ends) {
        let of_series = &pieces[start..end];
        start = end;
        sources.clear();
        sources.extend(of_series.iter().map(|piece| {
            let run = &frozen.runs[piece.run as usize].rows;
            (run, piece.start as usize..piece.end as usize)
        }));
        merged.clear();
        merge(&sources, &mut merged);
        rows += merged.len();
        writer.push(SeriesId(id), &merged, &merged.rows)?;
    }
    Ok(rows)
}

/// The series of the runs in the order of the file, and their pieces one
/// series after another, each series' from older to newer runs, with where
/// each ends. A counting sort: series numbers are dense.
fn pieces(frozen: &Frozen, names: &Names) -> (Vec<u32>, Vec<Piece>, Vec<usize>) {
    let mut counts = vec![0usize; names.series.len()];
    for run in &frozen.runs {
        run.slices().for_each(|(id, _)| counts[id as usize] += 1);
    }
    let present: Vec<u32> =
        (0..).zip(&counts).filter(|(_, count)| **count > 0).map(|(id, _)| id).collect();
    let order = names.file_order(present);
    let mut places = vec![0usize; counts.len()];
    let mut total = 0;
    for id in &order {
        places[*id as usize] = total;
        total += counts[*id as usize];
    }
    let mut pieces = vec![Piece::default(); total];
    for (number, run) in (0..).zip(&frozen.runs) {
        for (id, range) in run.slices() {
            let place = &mut places[id as usize];
            pieces[*place] = Piece { run: number, start: range.start, end: range.end };
            *place += 1;
        }
    }
    let ends = order.iter().map(|id| places[*id as usize]).collect();
    (order, pieces, ends)
}

/// Waits until all that was written before is durable.
pub(super) fn wait_durable(partition: &Partition, target: Position) -> Result<(), HistoryError> {
    let mut state = partition.state();
    let failures = state.failures;
    while state.durable < target {
        if state.failures > failures
            && let Some(error) = &state.failure
        {
            return Err(HistoryError::Background(error.clone()));
        }
        if state.closed {
            return Err(HistoryError::Closed);
        }
        state = partition.wait(state, Duration::from_secs(1));
    }
    Ok(())
}
