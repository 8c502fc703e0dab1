//! What a run of forwarders found.

use serde::Serialize;

use super::tally::Tally;
use crate::options::ForwarderLoadOptions;

/// The figures, with their units in their names.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ForwardersReport {
    pub kind: &'static str,
    /// Each of a location with one router.
    pub forwarders: u32,
    /// Of a message; a reading is one value of one key.
    pub keys: u32,
    pub selected_keys: u32,
    /// What the routers were to offer; 0 is as much as the server takes.
    pub asked_readings_per_s: f64,
    pub seconds_per_round: f64,
    /// From switching all on until each had connected and sent one message.
    pub connect_s: f64,
    pub memory: ConnectionMemory,
    pub rounds: Vec<Round>,
    /// The means of the rounds.
    pub readings_per_s_without: f64,
    pub readings_per_s_with: f64,
    /// By how much the ingest rate falls with forwarders.
    pub fall_percent: f64,
    /// Values that came to the double while the load lasted.
    pub values_per_s: f64,
    pub server_cpu_us_per_reading_without: f64,
    pub server_cpu_us_per_reading_with: f64,
    pub audit: Audit,
}

/// The server's memory without load, by what it holds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ConnectionMemory {
    /// With all forwarders made and switched off.
    pub rss_disabled_bytes: u64,
    /// Switched on, not connected.
    pub rss_enabled_bytes: u64,
    /// Connected, and idle.
    pub rss_connected_bytes: u64,
    /// Of a forwarder that is switched on.
    pub bytes_per_forwarder: u64,
    /// Of its TLS connection, over that.
    pub bytes_per_connection: u64,
}

/// A round of the load.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Round {
    pub forwarding: bool,
    /// Acknowledged.
    pub readings_per_s: f64,
    pub puback_p99_ms: f64,
    /// Processor time of the server while the load lasted.
    pub server_cpu_us_per_reading: f64,
    pub server_cores: f64,
    /// That came to the double while the load lasted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values_per_s: Option<f64>,
    /// From the end of the load until all had come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up_s: Option<f64>,
}

/// What was selected, compared with what came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Selected values of messages that the server has acknowledged.
    pub values_expected: u64,
    pub values_arrived: u64,
    pub values_missing: u64,
    pub messages_doubled: u64,
    pub messages_out_of_order: u64,
    pub messages_wrong: u64,
    /// Publishes over the platform's rate.
    pub discarded: u64,
    /// Values that the forwarders' own accounts call sent.
    pub sent_by_accounts: u64,
}

impl Audit {
    /// Notes what came of a round with so many messages.
    pub fn note(&mut self, tally: &Tally, messages: u64, values_per_message: u64) {
        let expected = messages * values_per_message;
        self.values_expected += expected;
        self.values_arrived += tally.values;
        self.values_missing += expected.saturating_sub(tally.values);
        self.messages_doubled += tally.doubled;
        self.messages_out_of_order += tally.skipped;
        self.messages_wrong += tally.wrong;
    }
}

impl ConnectionMemory {
    #[must_use]
    pub fn of(disabled: u64, enabled: u64, connected: u64, count: u64) -> Self {
        Self {
            rss_disabled_bytes: disabled,
            rss_enabled_bytes: enabled,
            rss_connected_bytes: connected,
            bytes_per_forwarder: enabled.saturating_sub(disabled) / count.max(1),
            bytes_per_connection: connected.saturating_sub(enabled) / count.max(1),
        }
    }
}

impl Round {
    /// For the screen.
    #[must_use]
    pub fn line(&self) -> String {
        let kind = if self.forwarding { "with   " } else { "without" };
        let mut line = format!(
            "{kind} {:>9.0} readings/s  {:.2} us of the server's processor each  p99 {:.1} ms",
            self.readings_per_s, self.server_cpu_us_per_reading, self.puback_p99_ms
        );
        if let (Some(values), Some(catch_up_s)) = (self.values_per_s, self.catch_up_s) {
            line += &format!("  {values:.0} values/s forwarded, the rest {catch_up_s:.1} s later");
        }
        line
    }
}

impl ForwardersReport {
    #[must_use]
    pub fn of(options: &ForwarderLoadOptions) -> Self {
        Self {
            kind: "forwarders",
            forwarders: options.forwarders,
            keys: options.keys,
            selected_keys: options.selected_keys,
            asked_readings_per_s: options.readings_per_s,
            seconds_per_round: options.seconds,
            ..Self::default()
        }
    }

