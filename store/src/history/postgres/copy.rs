//! Brings gathered rows into the table, with the positions, in one transaction.
//!
//! Rows go by COPY straight into the table. A reading of a series and a time that
//! are there already makes that fail as a whole; then the same rows go by a
//! temporary table, from which they take the place of what is there. Re-sends
//! come in runs, so the next few go that way at once.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use schema::{PartitionId, Position};

use super::gather::{Gathered, Held};
use super::{FULL_ROWS, GATHER_MS, POSITION_MS, Tables, weeks};
use crate::history::HistoryError;
use crate::sql::{Session, SqlError, params};

/// Rows that share a transaction at most, about.
const MAX_COPY_ROWS: usize = 200_000;

/// Transactions that go by the temporary table after one had to.
const STAGED_AFTER_CONFLICT: u32 = 8;

/// The longest pause before a failed transaction is tried again.
const MAX_PAUSE: Duration = Duration::from_secs(5);

const COLUMNS: &str = "series, observed_at, number, integer, boolean, text, json";

/// What was gathered of one partition.
struct Part {
    partition: PartitionId,
    epoch: u64,
    from: Position,
    to: Position,
    gathered: Gathered,
    /// The database's ids of `gathered`'s series, by row.
    ids: Vec<i64>,
}

/// How a transaction ended.
enum Ended {
    Committed,
    /// Something of it is in the table already.
    Conflict,
    /// Another node owns the partition.
    Fenced(PartitionId),
}

/// A copier's life.
pub(super) fn run(tables: &Tables) {
    let mut session: Option<Session> = None;
    let mut staged = 0;
    while !tables.has_ended() {
        let parts = tables.gather();
        if parts.is_empty() {
            tables.rest();
            continue;
        }
        bring_in(tables, &mut session, parts, &mut staged);
    }
}

