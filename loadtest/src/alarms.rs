//! Reads alarms back by the API: waits until all that can be raised is, takes
//! the events, and lets them be compared.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::api::Api;
use crate::distribution::Buckets;
use crate::transitions::{Found, Kind};

/// From a reading's receipt at the socket to the committed transition.
const TIME_TO_ALARM: &str = "baken_alarms_time_to_alarm_seconds";
/// What events tell of an alarm's course.
const KINDS: &str = "alarm_raised,alarm_severity_changed,alarm_cleared";
/// What a profile has beside its name that watches nothing.
const MARK: &str = r#"applies_to.device_types = ["no such type"]

[[rules]]
key = "never"
raise.major = { when = { key = "k0", operator = ">", value = 0 } }
clear = { when = { key = "k0", operator = "<=", value = 0 } }
"#;
/// An event as the API shows it.
#[derive(Debug, Deserialize)]
struct Event {
    id: String,
    at: i64,
    kind: String,
    device: Option<u64>,
    alarm: Option<String>,
    severity: Option<String>,
    body: Body,
}

#[derive(Debug, Deserialize)]
struct Body {
    rule: Option<String>,
    profile: Option<u64>,
}

/// The profile that watches a load.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    pub tenant: u64,
    pub profile: u64,
}

/// How long alarms took by now.
///
/// # Errors
/// If the server doesn't answer or has no such metric.
pub async fn time_to_alarm(api: &Api) -> anyhow::Result<Buckets> {
    let metrics = api.metrics().await?;
    Buckets::parse(&metrics, TIME_TO_ALARM)
        .with_context(|| format!("the server has no metric {TIME_TO_ALARM}"))
}

impl Watch {
    /// Waits until every partition has evaluated all that is durable by now and
    /// has committed what came of it. What says so is the API's answer to a
    /// saved profile that watches nothing: it comes when the profile is in force
    /// everywhere, behind all readings before it.
    ///
    /// # Errors
    /// If the server doesn't answer, or it takes longer than `deadline`.
    pub async fn catch_up(&self, api: &Api, deadline: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let number = rand::random::<u64>();
            let mark = format!("name = \"Caught up {number}\"\n{MARK}");
            // Not in force where there is more to do than the API waits for.
            if api.make_profile(self.tenant, mark).await?.is_some() {
                return Ok(());
            }
            ensure!(
                started.elapsed() < deadline,
                "the alarms have not caught up after {} s",
                deadline.as_secs()
            );
        }
    }

    /// All that the server tells of the profile's alarms, in its order.
    ///
    /// # Errors
    /// If the server doesn't answer, or not in the form of its contract.
    pub async fn read(&self, api: &Api) -> anyhow::Result<Vec<Found>> {
        #[derive(Deserialize)]
        struct Page {
            items: Vec<Event>,
            next: Option<String>,
        }
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = api.events(self.tenant, KINDS, after.as_deref()).await?;
            let page: Page =
                serde_json::from_slice(&page).context("a page of events has another form")?;
            for event in page.items {
                if event.body.profile == Some(self.profile) {
                    found.push(told(&event).with_context(|| format!("{event:?}"))?);
                }
            }
            let Some(next) = page.next else { return Ok(found) };
            ensure!(after.as_ref() != Some(&next), "a page of events again");
            after = Some(next);
        }
    }
}

fn told(event: &Event) -> anyhow::Result<Found> {
    let hex = |text: &str| u128::from_str_radix(text, 16).context("an id that is no number");
    let kind = match event.kind.as_str() {
        "alarm_raised" => Kind::Raised,
        "alarm_severity_changed" => Kind::SeverityChanged,
        "alarm_cleared" => Kind::Cleared,
        _ => anyhow::bail!("a kind that was not asked for"),
    };
    Ok(Found {
        id: hex(&event.id)?,
        alarm: hex(event.alarm.as_deref().context("no alarm")?)?,
        device: event.device.context("no device")?,
        rule: event.body.rule.clone().context("no rule")?,
        at: schema::TimestampMs(event.at),
        kind,
        severity: event.severity.as_deref().context("no severity")?.parse()?,
    })
}

#[cfg(test)]
mod tests {
    use schema::{Severity, TimestampMs};
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_read_in_all_that_is_compared() {
        let mut shown = json!({
            "sequence": 9, "id": "0000000000000000000000000000001f", "tenant": 1, "at": -5,
            "kind": "alarm_severity_changed", "location": 2, "device": 3,
            "alarm": "ff000000000000000000000000000000", "severity": "critical",
            "body": { "rule": "k0_too_high", "profile": 2, "values": { "k0": 1 } },
        });
        let read =
            |shown: &serde_json::Value| told(&serde_json::from_value(shown.clone()).unwrap());
        let found = read(&shown).unwrap();
        let expected = Found {
            id: 0x1f,
            alarm: 0xff << 120,
            device: 3,
            rule: "k0_too_high".to_owned(),
            at: TimestampMs(-5),
            kind: Kind::SeverityChanged,
            severity: Severity::Critical,
        };
        assert_eq!(found, expected);
        for (field, value) in
            [("severity", json!("dire")), ("kind", json!("x")), ("id", json!("g"))]
        {
            let was = std::mem::replace(&mut shown[field], value);
            assert!(read(&shown).is_err(), "{field}");
            shown[field] = was;
        }
    }
}
