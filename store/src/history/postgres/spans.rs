//! The spans of time that `readings` is cut into, so that what is too old goes
//! with its table. One is made when the first reading of its time comes.
//!
//! A clock that is wrong must not make a table for each of its times: there is a
//! limit, and readings without a span are kept in `odd_readings`. When a span is
//! made, those that it covers move there in the same transaction. So a reading
//! is in one of both only, as long as a writer of odd readings sees to it that
//! no span was made since it looked; it holds a lock that keeps others from
//! making one until it has committed.

use std::sync::Arc;

use tokio_postgres::{Client, Transaction};

use super::copy::COLUMNS;
use super::time::literal;
use super::{PostgresHistoryOptions, timescale};
use crate::history::HistoryError;

/// Held by who makes or drops a span. The number is the text `span` in ASCII.
const SPAN_LOCK: i64 = 0x73_70_61_6e;

/// Spans lie between the years 1 and 10000.
const FIRST_MS: i64 = -62_135_596_800_000;
const LAST_MS: i64 = 253_402_300_800_000;

/// Spans behind the clock's that are made whatever the limit.
const RECENT_SPANS: i64 = 4;

/// The spans that are known, in order of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans {
    /// From the first to before the second, in milliseconds since 1970.
    bounds: Vec<(i64, i64)>,
    /// The number of the last one that was made.
    pub version: i64,
}

impl Spans {
    pub async fn load(client: &Client) -> Result<Self, HistoryError> {
        let rows = client.query("SELECT from_ms, to_ms, id FROM spans ORDER BY from_ms", &[]);
        let mut spans = Self::default();
        for row in rows.await? {
            spans.bounds.push((row.try_get(0)?, row.try_get(1)?));
            spans.version = spans.version.max(row.try_get(2)?);
        }
        Ok(spans)
    }

    pub fn count(&self) -> i64 {
        i64::try_from(self.bounds.len()).unwrap_or(i64::MAX)
    }

    /// The span of a time.
    pub fn find(&self, at: i64) -> Option<(i64, i64)> {
        let place = self.bounds.partition_point(|(_, to)| *to <= at);
        self.bounds.get(place).copied().filter(|(from, _)| *from <= at)
    }

    /// The bounds of the span that a time is to get, if it may have one.
    pub fn plan(
        &self,
        at: i64,
        width: i64,
        options: &PostgresHistoryOptions,
    ) -> Option<(i64, i64)> {
        let now = options.clock.now().0;
        let in_reach = (FIRST_MS..LAST_MS).contains(&at)
            && at <= now.saturating_add(options.span_ahead_ms)
            && self.find(at).is_none();
        let is_recent = at >= now.saturating_sub(width.saturating_mul(RECENT_SPANS));
        if !in_reach || (self.bounds.len() >= options.max_spans && !is_recent) {
            return None;
        }
        let place = self.bounds.partition_point(|(_, to)| *to <= at);
        let after = place.checked_sub(1).map_or(FIRST_MS, |before| self.bounds[before].1);
        let before = self.bounds.get(place).map_or(LAST_MS, |next| next.0);
        let from = at - at.rem_euclid(width);
        Some((from.max(after), from.saturating_add(width).min(before)))
    }

    #[cfg(test)]
    fn of(bounds: &[(i64, i64)]) -> Self {
        Self { bounds: bounds.to_vec(), version: 0 }
    }
}

/// Makes spans for times that have none, where they may have one; gives all
/// that are there then.
pub(super) async fn make(
    client: &mut Client,
    times: &[i64],
    is_timescale: bool,
    options: &PostgresHistoryOptions,
) -> Result<Arc<Spans>, HistoryError> {
    let width = if is_timescale { options.chunk_ms } else { options.span_ms }.max(1);
    let mut spans = Spans::load(client).await?;
    for at in times {
        if spans.plan(*at, width, options).is_none() {
            continue;
        }
        let transaction = client.transaction().await?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&SPAN_LOCK]).await?;
        // Another node may have made it meanwhile.
        spans = Spans::load(transaction.client()).await?;
        if let Some(bounds) = spans.plan(*at, width, options) {
            make_one(&transaction, bounds, is_timescale).await?;
            spans = Spans::load(transaction.client()).await?;
        }
        transaction.commit().await?;
    }
    Ok(Arc::new(spans))
}

