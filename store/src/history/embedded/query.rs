//! Answers questions from files and memory together. All of it blocks: the
//! caller runs it away from the runtime's threads.

use std::sync::atomic::{AtomicBool, Ordering};

use schema::DeviceId;

use super::HistoryError;
use super::buckets::{Reducer, bucket_width, cursor, parse_cursor};
use super::partition::SeriesView;
use super::reading::{AggregateQuery, Bucket, Order, Page, RangeQuery, Reading};
use super::rows::Rows;
use super::shared::Shared;
use super::stream::Stream;

pub(super) fn latest(shared: &Shared, device: DeviceId, keys: Option<&[String]>) -> Vec<Reading> {
    let mut readings: Vec<Reading> = Vec::new();
    for partition in &shared.partitions {
        let state = partition.state();
        let catalog = &state.catalog;
        let mut rows = Rows::default();
        let ids: Vec<_> = match keys {
            Some(keys) => keys.iter().filter_map(|key| catalog.find(device, key)).collect(),
            None => catalog.of_device(device).collect(),
        };
        for id in ids {
            rows.clear();
            catalog.latest(id, &mut rows);
            let sample = rows.sample(&rows.rows[0]);
            if sample.observed_at.0 >= shared.cutoff(catalog.series(id).tenant) {
                let key = catalog.key_name(id).to_string();
                readings.push(Reading {
                    key,
                    observed_at: sample.observed_at,
                    value: sample.value,
                });
            }
        }
    }
    // A device has one partition; were there two, the newer reading counts.
    readings.sort_by(|a, b| (&a.key, b.observed_at).cmp(&(&b.key, a.observed_at)));
    readings.dedup_by(|next, kept| next.key == kept.key);
    readings
}

pub(super) fn keys(shared: &Shared, device: DeviceId) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for partition in &shared.partitions {
        let state = partition.state();
        let catalog = &state.catalog;
        keys.extend(catalog.of_device(device).map(|id| catalog.key_name(id).to_string()));
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// What all partitions know of a series, and the span without what has expired.
fn views(
    shared: &Shared,
    device: DeviceId,
    key: &str,
    (from, to): (i64, i64),
) -> (Vec<SeriesView>, (i64, i64)) {
    let found = |from| {
        let of = |partition: &super::partition::Partition| partition.view(device, key, from, to);
        shared.partitions.iter().filter_map(of).collect::<Vec<SeriesView>>()
    };
    let views = found(from);
    let cutoff = views.iter().map(|view| shared.cutoff(view.series.tenant)).max();
    match cutoff {
        Some(cutoff) if cutoff > from => (found(cutoff), (cutoff, to)),
        _ => (views, (from, to)),
    }
}

pub(super) fn range(
    shared: &Shared,
    query: &RangeQuery,
    cancelled: &AtomicBool,
) -> Result<Page, HistoryError> {
    let (mut from, mut to) = (query.from.0, query.to.0);
    if let Some(cursor) = &query.cursor {
        let last = parse_cursor(cursor, query.order)?;
        match query.order {
            Order::Ascending => from = from.max(last.saturating_add(1)),
            Order::Descending => to = to.min(last),
        }
    }
    let limit = query.limit.clamp(1, shared.options.page_limit.max(1));
    let mut page = Page { samples: Vec::new(), next: None };
    if from >= to {
        return Ok(page);
    }
    let (views, span) = views(shared, query.device, &query.key, (from, to));
    if span.0 >= span.1 {
        return Ok(page);
    }
    let mut stream = Stream::new(shared, views, query.order, span);
    let mut text_bytes = 0;
    while let Some(rows) = stream.next()? {
        check(cancelled)?;
        for place in 0..rows.len() {
            let row = match query.order {
                Order::Ascending => &rows.rows[place],
                Order::Descending => &rows.rows[rows.len() - 1 - place],
            };
            if page.samples.len() == limit || text_bytes >= shared.options.page_text_bytes.max(1) {
                page.next = page.samples.last().map(|last| cursor(last.observed_at, query.order));
                return Ok(page);
            }
            if row.is_text() {
                text_bytes += rows.text(row).len();
            }
            page.samples.push(rows.sample(row));
        }
    }
    Ok(page)
}

fn check(cancelled: &AtomicBool) -> Result<(), HistoryError> {
    if cancelled.load(Ordering::Relaxed) { Err(HistoryError::Closed) } else { Ok(()) }
}

pub(super) fn aggregate(
    shared: &Shared,
    query: &AggregateQuery,
    cancelled: &AtomicBool,
) -> Result<Vec<Bucket>, HistoryError> {
    let (from, to) = (query.from.0, query.to.0);
    if from >= to {
        return Ok(Vec::new());
    }
    let width = bucket_width(query, shared.options.bucket_limit)?;
    let (views, span) = views(shared, query.device, &query.key, (from, to));
    if span.0 >= span.1 {
        return Ok(Vec::new());
    }
    let mut stream = Stream::new(shared, views, Order::Ascending, span);
    let mut reducer = Reducer::new((from, to), width);
    while let Some(rows) = stream.next()? {
        check(cancelled)?;
        reducer.add(&rows);
    }
    Ok(reducer.finish())
}
