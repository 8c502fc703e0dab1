//! Where pages and buckets begin and end, alike for every kind of history.

use schema::TimestampMs;

use super::HistoryError;
use super::reading::{AggregateQuery, Bucket, Buckets, Order, ReadingValue};
use super::rows::{Row, Rows};

/// The cursor names the last reading given out, so it needs no state here and
/// what arrives meanwhile can't shift it.
pub(super) fn cursor(last: TimestampMs, order: Order) -> String {
    let letter = if order == Order::Ascending { 'a' } else { 'd' };
    format!("1{letter}{:x}", last.0.cast_unsigned())
}

pub(super) fn parse_cursor(text: &str, order: Order) -> Result<i64, HistoryError> {
    let letter = if order == Order::Ascending { "1a" } else { "1d" };
    let digits = text.strip_prefix(letter).ok_or(HistoryError::Cursor)?;
    let bits = u64::from_str_radix(digits, 16).map_err(|_| HistoryError::Cursor)?;
    Ok(bits.cast_signed())
}

pub(super) fn clamp(time: i128) -> i64 {
    i64::try_from(time).unwrap_or(if time < 0 { i64::MIN } else { i64::MAX })
}

pub(super) fn bucket_width(query: &AggregateQuery, limit: usize) -> Result<i64, HistoryError> {
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

/// Reduces rows of one series, which come in order of time, to buckets.
pub(super) struct Reducer {
    from: i64,
    to: i64,
    width: i64,
    finished: Vec<Bucket>,
    open: Option<OpenBucket>,
}

impl Reducer {
    pub fn new((from, to): (i64, i64), width: i64) -> Self {
        Self { from, to, width, finished: Vec::new(), open: None }
    }

    pub fn add(&mut self, rows: &Rows) {
        let mut rest = &rows.rows[..];
        while let Some(first) = rest.first() {
            let (start, end) = bounds_of(first.observed_at, (self.from, self.to), self.width);
            let count = rest.partition_point(|row| row.observed_at < end);
            if self.open.as_ref().is_none_or(|bucket| bucket.from != start) {
                self.finished.extend(self.open.take().map(OpenBucket::finish));
            }
            let bucket = self.open.get_or_insert_with(|| OpenBucket::new(start, end));
            bucket.add(rows, &rest[..count]);
            rest = &rest[count..];
        }
    }

    /// The buckets, oldest first.
    pub fn finish(mut self) -> Vec<Bucket> {
        self.finished.extend(self.open.map(OpenBucket::finish));
        self.finished
    }
}

/// Where the bucket of a time begins and ends.
fn bounds_of(at: i64, (from, to): (i64, i64), width: i64) -> (i64, i64) {
    let (at, first, width) = (i128::from(at), i128::from(from), i128::from(width));
    let start = first + (at - first) / width * width;
    (clamp(start), clamp((start + width).min(i128::from(to))))
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
