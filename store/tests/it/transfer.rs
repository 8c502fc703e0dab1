//! An installation is carried from a folder into PostgreSQL: whole, once, and
//! however often that is broken off.

use std::path::Path;

use prometheus::Registry;
use rand::{Rng as _, SeedableRng as _};
use schema::{
    DeviceId, DocumentBody, Origin, PartitionId, Position, RecordBuilder, RecordKind, RouterId,
    Tenant, TenantId, TenantSettings, TimestampMs, Value,
};
use store::history::{Order, RangeQuery};
use store::transfer::{
    JournalAfterwards, TransferError, TransferOptions, TransferProgress, TransferReport,
    TransferState, state, transfer,
};
use store::{
    AttributeChange, HistoryOptions, PostgresHistoryOptions, PostgresOptions, Scope, Store,
    StoreOptions,
};

use crate::postgres::{count, shared};

const PARTITIONS: u16 = 2;
const RECORDS: u64 = 12;
const DEVICES: u64 = 40;

fn options(dir: &Path, url: &str, journal: JournalAfterwards) -> TransferOptions {
    TransferOptions {
        dir: dir.to_owned(),
        partitions: PARTITIONS,
        postgres: PostgresOptions::parse(url).unwrap(),
        history: PostgresHistoryOptions { batch_rows: 5_000, ..PostgresHistoryOptions::default() },
        journal,
        start_over: false,
        leave_unsent: false,
    }
}

fn new_journal() -> JournalAfterwards {
    JournalAfterwards::New { ends: vec![Position(RECORDS); usize::from(PARTITIONS)] }
}

fn open(dir: &Path) -> Store {
    let options = StoreOptions {
        dir: dir.to_owned(),
        partitions: PARTITIONS,
        history: HistoryOptions { memtable_rows: 7_000, ..HistoryOptions::default() },
    };
    Store::open_embedded(options, &Registry::new()).unwrap()
}

/// Values of all kinds, two of which PostgreSQL can't hold as they are.
fn value(number: u64) -> Value<'static> {
    match number % 6 {
        0 => Value::Integer(i64::try_from(number).unwrap()),
        1 => Value::Boolean(number.is_multiple_of(2)),
        2 => Value::Text("a\u{0}b"),
        3 => Value::Json(r#"{"a":[1,2]}"#),
        4 => Value::Text("plain"),
        _ => Value::Number(0.1),
    }
}

fn record(partition: u64, number: u64) -> RecordBuilder {
    let mut record = RecordBuilder::new(RecordKind::Readings);
    for device in (0..DEVICES).filter(|device| device % 2 == partition) {
        for key in ["a", "b\u{0}", "c"] {
            let key = record.key(key).unwrap();
            for step in 0..60i64 {
                // The last record sends the one before it again, and one is far in the past.
                let at = match (number, step) {
                    (11, _) => 10 * 60 + step,
                    (3, 0) => -62_000_000_000,
                    _ => i64::try_from(number).unwrap() * 60 + step,
                };
                let at = TimestampMs(1_700_000_000_000 + at * 1_000);
                let tenant = TenantId(1);
                let origin = Origin { tenant, router: RouterId(2), device: DeviceId(device) };
                let value = value(device + u64::try_from(step).unwrap());
                record.push(origin, key, at, at, Some(value)).unwrap();
            }
        }
    }
    record
}

/// A folder whose journal, if it were there, ended at [`RECORDS`].
async fn folder(dir: &Path) {
    let store = open(dir);
    for number in 0..30 {
        let tenant =
            Tenant { name: format!("tenant {number}"), settings: TenantSettings::default() };
        store.directory().create(DocumentBody::Tenant(tenant)).await.unwrap();
    }
    for partition in 0..PARTITIONS {
        let mut writer = store.history().writer(PartitionId(partition)).await.unwrap();
        for number in 0..RECORDS {
            let rows = record(u64::from(partition), number).finish().decoded.unwrap();
            writer.ready().await;
            writer.write(Position(number), &rows).unwrap();
        }
        let change = AttributeChange {
            device: DeviceId(u64::from(partition)),
            scope: Scope::Shared,
            key: "limit".to_owned(),
            value: Some(serde_json::json!({ "of": partition })),
            at: TimestampMs(5),
        };
        let (partition, next) = (PartitionId(partition), Position(RECORDS));
        store.attributes().apply(partition, next, vec![change]).await.unwrap();
        let claim = store.alarms().claim(partition).await.unwrap();
        let stretch = store::alarms::Commit {
            partition,
            epoch: claim.epoch,
            expected: Position(0),
            next,
            transitions: Vec::new(),
            notices: Vec::new(),
            ticks: Vec::new(),
            met: Vec::new(),
            snapshot: Some(vec![7; 9]),
            at: TimestampMs(6),
        };
        store.alarms().commit(stretch.into()).await.unwrap();
    }
    store.close().await;
    let alarms = rusqlite::Connection::open(dir.join("alarms.db")).unwrap();
    let events = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000)
         INSERT INTO events (id, tenant, at, kind, body)
         SELECT CAST(printf('%016d', i) AS BLOB), 1, i, 'alarm_raised', '{}' FROM n;
         INSERT INTO profiles (id, tenant, name, version, deleted) VALUES (9, 1, 'a', 1, 1);
         DELETE FROM profiles WHERE id = 9;
         INSERT INTO messages (id, tenant, recipient, channel, address, kind, notices, content,
             made_at, state, next_at, attempts, interrupted, changed_at, answer)
         VALUES (x'01', 1, 'user:1', 1, 'a@b', 'alarms', 0, '{}', 1, 2, 1, 1, 0, 1, 'b' || char(0))";
    alarms.execute_batch(events).unwrap();
}

