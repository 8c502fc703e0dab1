//! Reads alarms in pages that stay where they are while alarms change: an
//! alarm's place is the order in which it was raised.

use schema::{AlarmId, DeviceId, LocationId, ProfileId, RuleId, Severity, TenantId, TimestampMs};
use serde_json::Value;

use super::bounds::{Bounds, json, known_json, known_severity, number, rows};
use super::{AlarmStore, AlarmStoreError, MAX_PAGE};
use crate::sql::{Optional as _, Owned, Row, Session, SqlError};

/// Which alarms are asked for; what is `None` or empty sets no bound.
#[derive(Clone, Debug, Default)]
pub struct AlarmQuery {
    pub tenant: Option<TenantId>,
    pub locations: Vec<LocationId>,
    pub device: Option<DeviceId>,
    pub profile: Option<ProfileId>,
    pub rule: Option<String>,
    pub active: Option<bool>,
    pub acknowledged: Option<bool>,
    pub shelved: Option<bool>,
    /// An empty name asks for those that nobody has.
    pub assigned_to: Option<String>,
    /// This severity or worse.
    pub severity_from: Option<Severity>,
    pub severities: Vec<Severity>,
    /// Stands in the rule's key, or in the description at the raise or now;
    /// capitals of the Latin alphabet are taken for small letters.
    pub text: Option<String>,
    /// Raised at or after.
    pub from: Option<TimestampMs>,
    /// Raised before.
    pub to: Option<TimestampMs>,
    pub order: AlarmOrder,
    /// The last alarm of the page before.
    pub after: Option<AlarmPlace>,
    pub limit: usize,
}

/// How a list is ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlarmOrder {
    /// The last raised first. An alarm never moves.
    #[default]
    Newest,
    /// The worst first, and of one severity the last raised. An alarm moves
    /// when its severity changes.
    Severity,
}

/// Where an alarm stands in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmPlace {
    pub sequence: u64,
    /// Looked at where the order is by severity.
    pub severity: Severity,
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

/// What a command on an alarm needs to know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmTarget {
    /// Its place in the order of raising.
    pub sequence: u64,
    pub id: AlarmId,
    pub tenant: TenantId,
    pub location: Option<LocationId>,
    pub device: Option<DeviceId>,
    pub rule: RuleId,
    pub severity: Severity,
    pub status: AlarmStatus,
    pub is_shelved: bool,
}

const ALARM_COLUMNS: &str = "sequence, id, tenant, location, device, profile, rule, severity, \
    active, acknowledged, raised_at, raised_severity, raised_details, peak_at, peak_severity, \
    peak_details, updated_at, last_details, updates, cleared_at, cleared_reason, cleared_details, \
    acknowledged_at, acknowledged_by, assigned_to, shelved_until";

const TARGET_COLUMNS: &str = "sequence, id, tenant, location, device, profile, rule, severity, active, \
    acknowledged, shelved_until IS NOT NULL";

impl AlarmRow {
    /// Where it stands in a list.
    #[must_use]
    pub fn place(&self) -> AlarmPlace {
        AlarmPlace { sequence: self.sequence, severity: self.severity }
    }
}

impl AlarmStore {
    /// A page of alarms.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn alarms(&self, query: AlarmQuery) -> Result<Vec<AlarmRow>, AlarmStoreError> {
        self.read(move |sql| {
            let (bounds, order) = page_bounds(&query);
            let statement = format!(
                "SELECT {ALARM_COLUMNS} FROM alarms WHERE {} ORDER BY {order} LIMIT {}",
                bounds.clause(),
                query.limit.clamp(1, MAX_PAGE),
            );
            rows(sql, &statement, bounds.values(), alarm)
        })
        .await
    }

    /// What the query is about at this moment, the last raised first, behind its
    /// `after` and at most `limit` of them.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn alarm_targets(
        &self,
        query: AlarmQuery,
        limit: usize,
    ) -> Result<Vec<AlarmTarget>, AlarmStoreError> {
        self.read(move |sql| {
            let query = AlarmQuery { order: AlarmOrder::Newest, ..query };
            let (bounds, _) = page_bounds(&query);
            let statement = format!(
                "SELECT {TARGET_COLUMNS} FROM alarms WHERE {} ORDER BY sequence DESC LIMIT {limit}",
                bounds.clause(),
            );
            rows(sql, &statement, bounds.values(), target)
        })
        .await
    }

    /// How many alarms the query is about, over all pages. It reads them all.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn count_alarms(&self, query: AlarmQuery) -> Result<u64, AlarmStoreError> {
        self.read(move |sql| {
            let bounds = alarm_bounds(&query);
            let statement = format!("SELECT count(*) FROM alarms WHERE {}", bounds.clause());
            let mut statement = sql.prepare_cached(&statement)?;
            Ok(statement.query_row(&*bounds.into_values(), |row| row.get(0))?)
        })
        .await
    }

    /// One alarm.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn alarm(&self, id: AlarmId) -> Result<Option<AlarmRow>, AlarmStoreError> {
        self.read(move |sql| one_alarm(sql, id)).await
    }
}

