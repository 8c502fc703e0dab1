//! A backtest: a profile, saved or not, over stored history, by the very core
//! that raises alarms.
//!
//! It stands beside a reading's way and changes nothing: it reads the history,
//! runs each location through an engine of its own in the order of time, and
//! says which alarms would have been raised, and what differs from those that
//! were. It writes to no store and no journal, and decides nothing about alarms
//! itself.
//!
//! What it can't know is when a reading arrived: it takes each as if it had come
//! at its own time. The worker evaluates in the order of arrival, so the two
//! agree where readings came in order, and part where they came late; see
//! [`Outcome::assumptions`].

mod control;
mod difference;
mod gather;
mod jobs;
mod mentions;
mod outcome;
mod plan;
mod unit;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alarm_core::limits::DEFAULT_GRACE_MS;
use alarm_core::{KeyIndex, Report};
use schema::{AlarmProfile, LocationId, ProfileId, TenantId, TimestampMs};
use store::Store;
use store::alarms::{AlarmQuery, AlarmStoreError};
use store::history::{HistoryError, HistoryView, MAX_SCAN_SERIES, ScanQuery};

pub use control::{Control, Progress};
pub use jobs::{
    Backtests, Job, JobId, JobStatus, KEPT_FOR, MAX_KEPT_BYTES, MAX_KEPT_BYTES_PER_TENANT,
    MAX_KEPT_PER_TENANT, MAX_RUNNING, MAX_RUNNING_PER_TENANT, Render, StartError,
};
pub use outcome::{
    BacktestAlarm, BacktestTransition, Difference, Outcome, RuleTotals, Span, Totals,
};

use gather::Gather;
use mentions::Mentions;
use plan::{Looks, Plan};
use unit::Course;

/// The most alarms that a result lists; its totals are of all.
pub const MAX_LISTED_ALARMS: usize = 5_000;

/// The most transitions that are listed of one alarm.
pub const MAX_LISTED_TRANSITIONS: usize = 200;

/// The most transitions that are listed of all alarms of a result; past it the
/// last alarms are left out.
pub const MAX_LISTED_TRANSITIONS_IN_ALL: usize = 50_000;

/// The most memory that the listed alarms of a result take, about; past it the
/// last ones are left out.
pub const MAX_LISTED_BYTES: usize = 16 * 1_024 * 1_024;

/// The most alarms of each kind of difference that a result lists.
pub const MAX_LISTED_DIFFERENCES: usize = 500;

/// With more alarms on one side than this, no difference is made.
pub const MAX_COMPARED_ALARMS: usize = 200_000;

/// The most series of one backtest; choose locations where there are more.
pub const MAX_BACKTEST_SERIES: u64 = 1_000_000;

/// The most profiles of one backtest.
pub const MAX_PROFILES: usize = 100;

/// The shortest warm-up that is taken by itself: rules without any duration
/// still need to see the last reading before the period.
pub const MIN_WARM_UP_MS: i64 = 3_600_000;

/// The longest warm-up, whatever a profile's durations.
pub const MAX_WARM_UP_MS: i64 = 14 * 86_400_000;

/// Series of a unit, about, where devices don't look at each other.
const UNIT_SERIES: u64 = 512;

/// What is taken off the priority of threads that work beside a node.
const NICENESS: i32 = 10;

/// Alarms of one page of the store.
const PAGE: usize = 1_000;

/// The id under which a profile runs that is not saved.
pub const DRAFT: ProfileId = ProfileId(u64::MAX);

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct BacktestQuery {
    pub tenant: TenantId,
    /// The id of a profile that is not saved is [`DRAFT`], or less by one for
    /// each further one.
    pub profiles: Vec<(ProfileId, AlarmProfile)>,
    /// Inclusive.
    pub from: TimestampMs,
    /// Exclusive.
    pub to: TimestampMs,
    /// All of the tenant's where there are none given.
    pub locations: Option<Vec<LocationId>>,
    /// How long before `from` readings are evaluated, so that the period begins
    /// with the rules' memory as it would have been.
    pub warm_up_ms: Option<i64>,
    /// The saved profile whose alarms the result is compared with.
    pub compare_with: Option<ProfileId>,
}

/// How much of the machine a backtest takes.
#[derive(Clone, Copy, Debug)]
pub struct BacktestOptions {
    /// 0 takes half of the cores.
    pub threads: usize,
    /// Gives way to other threads, as beside a node that serves.
    pub in_background: bool,
    /// As the workers have it.
    pub grace_ms: i64,
}

impl Default for BacktestOptions {
    fn default() -> Self {
        Self { threads: 0, in_background: true, grace_ms: DEFAULT_GRACE_MS }
    }
}

