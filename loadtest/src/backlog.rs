//! `loadtest backlog`: a server that is killed with much to do, and how it
//! catches up while the load goes on.
//!
//! The history's limits are raised, so that what it has taken stays in memory
//! and only the journal has it on disk when the SIGKILL comes.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::api::Api;
use crate::course::{self, Course, TICK};
use crate::killable::Killable;
use crate::options::BacklogOptions;
use crate::report::{Backlog, Report};

/// Rows recorded since the server's start, by partition.
const RECORDED: &str = "baken_recorder_rows_total";
/// How old the last record taken was, by partition.
const BEHIND_S: &str = "baken_recorder_lag_seconds";
/// Caught up is what queries promise: a second behind the PUBACK at most.
const CAUGHT_UP_S: f64 = 1.0;
/// Between two looks at how far the server is.
const LOOK: Duration = Duration::from_millis(10);

/// Loads a server, kills it with the backlog asked for, and measures how it
/// catches up.
///
/// # Errors
/// If the server can't be started or doesn't come back; what the audit finds
/// stands in the report.
pub async fn backlog(options: &BacklogOptions) -> anyhow::Result<Report> {
    let seed = course::seed(options.outcome.seed);
    let unlimited = vec![
        ("BAKEN_HISTORY__MEMTABLE_ROWS", "100000000".to_owned()),
        ("BAKEN_HISTORY__MEMTABLE_BYTES", "2000000000".to_owned()),
        ("BAKEN_HISTORY__MEMTABLE_AGE_MS", "86400000".to_owned()),
    ];
    let started =
        Killable::start(&options.load, options.baken.as_deref(), options.keep, unlimited).await?;
    let Killable { mut subject, plan, enrolled, fleet, probe } = started;

    let mut course = Course::begin(&fleet, &subject, options.load.qos(), Duration::ZERO).await?;
    let per_message = plan.readings_in(0);
    while course.messages() * per_message < options.readings {
        tokio::time::sleep(TICK).await;
        subject.node()?.check_alive()?;
        course.tick(&subject, 0.0).await?;
    }
    let readings = course.messages() * per_message;
    let live_s = course.elapsed().as_secs_f64();
    let node = subject.node()?;
    node.kill().await?;
    node.start()?;
    let started = Instant::now();
    let restart_ms = probe.serving().await?.as_secs_f64() * 1e3;
    let api = subject.api.as_ref().context("a server that was started has an API")?;
    let limit = Duration::from_secs(options.outcome.catch_up_s);
    let recorded = caught_up(api, readings, started + limit).await?;
    let caught_up_s = started.elapsed().as_secs_f64();
    let until = Instant::now() + Duration::from_secs_f64(options.seconds);
    while Instant::now() < until {
        tokio::time::sleep(TICK).await;
        course.tick(&subject, 1.0).await?;
    }

    let mut report =
        course.conclude(fleet, &subject, Some(&enrolled), plan, &options.outcome).await?;
    report.kind = "backlog";
    report.seed = seed;
    report.backlog = Some(figures(readings, live_s, restart_ms, recorded, caught_up_s));
    subject.close().await?;
    Ok(report)
}

/// Waits until the history has the backlog and is as near to the journal as
/// queries are promised; gives the rows that it has recorded until then.
async fn caught_up(api: &Api, backlog: u64, deadline: Instant) -> anyhow::Result<f64> {
    #[allow(clippy::cast_precision_loss, reason = "counts of a run fit a double")]
    let backlog = backlog as f64;
    loop {
        let (recorded, _) = api.metric_over_labels(RECORDED).await?;
        let (_, behind_s) = api.metric_over_labels(BEHIND_S).await?;
        if recorded >= backlog && behind_s < CAUGHT_UP_S {
            return Ok(recorded);
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "the history has not caught up: {recorded} of {backlog} readings, {behind_s} s behind"
        );
        tokio::time::sleep(LOOK).await;
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a run fit a double"
)]
fn figures(
    readings: u64,
    live_s: f64,
    restart_ms: f64,
    recorded: f64,
    caught_up_s: f64,
) -> Backlog {
    let live_per_s = readings as f64 / live_s;
    let recorded_per_s = recorded / caught_up_s;
    Backlog {
        readings,
        restart_ms,
        caught_up_s,
        recorded: recorded as u64,
        recorded_per_s,
        live_per_s,
        ratio: recorded_per_s / live_per_s,
    }
}
