//! The figures of a run, for a file and for the screen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::audit::Verdict;
use crate::distribution::Spread;
use crate::misbehave::MisbehaviourReport;
use crate::shared::Latency;
use crate::transitions::{Replay, Transitions};

/// All figures. Readings are values of one key of one device at one time;
/// messages are MQTT publishes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// `run`, `crash`, `backlog` or `cluster`.
    pub kind: &'static str,
    pub seed: u64,
    pub connections: u32,
    /// Devices times keys.
    pub series: u64,
    /// How long the load lasted.
    pub load_s: f64,

    /// Readings.
    pub offered: u64,
    /// Readings in messages that were acknowledged.
    pub acknowledged: u64,
    /// What was read back, in readings.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Whether all was read back and judged.
    pub audited: bool,

    pub messages_offered: u64,
    pub messages_acknowledged: u64,
    /// Messages that the server said no to.
    pub messages_refused: u64,
    /// Messages that were sent again after a broken connection.
    pub messages_sent_again: u64,
    /// Messages that had no answer in the end.
    pub messages_unanswered: u64,
    /// PUBACKs that came out of the order of their publishes.
    pub acknowledged_out_of_order: u64,
    /// Messages acknowledged a second, while the load lasted; at QoS 0, sent.
    pub rate_per_s: f64,
    /// The same in readings.
    pub readings_per_s: f64,
    pub puback_latency: Latency,

    /// Processor time of the server until its history has caught up, for each
    /// message of the rate.
    pub server_cpu_us_per_message: Option<f64>,
    /// The same until the load ended.
    pub server_cpu_us_per_message_under_load: Option<f64>,
    /// The same in processor cores that it kept busy.
    pub server_cores_under_load: Option<f64>,
    pub loadtest_cpu_us_per_message: f64,
    pub server_memory: Option<Memory>,
    /// From the end of the load until queries show all that was acknowledged.
    pub catch_up_s: Option<f64>,
    /// Whether they did so before the deadline.
    pub caught_up: Option<bool>,

    /// Times that a connection came up, was ended by the server or the
    /// network, or didn't come about.
    pub connects: u64,
    pub breaks: u64,
    pub connect_failures: u64,
    /// Why connections ended and messages were refused.
    pub reasons: BTreeMap<String, u64>,
    pub misbehaviour: Option<MisbehaviourReport>,

    /// The alarms of a load with --alarms-share or --alarms-per-s.
    pub transitions: Option<Transitions>,
    /// From a reading's receipt at the socket to the committed transition, by
    /// the server's own count.
    pub time_to_alarm: Option<Spread>,
    /// Of `crash` and `cluster`: the same alarms, raised from the same journal in
    /// one go.
    pub replay: Option<Replay>,

    /// Of `cluster`: what it consisted of.
    pub nodes: Option<u32>,
    pub brokers: Option<u32>,
    pub partitions: Option<u32>,
    /// Of `cluster` whose services live: processor time of Kafka's and of
    /// PostgreSQL's processes under load, for each message of the rate.
    pub kafka_cpu_us_per_message: Option<f64>,
    pub postgres_cpu_us_per_message: Option<f64>,
    /// Of `cluster`: each kill of a broker or of the database.
    pub faults: Vec<Fault>,
    /// Starts of a node that ended before it answered, because a service was
    /// killed under it.
    pub failed_starts: u32,
    /// Nodes that were stopped in order and started anew, in their order.
    pub upgraded: Vec<Upgraded>,

    /// Of `crash` and `cluster`: each kill of a server.
    pub kills: Vec<Kill>,
    /// From the start after a kill until the first CONNACK; of a cluster's node
    /// until it answers.
    pub restart_ms_median: Option<f64>,
    pub restart_ms_max: Option<f64>,
    /// How a server caught up that was killed with much to do.
    pub backlog: Option<Backlog>,
}

