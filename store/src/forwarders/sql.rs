//! The statements behind the forwarders.

use schema::{DeviceId, PartitionId, Position, TimestampMs};

use super::{DeadLetter, DeadLetterTotals, Fate, LaneCommit, LanePlace, NewDeadLetter, StoredLane};
use crate::sql::{Session, SqlError, params};

pub(super) const MIGRATIONS: &[&str] =
    &[include_str!("../../../schema/migrations/embedded/forwarders/0001-forwarders.sql")];

pub(super) const POSTGRES_MIGRATIONS: &[&str] =
    &[include_str!("../../../schema/migrations/postgres/forwarders/0001-forwarders.sql")];

pub(super) fn lanes(sql: &Session) -> Result<Vec<StoredLane>, SqlError> {
    let mut statement = sql.prepare_cached(
        "SELECT forwarder, partition, position, row, counts, expired FROM lanes
         ORDER BY forwarder, partition",
    )?;
    let rows = statement.query_map([], |row| {
        let position: Option<i64> = row.get(2)?;
        let at_row = row.get(3)?;
        let place = position.map(|position| LanePlace {
            position: Position(position.cast_unsigned()),
            row: at_row,
        });
        Ok(StoredLane {
            forwarder: row.get(0)?,
            partition: PartitionId(row.get(1)?),
            place,
            counts: row.get(4)?,
            expired: row.get(5)?,
        })
    })?;
    Ok(rows)
}

pub(super) fn devices(
    sql: &Session,
    forwarder: u64,
    partition: PartitionId,
) -> Result<Vec<(DeviceId, Vec<u8>)>, SqlError> {
    let mut statement = sql.prepare_cached(
        "SELECT device, last FROM devices WHERE forwarder = ?1 AND partition = ?2",
    )?;
    statement.query_map(params![forwarder.cast_signed(), partition.0], |row| {
        Ok((DeviceId(row.get(0)?), row.get(1)?))
    })
}