fn rows(report: &TransferReport, name: &str) -> u64 {
    report.parts.iter().find(|part| part.name == name).unwrap().rows
}

/// What a node finds in PostgreSQL.
async fn assert_there(url: &str, position: u64) {
    let postgres = PostgresOptions::parse(url).unwrap();
    let history = PostgresHistoryOptions::default();
    let registry = Registry::new();
    let store = Store::open_postgres(&postgres, PARTITIONS, &history, &registry).await.unwrap();
    for partition in (0..PARTITIONS).map(PartitionId) {
        let claim = store.alarms().claim(partition).await.unwrap();
        assert_eq!(claim.position, Position(position));
        assert_eq!((claim.epoch, claim.snapshot.unwrap().position), (2, Position(position)));
        assert_eq!(store.attributes().position(partition), Position(position));
        assert_eq!(store.history().durable_position(partition), Position(position));
        // The next record is taken.
        let mut writer = store.history().writer(partition).await.unwrap();
        assert_eq!(writer.position(), Position(position));
        let rows = record(u64::from(partition.0), 12).finish().decoded.unwrap();
        writer.write(Position(position), &rows).unwrap();
    }
    store.history().flush().await.unwrap();
    let query = RangeQuery {
        device: DeviceId(0),
        key: "b\u{0}".to_owned(),
        from: TimestampMs(i64::MIN),
        to: TimestampMs(i64::MAX),
        order: Order::Descending,
        limit: 10_000,
        cursor: None,
    };
    let page = store.history().range(query).await.unwrap();
    assert_eq!(page.samples.len(), 12 * 60, "each reading once");
    let tenant = Tenant { name: "new".to_owned(), settings: TenantSettings::default() };
    let id = store.directory().create(DocumentBody::Tenant(tenant)).await.unwrap();
    assert!(id.id > 30, "an id that was never given out: {}", id.id);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_folder_is_in_postgres_afterwards_and_once() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path()).await;
    for (journal, position) in [(new_journal(), 0), (JournalAfterwards::Same, RECORDS)] {
        let url = shared().database().await;
        let options = options(dir.path(), &url, journal);
        assert_eq!(state(&options).await.unwrap(), TransferState::Empty);
        let report = transfer(&options, &TransferProgress::default()).await.unwrap();
        assert!(report.copied);
        assert_eq!(
            (rows(&report, "alarms.events"), rows(&report, "directory.documents")),
            (25_000, 30)
        );
        assert_eq!((report.documents.len(), report.documents[0].rows), (1, 30));
        assert_eq!((report.series, report.readings), (DEVICES * 3, DEVICES * 3 * 11 * 60));
        // Once more there is nothing to do.
        let again = transfer(&options, &TransferProgress::default()).await.unwrap();
        assert_eq!(again, TransferReport { copied: false, ..report });
        assert_there(&url, position).await;
        // A profile's id that was deleted is not given out again.
        let next = "SELECT nextval(pg_get_serial_sequence('baken_alarms.profiles', 'id'))";
        assert_eq!(count(&url, next).await, 10);
    }
}

