//! The profile of a tenant's system alarms: written by Baken itself from the
//! tenant's settings, and carried to the partitions as every other.

use std::fmt::Write as _;
use std::time::Duration;

use alarm_core::{check, parse_toml};
use schema::{
    Author, KEY_CLOCK_OFFSET, KEY_CONNECTED, KEY_DISCONNECTED_SINCE, KEY_ENABLED, KEY_REFUSED,
    KEY_REFUSED_REASONS, KEY_SILENT, KEY_SILENT_SINCE, SystemAlarm, TenantId, TenantSettings,
};
use store::alarms::{AlarmStoreError, ProfileChange};

use super::{AlarmCommands, CommandError, deleted, saved};
use crate::clock::now;

impl AlarmCommands {
    /// Sees to it that the tenant's system alarms are as its settings say, or
    /// gone where there is no such tenant. What follows is in the journal on
    /// return; whether it was done already is told.
    pub(crate) async fn settle_system_profile(
        &self,
        tenant: TenantId,
        settings: Option<&TenantSettings>,
        refused_repeat: Duration,
    ) -> Result<bool, CommandError> {
        let known = self.store.system_profile(tenant).await?;
        let source = settings.map(|settings| source(settings, refused_repeat));
        if known.as_ref().map(|known| &known.source) == source.as_ref() {
            return Ok(false);
        }
        let (document, body) = match source {
            None => (None, Vec::new()),
            Some(source) => {
                let document = parse_toml(&source).map_err(CommandError::Invalid)?;
                let report = check(&document);
                if !report.errors.is_empty() {
                    return Err(CommandError::Invalid(report));
                }
                let body = serde_json::to_vec(&document)
                    .map_err(|error| AlarmStoreError::Stored(error.to_string()))?;
                (Some((document.name, source)), body)
            }
        };
        let change = ProfileChange {
            tenant,
            system: true,
            id: known.map(|known| known.id),
            expected_version: None,
            command: if document.is_some() { saved } else { deleted },
            document,
            // Not counted.
            rules: 0,
            at: now(),
            author: Author::installation(),
            body,
            partitions: self.journal.partitions(),
        };
        self.store.change_profile(change).await?;
        self.deliver().await?;
        Ok(true)
    }
}

/// The profile as TOML text; the same settings give the same text.
fn source(settings: &TenantSettings, refused_repeat: Duration) -> String {
    let alarms = &settings.system_alarms;
    let mut text =
        "# Written by Baken from the tenant's settings.\nname = \"System alarms\"\n".to_owned();
    offline(&mut text, &alarms.offline);
    silent(&mut text, &alarms.silent);
    refused(&mut text, &alarms.refused, refused_repeat);
    clock_wrong(&mut text, &alarms.clock_wrong, refused_repeat);
    text
}

/// The beginning of a rule; nothing where the alarm is off.
fn rule(text: &mut String, alarm: &SystemAlarm, key: &str, description: &str) -> bool {
    if alarm.enabled {
        // A text of our own, without quotes.
        let head = format!("\n[[rules]]\nkey = \"{key}\"\ndescription = \"{description}\"\n");
        text.push_str(&head);
    }
    alarm.enabled
}

