//! Reduces readings to buckets, in the database where it can.

use schema::{TimestampMs, Value};
use tokio_postgres::Row as SqlRow;
use tokio_postgres::error::SqlState;

use super::link::Link;
use super::query::{Found, MOST_ROWS, find, part};
use super::shared::Shared;
use super::time::{Interval, Micros};
use super::timescale;
use super::values::push;
use crate::history::HistoryError;
use crate::history::buckets::{Reducer, bucket_width};
use crate::history::reading::{AggregateQuery, Bucket, Order, ReadingValue};
use crate::history::rows::Rows;

/// Buckets by their beginnings. The first and the last reading of each are
/// looked up by their times, because they may be of any type.
const BUCKETS: &str = "WITH buckets AS (
        SELECT date_bin($4, observed_at, $2) AS bucket, count(*) AS readings, count(value) AS numbers,
               min(value) AS least, max(value) AS greatest, sum(value) AS total,
               min(observed_at) AS first_at, max(observed_at) AS last_at
          FROM (SELECT observed_at, coalesce(number, integer::float8, boolean::int::float8) AS value
                  FROM readings WHERE series = $1 AND observed_at >= $5 AND observed_at < $3) r
         GROUP BY 1)
     SELECT b.bucket, b.readings, b.numbers, b.least, b.greatest, b.total,
            f.number, f.integer, f.boolean, f.escaped, f.text, f.json,
            l.number, l.integer, l.boolean, l.escaped, l.text, l.json
       FROM buckets b,
            LATERAL (SELECT * FROM readings r WHERE r.series = $1 AND r.observed_at = b.first_at LIMIT 1) f,
            LATERAL (SELECT * FROM readings r WHERE r.series = $1 AND r.observed_at = b.last_at LIMIT 1) l
      ORDER BY b.bucket";
const HAS_ODD: &str = "SELECT EXISTS (SELECT FROM odd_readings
      WHERE series = $1 AND observed_ms >= $2 AND observed_ms < $3)";

const FIRST_COLUMN: usize = 6;
const LAST_COLUMN: usize = 12;

pub(super) async fn aggregate(
    shared: &Shared,
    link: &mut Link,
    query: &AggregateQuery,
) -> Result<Vec<Bucket>, HistoryError> {
    let (from, to) = (query.from.0, query.to.0);
    if from >= to {
        return Ok(Vec::new());
    }
    let width = bucket_width(query, shared.options.bucket_limit)?;
    let Some(series) = find(shared, link, query.device, &query.key).await? else {
        return Ok(Vec::new());
    };
    let since = from.max(series.cutoff);
    if since >= to {
        return Ok(Vec::new());
    }
    let has_odd = link.statements.get(&link.client, HAS_ODD).await?;
    let has_odd = link.client.query_one(&has_odd, &[&series.id, &since, &to]).await?;
    let origin = Micros::of_ms(from);
    let stride = Interval::of_ms(width);
    if let (Some(origin), Some(stride), false) = (origin, stride, has_odd.try_get::<_, bool>(0)?) {
        // What has expired in the midst of a bucket is not seen in what is kept.
        let kept = timescale::question(width, from, to).filter(|_| since == from);
        if let (Some(question), true) = (kept, shared.is_timescale) {
            let bounds = (origin, Micros::bound(to));
            let kept = timescale::kept(link, question, series.id, bounds, stride).await?;
            if let Some(rows) = kept {
                return rows.iter().map(|row| bucket(row, width, to)).collect();
            }
        }
        let sql = link.statements.get(&link.client, BUCKETS).await?;
        let (end, first) = (Micros::bound(to), Micros::bound(since));
        let found = link.client.query(&sql, &[&series.id, &origin, &end, &stride, &first]).await;
        match found {
            Ok(rows) => return rows.iter().map(|row| bucket(row, width, to)).collect(),
            // The sum of numbers near the greatest is none for PostgreSQL.
            Err(error) if error.code() == Some(&SqlState::NUMERIC_VALUE_OUT_OF_RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    reduce(link, &series, since, (from, to), width).await
}

#[allow(clippy::cast_precision_loss, reason = "an average is floating point")]
fn bucket(row: &SqlRow, width: i64, to: i64) -> Result<Bucket, HistoryError> {
    let from = row.try_get::<_, Micros>(0)?.ms();
    let numbers: i64 = row.try_get(2)?;
    let total: Option<f64> = row.try_get(5)?;
    Ok(Bucket {
        from: TimestampMs(from),
        to: TimestampMs(from.saturating_add(width).min(to)),
        min: row.try_get(3)?,
        max: row.try_get(4)?,
        avg: total.map(|total| total / numbers.max(1) as f64),
        first: value(row, FIRST_COLUMN)?,
        last: value(row, LAST_COLUMN)?,
        count: row.try_get::<_, i64>(1)?.cast_unsigned(),
    })
}

fn value(row: &SqlRow, column: usize) -> Result<ReadingValue, HistoryError> {
    let mut rows = Rows::default();
    push(&mut rows, 0, row, column)?;
    let value: Value<'_> = super::values::value(&rows, &rows.rows[0]);
    Ok(value.into())
}

/// Reads all and reduces it here.
async fn reduce(
    link: &mut Link,
    series: &Found,
    since: i64,
    span: (i64, i64),
    width: i64,
) -> Result<Vec<Bucket>, HistoryError> {
    let mut reducer = Reducer::new(span, width);
    let mut from = since;
    loop {
        let rows = part(link, series.id, (from, span.1), Order::Ascending, MOST_ROWS).await?;
        reducer.add(&rows);
        match rows.rows.last() {
            Some(last) if rows.len() == MOST_ROWS => from = last.observed_at.saturating_add(1),
            _ => return Ok(reducer.finish()),
        }
    }
}
