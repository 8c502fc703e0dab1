//! What is said of a router, as rows of its own device.

use std::sync::Arc;

use schema::{
    DeviceId, KEY_CLOCK_OFFSET, KEY_CONNECTED, KEY_DISCONNECT_CAUSE, KEY_DISCONNECTED_SINCE,
    KEY_ENABLED, KEY_REFUSED, KEY_REFUSED_REASONS, KEY_SILENT, KEY_SILENT_SINCE, Router, RouterId,
    TimestampMs, Value,
};
use store::Entry;

use super::super::session::{End, Refusal};
use super::Known;
use super::ledger::Refused;
use crate::batch::{KeyId, KeyTable, Rows, SubmitError};

/// Why something could not be said yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum SayError {
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error("what was said before cannot be read: {0}")]
    History(#[from] store::history::HistoryError),
    #[error(transparent)]
    Cluster(#[from] store::ClusterError),
    #[error("the node has not entered the cluster yet")]
    NotEntered,
}

/// What came of statements that were to be said together.
pub(super) struct Said {
    /// The routers of those that are durable, in their order.
    pub routers: Vec<RouterId>,
    /// Why the first of the others is not.
    pub error: Option<SayError>,
}

/// What is to be said of one router, and how it stands then.
pub(super) struct Statement {
    pub router: RouterId,
    pub entry: Arc<Entry<Router>>,
    pub rows: Rows,
    /// None where only what was refused is told.
    pub after: Option<Known>,
}

/// The platform's keys as the batcher numbers them; no tenant's quota counts them.
#[derive(Debug)]
pub(super) struct Keys {
    connected: KeyId,
    enabled: KeyId,
    disconnected_since: KeyId,
    disconnect_cause: KeyId,
    silent: KeyId,
    silent_since: KeyId,
    refused: KeyId,
    refused_reasons: KeyId,
    clock_offset: KeyId,
}

impl Keys {
    pub fn new(table: &KeyTable) -> Self {
        Self {
            connected: table.reserve(KEY_CONNECTED),
            enabled: table.reserve(KEY_ENABLED),
            disconnected_since: table.reserve(KEY_DISCONNECTED_SINCE),
            disconnect_cause: table.reserve(KEY_DISCONNECT_CAUSE),
            silent: table.reserve(KEY_SILENT),
            silent_since: table.reserve(KEY_SILENT_SINCE),
            refused: table.reserve(KEY_REFUSED),
            refused_reasons: table.reserve(KEY_REFUSED_REASONS),
            clock_offset: table.reserve(KEY_CLOCK_OFFSET),
        }
    }

    /// How a router stands from `at` on. A router that is not connected is not
    /// called silent.
    pub fn standing(
        &self,
        device: DeviceId,
        before: Option<&Known>,
        now: &Known,
        cause: Option<End>,
        zone: &str,
    ) -> Rows {
        let mut rows = Rows::with_capacity(5);
        let at = now.said_at;
        let since = local_time(at, zone);
        let mut say = |key, value| rows.push(device, key, at, Some(value));
        say(self.connected, Value::Boolean(now.connected));
        say(self.enabled, Value::Boolean(now.enabled));
        let is_new = before.is_none_or(|before| before.connected != now.connected);
        if !now.connected && is_new {
            say(self.disconnected_since, Value::Text(&since));
            say(self.disconnect_cause, Value::Text(cause.map_or("unknown", End::as_str)));
        }
        if !now.connected && before.is_some_and(|before| before.silent_since.is_some()) {
            say(self.silent, Value::Boolean(false));
        }
        rows
    }

    /// Adds that a router is not silent.
    pub fn not_silent(&self, rows: &mut Rows, device: DeviceId, at: TimestampMs) {
        rows.push(device, self.silent, at, Some(Value::Boolean(false)));
    }

    /// Telemetry has stopped at `since`, or has come again.
    pub fn silence(
        &self,
        device: DeviceId,
        at: TimestampMs,
        since: Option<TimestampMs>,
        zone: &str,
    ) -> Rows {
        let mut rows = Rows::with_capacity(2);
        rows.push(device, self.silent, at, Some(Value::Boolean(since.is_some())));
        if let Some(since) = since {
            let text = local_time(since, zone);
            rows.push(device, self.silent_since, at, Some(Value::Text(&text)));
        }
        rows
    }

    pub fn refused(&self, device: DeviceId, refused: &Refused) -> Rows {
        let mut rows = Rows::with_capacity(3);
        let sum: u64 = refused.counts.iter().map(|count| u64::from(*count)).sum();
        let sum = Value::Integer(i64::try_from(sum).unwrap_or(i64::MAX));
        rows.push(device, self.refused, refused.at, Some(sum));
        let reasons = reasons(refused);
        rows.push(device, self.refused_reasons, refused.at, Some(Value::Text(&reasons)));
        if let Some(offset_ms) = refused.clock_offset_ms {
            let offset = Value::Integer(offset_ms);
            rows.push(device, self.clock_offset, refused.at, Some(offset));
        }
        rows
    }

    /// Nothing was refused for a while.
    pub fn none_refused(&self, device: DeviceId, at: TimestampMs, had_clock_offset: bool) -> Rows {
        let mut rows = Rows::with_capacity(2);
        rows.push(device, self.refused, at, Some(Value::Integer(0)));
        if had_clock_offset {
            rows.push(device, self.clock_offset, at, Some(Value::Integer(0)));
        }
        rows
    }
}

/// `malformed: 3, future: 1`, the most frequent first.
fn reasons(refused: &Refused) -> String {
    let mut counts: Vec<(u32, &str)> =
        refused.counts.iter().copied().zip(Refusal::names()).filter(|(n, _)| *n > 0).collect();
    counts.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
    let texts: Vec<String> =
        counts.into_iter().map(|(count, name)| format!("{name}: {count}")).collect();
    texts.join(", ")
}

/// A time as people at the location read it.
fn local_time(at: TimestampMs, zone: &str) -> String {
    let Ok(time) = jiff::Timestamp::from_millisecond(at.0) else { return at.to_string() };
    let zone = jiff::tz::TimeZone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC);
    time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// The time that [`local_time`] told, to the second; none where the location's
/// zone is another by now.
pub(super) fn told_time(text: &str, zone: &str) -> Option<TimestampMs> {
    let (civil, _) = text.rsplit_once(' ')?;
    let civil = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", civil).ok()?;
    let tz = jiff::tz::TimeZone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC);
    // An hour comes twice where the clock is put back; the zone's name tells which.
    let times = tz.to_ambiguous_timestamp(civil);
    let times = [times.earlier().ok()?, times.later().ok()?];
    let mut times = times.map(|time| TimestampMs(time.as_millisecond())).into_iter();
    times.find(|at| local_time(*at, zone) == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Reason;

    #[test]
    fn times_are_told_in_the_location_s_zone() {
        let at = TimestampMs(1_795_262_400_000);
        assert_eq!(local_time(at, "Europe/Amsterdam"), "2026-11-21 13:00:00 CET");
        assert_eq!(local_time(at, "no such zone"), "2026-11-21 12:00:00 UTC");
    }

    #[test]
    fn a_time_that_was_told_is_read_back_to_the_second() {
        let zone = "Europe/Amsterdam";
        // In summer, twice in the hour that comes twice, and in winter.
        for at in [1_782_000_000_000, 1_792_888_200_000, 1_792_891_800_000, 1_795_262_400_000] {
            let text = local_time(TimestampMs(at + 456), zone);
            assert_eq!(told_time(&text, zone), Some(TimestampMs(at)), "{text}");
            assert_eq!(told_time(&text, "Asia/Tokyo"), None, "{text}");
        }
        assert_eq!(told_time("at noon", zone), None);
    }

    #[test]
    fn the_most_frequent_reason_comes_first() {
        let mut counts = [0; Refusal::COUNT];
        counts[Refusal::Payload(Reason::Future).index()] = 1;
        counts[Refusal::Rate.index()] = 7;
        let refused = Refused { counts, clock_offset_ms: None, at: TimestampMs(0) };
        assert_eq!(reasons(&refused), "rate: 7, future: 1");
    }
}
