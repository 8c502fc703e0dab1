//! The history in PostgreSQL: tables of readings by series and time, which a
//! person, Grafana or any other program may read as well.
//!
//! Writers gather rows in memory; committers bring them into the database with
//! the position up to which the journal's records are there, in one
//! transaction. The journal holds what is not committed, so a process may end
//! at any moment. While PostgreSQL is away, writers wait and nothing is dropped.

mod aggregate;
mod commit;
mod copy;
mod link;
mod metrics;
mod options;
mod partition;
mod query;
mod scan;
mod series;
mod setup;
mod shared;
mod spans;
mod time;
mod timescale;
mod upkeep;
mod values;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::Registry;
use schema::{DeviceId, PartitionId, Position, RecordRows, TenantId};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use self::commit::Committer;
use self::link::{Lease, Link, Pool};
use self::metrics::Metrics;
use self::partition::{Ended, Partition};
use self::shared::Shared;
use super::reading::{AggregateQuery, Bucket, Page, RangeQuery, Reading};
use super::{HistoryError, ScanQuery};
use crate::PostgresOptions;

pub use self::options::PostgresHistoryOptions;
pub use self::scan::PostgresView;

/// Threads that encode and send rows, and drive all connections.
const THREADS: usize = 2;

/// The history in PostgreSQL; clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct PostgresHistory {
    shared: Arc<Shared>,
    tasks: Arc<Tasks>,
}

/// Takes the records of one partition, in order.
#[derive(Debug)]
pub struct PostgresWriter {
    shared: Arc<Shared>,
    partition: PartitionId,
    epoch: i64,
}

/// What runs for the history. Dropped, it ends as well, without waiting.
#[derive(Debug)]
struct Tasks {
    shared: Arc<Shared>,
    running: Mutex<JoinSet<()>>,
    runtime: Mutex<Option<Runtime>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.shared.close();
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl PostgresHistory {
    /// See [`super::History::open_postgres`].
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn open(
        server: &PostgresOptions,
        partitions: u16,
        options: &PostgresHistoryOptions,
        registry: &Registry,
    ) -> Result<Self, HistoryError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("history")
            .enable_all()
            .build()
            .map_err(|error| HistoryError::Postgres(crate::SqlError::Runtime(error)))?;
        let handle = runtime.handle().clone();
        let opened = Self::open_on(handle, server, partitions, options, registry).await;
        match opened {
            Ok(shared) => {
                let mut running = JoinSet::new();
                for _ in 0..options.write_connections.max(1) {
                    running.spawn_on(Committer::new(shared.clone()).run(), runtime.handle());
                }
                running.spawn_on(upkeep::run(shared.clone()), runtime.handle());
                let (running, runtime) = (Mutex::new(running), Mutex::new(Some(runtime)));
                let tasks = Tasks { shared: shared.clone(), running, runtime };
                Ok(Self { shared, tasks: Arc::new(tasks) })
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    async fn open_on(
        runtime: tokio::runtime::Handle,
        server: &PostgresOptions,
        partitions: u16,
        options: &PostgresHistoryOptions,
        registry: &Registry,
    ) -> Result<Arc<Shared>, HistoryError> {
        let mut link = Link::connect(server, &runtime).await?;
        let found = setup::setup(&mut link.client, partitions, options).await?;
        let spans = spans::Spans::load(&link.client).await?;
        let pool = Pool::new(server.clone(), runtime, options.read_connections);
        let metrics = Metrics::new(registry, options);
        let shared = Shared::new(
            server.clone(),
            options.clone(),
            &found.positions,
            pool,
            found.is_timescale,
            metrics,
        );
        shared.set_spans(Arc::new(spans));
        Ok(Arc::new(shared))
    }

    /// See [`super::History::writer`].
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn writer(&self, partition: PartitionId) -> Result<PostgresWriter, HistoryError> {
        let known = self.shared.partition(partition)?;
        {
            let mut state = known.state();
            if std::mem::replace(&mut state.has_writer, true) {
                return Err(HistoryError::WriterTaken(partition));
            }
        }
        // From here on dropping it frees the place.
        let mut writer = PostgresWriter { shared: self.shared.clone(), partition, epoch: -1 };
        // What a former writer has left comes again from the journal.
        known.state().ended.get_or_insert(Ended::Closed);
        known.until(|state| !state.is_committing).await;
        let claim = "UPDATE positions SET epoch = epoch + 1 WHERE partition = $1
                     RETURNING position, epoch";
        let mut lease = self.shared.pool.lease().await?;
        let row = lease.link().client.query_one(claim, &[&i32::from(partition.0)]).await?;
        lease.done();
        let position: i64 = row.try_get(0)?;
        writer.epoch = row.try_get(1)?;
        let mut state = known.state();
        state.begin(Position(position.cast_unsigned()), writer.epoch);
        if self.shared.is_closed() {
            state.ended = Some(Ended::Closed);
            drop(state);
            return Err(HistoryError::Closed);
        }
        drop(state);
        Ok(writer)
    }

    /// See [`super::History::durable_position`].
    #[must_use]
    pub fn durable_position(&self, partition: PartitionId) -> Position {
        self.shared.partition(partition).map_or(Position(0), |known| known.state().durable)
    }

    /// See [`super::History::latest`].
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn latest(
        &self,
        device: DeviceId,
        keys: Option<Vec<String>>,
    ) -> Result<Vec<Reading>, HistoryError> {
        let mut asked = self.asked("latest").await?;
        let answer = query::latest(&self.shared, asked.lease.link(), device, keys.as_deref()).await;
        asked.answered(answer)
    }

    /// See [`super::History::range`].
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn range(&self, query: RangeQuery) -> Result<Page, HistoryError> {
        let mut asked = self.asked("range").await?;
        let answer = query::range(&self.shared, asked.lease.link(), &query).await;
        asked.answered(answer)
    }

    /// See [`super::History::aggregate`].
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn aggregate(&self, query: AggregateQuery) -> Result<Vec<Bucket>, HistoryError> {
        let mut asked = self.asked("aggregate").await?;
        let answer = aggregate::aggregate(&self.shared, asked.lease.link(), &query).await;
        asked.answered(answer)
    }

    /// See [`super::History::keys`].
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn keys(&self, device: DeviceId) -> Result<Vec<String>, HistoryError> {
        let mut asked = self.asked("keys").await?;
        let answer = query::keys(asked.lease.link(), device).await;
        asked.answered(answer)
    }

    /// See [`super::History::view`].
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn view<K: Send + Sync + 'static>(
        &self,
        query: ScanQuery<K>,
    ) -> Result<PostgresView<K>, HistoryError> {
        let mut asked = self.asked("view").await?;
        let answer = scan::view(self.shared.clone(), asked.lease.link(), query).await;
        asked.answered(answer)
    }

    /// See [`super::History::set_retention`].
    pub fn set_retention(&self, tenant: TenantId, days: u32) {
        self.shared.set_retention(tenant, days);
    }

    /// See [`super::History::flush`].
    ///
    /// # Errors
    /// [`HistoryError::Background`].
    pub async fn flush(&self) -> Result<(), HistoryError> {
        let mut targets = Vec::new();
        for partition in &self.shared.partitions {
            let mut state = partition.state();
            if state.durable < state.next {
                state.is_wanted = true;
                targets.push((partition, state.next));
            }
        }
        self.shared.gathered.notify_one();
        let mut result = Ok(());
        for (partition, target) in targets {
            let reached = self.reached(partition, target).await;
            result = result.and(reached);
        }
        result
    }

    /// See [`super::History::settled`].
    pub async fn settled(&self) {
        let mut pause = Duration::from_millis(self.shared.options.retry_min_ms.max(1));
        let longest = Duration::from_millis(self.shared.options.retry_max_ms.max(1));
        // Those that tried it have logged why it failed.
        while self.flush().await.is_err_and(|error| error.is_retryable()) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn reached(&self, partition: &Partition, target: Position) -> Result<(), HistoryError> {
        let mut result = Ok(());
        partition
            .until(|state| {
                if state.durable >= target {
                    return true;
                }
                if let Some(ended) = state.ended {
                    result = Err(partition.why(ended, state));
                    return true;
                }
                if let Some(failed) = &state.failed {
                    result = Err(HistoryError::Background(failed.clone()));
                    return true;
                }
                // A batch that was on its way took the wish with it.
                if !state.is_committing {
                    state.is_wanted = true;
                    self.shared.gathered.notify_one();
                }
                false
            })
            .await;
        result
    }

    /// Removes what has expired; gives the number of pieces of work.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn compact(&self) -> Result<usize, HistoryError> {
        upkeep::all(&self.shared).await
    }

    /// See [`super::History::halt`].
    pub async fn halt(&self) {
        self.shared.close();
        let mut running = {
            let mut running = self.tasks.running.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *running)
        };
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the history in PostgreSQL failed");
            }
        }
    }

    /// A connection to ask. Dropped before the answer, it is cancelled.
    async fn asked(&self, kind: &'static str) -> Result<Asked<'_>, HistoryError> {
        let started = Instant::now();
        let lease = self.shared.pool.lease().await?;
        self.shared.metrics.questions.inc();
        Ok(Asked { lease, kind, started, gauge: Counted(&self.shared.metrics) })
    }
}

