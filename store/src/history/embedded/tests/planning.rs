//! Which files are merged next, in tables: a run is `flushes window rows`.

use std::sync::Arc;

use super::files::{FileEntry, sorted};
use super::manifest::FileRecord;
use super::plan::{JobKind, next_job};
use super::*;

/// `first-last:window[..window]:rows`, with ids in order from 1.
fn files(text: &str) -> Vec<Arc<FileEntry>> {
    let parse = |text: &str| text.parse::<i64>().unwrap();
    let entries = (1..).zip(text.split_whitespace()).map(|(id, run)| {
        let mut parts = run.split(':');
        let (flushes, windows) = (parts.next().unwrap(), parts.next().unwrap());
        let (first, last) = flushes.split_once('-').unwrap_or((flushes, flushes));
        let (from, to) = windows.split_once("..").unwrap_or((windows, windows));
        let record = FileRecord {
            id,
            partition: PartitionId(0),
            first_flush: parse(first) as u64,
            last_flush: parse(last) as u64,
            rows: parse(parts.next().unwrap()) as u64,
            bytes: 0,
            min_ms: parse(from) * 100 + 3,
            max_ms: parse(to) * 100 + 97,
            tenants: vec![TenantId(1), TenantId(2)],
        };
        Arc::new(FileEntry::new(Path::new("nowhere"), record))
    });
    sorted(entries.collect()).to_vec()
}

/// The kind of the next job and the numbers of its files, at flush 50.
fn job(text: &str) -> Option<(JobKind, Vec<u64>)> {
    let options = HistoryOptions { memtable_rows: 100, quiet_flushes: 1_000, ..tiny() };
    ask(text, &options, |_| i64::MIN)
}

fn ask(
    text: &str,
    options: &HistoryOptions,
    cutoff: impl Fn(TenantId) -> i64,
) -> Option<(JobKind, Vec<u64>)> {
    let job = next_job(&files(text), 50, options, cutoff)?;
    Some((job.kind, job.files.iter().map(|file| file.record.id).collect()))
}

#[test]
fn as_many_neighbours_of_one_size_as_the_fanout_are_merged() {
    assert_eq!(job("1:5:90 2:5:90"), None);
    assert_eq!(job("1:5:90 2:5:90 3:6:90"), None, "in different windows");
    assert_eq!(job("1:5:90 2:5:90 3:5:80"), Some((JobKind::Merge, vec![1, 2, 3])));
    // A larger run is left alone until there are enough of its size.
    assert_eq!(job("1-9:5:900 10:5:90 11:5:90"), None);
    let three_small = "1-9:5:900 10:5:90 11:5:90 12:5:9";
    assert_eq!(job(three_small), Some((JobKind::Merge, vec![2, 3, 4])));
    let two_sizes = "1-3:5:200 4:5:90 5-7:5:200 8:5:90";
    assert_eq!(job(two_sizes), None);
    let once_more = "1-3:5:200 4:5:90 5-7:5:200 8:5:90 9-11:5:200 12:5:90";
    assert_eq!(job(once_more), Some((JobKind::Merge, vec![1, 2, 3, 4, 5, 6])));
}

#[test]
fn the_files_of_one_run_count_as_one_and_go_together() {
    assert_eq!(job("1-3:5:90 1-3:5:90 4:5:90"), None);
    let two_files = "1-3:5:40 1-3:5:40 4:5:90 5:5:90";
    assert_eq!(job(two_files), Some((JobKind::Merge, vec![1, 2, 3, 4])));
}

#[test]
fn nothing_is_merged_across_a_run_that_spans_the_window() {
    assert_eq!(job("1:5:90 2:5:90 3:4..6:90 4:5:90"), None);
    assert_eq!(job("1:5:90 2:5:90 3:6..7:90 4:5:90"), Some((JobKind::Merge, vec![1, 2, 4])));
}

#[test]
fn runs_over_several_windows_are_split_with_what_lies_between() {
    let between = "1:5:90 2:4..6:90 3:5:90 4:9:90 5:5..6:90 6:5:90";
    assert_eq!(job(between), Some((JobKind::Split, vec![2, 3, 5])));
}

#[test]
fn what_has_expired_goes_first() {
    let options = tiny();
    let one = |tenant: TenantId| if tenant == TenantId(1) { 600 } else { i64::MIN };
    let (first, all) = ("1:5:90 2:6:90", |_| 600);
    assert_eq!(ask(first, &options, all), Some((JobKind::Drop, vec![1])));
    assert_eq!(ask(first, &options, one), Some((JobKind::Purge, vec![1])));
    assert_eq!(ask(first, &options, |_| 597), None, "its last reading is at 597");
}

#[test]
fn a_window_that_is_no_longer_written_to_settles_into_one_run() {
    let options = HistoryOptions { quiet_flushes: 10, ..tiny() };
    let old = "1-9:5:900 10:5:90 41:6:90 42:6:90";
    assert_eq!(ask(old, &options, |_| i64::MIN), Some((JobKind::Settle, vec![1, 2])));
    assert_eq!(ask("1-9:5:900 40:5:90", &options, |_| i64::MIN), None);
}
