//! Which files of a partition are merged next: pure decisions over what the
//! manifest knows of them.
//!
//! A run is what one flush or one compaction wrote into one window of time:
//! one file, or several with different series. The runs that touch a window
//! stand in order of their flushes, and only neighbours are merged, so that of
//! the same device, key and time the reading of the later flush stays. A run
//! over several windows (of a flush with late readings) is a neighbour in each
//! of them, and is split before the runs behind it can be merged across it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::files::FileEntry;
use super::options::HistoryOptions;

/// Files to be replaced by the merge of their readings.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub kind: JobKind,
    pub files: Vec<Arc<FileEntry>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobKind {
    /// Every reading has expired.
    Drop,
    /// All readings of some tenant have expired.
    Purge,
    /// Files over several windows are split.
    Split,
    /// Neighbours of about one size.
    Merge,
    /// All that a window has that is no longer written to.
    Settle,
}

/// The window that a time falls into.
pub(super) fn window(ms: i64, window_ms: i64) -> i64 {
    ms.div_euclid(window_ms)
}

#[derive(Clone, Debug)]
struct Run {
    flushes: (u64, u64),
    windows: (i64, i64),
    rows: u64,
    files: Vec<Arc<FileEntry>>,
}

impl Run {
    fn is_mixed(&self) -> bool {
        self.windows.0 != self.windows.1
    }
}

/// The next job of a partition; `None` when all is in order. `cutoff` is the
/// time before which a tenant's readings have expired.
pub(super) fn next_job(
    files: &[Arc<FileEntry>],
    flushes: u64,
    options: &HistoryOptions,
    cutoff: impl Fn(schema::TenantId) -> i64,
) -> Option<Job> {
    expired(files, &cutoff).or_else(|| {
        let runs = runs_of(files, options.window_ms);
        split(&runs, options).or_else(|| merge(&runs, flushes, options))
    })
}

fn expired(files: &[Arc<FileEntry>], cutoff: impl Fn(schema::TenantId) -> i64) -> Option<Job> {
    for file in files {
        let gone = |tenant: &&schema::TenantId| file.record.max_ms < cutoff(**tenant);
        let count = file.record.tenants.iter().filter(gone).count();
        let kind = match count {
            0 => continue,
            all if all == file.record.tenants.len() => JobKind::Drop,
            _ => JobKind::Purge,
        };
        return Some(Job { kind, files: vec![file.clone()] });
    }
    None
}

fn runs_of(files: &[Arc<FileEntry>], window_ms: i64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for file in files {
        let record = &file.record;
        let flushes = (record.first_flush, record.last_flush);
        let windows = (window(record.min_ms, window_ms), window(record.max_ms, window_ms));
        // Files of one compaction differ in their series or in their window.
        let same = |run: &&mut Run| run.flushes == flushes && run.windows == windows;
        if let Some(run) = runs.iter_mut().rev().find(same) {
            run.rows += record.rows;
            run.files.push(file.clone());
        } else {
            runs.push(Run { flushes, windows, rows: record.rows, files: vec![file.clone()] });
        }
    }
    runs
}

fn split(runs: &[Run], options: &HistoryOptions) -> Option<Job> {
    let mixed: Vec<&Run> = runs.iter().filter(|run| run.is_mixed()).collect();
    if mixed.len() < options.mixed_files.max(1) {
        return None;
    }
    let mut flushes = (u64::MAX, 0);
    let mut windows = (i64::MAX, i64::MIN);
    let mut picked = vec![false; runs.len()];
    for (run, picked) in runs.iter().zip(&mut picked).filter(|(run, _)| run.is_mixed()) {
        *picked = true;
        flushes = (flushes.0.min(run.flushes.0), flushes.1.max(run.flushes.1));
        windows = (windows.0.min(run.windows.0), windows.1.max(run.windows.1));
    }
    // What lies between them in any of their windows goes with them, or it
    // would stand on both sides of the result.
    loop {
        let more = runs.iter().zip(&picked).position(|(run, picked)| {
            let between = run.flushes.0 <= flushes.1 && run.flushes.1 >= flushes.0;
            let inside = run.windows.0 <= windows.1 && run.windows.1 >= windows.0;
            !picked && between && inside
        });
        let Some(more) = more else { break };
        picked[more] = true;
        let run = &runs[more];
        flushes = (flushes.0.min(run.flushes.0), flushes.1.max(run.flushes.1));
        windows = (windows.0.min(run.windows.0), windows.1.max(run.windows.1));
    }
    let picked = runs.iter().zip(picked).filter(|(_, picked)| *picked).map(|(run, _)| run);
    Some(job(JobKind::Split, picked))
}

fn merge(runs: &[Run], flushes: u64, options: &HistoryOptions) -> Option<Job> {
    let mut windows: BTreeMap<i64, Vec<&Run>> = BTreeMap::new();
    for run in runs.iter().filter(|run| !run.is_mixed()) {
        windows.entry(run.windows.0).or_default().push(run);
    }
    let mixed: Vec<&Run> = runs.iter().filter(|run| run.is_mixed()).collect();
    let mut smallest: Option<(u64, Job)> = None;
    for (window, mut of_window) in windows {
        of_window.sort_by_key(|run| run.flushes);
        let touches = |run: &&&Run| run.windows.0 <= window && run.windows.1 >= window;
        let barriers: Vec<u64> = mixed.iter().filter(touches).map(|run| run.flushes.0).collect();
        let quiet = of_window
            .last()
            .is_some_and(|run| run.flushes.1.saturating_add(options.quiet_flushes) < flushes);
        let stretches = of_window.chunk_by(|a, b| {
            !barriers.iter().any(|barrier| a.flushes.1 < *barrier && *barrier < b.flushes.0)
        });
        for stretch in stretches {
            let found = if quiet && stretch.len() > 1 {
                Some((JobKind::Settle, stretch))
            } else {
                neighbours(stretch, options).map(|part| (JobKind::Merge, part))
            };
            let Some((kind, part)) = found else { continue };
            let rows = part.iter().map(|run| run.rows).sum();
            if smallest.as_ref().is_none_or(|(least, _)| rows < *least) {
                smallest = Some((rows, job(kind, part.iter().copied())));
            }
        }
    }
    smallest.map(|(_, job)| job)
}

/// In a row of neighbours, as many of one size as the fanout with none between
/// that is larger, the smallest size first: so a reading is rewritten about as
/// often as its window grew by the fanout. Too many neighbours in all are
/// merged whatever their sizes.
fn neighbours<'a, 'b>(stretch: &'a [&'b Run], options: &HistoryOptions) -> Option<&'a [&'b Run]> {
    let fanout = options.fanout.max(2);
    let tier = |run: &Run| {
        let flush_rows = options.memtable_rows.max(1) as u64;
        (run.rows / flush_rows).checked_ilog(fanout as u64).map_or(0, |tier| tier + 1)
    };
    let top = stretch.iter().map(|run| tier(run)).max()?;
    (0..=top).find_map(|limit| {
        stretch
            .chunk_by(|a, b| (tier(a) <= limit) == (tier(b) <= limit))
            .filter(|part| {
                let of_size = part.iter().filter(|run| tier(run) == limit).count();
                of_size >= fanout || (of_size > 0 && part.len() >= 4 * fanout)
            })
            .max_by_key(|part| part.len())
    })
}

fn job<'a>(kind: JobKind, runs: impl Iterator<Item = &'a Run>) -> Job {
    let mut files: Vec<Arc<FileEntry>> = runs.flat_map(|run| run.files.clone()).collect();
    files.sort_by_key(|file| (file.record.first_flush, file.record.id));
    Job { kind, files }
}