/// A question on its way.
struct Asked<'a> {
    lease: Lease,
    kind: &'static str,
    started: Instant,
    gauge: Counted<'a>,
}

/// Counts a question while it is being answered.
struct Counted<'a>(&'a Metrics);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.questions.dec();
    }
}

impl Asked<'_> {
    /// Gives the connection back with the answer.
    fn answered<T>(self, answer: Result<T, HistoryError>) -> Result<T, HistoryError> {
        self.lease.done();
        let seconds = self.started.elapsed().as_secs_f64();
        self.gauge.0.query_seconds.with_label_values(&[self.kind]).observe(seconds);
        answer
    }
}

impl PostgresWriter {
    /// See [`super::HistoryWriter::position`].
    #[must_use]
    pub fn position(&self) -> Position {
        self.partition().state().next
    }

    /// See [`super::HistoryWriter::ready`].
    pub async fn ready(&self) {
        self.partition().until(|state| state.has_room(&self.shared.options)).await;
    }

    /// See [`super::HistoryWriter::write`].
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn write(&mut self, position: Position, rows: &RecordRows) -> Result<(), HistoryError> {
        let Shared { options, metrics, gathered, .. } = &*self.shared;
        let taken = self.partition().write(self.epoch, position, rows, options)?;
        metrics.rows.inc_by(taken.rows);
        metrics.series.add(i64::try_from(taken.new_series).unwrap_or(i64::MAX));
        metrics.blocked.inc_by(u64::from(taken.waited));
        if taken.wakes {
            gathered.notify_one();
        }
        Ok(())
    }

    /// See [`super::HistoryWriter::advance`].
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn advance(&mut self, next: Position) -> Result<(), HistoryError> {
        if self.partition().advance(self.epoch, next)? {
            self.shared.gathered.notify_one();
        }
        Ok(())
    }

    fn partition(&self) -> &Partition {
        &self.shared.partitions[usize::from(self.partition.0)]
    }
}

impl Drop for PostgresWriter {
    fn drop(&mut self) {
        self.partition().state().has_writer = false;
    }
}
