//! What every history keeps to, in a folder and in PostgreSQL: one suite over
//! both.

mod model;
mod outage;
mod owners;
mod reading;
mod retention;
mod writing;

use std::path::Path;

use prometheus::Registry;
use schema::{
    DeviceId, Origin, PartitionId, Position, RECORD_VERSION, RecordBuilder, RecordKind, RecordRows,
    RouterId, TenantId, TimestampMs, Value,
};
use store::PostgresOptions;
use store::history::{
    Clock, History, HistoryError, HistoryOptions, HistoryWriter, Order, PostgresHistoryOptions,
    RangeQuery, ReadingValue,
};
use tempfile::TempDir;

use crate::postgres;

const PARTITIONS: u16 = 2;

/// Runs each test over a folder and over PostgreSQL.
macro_rules! both {
    ($($test:ident),* $(,)?) => {
        mod in_a_folder {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::history::Place::folder()).await;
            })*
        }
        mod in_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::history::Place::database().await).await;
            })*
        }
    };
}
use both;

/// Where a history is.
enum Place {
    Folder(TempDir),
    Database(String),
}

/// Limits that tests set, by either's names.
#[derive(Clone, Debug)]
struct Limits {
    clock: Clock,
    page_text_bytes: usize,
    bucket_limit: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { clock: Clock::System, page_text_bytes: 8 << 20, bucket_limit: 100_000 }
    }
}

impl Place {
    fn folder() -> Self {
        Self::Folder(tempfile::tempdir().unwrap())
    }

    async fn database() -> Self {
        Self::Database(postgres::shared().database().await)
    }

    async fn open(&self) -> History {
        self.open_with(&Limits::default()).await
    }

    async fn open_with(&self, limits: &Limits) -> History {
        self.try_open(limits, PARTITIONS).await.unwrap()
    }

    async fn try_open(&self, limits: &Limits, partitions: u16) -> Result<History, HistoryError> {
        let Limits { clock, page_text_bytes, bucket_limit } = limits.clone();
        match self {
            Self::Folder(dir) => {
                let options = HistoryOptions {
                    clock,
                    page_text_bytes,
                    bucket_limit,
                    background_compaction: false,
                    ..embedded_options()
                };
                open_folder(dir.path(), partitions, options)
            }
            Self::Database(url) => {
                let options = PostgresHistoryOptions {
                    clock,
                    page_text_bytes,
                    bucket_limit,
                    ..postgres_options()
                };
                open_database(url, partitions, &options).await
            }
        }
    }
}

fn open_folder(
    dir: &Path,
    partitions: u16,
    options: HistoryOptions,
) -> Result<History, HistoryError> {
    History::open(dir, partitions, options, &Registry::new())
}

async fn open_database(
    url: &str,
    partitions: u16,
    options: &PostgresHistoryOptions,
) -> Result<History, HistoryError> {
    let server = PostgresOptions::parse(url).unwrap();
    History::open_postgres(&server, partitions, options, &Registry::new()).await
}

/// So small that a few rows cross boundaries.
fn embedded_options() -> HistoryOptions {
    HistoryOptions {
        chunk_rows: 4,
        memtable_rows: 24,
        waiting_memtables: 2,
        retry_ms: 1,
        window_ms: 100,
        row_group_rows: 16,
        page_rows: 4,
        ..HistoryOptions::default()
    }
}

fn postgres_options() -> PostgresHistoryOptions {
    PostgresHistoryOptions {
        batch_rows: 8,
        batch_age_ms: 5,
        position_age_ms: 5,
        group_rows: 12,
        retry_min_ms: 1,
        retry_max_ms: 200,
        chunk_ms: 7 * store::history::DAY_MS,
        max_spans: 8,
        expire_rows: 3,
        read_connections: 2,
        ..PostgresHistoryOptions::default()
    }
}

/// Readings as (device, key, time, value); the tenant is the device's hundreds.
fn rows(readings: &[(u64, &str, i64, Value<'_>)]) -> RecordRows {
    let mut builder = RecordBuilder::new(RecordKind::Readings);
    for (device, key, at, value) in readings {
        let origin = Origin {
            tenant: TenantId(device / 100),
            router: RouterId(1),
            device: DeviceId(*device),
        };
        let key = builder.key(key).unwrap();
        builder.push(origin, key, TimestampMs(*at), TimestampMs(0), Some(*value)).unwrap();
    }
    RecordRows::decode(RECORD_VERSION, &builder.finish().payload).unwrap()
}

fn all(device: u64, key: &str) -> RangeQuery {
    RangeQuery {
        device: DeviceId(device),
        key: key.to_owned(),
        from: TimestampMs(i64::MIN),
        to: TimestampMs(i64::MAX),
        order: Order::Ascending,
        limit: usize::MAX,
        cursor: None,
    }
}

async fn samples(history: &History, device: u64, key: &str) -> Vec<(i64, ReadingValue)> {
    let page = history.range(all(device, key)).await.unwrap();
    assert_eq!(page.next, None);
    page.samples.into_iter().map(|sample| (sample.observed_at.0, sample.value)).collect()
}

async fn times(history: &History, device: u64, key: &str) -> Vec<i64> {
    samples(history, device, key).await.into_iter().map(|(at, _)| at).collect()
}

async fn writer(history: &History, partition: u16) -> HistoryWriter {
    history.writer(PartitionId(partition)).await.unwrap()
}

/// Writes records one behind the other, from where the writer is, and makes
/// them durable.
async fn write_all(history: &History, writer: &mut HistoryWriter, records: &[RecordRows]) {
    for record in records {
        writer.ready().await;
        writer.write(writer.position(), record).unwrap();
    }
    history.flush().await.unwrap();
}

fn integer(at: i64) -> RecordRows {
    rows(&[(100, "t", at, Value::Integer(at))])
}

/// As the recorder does after a start: from the writer's position on.
async fn replay(writer: &mut HistoryWriter, journal: &[RecordRows]) {
    let from = usize::try_from(writer.position().0).unwrap();
    for (position, record) in (0u64..).zip(journal).skip(from) {
        writer.ready().await;
        writer.write(Position(position), record).unwrap();
    }
}
