//! Opening what a crash, a power cut or a bad disk has left.

use std::fs;

use journal::{AppendError, DamageReason, ReadError};
use schema::{PartitionId, Position};

use crate::support::{
    P0, P1, append, files, frames_of, open, options, read_all, read_whole, record, segment_files,
    try_open,
};

/// Fills one segment with groups of one record, partitions in turn.
async fn fill(dir: &std::path::Path, records: u8) {
    let mut options = options(dir);
    options.segment_bytes = 1 << 20;
    let journal = open(options);
    for number in 0..records {
        append(&journal, PartitionId(u16::from(number) % 3), &[number; 100]).await;
    }
    journal.close().await;
}

fn flip(path: &std::path::Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_wherever_it_is_torn() {
    let whole_dir = tempfile::tempdir().unwrap();
    fill(whole_dir.path(), 9).await;
    let segment = segment_files(whole_dir.path()).remove(0);
    let whole = fs::read(&segment).unwrap();
    let frames = frames_of(&whole);
    let last = frames[8];
    for (name, tail) in [
        ("cut in the header", whole[..last.start + 20].to_vec()),
        ("cut in the record", whole[..last.end - 1].to_vec()),
        ("nothing of it", whole[..last.start].to_vec()),
        ("zeros", [&whole[..last.start], &[0; 9_000]].concat()),
        ("rubbish", [&whole[..last.start], &[0xa5; 9_000]].concat()),
        ("half of it zeros", [&whole[..last.end - 50], &[0; 50]].concat()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(whole_dir.path().join("journal.meta"), dir.path().join("journal.meta")).unwrap();
        let path = dir.path().join(segment.file_name().unwrap());
        fs::write(&path, tail).unwrap();
        for round in 0..3 {
            let journal = open(options(dir.path()));
            assert!(journal.status().is_healthy(), "{name}: {:?}", journal.status());
            for partition in 0..3 {
                let (entries, error) = read_all(&journal, PartitionId(partition));
                let expected = if partition == 2 { 2 + round } else { 3 };
                assert_eq!((entries.len(), error.is_none()), (expected, true), "{name}");
            }
            append(&journal, PartitionId(2), b"goes on").await;
            journal.close().await;
        }
    }
}

#[tokio::test]
async fn a_damaged_record_stops_its_partition_and_no_other() {
    for (in_frame, reason) in [(70, DamageReason::Payload), (25, DamageReason::Header)] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 30).await;
        let segment = segment_files(dir.path()).remove(0);
        let damaged = frames_of(&fs::read(&segment).unwrap())[10];
        assert_eq!((damaged.partition, damaged.position), (1, 3));
        flip(&segment, damaged.start + in_frame);

        let journal = open(options(dir.path()));
        let status = journal.status();
        assert!(!status.is_healthy());
        let stopped = status.partitions[1].stopped.clone().expect("partition 1 is stopped");
        assert_eq!((stopped.partition, stopped.position), (P1, Position(3)));
        assert_eq!((stopped.offset, stopped.reason), (damaged.start as u64, reason));
        assert_eq!(stopped.segment, segment);

        let (entries, error) = read_all(&journal, P1);
        assert_eq!(entries.len(), 3, "all before it is read");
        let Some(ReadError::Corrupt(corruption)) = error else { panic!("{error:?}") };
        assert_eq!((corruption.position, corruption.offset), (Position(3), stopped.offset));
        let error = journal.submit(P1, record("x")).await.unwrap_err();
        assert!(matches!(error, AppendError::PartitionStopped(_)), "{error}");
        // A reader that has read all is told, too, instead of waiting for ever.
        let mut at_end = journal.reader(P1, journal.bounds(P1).next).unwrap();
        assert!(matches!(at_end.next().await, Err(ReadError::Corrupt(_))));

        for partition in [P0, PartitionId(2)] {
            assert_eq!(append(&journal, partition, b"goes on").await, Position(10));
            let (entries, error) = read_all(&journal, partition);
            assert_eq!((entries.len(), error.is_none()), (11, true));
        }
    }
}

#[tokio::test]
async fn damage_in_the_last_acknowledged_record_is_not_taken_for_a_torn_write() {
    for in_frame in [0, 13, 70] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 6).await;
        let segment = segment_files(dir.path()).remove(0);
        let last = frames_of(&fs::read(&segment).unwrap())[5];
        flip(&segment, last.start + in_frame);
        let journal = open(options(dir.path()));
        let stopped = journal.status().partitions[2].stopped.clone().expect("it is stopped");
        assert_eq!(stopped.position, Position(1));
        assert!(journal.status().partitions[..2].iter().all(|p| p.stopped.is_none()));
    }
}

#[tokio::test]
async fn frames_lost_in_a_row_stop_whom_they_may_be_of() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 30).await;
    let segment = segment_files(dir.path()).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let frames = frames_of(&bytes);
    // Partitions 0, 1 and 2 again, each followed by others of its own.
    bytes[frames[12].start..frames[14].end].fill(0xee);
    fs::write(&segment, &bytes).unwrap();
    let journal = open(options(dir.path()));
    for partition in journal.status().partitions {
        assert_eq!(partition.stopped.expect("all three lost one").position, Position(4));
    }
    drop(journal);
    // The last but one group and the two before it: of partition 1 only the
    // number is known from what follows.
    bytes[frames[26].start..frames[28].end].fill(0xee);
    fs::write(&segment, &bytes).unwrap();
    let journal = open(options(dir.path()));
    assert!(journal.status().partitions.iter().all(|partition| partition.stopped.is_some()));
}

