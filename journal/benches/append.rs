//! What an append costs: records a second, syncs, and CPU, by record size and
//! by how many submit at once, each waiting for its record to be durable. Then
//! reading behind, and opening.
//!
//! `cargo bench -p journal --bench append [-- SECONDS [BYTES]]`; Linux only, since CPU
//! is read from `/proc`. The folder lies in the build folder, so that it is on
//! a disk and not in memory.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and may fail")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use journal::{EmbeddedOptions, Journal};
use schema::{PartitionId, Position, Record, RecordKind};
use tokio::task::JoinSet;

const SIZES: [usize; 4] = [256, 4 << 10, 64 << 10, 512 << 10];
const SUBMITTERS: [usize; 4] = [1, 8, 64, 512];
const KEPT_BYTES: u64 = 2 << 30;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<f64>().ok());
    let time = Duration::from_secs_f64(numbers.next().unwrap_or(1.0));
    let only = numbers.next();
    println!(
        "{:>8} {:>10} {:>11} {:>8} {:>8} {:>10} {:>16} {:>16}",
        "bytes",
        "submitters",
        "appends/s",
        "MB/s",
        "syncs/s",
        "per sync",
        "writer us/record",
        "all us/record"
    );
    for size in SIZES {
        for submitters in SUBMITTERS {
            let wanted = only.is_none_or(|only| only == size as f64);
            if wanted && size * submitters <= 64 << 20 {
                append(size, submitters, time).await;
            }
        }
    }
    read_and_open().await;
}

fn open(dir: &Path) -> (Journal, prometheus::Registry) {
    let registry = prometheus::Registry::new();
    let options = EmbeddedOptions {
        dir: dir.to_owned(),
        retention_bytes: KEPT_BYTES,
        ..EmbeddedOptions::default()
    };
    (Journal::open_embedded(options, &registry).unwrap(), registry)
}

fn record(payload: &Bytes) -> Record {
    Record { kind: RecordKind::Readings, rows: 1, payload: payload.clone(), decoded: None }
}

/// Bytes that no disk could compress.
fn noise(size: usize) -> Bytes {
    let mut state = 1_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(size).collect::<Vec<_>>().into()
}

async fn append(size: usize, submitters: usize, time: Duration) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (journal, registry) = open(dir.path());
    let payload = noise(size);
    let syncs_before = syncs(&registry);
    let (writer_before, all_before) = cpu();
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for submitter in 0..submitters {
        let (journal, payload) = (journal.clone(), payload.clone());
        tasks.spawn(async move {
            let partition = PartitionId(u16::try_from(submitter % 4).unwrap());
            let mut appended = 0_u64;
            while begin.elapsed() < time {
                journal.submit(partition, record(&payload)).await.unwrap().await.unwrap();
                appended += 1;
            }
            appended
        });
    }
    let mut appended = 0;
    while let Some(done) = tasks.join_next().await {
        appended += done.unwrap();
    }
    let took = begin.elapsed().as_secs_f64();
    let (writer, all) = cpu();
    let (appended, syncs) = (appended as f64, (syncs(&registry) - syncs_before) as f64);
    println!(
        "{size:>8} {submitters:>10} {:>11.0} {:>8.1} {:>8.0} {:>10.1} {:>16.2} {:>16.2}",
        appended / took,
        appended * size as f64 / took / 1e6,
        syncs / took,
        appended / syncs,
        (writer - writer_before) / appended,
        (all - all_before) / appended,
    );
    journal.close().await;
}

async fn read_and_open() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (journal, _) = open(dir.path());
    let payload = noise(64 << 10);
    let records = KEPT_BYTES / payload.len() as u64 - 2_000;
    let mut pending = std::collections::VecDeque::new();
    for number in 0..records {
        let partition = PartitionId(u16::try_from(number % 4).unwrap());
        pending.push_back(journal.submit(partition, record(&payload)).await.unwrap());
        if pending.len() > 256 {
            pending.pop_front().unwrap().await.unwrap();
        }
    }
    for pending in pending {
        pending.await.unwrap();
    }
    journal.close().await;
    drop(journal);
    let begin = Instant::now();
    let (journal, _) = open(dir.path());
    let status = journal.status();
    println!(
        "opened {} segments, {:.0} MB, in {:.1} ms",
        status.segments,
        status.bytes_on_disk as f64 / 1e6,
        begin.elapsed().as_secs_f64() * 1e3
    );
    let (_, all_before) = cpu();
    let begin = Instant::now();
    let mut bytes = 0;
    let mut reader = journal.reader(PartitionId(0), Position(0)).unwrap();
    while reader.position() < journal.bounds(PartitionId(0)).next {
        bytes += reader.next().await.unwrap().payload.len();
    }
    println!(
        "read one partition of four, {:.0} MB, at {:.0} MB/s, {:.1} us of CPU a record of 64 KiB",
        bytes as f64 / 1e6,
        bytes as f64 / begin.elapsed().as_secs_f64() / 1e6,
        (cpu().1 - all_before) / (records as f64 / 4.0),
    );
    journal.close().await;
}

fn syncs(registry: &prometheus::Registry) -> u64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "baken_journal_sync_seconds");
    family.map_or(0, |family| family.get_metric()[0].get_histogram().get_sample_count())
}

/// Microseconds of CPU that the writer and all threads have used so far.
fn cpu() -> (f64, f64) {
    let (mut writer, mut all) = (0.0, 0.0);
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let nanoseconds = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let used = nanoseconds.split(' ').next().and_then(|used| used.parse::<f64>().ok());
        let used = used.unwrap_or(0.0) / 1e3;
        all += used;
        if fs::read_to_string(task.join("comm")).unwrap_or_default().trim() == "journal" {
            writer += used;
        }
    }
    (writer, all)
}
