//! Weekdays and times of the day in a time zone, daylight saving included.
//!
//! A window is found from the local calendar each time the last one has ended,
//! and remembered until then, so that a reading costs one comparison.

use std::cell::Cell;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

/// The time zones in use, by the order in which they were first named.
#[derive(Debug)]
pub(crate) struct Zones {
    database: TimeZoneDatabase,
    zones: Vec<(Box<str>, TimeZone)>,
}

impl Default for Zones {
    fn default() -> Self {
        Self { database: TimeZoneDatabase::bundled(), zones: Vec::new() }
    }
}

impl Zones {
    pub fn find(&mut self, name: &str) -> Option<u32> {
        let known = self.zones.iter().position(|(known, _)| &**known == name);
        let index = match known {
            Some(index) => index,
            None => {
                let zone = self.database.get(name).ok()?;
                self.zones.push((name.into(), zone));
                self.zones.len() - 1
            }
        };
        u32::try_from(index).ok()
    }

    /// The zone of that name, or UTC where there is none.
    pub fn or_utc(&mut self, name: &str) -> u32 {
        self.find(name).or_else(|| self.find("UTC")).expect("UTC is in every database")
    }

    fn get(&self, index: u32) -> &TimeZone {
        &self.zones[index as usize].1
    }
}

/// The stretch around a time in which a schedule stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub active: bool,
    /// Inclusive, in milliseconds.
    pub from: i64,
    /// Exclusive, in milliseconds.
    pub until: i64,
}

impl Window {
    /// That of no schedule.
    pub const ALWAYS: Self = Self { active: true, from: i64::MIN, until: i64::MAX };
}

#[derive(Debug)]
pub(crate) struct Schedule {
    /// None stands for the zone of the device's location.
    pub zone: Option<u32>,
    /// Monday first.
    pub days: [bool; 7],
    pub from: Time,
    pub to: Time,
    remembered: Cell<(u32, Window)>,
}

impl Schedule {
    pub fn new(zone: Option<u32>, days: [bool; 7], from: Time, to: Time) -> Self {
        let none = Window { active: false, from: i64::MAX, until: i64::MIN };
        Self { zone, days, from, to, remembered: Cell::new((u32::MAX, none)) }
    }

    /// The window around `at`.
    pub fn window(&self, zones: &Zones, location_zone: u32, at: i64) -> Window {
        let zone = self.zone.unwrap_or(location_zone);
        let (known_zone, known) = self.remembered.get();
        if known_zone == zone && known.from <= at && at < known.until {
            return known;
        }
        let window = self.find(zones.get(zone), at);
        self.remembered.set((zone, window));
        window
    }

    fn find(&self, zone: &TimeZone, at: i64) -> Window {
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

/// Reads `HH:MM`; `24:00` is midnight at the end of the day, which is `00:00`.
pub(crate) fn parse_time(text: &str) -> Option<Time> {
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
pub(crate) fn parse_day(text: &str) -> Option<usize> {
    DAYS.iter().position(|day| *day == text)
}

pub(crate) const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

#[cfg(test)]
mod tests {
    use super::*;

    fn active(schedule: &Schedule, zones: &Zones, at: &str) -> bool {
        let at: Timestamp = at.parse().unwrap();
        schedule.window(zones, 0, at.as_millisecond()).active
    }

    fn amsterdam(days: &[usize], from: &str, to: &str) -> (Schedule, Zones) {
        let mut zones = Zones::default();
        let zone = zones.find("Europe/Amsterdam");
        let mut on = [false; 7];
        for day in days {
            on[*day] = true;
        }
        (Schedule::new(zone, on, parse_time(from).unwrap(), parse_time(to).unwrap()), zones)
    }

    #[test]
    fn local_time_counts_in_summer_and_in_winter() {
        let (schedule, zones) = amsterdam(&[0, 1, 2, 3, 4], "08:00", "17:00");
        for (at, expected) in [
            ("2026-07-06T05:59:59Z", false), // Monday 07:59:59 in summer
            ("2026-07-06T06:00:00Z", true),
            ("2026-07-06T15:00:00Z", false),
            ("2026-01-05T06:30:00Z", false), // Monday 07:30 in winter
            ("2026-01-05T07:00:00Z", true),
            ("2026-07-04T10:00:00Z", false), // Saturday
        ] {
            assert_eq!(active(&schedule, &zones, at), expected, "{at}");
        }
    }

    #[test]
    fn a_start_after_the_end_wraps_over_midnight_and_belongs_to_its_first_day() {
        let (schedule, zones) = amsterdam(&[4], "22:00", "06:00");
        for (at, expected) in [
            ("2026-01-09T20:59:00Z", false), // Friday 21:59
            ("2026-01-09T21:00:00Z", true),
            ("2026-01-10T04:59:00Z", true), // Saturday 05:59
            ("2026-01-10T05:00:00Z", false),
            ("2026-01-10T22:00:00Z", false), // Saturday 23:00
        ] {
            assert_eq!(active(&schedule, &zones, at), expected, "{at}");
        }
    }

    #[test]
    fn the_night_of_a_clock_change_has_its_own_length() {
        let (schedule, zones) = amsterdam(&[0, 1, 2, 3, 4, 5, 6], "01:00", "04:00");
        let at: Timestamp = "2026-03-29T00:30:00Z".parse().unwrap();
        let spring = schedule.window(&zones, 0, at.as_millisecond());
        assert_eq!((spring.active, spring.until - spring.from), (true, 2 * 3_600_000));
        let at: Timestamp = "2026-10-25T00:30:00Z".parse().unwrap();
        let autumn = schedule.window(&zones, 0, at.as_millisecond());
        assert_eq!((autumn.active, autumn.until - autumn.from), (true, 4 * 3_600_000));
    }

    #[test]
    fn the_same_start_and_end_is_the_whole_day() {
        let (schedule, zones) = amsterdam(&[0], "00:00", "24:00");
        assert!(active(&schedule, &zones, "2026-01-05T10:00:00Z"));
        assert!(!active(&schedule, &zones, "2026-01-06T10:00:00Z"));
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
