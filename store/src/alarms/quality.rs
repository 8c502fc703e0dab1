//! How good the alarms of a period are, by the measures of ISA-18.2, IEC 62682
//! (both in their clause 16, monitoring and assessment) and EEMUA 191.
//!
//! What counts is an annunciated alarm: a raise. A flapping rule raises nothing
//! while it is suppressed, so that it counts once; a shelved alarm is not stale,
//! because somebody has dealt with it. All is worked out by the database, which
//! sorts on disk where a period is long; here is only what is shown.

mod floods;

use std::collections::BTreeMap;

use schema::{AlarmId, DeviceId, LocationId, ProfileId, RuleId, Severity, TenantId, TimestampMs};

use super::bounds::{Bounds, known_severity, number};
use super::{AlarmStore, AlarmStoreError};
use crate::sql::{Owned, Row, Session, SqlError};
use floods::FloodMeter;

pub use floods::Floods;

/// The period in which the standards count alarms.
pub const PERIOD_MS: i64 = 10 * 60_000;

/// A flood begins with a period of more alarms than this …
pub const FLOOD_BEGINS_OVER: u64 = 10;

/// … and ends with one of fewer than this.
pub const FLOOD_ENDS_BELOW: u64 = 5;

/// Alarms of an hour above which it is a bad one.
pub const BUSY_HOUR_OVER: u64 = 30;

/// An alarm chatters when it is raised so often …
pub const CHATTERING_RAISES: u32 = 3;

/// … within less than this; and it is fleeting when it lasts less than this.
pub const MOMENT_MS: i64 = 60_000;

/// An alarm that is active for so long is stale.
pub const STALE_AFTER_MS: i64 = 24 * 3_600_000;

/// Items of the lists of the worst.
pub const LISTED: usize = 20;

/// The alarms whose share of all is judged.
pub const TOP: usize = 10;

const HOUR_MS: i64 = 3_600_000;

/// Which alarms are judged: those raised at or after `from` and before `to`.
#[derive(Clone, Copy, Debug)]
pub struct QualityQuery {
    pub tenant: Option<TenantId>,
    pub location: Option<LocationId>,
    pub from: TimestampMs,
    pub to: TimestampMs,
    /// What is stale is looked for at the end of the period, or now if that is
    /// to come.
    pub now: TimestampMs,
}

/// The figures of a period. Of an empty period all are zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QualityFigures {
    pub raised: u64,
    pub by_severity: BTreeMap<Severity, u64>,
    /// Periods of ten minutes, counted from the beginning, the last maybe short.
    pub periods: u64,
    pub peak: u64,
    /// Where the first period with that many begins.
    pub peak_at: Option<TimestampMs>,
    /// Periods with more than [`FLOOD_BEGINS_OVER`].
    pub periods_over: u64,
    pub hours: u64,
    /// Hours with more than [`BUSY_HOUR_OVER`].
    pub busy_hours: u64,
    pub floods: Floods,
    /// Alarms (device and rule) that chattered, and how often they were raised.
    pub chattering: u64,
    pub chattering_raised: u64,
    /// The most raised of them.
    pub chattering_listed: Vec<Offender>,
    /// Alarms that were over in less than a minute and did not chatter.
    pub fleeting: u64,
    /// The most fleeting; `raised` counts the fleeting ones.
    pub fleeting_listed: Vec<Offender>,
    pub stale: u64,
    /// The oldest of them.
    pub stale_listed: Vec<StaleAlarm>,
    /// The most raised, at most [`TOP`].
    pub top_alarms: Vec<Offender>,
    /// At most [`TOP`].
    pub top_rules: Vec<(TenantId, RuleId, u64)>,
    /// At most [`TOP`]; none for alarms of a tenant as a whole.
    pub top_locations: Vec<(Option<LocationId>, u64)>,
    pub acknowledged: Acknowledgements,
    /// Times that a flapping alarm was held back.
    pub suppressed: u64,
    /// Active alarms that are shelved now, whenever they were raised.
    pub shelved_now: u64,
}

/// An alarm (device and rule) with its raises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offender {
    pub tenant: TenantId,
    pub location: Option<LocationId>,
    pub device: Option<DeviceId>,
    pub rule: RuleId,
    pub raised: u64,
}

