//! `loadtest crash`: a load through which the server is killed again and again.
//!
//! The moments are random from a printed seed. Each kill is a SIGKILL to the
//! process that was started here; it is started again at once, on the same
//! folder and ports, and the routers come back and send again what was not
//! acknowledged. Some kills come during the recovery from the one before.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::course::{self, Course, interrupted};
use crate::killable::{Killable, Probe, replay};
use crate::options::CrashOptions;
use crate::report::{Kill, Report};
use crate::subject::Subject;

/// How often a kill comes early in the next life, not after a while of load.
const EARLY: f64 = 0.2;
/// The latest moment of such a kill after the start.
const EARLY_MS: u64 = 200;

/// Loads a server, kills it again and again, and audits it.
///
/// # Errors
/// If the server can't be started or doesn't come back; what the audit finds
/// stands in the report.
pub async fn crash(options: &CrashOptions) -> anyhow::Result<Report> {
    let seed = course::seed(options.outcome.seed);
    let started =
        Killable::start(&options.load, options.baken.as_deref(), options.keep, Vec::new()).await?;
    let Killable { mut subject, plan, enrolled, fleet, probe } = started;

    let course = Course::begin(&fleet, &subject, options.load.qos(), Duration::ZERO).await?;
    let mut killer = Killer {
        course,
        probe,
        random: StdRng::seed_from_u64(seed),
        kills: options.kills,
        mean_life: Duration::from_secs_f64(options.seconds / f64::from(options.kills + 1)),
        done: Vec::new(),
    };
    tokio::select! {
        killed = killer.run(&mut subject) => killed?,
        () = interrupted() => eprintln!("interrupted: the audit follows"),
    }
    if subject.node()?.check_alive().is_err() {
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
        let forget = async |subject: &mut Subject| subject.node()?.forget_alarms();
        report.replay = Some(replay(&mut subject, watch, limit, forget).await?);
    }
    subject.close().await?;
    Ok(report)
}

struct Killer {
    course: Course,
    probe: Probe,
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
            let node = subject.node()?;
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
        subject.node()?.start()?;
        self.await_serving().await
    }

    /// Lets the load go on.
    async fn live(&mut self, subject: &mut Subject, life: Duration) -> anyhow::Result<()> {
        let share = f64::from(u32::try_from(self.done.len())?) / f64::from(self.kills.max(1));
        self.course.go_on(subject, life, |_| share).await
    }

    /// Waits for the first CONNACK since the last start, which was just now.
    async fn await_serving(&mut self) -> anyhow::Result<()> {
        let took = self.probe.serving().await?;
        if let Some(kill) = self.done.last_mut() {
            kill.restart_ms = Some(took.as_secs_f64() * 1e3);
        }
        Ok(())
    }
}
