//! Answers questions. Each asks `odd_readings` first and `readings` behind it:
//! what moves from the one to the other in between is seen twice and given once.

use futures_util::future::try_join;
use schema::{DeviceId, TenantId, TimestampMs};
use tokio_postgres::Row as SqlRow;
use tokio_postgres::types::ToSql;

use super::link::Link;
use super::shared::Shared;
use super::time::Micros;
use super::values::{Stored, observed_at, push, unescape};
use crate::history::HistoryError;
use crate::history::buckets::{cursor, parse_cursor};
use crate::history::reading::{Order, Page, RangeQuery, Reading};
use crate::history::rows::{Rows, merge};

/// Rows of the first part of a page; each next one is four times as long, until
/// texts make it shorter.
const FIRST_ROWS: usize = 64;
/// The longest part.
pub(super) const MOST_ROWS: usize = 65_536;

const SERIES: &str =
    "SELECT id, tenant FROM series WHERE device = $1 AND key = $2 AND escaped = $3";
const ALL_SERIES: &str = "SELECT id, tenant, key, escaped FROM series WHERE device = $1";
const LATEST: &str =
    "SELECT w.place, r.observed_at, r.number, r.integer, r.boolean, r.escaped, r.text, r.json
      FROM unnest($1::bigint[], $2::timestamptz[]) WITH ORDINALITY AS w (series, since, place),
           LATERAL (SELECT * FROM readings r WHERE r.series = w.series AND r.observed_at >= w.since
                     ORDER BY r.observed_at DESC LIMIT 1) r";
const LATEST_ODD: &str = "SELECT w.place, r.observed_ms, r.number, r.integer, r.boolean, r.escaped, r.text, r.json
      FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS w (series, since, place),
           LATERAL (SELECT * FROM odd_readings r WHERE r.series = w.series AND r.observed_ms >= w.since
                     ORDER BY r.observed_ms DESC LIMIT 1) r";
const ASCENDING: &str = "SELECT observed_at, number, integer, boolean, escaped, text, json
      FROM readings WHERE series = $1 AND observed_at >= $2 AND observed_at < $3
     ORDER BY observed_at LIMIT $4";
const DESCENDING: &str = "SELECT observed_at, number, integer, boolean, escaped, text, json
      FROM readings WHERE series = $1 AND observed_at >= $2 AND observed_at < $3
     ORDER BY observed_at DESC LIMIT $4";
const ASCENDING_ODD: &str = "SELECT observed_ms, number, integer, boolean, escaped, text, json
      FROM odd_readings WHERE series = $1 AND observed_ms >= $2 AND observed_ms < $3
     ORDER BY observed_ms LIMIT $4";
const DESCENDING_ODD: &str = "SELECT observed_ms, number, integer, boolean, escaped, text, json
      FROM odd_readings WHERE series = $1 AND observed_ms >= $2 AND observed_ms < $3
     ORDER BY observed_ms DESC LIMIT $4";

/// A series in the database.
pub(super) struct Found {
    pub id: i64,
    /// What is before it has expired.
    pub cutoff: i64,
}

pub(super) async fn find(
    shared: &Shared,
    link: &mut Link,
    device: DeviceId,
    key: &str,
) -> Result<Option<Found>, HistoryError> {
    let statement = link.statements.get(&link.client, SERIES).await?;
    let key = Stored::text(key);
    let device = device.0.cast_signed();
    let row = link.client.query_opt(&statement, &[&device, &&*key.text, &key.escaped]).await?;
    let Some(row) = row else { return Ok(None) };
    let tenant = TenantId(row.try_get::<_, i64>(1)?.cast_unsigned());
    Ok(Some(Found { id: row.try_get(0)?, cutoff: shared.cutoff(tenant) }))
}

