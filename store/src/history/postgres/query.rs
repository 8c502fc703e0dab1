//! Answers questions from the table. All of it blocks.

use schema::{DeviceId, TenantId, TimestampMs};

use super::Tables;
use crate::history::HistoryError;
use crate::history::query::{bucket_width, clamp, cursor, parse_cursor};
use crate::history::reading::{
    AggregateQuery, Bucket, Order, Page, RangeQuery, Reading, ReadingValue, Sample,
};
use crate::sql::{Optional as _, Row, Session, SqlError, params};

/// The columns of [`value`].
pub(super) const VALUE: &str = "r.number, r.integer, r.boolean, r.text, r.json";

/// Rows that are read at once for a page.
const STEP_ROWS: usize = 5_000;

/// The value that stands in the five columns from `first` on.
pub(super) fn value(row: &Row<'_>, first: usize) -> Result<ReadingValue, SqlError> {
    if let Some(number) = row.get::<Option<f64>>(first)? {
        return Ok(ReadingValue::Number(number));
    }
    if let Some(integer) = row.get::<Option<i64>>(first + 1)? {
        return Ok(ReadingValue::Integer(integer));
    }
    if let Some(boolean) = row.get::<Option<bool>>(first + 2)? {
        return Ok(ReadingValue::Boolean(boolean));
    }
    if let Some(text) = row.get::<Option<String>>(first + 3)? {
        return Ok(ReadingValue::Text(text.into()));
    }
    let json: String = row.get(first + 4)?;
    if json.starts_with('"') {
        let text: String = serde_json::from_str(&json).map_err(|error| SqlError::Unreadable {
            column: first + 4,
            reason: error.to_string(),
        })?;
        return Ok(ReadingValue::Text(text.into()));
    }
    Ok(ReadingValue::Json(json.into()))
}

fn key(row: &Row<'_>, place: usize) -> Result<String, SqlError> {
    String::from_utf8(row.get(place)?)
        .map_err(|error| SqlError::Unreadable { column: place, reason: error.to_string() })
}

