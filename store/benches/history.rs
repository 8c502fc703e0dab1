//! What the history costs: CPU a row from decoded record to Parquet file, with
//! few and with many series, and what a question costs.
//!
//! `cargo bench -p store --bench history` prints one line a figure. CPU time is
//! that of the whole process, so the flush thread is counted.

mod fixture;

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use fixture::KEYS;
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use schema::{DeviceId, PartitionId, Position, RecordRows, TimestampMs};
use store::history::{
    AggregateQuery, Buckets, History, HistoryOptions, HistoryWriter, Order, RangeQuery,
};

/// The server's own allocator: what a page of fresh memory costs is part of it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROWS: u64 = 8_000_000;
const START_MS: i64 = 1_764_000_000_000;

fn main() {
    let mut out = std::io::stdout().lock();
    let mut line = |text: String| writeln!(out, "{text}").expect("standard output is open");
    // An argument picks a number of series, for a profile.
    let picked: Option<u64> = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let mut per_row = Vec::new();
    for series in [100, 10_000, 100_000].into_iter().filter(|n| picked.is_none_or(|p| p == *n)) {
        let devices = 1..1 + series / KEYS;
        let records = fixture::records(series, devices, START_MS, ROWS);
        per_row.push(write(series, &records, &mut line));
    }
    if let (Some(few), Some(many)) = (per_row.first(), per_row.last()) {
        line(format!("CPU a row, 100,000 series against 100: {:.2}", many / few));
    }
}

fn write(series: u64, records: &[RecordRows], line: &mut impl FnMut(String)) -> f64 {
    let dir = tempfile::tempdir().expect("a folder for temporary files");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    // Four files come of the rows, and a fanout of four merges them all.
    let options =
        HistoryOptions { background_compaction: false, fanout: 4, ..HistoryOptions::default() };
    let history = History::open(dir.path(), 1, options, &Registry::new()).expect("an empty folder");
    let mut writer = runtime.block_on(history.writer(PartitionId(0))).expect("the only writer");
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let (thread_cpu, blocked) = write_all(&mut writer, records);
    runtime.block_on(history.flush()).expect("a disk with room");
    let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let rows = ROWS as f64;
    let bytes: u64 = files(dir.path());
    line(format!(
        "write {series:>7} series: {:>5.1} ns of CPU a row ({:.1} on the writer's thread), \
         {:.2} M rows/s, waited {blocked:.2} s, {:.2} bytes a row",
        cpu / rows * 1e9,
        thread_cpu / rows * 1e9,
        rows / wall / 1e6,
        bytes as f64 / rows,
    ));
    read(series, &runtime, &history, line);
    drop(writer);
    let cpu_before = cpu_seconds();
    let jobs = runtime.block_on(history.compact()).expect("whole files");
    line(format!(
        "  compaction: {jobs} jobs, {:.1} ns of CPU a row",
        (cpu_seconds() - cpu_before) / rows * 1e9
    ));
    runtime.block_on(history.halt());
    drop(history);
    let started = Instant::now();
    let options = HistoryOptions { background_compaction: false, ..HistoryOptions::default() };
    let history = History::open(dir.path(), 1, options, &Registry::new()).expect("whole files");
    line(format!("  start: {:.1} ms", started.elapsed().as_secs_f64() * 1e3));
    runtime.block_on(history.halt());
    cpu / rows
}

/// Writes all; gives the CPU time of this thread and how long it waited.
fn write_all(writer: &mut HistoryWriter, records: &[RecordRows]) -> (f64, f64) {
    let cpu = thread_cpu_seconds();
    let mut waited = 0.0;
    for (position, rows) in (0..).zip(records) {
        let started = Instant::now();
        writer.write(Position(position), rows).expect("records in order");
        let seconds = started.elapsed().as_secs_f64();
        if seconds > 0.05 {
            waited += seconds;
        }
    }
    (thread_cpu_seconds() - cpu, waited)
}

fn read(
    series: u64,
    runtime: &tokio::runtime::Runtime,
    history: &History,
    line: &mut impl FnMut(String),
) {
    let devices = series / KEYS;
    let mut random = StdRng::seed_from_u64(7);
    let history = Arc::new(history.clone());
    let mut time = |name: &str, count: u32, ask: &mut dyn FnMut(DeviceId) -> usize| {
        let (started, mut rows) = (Instant::now(), 0);
        for _ in 0..count {
            rows += ask(DeviceId(1 + random.random_range(0..devices)));
        }
        let each = started.elapsed().as_secs_f64() / f64::from(count);
        let mean = rows / count as usize;
        line(format!("  {name}: {:.0} µs each, {mean} rows", each * 1e6));
    };
    time("latest of a device", 2_000, &mut |device| {
        runtime.block_on(history.latest(device, None)).expect("whole files").len()
    });
    let span = |device, limit| RangeQuery {
        device,
        key: "key-3".to_owned(),
        from: TimestampMs(0),
        to: TimestampMs(i64::MAX),
        order: Order::Descending,
        limit,
        cursor: None,
    };
    for limit in [100, 2_000, 100_000] {
        time(&format!("newest {limit}"), 200, &mut |device| {
            let page = runtime.block_on(history.range(span(device, limit)));
            page.expect("whole files").samples.len()
        });
    }
    time("all in 100 points", 50, &mut |device| {
        let query = AggregateQuery {
            device,
            key: "key-3".to_owned(),
            from: TimestampMs(START_MS),
            to: TimestampMs(START_MS + 100_000_000),
            buckets: Buckets::Points(100),
        };
        runtime.block_on(history.aggregate(query)).expect("whole files").len()
    });
}

fn files(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir.join("history")).expect("the history's folder");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |meta| meta.len())).sum()
}

fn cpu_seconds() -> f64 {
    seconds(rustix::time::ClockId::ProcessCPUTime)
}

fn thread_cpu_seconds() -> f64 {
    seconds(rustix::time::ClockId::ThreadCPUTime)
}

fn seconds(clock: rustix::time::ClockId) -> f64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
