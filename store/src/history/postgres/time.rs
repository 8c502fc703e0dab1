//! Times as PostgreSQL holds them: microseconds since 2000, from 4713 BC to
//! 294276 AD, which is less than 64 bits of milliseconds are.

use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// 2000-01-01T00:00:00Z in milliseconds since 1970.
const EPOCH_MS: i64 = 946_684_800_000;
/// The first and the last millisecond that PostgreSQL can hold.
const MIN_MS: i64 = -210_866_803_200_000;
const MAX_MS: i64 = 9_224_318_015_999_999;
const MICROS_PER_MS: i64 = 1_000;

/// A `TIMESTAMPTZ`. The least and the greatest number are PostgreSQL's
/// infinities, beyond all times of readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Micros(pub i64);

impl Micros {
    /// `None` where PostgreSQL can't hold it.
    pub fn of_ms(ms: i64) -> Option<Self> {
        (MIN_MS..=MAX_MS).contains(&ms).then(|| Self((ms - EPOCH_MS) * MICROS_PER_MS))
    }

    /// As a bound of a question: what PostgreSQL can't hold is beyond all that
    /// it does.
    pub fn bound(ms: i64) -> Self {
        let beyond = if ms < MIN_MS { i64::MIN } else { i64::MAX };
        Self::of_ms(ms).unwrap_or(Self(beyond))
    }

    pub fn ms(self) -> i64 {
        self.0.div_euclid(MICROS_PER_MS) + EPOCH_MS
    }
}

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(TIMESTAMPTZ);
}

/// An `INTERVAL` of milliseconds, without days and months.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    micros: i64,
}

impl Interval {
    pub fn of_ms(ms: i64) -> Option<Self> {
        Some(Self { micros: ms.checked_mul(MICROS_PER_MS)? })
    }
}

impl ToSql for Interval {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.micros);
        out.put_i32(0);
        out.put_i32(0);
        Ok(IsNull::No)
    }

    accepts!(INTERVAL);
    to_sql_checked!();
}

/// The time as an SQL expression, for statements that take no parameters.
pub(super) fn literal(ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let (days, rest) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    // The connection's time zone is UTC, so that a day has 24 hours.
    format!("(timestamptz 'epoch' + interval '{days} days {rest} milliseconds')")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgresql_can_hold_comes_back_and_the_rest_is_beyond() {
        for ms in [MIN_MS, -1, 0, 1, EPOCH_MS, 1_764_000_000_123, MAX_MS] {
            assert_eq!(Micros::of_ms(ms).unwrap().ms(), ms);
        }
        for ms in [MIN_MS - 1, MAX_MS + 1, i64::MIN, i64::MAX] {
            assert_eq!(Micros::of_ms(ms), None);
        }
        assert_eq!(Micros::bound(i64::MIN), Micros(i64::MIN));
        assert_eq!(Micros::bound(MAX_MS + 1), Micros(i64::MAX));
    }
}
