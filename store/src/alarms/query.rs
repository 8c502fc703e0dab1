//! Reads alarms and events, the newest first or the oldest first, in pages
//! that stay where they are while alarms change: an alarm's place is the order
//! in which it was raised.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use schema::{
    AlarmId, DeviceId, LocationId, ProfileId, RuleId, Severity, TenantId, TimestampMs, TransitionId,
};
use serde_json::Value;

use super::{AlarmStore, AlarmStoreError, MAX_PAGE};

/// Which alarms are asked for; what is `None` sets no bound.
#[derive(Clone, Debug, Default)]
pub struct AlarmQuery {
    pub tenant: Option<TenantId>,
    pub location: Option<LocationId>,
    pub device: Option<DeviceId>,
    pub rule: Option<String>,
    pub active: Option<bool>,
    pub acknowledged: Option<bool>,
    /// This severity or worse.
    pub severity_from: Option<Severity>,
    /// Raised at or after.
    pub from: Option<TimestampMs>,
    /// Raised before.
    pub to: Option<TimestampMs>,
    /// The last sequence of the page before.
    pub after: Option<u64>,
    pub limit: usize,
}

/// Which events are asked for; what is `None` sets no bound.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    pub tenant: Option<TenantId>,
    pub location: Option<LocationId>,
    pub device: Option<DeviceId>,
    pub alarm: Option<AlarmId>,
    pub kind: Option<String>,
    pub from: Option<TimestampMs>,
    pub to: Option<TimestampMs>,
    pub after: Option<u64>,
    pub oldest_first: bool,
    pub limit: usize,
}

/// One moment of an alarm's life, with what was known then.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmMoment {
    pub at: TimestampMs,
    pub severity: Severity,
    /// `description` and `values`.
    pub details: Value,
}

/// The two axes of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmStatus {
    pub active: bool,
    pub acknowledged: bool,
}

/// An alarm as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmRow {
    /// Its place in the order of raising.
    pub sequence: u64,
    pub id: AlarmId,
    pub tenant: TenantId,
    pub location: Option<LocationId>,
    pub device: Option<DeviceId>,
    pub rule: RuleId,
    pub severity: Severity,
    pub status: AlarmStatus,
    pub raised: AlarmMoment,
    /// When its severity was highest.
    pub peak: AlarmMoment,
    pub updated_at: TimestampMs,
    pub last_details: Value,
    /// How often it was true again.
    pub updates: u64,
    pub cleared_at: Option<TimestampMs>,
    pub cleared_reason: Option<String>,
    pub cleared_details: Option<Value>,
    pub acknowledged_at: Option<TimestampMs>,
    pub acknowledged_by: Option<String>,
    pub assigned_to: Option<String>,
    pub shelved_until: Option<TimestampMs>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    pub sequence: u64,
    /// The transition's id for an event of an alarm.
    pub id: TransitionId,
    pub tenant: TenantId,
    pub at: TimestampMs,
    pub kind: String,
    pub location: Option<LocationId>,
    pub device: Option<DeviceId>,
    pub alarm: Option<AlarmId>,
    pub severity: Option<Severity>,
    pub actor: Option<String>,
    pub body: Value,
}

const ALARM_COLUMNS: &str = "sequence, id, tenant, location, device, profile, rule, severity, \
    active, acknowledged, raised_at, raised_severity, raised_details, peak_at, peak_severity, \
    peak_details, updated_at, last_details, updates, cleared_at, cleared_reason, cleared_details, \
    acknowledged_at, acknowledged_by, assigned_to, shelved_until";

/// Conditions of a statement with their values.
#[derive(Default)]
struct Bounds {
    text: Vec<&'static str>,
    values: Vec<Sql>,
}

impl Bounds {
    fn add(&mut self, text: &'static str, value: Option<impl Into<Sql>>) {
        if let Some(value) = value {
            self.text.push(text);
            self.values.push(value.into());
        }
    }

    fn clause(&self) -> String {
        if self.text.is_empty() { "1".to_owned() } else { self.text.join(" AND ") }
    }
}

fn number(id: u64) -> i64 {
    id.cast_signed()
}

impl AlarmStore {
    /// A page of alarms, the last raised first.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn alarms(&self, query: AlarmQuery) -> Result<Vec<AlarmRow>, AlarmStoreError> {
        self.read(move |sql| {
            let mut bounds = alarm_bounds(&query);
            bounds.add("sequence < ?", query.after.map(number));
            let statement = format!(
                "SELECT {ALARM_COLUMNS} FROM alarms WHERE {} ORDER BY sequence DESC LIMIT {}",
                bounds.clause(),
                query.limit.clamp(1, MAX_PAGE),
            );
            rows(sql, &statement, bounds.values, alarm)
        })
        .await
    }

    /// How many alarms the query is about, over all pages.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn count_alarms(&self, query: AlarmQuery) -> Result<u64, AlarmStoreError> {
        self.read(move |sql| {
            let bounds = alarm_bounds(&query);
            let statement = format!("SELECT count(*) FROM alarms WHERE {}", bounds.clause());
            let mut statement = sql.prepare_cached(&statement)?;
            Ok(statement.query_row(params_from_iter(bounds.values), |row| row.get(0))?)
        })
        .await
    }

    /// One alarm.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn alarm(&self, id: AlarmId) -> Result<Option<AlarmRow>, AlarmStoreError> {
        self.read(move |sql| {
            let mut statement =
                sql.prepare_cached(&format!("SELECT {ALARM_COLUMNS} FROM alarms WHERE id = ?1"))?;
            Ok(statement.query_row([id.0.to_be_bytes()], alarm).optional()?)
        })
        .await
    }

    /// A page of events.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn events(&self, query: EventQuery) -> Result<Vec<EventRow>, AlarmStoreError> {
        self.read(move |sql| {
            let mut bounds = Bounds::default();
            bounds.add("tenant = ?", query.tenant.map(|id| number(id.0)));
            bounds.add("location = ?", query.location.map(|id| number(id.0)));
            bounds.add("device = ?", query.device.map(|id| number(id.0)));
            bounds.add("alarm = ?", query.alarm.map(|id| id.0.to_be_bytes().to_vec()));
            bounds.add("kind = ?", query.kind);
            bounds.add("at >= ?", query.from.map(|at| at.0));
            bounds.add("at < ?", query.to.map(|at| at.0));
            let (behind, order) = match query.oldest_first {
                true => ("sequence > ?", "ASC"),
                false => ("sequence < ?", "DESC"),
            };
            bounds.add(behind, query.after.map(number));
            let statement = format!(
                "SELECT sequence, id, tenant, at, kind, location, device, alarm, severity, actor,
                 body FROM events WHERE {} ORDER BY sequence {order} LIMIT {}",
                bounds.clause(),
                query.limit.clamp(1, MAX_PAGE),
            );
            rows(sql, &statement, bounds.values, event)
        })
        .await
    }
}

