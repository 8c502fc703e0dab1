//! A server under load that is there to be killed, or several nodes of one: started
//! here, with a fleet connected to it and one more router, which sees when it is back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::alarms::Watch;
use crate::connect::{Login, Target, connect};
use crate::course::{self, CONNECT_DEADLINE};
use crate::enrol::{self, Enrolled};
use crate::fleet::Fleet;
use crate::node::START_TIMEOUT;
use crate::options::LoadOptions;
use crate::plan::Plan;
use crate::subject::{Subject, baken};
use crate::transitions::Replay;
use crate::usage;

/// Between two attempts to see whether the server is back.
const LOOK: Duration = Duration::from_millis(5);

/// The parts of such a run, before its load begins.
#[derive(Debug)]
pub struct Killable {
    pub subject: Subject,
    pub plan: Plan,
    pub enrolled: Enrolled,
    pub fleet: Fleet,
    pub probe: Probe,
}

/// A router that carries no load.
#[derive(Debug)]
pub struct Probe {
    target: Target,
    login: Login,
}

impl Killable {
    /// Starts the server with settings as environment variables, and connects
    /// the fleet.
    ///
    /// # Errors
    /// If the options contradict one another, or the server doesn't come up.
    pub async fn start(
        load: &LoadOptions,
        program: Option<&Path>,
        keep: bool,
        settings: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        load.check()?;
        usage::check_file_limit(load.connections)?;
        let subject = Subject::start_with(&baken(program)?, keep, false, settings).await?;
        Self::connected(load, subject).await
    }

    /// Connects the fleet to a server that was started.
    ///
    /// # Errors
    /// If the routers can't be made, or don't come to be connected.
    pub async fn connected(load: &LoadOptions, subject: Subject) -> anyhow::Result<Self> {
        let plan = enrol::plan(load);
        let version = load.mqtt_version.into();
        let api = subject.api.as_ref().context("a server that was started has an API")?;
        let enrolled = Enrolled::make(api, &plan, load.connections, 1, load.locations).await?;
        let login = enrolled.extra_logins(version).pop();
        let login = login.context("the probe's router is missing")?;
        let logins = enrolled.logins(version, load.keep_alive_s);
        let target = subject.target.clone();
        let fleet = Fleet::start(course::load(load, plan.clone()), target.clone(), logins);
        fleet.connected(CONNECT_DEADLINE).await?;
        Ok(Self { subject, plan, enrolled, fleet, probe: Probe { target, login } })
    }
}

/// The same input without faults: all that is known of alarms is forgotten, and the
/// nodes start on the same journal and raise them from its start.
///
/// # Errors
/// If a node doesn't stop, start or answer, or `forget` fails.
pub async fn replay(
    subject: &mut Subject,
    watch: Watch,
    limit: Duration,
    forget: impl AsyncFnOnce(&mut Subject) -> anyhow::Result<()>,
) -> anyhow::Result<Replay> {
    let api = subject.api.clone().context("a server that was started has an API")?;
    eprintln!("raising all alarms again, in one go");
    let faulted = watch.read(&api).await?;
    subject.stop().await?;
    forget(subject).await?;
    for node in &mut subject.nodes {
        node.start()?;
        node.answers().await?;
    }
    watch.catch_up(&api, limit).await?;
    let whole = watch.read(&api).await?;
    Ok(Replay::compare(&faulted, &whole))
}

impl Probe {
    /// Waits for the first CONNACK of a server that was started just now; how
    /// long that took.
    ///
    /// # Errors
    /// If there is none in the time that a start may take.
    pub async fn serving(&self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        while connect(&self.target, 0, &self.login).await.is_err() {
            ensure!(
                started.elapsed() < START_TIMEOUT,
                "the server isn't back {} s after its restart",
                START_TIMEOUT.as_secs()
            );
            tokio::time::sleep(LOOK).await;
        }
        Ok(started.elapsed())
    }
}
