//! Rounds of the same load: each with times of its own, so that what is forwarded
//! of one can't be taken for another's.

use std::time::{Duration, Instant};

use anyhow::ensure;
use schema::TimestampMs;

use super::process::{Ask, HubProcess};
use super::report::{Audit, Round};
use crate::connect::Login;
use crate::course::{self, CONNECT_DEADLINE};
use crate::enrol;
use crate::fleet::{Fleet, Outcome};
use crate::options::{ForwarderLoadOptions, LoadOptions};
use crate::publisher::Load;
use crate::shared::counted;
use crate::subject::Subject;

/// From the first time of a round to that of the next: messages of a device are a
/// millisecond apart.
const ROUND_MS: i64 = 1_200_000;

/// How often the double is asked whether all has come.
const LOOK: Duration = Duration::from_millis(100);

pub(super) struct Rounds<'a> {
    options: &'a ForwarderLoadOptions,
    load: Load,
    subject: &'a Subject,
    logins: Vec<Login>,
}

/// What a fleet did, and what the server spent on it.
struct Driven {
    outcome: Outcome,
    seconds: f64,
    acknowledged: u64,
    cpu_us: u64,
    puback_p99_ms: f64,
}

impl<'a> Rounds<'a> {
    pub fn new(
        options: &'a ForwarderLoadOptions,
        load: &LoadOptions,
        subject: &'a Subject,
        logins: Vec<Login>,
    ) -> Self {
        let load = course::load(load, enrol::plan(load));
        Self { options, load, subject, logins }
    }

    /// One message of each router, so that each forwarder has something to send.
    pub async fn touch(&mut self, hub: &mut HubProcess, audit: &mut Audit) -> anyhow::Result<()> {
        let load = Load { messages_per_connection: Some(1), interval_us: 0.0, ..self.begin() };
        self.announce(hub, &load).await?;
        let fleet = self.fleet(load).await?;
        fleet.begin();
        let deadline = Instant::now() + CONNECT_DEADLINE;
        let offered = || counted(&fleet.shared().counters.acknowledged);
        while offered() < self.logins.len() as u64 {
            ensure!(Instant::now() < deadline, "the routers' first messages are not acknowledged");
            tokio::time::sleep(LOOK).await;
        }
        let outcome = fleet.drain(CONNECT_DEADLINE).await?;
        self.arrived(hub, &outcome, audit).await?;
        Ok(())
    }

    /// A round of so many seconds; with the double, it ends when all has come
    /// there.
    pub async fn round(
        &mut self,
        forwarding: Option<(&mut HubProcess, &mut Audit)>,
        seconds: f64,
    ) -> anyhow::Result<Round> {
        let load = self.begin();
        let Some((hub, audit)) = forwarding else {
            let driven = self.drive(load, seconds).await?;
            return Ok(self.measured(&driven));
        };
        self.announce(hub, &load).await?;
        let driven = self.drive(load, seconds).await?;
        let values = hub.ask(Ask::Tally).await?.values;
        let catch_up_s = self.arrived(hub, &driven.outcome, audit).await?;
        Ok(Round {
            forwarding: true,
            values_per_s: Some(per(values, driven.seconds)),
            catch_up_s: Some(catch_up_s),
            ..self.measured(&driven)
        })
    }

    /// The load of the next round.
    fn begin(&mut self) -> Load {
        self.load.plan.live_base = TimestampMs(self.load.plan.live_base.0 + ROUND_MS);
        self.load.clone()
    }

    async fn announce(&self, hub: &mut HubProcess, load: &Load) -> anyhow::Result<()> {
        let base_ms = load.plan.live_base.0;
        hub.ask(Ask::Begin { base_ms, selected_keys: self.options.selected_keys }).await?;
        Ok(())
    }

    async fn fleet(&self, load: Load) -> anyhow::Result<Fleet> {
        let fleet = Fleet::start(load, self.subject.target.clone(), self.logins.clone());
        fleet.connected(CONNECT_DEADLINE).await?;
        Ok(fleet)
    }

    async fn drive(&self, load: Load, seconds: f64) -> anyhow::Result<Driven> {
        let fleet = self.fleet(load).await?;
        let before = self.subject.usage().await?.unwrap_or_default();
        let started = Instant::now();
        fleet.begin();
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        let seconds = started.elapsed().as_secs_f64();
        let acknowledged = counted(&fleet.shared().counters.acknowledged);
        let after = self.subject.usage().await?.unwrap_or_default();
        let puback_p99_ms = fleet.shared().latency().p99_ms;
        let outcome = fleet.drain(Duration::from_secs_f64(self.options.catch_up_s)).await?;
        let cpu_us = after.cpu_us.saturating_sub(before.cpu_us);
        Ok(Driven { outcome, seconds, acknowledged, cpu_us, puback_p99_ms })
    }

    fn measured(&self, driven: &Driven) -> Round {
        let readings = driven.acknowledged * u64::from(self.load.plan.keys);
        Round {
            readings_per_s: per(readings, driven.seconds),
            server_cpu_us_per_reading: per(driven.cpu_us, per(readings, 1.0).max(1.0)),
            server_cores: per(driven.cpu_us, driven.seconds * 1e6),
            puback_p99_ms: driven.puback_p99_ms,
            ..Round::default()
        }
    }

    /// Waits until the double has all that was acknowledged of a round, and notes
    /// what it has; how long that took.
    async fn arrived(
        &self,
        hub: &mut HubProcess,
        outcome: &Outcome,
        audit: &mut Audit,
    ) -> anyhow::Result<f64> {
        let sum =
            |count: fn(&crate::ledger::Ledger) -> u64| outcome.ledgers.iter().map(count).sum();
        let (offered, acknowledged): (u64, u64) =
            (sum(|it| it.offered()), sum(|it| it.acknowledged()));
        // A message that was neither acknowledged nor refused may have arrived or
        // not, and the audit would not be one.
        ensure!(offered == acknowledged, "{acknowledged} of {offered} messages acknowledged");
        let started = Instant::now();
        let patience = Duration::from_secs_f64(self.options.catch_up_s);
        let tally = loop {
            let tally = hub.ask(Ask::Tally).await?;
            if tally.messages >= acknowledged || started.elapsed() > patience {
                break tally;
            }
            tokio::time::sleep(LOOK).await;
        };
        if tally.messages < acknowledged {
            eprintln!("of {acknowledged} messages of this round: {tally:?}");
        }
        audit.note(&tally, acknowledged, u64::from(self.options.selected_keys));
        Ok(started.elapsed().as_secs_f64())
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of a run fit a double")]
fn per(count: u64, of: f64) -> f64 {
    count as f64 / of
}
