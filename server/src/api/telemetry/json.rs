//! Readings and buckets as JSON.

use std::io::{self, Write};

use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;
use store::history::{Bucket, Page, ReadingValue};

use super::{Reading, ShownBucket};

/// A value as JSON shows it.
#[derive(Clone, Debug)]
pub struct Shown(pub ReadingValue);

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            ReadingValue::Number(number) => serializer.serialize_f64(*number),
            ReadingValue::Integer(integer) => serializer.serialize_i64(*integer),
            ReadingValue::Boolean(boolean) => serializer.serialize_bool(*boolean),
            ReadingValue::Text(text) => serializer.serialize_str(text),
            // What the device sent was JSON; were it not, it is shown as text.
            ReadingValue::Json(json) => match serde_json::from_str::<&RawValue>(json) {
                Ok(raw) => raw.serialize(serializer),
                Err(_) => serializer.serialize_str(json),
            },
        }
    }
}

/// `{"key","readings":[…],"next"?}`
pub fn readings(key: &str, page: Page, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"{\"key\":")?;
    serde_json::to_writer(&mut *out, key)?;
    out.write_all(b",\"readings\":")?;
    list(page.samples, out, |sample| Reading {
        ts: sample.observed_at.0,
        value: Shown(sample.value),
    })?;
    if let Some(next) = page.next {
        out.write_all(b",\"next\":")?;
        serde_json::to_writer(&mut *out, &next)?;
    }
    out.write_all(b"}")
}

/// `{"key","buckets":[…]}`
pub fn buckets(key: &str, buckets: Vec<Bucket>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"{\"key\":")?;
    serde_json::to_writer(&mut *out, key)?;
    out.write_all(b",\"buckets\":")?;
    list(buckets, out, ShownBucket::from)?;
    out.write_all(b"}")
}

fn list<T, U: Serialize>(
    items: Vec<T>,
    out: &mut impl Write,
    show: impl Fn(T) -> U,
) -> io::Result<()> {
    let mut before = b"[";
    for item in items {
        out.write_all(before)?;
        before = b",";
        serde_json::to_writer(&mut *out, &show(item))?;
    }
    if before == b"[" {
        out.write_all(before)?;
    }
    out.write_all(b"]")
}
