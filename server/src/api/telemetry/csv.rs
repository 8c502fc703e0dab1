//! Readings and buckets as CSV (RFC 4180), with a line of names. Times are in
//! milliseconds since 1970. Of the value columns one is filled in each line.

use std::io::{self, Write};

use store::history::{Bucket, ReadingValue, Sample};

pub fn readings(samples: &[Sample], out: &mut impl Write) -> io::Result<()> {
    let mut writer = ::csv::Writer::from_writer(out);
    writer.write_record(["ts", "number", "integer", "boolean", "text", "json"])?;
    for sample in samples {
        let mut line = [const { String::new() }; 6];
        line[0] = sample.observed_at.0.to_string();
        let column = match sample.value {
            ReadingValue::Number(_) => 1,
            ReadingValue::Integer(_) => 2,
            ReadingValue::Boolean(_) => 3,
            ReadingValue::Text(_) => 4,
            ReadingValue::Json(_) => 5,
        };
        line[column] = text(&sample.value);
        writer.write_record(&line)?;
    }
    writer.flush()
}

pub fn buckets(buckets: &[Bucket], out: &mut impl Write) -> io::Result<()> {
    let mut writer = ::csv::Writer::from_writer(out);
    writer.write_record(["from", "to", "min", "max", "avg", "first", "last", "count"])?;
    for bucket in buckets {
        let number = |number: Option<f64>| number.map(|n| n.to_string()).unwrap_or_default();
        writer.write_record([
            bucket.from.0.to_string(),
            bucket.to.0.to_string(),
            number(bucket.min),
            number(bucket.max),
            number(bucket.avg),
            text(&bucket.first),
            text(&bucket.last),
            bucket.count.to_string(),
        ])?;
    }
    writer.flush()
}

fn text(value: &ReadingValue) -> String {
    match value {
        ReadingValue::Number(number) => number.to_string(),
        ReadingValue::Integer(integer) => integer.to_string(),
        ReadingValue::Boolean(boolean) => boolean.to_string(),
        ReadingValue::Text(text) | ReadingValue::Json(text) => text.to_string(),
    }
}
