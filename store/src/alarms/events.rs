//! The audit history: what happened to alarms, what people changed, who came
//! in and who was refused, in one order, for ever.
//!
//! An event is written once: its id follows from its cause, and a second one
//! with the same id changes nothing. Nothing here is ever changed or deleted;
//! the database refuses it.

use rusqlite::{Connection, Row, params};
use schema::{
    AlarmId, DeviceId, LocationId, Provenance, Severity, TenantId, TimestampMs, TransitionId,
};
use serde_json::Value;
use tokio::sync::watch;

use super::bounds::{Bounds, known_json, number, rows, severity};
use super::writer::Request;
use super::{AlarmStore, AlarmStoreError, MAX_PAGE};
use crate::audit::NewEvent;

/// The names of all kinds of events. They are part of stored formats. That an
/// alarm was true again is no event: it stands in the alarm's own row.
pub const EVENT_KINDS: [&str; 34] = [
    "alarm_raised",
    "alarm_severity_changed",
    "alarm_acknowledged",
    "alarm_unacknowledged",
    "alarm_cleared",
    "alarm_shelved",
    "alarm_unshelved",
    "alarm_suppressed",
    "alarm_commented",
    "alarm_assigned",
    "profile_created",
    "profile_changed",
    "profile_deleted",
    "tenant_created",
    "tenant_changed",
    "tenant_deleted",
    "location_created",
    "location_changed",
    "location_deleted",
    "router_created",
    "router_changed",
    "router_deleted",
    "device_created",
    "device_changed",
    "device_deleted",
    "token_created",
    "token_changed",
    "token_deleted",
    "attributes_changed",
    "rpc_called",
    "api_login",
    "api_refused",
    "mqtt_login",
    "mqtt_refused",
];

/// What stands for the installation as a whole in the column of tenants, whose
/// ids begin at 1.
const INSTALLATION: i64 = 0;

/// Which events are asked for; what is `None` or empty sets no bound.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    pub tenant: Option<TenantId>,
    pub location: Option<LocationId>,
    pub device: Option<DeviceId>,
    pub alarm: Option<AlarmId>,
    pub document: Option<u64>,
    pub kinds: Vec<String>,
    pub actor: Option<String>,
    /// This severity or worse; an event without one is left out then.
    pub severity_from: Option<Severity>,
    pub from: Option<TimestampMs>,
    pub to: Option<TimestampMs>,
    /// The last sequence of the page before.
    pub after: Option<u64>,
    /// The last sequence that is looked at, whatever the order.
    pub up_to: Option<u64>,
    pub oldest_first: bool,
    pub limit: usize,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Its place in the one order of all events.
    pub sequence: u64,
    /// The transition's id for an event of an alarm.
    pub id: TransitionId,
    /// None for one of the installation as a whole.
    pub tenant: Option<TenantId>,
    pub at: TimestampMs,
    pub kind: String,
    pub location: Option<LocationId>,
    pub device: Option<DeviceId>,
    pub alarm: Option<AlarmId>,
    pub document: Option<u64>,
    pub severity: Option<Severity>,
    pub actor: Option<String>,
    pub provenance: Provenance,
    pub body: Value,
}

const COLUMNS: &str = "sequence, id, tenant, at, kind, location, device, alarm, document, \
    severity, actor, actor_token, peer, body";

impl AlarmStore {
    /// A page of events.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn events(&self, query: EventQuery) -> Result<Vec<EventRow>, AlarmStoreError> {
        self.read(move |sql| select(sql, &query)).await
    }

    /// Writes events durably, once by their ids.
    ///
    /// # Errors
    /// The database refuses; then none is written.
    pub async fn record(&self, events: Vec<NewEvent>) -> Result<(), AlarmStoreError> {
        self.shared.writer.ask(|answer| Request::Record(events, answer)).await
    }

    /// The sequence of the latest durable event; all before it are durable too.
    #[must_use]
    pub fn latest_event(&self) -> watch::Receiver<u64> {
        self.shared.writer.latest_event()
    }
}

/// Events of a stretch of time up to which they are found by their time. More
/// of them are met soon enough in the order in which they were written.
const FOUND_BY_TIME: usize = 20_000;