/// `for = "…", ` where there is a delay.
fn delay(alarm: &SystemAlarm) -> String {
    match alarm.delay_s {
        0 => String::new(),
        delay_s => format!("for = \"{delay_s}s\", "),
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("text in memory takes any");
    text.push('\n');
}

/// A rule on what holds for its delay and ends with what ends it: two trees.
fn holding(text: &mut String, alarm: &SystemAlarm, key: &str, description: &str, trees: [&str; 2]) {
    if rule(text, alarm, key, description) {
        let [when, clear] = trees;
        let (severity, delay) = (alarm.severity, delay(alarm));
        line(text, format_args!("gap_breaks_duration = false"));
        line(text, format_args!("raise.{severity} = {{ {delay}when = {when} }}"));
        line(text, format_args!("clear = {{ when = {clear} }}"));
    }
}

fn is(key: &str, value: bool) -> String {
    format!("{{ key = \"{key}\", operator = \"is\", value = {value} }}")
}

fn offline(text: &mut String, alarm: &SystemAlarm) {
    let description = format!(
        "Router ${{device}} has had no MQTT connection since ${{{KEY_DISCONNECTED_SINCE}}}"
    );
    let gone = format!("{{ all = [{}, {}] }}", is(KEY_CONNECTED, false), is(KEY_ENABLED, true));
    let back = format!("{{ any = [{}, {}] }}", is(KEY_CONNECTED, true), is(KEY_ENABLED, false));
    holding(text, alarm, "router_offline", &description, [&gone, &back]);
}

fn silent(text: &mut String, alarm: &SystemAlarm) {
    let description = format!(
        "Router ${{device}} is connected but has sent no telemetry since ${{{KEY_SILENT_SINCE}}}"
    );
    let (when, clear) = (is(KEY_SILENT, true), is(KEY_SILENT, false));
    holding(text, alarm, "router_silent", &description, [&when, &clear]);
}

/// Over when nothing was refused for the delay; also where a restart has
/// forgotten to say that nothing was. What goes on being refused is told of at
/// intervals only, so that a shorter delay would end the alarm and raise it anew
/// with each.
fn over(text: &mut String, alarm: &SystemAlarm, key: &str, refused_repeat: Duration) {
    let for_s = u64::from(alarm.delay_s).max(refused_repeat.as_secs() + 1);
    line(text, format_args!("auto_clear_after = \"{for_s}s\""));
    line(text, format_args!("gap_breaks_duration = false"));
    line(
        text,
        format_args!(
            "clear = {{ for = \"{for_s}s\", when = {{ key = \"{key}\", operator = \"=\", value = 0 }} }}"
        ),
    );
}

fn refused(text: &mut String, alarm: &SystemAlarm, repeat: Duration) {
    let description = format!(
        "Of router ${{device}} ${{{KEY_REFUSED}}} messages or parts of them were refused (${{{KEY_REFUSED_REASONS}}})"
    );
    if rule(text, alarm, "readings_refused", &description) {
        over(text, alarm, KEY_REFUSED, repeat);
        line(
            text,
            format_args!(
                "raise.{} = {{ when = {{ key = \"{KEY_REFUSED}\", operator = \">\", value = 0 }} }}",
                alarm.severity
            ),
        );
    }
}

fn clock_wrong(text: &mut String, alarm: &SystemAlarm, repeat: Duration) {
    let description = format!(
        "The clock of router ${{device}} seems wrong: it is ${{{KEY_CLOCK_OFFSET}}} ms ahead of the server's"
    );
    if rule(text, alarm, "clock_wrong", &description) {
        over(text, alarm, KEY_CLOCK_OFFSET, repeat);
        line(
            text,
            format_args!(
                "raise.{} = {{ when = {{ key = \"{KEY_CLOCK_OFFSET}\", operator = \"≠\", value = 0 }} }}",
                alarm.severity
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use schema::SystemAlarms;

    use super::*;

    const REPEAT: Duration = Duration::from_millis(62_000);

    #[test]
    fn every_setting_gives_a_profile_that_is_in_order() {
        let mut settings = TenantSettings::default();
        for (enabled, delay_s) in [(true, 600), (true, 0), (false, 600)] {
            let alarms = &mut settings.system_alarms;
            for alarm in [
                &mut alarms.offline,
                &mut alarms.silent,
                &mut alarms.refused,
                &mut alarms.clock_wrong,
            ] {
                (alarm.enabled, alarm.delay_s) = (enabled, delay_s);
            }
            let text = source(&settings, REPEAT);
            let document = parse_toml(&text).unwrap_or_else(|report| panic!("{report:?}\n{text}"));
            let report = check(&document);
            assert!(report.errors.is_empty() && report.warnings.is_empty(), "{report:?}\n{text}");
            assert_eq!(document.rules.len(), if enabled { 4 } else { 0 }, "{text}");
        }
        settings.system_alarms = SystemAlarms::default();
        assert_eq!(source(&settings, REPEAT), source(&TenantSettings::default(), REPEAT));
    }

    #[test]
    fn what_goes_on_being_refused_is_one_alarm_however_short_its_delay() {
        let mut settings = TenantSettings::default();
        for (delay_s, over_after) in [(0, "63s"), (62, "63s"), (900, "900s")] {
            let alarms = &mut settings.system_alarms;
            (alarms.refused.delay_s, alarms.clock_wrong.delay_s) = (delay_s, delay_s);
            let text = source(&settings, REPEAT);
            for place in [
                format!("auto_clear_after = \"{over_after}\""),
                format!("clear = {{ for = \"{over_after}\""),
            ] {
                assert_eq!(text.matches(&place).count(), 2, "{place} in {text}");
            }
        }
    }
}
