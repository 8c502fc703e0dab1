//! `loadtest crash`: a load through which the server is killed again and again.
//!
//! The moments are random from a printed seed. Each kill is a SIGKILL to the
//! process that was started here; it is started again at once, on the same
//! folder and ports, and the routers come back and send again what was not
//! acknowledged. Some kills come during the recovery from the one before.

use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::alarms::Watch;
use crate::connect::{Login, Target, connect};
use crate::course::{self, CONNECT_DEADLINE, Course, TICK, interrupted};
use crate::enrol::{self, Enrolled};
use crate::fleet::Fleet;
use crate::node::START_TIMEOUT;
use crate::options::CrashOptions;
use crate::report::{Kill, Report};
use crate::subject::{Subject, baken};
use crate::transitions::Replay;
use crate::usage;

/// How often a kill comes early in the next life, not after a while of load.
const EARLY: f64 = 0.2;
/// The latest moment of such a kill after the start.
const EARLY_MS: u64 = 200;
/// Between two attempts to see whether the server is back.
const LOOK: Duration = Duration::from_millis(5);

/// Loads a server, kills it again and again, and audits it.
///
/// # Errors
/// If the server can't be started or doesn't come back; what the audit finds
/// stands in the report.
pub async fn crash(options: &CrashOptions) -> anyhow::Result<Report> {
    options.load.check()?;
    usage::check_file_limit(options.load.connections)?;
    let seed = course::seed(options.outcome.seed);
    let mut subject =
        Subject::start(&baken(options.baken.as_deref())?, options.keep, false).await?;
    let plan = enrol::plan(&options.load);
    let version = options.load.mqtt_version.into();
    let api = subject.api.as_ref().context("a server that was started has an API")?;
    let connections = options.load.connections;
    // One more router, to see when the server is back.
    let enrolled = Enrolled::make(api, &plan, connections, 1, options.load.locations).await?;
    let probe = enrolled.extra_logins(version).pop().context("the probe's router is missing")?;
    let logins = enrolled.logins(version, options.load.keep_alive_s);
    let fleet =
        Fleet::start(course::load(&options.load, plan.clone()), subject.target.clone(), logins);
    fleet.connected(CONNECT_DEADLINE).await?;

    let course = Course::begin(&fleet, &subject, options.load.qos(), Duration::ZERO).await?;
    let mut killer = Killer {
        course,
        probe,
        target: subject.target.clone(),
        random: StdRng::seed_from_u64(seed),
        kills: options.kills,
        mean_life: Duration::from_secs_f64(options.seconds / f64::from(options.kills + 1)),
        done: Vec::new(),
    };
    tokio::select! {
        killed = killer.run(&mut subject) => killed?,
        () = interrupted() => eprintln!("interrupted: the audit follows"),
    }
    if subject.node.as_mut().is_some_and(|node| node.check_alive().is_err()) {
        killer.restart(&mut subject).await?;
    }
    let Killer { course, done, .. } = killer;
    let mut report =
        course.conclude(fleet, &subject, Some(&enrolled), plan, &options.outcome).await?;
    report.kind = "crash";
    report.seed = seed;
    report.set_kills(done);
    // Restarts are in it, which are measured by themselves.
    report.time_to_alarm = None;
    if let Some(watch) = enrolled.watch().filter(|_| report.audited) {
        let limit = Duration::from_secs(options.outcome.catch_up_s);
        report.replay = Some(replay(&mut subject, watch, limit).await?);
    }
    subject.close().await?;
    Ok(report)
}

/// The same input without kills: the server starts on the same journal without
/// any alarms and raises them all from its start.
async fn replay(subject: &mut Subject, watch: Watch, limit: Duration) -> anyhow::Result<Replay> {
    let api = subject.api.as_ref().context("a server that was started has an API")?;
    let node = subject.node.as_mut().context("the server was started here")?;
    eprintln!("raising all alarms again, in one go");
    let killed = watch.read(api).await?;
    node.stop().await?;
    node.forget_alarms()?;
    node.start()?;
    node.live().await?;
    watch.catch_up(api, limit).await?;
    let whole = watch.read(api).await?;
    Ok(Replay::compare(&killed, &whole))
}

struct Killer {
    course: Course,
    probe: Login,
    target: Target,
    random: StdRng,
    kills: u32,
    mean_life: Duration,
    done: Vec<Kill>,
}

impl Killer {
    async fn run(&mut self, subject: &mut Subject) -> anyhow::Result<()> {
        for number in 0..self.kills {
            let early = number > 0 && self.random.random_bool(EARLY);
            if early {
                let after = Duration::from_millis(self.random.random_range(0..EARLY_MS));
                tokio::time::sleep(after).await;
            } else {
                if number > 0 {
                    self.await_serving().await?;
                }
                let life = self.mean_life.mul_f64(self.random.random_range(0.1..1.9));
                self.live(subject, life).await?;
            }
            let at_s = self.course.elapsed().as_secs_f64();
            let node = subject.node.as_mut().context("the server was started here")?;
            node.kill().await?;
            self.done.push(Kill { at_s, restart_ms: None });
            node.start()?;
        }
        if self.kills > 0 {
            self.await_serving().await?;
        }
        self.live(subject, self.mean_life).await
    }

    /// Starts the server again after an interruption came between kill and start.
    async fn restart(&mut self, subject: &mut Subject) -> anyhow::Result<()> {
        subject.node.as_mut().context("the server was started here")?.start()?;
        self.await_serving().await
    }

    /// Lets the load go on.
    async fn live(&mut self, subject: &mut Subject, life: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + life;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(TICK)).await;
            if let Some(node) = &mut subject.node {
                node.check_alive()?;
            }
            let share = f64::from(u32::try_from(self.done.len())?) / f64::from(self.kills.max(1));
            self.course.tick(subject, share).await?;
        }
    }

    /// Waits for the first CONNACK since the last start, which was just now.
    async fn await_serving(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while connect(&self.target, 0, &self.probe).await.is_err() {
            anyhow::ensure!(
                started.elapsed() < START_TIMEOUT,
                "the server isn't back {} s after its restart",
                START_TIMEOUT.as_secs()
            );
            tokio::time::sleep(LOOK).await;
        }
        if let Some(kill) = self.done.last_mut() {
            kill.restart_ms = Some(started.elapsed().as_secs_f64() * 1e3);
        }
        Ok(())
    }
}
