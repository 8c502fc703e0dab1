//! The course of a load: what is measured from its beginning to its end, the
//! line on the screen, and the judgement afterwards. `run` and `crash` differ
//! in what they do in between.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::distribution::Buckets;
use crate::enrol::Enrolled;
use crate::fleet::{Fleet, Outcome};
use crate::options::{LoadOptions, OutcomeOptions};
use crate::packets::QoS;
use crate::plan::Plan;
use crate::publisher::Load;
use crate::readback::Evidence;
use crate::report::{Memory, Report};
use crate::shared::{Shared, counted};
use crate::subject::Subject;
use crate::transitions;
use crate::usage::{self, Usage};

/// How long all connections may take to come up.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(120);
/// How often the line on the screen and the memory are looked at.
pub const TICK: Duration = Duration::from_secs(1);

/// A load that is under way.
#[derive(Debug)]
pub struct Course {
    shared: Arc<Shared>,
    qos: QoS,
    started: Instant,
    own_before: Usage,
    server_before: Option<Usage>,
    /// How long alarms took before.
    alarms_before: Buckets,
    memory: Memory,
    /// Messages of the warm-up, which the rate doesn't count.
    warm_up: u64,
    shown: (Instant, u64),
}

/// What was measured when the load ended.
#[derive(Clone, Copy, Debug)]
struct LoadEnd {
    load: Duration,
    /// Messages of the rate.
    messages: u64,
    own_cpu_us: u64,
    server_cpu_us: Option<u64>,
}

/// The load that the options ask for.
#[must_use]
pub fn load(options: &LoadOptions, plan: Plan) -> Load {
    let interval_us =
        if options.rate > 0.0 { f64::from(options.connections) * 1e6 / options.rate } else { 0.0 };
    Load {
        plan,
        version: options.mqtt_version.into(),
        qos: options.qos(),
        window: options.window,
        interval_us,
        messages_per_connection: None,
    }
}

impl Course {
    /// Begins the load of a fleet that is connected. What happens in the
    /// warm-up is audited, but in no figure of speed or cost.
    ///
    /// # Errors
    /// If the server's use can't be known though it should.
    pub async fn begin(
        fleet: &Fleet,
        subject: &Subject,
        qos: QoS,
        warm_up: Duration,
    ) -> anyhow::Result<Self> {
        fleet.begin();
        tokio::time::sleep(warm_up).await;
        let shared = Arc::clone(fleet.shared());
        shared.latencies().reset();
        let alarms_before = match &subject.api {
            Some(_) => subject.time_to_alarm().await?,
            None => Buckets::default(),
        };
        let server_before = subject.usage().await?;
        let rss_bytes = server_before.unwrap_or_default().rss_bytes;
        let own_before = usage::own()?;
        let started = Instant::now();
        let warm_up = messages(&shared, qos);
        Ok(Self {
            shared,
            qos,
            started,
            own_before,
            server_before,
            alarms_before,
            memory: Memory { start_bytes: rss_bytes, max_bytes: rss_bytes, ..Memory::default() },
            warm_up,
            shown: (started, 0),
        })
    }

