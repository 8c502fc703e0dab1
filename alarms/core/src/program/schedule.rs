//! Weekdays and times of the day in a time zone, daylight saving included.
//!
//! A window is found from the local calendar each time the last one has ended,
//! and remembered until then, so that a reading costs one comparison.

use std::cell::Cell;

use jiff::civil::Time;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use schema::{WeeklyHours, Window};

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

#[derive(Debug)]
pub(crate) struct Schedule {
    /// None stands for the zone of the device's location.
    pub zone: Option<u32>,
    hours: WeeklyHours,
    remembered: Cell<(u32, Window)>,
}

impl Schedule {
    pub fn new(zone: Option<u32>, days: [bool; 7], from: Time, to: Time) -> Self {
        let none = Window { active: false, from: i64::MAX, until: i64::MIN };
        let hours = WeeklyHours { days, from, to };
        Self { zone, hours, remembered: Cell::new((u32::MAX, none)) }
    }

    /// The window around `at`.
    pub fn window(&self, zones: &Zones, location_zone: u32, at: i64) -> Window {
        let zone = self.zone.unwrap_or(location_zone);
        let (known_zone, known) = self.remembered.get();
        if known_zone == zone && known.from <= at && at < known.until {
            return known;
        }
        let window = self.hours.window(zones.get(zone), at);
        self.remembered.set((zone, window));
        window
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use schema::parse_time;

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
}
