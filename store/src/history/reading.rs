//! Questions to the history and their answers.

use schema::{DeviceId, TimestampMs, Value, ValueKind};

/// The value of a stored reading, owned.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadingValue {
    Number(f64),
    Integer(i64),
    Boolean(bool),
    Text(Box<str>),
    /// An object or array as the JSON text that was sent.
    Json(Box<str>),
}

impl ReadingValue {
    /// The value, borrowed.
    #[must_use]
    pub fn as_value(&self) -> Value<'_> {
        match self {
            Self::Number(number) => Value::Number(*number),
            Self::Integer(integer) => Value::Integer(*integer),
            Self::Boolean(boolean) => Value::Boolean(*boolean),
            Self::Text(text) => Value::Text(text),
            Self::Json(json) => Value::Json(json),
        }
    }

    #[must_use]
    pub fn kind(&self) -> ValueKind {
        self.as_value().kind()
    }
}

impl From<Value<'_>> for ReadingValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Number(number) => Self::Number(number),
            Value::Integer(integer) => Self::Integer(integer),
            Value::Boolean(boolean) => Self::Boolean(boolean),
            Value::Text(text) => Self::Text(text.into()),
            Value::Json(json) => Self::Json(json.into()),
        }
    }
}

/// The newest value of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub key: String,
    pub observed_at: TimestampMs,
    pub value: ReadingValue,
}

/// One reading of the key that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub observed_at: TimestampMs,
    pub value: ReadingValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// The readings of one key of one device in a span of time.
#[derive(Clone, Debug)]
pub struct RangeQuery {
    pub device: DeviceId,
    pub key: String,
    /// Inclusive.
    pub from: TimestampMs,
    /// Exclusive.
    pub to: TimestampMs,
    pub order: Order,
    /// The most readings of the page; at most the history's `page_limit`. A
    /// page of long texts may end earlier.
    pub limit: usize,
    /// [`Page::next`] of the page before, with all else as it was.
    pub cursor: Option<String>,
}

/// A page of readings in the order asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub samples: Vec<Sample>,
    /// Where the next page begins; `None` when there was no more. It stays
    /// right while readings arrive: none is shown twice, and what arrives
    /// behind it is shown.
    pub next: Option<String>,
}

/// How a span of time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buckets {
    /// Buckets of so many milliseconds, the first at `from`.
    WidthMs(i64),
    /// So many buckets of equal width over the whole span.
    Points(usize),
}

/// The readings of one key of one device, reduced to buckets.
#[derive(Clone, Debug)]
pub struct AggregateQuery {
    pub device: DeviceId,
    pub key: String,
    /// Inclusive.
    pub from: TimestampMs,
    /// Exclusive.
    pub to: TimestampMs,
    pub buckets: Buckets,
}

/// What a bucket's readings come to. Buckets without readings are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// Inclusive.
    pub from: TimestampMs,
    /// Exclusive; the last bucket ends where the question does.
    pub to: TimestampMs,
    /// Over values that are numbers, integers or booleans (0 and 1); `None` if
    /// the bucket has text only.
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub avg: Option<f64>,
    pub first: ReadingValue,
    pub last: ReadingValue,
    /// Readings of any type.
    pub count: u64,
}