/// The keys of a device with the numbers of their series.
async fn all(
    link: &mut Link,
    device: DeviceId,
) -> Result<Vec<(String, i64, TenantId)>, HistoryError> {
    let statement = link.statements.get(&link.client, ALL_SERIES).await?;
    let rows = link.client.query(&statement, &[&device.0.cast_signed()]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let key = unescape(row.try_get(2)?, row.try_get(3)?)?.into_owned();
        let tenant = TenantId(row.try_get::<_, i64>(1)?.cast_unsigned());
        found.push((key, row.try_get(0)?, tenant));
    }
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

pub(super) async fn keys(link: &mut Link, device: DeviceId) -> Result<Vec<String>, HistoryError> {
    Ok(all(link, device).await?.into_iter().map(|(key, _, _)| key).collect())
}

pub(super) async fn latest(
    shared: &Shared,
    link: &mut Link,
    device: DeviceId,
    keys: Option<&[String]>,
) -> Result<Vec<Reading>, HistoryError> {
    let mut series = all(link, device).await?;
    if let Some(keys) = keys {
        series.retain(|(key, _, _)| keys.contains(key));
    }
    let ids: Vec<i64> = series.iter().map(|(_, id, _)| *id).collect();
    let since: Vec<i64> = series.iter().map(|(_, _, tenant)| shared.cutoff(*tenant)).collect();
    let since_micros: Vec<Micros> = since.iter().map(|ms| Micros::bound(*ms)).collect();
    let odd = link.statements.get(&link.client, LATEST_ODD).await?;
    let main = link.statements.get(&link.client, LATEST).await?;
    let odd_parameters: [&(dyn ToSql + Sync); 2] = [&ids, &since];
    let parameters: [&(dyn ToSql + Sync); 2] = [&ids, &since_micros];
    let (odd, main) =
        try_join(link.client.query(&odd, &odd_parameters), link.client.query(&main, &parameters))
            .await?;
    let mut newest: Vec<Option<Rows>> = vec![None; series.len()];
    for (rows, odd) in [(odd, true), (main, false)] {
        for row in rows {
            let place = usize::try_from(row.try_get::<_, i64>(0)? - 1).unwrap_or(usize::MAX);
            let at = observed_at(&row, 1, odd)?;
            let Some(newest) = newest.get_mut(place) else { continue };
            if newest.as_ref().is_none_or(|known| known.rows[0].observed_at <= at) {
                let mut rows = Rows::default();
                push(&mut rows, at, &row, 2)?;
                *newest = Some(rows);
            }
        }
    }
    let readings = series.into_iter().zip(newest).filter_map(|((key, _, _), rows)| {
        let rows = rows?;
        let sample = rows.sample(&rows.rows[0]);
        Some(Reading { key, observed_at: sample.observed_at, value: sample.value })
    });
    Ok(readings.collect())
}

/// At most `limit` rows of a series from `from` to before `to`, the first ones
/// in the order asked for; they are given with the oldest first.
pub(super) async fn part(
    link: &mut Link,
    series: i64,
    (from, to): (i64, i64),
    order: Order,
    limit: usize,
) -> Result<Rows, HistoryError> {
    let (main, odd) = match order {
        Order::Ascending => (ASCENDING, ASCENDING_ODD),
        Order::Descending => (DESCENDING, DESCENDING_ODD),
    };
    let odd = link.statements.get(&link.client, odd).await?;
    let main = link.statements.get(&link.client, main).await?;
    let (from_micros, to_micros) = (Micros::bound(from), Micros::bound(to));
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let odd_parameters: [&(dyn ToSql + Sync); 4] = [&series, &from, &to, &most];
    let parameters: [&(dyn ToSql + Sync); 4] = [&series, &from_micros, &to_micros, &most];
    let (odd, main) =
        try_join(link.client.query(&odd, &odd_parameters), link.client.query(&main, &parameters))
            .await?;
    let main = decode(main, order, false)?;
    if odd.is_empty() {
        return Ok(main);
    }
    let odd = decode(odd, order, true)?;
    let mut merged = Rows::default();
    merge(&[(&odd, 0..odd.len()), (&main, 0..main.len())], &mut merged);
    match order {
        Order::Ascending => merged.truncate(limit),
        Order::Descending => merged.drop_front(merged.len().saturating_sub(limit)),
    }
    Ok(merged)
}

fn decode(mut rows: Vec<SqlRow>, order: Order, odd: bool) -> Result<Rows, HistoryError> {
    if order == Order::Descending {
        rows.reverse();
    }
    let mut out = Rows::default();
    for row in rows {
        push(&mut out, observed_at(&row, 0, odd)?, &row, 1)?;
    }
    Ok(out)
}

pub(super) async fn range(
    shared: &Shared,
    link: &mut Link,
    query: &RangeQuery,
) -> Result<Page, HistoryError> {
    let options = &shared.options;
    let (mut from, mut to) = (query.from.0, query.to.0);
    if let Some(cursor) = &query.cursor {
        let last = parse_cursor(cursor, query.order)?;
        match query.order {
            Order::Ascending => from = from.max(last.saturating_add(1)),
            Order::Descending => to = to.min(last),
        }
    }
    let limit = query.limit.clamp(1, options.page_limit.max(1));
    let mut page = Page { samples: Vec::new(), next: None };
    if from >= to {
        return Ok(page);
    }
    let Some(series) = find(shared, link, query.device, &query.key).await? else {
        return Ok(page);
    };
    from = from.max(series.cutoff);
    let (most_text, mut text_bytes) = (options.page_text_bytes.max(1), 0);
    let mut wanted = FIRST_ROWS;
    while from < to {
        // One more than the page takes tells whether there is another.
        let asked = wanted.min(limit + 1 - page.samples.len());
        let rows = part(link, series.id, (from, to), query.order, asked).await?;
        for place in 0..rows.len() {
            let row = match query.order {
                Order::Ascending => &rows.rows[place],
                Order::Descending => &rows.rows[rows.len() - 1 - place],
            };
            if page.samples.len() == limit || text_bytes >= most_text {
                page.next = page.samples.last().map(|last| cursor(last.observed_at, query.order));
                return Ok(page);
            }
            if row.is_text() {
                text_bytes += rows.text(row).len();
            }
            page.samples.push(rows.sample(row));
        }
        let Some(TimestampMs(last)) = page.samples.last().map(|last| last.observed_at) else {
            return Ok(page);
        };
        if rows.len() < asked {
            return Ok(page);
        }
        match query.order {
            Order::Ascending => from = last.saturating_add(1),
            Order::Descending => to = last,
        }
        let room = most_text.saturating_sub(text_bytes);
        let by_text = room / (text_bytes / page.samples.len()).max(1) + 1;
        wanted = (4 * wanted).min(by_text).min(MOST_ROWS);
    }
    Ok(page)
}