pub(super) fn dead_letters(
    sql: &Session,
    forwarder: u64,
    after: u64,
    limit: usize,
) -> Result<Vec<DeadLetter>, SqlError> {
    let mut statement = sql.prepare_cached(
        "SELECT sequence, at, reason, value FROM dead_letters
         WHERE forwarder = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let arguments = params![forwarder.cast_signed(), after.cast_signed(), limit];
    statement.query_map(arguments, |row| {
        Ok(DeadLetter {
            sequence: row.get(0)?,
            at: TimestampMs(row.get(1)?),
            reason: row.get(2)?,
            value: row.get(3)?,
        })
    })
}

pub(super) fn totals(sql: &Session, forwarder: u64) -> Result<DeadLetterTotals, SqlError> {
    let kept: i64 = sql.query_row(
        "SELECT count(*) FROM dead_letters WHERE forwarder = ?1",
        [forwarder.cast_signed()],
        |row| row.get(0),
    )?;
    let mut statement = sql.prepare_cached(
        "SELECT resent, discarded, overflowed FROM dead_letter_fates WHERE forwarder = ?1",
    )?;
    let mut rows = statement.query([forwarder.cast_signed()])?;
    let mut totals = DeadLetterTotals { kept: kept.cast_unsigned(), ..DeadLetterTotals::default() };
    if let Some(row) = rows.next()? {
        totals.resent = row.get(0)?;
        totals.discarded = row.get(1)?;
        totals.overflowed = row.get(2)?;
    }
    Ok(totals)
}

pub(super) fn commit(
    sql: &Session,
    step: &LaneCommit,
    max_dead_letters: u32,
) -> Result<(), SqlError> {
    let LaneCommit { lane, devices, dead_letters } = step;
    let (forwarder, partition) = (lane.forwarder.cast_signed(), lane.partition.0);
    sql.prepare_cached(
        "INSERT INTO lanes (forwarder, partition, position, row, counts, expired)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (forwarder, partition) DO UPDATE SET
                 position = excluded.position, row = excluded.row,
                 counts = excluded.counts, expired = excluded.expired",
    )?
    .execute(params![
        forwarder,
        partition,
        lane.place.map(|place| place.position.0.cast_signed()),
        lane.place.map_or(0, |place| place.row),
        lane.counts,
        lane.expired.cast_signed()
    ])?;
    for (device, last) in devices {
        let device = device.0.cast_signed();
        match last {
            Some(last) => sql
                .prepare_cached(
                    "INSERT INTO devices (forwarder, partition, device, last)
                     VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (forwarder, partition, device) DO UPDATE SET last = excluded.last",
                )?
                .execute(params![forwarder, partition, device, last])?,
            None => sql
                .prepare_cached(
                    "DELETE FROM devices WHERE forwarder = ?1 AND partition = ?2 AND device = ?3",
                )?
                .execute(params![forwarder, partition, device])?,
        };
    }
    keep(sql, lane.forwarder, dead_letters, max_dead_letters)
}

fn keep(
    sql: &Session,
    forwarder: u64,
    dead_letters: &[NewDeadLetter],
    most: u32,
) -> Result<(), SqlError> {
    if dead_letters.is_empty() {
        return Ok(());
    }
    let id = forwarder.cast_signed();
    for letter in dead_letters {
        sql.prepare_cached(
            "INSERT INTO dead_letters (forwarder, at, reason, value) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![id, letter.at.0, letter.reason, letter.value])?;
    }
    let kept = totals(sql, forwarder)?.kept;
    let over = kept.saturating_sub(u64::from(most));
    if over > 0 {
        sql.prepare_cached(
            "DELETE FROM dead_letters WHERE sequence IN (
                     SELECT sequence FROM dead_letters WHERE forwarder = ?1
                     ORDER BY sequence LIMIT ?2)",
        )?
        .execute(params![id, over.cast_signed()])?;
        count(sql, forwarder, "overflowed", over)?;
    }
    Ok(())
}

fn count(sql: &Session, forwarder: u64, column: &'static str, more: u64) -> Result<(), SqlError> {
    let statement = format!(
        "INSERT INTO dead_letter_fates (forwarder, {column}) VALUES (?1, ?2)
         ON CONFLICT (forwarder)
         DO UPDATE SET {column} = dead_letter_fates.{column} + excluded.{column}"
    );
    sql.prepare_cached(&statement)?
        .execute(params![forwarder.cast_signed(), more.cast_signed()])?;
    Ok(())
}

pub(super) fn settle(
    sql: &Session,
    forwarder: u64,
    sequences: &[u64],
    fate: Fate,
) -> Result<u64, SqlError> {
    let mut settled = 0;
    for sequence in sequences {
        settled += sql
            .prepare_cached("DELETE FROM dead_letters WHERE forwarder = ?1 AND sequence = ?2")?
            .execute(params![forwarder.cast_signed(), sequence.cast_signed()])?;
    }
    let column = match fate {
        Fate::Resent => "resent",
        Fate::Discarded => "discarded",
    };
    count(sql, forwarder, column, settled as u64)?;
    Ok(settled as u64)
}

pub(super) fn rest(sql: &Session, forwarder: u64) -> Result<(), SqlError> {
    for statement in [
        "UPDATE lanes SET position = NULL, row = 0 WHERE forwarder = ?1",
        "DELETE FROM devices WHERE forwarder = ?1",
    ] {
        sql.prepare_cached(statement)?.execute([forwarder.cast_signed()])?;
    }
    Ok(())
}

pub(super) fn forget(sql: &Session, forwarder: u64) -> Result<(), SqlError> {
    for statement in [
        "DELETE FROM lanes WHERE forwarder = ?1",
        "DELETE FROM devices WHERE forwarder = ?1",
        "DELETE FROM dead_letters WHERE forwarder = ?1",
        "DELETE FROM dead_letter_fates WHERE forwarder = ?1",
    ] {
        sql.prepare_cached(statement)?.execute([forwarder.cast_signed()])?;
    }
    Ok(())
}
