//! The audit history: what happened to alarms, what people changed, who came
//! in and who was refused, in one order, for ever.
//!
//! An event is written once: its id follows from its cause, and a second one
//! with the same id changes nothing. Nothing here is ever changed or deleted;
//! the database refuses it.

use schema::{
    AlarmId, DeviceId, LocationId, Provenance, Severity, TenantId, TimestampMs, TransitionId,
};
use serde_json::Value;
use tokio::sync::watch;

use super::bounds::{Bounds, known_json, number, rows, severity};
use super::writer::Request;
use super::{AlarmStore, AlarmStoreError, MAX_PAGE};
use crate::audit::NewEvent;
use crate::sql::{Owned, Row, Session, SqlError, params};

/// The names of all kinds of events. They are part of stored formats. That an
/// alarm was true again is no event: it stands in the alarm's own row.
pub const EVENT_KINDS: [&str; 48] = [
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
    "user_created",
    "user_changed",
    "user_deleted",
    "subscription_created",
    "subscription_changed",
    "subscription_deleted",
    "offline_profile_created",
    "offline_profile_changed",
    "offline_profile_deleted",
    "template_created",
    "template_changed",
    "template_deleted",
    "attributes_changed",
    "rpc_called",
    "api_login",
    "api_refused",
    "mqtt_login",
    "mqtt_refused",
    "backup_taken",
    "backup_failed",
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

pub(super) const COLUMNS: &str = "sequence, id, tenant, at, kind, location, device, alarm, document, \
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

fn select(sql: &Session, query: &EventQuery) -> Result<Vec<EventRow>, AlarmStoreError> {
    // What these leave is little, whatever else is asked.
    let is_narrow = query.alarm.is_some() || query.document.is_some() || query.device.is_some();
    let (statement, values) = match !is_narrow && is_short(sql, query)? {
        true => in_short_time(query),
        false => in_order(query),
    };
    rows(sql, &statement, &values, event)
}

fn page(query: &EventQuery, condition: &str, index: &str) -> String {
    let limit = query.limit.clamp(1, MAX_PAGE);
    let order = if query.oldest_first { "ASC" } else { "DESC" };
    format!(
        "SELECT {COLUMNS} FROM events {index} WHERE {condition}
         ORDER BY sequence {order} LIMIT {limit}"
    )
}

fn in_short_time(query: &EventQuery) -> (String, Vec<Owned>) {
    let mut bounds = bounds(query);
    bounds.among("kind", query.kinds.iter().cloned());
    (page(query, &bounds.clause(), "INDEXED BY events_time"), bounds.into_values())
}

/// Each kind is looked up by itself, so that a rare one is found by its index
/// and not by reading all the others.
fn in_order(query: &EventQuery) -> (String, Vec<Owned>) {
    let (bounds, index) = (bounds(query), index(query));
    let clause = bounds.clause();
    if query.kinds.is_empty() {
        return (page(query, &clause, index), bounds.into_values());
    }
    let of_kind = page(query, &format!("{clause} AND kind = ?"), index);
    let mut values = Vec::new();
    for kind in &query.kinds {
        values.extend(bounds.values().iter().cloned());
        values.push(kind.clone().into());
    }
    let parts = vec![format!("SELECT * FROM ({of_kind}) AS of_kind"); query.kinds.len()];
    let order = if query.oldest_first { "ASC" } else { "DESC" };
    let limit = query.limit.clamp(1, MAX_PAGE);
    (format!("{} ORDER BY sequence {order} LIMIT {limit}", parts.join(" UNION ALL ")), values)
}

/// Named, because without statistics SQLite can't tell which leaves least, and
/// takes one without the tenant as gladly as one with it. An alarm, a document,
/// a device and a location are of one tenant.
fn index(query: &EventQuery) -> &'static str {
    let (is_of_tenant, has_actor) = (query.tenant.is_some(), query.actor.is_some());
    match (is_of_tenant, has_actor) {
        _ if query.alarm.is_some() => "INDEXED BY events_alarm",
        _ if query.document.is_some() => "INDEXED BY events_document",
        _ if query.device.is_some() => "INDEXED BY events_device",
        (true, _) if !query.kinds.is_empty() => "INDEXED BY events_tenant_kind",
        (false, _) if !query.kinds.is_empty() => "INDEXED BY events_kind",
        (true, true) => "INDEXED BY events_tenant_actor",
        (false, true) => "INDEXED BY events_actor",
        _ if query.location.is_some() => "INDEXED BY events_location",
        (true, false) => "INDEXED BY events_tenant",
        (false, false) => "",
    }
}

