//! Records, folders and waiting.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use journal::{EmbeddedOptions, Entry, Journal, OpenError, ReadError};
use schema::{PartitionId, Position, Record, RecordKind};

pub const P0: PartitionId = PartitionId(0);
pub const P1: PartitionId = PartitionId(1);

/// Small enough to be crossed all the time.
pub fn options(dir: &Path) -> EmbeddedOptions {
    EmbeddedOptions {
        dir: dir.to_owned(),
        partitions: 3,
        segment_bytes: 32 << 10,
        queue_bytes: 1 << 20,
        group_bytes: 16 << 10,
        record_bytes: 64 << 10,
        tail_bytes: 24 << 10,
        read_ahead_bytes: 16 << 10,
        reserve_bytes: 0,
        retry_min_ms: 1,
        retry_max_ms: 10,
        ..EmbeddedOptions::default()
    }
}

pub fn try_open(options: EmbeddedOptions) -> Result<Journal, OpenError> {
    Journal::open_embedded(options, &prometheus::Registry::new())
}

pub fn open(options: EmbeddedOptions) -> Journal {
    try_open(options).unwrap()
}

pub fn record(payload: impl Into<Bytes>) -> Record {
    Record { kind: RecordKind::Readings, rows: 1, payload: payload.into(), decoded: None }
}

/// Appends one record and waits until it is durable.
pub async fn append(journal: &Journal, partition: PartitionId, payload: &[u8]) -> Position {
    let record = record(payload.to_vec());
    journal.submit(partition, record).await.unwrap().await.unwrap()
}

/// All that can be read of a partition, and why it ends if not at its end.
pub fn read_all(journal: &Journal, partition: PartitionId) -> (Vec<Entry>, Option<ReadError>) {
    let bounds = journal.bounds(partition);
    let mut reader = journal.reader(partition, bounds.oldest).unwrap();
    let mut entries = Vec::new();
    while reader.position() < bounds.next {
        match reader.try_next() {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => panic!("no entry at {} of {bounds:?}", reader.position()),
            Err(error) => return (entries, Some(error)),
        }
    }
    (entries, None)
}

/// All of a partition, which must be whole.
pub fn read_whole(journal: &Journal, partition: PartitionId) -> Vec<Entry> {
    let (entries, error) = read_all(journal, partition);
    assert!(error.is_none(), "{error:?}");
    entries
}

/// The segments of a folder, oldest first.
pub fn segment_files(dir: &Path) -> Vec<PathBuf> {
    files(dir, "segment")
}

pub fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

/// Waits until `condition` holds; generous, since it says nothing about speed.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A frame as this file reads the stored format, with no code of the journal's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameAt {
    pub partition: u16,
    pub position: u64,
    pub start: usize,
    pub end: usize,
}

/// The frames of a whole segment.
pub fn frames_of(bytes: &[u8]) -> Vec<FrameAt> {
    let number = |at: usize, len: usize| {
        let mut eight = [0; 8];
        eight[..len].copy_from_slice(&bytes[at..at + len]);
        u64::from_le_bytes(eight)
    };
    let mut frames = Vec::new();
    let mut at = 8_192;
    while at + 64 <= bytes.len() {
        if bytes[at..at + 4] != *b"BKNf" {
            // A group whose end was torn off ends without saying so.
            if at.is_multiple_of(4_096) {
                break;
            }
            at = at.next_multiple_of(4_096);
            continue;
        }
        let end = at + 64 + usize::try_from(number(at + 12, 4)).unwrap();
        let partition = u16::try_from(number(at + 16, 2)).unwrap();
        if partition != u16::MAX {
            frames.push(FrameAt { partition, position: number(at + 24, 8), start: at, end });
        }
        at = if bytes[at + 58] == 1 { end.next_multiple_of(4_096) } else { end };
    }
    frames
}
