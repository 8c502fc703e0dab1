//! What the folder adds to what every backend does.

use journal::{AppendError, EmbeddedOptions, Journal, OpenError, Writing};
use schema::{PartitionId, Position};

use crate::conformance::conforms;
use crate::support::{
    P0, P1, append, eventually, files, open, options, read_all, read_whole, record, segment_files,
    try_open,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_in_small_segments() {
    let dir = tempfile::tempdir().unwrap();
    conforms(async || open(options(dir.path()))).await;
    assert!(segment_files(dir.path()).len() > 3, "the segments were to be crossed");
}

#[tokio::test]
async fn conforms_without_memory_for_recent_entries() {
    let dir = tempfile::tempdir().unwrap();
    conforms(async || {
        let mut options = options(dir.path());
        (options.tail_bytes, options.read_ahead_bytes) = (0, 1);
        open(options)
    })
    .await;
}

#[tokio::test]
async fn a_second_opening_is_refused_until_the_first_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(options(dir.path()));
    let error = try_open(options(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.is_retryable());
    // A reader that lives on does not keep the folder.
    let reader = first.reader(P0, Position(0)).unwrap();
    first.close().await;
    open(options(dir.path()));
    drop(reader);
}

#[tokio::test]
async fn dropping_the_last_handle_makes_all_durable() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(options(dir.path()));
    let mut pending = Vec::new();
    for number in 0..20_u8 {
        pending.push(journal.submit(P0, record(vec![number])).await.unwrap());
    }
    drop(journal);
    for (number, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.await.unwrap(), Position(number as u64));
    }
    assert_eq!(read_all(&open(options(dir.path())), P0).0.len(), 20);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(options(dir.path())));
    let mut other = options(dir.path());
    other.partitions = 4;
    let error = try_open(other).unwrap_err();
    assert!(matches!(error, OpenError::Partitions { found: 3, wanted: 4, .. }), "{error}");
}

#[tokio::test]
async fn options_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for break_it in [
        |options: &mut journal::EmbeddedOptions| options.partitions = 0,
        |options: &mut journal::EmbeddedOptions| options.segment_bytes = u64::MAX,
        |options: &mut journal::EmbeddedOptions| options.queue_bytes = 0,
        |options: &mut journal::EmbeddedOptions| options.dir.clear(),
    ] {
        let mut options = options(dir.path());
        break_it(&mut options);
        let error = try_open(options).unwrap_err();
        assert!(matches!(error, OpenError::Option { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_record_over_the_limit_is_refused_and_one_over_the_queue_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.queue_bytes = 1_000;
    let journal = open(options);
    let error = journal.submit(P0, record(vec![0; (64 << 10) + 1])).await.unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { bytes: 65_537, limit: 65_536 }), "{error}");
    append(&journal, P0, &vec![1; 64 << 10]).await;
    append(&journal, P0, b"and on").await;
    assert_eq!(read_all(&journal, P0).0.len(), 2);
}

#[tokio::test]
async fn an_entry_is_the_same_from_memory_and_from_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(options(dir.path()));
    let mut live = journal.reader(P1, Position(0)).unwrap();
    let mut seen = Vec::new();
    for number in 0..60_u8 {
        append(&journal, P1, &vec![number; 3_000]).await;
        seen.push(live.next().await.unwrap());
    }
    assert_eq!(read_whole(&journal, P1), seen);
    journal.close().await;
    assert_eq!(read_all(&journal, P1).0, seen, "a closed journal can be read to its end");
    assert_eq!(read_whole(&open(options(dir.path())), P1), seen);
}

#[tokio::test]
async fn opening_reads_no_sealed_segment() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(options(dir.path()));
    for number in 0..60_u8 {
        append(&journal, P1, &vec![number; 3_000]).await;
    }
    let bounds = journal.bounds(P1);
    journal.close().await;
    let segments = segment_files(dir.path());
    assert_eq!(files(dir.path(), "index").len(), segments.len() - 1);
    // What was not read cannot be missed: the frames of all but the last go.
    for segment in &segments[..segments.len() - 1] {
        let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
        file.set_len(8_192).unwrap();
    }
    let journal = open(options(dir.path()));
    assert_eq!(journal.bounds(P1), bounds);
    assert!(journal.status().is_healthy());
}

