//! What is there before the first line of a scenario.

use std::sync::Arc;

use jiff::Timestamp;
use schema::{AlarmProfile, DeviceId, DurationMs, LocationId};

use crate::limits::DEFAULT_GRACE_MS;

/// 2026-01-05T00:00:00Z, a Monday, so that schedules can be read.
pub(crate) const DEFAULT_START_MS: i64 = 1_767_571_200_000;

/// The times that a scenario may name, so that no sum of them overflows.
const YEARS: [&str; 2] = ["1970-01-01T00:00:00Z", "2200-01-01T00:00:00Z"];

#[derive(Clone, Debug)]
pub(super) struct LocationLine {
    pub id: LocationId,
    pub name: String,
    pub zone: String,
    pub groups: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct DeviceLine {
    pub id: DeviceId,
    pub name: String,
    pub device_type: Option<String>,
    /// Its place among the locations.
    pub location: usize,
}

/// What the lines before the first input say.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub start_ms: i64,
    pub grace_ms: i64,
    /// Never empty once a scenario is whole.
    pub locations: Vec<LocationLine>,
    pub devices: Vec<DeviceLine>,
    /// By the names that the scenario calls them; all in force from the start.
    pub profiles: Vec<(String, Arc<AlarmProfile>)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            start_ms: DEFAULT_START_MS,
            grace_ms: DEFAULT_GRACE_MS,
            locations: Vec::new(),
            devices: Vec::new(),
            profiles: Vec::new(),
        }
    }
}

impl Setup {
    /// Gives a scenario that names no location the default one.
    pub fn complete(&mut self) {
        if self.locations.is_empty() {
            self.locations.push(LocationLine {
                id: LocationId(1),
                name: "location".to_owned(),
                zone: "UTC".to_owned(),
                groups: Vec::new(),
            });
        }
    }

    /// A time as it is written: since the start, or of the calendar.
    pub fn time(&self, text: &str) -> Result<i64, String> {
        let ms = match text.contains('-') {
            true => calendar(text)?,
            false => {
                let since: DurationMs =
                    text.parse().map_err(|error: schema::ParseDurationError| error.to_string())?;
                self.start_ms.saturating_add(since.0)
            }
        };
        if ms < self.start_ms {
            let start = self.start_ms;
            return Err(format!("`{text}` is before the start, {}", show_calendar(start)));
        }
        within_years(text, ms)
    }

    /// The time since the start.
    pub fn show_time(&self, ms: i64) -> String {
        match ms.checked_sub(self.start_ms) {
            Some(since) if since >= 0 => DurationMs(since).to_string(),
            _ => show_calendar(ms),
        }
    }
}

/// A time of the calendar.
pub(super) fn calendar(text: &str) -> Result<i64, String> {
    let time: Timestamp = text.parse().map_err(|_| {
        format!("`{text}` is no time: write it like `2026-01-05T08:30:00Z` or, since the start, like `1h30m`")
    })?;
    within_years(text, time.as_millisecond())
}

fn within_years(text: &str, ms: i64) -> Result<i64, String> {
    let [first, last] =
        YEARS.map(|year| year.parse::<Timestamp>().map_or(0, |t| t.as_millisecond()));
    match (first..=last).contains(&ms) {
        true => Ok(ms),
        false => Err(format!("`{text}` is not between {} and {}", YEARS[0], YEARS[1])),
    }
}

pub(super) fn show_calendar(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| time.to_string())
}
