//! Killed at any moment, nothing that was acknowledged is missing.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rand::{Rng, SeedableRng};
use schema::{PartitionId, Position};
use tokio::task::JoinSet;

use crate::support::{open, options, read_all, record};

const DIR: &str = "JOURNAL_KILL_DIR";
const SUBMITTERS: u16 = 8;
const KILLS: u64 = 12;

/// Appends `rounds` times from each of some submitters, and prints each
/// position once it is acknowledged.
async fn append_and_print(dir: &Path, rounds: u64) -> u64 {
    let journal = open(options(dir));
    let mut tasks = JoinSet::new();
    for submitter in 0..SUBMITTERS {
        let journal = journal.clone();
        tasks.spawn(async move {
            let partition = PartitionId(submitter % 3);
            let mut appended = 0;
            for round in 0..rounds {
                let length = usize::try_from(round * 37 % 2_000).unwrap();
                let payload = vec![u8::try_from(submitter).unwrap(); length];
                let pending = journal.submit(partition, record(payload)).await.unwrap();
                let position = pending.await.unwrap();
                let line = format!("acknowledged {} {position} {length}\n", partition.0);
                // One write, so that lines of two tasks never mix.
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                appended += 1;
            }
            appended
        });
    }
    let mut appended = 0;
    while let Some(done) = tasks.join_next().await {
        appended += done.unwrap();
    }
    appended
}

/// The child of the test below; run by itself it appends to a folder of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appender() {
    match std::env::var_os(DIR) {
        Some(dir) => {
            append_and_print(Path::new(&dir), u64::MAX).await;
        }
        None => {
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(append_and_print(dir.path(), 5).await, u64::from(SUBMITTERS) * 5);
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<Vec<Option<usize>>> = vec![Vec::new(); 3];
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::appender", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let before_kill = random.random_range(1..200);
        let mut seen = 0;
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 0 {
            if let Some((partition, position, length)) = parse(&line) {
                let positions = &mut acknowledged[partition];
                if positions.len() <= position {
                    positions.resize(position + 1, None);
                }
                assert_eq!(positions[position].replace(length), None, "a position given twice");
                seen += 1;
                if seen == before_kill {
                    child.kill().unwrap();
                }
            }
            line.clear();
        }
        child.wait().unwrap();
        assert!(seen >= before_kill, "kill {kill}: the child ended by itself");
        // A position that was not acknowledged may be there and stays there.
        let journal = open(options(dir.path()));
        assert!(journal.status().is_healthy(), "{:?}", journal.status());
        for (partition, positions) in acknowledged.iter().enumerate() {
            let partition = PartitionId(u16::try_from(partition).unwrap());
            let (entries, error) = read_all(&journal, partition);
            assert!(error.is_none(), "{error:?}");
            for (position, length) in positions.iter().enumerate() {
                let Some(length) = length else { continue };
                let entry = entries.get(position).expect("an acknowledged record is missing");
                assert_eq!(entry.position, Position(position as u64));
                assert_eq!(entry.payload.len(), *length);
            }
        }
    }
}

/// Partition, position and length of a whole line.
fn parse(line: &str) -> Option<(usize, usize, usize)> {
    let (_, numbers) = line.strip_suffix('\n')?.split_once("acknowledged ")?;
    let mut numbers = numbers.split(' ').map(|number| number.parse().unwrap());
    Some((numbers.next()?, numbers.next()?, numbers.next()?))
}