/// Each kind is looked up by itself, so that a rare one is found by its index
/// and not by reading all the others.
fn select(sql: &Connection, query: &EventQuery) -> Result<Vec<EventRow>, AlarmStoreError> {
    let limit = query.limit.clamp(1, MAX_PAGE);
    let order = if query.oldest_first { "ASC" } else { "DESC" };
    let bounds = bounds(query);
    let clause = bounds.clause();
    // What these leave is little, whatever else is asked.
    let is_narrow = query.alarm.is_some() || query.document.is_some() || query.device.is_some();
    let one = |condition: &str, index: &str| {
        format!(
            "SELECT {COLUMNS} FROM events {index} WHERE {condition}
             ORDER BY sequence {order} LIMIT {limit}"
        )
    };
    if !is_narrow && is_short(sql, query)? {
        let mut bounds = bounds;
        bounds.among("kind", query.kinds.iter().cloned());
        let statement = one(&bounds.clause(), "INDEXED BY events_time");
        return rows(sql, &statement, bounds.into_values(), event);
    }
    if query.kinds.is_empty() {
        return rows(sql, &one(&clause, ""), bounds.into_values(), event);
    }
    let index = if is_narrow { "" } else { "INDEXED BY events_kind" };
    let mut values = Vec::new();
    let mut parts = Vec::new();
    for kind in &query.kinds {
        parts.push(format!("SELECT * FROM ({})", one(&format!("{clause} AND kind = ?"), index)));
        values.extend(bounds.values().iter().cloned());
        values.push(kind.clone().into());
    }
    let statement =
        format!("{} ORDER BY sequence {order} LIMIT {limit}", parts.join(" UNION ALL "));
    rows(sql, &statement, values, event)
}

/// Whether few enough of the tenant's events lie between the two times.
fn is_short(sql: &Connection, query: &EventQuery) -> Result<bool, AlarmStoreError> {
    let (Some(tenant), Some(to)) = (query.tenant, query.to) else { return Ok(false) };
    let from = query.from.map_or(i64::MIN, |from| from.0);
    let mut statement = sql.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM events INDEXED BY events_time
         WHERE tenant = ?1 AND at >= ?2 AND at < ?3 LIMIT ?4)",
    )?;
    let most = FOUND_BY_TIME + 1;
    let found: usize =
        statement.query_row(params![number(tenant.0), from, to.0, most], |row| row.get(0))?;
    Ok(found < most)
}

fn bounds(query: &EventQuery) -> Bounds {
    let mut bounds = Bounds::default();
    bounds.add("tenant = ?", query.tenant.map(|id| number(id.0)));
    bounds.add("location = ?", query.location.map(|id| number(id.0)));
    bounds.add("device = ?", query.device.map(|id| number(id.0)));
    bounds.add("alarm = ?", query.alarm.map(|id| id.0.to_be_bytes().to_vec()));
    bounds.add("document = ?", query.document.map(number));
    bounds.add("actor = ?", query.actor.clone());
    bounds.add("severity >= ?", query.severity_from.map(|severity| i64::from(severity as u8)));
    bounds.add("at >= ?", query.from.map(|at| at.0));
    bounds.add("at < ?", query.to.map(|at| at.0));
    let behind = if query.oldest_first { "sequence > ?" } else { "sequence < ?" };
    bounds.add(behind, query.after.map(number));
    bounds.add("sequence <= ?", query.up_to.map(number));
    bounds
}

fn event(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    let tenant: i64 = row.get(2)?;
    Ok(EventRow {
        sequence: row.get(0)?,
        id: TransitionId(u128::from_be_bytes(row.get(1)?)),
        tenant: (tenant != INSTALLATION).then(|| TenantId(tenant.cast_unsigned())),
        at: TimestampMs(row.get(3)?),
        kind: row.get(4)?,
        location: row.get::<_, Option<u64>>(5)?.map(LocationId),
        device: row.get::<_, Option<u64>>(6)?.map(DeviceId),
        alarm: row.get::<_, Option<[u8; 16]>>(7)?.map(|id| AlarmId(u128::from_be_bytes(id))),
        document: row.get(8)?,
        severity: severity(row, 9)?,
        actor: row.get(10)?,
        provenance: Provenance { token: row.get(11)?, from: row.get(12)? },
        body: known_json(row, 13)?,
    })
}

/// How many of them were not there yet.
pub(super) fn record(sql: &Connection, events: &[NewEvent]) -> Result<u64, AlarmStoreError> {
    let mut written = 0;
    for event in events {
        let tenant = event.tenant.map_or(INSTALLATION, |id| number(id.0));
        written += sql
            .prepare_cached(
                "INSERT INTO events (id, tenant, at, kind, location, device, document, actor,
                    actor_token, peer, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![
                event.id.0.to_be_bytes(),
                tenant,
                event.at.0,
                event.kind,
                event.location.map(|id| number(id.0)),
                event.device.map(|id| number(id.0)),
                event.document.map(number),
                event.actor,
                event.provenance.token.map(number),
                event.provenance.from,
                event.body.to_string(),
            ])?;
    }
    Ok(written as u64)
}

/// The sequence of the last event that there is; 0 without any.
pub(super) fn latest(sql: &Connection) -> rusqlite::Result<u64> {
    let mut statement = sql.prepare_cached("SELECT coalesce(max(sequence), 0) FROM events")?;
    statement.query_row([], |row| row.get(0))
}
