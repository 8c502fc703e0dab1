//! A forwarder and what became of its readings, as they are shown.

use std::collections::BTreeMap;

use forwarders::destinations::aws;
use forwarders::engine::{Accounting, Standing};
use forwarders::lane::DROP_REASONS;
use schema::Forwarder;
use serde::Serialize;
use serde_json::{Map, Value};
use store::Entry;
use utoipa::ToSchema;

use super::super::state::AppState;
use super::input::{Item, Scope};

/// A forwarder, without its secrets.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Forwarder)]
pub struct Shown {
    pub id: u64,
    pub version: u64,
    /// Milliseconds since 1970, UTC.
    changed_at: i64,
    tenant: u64,
    name: String,
    scope: Scope,
    enabled: bool,
    /// Whether a person has paused it; its data is kept.
    paused: bool,
    platform: String,
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
    /// The names of those that are set.
    secrets: Vec<String>,
    items: Vec<Item>,
    #[serde(skip_serializing_if = "Option::is_none")]
    smart_interval_s: Option<u32>,
    /// `connecting`, `connected`, `throttled`, `paused`, `failing` or `disabled`.
    state: &'static str,
    /// Why it stands so, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Since when it stands so, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    /// When the platform last acknowledged anything since the server started.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sent_at: Option<i64>,
    /// With AWS IoT Core: the policy to attach to the certificate or user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    policy: Option<Value>,
}

impl Shown {
    pub fn of(
        state: &AppState,
        id: u64,
        version: u64,
        changed_at: i64,
        forwarder: &Forwarder,
    ) -> Self {
        let standing = state.forwarders.standing(id);
        let (word, detail, since, last_sent_at) = match standing {
            Some(Standing { state, detail, since_ms, last_sent_at_ms }) => {
                (state.as_str(), detail, Some(since_ms), last_sent_at_ms)
            }
            None => ("connecting", None, None, None),
        };
        Self {
            id,
            version,
            changed_at,
            tenant: forwarder.tenant.0,
            name: forwarder.name.clone(),
            scope: (&forwarder.scope).into(),
            enabled: forwarder.enabled,
            paused: forwarder.paused,
            platform: forwarder.platform.clone(),
            settings: forwarder.settings.clone(),
            secrets: forwarder.secrets.keys().cloned().collect(),
            items: forwarder.items.iter().map(Into::into).collect(),
            smart_interval_s: forwarder.smart_interval_s,
            state: word,
            detail,
            since,
            last_sent_at,
            policy: policy(forwarder),
        }
    }

    pub fn entry(state: &AppState, entry: &Entry<Forwarder>) -> Self {
        Self::of(state, entry.id, entry.version, entry.changed_at.0, entry)
    }
}

fn policy(forwarder: &Forwarder) -> Option<Value> {
    (forwarder.platform == "aws_iot_core").then(|| {
        let text = |name: &str| forwarder.settings.get(name).and_then(Value::as_str);
        aws::policy(text("topic").unwrap_or(aws::DEFAULT_TOPIC), text("client_id"))
    })
}

/// What became of the readings that a forwarder selects. `selected` is the sum
/// of all others but the expired.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ForwarderAccounting)]
pub struct ShownAccounting {
    selected: u64,
    /// Acknowledged by the platform.
    sent: u64,
    suppressed: Suppressed,
    in_flight: u64,
    queued: u64,
    /// Refused by the platform, and kept.
    dead_letters: u64,
    /// By reason.
    dropped: BTreeMap<String, u64>,
    /// Records of the journal that were deleted before the forwarder had read
    /// them; how many readings it would have selected of them is not known.
    expired_records: u64,
    /// Records of the journal that the slowest of its partitions has not dealt
    /// with; those that hold nothing for it too.
    lag_records: u64,
    /// How long the oldest of them waits, about.
    lag_ms: u64,
    /// Why a partition of the journal can't be read, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
}

/// Not sent, because the platform has it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ForwarderSuppressed)]
pub struct Suppressed {
    /// The value that was sent last.
    same: u64,
    within_tolerance: u64,
}

impl ShownAccounting {
    pub fn of(accounting: Accounting) -> Self {
        let Accounting { counts, dead_letters: letters, .. } = accounting;
        let mut dropped: BTreeMap<String, u64> = DROP_REASONS
            .into_iter()
            .map(|reason| (reason.as_str().to_owned(), counts.dropped(reason)))
            .collect();
        dropped.insert("dead_letter_dropped".to_owned(), letters.discarded);
        dropped.insert("dead_letter_overflow".to_owned(), letters.overflowed);
        let no_more = letters.resent + letters.discarded + letters.overflowed;
        Self {
            selected: counts.selected,
            sent: counts.sent + letters.resent,
            suppressed: Suppressed { same: counts.same, within_tolerance: counts.within_tolerance },
            in_flight: accounting.in_flight,
            queued: accounting.queued,
            // Those that are not stored yet are among the counted.
            dead_letters: counts.dead_letters.saturating_sub(no_more),
            dropped,
            expired_records: accounting.expired_records,
            lag_records: accounting.lag_records,
            lag_ms: accounting.lag_ms,
            stopped: accounting.stopped,
        }
    }
}
