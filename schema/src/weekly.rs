//! Weekdays and times of the day in a time zone, daylight saving included.
//!
//! Stands here because the alarm core's schedules and people's quiet hours are
//! the same thing. Pure: the time and the zone come in.

use std::sync::LazyLock;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

/// The stretch around a time in which it stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub active: bool,
    /// Inclusive, in milliseconds.
    pub from: i64,
    /// Exclusive, in milliseconds.
    pub until: i64,
}

impl Window {
    /// That of no hours at all.
    pub const ALWAYS: Self = Self { active: true, from: i64::MIN, until: i64::MAX };
}

/// Hours that come back every week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeeklyHours {
    /// Monday first.
    pub days: [bool; 7],
    /// Inclusive.
    pub from: Time,
    /// Exclusive; at or before `from` it is the next day's.
    pub to: Time,
}

impl WeeklyHours {
    /// The window around `at`, which is in milliseconds since 1970.
    #[must_use]
    pub fn window(&self, zone: &TimeZone, at: i64) -> Window {
        let Ok(now) = Timestamp::from_millisecond(at) else {
            // Outside the calendar's years nothing is on schedule.
            return Window { active: false, from: i64::MIN, until: i64::MAX };
        };
        if self.from == self.to && self.days == [true; 7] {
            return Window::ALWAYS;
        }
        let today = now.to_zoned(zone.clone()).date();
        let mut before = i64::MIN;
        // Eight days reach the same weekday of next week; a day before today
        // may still run.
        let mut runs = (-8i32..=8).filter_map(|offset| self.run(zone, today, offset)).peekable();
        while let Some((start, mut end)) = runs.next() {
            // Runs of neighbouring days touch when `from` equals `to`.
            while let Some((_, next_end)) = runs.next_if(|(next, _)| *next <= end) {
                end = end.max(next_end);
            }
            if start <= at && at < end {
                return Window { active: true, from: start, until: end };
            }
            if at < start {
                return Window { active: false, from: before, until: start };
            }
            before = end;
        }
        Window { active: false, from: before, until: i64::MAX }
    }

    /// The run that starts `offset` days from `today`, if that day has one.
    fn run(&self, zone: &TimeZone, today: Date, offset: i32) -> Option<(i64, i64)> {
        let day = today.checked_add(i64::from(offset).days()).ok()?;
        if !self.days[monday_first(day.weekday())] {
            return None;
        }
        let last = match self.from < self.to {
            true => day,
            false => day.tomorrow().ok()?,
        };
        let millis = |date: Date, time: Time| moment(zone, date.to_datetime(time));
        let (start, end) = (millis(day, self.from)?, millis(last, self.to)?);
        (start < end).then_some((start, end))
    }
}

/// When a local time is, in milliseconds. One that daylight saving skips is the
/// moment of the gap, and of one that comes twice the first counts.
fn moment(zone: &TimeZone, local: DateTime) -> Option<i64> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let timestamp = match ambiguous.offset() {
        AmbiguousOffset::Gap { after, .. } => {
            let before_the_gap = after.to_timestamp(local).ok()?;
            zone.following(before_the_gap).next()?.timestamp()
        }
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
            ambiguous.compatible().ok()?
        }
    };
    Some(timestamp.as_millisecond())
}

fn monday_first(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or(0)
}

/// The time zone of an IANA name, in any case. It comes of the database that the
/// program itself bears, so that all machines know the same ones.
#[must_use]
pub fn time_zone(name: &str) -> Option<TimeZone> {
    static BUNDLED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    BUNDLED.get(name).ok()
}

/// Reads `HH:MM`; `24:00` is midnight at the end of the day, which is `00:00`.
#[must_use]
pub fn parse_time(text: &str) -> Option<Time> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !two_digits(hours) || !two_digits(minutes) {
        return None;
    }
    match (hours.parse().ok()?, minutes.parse().ok()?) {
        (24, 0) => Some(Time::midnight()),
        (hours, minutes) => Time::new(hours, minutes, 0, 0).ok(),
    }
}

/// Reads `mon` to `sun`; Monday is 0.
#[must_use]
pub fn parse_day(text: &str) -> Option<usize> {
    DAYS.iter().position(|day| *day == text)
}

/// The weekdays as they are written, Monday first.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zones_are_known_by_their_iana_names_only() {
        let named = |name| time_zone(name).and_then(|zone| zone.iana_name().map(str::to_owned));
        assert_eq!(named("europe/amsterdam").as_deref(), Some("Europe/Amsterdam"));
        assert_eq!(named("UTC").as_deref(), Some("UTC"));
        for name in ["", "Europe/Amsterdm", "+02:00", "../../etc/passwd"] {
            assert_eq!(named(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_no_time_or_day_is_refused() {
        for text in ["8:00", "25:00", "24:01", "08:60", "0800", "+1:00"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert_eq!(
            (parse_day("mon"), parse_day("sun"), parse_day("Mon")),
            (Some(0), Some(6), None)
        );
    }
}
