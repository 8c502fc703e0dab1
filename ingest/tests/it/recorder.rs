//! The recorder between a real journal and a real store.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ingest::batch::{BatchOptions, Rows, Submission, Submitter};
use ingest::decode::{self, Context, Nulls};
use ingest::limits::Limits;
use ingest::recorder::{Recorder, RecorderOptions};
use journal::{EmbeddedOptions, Journal};
use prometheus::Registry;
use schema::{
    DeviceId, PartitionId, Position, Record, RecordKind, RouterId, TenantId, TenantSettings,
    TimestampMs,
};
use store::history::{HistoryOptions, Order, RangeQuery};
use store::{Scope, Store, StoreOptions};
use tempfile::TempDir;

use crate::batch::{PARTITION, gauge, open_journal, submission};

const DEADLINE: Duration = Duration::from_secs(60);

/// Everything between a payload and the store, over one folder.
struct Node {
    journal: Journal,
    store: Store,
    submitter: Submitter,
    recorder: Recorder,
    registry: Registry,
}

impl Node {
    async fn start(dir: &Path, journal: Journal) -> Self {
        let registry = Registry::new();
        let options = StoreOptions {
            dir: dir.join("store"),
            partitions: journal.partitions(),
            history: HistoryOptions::default(),
        };
        let store = Store::open_embedded(options, &registry).unwrap();
        let submitter = Submitter::start(&journal, &BatchOptions::default(), &registry).unwrap();
        let options = RecorderOptions { hold_interval_ms: 10, ..RecorderOptions::default() };
        let recorder =
            Recorder::start(&journal, store.history(), store.attributes(), &options, &registry)
                .unwrap();
        Self { journal, store, submitter, recorder, registry }
    }

    async fn take(&self, kind: RecordKind, payload: &str) {
        let (limits, settings) = (Limits::default(), TenantSettings::default());
        let received_at = TimestampMs(1_764_000_000_000);
        let context = Context::new(&limits, &settings, received_at);
        let mut keys = self.submitter.keys().cache(TenantId(1), 64);
        let mut rows = Rows::new();
        let (payload, device) = (payload.as_bytes(), DeviceId(7));
        let (keys, rows_mut) = (&mut keys, &mut rows);
        match kind {
            RecordKind::Readings => {
                decode::telemetry(payload, device, &context, keys, rows_mut).map(drop)
            }
            _ => decode::attributes(payload, device, Nulls::Deleted, &context, keys, rows_mut),
        }
        .unwrap();
        let (tenant, router) = (TenantId(1), RouterId(3));
        let submission = Submission { tenant, router, received_at, kind, rows };
        self.submitter.submit(PARTITION, submission).await.unwrap().await.unwrap();
    }

    async fn submit_readings(&self, partition: PartitionId, first: i64, count: i64) {
        let rows = submission(&self.submitter, 7, RecordKind::Readings, "n", first, count);
        self.submitter.submit(partition, rows).await.unwrap().await.unwrap();
    }

    /// Waits until all that is durable is recorded.
    async fn caught_up(&self) {
        wait_until("all is recorded", || {
            self.recorder.status().iter().all(|partition| partition.behind == 0)
        })
        .await;
    }

    async fn numbers(&self) -> Vec<i64> {
        let query = RangeQuery {
            device: DeviceId(7),
            key: "n".to_owned(),
            from: TimestampMs(0),
            to: TimestampMs(i64::MAX),
            order: Order::Ascending,
            limit: 100_000,
            cursor: None,
        };
        let page = self.store.history().range(query).await.unwrap();
        page.samples.iter().map(|sample| sample.observed_at.0 - 1_764_000_000_000).collect()
    }

    async fn attributes(&self, scope: Scope) -> String {
        let list = self.store.attributes().get(DeviceId(7), scope, None).await.unwrap();
        let texts: Vec<_> = list.iter().map(|one| format!("{}={}", one.key, one.value)).collect();
        texts.join(" ")
    }