/// An alarm that is active for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleAlarm {
    pub id: AlarmId,
    pub tenant: TenantId,
    pub location: Option<LocationId>,
    pub device: Option<DeviceId>,
    pub rule: RuleId,
    pub severity: Severity,
    pub raised_at: TimestampMs,
}

/// From the moment that we learned of an alarm to its acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledgements {
    pub count: u64,
    pub median_ms: Option<i64>,
    pub p90_ms: Option<i64>,
}

impl AlarmStore {
    /// The figures of a period.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn quality(&self, query: QualityQuery) -> Result<QualityFigures, AlarmStoreError> {
        self.read(move |sql| figures(sql, &query)).await
    }
}

/// Whose alarms, whenever they were raised.
fn whose(query: &QualityQuery) -> Bounds {
    let mut bounds = Bounds::default();
    bounds.add("tenant = ?", query.tenant.map(|id| number(id.0)));
    bounds.add("location = ?", query.location.map(|id| number(id.0)));
    bounds
}

fn raised_within(query: &QualityQuery) -> Bounds {
    let mut bounds = whose(query);
    bounds.add("raised_at >= ?", Some(query.from.0));
    bounds.add("raised_at < ?", Some(query.to.0));
    bounds
}

/// Calls `each` with every row of a statement in which `{}` stands for the bounds.
fn each_row(
    sql: &Session,
    statement: &str,
    bounds: &Bounds,
    mut each: impl FnMut(&Row<'_>) -> Result<(), SqlError>,
) -> Result<(), AlarmStoreError> {
    let mut statement = sql.prepare_cached(&statement.replace("{}", &bounds.clause()))?;
    let mut rows = statement.query(bounds.values())?;
    while let Some(row) = rows.next()? {
        each(&row)?;
    }
    Ok(())
}

pub(super) fn figures(
    sql: &Session,
    query: &QualityQuery,
) -> Result<QualityFigures, AlarmStoreError> {
    let mut figures = QualityFigures::default();
    // All statements see the same alarms.
    let moment = sql.moment()?;
    by_severity(sql, query, &mut figures)?;
    rates(sql, query, &mut figures)?;
    busy_hours(sql, query, &mut figures)?;
    alarms(sql, query, &mut figures)?;
    tops(sql, query, &mut figures)?;
    stale(sql, query, &mut figures)?;
    acknowledgements(sql, query, &mut figures)?;
    held_back(sql, query, &mut figures)?;
    drop(moment);
    Ok(figures)
}

fn by_severity(
    sql: &Session,
    query: &QualityQuery,
    figures: &mut QualityFigures,
) -> Result<(), AlarmStoreError> {
    let statement =
        "SELECT raised_severity, count(*) FROM alarms WHERE {} GROUP BY raised_severity";
    each_row(sql, statement, &raised_within(query), |row| {
        let count: u64 = row.get(1)?;
        figures.raised += count;
        figures.by_severity.insert(known_severity(row, 0)?, count);
        Ok(())
    })
}

/// Pieces of `size` that begin within the period, with their alarms; pieces
/// without any are left out.
fn pieces(
    sql: &Session,
    query: &QualityQuery,
    size: i64,
    mut each: impl FnMut(i64, u64),
) -> Result<(), AlarmStoreError> {
    let statement = format!(
        "SELECT (raised_at - {}) / {size} AS piece, count(*) FROM alarms WHERE {{}}
         GROUP BY piece ORDER BY piece",
        query.from.0
    );
    each_row(sql, &statement, &raised_within(query), |row| {
        each(row.get(0)?, row.get(1)?);
        Ok(())
    })
}

fn count_of_pieces(query: &QualityQuery, size: i64) -> u64 {
    let span = query.to.0.saturating_sub(query.from.0).max(0).cast_unsigned();
    span.div_ceil(size.cast_unsigned())
}

fn rates(
    sql: &Session,
    query: &QualityQuery,
    figures: &mut QualityFigures,
) -> Result<(), AlarmStoreError> {
    figures.periods = count_of_pieces(query, PERIOD_MS);
    let mut flood = FloodMeter::new(query);
    pieces(sql, query, PERIOD_MS, |period, count| {
        if count > figures.peak {
            figures.peak = count;
            figures.peak_at = Some(TimestampMs(query.from.0 + period * PERIOD_MS));
        }
        if count > FLOOD_BEGINS_OVER {
            figures.periods_over += 1;
        }
        flood.period(period, count);
    })?;
    figures.floods = flood.finish();
    Ok(())
}

fn busy_hours(
    sql: &Session,
    query: &QualityQuery,
    figures: &mut QualityFigures,
) -> Result<(), AlarmStoreError> {
    figures.hours = count_of_pieces(query, HOUR_MS);
    pieces(sql, query, HOUR_MS, |_, count| {
        figures.busy_hours += u64::from(count > BUSY_HOUR_OVER);
    })
}

/// One pass over the alarms, those of a device and a rule together.
fn alarms(
    sql: &Session,
    query: &QualityQuery,
    figures: &mut QualityFigures,
) -> Result<(), AlarmStoreError> {
    let behind = CHATTERING_RAISES - 1;
    let statement = format!(
        "SELECT tenant, max(location), device, profile, rule, count(*), max(chatters), sum(short)
         FROM (SELECT tenant, location, device, profile, rule,
                CASE WHEN raised_at - lag(raised_at, {behind}) OVER same < {MOMENT_MS}
                    THEN 1 ELSE 0 END AS chatters,
                CASE WHEN cleared_at - raised_at < {MOMENT_MS} THEN 1 ELSE 0 END AS short
             FROM alarms WHERE {{}}
             WINDOW same AS (PARTITION BY tenant, device, profile, rule
                             ORDER BY raised_at, sequence)) AS raises
         GROUP BY tenant, device, profile, rule"
    );
    let mut top = Worst::new(TOP);
    let mut chattering = Worst::new(LISTED);
    let mut fleeting = Worst::new(LISTED);
    each_row(sql, &statement, &raised_within(query), |row| {
        let (chatters, short): (bool, u64) = (row.get(6)?, row.get(7)?);
        let offender = offender(row)?;
        if chatters {
            figures.chattering += 1;
            figures.chattering_raised += offender.raised;
            chattering.add(&offender, offender.raised);
        } else if short > 0 {
            figures.fleeting += short;
            fleeting.add(&offender, short);
        }
        top.add(&offender, offender.raised);
        Ok(())
    })?;
    figures.top_alarms = top.0;
    figures.chattering_listed = chattering.0;
    figures.fleeting_listed = fleeting.0;
    Ok(())
}

fn offender(row: &Row<'_>) -> Result<Offender, SqlError> {
    let key: String = row.get(4)?;
    Ok(Offender {
        tenant: TenantId(row.get(0)?),
        location: row.get::<Option<u64>>(1)?.map(LocationId),
        device: row.get::<Option<u64>>(2)?.map(DeviceId),
        rule: RuleId { profile: ProfileId(row.get(3)?), key: key.into() },
        raised: row.get(5)?,
    })
}

/// The worst of many in little memory; of equal ones the first.
struct Worst(Vec<Offender>, usize);

impl Worst {
    fn new(limit: usize) -> Self {
        Self(Vec::with_capacity(limit + 1), limit)
    }

    fn add(&mut self, offender: &Offender, raised: u64) {
        let Self(worst, limit) = self;
        if worst.len() == *limit && worst.last().is_some_and(|last| last.raised >= raised) {
            return;
        }
        let place = worst.partition_point(|other| other.raised >= raised);
        worst.insert(place, Offender { raised, ..offender.clone() });
        worst.truncate(*limit);
    }
}

fn tops(
    sql: &Session,
    query: &QualityQuery,
    figures: &mut QualityFigures,
) -> Result<(), AlarmStoreError> {
    let bounds = raised_within(query);
    let statement = format!(
        "SELECT tenant, profile, rule, count(*) AS raised FROM alarms WHERE {{}}
         GROUP BY tenant, profile, rule ORDER BY raised DESC, tenant, profile, rule LIMIT {TOP}"
    );
    each_row(sql, &statement, &bounds, |row| {
        let key: String = row.get(2)?;
        let rule = RuleId { profile: ProfileId(row.get(1)?), key: key.into() };
        figures.top_rules.push((TenantId(row.get(0)?), rule, row.get(3)?));
        Ok(())
    })?;
    let statement = format!(
        "SELECT location, count(*) AS raised FROM alarms WHERE {{}}
         GROUP BY location ORDER BY raised DESC, coalesce(location, 0) LIMIT {TOP}"
    );
    each_row(sql, &statement, &bounds, |row| {
        let location = row.get::<Option<u64>>(0)?.map(LocationId);
        figures.top_locations.push((location, row.get(1)?));
        Ok(())
    })
}

fn stale(
    sql: &Session,
    query: &QualityQuery,
    figures: &mut QualityFigures,
) -> Result<(), AlarmStoreError> {
    let end = query.to.0.min(query.now.0);
    let mut bounds = whose(query);
    bounds.add("raised_at <= ?", Some(end.saturating_sub(STALE_AFTER_MS)));
    if query.now.0 <= query.to.0 {
        bounds.fixed("active = 1 AND shelved_until IS NULL");
    } else {
        bounds.several(
            "((active = 1 AND shelved_until IS NULL) OR (active = 0 AND cleared_at > ?))",
            [Owned::from(end)],
        );
    }
    let statement = format!(
        "SELECT id, tenant, location, device, profile, rule, severity, raised_at,
            count(*) OVER () FROM alarms WHERE {{}} ORDER BY raised_at, sequence LIMIT {LISTED}"
    );
    each_row(sql, &statement, &bounds, |row| {
        let key: String = row.get(5)?;
        figures.stale = row.get(8)?;
        figures.stale_listed.push(StaleAlarm {
            id: AlarmId(u128::from_be_bytes(row.get(0)?)),
            tenant: TenantId(row.get(1)?),
            location: row.get::<Option<u64>>(2)?.map(LocationId),
            device: row.get::<Option<u64>>(3)?.map(DeviceId),
            rule: RuleId { profile: ProfileId(row.get(4)?), key: key.into() },
            severity: known_severity(row, 6)?,
            raised_at: TimestampMs(row.get(7)?),
        });
        Ok(())
    })
}

fn acknowledgements(
    sql: &Session,
    query: &QualityQuery,
    figures: &mut QualityFigures,
) -> Result<(), AlarmStoreError> {
    let mut bounds = raised_within(query);
    bounds.fixed("acknowledged_at IS NOT NULL");
    let mut count: u64 = 0;
    each_row(sql, "SELECT count(*) FROM alarms WHERE {}", &bounds, |row| {
        count = row.get(0)?;
        Ok(())
    })?;
    let at_rank = |percent: u64| -> Result<Option<i64>, AlarmStoreError> {
        let Some(before) = (count * percent).div_ceil(100).checked_sub(1) else { return Ok(None) };
        let statement = format!(
            "SELECT CASE WHEN acknowledged_at < coalesce(received_at, raised_at) THEN 0
                ELSE acknowledged_at - coalesce(received_at, raised_at) END AS took
             FROM alarms WHERE {{}} ORDER BY took LIMIT 1 OFFSET {before}"
        );
        let mut took = None;
        each_row(sql, &statement, &bounds, |row| {
            took = row.get(0)?;
            Ok(())
        })?;
        Ok(took)
    };
    figures.acknowledged =
        Acknowledgements { count, median_ms: at_rank(50)?, p90_ms: at_rank(90)? };
    Ok(())
}

fn held_back(
    sql: &Session,
    query: &QualityQuery,
    figures: &mut QualityFigures,
) -> Result<(), AlarmStoreError> {
    let mut events = whose(query);
    events.fixed("kind = 'alarm_suppressed'");
    events.add("at >= ?", Some(query.from.0));
    events.add("at < ?", Some(query.to.0));
    each_row(sql, "SELECT count(*) FROM events WHERE {}", &events, |row| {
        figures.suppressed = row.get(0)?;
        Ok(())
    })?;
    let mut shelved = whose(query);
    shelved.fixed("active = 1 AND shelved_until IS NOT NULL");
    each_row(sql, "SELECT count(*) FROM alarms WHERE {}", &shelved, |row| {
        figures.shelved_now = row.get(0)?;
        Ok(())
    })
}

#[cfg(test)]
mod tests;