    /// Adds the rounds up.
    pub fn conclude(&mut self) {
        let mean = |forwarding: bool, figure: fn(&Round) -> f64| {
            let rounds = self.rounds.iter().filter(|round| round.forwarding == forwarding);
            let (count, sum) = rounds.fold((0_u32, 0.0), |(n, sum), it| (n + 1, sum + figure(it)));
            sum / f64::from(count.max(1))
        };
        let (without, with) =
            (mean(false, |it| it.readings_per_s), mean(true, |it| it.readings_per_s));
        let values_per_s = mean(true, |it| it.values_per_s.unwrap_or_default());
        let cpu = |forwarding| mean(forwarding, |it| it.server_cpu_us_per_reading);
        let (cpu_without, cpu_with) = (cpu(false), cpu(true));
        self.readings_per_s_without = without;
        self.readings_per_s_with = with;
        self.fall_percent = if without > 0.0 { (1.0 - with / without) * 100.0 } else { 0.0 };
        self.values_per_s = values_per_s;
        self.server_cpu_us_per_reading_without = cpu_without;
        self.server_cpu_us_per_reading_with = cpu_with;
    }

    /// What is wrong; figures are for the reader to judge.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let Audit { values_expected, sent_by_accounts, .. } = self.audit;
        let mut faults = Vec::new();
        if values_expected == 0 {
            faults.push("nothing was selected".to_owned());
        }
        for (count, what) in [
            (self.audit.values_missing, "values missing"),
            (self.audit.messages_doubled, "messages doubled"),
            (self.audit.messages_out_of_order, "messages out of order"),
            (self.audit.messages_wrong, "messages wrong"),
            (self.audit.discarded, "messages over the platform's rate"),
        ] {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        }
        if sent_by_accounts != values_expected {
            faults.push(format!(
                "{sent_by_accounts} of {values_expected} values sent by the forwarders' accounts"
            ));
        }
        faults
    }

    /// For the screen.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "{} forwarders: {} bytes each, and {} bytes for a TLS connection\n\
             {:.0} readings/s without, {:.0} with ({:.1} % less); {:.0} values/s forwarded\n\
             {:.3} us of the server's processor for a reading without, {:.3} with\n\
             {} of {} selected values arrived, {} messages twice\n",
            self.forwarders,
            self.memory.bytes_per_forwarder,
            self.memory.bytes_per_connection,
            self.readings_per_s_without,
            self.readings_per_s_with,
            self.fall_percent,
            self.values_per_s,
            self.server_cpu_us_per_reading_without,
            self.server_cpu_us_per_reading_with,
            self.audit.values_arrived,
            self.audit.values_expected,
            self.audit.messages_doubled,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(forwarding: bool, readings_per_s: f64) -> Round {
        let values_per_s = forwarding.then_some(readings_per_s / 10.0);
        Round { forwarding, readings_per_s, values_per_s, ..Round::default() }
    }

    #[test]
    fn a_fall_is_told_from_the_means_of_both_kinds_of_rounds() {
        let mut report = ForwardersReport {
            rounds: vec![
                round(true, 90.0),
                round(false, 110.0),
                round(false, 90.0),
                round(true, 100.0),
            ],
            ..ForwardersReport::default()
        };
        report.conclude();
        assert!((report.fall_percent - 5.0).abs() < 1e-9, "{}", report.fall_percent);
        assert!((report.values_per_s - 9.5).abs() < 1e-9);
        let memory = ConnectionMemory::of(1_000, 3_000, 8_000, 10);
        assert_eq!((memory.bytes_per_forwarder, memory.bytes_per_connection), (200, 500));
    }

    #[test]
    fn what_does_not_add_up_is_a_fault() {
        let mut report = ForwardersReport::default();
        assert_eq!(report.faults(), ["nothing was selected"]);
        let tally = Tally { messages: 9, values: 90, doubled: 1, ..Tally::default() };
        report.audit.note(&tally, 10, 10);
        report.audit.sent_by_accounts = 100;
        assert_eq!(report.faults(), ["10 values missing", "1 messages doubled"]);
        let mut report = ForwardersReport::default();
        report.audit.note(&Tally { messages: 10, values: 100, ..Tally::default() }, 10, 10);
        assert_eq!(report.faults(), ["0 of 100 values sent by the forwarders' accounts"]);
        report.audit.sent_by_accounts = 100;
        assert!(report.faults().is_empty());
    }
}
