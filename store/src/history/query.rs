//! Answers questions from files and memory together. All of it blocks: the
//! caller runs it away from the runtime's threads.

use std::sync::atomic::{AtomicBool, Ordering};

use schema::{DeviceId, TimestampMs};

use super::HistoryError;
use super::partition::SeriesView;
use super::reading::{
    AggregateQuery, Bucket, Buckets, Order, Page, RangeQuery, Reading, ReadingValue,
};
use super::rows::{Row, Rows};
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

/// The cursor names the last reading given out, so it needs no state here and
/// what arrives meanwhile can't shift it.
fn cursor(last: TimestampMs, order: Order) -> String {
    let letter = if order == Order::Ascending { 'a' } else { 'd' };
    format!("1{letter}{:x}", last.0.cast_unsigned())
}

fn parse_cursor(text: &str, order: Order) -> Result<i64, HistoryError> {
    let letter = if order == Order::Ascending { "1a" } else { "1d" };
    let digits = text.strip_prefix(letter).ok_or(HistoryError::Cursor)?;
    let bits = u64::from_str_radix(digits, 16).map_err(|_| HistoryError::Cursor)?;
    Ok(bits.cast_signed())
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
    let mut buckets = Vec::new();
    let mut open: Option<OpenBucket> = None;
    while let Some(rows) = stream.next()? {
        check(cancelled)?;
        let mut rest = &rows.rows[..];
        while let Some(first) = rest.first() {
            let number = (i128::from(first.observed_at) - i128::from(from)) / i128::from(width);
            let start = i128::from(from) + number * i128::from(width);
            let end = (start + i128::from(width)).min(i128::from(to));
            let (start, end) = (clamp(start), clamp(end));
            let count = rest.partition_point(|row| row.observed_at < end);
            if open.as_ref().is_none_or(|bucket| bucket.from != start) {
                buckets.extend(open.take().map(OpenBucket::finish));
            }
            let bucket = open.get_or_insert_with(|| OpenBucket::new(start, end));
            bucket.add(&rows, &rest[..count]);
            rest = &rest[count..];
        }
    }
    buckets.extend(open.map(OpenBucket::finish));
    Ok(buckets)
}

fn clamp(time: i128) -> i64 {
    i64::try_from(time).unwrap_or(if time < 0 { i64::MIN } else { i64::MAX })
}

fn bucket_width(query: &AggregateQuery, limit: usize) -> Result<i64, HistoryError> {
    let span = i128::from(query.to.0) - i128::from(query.from.0);
    let width = match query.buckets {
        Buckets::WidthMs(width) if width > 0 => i128::from(width),
        Buckets::Points(points) if points > 0 => {
            let points = i128::try_from(points).unwrap_or(i128::MAX);
            (span + points - 1) / points
        }
        _ => return Err(HistoryError::BucketWidth),
    };
    let count = (span + width - 1) / width;
    if count > i128::try_from(limit).unwrap_or(i128::MAX) {
        let asked = u64::try_from(count).unwrap_or(u64::MAX);
        return Err(HistoryError::Buckets { asked, limit });
    }
    Ok(clamp(width))
}

/// A bucket being filled, in order of time.
struct OpenBucket {
    from: i64,
    to: i64,
    min: f64,
    max: f64,
    sum: f64,
    numbers: u64,
    ends: Option<(ReadingValue, ReadingValue)>,
    count: u64,
}

impl OpenBucket {
    fn new(from: i64, to: i64) -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { from, to, min, max, sum: 0.0, numbers: 0, ends: None, count: 0 }
    }

    fn add(&mut self, rows: &Rows, part: &[Row]) {
        let (Some(first), Some(last)) = (part.first(), part.last()) else { return };
        for number in part.iter().filter_map(as_f64) {
            self.min = self.min.min(number);
            self.max = self.max.max(number);
            self.sum += number;
            self.numbers += 1;
        }
        self.count += part.len() as u64;
        let last = rows.value(last);
        match &mut self.ends {
            Some(ends) => ends.1 = last,
            None => self.ends = Some((rows.value(first), last)),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "an average is floating point")]
    fn finish(self) -> Bucket {
        let some = |value: f64| (self.numbers > 0).then_some(value);
        let (first, last) = self.ends.expect("a bucket is opened for a reading");
        Bucket {
            from: TimestampMs(self.from),
            to: TimestampMs(self.to),
            min: some(self.min),
            max: some(self.max),
            avg: some(self.sum / self.numbers.max(1) as f64),
            first,
            last,
            count: self.count,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "aggregates are floating point")]
fn as_f64(row: &Row) -> Option<f64> {
    match row.kind {
        schema::ValueKind::Number => Some(f64::from_bits(row.bits)),
        schema::ValueKind::Integer => Some(row.bits.cast_signed() as f64),
        schema::ValueKind::Boolean => Some(row.bits as f64),
        schema::ValueKind::Text | schema::ValueKind::Json => None,
    }
}