fn one_alarm(sql: &Session, id: AlarmId) -> Result<Option<AlarmRow>, AlarmStoreError> {
    let mut statement =
        sql.prepare_cached(&format!("SELECT {ALARM_COLUMNS} FROM alarms WHERE id = ?1"))?;
    Ok(statement.query_row([id.0.to_be_bytes()], alarm).optional()?)
}

fn page_bounds(query: &AlarmQuery) -> (Bounds, &'static str) {
    let mut bounds = alarm_bounds(query);
    match query.order {
        AlarmOrder::Newest => {
            bounds.add("sequence < ?", query.after.map(|place| number(place.sequence)));
            (bounds, "sequence DESC")
        }
        AlarmOrder::Severity => {
            if let Some(AlarmPlace { sequence, severity }) = query.after {
                let values = [Owned::from(i64::from(severity as u8)), number(sequence).into()];
                bounds.several("(severity, sequence) < (?, ?)", values);
            }
            (bounds, "severity DESC, sequence DESC")
        }
    }
}

fn alarm_bounds(query: &AlarmQuery) -> Bounds {
    let mut bounds = Bounds::default();
    bounds.add("tenant = ?", query.tenant.map(|id| number(id.0)));
    bounds.among("location", query.locations.iter().map(|id| number(id.0)));
    bounds.add("device = ?", query.device.map(|id| number(id.0)));
    bounds.add("profile = ?", query.profile.map(|id| number(id.0)));
    bounds.add("rule = ?", query.rule.clone());
    if let Some(active) = query.active {
        bounds.fixed(if active { "active = 1" } else { "active = 0" });
    }
    if let Some(acknowledged) = query.acknowledged {
        bounds.fixed(if acknowledged { "acknowledged = 1" } else { "acknowledged = 0" });
    }
    if let Some(shelved) = query.shelved {
        bounds.fixed(if shelved { "shelved_until IS NOT NULL" } else { "shelved_until IS NULL" });
    }
    match query.assigned_to.as_deref() {
        Some("") => bounds.fixed("assigned_to IS NULL"),
        name => bounds.add("assigned_to = ?", name.map(str::to_owned)),
    }
    bounds.add("severity >= ?", query.severity_from.map(|severity| i64::from(severity as u8)));
    bounds.among("severity", query.severities.iter().map(|severity| i64::from(*severity as u8)));
    if let Some(text) = &query.text {
        let pattern =
            format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        bounds.several(
            "(rule LIKE ? ESCAPE '\\' \
             OR raised_details ->> 'description' LIKE ? ESCAPE '\\' \
             OR last_details ->> 'description' LIKE ? ESCAPE '\\')",
            std::iter::repeat_n(Owned::from(pattern), 3),
        );
    }
    bounds.add("raised_at >= ?", query.from.map(|at| at.0));
    bounds.add("raised_at < ?", query.to.map(|at| at.0));
    bounds
}

fn moment(row: &Row<'_>, first: usize) -> Result<AlarmMoment, SqlError> {
    Ok(AlarmMoment {
        at: TimestampMs(row.get(first)?),
        severity: known_severity(row, first + 1)?,
        details: known_json(row, first + 2)?,
    })
}

fn rule(row: &Row<'_>, first: usize) -> Result<RuleId, SqlError> {
    let key: String = row.get(first + 1)?;
    Ok(RuleId { profile: ProfileId(row.get(first)?), key: key.into() })
}

fn target(row: &Row<'_>) -> Result<AlarmTarget, SqlError> {
    Ok(AlarmTarget {
        sequence: row.get(0)?,
        id: AlarmId(u128::from_be_bytes(row.get(1)?)),
        tenant: TenantId(row.get(2)?),
        location: row.get::<Option<u64>>(3)?.map(LocationId),
        device: row.get::<Option<u64>>(4)?.map(DeviceId),
        rule: rule(row, 5)?,
        severity: known_severity(row, 7)?,
        status: AlarmStatus { active: row.get(8)?, acknowledged: row.get(9)? },
        is_shelved: row.get(10)?,
    })
}

fn alarm(row: &Row<'_>) -> Result<AlarmRow, SqlError> {
    Ok(AlarmRow {
        sequence: row.get(0)?,
        id: AlarmId(u128::from_be_bytes(row.get(1)?)),
        tenant: TenantId(row.get(2)?),
        location: row.get::<Option<u64>>(3)?.map(LocationId),
        device: row.get::<Option<u64>>(4)?.map(DeviceId),
        rule: rule(row, 5)?,
        severity: known_severity(row, 7)?,
        status: AlarmStatus { active: row.get(8)?, acknowledged: row.get(9)? },
        raised: moment(row, 10)?,
        peak: moment(row, 13)?,
        updated_at: TimestampMs(row.get(16)?),
        last_details: known_json(row, 17)?,
        updates: row.get(18)?,
        cleared_at: row.get::<Option<i64>>(19)?.map(TimestampMs),
        cleared_reason: row.get(20)?,
        cleared_details: json(row, 21)?,
        acknowledged_at: row.get::<Option<i64>>(22)?.map(TimestampMs),
        acknowledged_by: row.get(23)?,
        assigned_to: row.get(24)?,
        shelved_until: row.get::<Option<i64>>(25)?.map(TimestampMs),
    })
}
