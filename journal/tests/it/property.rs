//! Random appends, openings, torn tails and flipped bytes against a model that
//! knows the stored format but none of the journal's code.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use journal::{AppendError, Journal, ReadError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use schema::{PartitionId, Position};

use crate::support::{frames_of, open, options, read_all, record, segment_files};

const PARTITIONS: u16 = 3;
const RUNS: u64 = 24;
const STEPS: u32 = 40;

#[tokio::test]
async fn holds_what_the_model_holds() {
    let first: u64 = match std::env::var("JOURNAL_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => rand::random::<u64>() >> 8,
    };
    for seed in first..first + RUNS {
        eprintln!("JOURNAL_SEED={seed}");
        run(seed).await;
    }
}

struct Run {
    random: StdRng,
    dir: tempfile::TempDir,
    journal: Option<Journal>,
    model: Vec<Vec<Bytes>>,
}

async fn run(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run {
        random: StdRng::seed_from_u64(seed),
        journal: Some(open(options(dir.path()))),
        dir,
        model: vec![Vec::new(); usize::from(PARTITIONS)],
    };
    for step in 0..STEPS {
        let action = run.random.random_range(0..10);
        eprintln!("step {step}: action {action}");
        match action {
            0..=5 => run.append().await,
            6 => run.reopen().await,
            7 => run.tear().await,
            8 => run.flip().await,
            _ => run.read_from_anywhere().await,
        }
        run.compare();
    }
}

impl Run {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().unwrap()
    }

    async fn close(&mut self) {
        self.journal.take().unwrap().close().await;
    }

    fn open(&mut self) {
        self.journal = Some(open(options(self.path())));
    }

    async fn append(&mut self) {
        let mut pending = Vec::new();
        for _ in 0..self.random.random_range(1..12) {
            let partition = self.random.random_range(0..PARTITIONS);
            let length = match self.random.random_range(0..4) {
                0 => 0,
                1 => self.random.random_range(1..100),
                2 => self.random.random_range(100..5_000),
                _ => self.random.random_range(3_900..4_200),
            };
            let mut payload = vec![0; length];
            self.random.fill(&mut payload[..]);
            let payload = Bytes::from(payload);
            let submitted = self.journal().submit(PartitionId(partition), record(payload.clone()));
            let submitted = submitted.await.unwrap();
            let expected = &mut self.model[usize::from(partition)];
            pending.push((submitted, Position(expected.len() as u64)));
            expected.push(payload);
            if self.random.random_bool(0.3) {
                let (pending, position) = pending.pop().unwrap();
                assert_eq!(pending.await.unwrap(), position);
            }
        }
        for (pending, position) in pending {
            assert_eq!(pending.await.unwrap(), position);
        }
    }

    async fn reopen(&mut self) {
        self.close().await;
        self.open();
        assert!(self.journal().status().is_healthy());
    }

    /// The disk lost all from some byte of the last segment on.
    async fn tear(&mut self) {
        self.close().await;
        // Only a segment that is still written can be torn: a sealed one was synced.
        let last = segment_files(self.path()).pop();
        if let Some(last) = last.filter(|last| !last.with_extension("index").exists()) {
            let bytes = fs::read(&last).unwrap();
            let at = self.random.random_range(0..=bytes.len());
            let mut left = bytes[..at].to_vec();
            if self.random.random_bool(0.3) {
                left.resize(bytes.len(), 0);
            }
            eprintln!("torn at byte {at} of {}, {} left", last.display(), left.len());
            let lost = frames_of(&bytes).into_iter().filter(|frame| frame.end > at);
            for frame in lost {
                let whole = left.get(frame.start..frame.end) == bytes.get(frame.start..frame.end);
                let payloads = &mut self.model[usize::from(frame.partition)];
                let position = usize::try_from(frame.position).unwrap();
                // Zeros that were zeros before are no loss.
                if !whole {
                    payloads.truncate(position.min(payloads.len()));
                }
            }
            fs::write(&last, left).unwrap();
        }
        self.open();
        assert!(self.journal().status().is_healthy(), "{:?}", self.journal().status());
    }

    /// A byte of any segment is another one; later somebody puts it right.
    async fn flip(&mut self) {
        self.close().await;
        let segments = segment_files(self.path());
        if segments.is_empty() {
            return self.open();
        }
        let segment = &segments[self.random.random_range(0..segments.len())];
        let mut bytes = fs::read(segment).unwrap();
        let frames = frames_of(&bytes);
        let at = self.random.random_range(0..bytes.len());
        let hit = frames.iter().find(|frame| (frame.start..frame.end).contains(&at)).copied();
        let original = bytes[at];
        bytes[at] ^= 1 << self.random.random_range(0..8);
        fs::write(segment, &bytes).unwrap();
        eprintln!("byte {at} of {} flipped, in {hit:?}", segment.display());
        self.open();
        for partition in 0..PARTITIONS {
            let id = PartitionId(partition);
            let expected = &self.model[usize::from(partition)];
            let (entries, error) = read_all(self.journal(), id);
            let payloads: Vec<_> = entries.into_iter().map(|entry| entry.payload).collect();
            match hit.filter(|frame| frame.partition == partition) {
                Some(frame) => {
                    let position = usize::try_from(frame.position).unwrap();
                    assert_eq!(payloads, expected[..position]);
                    let Some(ReadError::Corrupt(corruption)) = error else { panic!("{error:?}") };
                    assert_eq!(corruption.position, Position(frame.position));
                    assert_eq!(corruption.offset, frame.start as u64);
                    assert_eq!(&corruption.segment, segment);
                    let error = self.journal().submit(id, record("x")).await.unwrap_err();
                    assert!(matches!(error, AppendError::PartitionStopped(_)), "{error}");
                }
                None => {
                    assert_eq!(payloads, *expected);
                    assert!(error.is_none(), "{error:?}");
                    let payload = Bytes::from_static(b"goes on");
                    let pending = self.journal().submit(id, record(payload.clone())).await.unwrap();
                    pending.await.unwrap();
                    self.model[usize::from(partition)].push(payload);
                }
            }
        }
        self.close().await;
        // It may have been written behind the flipped byte in the meantime.
        let mut bytes = fs::read(segment).unwrap();
        if hit.is_some() || at < 8_192 {
            bytes[at] = original;
            fs::write(segment, bytes).unwrap();
        }
        let _ = fs::remove_file(segment.with_extension("index"));
        self.open();
        assert!(self.journal().status().is_healthy(), "{:?}", self.journal().status());
    }

    async fn read_from_anywhere(&mut self) {
        let partition = self.random.random_range(0..PARTITIONS);
        let expected = &self.model[usize::from(partition)];
        let from = self.random.random_range(0..=expected.len());
        let mut reader =
            self.journal().reader(PartitionId(partition), Position(from as u64)).unwrap();
        for payload in &expected[from..] {
            assert_eq!(reader.next().await.unwrap().payload, payload);
        }
        assert_eq!(reader.try_next().unwrap(), None);
    }

    fn compare(&self) {
        for partition in 0..PARTITIONS {
            let expected = &self.model[usize::from(partition)];
            let (entries, error) = read_all(self.journal(), PartitionId(partition));
            assert!(error.is_none(), "{error:?}");
            let payloads: Vec<_> = entries.into_iter().map(|entry| entry.payload).collect();
            assert!(payloads == *expected, "partition {partition}");
        }
    }
}
