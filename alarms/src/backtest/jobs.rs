//! Backtests that run or have run, for who asks about them later: a bounded
//! number of each tenant, in memory only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge, Registry};
use schema::{TenantId, TimestampMs};
use store::Store;
use tokio::task::JoinSet;

use super::{BacktestError, BacktestOptions, BacktestQuery, Control, Outcome, Progress, backtest};

/// Backtests that one tenant may have running at once.
pub const MAX_RUNNING_PER_TENANT: usize = 2;

/// Backtests of all tenants that may run at once.
pub const MAX_RUNNING: usize = 8;

/// Backtests whose results are kept for a tenant; the oldest that has ended
/// makes room.
pub const MAX_KEPT_PER_TENANT: usize = 8;

/// Backtests that are running.
const RUNNING: &str = "baken_backtest_running_jobs";
/// The most that may run.
const RUNNING_LIMIT: &str = "baken_backtest_running_limit_jobs";
/// Backtests that are kept, running or not.
const KEPT: &str = "baken_backtest_kept_jobs";
/// Backtests that were refused because as many run as may.
const REFUSED: &str = "baken_backtest_refused_total";
/// Readings that backtests have evaluated.
const READINGS: &str = "baken_backtest_readings_total";
/// Backtests that ended without a result, those cancelled left out.
const FAILED: &str = "baken_backtest_failed_total";

/// A backtest's number; not used again while the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// What has become of a backtest.
#[derive(Clone, Debug)]
pub enum JobStatus {
    Running,
    Done(Arc<Outcome>),
    Failed(Arc<BacktestError>),
    Cancelled,
}

/// A backtest as it stands.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: JobId,
    pub tenant: TenantId,
    pub started_at: TimestampMs,
    pub progress: Progress,
    pub status: JobStatus,
}

/// As many backtests run as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{running} backtests are running, and at most {limit} may; cancel one, or wait")]
pub struct StartError {
    pub running: usize,
    pub limit: usize,
}

/// All backtests of a node. Clones are handles on the same ones.
#[derive(Clone, Debug)]
pub struct Backtests(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    options: BacktestOptions,
    jobs: Mutex<Jobs>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Jobs {
    next: u64,
    kept: BTreeMap<JobId, Kept>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Kept {
    tenant: TenantId,
    started_at: TimestampMs,
    control: Control,
    status: JobStatus,
}

#[derive(Clone, Debug)]
struct Metrics {
    running: IntGauge,
    kept: IntGauge,
    refused: IntCounter,
    readings: IntCounter,
    failed: IntCounter,
}

impl Metrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name, help| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        gauge(RUNNING_LIMIT, "Backtests that may run at once.")?
            .set(i64::try_from(MAX_RUNNING).unwrap_or(i64::MAX));
        Ok(Self {
            running: gauge(RUNNING, "Backtests that are running.")?,
            kept: gauge(KEPT, "Backtests that are kept, running or not.")?,
            refused: counter(REFUSED, "Backtests refused because too many run.")?,
            readings: counter(READINGS, "Readings evaluated by backtests.")?,
            failed: counter(FAILED, "Backtests that failed.")?,
        })
    }
}

impl Kept {
    fn is_running(&self) -> bool {
        matches!(self.status, JobStatus::Running)
    }

    fn shown(&self, id: JobId) -> Job {
        Job {
            id,
            tenant: self.tenant,
            started_at: self.started_at,
            progress: self.control.progress(),
            status: self.status.clone(),
        }
    }
}

impl Backtests {
    /// # Errors
    /// The metrics are registered already.
    pub fn new(
        store: Store,
        options: BacktestOptions,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::register(registry)?;
        Ok(Self(Arc::new(Shared { store, options, jobs: Mutex::default(), metrics })))
    }

    /// Starts a backtest; `now` stands as its start. Call it on a runtime.
    ///
    /// # Errors
    /// [`StartError`] where as many run as may.
    pub fn start(&self, query: BacktestQuery, now: TimestampMs) -> Result<Job, StartError> {
        let mut jobs = self.lock();
        while jobs.tasks.try_join_next().is_some() {}
        let running = jobs.kept.values().filter(|kept| kept.is_running());
        let of_tenant = running.clone().filter(|kept| kept.tenant == query.tenant).count();
        let limits = [(of_tenant, MAX_RUNNING_PER_TENANT), (running.count(), MAX_RUNNING)];
        if let Some((running, limit)) = limits.into_iter().find(|(count, limit)| count >= limit) {
            self.0.metrics.refused.inc();
            return Err(StartError { running, limit });
        }
        jobs.make_room(query.tenant);
        jobs.next += 1;
        let id = JobId(jobs.next);
        let control = Control::default();
        let (tenant, status) = (query.tenant, JobStatus::Running);
        let kept = Kept { tenant, started_at: now, control: control.clone(), status };
        let job = kept.shown(id);
        jobs.kept.insert(id, kept);
        self.measure(&jobs);
        let handle = self.clone();
        jobs.tasks.spawn(async move {
            let Shared { store, options, .. } = &*handle.0;
            let result = backtest(store, query, *options, &control).await;
            handle.ended(id, &control, result);
        });
        Ok(job)
    }

    /// A backtest, if it is known still.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<Job> {
        self.lock().kept.get(&id).map(|kept| kept.shown(id))
    }

    /// Cancels a backtest that runs, and forgets one that has ended. False
    /// where there is none.
    #[must_use]
    pub fn remove(&self, id: JobId) -> bool {
        let mut jobs = self.lock();
        let Some(kept) = jobs.kept.get_mut(&id) else { return false };
        if kept.is_running() {
            kept.control.cancel();
        } else {
            jobs.kept.remove(&id);
            self.measure(&jobs);
        }
        true
    }

    /// Cancels all that run and waits for their end, before the store is closed.
    pub async fn stop(&self) {
        let mut tasks = {
            let mut jobs = self.lock();
            jobs.kept.values().for_each(|kept| kept.control.cancel());
            std::mem::take(&mut jobs.tasks)
        };
        while tasks.join_next().await.is_some() {}
    }

    fn ended(&self, id: JobId, control: &Control, result: Result<Outcome, BacktestError>) {
        self.0.metrics.readings.inc_by(control.progress().readings);
        let status = match result {
            Ok(outcome) => JobStatus::Done(Arc::new(outcome)),
            Err(BacktestError::Cancelled) => JobStatus::Cancelled,
            Err(error) => {
                self.0.metrics.failed.inc();
                tracing::warn!(%error, "a backtest failed");
                JobStatus::Failed(Arc::new(error))
            }
        };
        let mut jobs = self.lock();
        if let Some(kept) = jobs.kept.get_mut(&id) {
            kept.status = status;
        }
        self.measure(&jobs);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Jobs> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self, jobs: &Jobs) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let running = jobs.kept.values().filter(|kept| kept.is_running()).count();
        self.0.metrics.running.set(count(running));
        self.0.metrics.kept.set(count(jobs.kept.len()));
    }
}

impl Jobs {
    /// Forgets the oldest of the tenant's that have ended.
    fn make_room(&mut self, tenant: TenantId) {
        let of_tenant = |kept: &Kept| kept.tenant == tenant;
        while self.kept.values().filter(|kept| of_tenant(kept)).count() >= MAX_KEPT_PER_TENANT {
            let mut ended =
                self.kept.iter().filter(|(_, kept)| of_tenant(kept) && !kept.is_running());
            let Some(oldest) = ended.next().map(|(id, _)| *id) else { return };
            self.kept.remove(&oldest);
        }
    }
}
