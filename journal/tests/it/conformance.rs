//! What every backend of the journal must do, whatever it is kept in. Each
//! check begins at the positions that it finds, so that it can run on a journal
//! that is in use.

use std::time::Duration;

use bytes::Bytes;
use journal::{AppendError, Journal, ReadError};
use schema::{PartitionId, Position, RecordKind};
use tokio::task::JoinSet;

use crate::support::{P0, P1, append, record};

/// Runs all checks. `reopen` gives the same journal again and again; each one
/// that it gave is closed before it is asked for the next.
pub async fn conforms(reopen: impl AsyncFn() -> Journal) {
    let journal = reopen().await;
    ends("dense positions", positions_are_dense_per_partition(&journal)).await;
    ends("entries", entries_come_back_as_they_went(&journal)).await;
    ends("waiting readers", readers_wait_for_what_is_durable(&journal)).await;
    ends("cancelled reads", reads_that_are_cancelled_all_the_time_go_on(&journal)).await;
    ends("submitters at once", submitters_at_once_keep_their_own_order(&journal)).await;
    ends("refusals", what_cannot_be_is_refused(&journal)).await;
    ends("closing", journal.close()).await;
    ends("a closed journal", a_closed_journal_says_so(&journal)).await;
    drop(journal);
    ends("opening again", all_is_there_after_opening_again(&reopen)).await;
}

/// A check that hangs fails; how long it takes says nothing else.
async fn ends(what: &str, check: impl Future<Output = ()>) {
    let patience = Duration::from_secs(120);
    tokio::time::timeout(patience, check).await.unwrap_or_else(|_| panic!("{what}: no end"));
}

async fn positions_are_dense_per_partition(journal: &Journal) {
    for partition in [P0, P1, P0] {
        let before = journal.bounds(partition).next;
        for offset in 0..5 {
            assert_eq!(append(journal, partition, b"x").await, Position(before.0 + offset));
        }
        assert_eq!(journal.bounds(partition).next, Position(before.0 + 5));
    }
}

async fn entries_come_back_as_they_went(journal: &Journal) {
    let from = journal.bounds(P0).next;
    let kinds = [RecordKind::Readings, RecordKind::ClientAttributes, RecordKind::SharedAttributes];
    let payloads = [Bytes::new(), Bytes::from_static(b"one"), Bytes::from(vec![7; 30_000])];
    for (kind, payload) in kinds.into_iter().zip(&payloads) {
        let record = schema::Record { kind, rows: 3, payload: payload.clone(), decoded: None };
        journal.submit(P0, record).await.unwrap().await.unwrap();
    }
    let mut reader = journal.reader(P0, from).unwrap();
    for (kind, payload) in kinds.into_iter().zip(payloads) {
        let position = reader.position();
        let entry = reader.next().await.unwrap();
        assert_eq!((entry.kind, entry.rows, entry.payload), (kind, 3, payload));
        assert_eq!((entry.position, entry.version), (position, schema::RECORD_VERSION));
    }
    assert_eq!(reader.try_next().unwrap(), None);
}

async fn readers_wait_for_what_is_durable(journal: &Journal) {
    let mut reader = journal.reader(P1, journal.bounds(P1).next).unwrap();
    let reading = tokio::spawn(async move { reader.next().await.unwrap() });
    append(journal, P0, b"of another partition").await;
    assert!(!reading.is_finished());
    let position = append(journal, P1, b"awaited").await;
    let entry = reading.await.unwrap();
    assert_eq!((entry.position, &entry.payload[..]), (position, &b"awaited"[..]));
}

async fn reads_that_are_cancelled_all_the_time_go_on(journal: &Journal) {
    let from = journal.bounds(P1).oldest;
    let end = journal.bounds(P1).next;
    let mut reader = journal.reader(P1, from).unwrap();
    let mut read = from;
    while read < end {
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            entry = reader.next() => {
                assert_eq!(entry.unwrap().position, read);
                read = read.next();
            }
        }
    }
}

async fn submitters_at_once_keep_their_own_order(journal: &Journal) {
    let (submitters, each) = (16_u16, 50_u16);
    let from: Vec<_> = (0..2).map(|p| journal.bounds(PartitionId(p)).next).collect();
    let mut tasks = JoinSet::new();
    for submitter in 0..submitters {
        let journal = journal.clone();
        tasks.spawn(async move {
            let mut last = None;
            for number in 0..each {
                let payload = [submitter.to_le_bytes(), number.to_le_bytes()].concat();
                let pending =
                    journal.submit(PartitionId(submitter % 2), record(payload)).await.unwrap();
                let position = pending.await.unwrap();
                assert!(Some(position) > last, "an answer out of order");
                last = Some(position);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let mut numbers = vec![0; usize::from(submitters)];
    for (partition, from) in from.into_iter().enumerate() {
        let partition = PartitionId(u16::try_from(partition).unwrap());
        let end = journal.bounds(partition).next;
        let mut reader = journal.reader(partition, from).unwrap();
        while reader.position() < end {
            let entry = reader.next().await.unwrap();
            let submitter = u16::from_le_bytes(entry.payload[..2].try_into().unwrap());
            let number = u16::from_le_bytes(entry.payload[2..].try_into().unwrap());
            assert_eq!(submitter % 2, partition.0);
            assert_eq!(number, numbers[usize::from(submitter)]);
            numbers[usize::from(submitter)] += 1;
        }
    }
    assert!(numbers.iter().all(|&count| count == each), "{numbers:?}");
}

async fn what_cannot_be_is_refused(journal: &Journal) {
    let none = PartitionId(journal.partitions());
    let error = journal.submit(none, record("x")).await.unwrap_err();
    assert!(matches!(error, AppendError::NoSuchPartition { .. }), "{error}");
    let error = journal.reader(none, Position(0)).unwrap_err();
    assert!(matches!(error, ReadError::NoSuchPartition { .. }), "{error}");
    let ahead = journal.bounds(P0).next.next();
    let error = journal.reader(P0, ahead).unwrap_err();
    assert!(matches!(error, ReadError::Ahead { position, .. } if position == ahead), "{error}");
}

async fn a_closed_journal_says_so(journal: &Journal) {
    let error = journal.submit(P0, record("x")).await.unwrap_err();
    assert!(matches!(error, AppendError::Closed), "{error}");
    let mut reader = journal.reader(P0, journal.bounds(P0).next).unwrap();
    let error = reader.next().await.unwrap_err();
    assert!(matches!(error, ReadError::Closed), "{error}");
    journal.close().await;
}

async fn all_is_there_after_opening_again(reopen: &impl AsyncFn() -> Journal) {
    let mut last = None;
    for round in 0_u8..4 {
        let journal = reopen().await;
        if let Some((position, bounds)) = last {
            assert_eq!(journal.bounds(P0), bounds);
            let mut reader = journal.reader(P0, position).unwrap();
            assert_eq!(&reader.next().await.unwrap().payload[..], [round - 1]);
        }
        let position = append(&journal, P0, &[round]).await;
        last = Some((position, journal.bounds(P0)));
        journal.close().await;
    }
}
