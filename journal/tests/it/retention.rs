//! What is deleted and what is not.

use journal::{HeldBack, Journal, ReadError};
use schema::{PartitionId, Position};

use crate::support::{P0, P1, append, eventually, open, options, read_all, segment_files};

const KEPT_BYTES: u64 = 100 << 10;

fn small(dir: &std::path::Path) -> journal::EmbeddedOptions {
    let mut options = options(dir);
    options.retention_bytes = KEPT_BYTES;
    options
}

async fn append_many(journal: &Journal, partition: PartitionId, count: u32) {
    for number in 0..count {
        append(journal, partition, &[u8::try_from(number % 251).unwrap(); 3_000]).await;
    }
}

#[tokio::test]
async fn old_segments_go_when_all_take_too_much() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(small(dir.path()));
    append_many(&journal, P0, 200).await;
    let status = journal.status();
    assert!(status.bytes_on_disk <= KEPT_BYTES + (32 << 10), "{status:?}");
    assert_eq!(status.segments, segment_files(dir.path()).len());
    let bounds = journal.bounds(P0);
    assert!(bounds.oldest > Position(100) && bounds.next == Position(200), "{bounds:?}");
    let (entries, error) = read_all(&journal, P0);
    assert!(error.is_none() && entries[0].position == bounds.oldest);
    let error = journal.reader(P0, Position(0)).unwrap_err();
    assert!(matches!(error, ReadError::Expired { oldest, .. } if oldest == bounds.oldest));
    // Partition 1 never had a record and still knows where it is.
    assert_eq!(append(&journal, P1, b"first").await, Position(0));
    journal.close().await;
    assert_eq!(open(small(dir.path())).bounds(P0), bounds);
}

#[tokio::test]
async fn positions_go_on_when_all_of_a_partition_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(small(dir.path()));
    append_many(&journal, P1, 3).await;
    append_many(&journal, P0, 200).await;
    let gone = journal.bounds(P1);
    assert_eq!((gone.oldest, gone.next), (Position(3), Position(3)));
    journal.close().await;
    let journal = open(small(dir.path()));
    assert_eq!(journal.bounds(P1), gone);
    assert_eq!(append(&journal, P1, b"goes on").await, Position(3));
}

#[tokio::test]
async fn what_a_reader_holds_stays_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(small(dir.path()));
    journal.hold("alarms", P0, Position(50));
    journal.hold("history", P0, Position(7));
    append_many(&journal, P0, 200).await;
    let bounds = journal.bounds(P0);
    assert!(bounds.oldest <= Position(7), "{bounds:?}");
    let held = journal.status().held_back.expect("it is reported");
    let HeldBack { reader, partition, needed, bytes } = held;
    assert_eq!((reader, partition, needed), ("history", P0, Position(7)));
    assert!(bytes > 300 << 10, "{bytes}");
    let mut reader = journal.reader(P0, Position(7)).unwrap();
    assert_eq!(reader.next().await.unwrap().position, Position(7));
    // Once it moves on, all goes that may.
    journal.hold("history", P0, Position(200));
    append_many(&journal, P0, 20).await;
    let bounds = journal.bounds(P0);
    assert!(Position(30) < bounds.oldest && bounds.oldest <= Position(50), "{bounds:?}");
    journal.hold("alarms", P0, Position(220));
    journal.hold("history", P0, Position(220));
    append_many(&journal, P0, 20).await;
    assert!(journal.bounds(P0).oldest > Position(50));
    assert_eq!(journal.status().held_back, None);
}

#[tokio::test]
async fn a_reader_of_what_is_deleted_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(small(dir.path()));
    append_many(&journal, P0, 10).await;
    let mut reader = journal.reader(P0, Position(0)).unwrap();
    append_many(&journal, P0, 200).await;
    let error = reader.next().await.unwrap_err();
    assert!(matches!(error, ReadError::Expired { .. }), "{error}");
}

#[tokio::test]
async fn old_records_go_without_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    (options.retention_ms, options.retention_check_ms) = (1, 1);
    let journal = open(options);
    append_many(&journal, P0, 50).await;
    eventually("only the last segment", || journal.status().segments == 1).await;
    assert_eq!(segment_files(dir.path()).len(), 1);
}
