//! The history in PostgreSQL: readings in one table, by series and time, in
//! native partitions of a week.
//!
//! A writer gathers the rows of its partition for a moment; a few threads bring
//! what is gathered into the table by binary COPY, with the position in the
//! journal in the same transaction. The journal is what a crash falls back to,
//! as with the embedded history. Queries see rows once they are committed.

mod copy;
mod gather;
mod query;
mod scan;
mod weeks;
mod writer;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::Registry;
use schema::{PartitionId, Position, TenantId};
use tokio::sync::Notify;

use self::gather::{Gathered, SeriesTable};
use super::HistoryError;
use super::metrics::PostgresMetrics;
use super::options::{DAY_MS, HistoryOptions};
use crate::sql::{Database, PostgresOptions, Readers, params};

pub(super) use query::{aggregate, keys, latest, range};
pub(super) use scan::TableView;

/// Drops and deletes what has expired; how many weeks were dropped.
pub(super) fn expire(tables: &Tables) -> Result<usize, HistoryError> {
    let (_, weeks) = weeks::expire(tables)?;
    Ok(usize::try_from(weeks).unwrap_or(usize::MAX))
}

const MIGRATIONS: &[&str] =
    &[include_str!("../../../../schema/migrations/postgres/history/0001-readings.sql")];

/// Threads that bring rows into the table, each with a connection of its own.
const COPIERS: usize = 2;

/// How long rows are gathered, so that many share a transaction.
const GATHER_MS: u64 = 100;

/// Rows of a partition at which they are brought in at once.
const FULL_ROWS: usize = 50_000;

/// Rows and bytes of texts of a partition at which its writer waits.
pub(super) const MAX_GATHERED_ROWS: usize = 200_000;
pub(super) const MAX_GATHERED_BYTES: usize = 64 << 20;

/// How often a position that came without rows is written.
const POSITION_MS: u64 = 1_000;

/// How often it is looked for what has expired.
const RETENTION_CHECK: Duration = Duration::from_secs(600);

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Tables {
    pub options: HistoryOptions,
    database: Arc<Database>,
    pub readers: Readers,
    partitions: Vec<Partition>,
    retention_days: RwLock<HashMap<TenantId, u32>>,
    pub metrics: PostgresMetrics,
    /// Wakes the copiers.
    work: Mutex<Wanted>,
    wanted: Condvar,
    ended: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Wanted {
    /// Everything at once, however little it is.
    flush: bool,
}

#[derive(Debug)]
struct Partition {
    state: Mutex<State>,
    /// Whenever rows were brought in.
    changed: Condvar,
    room: Notify,
}

#[derive(Debug)]
struct State {
    has_writer: bool,
    /// Of the claim; 0 before it.
    epoch: u64,
    /// Another node has claimed the partition since.
    fenced: bool,
    /// The next record that the writer takes.
    next: Position,
    /// All records before it are in the table.
    durable: Position,
    gathered: Gathered,
    series: SeriesTable,
    /// With a copier just now.
    in_flight: bool,
    /// Since when something waits.
    since: Option<Instant>,
}

impl Partition {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.gathered.rows() >= MAX_GATHERED_ROWS || self.gathered.bytes() >= MAX_GATHERED_BYTES
    }
}

impl Tables {
    /// Opens the tables. Blocks; on a thread of a tokio runtime.
    pub fn open(
        options: &PostgresOptions,
        partitions: u16,
        history: HistoryOptions,
        registry: &Registry,
    ) -> Result<Arc<Self>, HistoryError> {
        let database = Database::schema(options, "baken_history", MIGRATIONS);
        let session = database.open()?;
        session.execute(
            "INSERT INTO layout (id, partitions) VALUES (1, ?1) ON CONFLICT (id) DO NOTHING",
            [partitions],
        )?;
        let known = session.query_row("SELECT partitions FROM layout", [], |row| row.get(0))?;
        if known != partitions {
            return Err(HistoryError::Partitions { known, asked: partitions });
        }
        session.execute(
            "INSERT INTO positions (partition, epoch, position)
             SELECT n, 0, 0 FROM generate_series(0, CAST(?1 AS BIGINT) - 1) AS n
             ON CONFLICT (partition) DO NOTHING",
            [partitions],
        )?;
        let metrics = PostgresMetrics::new(registry, partitions);
        let readers = Readers::new(
            Arc::clone(&database),
            history.concurrent_queries.max(1),
            history.concurrent_queries.max(1),
        );
        let partition = |_| Partition {
            state: Mutex::new(State {
                has_writer: false,
                epoch: 0,
                fenced: false,
                next: Position(0),
                durable: Position(0),
                gathered: Gathered::default(),
                series: SeriesTable::default(),
                in_flight: false,
                since: None,
            }),
            changed: Condvar::new(),
            room: Notify::new(),
        };
        let tables = Arc::new(Self {
            options: history,
            database,
            readers,
            partitions: (0..partitions).map(partition).collect(),
            retention_days: RwLock::default(),
            metrics,
            work: Mutex::default(),
            wanted: Condvar::new(),
            ended: AtomicBool::new(false),
            threads: Mutex::default(),
        });
        for partition in 0..partitions {
            tables.claim(PartitionId(partition))?;
        }
        tables.start()?;
        Ok(tables)
    }

