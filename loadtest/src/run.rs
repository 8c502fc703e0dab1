//! `loadtest run`: one load, then the audit.

use std::time::Duration;

use anyhow::ensure;

use crate::connect::Login;
use crate::course::{self, CONNECT_DEADLINE, Course, TICK, interrupted};
use crate::enrol::{self, Enrolled};
use crate::fleet::Fleet;
use crate::misbehave::{Misbehaving, Misdeed};
use crate::options::{RunOptions, TroubleOptions};
use crate::report::Report;
use crate::subject::Subject;
use crate::usage;

/// Loads a server for the time that the options ask for, and audits it.
///
/// # Errors
/// If the server can't be reached or breaks its contract; what the audit finds
/// stands in the report.
pub async fn run(options: &RunOptions) -> anyhow::Result<Report> {
    options.load.check()?;
    usage::check_file_limit(options.load.connections)?;
    let seed = course::seed(options.outcome.seed);
    let subject = Subject::open(&options.server).await?;
    let plan = enrol::plan(&options.load);
    let version = options.load.mqtt_version.into();
    let (connections, keep_alive_s) = (options.load.connections, options.load.keep_alive_s);

    let misdeeds = misdeeds(&options.trouble);
    let (enrolled, logins, extra) = if let Some(api) = &subject.api {
        let extra = u32::try_from(misdeeds.len())?;
        let locations = options.load.locations;
        let enrolled = Enrolled::make(api, &plan, connections, extra, locations).await?;
        let logins = enrolled.logins(version, keep_alive_s);
        let extra = enrolled.extra_logins(version);
        (Some(enrolled), logins, extra)
    } else {
        ensure!(misdeeds.is_empty(), "misbehaving clients need a server with an API");
        (None, enrol::anonymous(connections, version, keep_alive_s), Vec::new())
    };
    let fleet =
        Fleet::start(course::load(&options.load, plan.clone()), subject.target.clone(), logins);
    fleet.connected(CONNECT_DEADLINE).await?;
    let clients: Vec<(Misdeed, Login)> = misdeeds.into_iter().zip(extra).collect();
    let misbehaving =
        (!clients.is_empty()).then(|| Misbehaving::start(&subject.target, clients, seed));

    let warm_up = Duration::from_secs_f64(options.warm_up_s);
    let mut course = Course::begin(&fleet, &subject, options.load.qos(), warm_up).await?;
    let total = Duration::from_secs_f64(options.seconds);
    let storm_every = Duration::from_secs_f64(options.trouble.storm_every_s);
    let mut next_storm = storm_every;
    let mut end = Box::pin(interrupted());
    while course.elapsed() < total {
        let mut wait = TICK.min(total.saturating_sub(course.elapsed()));
        if !storm_every.is_zero() {
            wait = wait.min(next_storm.saturating_sub(course.elapsed()));
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = &mut end => break,
        }
        if !storm_every.is_zero() && course.elapsed() >= next_storm {
            fleet.storm();
            next_storm += storm_every;
        }
        course.tick(&subject, course.elapsed().as_secs_f64() / total.as_secs_f64()).await?;
    }
    let misbehaviour = match misbehaving {
        Some(misbehaving) => Some(misbehaving.stop().await),
        None => None,
    };
    let mut report =
        course.conclude(fleet, &subject, enrolled.as_ref(), plan, &options.outcome).await?;
    report.kind = "run";
    report.seed = seed;
    report.misbehaviour = misbehaviour;
    subject.close().await?;
    Ok(report)
}

fn misdeeds(options: &TroubleOptions) -> Vec<Misdeed> {
    [
        (Misdeed::Malformed, options.malformed),
        (Misdeed::Oversized, options.oversized),
        (Misdeed::SlowReader, options.slow_readers),
        (Misdeed::Garbage, options.garbage),
        (Misdeed::Silent, options.silent),
    ]
    .into_iter()
    .flat_map(|(misdeed, clients)| (0..clients).map(move |_| misdeed))
    .collect()
}
