//! The submitter and its batchers over a real journal.

use ingest::batch::{BatchOptions, Rows, Submission, SubmitError, Submitter};
use journal::{EmbeddedOptions, Journal};
use prometheus::Registry;
use schema::{
    DeviceId, PartitionId, Position, RecordKind, RecordRows, RouterId, TenantId, TimestampMs, Value,
};
use tempfile::TempDir;

pub const PARTITION: PartitionId = PartitionId(0);

pub fn open_journal(dir: &TempDir, partitions: u16) -> Journal {
    let options = EmbeddedOptions {
        dir: dir.path().join("journal"),
        partitions,
        reserve_bytes: 0,
        ..EmbeddedOptions::default()
    };
    Journal::open_embedded(options, &Registry::new()).unwrap()
}

/// A submission of `count` readings of `key` by `router`, numbered from `first`.
pub fn submission(
    submitter: &Submitter,
    router: u64,
    kind: RecordKind,
    key: &str,
    first: i64,
    count: i64,
) -> Submission {
    let mut cache = submitter.keys().cache(TenantId(1), 16);
    let key = cache.resolve(key, 1_000).unwrap();
    let mut rows = Rows::with_capacity(4);
    for number in first..first + count {
        let at = TimestampMs(1_764_000_000_000 + number);
        rows.push(DeviceId(router), key, at, Some(Value::Integer(number)));
    }
    let received_at = TimestampMs(1_764_000_000_000);
    Submission { tenant: TenantId(1), router: RouterId(router), received_at, kind, rows }
}

fn readings(submitter: &Submitter, router: u64, first: i64, count: i64) -> Submission {
    submission(submitter, router, RecordKind::Readings, "number", first, count)
}

