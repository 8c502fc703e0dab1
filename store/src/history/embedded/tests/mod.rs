//! Tests of the history as a whole: against a model, at its boundaries, and
//! with damaged files and a full disk.

mod faults;
mod golden;
mod model;
mod planning;
mod retention;
mod writing;

use std::path::Path;

use prometheus::Registry;
use schema::{
    DeviceId, Origin, PartitionId, Position, RECORD_VERSION, RecordBuilder, RecordKind, RecordRows,
    RouterId, TenantId, TimestampMs, Value,
};

use super::super::{Bucket, Buckets, Clock, DAY_MS, DiskBudget, Order, ReadingValue, Sample};
use super::*;
use super::{
    EmbeddedHistory as History, EmbeddedView as HistoryView, EmbeddedWriter as HistoryWriter,
};

/// Limits so small that a few rows cross every boundary.
fn tiny() -> HistoryOptions {
    HistoryOptions {
        chunk_rows: 4,
        memtable_rows: 24,
        waiting_memtables: 2,
        retry_ms: 1,
        window_ms: 100,
        fanout: 3,
        mixed_files: 2,
        quiet_flushes: 6,
        file_rows: 30,
        open_outputs: 2,
        background_compaction: false,
        row_group_rows: 16,
        page_rows: 4,
        cache_bytes: 256 << 10,
        ..HistoryOptions::default()
    }
}

fn open(dir: &Path, options: HistoryOptions) -> History {
    History::open(dir, 2, options, &Registry::new()).unwrap()
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

async fn times(history: &History, device: u64, key: &str) -> Vec<i64> {
    let page = history.range(all(device, key)).await.unwrap();
    page.samples.iter().map(|sample| sample.observed_at.0).collect()
}

fn parquet_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir.join("history"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.to_str().unwrap().ends_with(".series.parquet"))
        .collect();
    files.sort();
    files
}
