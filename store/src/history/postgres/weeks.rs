//! The table's partitions: one for each week, made before rows of that week come
//! and dropped when all that it has is expired.

use std::sync::PoisonError;
use std::time::Duration;

use schema::TenantId;

use super::{RETENTION_CHECK, Tables};
use crate::history::HistoryError;
use crate::history::options::DAY_MS;
use crate::sql::{Session, SqlError, params};

const WEEK_MS: i64 = 7 * DAY_MS;

/// The weeks that have partitions of their own: from 2000 to 2100. A device
/// whose clock is wrong by more must not make partitions without end.
const FIRST_MS: i64 = 946_684_800_000;
const END_MS: i64 = 4_102_444_800_000;

/// Held while a partition is made or dropped. The number is the text `baken-hi`
/// in ASCII.
const WEEKS_LOCK: i64 = 0x62_61_6b_65_6e_2d_68_69;

/// Rows that are deleted in one transaction.
const DELETE_ROWS: usize = 20_000;

fn week_of(at: i64) -> Option<i64> {
    (FIRST_MS..END_MS).contains(&at).then(|| at.div_euclid(WEEK_MS))
}

fn name(week: i64) -> String {
    format!("readings_week_{week}")
}

/// Makes the partitions that rows of these times need.
pub(super) fn prepare(
    session: &mut Session,
    times: impl Iterator<Item = i64>,
) -> Result<(), SqlError> {
    let mut weeks: Vec<i64> = Vec::new();
    for week in times.filter_map(week_of) {
        // Nearly all are of the week of the row before.
        if weeks.last() != Some(&week) && !weeks.contains(&week) {
            weeks.push(week);
        }
    }
    for week in weeks {
        let statement = "SELECT to_regclass(?1) IS NOT NULL";
        let is_there: bool = session.query_row(statement, [name(week)], |row| row.get(0))?;
        if !is_there {
            make(session, week)?;
        }
    }
    Ok(())
}

/// Made apart and then attached, which does not keep others from writing.
fn make(session: &mut Session, week: i64) -> Result<(), SqlError> {
    let transaction = session.transaction()?;
    transaction.lock(WEEKS_LOCK)?;
    let (name, from) = (name(week), week * WEEK_MS);
    let statement = "SELECT to_regclass(?1) IS NOT NULL";
    let is_there: bool = transaction.query_row(statement, [&name], |row| row.get(0))?;
    if !is_there {
        transaction.run(&format!(
            "CREATE TABLE {name} (LIKE readings INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
             ALTER TABLE readings ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({})",
            from + WEEK_MS
        ))?;
        tracing::info!(partition = name, "the history has a new week");
    }
    transaction.commit()
}

/// Looks now and then for what has expired.
pub(super) fn run(tables: &Tables) {
    let mut waited = Duration::ZERO;
    let step = Duration::from_millis(500);
    while !tables.has_ended() {
        let work = tables.work.lock().unwrap_or_else(PoisonError::into_inner);
        // A flush wakes it too early, which does no harm.
        let _ = tables.wanted.wait_timeout(work, step);
        waited += step;
        if waited >= RETENTION_CHECK {
            waited = Duration::ZERO;
            if let Err(error) = expire(tables) {
                tables.metrics.failures.with_label_values(&["expiry"]).inc();
                tracing::warn!(%error, "what has expired is still there; it is tried again");
            }
        }
    }
}

/// Drops the weeks in which all has expired, and deletes what has expired of a
/// tenant in the others that are wholly past its time. How many rows and weeks.
pub(super) fn expire(tables: &Tables) -> Result<(u64, u64), HistoryError> {
    let mut session = tables.database.session()?;
    let tenants: Vec<u64> = session
        .prepare_cached("SELECT DISTINCT tenant FROM series")?
        .query_map([], |row| row.get(0))?;
    let cutoffs: Vec<(u64, i64)> =
        tenants.into_iter().map(|tenant| (tenant, tables.cutoff(TenantId(tenant)))).collect();
    let Some(oldest) = cutoffs.iter().map(|(_, cutoff)| *cutoff).min() else { return Ok((0, 0)) };
    let weeks: Vec<i64> = session
        .prepare_cached(
            "SELECT CAST(substring(c.relname FROM 15) AS BIGINT) FROM pg_inherits i
             JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = CAST('readings' AS regclass)
                AND c.relname ~ '^readings_week_[0-9]+$'
             ORDER BY 1",
        )?
        .query_map([], |row| row.get(0))?;
    let (mut rows, mut dropped) = (0, 0);
    for week in weeks {
        let end = (week + 1) * WEEK_MS;
        if end <= oldest {
            drop_week(&mut session, week)?;
            dropped += 1;
            continue;
        }
        for (tenant, _) in cutoffs.iter().filter(|(_, cutoff)| end <= *cutoff) {
            rows += delete(&session, week, *tenant)?;
        }
    }
    tables.metrics.expired.inc_by(rows);
    Ok((rows, dropped))
}

fn drop_week(session: &mut Session, week: i64) -> Result<(), SqlError> {
    let name = name(week);
    let transaction = session.transaction()?;
    transaction.lock(WEEKS_LOCK)?;
    transaction.run(&format!("DROP TABLE IF EXISTS {name}"))?;
    transaction.commit()?;
    tracing::info!(partition = name, "a week of the history has expired");
    Ok(())
}

/// A part at a time, so that no transaction is long.
fn delete(session: &Session, week: i64, tenant: u64) -> Result<u64, SqlError> {
    let name = name(week);
    let statement = format!(
        "DELETE FROM {name} WHERE ctid = ANY (ARRAY(
             SELECT r.ctid FROM {name} r JOIN series s ON s.id = r.series
             WHERE s.tenant = ?1 LIMIT {DELETE_ROWS}))"
    );
    let mut rows = 0;
    loop {
        let deleted = session.execute(&statement, params![tenant])?;
        rows += deleted as u64;
        if deleted < DELETE_ROWS {
            return Ok(rows);
        }
    }
}