/// All durable rows of the partition as (router, kind, number), and how many records.
fn read_all(journal: &Journal) -> (Vec<(u64, RecordKind, i64)>, usize) {
    let mut reader = journal.reader(PARTITION, Position(0)).unwrap();
    let (mut rows, mut records) = (Vec::new(), 0);
    while let Some(entry) = reader.try_next().unwrap() {
        records += 1;
        let decoded = RecordRows::decode(entry.version, &entry.payload).unwrap();
        for row in 0..decoded.len() {
            let Some(Value::Integer(number)) = decoded.value(row) else { panic!("not an integer") };
            rows.push((decoded.origin(row).router.0, entry.kind, number));
        }
    }
    (rows, records)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_completed_is_there_after_the_journal_is_opened_again() {
    let dir = TempDir::new().unwrap();
    let journal = open_journal(&dir, 1);
    let submitter = Submitter::start(&journal, &BatchOptions::default(), &Registry::new()).unwrap();
    let mut tasks = Vec::new();
    for router in 0..20 {
        let submitter = submitter.clone();
        tasks.push(tokio::spawn(async move {
            for turn in 0..10 {
                let rows = readings(&submitter, router, turn * 3, 3);
                submitter.submit(PARTITION, rows).await.unwrap().await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    // No close: what was completed must not need one. A second handle reads the disk.
    let next = journal.bounds(PARTITION).next;
    let (before, records) = read_all(&journal);
    submitter.close().await;
    journal.close().await;
    drop((submitter, journal));
    let journal = open_journal(&dir, 1);
    let (rows, _) = read_all(&journal);
    assert_eq!((rows.len(), next.0), (600, records as u64));
    assert_eq!(rows, before);
    for router in 0..20 {
        let of_router: Vec<_> =
            rows.iter().filter(|row| row.0 == router).map(|row| row.2).collect();
        assert_eq!(of_router, (0..30).collect::<Vec<_>>(), "in the order sent");
    }
    assert!(records < 200, "submissions of 20 routers must share records ({records})");
}

#[tokio::test]
async fn a_lone_submission_does_not_wait_for_company() {
    let dir = TempDir::new().unwrap();
    let journal = open_journal(&dir, 1);
    let submitter = Submitter::start(&journal, &BatchOptions::default(), &Registry::new()).unwrap();
    for number in 0..5 {
        let rows = readings(&submitter, 1, number, 1);
        submitter.submit(PARTITION, rows).await.unwrap().await.unwrap();
        assert_eq!(journal.bounds(PARTITION).next, Position(number.unsigned_abs() + 1));
    }
    let nothing = readings(&submitter, 1, 0, 0);
    submitter.submit(PARTITION, nothing).await.unwrap().await.unwrap();
    assert_eq!(journal.bounds(PARTITION).next, Position(5), "no rows, no record");
}

#[tokio::test]
async fn a_submission_over_many_records_completes_with_its_last() {
    let dir = TempDir::new().unwrap();
    let journal = open_journal(&dir, 1);
    let options = BatchOptions { max_record_rows: 10, ..BatchOptions::default() };
    let submitter = Submitter::start(&journal, &options, &Registry::new()).unwrap();
    let mut completions = Vec::new();
    for (router, count) in [(1, 5), (2, 98), (3, 2), (4, 10)] {
        let rows = readings(&submitter, router, 0, count);
        completions.push((router, count, submitter.submit(PARTITION, rows).await.unwrap()));
    }
    for (router, count, completion) in completions {
        completion.await.unwrap();
        let (rows, _) = read_all(&journal);
        let of_router = rows.iter().filter(|row| row.0 == router).count();
        assert_eq!(
            of_router,
            usize::try_from(count).unwrap(),
            "all parts of {router}'s are durable"
        );
    }
    let (rows, records) = read_all(&journal);
    assert_eq!(rows.len(), 115);
    assert!(records >= 12, "{records} records of at most 10 rows");
}

#[tokio::test]
async fn a_submission_over_the_rows_of_a_record_is_split() {
    let dir = TempDir::new().unwrap();
    let journal = open_journal(&dir, 1);
    let options = BatchOptions { max_record_rows: usize::MAX, ..BatchOptions::default() };
    let submitter = Submitter::start(&journal, &options, &Registry::new()).unwrap();
    let largest = 65_536 * 2 + 1;
    let rows = readings(&submitter, 9, 0, largest);
    submitter.submit(PARTITION, rows).await.unwrap().await.unwrap();
    let (rows, records) = read_all(&journal);
    let numbers: Vec<_> = rows.iter().map(|row| row.2).collect();
    assert_eq!(numbers, (0..largest).collect::<Vec<_>>());
    assert!(records >= 3, "{records} records");
}

#[tokio::test]
async fn the_kinds_of_one_router_keep_their_order() {
    let dir = TempDir::new().unwrap();
    let journal = open_journal(&dir, 1);
    let submitter = Submitter::start(&journal, &BatchOptions::default(), &Registry::new()).unwrap();
    let kinds = [RecordKind::Readings, RecordKind::ClientAttributes, RecordKind::SharedAttributes];
    let mut completions = Vec::new();
    for number in 0..60 {
        for router in 1_i64..=7 {
            let kind = kinds[usize::try_from(number * router % 11 % 3).unwrap()];
            let rows = submission(&submitter, router.unsigned_abs(), kind, "k", number, 1);
            completions.push(submitter.submit(PARTITION, rows).await.unwrap());
        }
    }
    for completion in completions {
        completion.await.unwrap();
    }
    let (rows, records) = read_all(&journal);
    assert_eq!(rows.len(), 420);
    for router in 1_u64..=7 {
        let of_router: Vec<_> = rows.iter().filter(|row| row.0 == router).collect();
        let numbers: Vec<_> = of_router.iter().map(|row| row.2).collect();
        assert_eq!(numbers, (0..60).collect::<Vec<_>>(), "router {router}");
        for row in of_router {
            let kind = kinds[usize::try_from(row.2 * router.cast_signed() % 11 % 3).unwrap()];
            assert_eq!(row.1, kind);
        }
    }
    assert!(records < 420, "kinds share records where the order allows ({records})");
}

/// A journal that takes nothing, because its disk is full, must stop submitters.
#[tokio::test]
async fn a_queue_that_is_full_makes_submitters_wait_and_nothing_is_lost() {
    let dir = TempDir::new().unwrap();
    let options = EmbeddedOptions {
        dir: dir.path().join("journal"),
        partitions: 1,
        // More than any disk has free: the journal stalls from the start.
        reserve_bytes: u64::MAX,
        ..EmbeddedOptions::default()
    };
    let journal = Journal::open_embedded(options, &Registry::new()).unwrap();
    let registry = Registry::new();
    let limit_bytes = 64 * 1024;
    let options = BatchOptions { queue_bytes: limit_bytes, ..BatchOptions::default() };
    let submitter = Submitter::start(&journal, &options, &registry).unwrap();
    let mut completions = Vec::new();
    loop {
        let rows = readings(&submitter, 1, 0, 100);
        tokio::select! {
            biased;
            // With room this is ready at once; what waits here waits for good.
            completion = submitter.submit(PARTITION, rows) => completions.push(completion.unwrap()),
            () = std::future::ready(()) => break,
        }
        assert!(completions.len() < 100, "the queue has no bound");
        tokio::task::yield_now().await;
    }
    // 100 rows of 32 bytes each.
    assert_eq!(completions.len(), limit_bytes / 3_200);
    let queued = gauge(&registry, "baken_batch_queue_bytes");
    assert_eq!(queued, 3_200.0 * completions.len() as f64);
    assert_eq!(gauge(&registry, "baken_batch_queue_limit_bytes"), limit_bytes as f64);
    // Closing a stalled journal fails what is pending, so nobody acknowledges it.
    let closing = tokio::spawn({
        let journal = journal.clone();
        async move { journal.close().await }
    });
    for completion in completions {
        let error = completion.await.unwrap_err();
        assert!(matches!(error, SubmitError::Journal(_)), "{error}");
    }
    closing.await.unwrap();
    submitter.close().await;
    assert_eq!(gauge(&registry, "baken_batch_queue_bytes"), 0.0);
}

/// Small submissions beside a record that the journal has in hand would each
/// cost a record, and be durable no sooner.
#[tokio::test]
async fn what_comes_beside_a_record_in_hand_gathers_unless_it_is_much() {
    for (pipelined_rows, expected) in [(1_024, 1), (1, 4)] {
        let dir = TempDir::new().unwrap();
        let options = EmbeddedOptions {
            dir: dir.path().join("journal"),
            partitions: 1,
            // More than any disk has free: the first record stays in hand.
            reserve_bytes: u64::MAX,
            ..EmbeddedOptions::default()
        };
        let journal = Journal::open_embedded(options, &Registry::new()).unwrap();
        let registry = Registry::new();
        let options = BatchOptions { pipelined_rows, ..BatchOptions::default() };
        let submitter = Submitter::start(&journal, &options, &registry).unwrap();
        let mut completions = Vec::new();
        for number in 0..30 {
            let rows = readings(&submitter, 1, number, 1);
            completions.push(submitter.submit(PARTITION, rows).await.unwrap());
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(counter(&registry, "baken_batch_records_total"), expected, "{pipelined_rows}");
        let (closed, ()) = tokio::join!(submitter.close(), journal.close());
        let () = closed;
        for completion in completions {
            completion.await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn closing_answers_all_and_takes_no_more() {
    let dir = TempDir::new().unwrap();
    let journal = open_journal(&dir, 1);
    let submitter = Submitter::start(&journal, &BatchOptions::default(), &Registry::new()).unwrap();
    let mut completions = Vec::new();
    for number in 0..500 {
        let rows = readings(&submitter, 1, number, 1);
        completions.push(submitter.submit(PARTITION, rows).await.unwrap());
    }
    submitter.close().await;
    for completion in completions {
        completion.await.unwrap();
    }
    let rows = readings(&submitter, 1, 0, 1);
    let refused = submitter.submit(PARTITION, rows).await;
    assert!(matches!(refused, Err(SubmitError::Closed)));
    submitter.close().await;
    assert_eq!(read_all(&journal).0.len(), 500);
}

#[tokio::test]
async fn a_submission_larger_than_the_queue_has_it_to_itself() {
    let dir = TempDir::new().unwrap();
    let journal = open_journal(&dir, 1);
    let options = BatchOptions { queue_bytes: 1_000, ..BatchOptions::default() };
    let submitter = Submitter::start(&journal, &options, &Registry::new()).unwrap();
    let mut tasks = Vec::new();
    for router in 0..4 {
        let submitter = submitter.clone();
        tasks.push(tokio::spawn(async move {
            let rows = readings(&submitter, router, 0, 500);
            submitter.submit(PARTITION, rows).await.unwrap().await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(read_all(&journal).0.len(), 2_000);
}

pub fn gauge(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name);
    let family = family.unwrap_or_else(|| panic!("no metric {name}"));
    family.get_metric().iter().map(|metric| metric.get_gauge().get_value()).sum()
}

fn counter(registry: &Registry, name: &str) -> u64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name);
    let family = family.unwrap_or_else(|| panic!("no metric {name}"));
    family.get_metric().iter().map(|metric| metric.get_counter().get_value() as u64).sum()
}
