//! What the history in PostgreSQL costs: rows a second and CPU a row from decoded
//! records to committed rows, beside `psql` that copies the same rows from files.
//!
//! `cargo run --release -p store --example history_figures -- URL [ROWS [SERIES [CONNECTIONS [BATCH_ROWS]]]]`
//! with the address of a database that may be filled, as `deploy/test-services up
//! --only postgres` prints it. It prints one line a figure. Both go into tables of
//! the same form; `psql` has one process for each connection that the history has,
//! and its files hold the rows in the order in which the history wrote them. The first
//! reading of each series, which makes the series, is written before.

#[path = "../benches/fixture/mod.rs"]
mod fixture;

use std::io::Write as _;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Instant;

use fixture::KEYS;
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use schema::{DeviceId, PartitionId, Position, RecordRows, TimestampMs};
use store::PostgresOptions;
use store::history::{
    AggregateQuery, Buckets, Clock, History, Order, PostgresHistoryOptions, RangeQuery,
};

/// The server's own allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PARTITIONS: u16 = 8;
/// Half a day ago, in whole seconds: nothing of it is old enough to be compressed.
static START_MS: LazyLock<i64> = LazyLock::new(|| (Clock::System.now().0 / 1_000 - 43_200) * 1_000);
/// How much later what is written at last begins: in the same span of time.
const LATER_MS: i64 = 40_000_000;
/// One record of so many is sent a second time.
const RESENT_EVERY: usize = 20;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("an address: postgres://USER@HOST:PORT/DATABASE");
    let mut number = |default: u64| {
        arguments.next().map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (rows, series, connections) = (number(4_000_000), number(100_000), number(3));
    let batch_rows = usize::try_from(number(25_000)).expect("a small number");
    let connections = usize::try_from(connections).expect("a small number");
    let server = PostgresOptions::parse(&url).expect("an address of PostgreSQL");
    psql(&url, "DROP SCHEMA IF EXISTS baken_history CASCADE");
    let options = PostgresHistoryOptions {
        write_connections: connections,
        batch_rows,
        group_rows: batch_rows,
        ..Default::default()
    };
    let opened = History::open_postgres(&server, PARTITIONS, &options, &Registry::new()).await;
    let history = opened.expect("a database that takes it");
    let (seconds, _) = write(&history, records(Later::First, series)).await;
    say(&format!("the first reading of each of {series} series: {seconds:.1} s"));
    let fresh = records(Later::By(0, rows), series);
    let resent: Vec<Vec<RecordRows>> =
        fresh.iter().map(|of| of.iter().step_by(RESENT_EVERY).cloned().collect()).collect();
    let (wall, cpu) = write(&history, fresh).await;
    let size = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c
                  JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = 'baken_history' AND c.relname LIKE 'readings%' AND c.relkind = 'r'";
    say(&format!(
        "written: {:.0} rows/s, {:.2} µs of our CPU a row, {} bytes a row in PostgreSQL",
        rows as f64 / wall,
        cpu / rows as f64 * 1e6,
        psql(&url, size).parse().unwrap_or(0u64) / rows
    ));
    let bare = bare(&url, connections);
    say(&format!(
        "psql copies the same rows with {connections} processes: {:.0} rows/s; the history has \
         {:.0} % of it",
        rows as f64 / bare,
        100.0 * bare / wall
    ));
    psql(&url, "ANALYZE baken_history.readings");
    ask(&history, series).await;
    let again = resent.iter().flatten().map(RecordRows::len).sum::<usize>();
    let old = resent.clone();
    let (wall, cpu) = write(&history, resent).await;
    say(&format!(
        "sent again, all of it there: {:.0} rows/s, {:.2} µs of our CPU a row",
        again as f64 / wall,
        cpu / again as f64 * 1e6
    ));
    let later = records(Later::By(LATER_MS, rows), series);
    let mixed: Vec<Vec<RecordRows>> = later.into_iter().zip(old).map(mix).collect();
    let all = mixed.iter().flatten().map(RecordRows::len).sum::<usize>();
    let (wall, cpu) = write(&history, mixed).await;
    say(&format!(
        "new ones with one in {RESENT_EVERY} sent again: {:.0} rows/s, {:.2} µs of our CPU a row",
        all as f64 / wall,
        cpu / all as f64 * 1e6
    ));
    history.close().await;
}

/// New records, with an old one behind so many.
fn mix((new, old): (Vec<RecordRows>, Vec<RecordRows>)) -> Vec<RecordRows> {
    let mut old = old.into_iter();
    let mut mixed = Vec::new();
    for (number, record) in new.into_iter().enumerate() {
        mixed.push(record);
        if number % RESENT_EVERY == RESENT_EVERY - 1 {
            mixed.extend(old.next());
        }
    }
    mixed
}

fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").expect("standard output is open");
}

/// Which records are made.
#[derive(Clone, Copy)]
enum Later {
    /// The one round before all others.
    First,
    /// So many rows, from so many milliseconds behind the start.
    By(i64, u64),
}