/// What a server had to do again after a SIGKILL, and how fast it did.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Backlog {
    /// Readings that were in no history file when it was killed.
    pub readings: u64,
    /// From the start that followed until the first CONNACK.
    pub restart_ms: f64,
    /// Until queries were less than a second behind the PUBACKs.
    pub caught_up_s: f64,
    /// Readings recorded in that time.
    pub recorded: u64,
    pub recorded_per_s: f64,
    /// Readings acknowledged a second before the kill.
    pub live_per_s: f64,
    /// How many times the live rate it caught up at.
    pub ratio: f64,
}

/// A SIGKILL.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Kill {
    /// After the load began.
    pub at_s: f64,
    /// From the start that followed until the first CONNACK, of a cluster's node
    /// until it answers; none if it was killed again before that.
    pub restart_ms: Option<f64>,
}

/// A SIGKILL of a service that is not ours.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// `kafka-1` and so on, or `postgres`.
    pub what: String,
    /// After the load began.
    pub at_s: f64,
    /// From its end until it was started again.
    pub away_s: f64,
    /// From then on until it answered.
    pub restart_ms: f64,
}

/// A node's stop in order and its start as another program.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Upgraded {
    /// After the load began.
    pub at_s: f64,
    /// From the word to stop until its end.
    pub stopped_ms: f64,
    /// From the start that followed until it answers.
    pub restart_ms: f64,
}

/// Memory of the server in RAM.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    pub start_bytes: u64,
    /// When a quarter of the load was over: from here on it should be flat.
    pub quarter_bytes: u64,
    pub end_bytes: u64,
    pub max_bytes: u64,
}

