//! `loadtest cluster`: several nodes over a real Kafka and a real PostgreSQL, under
//! a load through which nodes, brokers and the database are killed.
//!
//! Nodes are killed in the course of the load itself; brokers and the database by
//! tasks beside it, so that their deaths fall together at times. Everyone's moments
//! follow from one printed seed.

mod faults;
mod nodes;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::course::{self, Course, interrupted};
use crate::killable::{Killable, replay};
use crate::options::ClusterOptions;
use crate::report::Report;
use crate::services::{Services, ServicesUsage};
use crate::subject::{self, Subject};
use crate::usage;

use faults::{NodeKiller, Tormentors};

/// Loads a cluster, faults it, and audits it.
///
/// # Errors
/// If it can't be started, or a node ends that was not killed; what the audit finds
/// stands in the report.
pub async fn cluster(options: &ClusterOptions) -> anyhow::Result<Report> {
    options.load.check()?;
    usage::check_file_limit(options.load.connections)?;
    let seed = course::seed(options.outcome.seed);
    let baken = subject::baken(options.baken.as_deref())?;
    let services = Arc::new(Services::start(&options.services, options.brokers).await?);
    let report = load(options, &services, &baken, seed).await;
    let services = Arc::into_inner(services).context("a task still has the services")?;
    // Also where the run failed: they end before this process does.
    let stopped = services.stop().await;
    let report = report?;
    stopped?;
    Ok(report)
}

async fn load(
    options: &ClusterOptions,
    services: &Arc<Services>,
    baken: &Path,
    seed: u64,
) -> anyhow::Result<Report> {
    let subject = nodes::start(options, services, baken).await?;
    let Killable { mut subject, plan, enrolled, fleet, probe: _ } =
        Killable::connected(&options.load, subject).await?;

    let warm_up = Duration::from_secs_f64(options.warm_up_s);
    let course = Course::begin(&fleet, &subject, options.load.qos(), warm_up).await?;
    let before = services.usage().await?;
    let tormentors = Tormentors::start(services, options, seed);
    let mut killer = NodeKiller::new(course, StdRng::seed_from_u64(seed), options);
    let ran = tokio::select! {
        ran = killer.run(&mut subject) => ran,
        () = interrupted() => {
            eprintln!("interrupted: the audit follows");
            Ok(())
        }
    };
    let after = services.usage().await;
    // Also where the run failed: nothing may be started while the services end.
    let faults = tormentors.end().await?;
    ran?;
    killer.revive(&mut subject).await?;
    let NodeKiller { course, done, failed_starts, upgraded, .. } = killer;
    let messages = course.messages();
    let mut report =
        course.conclude(fleet, &subject, Some(&enrolled), plan, &options.outcome).await?;
    report.kind = "cluster";
    report.seed = seed;
    report.nodes = Some(options.nodes);
    report.brokers = Some(options.brokers);
    report.partitions = Some(options.partitions);
    if !options.kill.is_empty() || options.upgrade_to.is_some() {
        // What a node counted goes with it.
        report.time_to_alarm = None;
    }
    if !options.kills_services() {
        set_services_cpu(&mut report, before, after?, messages);
    }
    report.set_kills(done);
    report.faults = faults;
    report.failed_starts = failed_starts;
    report.upgraded = upgraded;
    if let Some(watch) = enrolled.watch().filter(|_| report.audited && !options.no_replay) {
        let limit = Duration::from_secs(options.outcome.catch_up_s);
        let forget = async |_: &mut Subject| services.forget_alarms().await;
        report.replay = Some(replay(&mut subject, watch, limit, forget).await?);
    }
    subject.close().await?;
    Ok(report)
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a run fit a double")]
fn set_services_cpu(
    report: &mut Report,
    before: ServicesUsage,
    after: ServicesUsage,
    messages: u64,
) {
    let each = |now: u64, then: u64| {
        (messages > 0).then(|| now.saturating_sub(then) as f64 / messages as f64)
    };
    report.kafka_cpu_us_per_message = each(after.kafka_cpu_us, before.kafka_cpu_us);
    report.postgres_cpu_us_per_message = each(after.postgres_cpu_us, before.postgres_cpu_us);
}