#[tokio::test]
async fn damage_in_a_sealed_segment_is_found_by_reading_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(options(dir.path()));
    for number in 0..60_u8 {
        append(&journal, PartitionId(u16::from(number) % 3), &[number; 2_000]).await;
    }
    journal.close().await;
    let segment = segment_files(dir.path()).remove(1);
    let damaged = frames_of(&fs::read(&segment).unwrap())[1];
    flip(&segment, damaged.end - 1);
    let journal = open(options(dir.path()));
    assert!(journal.status().is_healthy(), "nobody has read it");
    let partition = PartitionId(damaged.partition);
    let (entries, error) = read_all(&journal, partition);
    assert_eq!(entries.len() as u64, damaged.position);
    assert!(matches!(error, Some(ReadError::Corrupt(_))), "{error:?}");
    let error = journal.submit(partition, record("x")).await.unwrap_err();
    assert!(matches!(error, AppendError::PartitionStopped(_)), "{error}");
    let other = PartitionId((damaged.partition + 1) % 3);
    assert!(read_all(&journal, other).1.is_none());
    append(&journal, other, b"goes on").await;
}

#[tokio::test]
async fn what_is_known_to_be_damaged_stays_known_when_its_segment_is_sealed() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 9).await;
    let segment = segment_files(dir.path()).remove(0);
    let damaged = frames_of(&fs::read(&segment).unwrap())[4];
    flip(&segment, damaged.end - 1);
    let journal = open(options(dir.path()));
    for _ in 0..30 {
        append(&journal, P0, &[1; 2_000]).await;
    }
    journal.close().await;
    assert!(segment_files(dir.path()).len() > 1);
    let journal = open(options(dir.path()));
    let stopped = journal.status().partitions[1].stopped.clone().expect("it is stopped");
    assert_eq!(stopped.position, Position(1));
    journal.close().await;
    // A person restores the segment and removes its sidecar.
    flip(&segment, damaged.end - 1);
    fs::remove_file(segment.with_extension("index")).unwrap();
    let journal = open(options(dir.path()));
    assert!(journal.status().is_healthy());
    assert_eq!(append(&journal, P1, b"goes on").await, Position(3));
}

#[tokio::test]
async fn sidecars_are_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(options(dir.path()));
    for number in 0..60_u8 {
        append(&journal, PartitionId(u16::from(number) % 3), &[number; 2_000]).await;
    }
    let before: Vec<_> = (0..3).map(|p| read_whole(&journal, PartitionId(p))).collect();
    journal.close().await;
    let sidecars = files(dir.path(), "index");
    assert!(sidecars.len() > 3);
    let whole: Vec<_> = sidecars.iter().map(|path| fs::read(path).unwrap()).collect();
    fs::remove_file(&sidecars[0]).unwrap();
    flip(&sidecars[1], 60);
    flip(&sidecars[2], whole[2].len() - 1);
    fs::write(&sidecars[3], b"").unwrap();
    let journal = open(options(dir.path()));
    let after: Vec<_> = (0..3).map(|p| read_whole(&journal, PartitionId(p))).collect();
    assert_eq!(after, before);
    for (path, whole) in sidecars.iter().zip(whole) {
        assert_eq!(fs::read(path).unwrap(), whole, "{}", path.display());
    }
}

#[tokio::test]
async fn a_segment_that_somebody_removed_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(options(dir.path()));
    for number in 0..60_u8 {
        append(&journal, P0, &[number; 2_000]).await;
    }
    journal.close().await;
    let segment = segment_files(dir.path()).remove(2);
    let first = frames_of(&fs::read(&segment).unwrap())[0].position;
    fs::remove_file(&segment).unwrap();
    let journal = open(options(dir.path()));
    let (entries, error) = read_all(&journal, P0);
    assert_eq!(entries.len() as u64, first);
    assert!(
        matches!(&error, Some(ReadError::Corrupt(c)) if c.reason == DamageReason::Missing),
        "{error:?}"
    );
    assert!(journal.status().partitions[0].stopped.is_some());
    append(&journal, P1, b"goes on").await;
}

#[tokio::test]
async fn a_segment_that_was_never_begun_in_earnest_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 9).await;
    for torn in [&b""[..], &[0; 100], &[0; 20_000]] {
        let path = dir.path().join(format!("{:020}.segment", 2));
        fs::write(&path, torn).unwrap();
        let journal = open(options(dir.path()));
        assert!(!path.exists());
        assert_eq!(journal.bounds(P0).next, Position(3));
    }
}

#[tokio::test]
async fn a_segment_whose_header_is_gone_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 9).await;
    let segment = segment_files(dir.path()).remove(0);
    for copy in [0, 4_096] {
        // One copy is enough, and is made two again.
        flip(&segment, copy + 20);
        assert_eq!(open(options(dir.path())).bounds(P0).next, Position(3));
    }
    flip(&segment, 20);
    flip(&segment, 4_096 + 20);
    let error = try_open(options(dir.path())).unwrap_err();
    assert!(matches!(error, journal::OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(".segment"), "{error}");
}