    async fn close(self) {
        self.submitter.close().await;
        self.recorder.close().await;
        self.store.close().await;
        self.journal.close().await;
    }
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            // A file that is deleted meanwhile is none that a restart needs.
            let _ = std::fs::copy(entry.path(), to);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_and_attributes_arrive_where_they_belong() {
    let dir = TempDir::new().unwrap();
    let node = Node::start(dir.path(), open_journal(&dir, 1)).await;
    node.take(RecordKind::Readings, r#"{"t":21.5,"on":true,"n":3,"s":"x","j":{"a": 1}}"#).await;
    node.take(RecordKind::ClientAttributes, r#"{"v":"1.2","serial":"A7","limits":[1,2]}"#).await;
    node.take(RecordKind::SharedAttributes, r#"{"interval":5,"mode":"a"}"#).await;
    node.take(RecordKind::SharedAttributes, r#"{"interval":null,"mode":"b"}"#).await;
    node.take(RecordKind::Readings, r#"{"ts":1764000001000,"values":{"t":22.5}}"#).await;
    node.caught_up().await;
    let latest = node.store.history().latest(DeviceId(7), None).await.unwrap();
    let latest: Vec<_> =
        latest.iter().map(|one| format!("{} {:?}", one.key, one.value.as_value())).collect();
    assert_eq!(
        latest,
        [
            r#"j Json("{\"a\": 1}")"#,
            "n Integer(3)",
            "on Boolean(true)",
            r#"s Text("x")"#,
            "t Number(22.5)"
        ]
    );
    assert_eq!(node.attributes(Scope::Client).await, r#"limits=[1,2] serial="A7" v=1.2"#);
    assert_eq!(node.attributes(Scope::Shared).await, r#"mode="b""#);
    wait_until("the lag metrics are zero", || {
        gauge(&node.registry, "baken_recorder_lag_records") == 0.0
            && gauge(&node.registry, "baken_recorder_lag_seconds") == 0.0
            && gauge(&node.registry, "baken_recorder_position") == 5.0
    })
    .await;
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_where_it_was() {
    let dir = TempDir::new().unwrap();
    for round in 0..3 {
        let node = Node::start(dir.path(), open_journal(&dir, 1)).await;
        for turn in 0..10 {
            node.submit_readings(PARTITION, round * 100 + turn * 10, 10).await;
            node.take(
                RecordKind::ClientAttributes,
                &format!(r#"{{"round":{round},"turn":{turn}}}"#),
            )
            .await;
        }
        // Not caught up: the next round must find what is left.
        node.close().await;
    }
    let node = Node::start(dir.path(), open_journal(&dir, 1)).await;
    node.caught_up().await;
    assert_eq!(node.numbers().await, (0..300).collect::<Vec<_>>());
    assert_eq!(node.attributes(Scope::Client).await, "round=2 turn=9");
    node.close().await;
}

/// The folder as a crash would leave it: copied while all is running, with the
/// history's newest rows in memory only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_the_journal_gives_back_what_no_file_holds() {
    let (dir, crashed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let node = Node::start(dir.path(), open_journal(&dir, 1)).await;
    node.submit_readings(PARTITION, 0, 500).await;
    node.caught_up().await;
    node.store.history().flush().await.unwrap();
    node.submit_readings(PARTITION, 500, 500).await;
    node.take(RecordKind::ClientAttributes, r#"{"a":1}"#).await;
    node.caught_up().await;
    assert!(node.store.history().durable_position(PARTITION) < Position(3), "all is in files");
    // The store first: a journal older than its store would be none of a crash.
    copy(&dir.path().join("store"), &crashed.path().join("store"));
    copy(&dir.path().join("journal"), &crashed.path().join("journal"));
    node.close().await;

    let node = Node::start(crashed.path(), open_journal(&crashed, 1)).await;
    node.caught_up().await;
    assert_eq!(node.numbers().await, (0..1_000).collect::<Vec<_>>());
    assert_eq!(node.attributes(Scope::Client).await, "a=1");
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_keeps_what_is_not_in_files_yet() {
    let dir = TempDir::new().unwrap();
    let options = EmbeddedOptions {
        dir: dir.path().join("journal"),
        partitions: 1,
        segment_bytes: 4_096,
        retention_bytes: 1,
        retention_check_ms: 10,
        reserve_bytes: 0,
        ..EmbeddedOptions::default()
    };
    let journal = Journal::open_embedded(options, &Registry::new()).unwrap();
    let node = Node::start(dir.path(), journal).await;
    for turn in 0..40 {
        node.submit_readings(PARTITION, turn * 10, 10).await;
    }
    node.caught_up().await;
    wait_until("the journal reports who holds it", || {
        node.journal.status().held_back.is_some_and(|held| held.reader == "recorder")
    })
    .await;
    assert_eq!(node.journal.bounds(PARTITION).oldest, Position(0));
    node.store.history().flush().await.unwrap();
    wait_until("old segments go once their rows are in files", || {
        node.journal.bounds(PARTITION).oldest > Position(0)
    })
    .await;
    assert_eq!(node.numbers().await.len(), 400);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_read_stops_its_partition_loudly_and_no_other() {
    let dir = TempDir::new().unwrap();
    let node = Node::start(dir.path(), open_journal(&dir, 2)).await;
    let (bad, good) = (PartitionId(0), PartitionId(1));
    node.submit_readings(bad, 0, 10).await;
    let garbage = Record {
        kind: RecordKind::Readings,
        rows: 1,
        payload: Bytes::from_static(b"garbage"),
        decoded: None,
    };
    node.journal.submit(bad, garbage).await.unwrap().await.unwrap();
    node.submit_readings(bad, 10, 10).await;
    wait_until("the partition stops", || node.recorder.status()[0].stopped.is_some()).await;
    let status = node.recorder.status();
    let reason = status[0].stopped.clone().unwrap();
    assert!(reason.starts_with("journal record at position 1: "), "{reason}");
    assert_eq!(gauge(&node.registry, "baken_recorder_stopped"), 1.0);
    assert_eq!(node.numbers().await, (0..10).collect::<Vec<_>>(), "nothing behind it is recorded");

    let rows = submission(&node.submitter, 8, RecordKind::Readings, "n", 0, 5);
    node.submitter.submit(good, rows).await.unwrap().await.unwrap();
    wait_until("the other partition goes on", || {
        let other = &node.recorder.status()[1];
        other.position == Position(1) && other.stopped.is_none()
    })
    .await;
    assert_eq!(node.store.history().latest(DeviceId(8), None).await.unwrap().len(), 1);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_ahead_of_its_journal_stops_loudly() {
    let (dir, fresh) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let node = Node::start(dir.path(), open_journal(&dir, 1)).await;
    for turn in 0..3 {
        node.submit_readings(PARTITION, turn, 1).await;
        node.take(RecordKind::ClientAttributes, r#"{"a":1}"#).await;
    }
    node.caught_up().await;
    node.close().await;
    // The journal was lost and a new one took its place.
    let node = Node::start(dir.path(), open_journal(&fresh, 1)).await;
    wait_until("the partition stops", || node.recorder.status()[0].stopped.is_some()).await;
    node.close().await;
}
