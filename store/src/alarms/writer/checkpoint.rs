//! Brings what is committed from the write-ahead file into `alarms.db`, beside
//! the writer.
//!
//! SQLite would do so within a commit as soon as the file has 1,000 pages. Under
//! a load of alarms that is each fifteenth commit, and it takes several times as
//! long as a commit: every worker waits for it. Here a thread of its own does it
//! and the writer goes on. It never writes anything that was not committed.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use crate::sql::{SqlError, sqlite};

/// The write-ahead file begins anew only when all of it was brought over, which
/// the thread rarely sees while commits go on. At this size a commit does what is
/// left, so that the file stays small: a start after a crash reads all of it.
const MAX_PAGES: u32 = 4_096;

/// Commits after which it is worth the while.
const EVERY_COMMITS: u32 = 16;

/// The handle on the thread.
#[derive(Debug)]
pub(super) struct Checkpoints {
    commits: u32,
    wanted: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Checkpoints {
    /// Takes the checkpoints over from the writer's connection, as far as there
    /// is a file behind it.
    pub fn start(writer: &Connection) -> Result<Option<Self>, SqlError> {
        let Some(path) = writer.path().filter(|path| !path.is_empty()) else { return Ok(None) };
        let connection = sqlite::open_reader(Path::new(path))?;
        writer.pragma_update(None, "wal_autocheckpoint", MAX_PAGES)?;
        let (wanted, orders) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("alarm-files".to_owned())
            .spawn(move || run(&connection, &orders));
        match thread {
            Ok(thread) => Ok(Some(Self { commits: 0, wanted, thread })),
            Err(error) => {
                // The writer can do it too.
                tracing::warn!(%error, "the alarm store has no thread for its checkpoints");
                Ok(None)
            }
        }
    }

    /// A transaction is durable.
    pub fn committed(&mut self) {
        self.commits += 1;
        if self.commits >= EVERY_COMMITS {
            self.commits = 0;
            // Where one is wanted already, that one will do.
            let _ = self.wanted.try_send(());
        }
    }

    /// Ends the thread behind what it has in hand.
    pub fn close(self) {
        drop(self.wanted);
        if self.thread.join().is_err() {
            tracing::error!("the alarm store's checkpoints failed");
        }
    }
}

fn run(connection: &Connection, orders: &Receiver<()>) {
    while orders.recv().is_ok() {
        let done = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = done {
            // Nothing is lost: the write-ahead file has it, and the next one
            // brings it over.
            tracing::warn!(%error, "a checkpoint of the alarm store failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "CREATE TABLE a (x BLOB NOT NULL) STRICT;";

    fn bytes(path: &Path) -> u64 {
        std::fs::metadata(path).unwrap().len()
    }

    #[test]
    fn what_is_committed_comes_into_the_file_while_the_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let writer = sqlite::open(&path, &[TABLE]).unwrap();
        let mut checkpoints = Checkpoints::start(&writer).unwrap().unwrap();
        let insert = |rows: u32| {
            for _ in 0..rows {
                writer.execute("INSERT INTO a VALUES (zeroblob(4096))", []).unwrap();
            }
        };
        insert(EVERY_COMMITS - 1);
        (1..EVERY_COMMITS).for_each(|_| checkpoints.committed());
        let before = bytes(&path);
        insert(1);
        checkpoints.committed();
        checkpoints.close();
        let grown = bytes(&path) - before;
        assert!(grown >= u64::from(EVERY_COMMITS) * 4_096, "{grown} bytes, from {before}");
        // A transaction is under way: it neither waits for one nor hinders it.
        let mut checkpoints = Checkpoints::start(&writer).unwrap().unwrap();
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        insert(1);
        (0..EVERY_COMMITS).for_each(|_| checkpoints.committed());
        checkpoints.close();
        writer.execute_batch("COMMIT").unwrap();
        let rows: u32 = writer.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, EVERY_COMMITS + 1);
    }

    #[test]
    fn the_write_ahead_file_stays_small_without_the_thread_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let writer = sqlite::open(&path, &[TABLE]).unwrap();
        let checkpoints = Checkpoints::start(&writer).unwrap().unwrap();
        writer.pragma_update(None, "synchronous", "OFF").unwrap();
        for _ in 0..3 * MAX_PAGES {
            writer.execute("INSERT INTO a VALUES (zeroblob(1))", []).unwrap();
        }
        let ahead = bytes(&dir.path().join("a.db-wal"));
        assert!(ahead < u64::from(MAX_PAGES) * 3 / 2 * 4_120, "{ahead} bytes");
        checkpoints.close();
    }
}
