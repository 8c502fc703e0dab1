//! Backtests that run or have run, for who asks about them later: bounded by
//! number, bytes and age, in memory only. A result is kept as the answer that
//! shows it, made once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
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

/// How long a backtest is kept after its end.
pub const KEPT_FOR: Duration = Duration::from_secs(3_600);

/// Bytes of all results of one tenant that are kept; the oldest make room, but
/// never the newest itself.
pub const MAX_KEPT_BYTES_PER_TENANT: usize = 64 * 1_024 * 1_024;

/// Bytes of all tenants' results that are kept, in the same way.
pub const MAX_KEPT_BYTES: usize = 256 * 1_024 * 1_024;

/// How often what is too old is looked for.
const SWEEP_PAUSE: Duration = Duration::from_secs(60);

/// Backtests that are running.
const RUNNING: &str = "baken_backtest_running_jobs";
/// The most that may run.
const RUNNING_LIMIT: &str = "baken_backtest_running_limit_jobs";
/// Backtests that are kept, running or not.
const KEPT: &str = "baken_backtest_kept_jobs";
/// Bytes of the results that are kept.
const KEPT_BYTES: &str = "baken_backtest_kept_bytes";
/// The most bytes of results that are kept.
const KEPT_LIMIT_BYTES: &str = "baken_backtest_kept_limit_bytes";
/// Backtests that were forgotten for their age or to make room.
const FORGOTTEN: &str = "baken_backtest_forgotten_total";
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
    /// With the answer that shows the job and its result.
    Done(Bytes),
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

/// Makes the answer that shows a job, done by then, and its result. It runs once,
/// on a thread that may block.
pub type Render = Arc<dyn Fn(&Job, &Outcome) -> Bytes + Send + Sync>;

/// All backtests of a node. Clones are handles on the same ones.
#[derive(Clone, Debug)]
pub struct Backtests(Arc<Shared>);

