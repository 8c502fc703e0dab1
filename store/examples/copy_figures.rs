//! Rows a second into PostgreSQL through the history's writers, beside a bare
//! `COPY` of the same rows by psql into a table of the same shape, and the
//! processor time that each row takes of this process.
//!
//! `eval $(deploy/test-services up --only postgres); cargo run --release -p store
//! --example copy_figures -- "$BAKEN_TEST_POSTGRES" [ROWS]`

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it prints figures, and may panic")]

use std::process::{Command, Stdio};
use std::time::Instant;

use prometheus::Registry;
use rustix::time::{ClockId, clock_gettime};
use schema::{
    DeviceId, Origin, PartitionId, Position, RECORD_VERSION, RecordBuilder, RecordKind, RecordRows,
    RouterId, TenantId, TimestampMs, Value,
};
use store::history::HistoryOptions;
use store::{History, PostgresOptions};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PARTITIONS: u16 = 4;
const DEVICES: u64 = 1_000;
const KEYS: usize = 10;
const NOW: i64 = 1_795_651_200_000;

/// One time of all devices of a partition.
fn record(partition: u16, at: i64, keys: &[String]) -> RecordRows {
    let mut builder = RecordBuilder::new(RecordKind::Readings);
    let keys: Vec<_> = keys.iter().map(|key| builder.key(key).unwrap()).collect();
    for device in
        (0..DEVICES).filter(|device| device % u64::from(PARTITIONS) == u64::from(partition))
    {
        let origin =
            Origin { tenant: TenantId(1), router: RouterId(1), device: DeviceId(device + 1) };
        for (number, key) in (0u32..).zip(&keys) {
            let value = Value::Number(
                f64::from(number) + f64::from(u32::try_from(at % 9_973).unwrap()) / 8.0,
            );
            let at = TimestampMs(NOW + at * 1_000);
            builder.push(origin, *key, at, at, Some(value)).unwrap();
        }
    }
    RecordRows::decode(RECORD_VERSION, &builder.finish().payload).unwrap()
}

fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    #[allow(clippy::cast_precision_loss, reason = "times of a run fit a double")]
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    seconds
}

fn psql(url: &str, statement: &str) -> Command {
    let mut command = Command::new("psql");
    command.args([url, "--quiet", "--no-psqlrc", "--tuples-only", "--command", statement]);
    command.stderr(Stdio::inherit());
    command
}

fn run(url: &str, statement: &str) {
    assert!(psql(url, statement).status().unwrap().success(), "{statement}");
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the address of a PostgreSQL that may be written to");
    let rows: u64 = arguments.next().map_or(4_000_000, |text| text.parse().unwrap());
    let times = i64::try_from(rows / (DEVICES * KEYS as u64)).unwrap();
    let keys: Vec<String> = (0..KEYS).map(|key| format!("key-{key}")).collect();
    run(&url, "DROP SCHEMA IF EXISTS baken_history CASCADE");
    let records: Vec<Vec<RecordRows>> = (0..PARTITIONS)
        .map(|partition| (0..times).map(|at| record(partition, at, &keys)).collect())
        .collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    let options = PostgresOptions::parse(&url).unwrap();
    let history =
        History::open_postgres(&options, PARTITIONS, HistoryOptions::default(), &Registry::new());
    let history = history.unwrap();
    let (started, cpu) = (Instant::now(), cpu_s());
    std::thread::scope(|scope| {
        for (partition, records) in (0..PARTITIONS).map(PartitionId).zip(&records) {
            let mut writer = history.writer(partition).unwrap();
            scope.spawn(move || {
                for (position, rows) in (0..).map(Position).zip(records) {
                    writer.write(position, rows).unwrap();
                }
            });
        }
    });
    runtime.block_on(history.flush()).unwrap();
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_s() - cpu);
    runtime.block_on(history.close());
    #[allow(clippy::cast_precision_loss, reason = "counts of a run fit a double")]
    let count = (times.cast_unsigned() * DEVICES * KEYS as u64) as f64;
    println!(
        "writers: {:.0} rows/s, {:.2} us of this process for a row",
        count / seconds,
        cpu / count * 1e6
    );

    // The same rows in the order in which they are stored.
    let file = std::env::temp_dir().join(format!("copy-figures-{}", std::process::id()));
    run(
        &url,
        &format!(r"\copy (SELECT * FROM baken_history.readings) TO '{}' BINARY", file.display()),
    );
    run(
        &url,
        "CREATE TABLE baken_history.bare (LIKE baken_history.readings INCLUDING ALL)
             PARTITION BY RANGE (observed_at);
         CREATE TABLE baken_history.bare_all PARTITION OF baken_history.bare DEFAULT;
         CHECKPOINT",
    );
    let started = Instant::now();
    run(&url, &format!(r"\copy baken_history.bare FROM '{}' BINARY", file.display()));
    let bare = started.elapsed().as_secs_f64();
    std::fs::remove_file(&file).unwrap();
    println!(
        "psql:    {:.0} rows/s; writers have {:.0} % of it",
        count / bare,
        bare / seconds * 100.0
    );
}
