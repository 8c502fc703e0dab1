//! Looks at the node by its API, shows what is new in a line each, and notes
//! what `--until-alarm` waits for.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::alarm::RULE;
use super::fleet::Site;
use crate::client::ApiClient;
use crate::command::Output;

/// How often it looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Readings are shown at each so many looks; events always.
const SHOW_READINGS_EVERY: u32 = 4;

/// Events of one look; the demo makes a few a minute.
const EVENTS_LIMIT: u32 = 200;

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Watch {
    client: ApiClient,
    tenant: u64,
    device: u64,
    started: Instant,
    started_ms: i64,
    looks: u32,
    /// Events that were there before, or were shown.
    known: HashSet<String>,
    reading: Option<Value>,
    events: Vec<Value>,
    raised: Option<Value>,
    cleared: Option<Value>,
    alarm: Option<Value>,
}

impl Watch {
    pub(super) async fn new(client: ApiClient, site: &Site) -> anyhow::Result<Self> {
        let mut watch = Self {
            client,
            tenant: site.tenant,
            device: site.chiller.device,
            started: Instant::now(),
            started_ms: jiff::Timestamp::now().as_millisecond(),
            looks: 0,
            known: HashSet::new(),
            reading: None,
            events: Vec::new(),
            raised: None,
            cleared: None,
            alarm: None,
        };
        // Those of an earlier run on the same folder prove nothing.
        for event in watch.fetch_events().await? {
            watch.known.insert(id_of(&event));
        }
        Ok(watch)
    }

    /// One look.
    pub(super) async fn look(
        &mut self,
        acknowledged: &AtomicU64,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let path = format!("/devices/{}/telemetry/latest", self.device);
        let latest = self.client.get(&path).await?;
        let readings = &latest["readings"];
        let reading = &readings["supply_temperature"];
        let is_of_this_run = reading["ts"].as_i64().is_some_and(|ts| ts >= self.started_ms);
        if is_of_this_run && reading["value"].is_number() {
            self.reading = Some(reading.clone());
            if self.looks.is_multiple_of(SHOW_READINGS_EVERY) {
                output.line(&line(readings, acknowledged.load(Ordering::Relaxed)))?;
            }
        }
        self.looks += 1;
        let mut fresh = self.fetch_events().await?;
        fresh.retain(|event| self.known.insert(id_of(event)));
        // The API gives the newest first.
        for event in fresh.into_iter().rev() {
            output.line(&event_line(&event))?;
            self.note(event).await?;
        }
        Ok(())
    }

    async fn note(&mut self, event: Value) -> anyhow::Result<()> {
        if event["body"]["rule"] == RULE {
            match event["kind"].as_str() {
                Some("alarm_raised") => self.raised = Some(event.clone()),
                Some("alarm_cleared") if self.raised.is_some() => {
                    self.cleared = Some(event.clone());
                    if let Some(alarm) = event["alarm"].as_str() {
                        self.alarm = Some(self.client.get(&format!("/alarms/{alarm}")).await?);
                    }
                }
                _ => {}
            }
        }
        self.events.push(event);
        Ok(())
    }

    async fn fetch_events(&self) -> anyhow::Result<Vec<Value>> {
        let path = format!("/events?tenant={}&limit={EVENTS_LIMIT}", self.tenant);
        let mut page = self.client.get(&path).await?;
        match page["items"].take() {
            Value::Array(events) => Ok(events),
            _ => Ok(Vec::new()),
        }
    }

    /// What `--until-alarm` still waits for.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let cleared = self.alarm.as_ref().is_some_and(|alarm| alarm["active"] == false);
        [
            (self.reading.is_some(), "a reading"),
            (self.raised.is_some(), "the event of an alarm raised"),
            (self.cleared.is_some(), "the event of the alarm cleared"),
            (cleared, "the alarm itself, cleared"),
        ]
        .into_iter()
        .filter_map(|(seen, name)| (!seen).then_some(name))
        .collect()
    }

    /// What was seen, for `--json`.
    pub(super) fn report(&self) -> Value {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        json!({
            "complete": self.missing().is_empty(),
            "missing": self.missing(),
            "elapsed_ms": elapsed_ms,
            "device": self.device,
            "reading": self.reading,
            "raised": self.raised,
            "cleared": self.cleared,
            "alarm": self.alarm,
            "events": self.events,
        })
    }
}

fn id_of(event: &Value) -> String {
    match &event["id"] {
        Value::String(id) => id.clone(),
        other => other.to_string(),
    }
}

fn line(readings: &Value, acknowledged: u64) -> String {
    let value = |key: &str| readings[key]["value"].clone();
    let number = |key: &str| value(key).as_f64().unwrap_or(f64::NAN);
    format!(
        "{}  supply {:5.2} °C  return {:5.2} °C  compressor {:4.1} A  condenser {:5.2} bar  {:<32}  {acknowledged} acknowledged",
        time(readings["supply_temperature"]["ts"].as_i64()),
        number("supply_temperature"),
        number("return_temperature"),
        number("compressor_current"),
        number("condenser_pressure"),
        value("status").as_str().unwrap_or_default(),
    )
}

fn event_line(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{}  {}  {} {}",
        time(event["at"].as_i64()),
        text(&event["kind"]).replace('_', " ").to_uppercase(),
        text(&event["severity"]),
        text(&event["body"]["description"]),
    )
}

fn time(ms: Option<i64>) -> String {
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "--:--:--".to_owned(), |time| time.strftime("%H:%M:%S").to_string())
}