/// A series, and from when on it is shown.
fn series(
    tables: &Tables,
    sql: &Session,
    device: DeviceId,
    key: &str,
) -> Result<Option<(i64, i64)>, SqlError> {
    let found = sql
        .prepare_cached("SELECT id, tenant FROM series WHERE device = ?1 AND key = ?2")?
        .query_row(params![device.0, key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.map(|(id, tenant)| (id, tables.cutoff(TenantId(tenant)))))
}

pub(in crate::history) fn latest(
    tables: &Tables,
    device: DeviceId,
    keys: Option<&[String]>,
) -> Result<Vec<Reading>, HistoryError> {
    tables.readers.run(|sql| {
        let tenant = sql
            .prepare_cached("SELECT tenant FROM series WHERE device = ?1 LIMIT 1")?
            .query_row([device.0], |row| row.get(0))
            .optional()?;
        let Some(tenant) = tenant else { return Ok(Vec::new()) };
        let cutoff = tables.cutoff(TenantId(tenant));
        let asked: Vec<Vec<u8>> =
            keys.unwrap_or_default().iter().map(|key| key.as_bytes().to_vec()).collect();
        let mut statement = sql.prepare_cached(&format!(
            "SELECT s.key, r.observed_at, {VALUE} FROM series s
             CROSS JOIN LATERAL (
                 SELECT * FROM readings r WHERE r.series = s.id
                 ORDER BY r.observed_at DESC LIMIT 1) AS r
             WHERE s.device = ?1 AND (CAST(?2 AS BOOLEAN) OR s.key = ANY (?3))
                AND r.observed_at >= ?4
             ORDER BY s.key"
        ))?;
        let values = params![device.0, keys.is_none(), &asked[..], cutoff];
        let found = statement.query_map(values, |row| {
            let observed_at = TimestampMs(row.get(1)?);
            Ok(Reading { key: key(row, 0)?, observed_at, value: value(row, 2)? })
        })?;
        Ok(found)
    })
}

pub(in crate::history) fn keys(
    tables: &Tables,
    device: DeviceId,
) -> Result<Vec<String>, HistoryError> {
    tables.readers.run(|sql| {
        let mut statement =
            sql.prepare_cached("SELECT key FROM series WHERE device = ?1 ORDER BY key")?;
        Ok(statement.query_map([device.0], |row| key(row, 0))?)
    })
}

pub(in crate::history) fn range(tables: &Tables, query: &RangeQuery) -> Result<Page, HistoryError> {
    let (mut from, mut to) = (query.from.0, query.to.0);
    if let Some(cursor) = &query.cursor {
        let last = parse_cursor(cursor, query.order)?;
        match query.order {
            Order::Ascending => from = from.max(last.saturating_add(1)),
            Order::Descending => to = to.min(last),
        }
    }
    let limit = query.limit.clamp(1, tables.options.page_limit.max(1));
    let mut page = Page { samples: Vec::new(), next: None };
    tables.readers.run(|sql| {
        let Some((id, cutoff)) = series(tables, sql, query.device, &query.key)? else {
            return Ok(());
        };
        from = from.max(cutoff);
        let direction = if query.order == Order::Ascending { "ASC" } else { "DESC" };
        let mut statement = sql.prepare_cached(&format!(
            "SELECT r.observed_at, {VALUE} FROM readings r
             WHERE r.series = ?1 AND r.observed_at >= ?2 AND r.observed_at < ?3
             ORDER BY r.observed_at {direction} LIMIT ?4"
        ))?;
        let mut text_bytes = 0;
        while from < to {
            // One more says whether there is another page.
            let wanted = (limit + 1 - page.samples.len()).min(STEP_ROWS);
            let mut rows = statement.query(params![id, from, to, wanted])?;
            let mut count = 0;
            while let Some(row) = rows.next()? {
                count += 1;
                if page.samples.len() == limit
                    || text_bytes >= tables.options.page_text_bytes.max(1)
                {
                    let last = page.samples.last();
                    page.next = last.map(|last: &Sample| cursor(last.observed_at, query.order));
                    return Ok(());
                }
                let observed_at = TimestampMs(row.get(0)?);
                let value = value(&row, 1)?;
                if let ReadingValue::Text(text) | ReadingValue::Json(text) = &value {
                    text_bytes += text.len();
                }
                match query.order {
                    Order::Ascending => from = observed_at.0.saturating_add(1),
                    Order::Descending => to = observed_at.0,
                }
                page.samples.push(Sample { observed_at, value });
            }
            if count < wanted {
                return Ok(());
            }
        }
        Ok::<_, HistoryError>(())
    })?;
    Ok(page)
}

pub(in crate::history) fn aggregate(
    tables: &Tables,
    query: &AggregateQuery,
) -> Result<Vec<Bucket>, HistoryError> {
    let (from, to) = (query.from.0, query.to.0);
    if from >= to {
        return Ok(Vec::new());
    }
    let width = bucket_width(query, tables.options.bucket_limit)?;
    tables.readers.run(|sql| {
        let Some((id, cutoff)) = series(tables, sql, query.device, &query.key)? else {
            return Ok(Vec::new());
        };
        // Numbers of buckets are worked out in a type that holds any difference.
        let mut statement = sql.prepare_cached(&format!(
            "WITH buckets AS (
                 SELECT CAST(div(CAST(observed_at AS NUMERIC) - CAST(?2 AS BIGINT),
                     CAST(?5 AS BIGINT)) AS BIGINT) AS bucket,
                     min(observed_at) AS first_at, max(observed_at) AS last_at,
                     count(*) AS readings, min(of_number) AS least, max(of_number) AS most,
                     avg(of_number) AS mean
                 FROM (SELECT observed_at, coalesce(number, CAST(integer AS DOUBLE PRECISION),
                         CAST(CAST(boolean AS INTEGER) AS DOUBLE PRECISION)) AS of_number
                     FROM readings
                     WHERE series = ?1 AND observed_at >= ?3 AND observed_at < ?4) AS numbers
                 GROUP BY bucket)
             SELECT b.bucket, b.readings, b.least, b.most, b.mean, {VALUE}, l.number, l.integer,
                 l.boolean, l.text, l.json
             FROM buckets b
             JOIN readings r ON r.series = ?1 AND r.observed_at = b.first_at
             JOIN readings l ON l.series = ?1 AND l.observed_at = b.last_at
             ORDER BY b.bucket"
        ))?;
        let values = params![id, from, from.max(cutoff), to, width];
        let found = statement.query_map(values, |row| {
            let number: i64 = row.get(0)?;
            let start = i128::from(from) + i128::from(number) * i128::from(width);
            let end = (start + i128::from(width)).min(i128::from(to));
            Ok(Bucket {
                from: TimestampMs(clamp(start)),
                to: TimestampMs(clamp(end)),
                count: row.get(1)?,
                min: row.get(2)?,
                max: row.get(3)?,
                avg: row.get(4)?,
                first: value(row, 5)?,
                last: value(row, 10)?,
            })
        })?;
        Ok(found)
    })
}