fn alarm_bounds(query: &AlarmQuery) -> Bounds {
    let mut bounds = Bounds::default();
    bounds.add("tenant = ?", query.tenant.map(|id| number(id.0)));
    bounds.add("location = ?", query.location.map(|id| number(id.0)));
    bounds.add("device = ?", query.device.map(|id| number(id.0)));
    bounds.add("rule = ?", query.rule.clone());
    bounds.add("active = ?", query.active.map(i64::from));
    bounds.add("acknowledged = ?", query.acknowledged.map(i64::from));
    bounds.add("severity >= ?", query.severity_from.map(|severity| i64::from(severity as u8)));
    bounds.add("raised_at >= ?", query.from.map(|at| at.0));
    bounds.add("raised_at < ?", query.to.map(|at| at.0));
    bounds
}

fn rows<T>(
    sql: &Connection,
    statement: &str,
    values: Vec<Sql>,
    convert: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, AlarmStoreError> {
    let mut statement = sql.prepare_cached(statement)?;
    let rows = statement.query_map(params_from_iter(values), convert)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn unreadable(column: usize, what: &str) -> rusqlite::Error {
    let message: Box<dyn std::error::Error + Send + Sync> = what.into();
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, message)
}

fn severity(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Severity>> {
    let stored: Option<u8> = row.get(column)?;
    stored
        .map(|stored| {
            Severity::from_u8(stored).ok_or_else(|| unreadable(column, "an unknown severity"))
        })
        .transpose()
}

fn known_severity(row: &Row<'_>, column: usize) -> rusqlite::Result<Severity> {
    severity(row, column)?.ok_or_else(|| unreadable(column, "no severity"))
}

fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Value>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| {
        serde_json::from_str(&text).map_err(|error| unreadable(column, &error.to_string()))
    })
    .transpose()
}

fn known_json(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    Ok(json(row, column)?.unwrap_or(Value::Null))
}

fn moment(row: &Row<'_>, first: usize) -> rusqlite::Result<AlarmMoment> {
    Ok(AlarmMoment {
        at: TimestampMs(row.get(first)?),
        severity: known_severity(row, first + 1)?,
        details: known_json(row, first + 2)?,
    })
}

fn alarm(row: &Row<'_>) -> rusqlite::Result<AlarmRow> {
    let rule: String = row.get(6)?;
    Ok(AlarmRow {
        sequence: row.get(0)?,
        id: AlarmId(u128::from_be_bytes(row.get(1)?)),
        tenant: TenantId(row.get(2)?),
        location: row.get::<_, Option<u64>>(3)?.map(LocationId),
        device: row.get::<_, Option<u64>>(4)?.map(DeviceId),
        rule: RuleId { profile: ProfileId(row.get(5)?), key: rule.into() },
        severity: known_severity(row, 7)?,
        status: AlarmStatus { active: row.get(8)?, acknowledged: row.get(9)? },
        raised: moment(row, 10)?,
        peak: moment(row, 13)?,
        updated_at: TimestampMs(row.get(16)?),
        last_details: known_json(row, 17)?,
        updates: row.get(18)?,
        cleared_at: row.get::<_, Option<i64>>(19)?.map(TimestampMs),
        cleared_reason: row.get(20)?,
        cleared_details: json(row, 21)?,
        acknowledged_at: row.get::<_, Option<i64>>(22)?.map(TimestampMs),
        acknowledged_by: row.get(23)?,
        assigned_to: row.get(24)?,
        shelved_until: row.get::<_, Option<i64>>(25)?.map(TimestampMs),
    })
}

fn event(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        sequence: row.get(0)?,
        id: TransitionId(u128::from_be_bytes(row.get(1)?)),
        tenant: TenantId(row.get(2)?),
        at: TimestampMs(row.get(3)?),
        kind: row.get(4)?,
        location: row.get::<_, Option<u64>>(5)?.map(LocationId),
        device: row.get::<_, Option<u64>>(6)?.map(DeviceId),
        alarm: row.get::<_, Option<[u8; 16]>>(7)?.map(|id| AlarmId(u128::from_be_bytes(id))),
        severity: severity(row, 8)?,
        actor: row.get(9)?,
        body: known_json(row, 10)?,
    })
}