    /// Since the load began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Lets the load go on for a while, and looks after it each tick; `share` is
    /// as in [`Course::tick`].
    ///
    /// # Errors
    /// If a server ends that was not killed, or its use can't be known.
    pub async fn go_on(
        &mut self,
        subject: &mut Subject,
        life: Duration,
        share: impl Fn(&Self) -> f64,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + life;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(TICK)).await;
            subject.check_alive()?;
            self.tick(subject, share(self)).await?;
        }
    }

    /// Shows where the load is, and looks at the server's memory. `share` is
    /// how much of the load is over, from 0 to 1.
    ///
    /// # Errors
    /// If the server's use can't be known though it should.
    pub async fn tick(&mut self, subject: &Subject, share: f64) -> anyhow::Result<()> {
        if let Some(usage) = subject.usage().await? {
            self.memory.max_bytes = self.memory.max_bytes.max(usage.rss_bytes);
            self.memory.end_bytes = usage.rss_bytes;
            if share >= 0.25 && self.memory.quarter_bytes == 0 {
                self.memory.quarter_bytes = usage.rss_bytes;
            }
        }
        self.show();
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "for the screen")]
    fn show(&mut self) {
        let (now, messages) = (Instant::now(), self.messages());
        let since = now.duration_since(self.shown.0).as_secs_f64().max(1e-3);
        let rate = (messages - self.shown.1) as f64 / since;
        self.shown = (now, messages);
        let counters = &self.shared.counters;
        let line = format!(
            "{:>5.0} s  {messages:>11} messages  {rate:>9.0}/s  p99 {:>7.1} ms  {} connected  {} breaks",
            self.elapsed().as_secs_f64(),
            self.shared.latency().p99_ms,
            counted(&counters.connected),
            counted(&counters.breaks),
        );
        let mut screen = std::io::stderr();
        // A screen that is gone is no reason to end the run.
        let _ = if screen.is_terminal() {
            write!(screen, "\r{line}  ").and_then(|()| screen.flush())
        } else {
            writeln!(screen, "{line}")
        };
    }

    /// Messages that the rate counts.
    #[must_use]
    pub fn messages(&self) -> u64 {
        messages(&self.shared, self.qos) - self.warm_up
    }

    async fn end(&self, subject: &Subject) -> anyhow::Result<LoadEnd> {
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
        Ok(LoadEnd {
            load: self.elapsed(),
            messages: self.messages(),
            own_cpu_us: usage::own()?.cpu_us - self.own_before.cpu_us,
            server_cpu_us: self.server_cpu_us(subject).await?,
        })
    }

    async fn server_cpu_us(&self, subject: &Subject) -> anyhow::Result<Option<u64>> {
        let now = subject.usage().await?;
        Ok(now
            .zip(self.server_before)
            .map(|(now, before)| now.cpu_us.saturating_sub(before.cpu_us)))
    }

    /// Ends the load: drains the fleet, waits for the history, reads all back
    /// and judges it.
    ///
    /// # Errors
    /// If the server doesn't answer, or a task here fell over.
    pub async fn conclude(
        self,
        fleet: Fleet,
        subject: &Subject,
        enrolled: Option<&Enrolled>,
        plan: Plan,
        options: &OutcomeOptions,
    ) -> anyhow::Result<Report> {
        let end = self.end(subject).await?;
        let outcome = fleet.drain(Duration::from_secs(options.drain_s)).await?;
        let mut report = self.report(&end, &outcome, &plan);
        let Some((api, enrolled)) = subject.api.as_ref().zip(enrolled) else {
            report.server_cpu_us_per_message =
                per_message(self.server_cpu_us(subject).await?, self.messages());
            return Ok(report);
        };
        if options.no_audit {
            report.server_cpu_us_per_message =
                per_message(self.server_cpu_us(subject).await?, self.messages());
            return Ok(report);
        }
        let devices = enrolled.devices(api, &plan).await?;
        let evidence = Arc::new(Evidence { plan, ledgers: outcome.ledgers, devices });
        eprintln!("waiting for the history to catch up");
        let caught_up = evidence.catch_up(api, Duration::from_secs(options.catch_up_s)).await?;
        report.catch_up_s = Some(caught_up.after.as_secs_f64());
        report.caught_up = Some(caught_up.complete);
        if let Some(watch) = enrolled.watch() {
            watch.catch_up(api, Duration::from_secs(options.catch_up_s)).await?;
            let took = subject.time_to_alarm().await?.since(&self.alarms_before);
            report.time_to_alarm = Some(took.spread());
        }
        report.server_cpu_us_per_message =
            per_message(self.server_cpu_us(subject).await?, self.messages());
        eprintln!("reading {} readings back", report.acknowledged);
        let judged = evidence.judge(api).await.context("the audit could not be done")?;
        report.verdict = judged.verdict;
        report.audited = true;
        if let Some(watch) = enrolled.watch() {
            let found = watch.read(api).await.context("the alarms could not be read")?;
            report.transitions = Some(transitions::compare(&judged.watched, &found));
        }
        Ok(report)
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of a run fit a double")]
    fn report(&self, end: &LoadEnd, outcome: &Outcome, plan: &Plan) -> Report {
        let counters = &self.shared.counters;
        let (mut offered, mut acknowledged) = (0, 0);
        for ledger in &outcome.ledgers {
            offered += plan.readings_in_first(ledger.offered());
            acknowledged += acknowledged_readings(plan, ledger);
        }
        let load_s = end.load.as_secs_f64();
        let messages_offered = outcome.ledgers.iter().map(|l| l.offered()).sum::<u64>();
        let rate_per_s = end.messages as f64 / load_s;
        let connections = u32::try_from(outcome.ledgers.len()).unwrap_or(u32::MAX);
        Report {
            connections,
            series: u64::from(connections) * u64::from(plan.devices()) * u64::from(plan.keys),
            load_s,
            offered,
            acknowledged,
            messages_offered,
            messages_acknowledged: outcome.ledgers.iter().map(|l| l.acknowledged()).sum(),
            messages_refused: outcome.ledgers.iter().map(|l| l.refused()).sum(),
            messages_sent_again: counted(&counters.sent_again),
            messages_unanswered: outcome.unanswered,
            acknowledged_out_of_order: counted(&counters.acknowledged_out_of_order),
            rate_per_s,
            readings_per_s: rate_per_s * offered as f64 / (messages_offered.max(1)) as f64,
            puback_latency: self.shared.latency(),
            server_cores_under_load: end.server_cpu_us.map(|us| us as f64 / 1e6 / load_s),
            server_cpu_us_per_message_under_load: per_message(end.server_cpu_us, end.messages),
            loadtest_cpu_us_per_message: per_message(Some(end.own_cpu_us), end.messages)
                .unwrap_or_default(),
            server_memory: self.server_before.map(|_| self.memory),
            connects: counted(&counters.connects),
            breaks: counted(&counters.breaks),
            connect_failures: counted(&counters.connect_failures),
            reasons: self.shared.reasons(),
            ..Report::default()
        }
    }
}

fn messages(shared: &Shared, qos: QoS) -> u64 {
    counted(match qos {
        QoS::AtMostOnce => &shared.counters.offered,
        QoS::AtLeastOnce => &shared.counters.acknowledged,
    })
}

fn acknowledged_readings(plan: &Plan, ledger: &crate::ledger::Ledger) -> u64 {
    if plan.buffered_every == 0 {
        return ledger.acknowledged() * plan.readings_in(0);
    }
    (0..ledger.offered())
        .filter(|&message| ledger.is_acknowledged(message))
        .map(|message| plan.readings_in(message))
        .sum()
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a run fit a double")]
fn per_message(cpu_us: Option<u64>, messages: u64) -> Option<f64> {
    cpu_us.filter(|_| messages > 0).map(|cpu_us| cpu_us as f64 / messages as f64)
}

/// A seed for all random choices of a run; printed, so that it can be repeated.
#[must_use]
pub fn seed(given: Option<u64>) -> u64 {
    let seed = given.unwrap_or_else(rand::random);
    eprintln!("seed: {seed}");
    seed
}

/// Ends when the user or the system wants this process to end.
pub async fn interrupted() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}