#[tokio::test]
async fn the_queue_is_bounded_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let disk = std::sync::Arc::new(crate::disk::FailingDisk::default());
    let mut options = options(dir.path());
    (options.queue_bytes, options.disk) = (10_000, disk.clone());
    let journal = open(options);
    disk.room.store(0, std::sync::atomic::Ordering::SeqCst);
    let submitting = {
        let journal = journal.clone();
        tokio::spawn(async move {
            let mut pending = Vec::new();
            for _ in 0..20 {
                pending.push(journal.submit(P0, record(vec![0; 936])).await.unwrap());
            }
            pending
        })
    };
    eventually("a full queue", || journal.status().queue_bytes == 10_000).await;
    assert!(!submitting.is_finished());
    disk.room.store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    for pending in submitting.await.unwrap() {
        pending.await.unwrap();
    }
    let status = journal.status();
    assert_eq!((status.queue_bytes, status.queue_limit_bytes), (0, 10_000));
    assert_eq!(status.writing, Writing::Writable);
}

#[tokio::test]
async fn metrics_say_what_was_done_and_where_things_stand() {
    let dir = tempfile::tempdir().unwrap();
    let registry = prometheus::Registry::new();
    let journal = Journal::open_embedded(options(dir.path()), &registry).unwrap();
    for _ in 0..3 {
        append(&journal, P1, b"12345").await;
    }
    journal.hold("history", P1, Position(1));
    let metric = |name: &str, labels: &[(&str, &str)]| {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let metric = family.get_metric().iter().find(|metric| {
            labels.iter().all(|(label, value)| {
                metric.get_label().iter().any(|l| l.name() == *label && l.value() == *value)
            })
        });
        let metric = metric.unwrap_or_else(|| panic!("{name} {labels:?}"));
        metric.get_gauge().get_value() + metric.get_counter().get_value()
    };
    for (name, labels, value) in [
        ("baken_journal_appends_total", &[][..], 3.0),
        ("baken_journal_records_total", &[], 3.0),
        ("baken_journal_rows_total", &[], 3.0),
        ("baken_journal_record_bytes_total", &[], 15.0),
        ("baken_journal_queue_bytes", &[], 0.0),
        ("baken_journal_queue_limit_bytes", &[], f64::from(1 << 20)),
        ("baken_journal_segments", &[], 1.0),
        ("baken_journal_stalled", &[], 0.0),
        ("baken_journal_next_position", &[("partition", "1")], 3.0),
        ("baken_journal_next_position", &[("partition", "0")], 0.0),
        ("baken_journal_oldest_position", &[("partition", "1")], 0.0),
        ("baken_journal_partition_stopped", &[("partition", "1")], 0.0),
        ("baken_journal_reader_lag_records", &[("reader", "history"), ("partition", "1")], 2.0),
    ] {
        assert_eq!(metric(name, labels), value, "{name} {labels:?}");
    }
    assert_eq!(journal.bounds(PartitionId(2)).next, Position(0));
}

/// Commits so far, and records of all of them.
fn commits(registry: &prometheus::Registry) -> (u64, f64) {
    let families = registry.gather();
    let family = families.iter().find(|f| f.name() == "baken_journal_commit_records").unwrap();
    let histogram = family.get_metric()[0].get_histogram();
    (histogram.get_sample_count(), histogram.get_sample_sum())
}

#[tokio::test]
async fn small_records_that_come_soon_after_a_commit_share_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let registry = prometheus::Registry::new();
    let options = EmbeddedOptions { commit_interval_ms: 1_000, ..options(dir.path()) };
    let journal = Journal::open_embedded(options, &registry).unwrap();
    append(&journal, P0, b"first").await;
    let mut pending = Vec::new();
    for number in 0..10_u8 {
        let partition = PartitionId(u16::from(number % 3));
        pending.push(journal.submit(partition, record(vec![number])).await.unwrap());
    }
    for pending in pending {
        pending.await.unwrap();
    }
    assert_eq!(commits(&registry), (2, 11.0));
}

#[tokio::test]
async fn enough_bytes_are_committed_without_waiting_for_more() {
    let dir = tempfile::tempdir().unwrap();
    let registry = prometheus::Registry::new();
    let options = EmbeddedOptions {
        commit_interval_ms: 1_000,
        commit_enough_bytes: 1,
        ..options(dir.path())
    };
    let journal = Journal::open_embedded(options, &registry).unwrap();
    for number in 0..20_u8 {
        append(&journal, P0, &[number]).await;
    }
    assert_eq!(commits(&registry), (20, 20.0));
}
