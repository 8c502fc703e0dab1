//! A disk that is full, slow to take all, or broken, while the journal runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use journal::{AppendError, Journal, StallReason, Writing};
use schema::{PartitionId, Position};

use crate::disk::{EDQUOT, EFBIG, EIO, ENOSPC, FailingDisk};
use crate::support::{P0, P1, append, eventually, open, options, read_all, record, segment_files};

fn open_on(dir: &std::path::Path, disk: &Arc<FailingDisk>) -> Journal {
    let mut options = options(dir);
    options.disk = disk.clone();
    open(options)
}

fn stalled(journal: &Journal) -> Option<StallReason> {
    match journal.status().writing {
        Writing::Stalled { reason, .. } => Some(reason),
        Writing::Writable | Writing::Closed => None,
    }
}

/// All of `count` one-byte records of partition 0, in order, here and after
/// opening again.
async fn holds_all(dir: &std::path::Path, journal: Journal, count: u8) {
    for round in 0..2 {
        let journal = if round == 0 { journal.clone() } else { open(options(dir)) };
        let (entries, error) = read_all(&journal, P0);
        assert!(error.is_none(), "{error:?}");
        let numbers: Vec<u8> = entries.iter().map(|entry| entry.payload[0]).collect();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        assert!(journal.status().partitions.iter().all(|p| p.stopped.is_none()));
        journal.close().await;
    }
}

#[tokio::test]
async fn short_writes_are_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::default());
    disk.write_limit.store(37, Ordering::SeqCst);
    let journal = open_on(dir.path(), &disk);
    for number in 0..30 {
        append(&journal, P0, &[number; 100]).await;
    }
    holds_all(dir.path(), journal, 30).await;
}

#[tokio::test]
async fn on_a_full_disk_records_wait_and_go_on_when_there_is_room() {
    for error in [ENOSPC, EDQUOT, EFBIG] {
        for room in [0, 1, 63, 64, 100, 5_000, 9_000, 20_000] {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(FailingDisk::default());
            disk.write_error.store(error, Ordering::SeqCst);
            let journal = open_on(dir.path(), &disk);
            for number in 0..5 {
                append(&journal, P0, &[number; 100]).await;
            }
            disk.room.store(room, Ordering::SeqCst);
            let mut pending = Vec::new();
            for number in 5..20 {
                pending.push(journal.submit(P0, record(vec![number; 3_000])).await.unwrap());
            }
            eventually("a stall", || stalled(&journal).is_some()).await;
            let reason = stalled(&journal);
            assert!(matches!(reason, Some(StallReason::DiskFull(_))), "{reason:?}");
            let durable = journal.bounds(P0).next;
            assert_eq!(read_all(&journal, P0).0.len() as u64, durable.0);
            disk.room.store(u64::MAX, Ordering::SeqCst);
            for (position, pending) in (5..).zip(pending) {
                assert_eq!(pending.await.unwrap(), Position(position));
            }
            assert_eq!(stalled(&journal), None);
            holds_all(dir.path(), journal, 20).await;
        }
    }
}

#[tokio::test]
async fn killed_on_a_full_disk_it_opens_again_with_all_that_was_durable() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::default());
    let journal = open_on(dir.path(), &disk);
    for number in 0..5 {
        append(&journal, P0, &[number; 100]).await;
    }
    disk.room.store(50, Ordering::SeqCst);
    let pending = journal.submit(P0, record("lost")).await.unwrap();
    eventually("a stall", || stalled(&journal).is_some()).await;
    journal.close().await;
    assert!(matches!(pending.await, Err(AppendError::Closed)));
    holds_all(dir.path(), open(options(dir.path())), 5).await;
}

#[tokio::test]
async fn room_is_left_to_the_others_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::default());
    disk.free_bytes.store(999, Ordering::SeqCst);
    let mut options = options(dir.path());
    (options.disk, options.reserve_bytes) = (disk.clone(), 1_000);
    let journal = open(options);
    let pending = journal.submit(P0, record("waits")).await.unwrap();
    let expected = StallReason::Reserve { free_bytes: 999, reserve_bytes: 1_000 };
    eventually("a stall", || stalled(&journal) == Some(expected.clone())).await;
    disk.free_bytes.store(1_000_000, Ordering::SeqCst);
    assert_eq!(pending.await.unwrap(), Position(0));
}

#[tokio::test]
async fn a_file_whose_sync_failed_is_never_synced_again() {
    for error in [EIO, ENOSPC] {
        for truncate_fails in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(FailingDisk::default());
            disk.sync_error.store(error, Ordering::SeqCst);
            disk.truncate_fails.store(truncate_fails, Ordering::SeqCst);
            let journal = open_on(dir.path(), &disk);
            for number in 0..5 {
                append(&journal, P0, &[number; 100]).await;
            }
            assert_eq!(segment_files(dir.path()).len(), 1);
            disk.failing_syncs.store(1, Ordering::SeqCst);
            // What was not confirmed stands again in a new segment, once.
            for number in 5..10 {
                append(&journal, P0, &[number; 100]).await;
            }
            assert_eq!(segment_files(dir.path()).len(), 2);
            append(&journal, P1, b"of another").await;
            assert_eq!(journal.status().writing, Writing::Writable);
            // The sidecar tells only what counts, and so does the segment.
            let sidecar = segment_files(dir.path())[0].with_extension("index");
            std::fs::remove_file(sidecar).unwrap();
            disk.truncate_fails.store(false, Ordering::SeqCst);
            holds_all(dir.path(), journal, 10).await;
        }
    }
}

#[tokio::test]
async fn a_disk_that_keeps_failing_stalls_until_it_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::default());
    let journal = open_on(dir.path(), &disk);
    append(&journal, P0, &[0]).await;
    disk.failing_syncs.store(usize::MAX, Ordering::SeqCst);
    let pending = journal.submit(P0, record(vec![1])).await.unwrap();
    eventually("a stall", || stalled(&journal).is_some()).await;
    let reason = stalled(&journal);
    assert!(matches!(reason, Some(StallReason::Io(_))), "{reason:?}");
    disk.failing_syncs.store(0, Ordering::SeqCst);
    assert_eq!(pending.await.unwrap(), Position(1));
    disk.room.store(0, Ordering::SeqCst);
    disk.write_error.store(EIO, Ordering::SeqCst);
    let pending = journal.submit(P0, record(vec![2])).await.unwrap();
    eventually("a stall", || stalled(&journal).is_some()).await;
    disk.room.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(pending.await.unwrap(), Position(2));
    assert_eq!(segment_files(dir.path()).len(), 3, "what failed was removed");
    holds_all(dir.path(), journal, 3).await;
}

#[tokio::test]
async fn one_sync_is_enough_for_all_that_waits() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::default());
    let journal = open_on(dir.path(), &disk);
    append(&journal, P0, b"first").await;
    disk.room.store(0, Ordering::SeqCst);
    let mut pending = vec![journal.submit(P0, record("stalls")).await.unwrap()];
    eventually("a stall", || stalled(&journal).is_some()).await;
    for number in 0..100 {
        pending.push(journal.submit(PartitionId(number % 3), record("x")).await.unwrap());
    }
    let before = disk.syncs.load(Ordering::SeqCst);
    disk.room.store(u64::MAX, Ordering::SeqCst);
    for pending in pending {
        pending.await.unwrap();
    }
    // One for the record that stalled, one for the hundred behind it.
    assert_eq!(disk.syncs.load(Ordering::SeqCst) - before, 2);
}