async fn make_one(
    transaction: &Transaction<'_>,
    (from, to): (i64, i64),
    is_timescale: bool,
) -> Result<(), HistoryError> {
    let insert = "INSERT INTO spans (from_ms, to_ms) VALUES ($1, $2) RETURNING id";
    let id: i64 = transaction.query_one(insert, &[&from, &to]).await?.try_get(0)?;
    let table = if is_timescale { "readings".to_owned() } else { format!("readings_s{id}") };
    if !is_timescale {
        let create = format!("CREATE TABLE {table} (LIKE readings INCLUDING ALL)");
        transaction.batch_execute(&create).await?;
    }
    // Waits for writers of odd readings, and lets no other begin.
    transaction.batch_execute("LOCK TABLE odd_readings IN SHARE ROW EXCLUSIVE MODE").await?;
    let within =
        "DELETE FROM odd_readings WHERE observed_ms >= $1 AND observed_ms < $2 RETURNING *";
    let moved = format!(
        "WITH odd AS ({within}) INSERT INTO {table} (series, observed_at, {COLUMNS})
         SELECT series, timestamptz 'epoch' + observed_ms / 86400000 * interval '1 day'
                        + observed_ms % 86400000 * interval '1 millisecond', {COLUMNS} FROM odd"
    );
    let moved = transaction.execute(&moved, &[&from, &to]).await?;
    if !is_timescale {
        // Takes no lock that writers or readers of other partitions wait for.
        let attach = format!(
            "ALTER TABLE readings ATTACH PARTITION {table} FOR VALUES FROM ({}) TO ({})",
            literal(from),
            literal(to)
        );
        transaction.batch_execute(&attach).await?;
    }
    tracing::info!(from, to, moved, "the history has a new span of time");
    Ok(())
}

/// Drops the spans that end before a time; gives their number.
pub(super) async fn drop_before(
    client: &mut Client,
    before: i64,
    is_timescale: bool,
) -> Result<usize, HistoryError> {
    let old = "SELECT id FROM spans WHERE to_ms <= $1 ORDER BY from_ms";
    let mut dropped = 0;
    for row in client.query(old, &[&before]).await? {
        let id: i64 = row.try_get(0)?;
        let transaction = client.transaction().await?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&SPAN_LOCK]).await?;
        let gone = transaction.execute("DELETE FROM spans WHERE id = $1", &[&id]).await?;
        if gone == 1 && !is_timescale {
            // Waits for those who read it and keeps others from the whole table
            // as long: rather not for long, and another time.
            let table = format!("SET LOCAL lock_timeout = '2s'; DROP TABLE readings_s{id}");
            transaction.batch_execute(&table).await?;
        }
        transaction.commit().await?;
        dropped += usize::from(gone == 1);
    }
    if is_timescale && dropped > 0 {
        timescale::drop_before(client, before).await?;
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;
    use crate::history::options::Clock;

    fn options(now: i64) -> PostgresHistoryOptions {
        let clock = Clock::Fixed(Arc::new(AtomicI64::new(now)));
        PostgresHistoryOptions { max_spans: 3, span_ahead_ms: 500, clock, ..Default::default() }
    }

    #[test]
    fn a_span_lies_on_the_grid_and_between_its_neighbours() {
        let options = options(10_000);
        let spans = Spans::of(&[(130, 170), (300, 400)]);
        assert_eq!(spans.find(169), Some((130, 170)));
        assert_eq!(spans.find(170), None);
        assert_eq!(spans.find(i64::MIN), None);
        assert_eq!(spans.plan(140, 100, &options), None, "it is there");
        assert_eq!(spans.plan(110, 100, &options), Some((100, 130)));
        assert_eq!(spans.plan(171, 100, &options), Some((170, 200)));
        assert_eq!(spans.plan(-1, 100, &options), Some((-100, 0)));
        assert_eq!(spans.plan(500, 1_000, &options), Some((400, 1_000)));
    }

    #[test]
    fn odd_times_get_no_span_and_scattered_ones_only_some() {
        let options = options(10_000);
        let few = Spans::of(&[(0, 100)]);
        for odd in [i64::MIN, FIRST_MS - 1, 10_501, LAST_MS, i64::MAX] {
            assert_eq!(few.plan(odd, 100, &options), None);
        }
        let many = Spans::of(&[(0, 100), (100, 200), (200, 300)]);
        assert_eq!(many.plan(5_000, 100, &options), None);
        assert_eq!(many.plan(9_950, 100, &options), Some((9_900, 10_000)), "the clock's own");
    }
}