impl Report {
    /// Why the run failed; empty if it did not.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |count: u64, what: &str| {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        };
        fault(self.verdict.missing, "readings missing");
        fault(self.verdict.doubled, "readings doubled");
        fault(self.verdict.wrong, "readings wrong");
        fault(self.verdict.unexpected, "readings unexpected");
        fault(self.verdict.out_of_order, "readings out of order");
        if let Some(alarms) = &self.transitions {
            fault(alarms.missing, "transitions missing");
            fault(alarms.doubled, "transitions doubled");
            fault(alarms.wrong, "transitions wrong");
        }
        if let Some(replay) = &self.replay {
            fault(replay.missing, "transitions missing that a run without kills has");
            fault(replay.added, "transitions that a run without kills has not");
            fault(replay.different, "transitions other than in a run without kills");
        }
        if self.transitions.as_ref().is_some_and(|alarms| alarms.expected == 0) {
            faults.push("no alarm was due".to_owned());
        }
        if self.messages_offered == 0 {
            faults.push("nothing was offered".to_owned());
        }
        if self.audited && self.verdict.stored == 0 {
            faults.push("nothing was stored".to_owned());
        }
        faults
    }

    /// Notes the kills and their restart times.
    pub fn set_kills(&mut self, kills: Vec<Kill>) {
        let mut times: Vec<f64> = kills.iter().filter_map(|kill| kill.restart_ms).collect();
        times.sort_by(f64::total_cmp);
        self.restart_ms_median = times.get(times.len() / 2).copied();
        self.restart_ms_max = times.last().copied();
        self.kills = kills;
    }

    /// The figures in words.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, figures: String| {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{what:<14}{figures}");
        };
        let v = &self.verdict;
        line("offered", format!("{} readings in {} messages", self.offered, self.messages_offered));
        line(
            "acknowledged",
            format!("{} readings in {} messages", self.acknowledged, self.messages_acknowledged),
        );
        if self.audited {
            line(
                "stored",
                format!(
                    "{}; missing {}, doubled {}, wrong {}, unexpected {}, out of order {}",
                    v.stored, v.missing, v.doubled, v.wrong, v.unexpected, v.out_of_order
                ),
            );
        } else {
            line("stored", "not audited".to_owned());
        }
        line(
            "rate",
            format!(
                "{:.0} messages/s, {:.0} readings/s for {:.1} s",
                self.rate_per_s, self.readings_per_s, self.load_s
            ),
        );
        let l = &self.puback_latency;
        line(
            "PUBACK",
            format!(
                "p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                l.p50_ms, l.p90_ms, l.p99_ms, l.max_ms
            ),
        );
        let cpu = |figure: Option<f64>| figure.map_or("?".to_owned(), |us| format!("{us:.2} µs"));
        line(
            "CPU/message",
            format!(
                "server {} ({} under load, {:.2} cores), load test {:.2} µs",
                cpu(self.server_cpu_us_per_message),
                cpu(self.server_cpu_us_per_message_under_load),
                self.server_cores_under_load.unwrap_or(f64::NAN),
                self.loadtest_cpu_us_per_message
            ),
        );
        if let Some(memory) = &self.server_memory {
            let mib = |bytes: u64| bytes >> 20;
            line(
                "memory",
                format!(
                    "{} MiB at first, {} after a quarter, {} at the end, {} at most",
                    mib(memory.start_bytes),
                    mib(memory.quarter_bytes),
                    mib(memory.end_bytes),
                    mib(memory.max_bytes)
                ),
            );
        }
        self.alarm_lines(&mut line);
        if !self.kills.is_empty() {
            line(
                "kills",
                format!(
                    "{}; serving again after {:.0} ms (median), {:.0} ms (most)",
                    self.kills.len(),
                    self.restart_ms_median.unwrap_or(f64::NAN),
                    self.restart_ms_max.unwrap_or(f64::NAN)
                ),
            );
        }
        self.cluster_lines(&mut line);
        if let Some(backlog) = &self.backlog {
            line(
                "backlog",
                format!(
                    "{} readings; serving after {:.0} ms, caught up after {:.1} s at {:.0} \
                     readings/s, {:.1} times the live rate",
                    backlog.readings,
                    backlog.restart_ms,
                    backlog.caught_up_s,
                    backlog.recorded_per_s,
                    backlog.ratio
                ),
            );
        }
        if !self.reasons.is_empty() {
            line("reasons", format!("{:?}", self.reasons));
        }
        let alarms = self.transitions.iter().flat_map(|alarms| &alarms.examples);
        let replay = self.replay.iter().flat_map(|replay| &replay.examples);
        for example in v.examples.iter().chain(alarms).chain(replay) {
            line("fault", example.clone());
        }
        text
    }

    fn cluster_lines(&self, line: &mut impl FnMut(&str, String)) {
        if let (Some(nodes), Some(brokers), Some(partitions)) =
            (self.nodes, self.brokers, self.partitions)
        {
            let shape = format!("{nodes} nodes, {brokers} brokers, {partitions} partitions");
            line("cluster", shape);
        }
        if let (Some(kafka), Some(postgres)) =
            (self.kafka_cpu_us_per_message, self.postgres_cpu_us_per_message)
        {
            line("", format!("Kafka {kafka:.2} µs, PostgreSQL {postgres:.2} µs a message"));
        }
        if !self.upgraded.is_empty() {
            let most = |of: fn(&Upgraded) -> f64| self.upgraded.iter().map(of).fold(0.0, f64::max);
            line(
                "upgraded",
                format!(
                    "{} nodes one after another; stopped within {:.0} ms, back within {:.0} ms",
                    self.upgraded.len(),
                    most(|it| it.stopped_ms),
                    most(|it| it.restart_ms)
                ),
            );
        }
        if !self.faults.is_empty() {
            let databases = self.faults.iter().filter(|fault| fault.what == "postgres").count();
            let brokers = self.faults.len() - databases;
            line(
                "services",
                format!(
                    "{brokers} brokers killed, the database {databases} times; {} starts of a node failed",
                    self.failed_starts
                ),
            );
        }
    }

    fn alarm_lines(&self, line: &mut impl FnMut(&str, String)) {
        if let Some(alarms) = &self.transitions {
            line(
                "alarms",
                format!(
                    "{} transitions expected, {} found; missing {}, doubled {}, wrong {}",
                    alarms.expected, alarms.found, alarms.missing, alarms.doubled, alarms.wrong
                ),
            );
        }
        if let Some(replay) = &self.replay {
            line(
                "in one go",
                format!(
                    "{} transitions; through the kills missing {}, added {}, different {}",
                    replay.transitions, replay.missing, replay.added, replay.different
                ),
            );
        }
        if let Some(took) = &self.time_to_alarm {
            let ms = |ms: Option<f64>| ms.map_or("?".to_owned(), |ms| format!("{ms:.1} ms"));
            line(
                "time to alarm",
                format!(
                    "p50 {}, p99 {} (at most {}) of {}",
                    ms(took.p50_ms),
                    ms(took.p99_ms),
                    ms(took.p99_at_most_ms),
                    took.count
                ),
            );
        }
    }
}