fn bring_in(
    tables: &Tables,
    session: &mut Option<Session>,
    mut parts: Vec<Part>,
    staged: &mut u32,
) {
    let mut pause = Duration::from_millis(tables.options.retry_ms.clamp(10, 1_000));
    while !parts.is_empty() {
        let started = Instant::now();
        let by_staging = *staged > 0;
        match attempt(tables, session, &mut parts, by_staging) {
            Ok(Ended::Committed) => {
                *staged = staged.saturating_sub(1);
                tables.metrics.commits.inc();
                tables.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                tables.committed(parts);
                return;
            }
            Ok(Ended::Conflict) => {
                tables.metrics.conflicts.inc();
                *staged = STAGED_AFTER_CONFLICT;
            }
            Ok(Ended::Fenced(partition)) => {
                tables.fenced(partition);
                parts.retain(|part| part.partition != partition);
            }
            Err(error) => {
                tables.metrics.failures.with_label_values(&["copy"]).inc();
                tracing::warn!(%error, "readings wait for PostgreSQL; it is tried again");
                if tables.has_ended() {
                    return;
                }
                tables.pause(pause);
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

fn attempt(
    tables: &Tables,
    session: &mut Option<Session>,
    parts: &mut [Part],
    by_staging: bool,
) -> Result<Ended, HistoryError> {
    let session = match session {
        Some(session) => {
            session.ready()?;
            session
        }
        None => session.insert(tables.database.session()?),
    };
    name_series(tables, session, parts)?;
    let (rows, copied) = encode(tables, parts);
    let times = parts.iter().flat_map(|part| part.gathered.rows.iter().map(|row| row.at));
    weeks::prepare(session, times)?;
    let transaction = session.transaction()?;
    if copied > 0 {
        let done = if by_staging { stage(&transaction, rows) } else { put(&transaction, rows) };
        match done {
            Ok(()) => {}
            Err(error) if error.is_taken() && !by_staging => return Ok(Ended::Conflict),
            Err(error) => return Err(error.into()),
        }
    }
    for part in parts.iter() {
        let moved = transaction.execute(
            "UPDATE positions SET position = ?1
             WHERE partition = ?2 AND position = ?3 AND epoch = ?4",
            params![part.to.0, part.partition.0, part.from.0, part.epoch],
        )?;
        if moved != 1 {
            let stands: (u64, u64) = transaction.query_row(
                "SELECT epoch, position FROM positions WHERE partition = ?1",
                params![part.partition.0],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            if stands == (part.epoch, part.to.0) {
                // The connection was lost behind the commit and before the word
                // of it: all of these parts are in.
                return Ok(Ended::Committed);
            }
            return Ok(Ended::Fenced(part.partition));
        }
    }
    transaction.commit()?;
    tables.metrics.copied_rows.inc_by(copied);
    Ok(Ended::Committed)
}

fn put(sql: &Session, rows: Bytes) -> Result<(), SqlError> {
    sql.copy_in(&format!("COPY readings ({COLUMNS}) FROM STDIN (FORMAT binary)"), rows)?;
    Ok(())
}

fn stage(sql: &Session, rows: Bytes) -> Result<(), SqlError> {
    sql.run("CREATE TEMPORARY TABLE IF NOT EXISTS incoming (LIKE readings) ON COMMIT DELETE ROWS")?;
    sql.copy_in(&format!("COPY incoming ({COLUMNS}) FROM STDIN (FORMAT binary)"), rows)?;
    sql.execute(
        &format!(
            "INSERT INTO readings ({COLUMNS}) SELECT {COLUMNS} FROM incoming
             ON CONFLICT (series, observed_at) DO UPDATE SET number = excluded.number,
                integer = excluded.integer, boolean = excluded.boolean, text = excluded.text,
                json = excluded.json"
        ),
        [],
    )?;
    Ok(())
}

/// Finds the database's ids of the series that are new here.
fn name_series(tables: &Tables, sql: &Session, parts: &mut [Part]) -> Result<(), HistoryError> {
    for part in parts {
        if part.ids.len() == part.gathered.rows() {
            continue;
        }
        let partition = tables.partition(part.partition)?;
        let mut unknown: Vec<u32> = Vec::new();
        let (mut tenants, mut devices, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        {
            let state = partition.state();
            let rows = part.gathered.rows.iter().map(|row| row.series);
            unknown.extend(rows.filter(|place| state.series.get(*place).id.is_none()));
            unknown.sort_unstable();
            unknown.dedup();
            for place in &unknown {
                let series = state.series.get(*place);
                tenants.push(series.tenant.0.cast_signed());
                devices.push(series.device.0.cast_signed());
                keys.push(series.key.as_bytes().to_vec());
            }
        }
        let mut found = Vec::new();
        if !unknown.is_empty() {
            let given = params![&tenants[..], &devices[..], &keys[..]];
            sql.execute(
                "INSERT INTO series (tenant, device, key)
                 SELECT tenant, device, key
                 FROM unnest(CAST(?1 AS BIGINT[]), CAST(?2 AS BIGINT[]), CAST(?3 AS BYTEA[]))
                    AS new (tenant, device, key)
                 ON CONFLICT (device, key) DO NOTHING",
                given,
            )?;
            let mut statement = sql.prepare_cached(
                "SELECT s.id
                 FROM unnest(CAST(?1 AS BIGINT[]), CAST(?2 AS BYTEA[])) WITH ORDINALITY
                    AS asked (device, key, place)
                 JOIN series s ON s.device = asked.device AND s.key = asked.key
                 ORDER BY asked.place",
            )?;
            found = statement.query_map(params![&devices[..], &keys[..]], |row| row.get(0))?;
            if found.len() != unknown.len() {
                let reason = "a series that was added is not there".to_owned();
                return Err(SqlError::Unreadable { column: 0, reason }.into());
            }
        }
        let mut state = partition.state();
        for (place, id) in unknown.iter().zip(found) {
            state.series.set_id(*place, id);
        }
        let id = |row: &super::gather::Row| state.series.get(row.series).id.unwrap_or_default();
        part.ids = part.gathered.rows.iter().map(id).collect();
    }
    Ok(())
}

/// The rows as a binary COPY has them, in the order of series and time; of one
/// series and time the last counts.
fn encode(tables: &Tables, parts: &[Part]) -> (Bytes, u64) {
    let mut order: Vec<(i64, i64, u32, u32)> = Vec::new();
    for (number, part) in (0u32..).zip(parts) {
        let rows = (0u32..).zip(&part.gathered.rows).zip(&part.ids);
        order.extend(rows.map(|((place, row), id)| (*id, row.at, number, place)));
    }
    order.sort_unstable();
    let mut out = BytesMut::with_capacity(order.len() * 56 + 64);
    // The format's signature, no flags, no extension.
    out.put_slice(b"PGCOPY\n\xff\r\n\0");
    out.put_i32(0);
    out.put_i32(0);
    let mut copied = 0;
    for (place, (id, at, number, row)) in order.iter().enumerate() {
        if order.get(place + 1).is_some_and(|next| (next.0, next.1) == (*id, *at)) {
            tables.metrics.deduplicated.inc();
            continue;
        }
        let gathered = &parts[*number as usize].gathered;
        put_row(&mut out, *id, *at, gathered, gathered.rows[*row as usize].value);
        copied += 1;
    }
    out.put_i16(-1);
    (out.freeze(), copied)
}

fn put_row(out: &mut BytesMut, id: i64, at: i64, gathered: &Gathered, value: Held) {
    out.put_i16(7);
    for fixed in [id, at] {
        out.put_i32(8);
        out.put_i64(fixed);
    }
    let nulls = |out: &mut BytesMut, count: usize| (0..count).for_each(|_| out.put_i32(-1));
    match value {
        Held::Number(number) => {
            out.put_i32(8);
            out.put_f64(number);
            nulls(out, 4);
        }
        Held::Integer(integer) => {
            nulls(out, 1);
            out.put_i32(8);
            out.put_i64(integer);
            nulls(out, 3);
        }
        Held::Boolean(boolean) => {
            nulls(out, 2);
            out.put_i32(1);
            out.put_u8(u8::from(boolean));
            nulls(out, 2);
        }
        Held::Text(from, bytes) => {
            let text = gathered.text(from, bytes);
            if text.contains('\0') {
                nulls(out, 4);
                put_text(out, &serde_json::Value::from(text).to_string());
            } else {
                nulls(out, 3);
                put_text(out, text);
                nulls(out, 1);
            }
        }
        Held::Json(from, bytes) => {
            nulls(out, 4);
            put_text(out, gathered.text(from, bytes));
        }
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i32(i32::try_from(text.len()).expect("a text is shorter than a journal record"));
    out.put_slice(text.as_bytes());
}

impl Tables {
    /// Takes what is due of the partitions, as much as shares a transaction.
    fn gather(&self) -> Vec<Part> {
        let all = {
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut work.flush)
        };
        let mut parts = Vec::new();
        let mut rows = 0;
        for (number, partition) in (0..).zip(&self.partitions) {
            let mut state = partition.state();
            if state.in_flight || state.fenced || state.next == state.durable {
                continue;
            }
            let waited = state.since.map_or(Duration::ZERO, |since| since.elapsed());
            let patience = if state.gathered.rows() > 0 { GATHER_MS } else { POSITION_MS };
            let is_due = all
                || state.gathered.rows() >= FULL_ROWS
                || waited >= Duration::from_millis(patience);
            if !is_due {
                continue;
            }
            rows += state.gathered.rows();
            state.in_flight = true;
            state.since = None;
            parts.push(Part {
                partition: PartitionId(number),
                epoch: state.epoch,
                from: state.durable,
                to: state.next,
                gathered: std::mem::take(&mut state.gathered),
                ids: Vec::new(),
            });
            drop(state);
            partition.room.notify_waiters();
            if rows >= MAX_COPY_ROWS {
                break;
            }
        }
        parts
    }

    fn committed(&self, parts: Vec<Part>) {
        for part in parts {
            let Ok(partition) = self.partition(part.partition) else { continue };
            let mut state = partition.state();
            state.in_flight = false;
            // Unless it was claimed anew meanwhile.
            if state.epoch == part.epoch {
                state.durable = part.to;
            }
            drop(state);
            partition.changed.notify_all();
            partition.room.notify_waiters();
        }
    }

    fn fenced(&self, partition: PartitionId) {
        tracing::error!(%partition, "another node records this partition; this one has ended");
        let Ok(held) = self.partition(partition) else { return };
        let mut state = held.state();
        (state.in_flight, state.fenced) = (false, true);
        state.gathered = Gathered::default();
        drop(state);
        held.changed.notify_all();
        held.room.notify_waiters();
    }

    /// Until something may be due.
    fn rest(&self) {
        self.pause(Duration::from_millis(GATHER_MS / 4));
    }

    fn pause(&self, time: Duration) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if !work.flush && !self.ended.load(Ordering::Relaxed) {
            let _ = self.wanted.wait_timeout(work, time);
        }
    }
}