/// It is broken off over and over at random moments, and ends as the straight run.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_broken_off_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path()).await;
    let url = shared().database().await;
    let options = options(dir.path(), &url, new_journal());
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let mut breaks = 0;
    // Each attempt may go a little further than the one before.
    let report = loop {
        let progress = TransferProgress::default();
        let most = std::time::Duration::from_millis(random.random_range(1..60) * (breaks + 1));
        match tokio::time::timeout(most, transfer(&options, &progress)).await {
            Ok(Ok(report)) => break report,
            // The one before has not let go yet.
            Ok(Err(TransferError::Busy)) => {}
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => breaks += 1,
        }
        if let Ok((postgres, history)) =
            PostgresOptions::parse(&url).map(|it| (it, PostgresHistoryOptions::default()))
            && count(&url, "SELECT (to_regclass('baken_migration.copy') IS NOT NULL)::int::bigint")
                .await
                == 1
            && count(&url, "SELECT count(*) FROM baken_migration.copy WHERE finished_at IS NULL")
                .await
                == 1
        {
            let opened =
                Store::open_postgres(&postgres, PARTITIONS, &history, &Registry::new()).await;
            let error = opened.unwrap_err().to_string();
            assert!(error.contains("baken migrate"), "no node starts on half a copy: {error}");
        }
    };
    assert!(breaks > 3, "it was broken off {breaks} times only");
    assert_eq!(rows(&report, "alarms.events"), 25_000);
    assert_eq!(report.readings, DEVICES * 3 * 11 * 60);
    assert_there(&url, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_lose_or_mix_something_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path()).await;
    let progress = TransferProgress::default();
    // A journal of which not all was taken.
    let url = shared().database().await;
    let ends = vec![Position(RECORDS), Position(RECORDS + 1)];
    let behind = options(dir.path(), &url, JournalAfterwards::New { ends });
    let error = transfer(&behind, &progress).await.unwrap_err().to_string();
    assert!(error.contains("partition 1") && error.contains("baken serve"), "{error}");
    // A forwarder that has not sent all.
    let lanes = rusqlite::Connection::open(dir.path().join("forwarders.db")).unwrap();
    lanes
        .execute_batch("INSERT INTO lanes VALUES (5, 0, 3, 1, '{}', 0), (6, 0, NULL, 0, '{}', 0)")
        .unwrap();
    let mut options = options(dir.path(), &url, new_journal());
    let error = transfer(&options, &progress).await.unwrap_err().to_string();
    assert!(error.contains("forwarder 5") && error.contains("--leave-unsent"), "{error}");
    options.leave_unsent = true;
    transfer(&options, &progress).await.unwrap();
    let lanes =
        "SELECT count(*) FROM baken_forwarders.lanes WHERE position = 0 OR position IS NULL";
    assert_eq!(count(&url, lanes).await, 2);
    // Another journal than the copy was made for, or a database that is in use.
    let same = TransferOptions { journal: JournalAfterwards::Same, ..options.clone() };
    let error = transfer(&same, &progress).await.unwrap_err();
    assert!(matches!(error, TransferError::OtherJournal { .. }), "{error}");
    let other = tempfile::tempdir().unwrap();
    folder(other.path()).await;
    open(other.path()).close().await;
    let store = open(other.path());
    store.alarms().claim(PartitionId(0)).await.unwrap();
    store.close().await;
    options.dir = other.path().to_owned();
    options.start_over = true;
    let error = transfer(&options, &progress).await.unwrap_err().to_string();
    assert!(error.contains("in use"), "a copy that is finished is never taken out: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_found_and_a_copy_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path()).await;
    let url = shared().database().await;
    let mut options = options(dir.path(), &url, new_journal());
    transfer(&options, &TransferProgress::default()).await.unwrap();
    // As if somebody had been at the database before it was compared.
    for (change, told) in [
        ("UPDATE baken_directory.documents SET body = '{}' WHERE id = 3", "directory.documents"),
        ("UPDATE baken_history.readings SET integer = 8 WHERE integer = 6", "key `"),
        ("DELETE FROM baken_attributes.undelivered", "attributes.undelivered"),
    ] {
        let unfinish = "UPDATE baken_migration.copy SET finished_at = NULL RETURNING 1::bigint";
        count(&url, unfinish).await;
        count(&url, &format!("WITH done AS ({change} RETURNING 1) SELECT count(*) FROM done"))
            .await;
        let error = transfer(&options, &TransferProgress::default()).await.unwrap_err();
        assert!(matches!(error, TransferError::Differs(_)), "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
    // The folder was used since: what is half there is no copy of it.
    let store = open(dir.path());
    let tenant = Tenant { name: "later".to_owned(), settings: TenantSettings::default() };
    store.directory().create(DocumentBody::Tenant(tenant)).await.unwrap();
    store.close().await;
    let error = transfer(&options, &TransferProgress::default()).await.unwrap_err();
    assert!(matches!(error, TransferError::OtherCopy), "{error}");
    options.start_over = true;
    let report = transfer(&options, &TransferProgress::default()).await.unwrap();
    assert_eq!((report.copied, rows(&report, "directory.documents")), (true, 31));
}

/// A table that is added later must not be forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_the_folder_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path()).await;
    let url = shared().database().await;
    let options = options(dir.path(), &url, new_journal());
    let report = transfer(&options, &TransferProgress::default()).await.unwrap();
    for part in ["directory", "attributes", "alarms", "forwarders"] {
        let file = rusqlite::Connection::open(dir.path().join(format!("{part}.db"))).unwrap();
        let tables =
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let mut tables = file.prepare(tables).unwrap();
        let names = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
        for name in names.map(|name| format!("{part}.{}", name.unwrap())) {
            assert!(report.parts.iter().any(|part| part.name == name), "{name}");
        }
    }
}