struct Shared {
    store: Store,
    options: BacktestOptions,
    render: Render,
    jobs: Mutex<Jobs>,
    metrics: Metrics,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("jobs", &self.jobs).finish_non_exhaustive()
    }
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
    /// None while it runs.
    ended_at: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Metrics {
    running: IntGauge,
    kept: IntGauge,
    kept_bytes: IntGauge,
    forgotten: IntCounter,
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
        gauge(KEPT_LIMIT_BYTES, "The most bytes of results that are kept.")?
            .set(i64::try_from(MAX_KEPT_BYTES).unwrap_or(i64::MAX));
        Ok(Self {
            kept_bytes: gauge(KEPT_BYTES, "Bytes of the results that are kept.")?,
            forgotten: counter(FORGOTTEN, "Backtests forgotten for their age or for room.")?,
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

    /// What its result takes.
    fn bytes(&self) -> usize {
        match &self.status {
            JobStatus::Done(answer) => answer.len(),
            JobStatus::Running | JobStatus::Failed(_) | JobStatus::Cancelled => 0,
        }
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
    /// Call it on a runtime.
    ///
    /// # Errors
    /// The metrics are registered already.
    pub fn new(
        store: Store,
        options: BacktestOptions,
        render: Render,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let (jobs, metrics) = (Mutex::default(), Metrics::register(registry)?);
        let shared = Arc::new(Shared { store, options, render, jobs, metrics });
        tokio::spawn(sweep(Arc::downgrade(&shared)));
        Ok(Self(shared))
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
        let forgotten = jobs.make_room(query.tenant);
        self.0.metrics.forgotten.inc_by(forgotten);
        jobs.next += 1;
        let id = JobId(jobs.next);
        let control = Control::default();
        let (tenant, status) = (query.tenant, JobStatus::Running);
        let control_of_job = control.clone();
        let kept =
            Kept { tenant, started_at: now, control: control_of_job, status, ended_at: None };
        let job = kept.shown(id);
        jobs.kept.insert(id, kept);
        self.measure(&jobs);
        let handle = self.clone();
        jobs.tasks.spawn(async move {
            let Shared { store, options, .. } = &*handle.0;
            let result = backtest(store, query, *options, &control).await;
            let answer = handle.answer(id, result).await;
            handle.ended(id, &control, answer);
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

    /// Forgets what ended so long before `now` that it is not kept any more.
    pub fn forget_old(&self, now: Instant) {
        let mut jobs = self.lock();
        let count = jobs.kept.len();
        jobs.kept.retain(|_, kept| {
            kept.ended_at.is_none_or(|at| now.saturating_duration_since(at) < KEPT_FOR)
        });
        self.0.metrics.forgotten.inc_by((count - jobs.kept.len()) as u64);
        self.measure(&jobs);
    }

    async fn answer(
        &self,
        id: JobId,
        result: Result<Outcome, BacktestError>,
    ) -> Result<Bytes, BacktestError> {
        let outcome = result?;
        let job = self.job(id).ok_or(BacktestError::Cancelled)?;
        let render = self.0.render.clone();
        let work = tokio::task::spawn_blocking(move || render(&job, &outcome));
        work.await.map_err(|_| BacktestError::Failed)
    }

    fn ended(&self, id: JobId, control: &Control, result: Result<Bytes, BacktestError>) {
        self.0.metrics.readings.inc_by(control.progress().readings);
        let status = match result {
            Ok(answer) => JobStatus::Done(answer),
            Err(BacktestError::Cancelled) => JobStatus::Cancelled,
            Err(error) => {
                self.0.metrics.failed.inc();
                tracing::warn!(%error, "a backtest failed");
                JobStatus::Failed(Arc::new(error))
            }
        };
        let mut jobs = self.lock();
        if let Some(kept) = jobs.kept.get_mut(&id) {
            (kept.status, kept.ended_at) = (status, Some(Instant::now()));
        }
        self.0.metrics.forgotten.inc_by(jobs.make_room_for(id));
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
        self.0.metrics.kept_bytes.set(count(jobs.kept.values().map(Kept::bytes).sum()));
    }
}

impl Jobs {
    /// Forgets the oldest of the tenant's that have ended; gives how many.
    fn make_room(&mut self, tenant: TenantId) -> u64 {
        let of_tenant = |kept: &Kept| kept.tenant == tenant;
        let mut forgotten = 0;
        while self.kept.values().filter(|kept| of_tenant(kept)).count() >= MAX_KEPT_PER_TENANT {
            let mut ended =
                self.kept.iter().filter(|(_, kept)| of_tenant(kept) && !kept.is_running());
            let Some(oldest) = ended.next().map(|(id, _)| *id) else { return forgotten };
            self.kept.remove(&oldest);
            forgotten += 1;
        }
        forgotten
    }

    /// Forgets the oldest results until this one has room; gives how many.
    fn make_room_for(&mut self, newest: JobId) -> u64 {
        let Some(tenant) = self.kept.get(&newest).map(|kept| kept.tenant) else { return 0 };
        let limits = [(Some(tenant), MAX_KEPT_BYTES_PER_TENANT), (None, MAX_KEPT_BYTES)];
        let mut forgotten = 0;
        for (of, limit) in limits {
            let counts = |kept: &Kept| of.is_none_or(|tenant| kept.tenant == tenant);
            while self.kept.values().filter(|kept| counts(kept)).map(Kept::bytes).sum::<usize>()
                > limit
            {
                let mut older = self
                    .kept
                    .iter()
                    .filter(|(id, kept)| **id != newest && counts(kept) && kept.bytes() > 0);
                let Some(oldest) = older.next().map(|(id, _)| *id) else { break };
                self.kept.remove(&oldest);
                forgotten += 1;
            }
        }
        forgotten
    }
}

/// Forgets what is too old, as long as anybody holds on to the jobs.
async fn sweep(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(SWEEP_PAUSE).await;
        let Some(shared) = shared.upgrade() else { return };
        Backtests(shared).forget_old(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(jobs: &mut Jobs, tenant: u64, bytes: usize) -> JobId {
        jobs.next += 1;
        let id = JobId(jobs.next);
        let kept = Kept {
            tenant: TenantId(tenant),
            started_at: TimestampMs(0),
            control: Control::default(),
            status: JobStatus::Done(vec![0; bytes].into()),
            ended_at: None,
        };
        jobs.kept.insert(id, kept);
        id
    }

    #[test]
    fn results_are_bounded_by_their_bytes_of_a_tenant_and_in_all() {
        let mut jobs = Jobs::default();
        let half = MAX_KEPT_BYTES_PER_TENANT / 2;
        let mut forgotten = 0;
        let ids: Vec<JobId> = [1, 1, 1, 2, 2, 3, 3, 4, 4]
            .into_iter()
            .map(|tenant| {
                let id = done(&mut jobs, tenant, half);
                forgotten += jobs.make_room_for(id);
                id
            })
            .collect();
        // The first tenant's third result, and then the last of all.
        assert_eq!(forgotten, 1, "only a tenant past its own limit has lost anything");
        assert!(!jobs.kept.contains_key(&ids[0]));
        let large = done(&mut jobs, 5, MAX_KEPT_BYTES + 1);
        assert_eq!(jobs.make_room_for(large), 8, "the newest is kept, whatever it takes");
        assert_eq!(jobs.kept.keys().collect::<Vec<_>>(), [&large]);
    }
}
