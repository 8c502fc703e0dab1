//! The time by the machine's clock, for what is noted with it.

use std::time::{SystemTime, UNIX_EPOCH};

use schema::TimestampMs;

/// Now; a clock before 1970 is taken for 1970.
#[must_use]
pub fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