/// Writes figures as JSON.
///
/// # Errors
/// If the file can't be written.
pub fn write_json(path: &Path, figures: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(figures)?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| format!("{} can't be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audits_figures_stand_beside_the_others() {
        let verdict = Verdict { stored: 7, missing: 2, doubled: 1, ..Verdict::default() };
        let report = Report { verdict, audited: true, messages_offered: 3, ..Report::default() };
        let json = serde_json::to_value(&report).unwrap();
        for (name, value) in [("stored", 7), ("missing", 2), ("doubled", 1)] {
            assert_eq!(json[name], value);
        }
        assert_eq!(report.faults(), ["2 readings missing", "1 readings doubled"]);
    }

    #[test]
    fn alarms_that_are_not_as_they_should_be_are_faults() {
        let sound = Report {
            audited: true,
            messages_offered: 1,
            verdict: Verdict { stored: 1, ..Verdict::default() },
            transitions: Some(Transitions { expected: 2, found: 2, ..Transitions::default() }),
            replay: Some(Replay { transitions: 2, ..Replay::default() }),
            ..Report::default()
        };
        assert!(sound.faults().is_empty(), "{:?}", sound.faults());
        let json = serde_json::to_value(&sound).unwrap();
        assert_eq!(
            (&json["transitions"]["expected"], &json["replay"]["transitions"]),
            (&2.into(), &2.into())
        );
        let transitions = |change: fn(&mut Transitions)| {
            let mut report = sound.clone();
            change(report.transitions.as_mut().unwrap());
            report.faults().join("")
        };
        assert_eq!(transitions(|t| t.missing = 1), "1 transitions missing");
        assert_eq!(transitions(|t| t.doubled = 1), "1 transitions doubled");
        assert_eq!(transitions(|t| t.wrong = 1), "1 transitions wrong");
        assert_eq!(transitions(|t| t.expected = 0), "no alarm was due");
        let replay = |change: fn(&mut Replay)| {
            let mut report = sound.clone();
            change(report.replay.as_mut().unwrap());
            report.faults().len()
        };
        assert_eq!(replay(|r| r.missing = 1), 1);
        assert_eq!(replay(|r| r.added = 1), 1);
        assert_eq!(replay(|r| r.different = 1), 1);
    }

    #[test]
    fn a_run_that_did_nothing_is_a_fault() {
        assert_eq!(Report::default().faults(), ["nothing was offered"]);
        let silent = Report { audited: true, messages_offered: 1, ..Report::default() };
        assert_eq!(silent.faults(), ["nothing was stored"]);
    }

    #[test]
    fn restart_times_leave_out_what_was_killed_again() {
        let mut report = Report::default();
        let kill = |restart_ms| Kill { at_s: 0.0, restart_ms };
        report.set_kills(vec![kill(Some(30.0)), kill(None), kill(Some(10.0)), kill(Some(20.0))]);
        assert_eq!((report.restart_ms_median, report.restart_ms_max), (Some(20.0), Some(30.0)));
    }
}