/// Records for each partition.
fn records(later: Later, series: u64) -> Vec<Vec<RecordRows>> {
    let devices = (series / KEYS / u64::from(PARTITIONS)).max(1);
    let (start_ms, rows) = match later {
        Later::First => (*START_MS - 1_000, devices * KEYS),
        Later::By(ms, rows) => (*START_MS + ms, rows / u64::from(PARTITIONS)),
    };
    let of_partition = |partition| {
        let first = 1 + partition * devices;
        fixture::records(partition, first..first + devices, start_ms, rows)
    };
    (0..u64::from(PARTITIONS)).map(of_partition).collect()
}

/// Writes all and waits until it is committed; seconds, and those of our CPU.
async fn write(history: &History, records: Vec<Vec<RecordRows>>) -> (f64, f64) {
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let mut tasks = Vec::new();
    for (partition, records) in (0..PARTITIONS).zip(records) {
        let mut writer = history.writer(PartitionId(partition)).await.expect("the only writer");
        tasks.push(tokio::spawn(async move {
            for rows in &records {
                writer.ready().await;
                let Position(next) = writer.position();
                writer.write(Position(next), rows).expect("records in order");
            }
            writer
        }));
    }
    let mut writers = Vec::new();
    for task in tasks {
        writers.push(task.await.expect("it does not panic"));
    }
    history.flush().await.expect("PostgreSQL is there");
    (started.elapsed().as_secs_f64(), cpu_seconds() - cpu)
}

/// Copies what is there to files and from them to a table like it; seconds.
fn bare(url: &str, processes: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a folder for temporary files");
    let files: Vec<_> = (0..processes).map(|n| dir.path().join(format!("{n}.copy"))).collect();
    for (number, file) in files.iter().enumerate() {
        let part = format!(
            "\\copy (SELECT * FROM baken_history.readings WHERE series % {processes} = {number} \
             AND observed_at >= to_timestamp({})) TO '{}' (FORMAT binary)",
            *START_MS / 1_000,
            file.display()
        );
        psql(url, &part);
    }
    psql(
        url,
        "SET search_path = baken_history, public;
         DROP TABLE IF EXISTS bare;
         CREATE TABLE bare (LIKE readings INCLUDING ALL) PARTITION BY RANGE (observed_at);
         CREATE TABLE bare_1 PARTITION OF bare FOR VALUES FROM ('2000-01-01') TO ('2100-01-01');
         CHECKPOINT",
    );
    let started = Instant::now();
    let running: Vec<_> = files
        .iter()
        .map(|file| {
            let copy =
                format!("\\copy baken_history.bare FROM '{}' (FORMAT binary)", file.display());
            command(url, &copy).spawn().expect("psql is on the path")
        })
        .collect();
    for mut process in running {
        assert!(process.wait().expect("psql ends").success(), "psql has copied");
    }
    let seconds = started.elapsed().as_secs_f64();
    psql(url, "DROP TABLE baken_history.bare");
    seconds
}

fn command(url: &str, sql: &str) -> Command {
    let mut command = Command::new("psql");
    command.args([
        "--quiet",
        "--no-align",
        "--tuples-only",
        "--set=ON_ERROR_STOP=1",
        url,
        "-c",
        sql,
    ]);
    command
}

fn psql(url: &str, sql: &str) -> String {
    let output = command(url, sql).output().expect("psql is on the path");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn ask(history: &History, series: u64) {
    let devices = (series / KEYS).max(1);
    let mut random = StdRng::seed_from_u64(7);
    let mut device = || DeviceId(1 + random.random_range(0..devices));
    let started = Instant::now();
    for _ in 0..500 {
        history.latest(device(), None).await.expect("an answer");
    }
    say(&format!("latest of a device: {:.0} µs", started.elapsed().as_secs_f64() / 500.0 * 1e6));
    let (from, to) = (TimestampMs(*START_MS), TimestampMs(*START_MS + 100_000_000));
    for limit in [100, 2_000] {
        let (started, mut rows) = (Instant::now(), 0);
        for _ in 0..200 {
            let query = RangeQuery {
                device: device(),
                key: "key-3".to_owned(),
                from,
                to,
                order: Order::Descending,
                limit,
                cursor: None,
            };
            rows += history.range(query).await.expect("an answer").samples.len();
        }
        let each = started.elapsed().as_secs_f64() / 200.0 * 1e6;
        say(&format!("newest {limit}: {each:.0} µs, {} rows", rows / 200));
    }
    let (started, mut buckets) = (Instant::now(), 0);
    for _ in 0..100 {
        let (device, key) = (device(), "key-3".to_owned());
        let query = AggregateQuery { device, key, from, to, buckets: Buckets::WidthMs(10_000) };
        buckets += history.aggregate(query).await.expect("an answer").len();
    }
    let each = started.elapsed().as_secs_f64() / 100.0 * 1e6;
    say(&format!("all in buckets of 10 s: {each:.0} µs, {} buckets", buckets / 100));
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