/// Whether few enough of the tenant's events lie between the two times.
fn is_short(sql: &Session, query: &EventQuery) -> Result<bool, AlarmStoreError> {
    let (Some(tenant), Some(to)) = (query.tenant, query.to) else { return Ok(false) };
    let from = query.from.map_or(i64::MIN, |from| from.0);
    let mut statement = sql.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM events INDEXED BY events_time
         WHERE tenant = ?1 AND at >= ?2 AND at < ?3 LIMIT ?4) AS found",
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

pub(super) fn event(row: &Row<'_>) -> Result<EventRow, SqlError> {
    let tenant: i64 = row.get(2)?;
    Ok(EventRow {
        sequence: row.get(0)?,
        id: TransitionId(u128::from_be_bytes(row.get(1)?)),
        tenant: (tenant != INSTALLATION).then(|| TenantId(tenant.cast_unsigned())),
        at: TimestampMs(row.get(3)?),
        kind: row.get(4)?,
        location: row.get::<Option<u64>>(5)?.map(LocationId),
        device: row.get::<Option<u64>>(6)?.map(DeviceId),
        alarm: row.get::<Option<[u8; 16]>>(7)?.map(|id| AlarmId(u128::from_be_bytes(id))),
        document: row.get(8)?,
        severity: severity(row, 9)?,
        actor: row.get(10)?,
        provenance: Provenance { token: row.get(11)?, from: row.get(12)? },
        body: known_json(row, 13)?,
    })
}

/// How many of them were not there yet.
pub(super) fn record(sql: &Session, events: &[NewEvent]) -> Result<u64, AlarmStoreError> {
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
pub(super) fn latest(sql: &Session) -> Result<u64, SqlError> {
    let mut statement = sql.prepare_cached("SELECT coalesce(max(sequence), 0) FROM events")?;
    statement.query_row([], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Database;

    /// How SQLite looks the events up, a line for each table or index.
    fn plan(sql: &Session, (statement, values): (String, Vec<Owned>)) -> Vec<String> {
        let mut plan = sql.prepare_cached(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let lines = plan.query_map(&*values, |row| row.get(3)).unwrap();
        lines.into_iter().filter(|line: &String| line.contains(" events")).collect()
    }

    #[test]
    fn what_is_asked_of_a_tenant_reads_nothing_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::file(dir.path().join("alarms.db"), crate::alarms::MIGRATIONS);
        let sql = database.open().unwrap();
        let (one, two) = (vec!["mqtt_refused"], vec!["alarm_raised", "api_login"]);
        let kinds = [vec![], one, two];
        for bits in 0..kinds.len() << 6 {
            let asked = |bit: usize| bits >> bit & 1 == 1;
            let kinds = kinds[bits >> 6].iter().map(|&kind| kind.to_owned()).collect();
            let query = EventQuery {
                tenant: Some(TenantId(1)),
                kinds,
                actor: asked(0).then(|| "eva".to_owned()),
                severity_from: asked(1).then_some(Severity::Major),
                from: asked(2).then_some(TimestampMs(5)),
                to: asked(3).then_some(TimestampMs(9)),
                after: asked(4).then_some(7),
                oldest_first: asked(5),
                ..EventQuery::default()
            };
            for found in [in_order(&query), in_short_time(&query)] {
                let lines = plan(&sql, found);
                assert!(!lines.is_empty());
                for line in lines {
                    assert!(
                        line.contains("INDEX") && line.contains("(tenant=?"),
                        "{line}: {query:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_of_one_tenant_anyway_is_found_by_itself_whatever_else_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::file(dir.path().join("alarms.db"), crate::alarms::MIGRATIONS);
        let sql = database.open().unwrap();
        let asked = || EventQuery {
            tenant: Some(TenantId(1)),
            actor: Some("eva".to_owned()),
            kinds: vec!["alarm_raised".to_owned()],
            ..EventQuery::default()
        };
        for (query, found_by) in [
            (EventQuery { alarm: Some(AlarmId(2)), ..asked() }, "(alarm=?"),
            (EventQuery { document: Some(2), ..asked() }, "(document=?"),
            (EventQuery { device: Some(DeviceId(2)), ..asked() }, "(device=?"),
        ] {
            let lines = plan(&sql, in_order(&query));
            assert!(lines.iter().all(|line| line.contains(found_by)), "{lines:?}");
        }
    }
}