    fn start(self: &Arc<Self>) -> Result<(), HistoryError> {
        let mut threads = Vec::new();
        let spawn = |name: String, work: fn(&Self)| {
            let tables = Arc::clone(self);
            let thread = std::thread::Builder::new().name(name).spawn(move || work(&tables));
            thread.map_err(|error| HistoryError::Manifest(crate::SqlError::Runtime(error)))
        };
        for number in 0..COPIERS {
            threads.push(spawn(format!("history-{number}"), copy::run)?);
        }
        threads.push(spawn("history-age".to_owned(), weeks::run)?);
        *self.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        Ok(())
    }

    /// Takes a partition over: its former owner's commits fail from now on.
    /// Blocks.
    pub fn claim(&self, partition: PartitionId) -> Result<(), HistoryError> {
        let held = self.partition(partition)?;
        let (epoch, position) = self.readers.run(|sql| {
            sql.query_row(
                "UPDATE positions SET epoch = epoch + 1 WHERE partition = ?1
                 RETURNING epoch, position",
                params![partition.0],
                |row| Ok((row.get(0)?, Position(row.get(1)?))),
            )
            .map_err(HistoryError::from)
        })?;
        let mut state = held.state();
        (state.epoch, state.fenced) = (epoch, false);
        (state.next, state.durable) = (position, position);
        state.gathered = Gathered::default();
        Ok(())
    }

    fn partition(&self, partition: PartitionId) -> Result<&Partition, HistoryError> {
        let known = u16::try_from(self.partitions.len()).unwrap_or(u16::MAX);
        let found = self.partitions.get(usize::from(partition.0));
        found.ok_or(HistoryError::Partition { asked: partition, known })
    }

    pub fn durable_position(&self, partition: PartitionId) -> Position {
        self.partition(partition).map_or(Position(0), |partition| partition.state().durable)
    }

    pub fn set_retention(&self, tenant: TenantId, days: u32) {
        let mut retention = self.retention_days.write().unwrap_or_else(PoisonError::into_inner);
        retention.insert(tenant, days);
    }

    /// What is older is neither shown nor kept.
    fn cutoff(&self, tenant: TenantId) -> i64 {
        let days = self.retention_days.read().unwrap_or_else(PoisonError::into_inner);
        match days.get(&tenant) {
            None | Some(0) => i64::MIN,
            Some(days) => self.options.clock.now().0.saturating_sub(i64::from(*days) * DAY_MS),
        }
    }

    /// Waits until all that was written is in the table. Blocks.
    pub fn flush(&self) -> Result<(), HistoryError> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).flush = true;
        self.wanted.notify_all();
        for (number, partition) in (0..).zip(&self.partitions) {
            let mut state = partition.state();
            let target = state.next;
            while state.durable < target && state.has_something() {
                if self.ended.load(Ordering::Relaxed) {
                    return Err(HistoryError::Closed);
                }
                if state.fenced {
                    return Err(HistoryError::Fenced(PartitionId(number)));
                }
                let wait = Duration::from_millis(100);
                let waited = partition.changed.wait_timeout(state, wait);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                self.work.lock().unwrap_or_else(PoisonError::into_inner).flush = true;
                self.wanted.notify_all();
            }
        }
        Ok(())
    }

    /// Ends the threads; what is not in the table the journal still has. Blocks.
    pub fn halt(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.wanted.notify_all();
        let threads = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *threads)
        };
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the history failed");
            }
        }
        for partition in &self.partitions {
            partition.changed.notify_all();
            partition.room.notify_waiters();
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

impl State {
    /// Whether the table lags behind the writer.
    fn has_something(&self) -> bool {
        self.in_flight || self.next > self.durable
    }
}
