//! The statements behind the forwarders.

use std::path::Path;

use rusqlite::{Connection, params};
use schema::{DeviceId, PartitionId, Position, TimestampMs};

use super::{DeadLetter, DeadLetterTotals, Fate, LaneCommit, LanePlace, NewDeadLetter, StoredLane};
use crate::sql::{SqlError, sqlite};

const MIGRATIONS: [&str; 1] =
    [include_str!("../../../schema/migrations/embedded/forwarders/0001-forwarders.sql")];

pub(super) fn open(path: &Path) -> Result<Connection, SqlError> {
    sqlite::open(path, &MIGRATIONS)
}

pub(super) fn lanes(connection: &Connection) -> Result<Vec<StoredLane>, SqlError> {
    let mut statement = connection
        .prepare("SELECT forwarder, partition, position, row, counts, expired FROM lanes")?;
    let rows = statement.query_map([], |row| {
        let position: Option<i64> = row.get(2)?;
        let at_row = row.get(3)?;
        let place = position.map(|position| LanePlace {
            position: Position(position.cast_unsigned()),
            row: at_row,
        });
        Ok(StoredLane {
            forwarder: row.get::<_, i64>(0)?.cast_unsigned(),
            partition: PartitionId(row.get(1)?),
            place,
            counts: row.get(4)?,
            expired: row.get::<_, i64>(5)?.cast_unsigned(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn devices(
    connection: &Connection,
    forwarder: u64,
    partition: PartitionId,
) -> Result<Vec<(DeviceId, Vec<u8>)>, SqlError> {
    let mut statement = connection
        .prepare("SELECT device, last FROM devices WHERE forwarder = ?1 AND partition = ?2")?;
    let rows = statement.query_map(params![forwarder.cast_signed(), partition.0], |row| {
        Ok((DeviceId(row.get::<_, i64>(0)?.cast_unsigned()), row.get(1)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn dead_letters(
    connection: &Connection,
    forwarder: u64,
    after: u64,
    limit: usize,
) -> Result<Vec<DeadLetter>, SqlError> {
    let mut statement = connection.prepare(
        "SELECT sequence, at, reason, value FROM dead_letters
         WHERE forwarder = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let arguments = params![forwarder.cast_signed(), after.cast_signed(), limit];
    let rows = statement.query_map(arguments, |row| {
        Ok(DeadLetter {
            sequence: row.get::<_, i64>(0)?.cast_unsigned(),
            at: TimestampMs(row.get(1)?),
            reason: row.get(2)?,
            value: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn totals(
    connection: &Connection,
    forwarder: u64,
) -> Result<DeadLetterTotals, SqlError> {
    let kept: i64 = connection.query_row(
        "SELECT count(*) FROM dead_letters WHERE forwarder = ?1",
        [forwarder.cast_signed()],
        |row| row.get(0),
    )?;
    let mut statement = connection.prepare(
        "SELECT resent, discarded, overflowed FROM dead_letter_fates WHERE forwarder = ?1",
    )?;
    let mut rows = statement.query([forwarder.cast_signed()])?;
    let mut totals = DeadLetterTotals { kept: kept.cast_unsigned(), ..DeadLetterTotals::default() };
    if let Some(row) = rows.next()? {
        totals.resent = row.get::<_, i64>(0)?.cast_unsigned();
        totals.discarded = row.get::<_, i64>(1)?.cast_unsigned();
        totals.overflowed = row.get::<_, i64>(2)?.cast_unsigned();
    }
    Ok(totals)
}

pub(super) fn commit(
    connection: &Connection,
    step: &LaneCommit,
    max_dead_letters: u32,
) -> Result<(), SqlError> {
    let LaneCommit { lane, devices, dead_letters } = step;
    let (forwarder, partition) = (lane.forwarder.cast_signed(), lane.partition.0);
    connection
        .prepare_cached(
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
            Some(last) => connection
                .prepare_cached(
                    "INSERT INTO devices (forwarder, partition, device, last)
                     VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT DO UPDATE SET last = excluded.last",
                )?
                .execute(params![forwarder, partition, device, last])?,
            None => connection
                .prepare_cached(
                    "DELETE FROM devices WHERE forwarder = ?1 AND partition = ?2 AND device = ?3",
                )?
                .execute(params![forwarder, partition, device])?,
        };
    }
    keep(connection, lane.forwarder, dead_letters, max_dead_letters)
}

fn keep(
    connection: &Connection,
    forwarder: u64,
    dead_letters: &[NewDeadLetter],
    most: u32,
) -> Result<(), SqlError> {
    if dead_letters.is_empty() {
        return Ok(());
    }
    let id = forwarder.cast_signed();
    for letter in dead_letters {
        connection
            .prepare_cached(
                "INSERT INTO dead_letters (forwarder, at, reason, value) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![id, letter.at.0, letter.reason, letter.value])?;
    }
    let kept = totals(connection, forwarder)?.kept;
    let over = kept.saturating_sub(u64::from(most));
    if over > 0 {
        connection
            .prepare_cached(
                "DELETE FROM dead_letters WHERE sequence IN (
                     SELECT sequence FROM dead_letters WHERE forwarder = ?1
                     ORDER BY sequence LIMIT ?2)",
            )?
            .execute(params![id, over.cast_signed()])?;
        count(connection, forwarder, "overflowed", over)?;
    }
    Ok(())
}

fn count(
    connection: &Connection,
    forwarder: u64,
    column: &'static str,
    more: u64,
) -> Result<(), SqlError> {
    let statement = format!(
        "INSERT INTO dead_letter_fates (forwarder, {column}) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET {column} = {column} + excluded.{column}"
    );
    connection
        .prepare_cached(&statement)?
        .execute(params![forwarder.cast_signed(), more.cast_signed()])?;
    Ok(())
}

pub(super) fn settle(
    connection: &Connection,
    forwarder: u64,
    sequences: &[u64],
    fate: Fate,
) -> Result<u64, SqlError> {
    let mut settled = 0;
    for sequence in sequences {
        settled += connection
            .prepare_cached("DELETE FROM dead_letters WHERE forwarder = ?1 AND sequence = ?2")?
            .execute(params![forwarder.cast_signed(), sequence.cast_signed()])?;
    }
    let column = match fate {
        Fate::Resent => "resent",
        Fate::Discarded => "discarded",
    };
    count(connection, forwarder, column, settled as u64)?;
    Ok(settled as u64)
}

pub(super) fn rest(connection: &Connection, forwarder: u64) -> Result<(), SqlError> {
    for sql in [
        "UPDATE lanes SET position = NULL, row = 0 WHERE forwarder = ?1",
        "DELETE FROM devices WHERE forwarder = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([forwarder.cast_signed()])?;
    }
    Ok(())
}

pub(super) fn forget(connection: &Connection, forwarder: u64) -> Result<(), SqlError> {
    for sql in [
        "DELETE FROM lanes WHERE forwarder = ?1",
        "DELETE FROM devices WHERE forwarder = ?1",
        "DELETE FROM dead_letters WHERE forwarder = ?1",
        "DELETE FROM dead_letter_fates WHERE forwarder = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([forwarder.cast_signed()])?;
    }
    Ok(())
}