/// Why a backtest has no result.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    #[error("the profile has {} errors", .0.errors.len())]
    Invalid(Report),
    #[error("the period ends at {to}, which is not behind its start at {from}")]
    Period { from: TimestampMs, to: TimestampMs },
    #[error(
        "the profile looks at more than {MAX_BACKTEST_SERIES} series of the chosen locations, or \
         at more than {MAX_SCAN_SERIES} of a location where devices look at each other"
    )]
    TooManySeries,
    #[error("from 1 to {MAX_PROFILES} profiles, not {0}")]
    Profiles(usize),
    #[error(transparent)]
    History(HistoryError),
    #[error("the attributes can't be read: {0}")]
    Attributes(#[from] store::AttributesError),
    #[error("the alarms that were raised can't be read: {0}")]
    Alarms(#[from] AlarmStoreError),
    #[error("it was cancelled")]
    Cancelled,
    #[error("a thread of the backtest failed")]
    Failed,
}

impl From<HistoryError> for BacktestError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::ScanSeries { .. } => Self::TooManySeries,
            other => Self::History(other),
        }
    }
}

impl BacktestError {
    /// True where the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::History(error) => error.is_retryable(),
            Self::Attributes(error) => error.is_retryable(),
            Self::Alarms(error) => error.is_retryable(),
            _ => false,
        }
    }
}

/// Runs a backtest; for as long as it takes, on threads of its own.
///
/// # Errors
/// [`BacktestError`]; nothing has changed in any case.
pub async fn backtest(
    store: &Store,
    query: BacktestQuery,
    options: BacktestOptions,
    control: &Control,
) -> Result<Outcome, BacktestError> {
    if query.from >= query.to {
        return Err(BacktestError::Period { from: query.from, to: query.to });
    }
    if query.profiles.is_empty() || query.profiles.len() > MAX_PROFILES {
        return Err(BacktestError::Profiles(query.profiles.len()));
    }
    let looks: Arc<[Looks]> = looks(&query)?.into();
    let course = Arc::new(course(&query, &looks, options));
    let names = course.engine(&mut Vec::new())?;
    let locations = query.locations.clone();
    let plan = plan::plan(store, query.tenant, locations, looks.clone(), names, control).await?;
    control.set_series(plan.series);
    let Plan { devices, units, locations, .. } = plan;
    let (from, to) = (course.warm_up_from, course.to);
    let count = devices.len() as u64;
    let view = store.history().view(ScanQuery { devices, from, to }).await?;
    let (shared, control_of_run) = (course.clone(), control.clone());
    let work = move || {
        let gathered = run_units(&shared, &view, &units, options, &control_of_run)?;
        Ok::<_, BacktestError>((gathered, count, locations))
    };
    let work = tokio::task::spawn_blocking(work).await.map_err(|_| BacktestError::Failed)?;
    let ((gathered, readings), devices, locations) = work?;
    let compared = compare(store, &query, &gathered, control).await?;
    let mut outcome = Outcome {
        from: course.from,
        to: course.to,
        warm_up_from: course.warm_up_from,
        readings,
        devices,
        locations,
        truncated: gathered.totals.alarms > gathered.alarms.len() as u64,
        alarms: gathered.alarms,
        totals: gathered.totals,
        difference: None,
        assumptions: assumptions(&looks),
    };
    match compared {
        Compared::Nothing => {}
        Compared::TooMany => outcome.assumptions.push(format!(
            "There are more than {MAX_COMPARED_ALARMS} alarms, so that no difference was made."
        )),
        Compared::With(real) => {
            let (spans, control) = (gathered.spans, control.clone());
            let work = move || difference::difference(spans, real, &control);
            let work = tokio::task::spawn_blocking(work).await;
            outcome.difference = Some(work.map_err(|_| BacktestError::Failed)??);
        }
    }
    Ok(outcome)
}

fn looks(query: &BacktestQuery) -> Result<Vec<Looks>, BacktestError> {
    let mut looks = Vec::new();
    for (_, document) in &query.profiles {
        let report = alarm_core::check(document);
        if !report.errors.is_empty() {
            return Err(BacktestError::Invalid(report));
        }
        let mentions = Mentions::of(document);
        looks.push(Looks { document: Arc::new(document.clone()), mentions });
    }
    Ok(looks)
}

fn course(query: &BacktestQuery, looks: &[Looks], options: BacktestOptions) -> Course {
    let longest = looks.iter().map(|looks| looks.mentions.longest_ms).max().unwrap_or(0);
    let warm_up_ms = query.warm_up_ms.unwrap_or(longest.max(MIN_WARM_UP_MS)).min(MAX_WARM_UP_MS);
    let lateness = |looks: &Looks| looks.document.lateness.map_or(0, |lateness| lateness.0);
    let ids = query.profiles.iter().map(|(id, _)| *id);
    let mut keys: BTreeSet<Arc<str>> = BTreeSet::new();
    for Looks { mentions, .. } in looks {
        keys.extend(mentions.own.iter().cloned());
        keys.extend(mentions.others.iter().map(|(_, key)| key.clone()));
    }
    Course {
        tenant: query.tenant,
        profiles: ids.zip(looks).map(|(id, looks)| (id, 1, looks.document.clone())).collect(),
        warm_up_from: TimestampMs(query.from.0.saturating_sub(warm_up_ms.max(0))),
        from: query.from,
        to: query.to,
        lateness_ms: looks.iter().map(lateness).max().unwrap_or(0),
        grace_ms: options.grace_ms,
        keys: keys.into_iter().collect(),
    }
}

/// Runs all units on some threads; gives what they gathered and their readings.
fn run_units(
    course: &Course,
    view: &HistoryView<KeyIndex>,
    units: &[unit::Unit],
    options: BacktestOptions,
    control: &Control,
) -> Result<(Gather, u64), BacktestError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if options.threads == 0 { (cores / 2).max(1) } else { options.threads };
    let next = AtomicUsize::new(0);
    let all = Mutex::new((Gather::new(course.from, course.to), 0u64));
    let work = || -> Result<(), BacktestError> {
        if options.in_background
            && let Err(error) = rustix::process::nice(NICENESS)
        {
            tracing::debug!(%error, "a backtest runs at normal priority");
        }
        while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut gather = Gather::new(course.from, course.to);
            let readings = unit::run(course, view, unit, control, &mut gather)?;
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.0.add(gather);
            all.1 += readings;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Result<Vec<_>, _> = (0..threads.min(units.len()))
            .map(|_| {
                std::thread::Builder::new().name("backtest".to_owned()).spawn_scoped(scope, work)
            })
            .collect();
        let mut result = Ok(());
        for thread in threads.map_err(|_| BacktestError::Failed)? {
            let ended = thread.join().unwrap_or(Err(BacktestError::Failed));
            if ended.is_err() {
                // The others need not go on for a result that there won't be.
                control.cancel();
            }
            result = match (result, ended) {
                // Why the first one failed, not that the others gave up.
                (Ok(()) | Err(BacktestError::Cancelled), Err(error)) => Err(error),
                (result, _) => result,
            };
        }
        result
    })?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}

enum Compared {
    Nothing,
    TooMany,
    With(Vec<Span>),
}

/// What was raised in the period by the profile to compare with.
async fn compare(
    store: &Store,
    query: &BacktestQuery,
    gathered: &Gather,
    control: &Control,
) -> Result<Compared, BacktestError> {
    let Some(profile) = query.compare_with else { return Ok(Compared::Nothing) };
    if gathered.overfull {
        return Ok(Compared::TooMany);
    }
    let mut real = Vec::new();
    let mut page = AlarmQuery {
        tenant: Some(query.tenant),
        locations: query.locations.clone().unwrap_or_default(),
        profile: Some(profile),
        from: Some(query.from),
        to: Some(query.to),
        limit: PAGE,
        ..AlarmQuery::default()
    };
    loop {
        control.go_on()?;
        let rows = store.alarms().alarms(page.clone()).await?;
        page.after = rows.last().map(store::alarms::AlarmRow::place);
        let last = rows.len() < PAGE;
        for row in rows {
            let Some(device) = row.device else { continue };
            real.push(Span {
                device,
                location: row.location,
                rule: row.rule.key.clone(),
                raised_at: row.raised.at,
                // Beyond the period nothing is known on the other side either.
                cleared_at: row.cleared_at.filter(|at| *at < query.to),
                severity: row.peak.severity,
            });
        }
        if real.len() > MAX_COMPARED_ALARMS {
            return Ok(Compared::TooMany);
        }
        if last {
            return Ok(Compared::With(real));
        }
    }
}

fn assumptions(looks: &[Looks]) -> Vec<String> {
    let mut said = vec![
        "Each reading is taken as if it had arrived at its own time; what arrived late or twice \
         was judged otherwise when it came."
            .to_owned(),
        "Only keys that the rules mention were read, and nobody acknowledged, cleared or shelved \
         anything."
            .to_owned(),
        "Locations, devices and their types are as they are now.".to_owned(),
    ];
    if looks.iter().any(|looks| !looks.mentions.attributes.is_empty()) {
        said.push(
            "Attributes of devices are as they are now; those of locations and tenants are taken \
             as not set, so that defaults count."
                .to_owned(),
        );
    }
    let limited = |looks: &Looks| looks.document.rules.iter().any(|rule| rule.max_active.is_some());
    if looks.iter().any(limited) {
        said.push(
            "`max_active` is counted for each location, or group of its devices, by itself."
                .to_owned(),
        );
    }
    said
}

#[cfg(test)]
mod tests;
