//! Times as the recipient's wall clock showed them.

use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, Zoned};
use schema::{Language, TimestampMs};

use super::language::{month, short_month, weekday};

/// The one that is compiled in, so that a message doesn't depend on the machine.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The recipient's clock at the time of writing.
pub(super) struct WallClock {
    zone: TimeZone,
    language: Language,
    now: Zoned,
}

impl WallClock {
    /// UTC where there is no such time zone; every full time names its zone, so
    /// that nobody is misled.
    pub(super) fn new(time_zone: &str, language: Language, now: TimestampMs) -> Self {
        let zone = ZONES.get(time_zone).unwrap_or(TimeZone::UTC);
        let now = timestamp(now).to_zoned(zone.clone());
        Self { zone, language, now }
    }

    /// Such as "wo 14 januari 2026 03:14:05 CET".
    pub(super) fn full(&self, at: TimestampMs) -> String {
        let at = self.at(at);
        let day = weekday(self.language, day_index(&at));
        let month = month(self.language, month_index(&at));
        let time = at.time();
        format!(
            "{day} {} {month} {} {:02}:{:02}:{:02} {}",
            at.day(),
            at.year(),
            time.hour(),
            time.minute(),
            time.second(),
            abbreviation(&at),
        )
    }

    /// The time of day, with the date where it is not today's; with the zone only
    /// where the clock showed the same time twice.
    pub(super) fn short(&self, at: TimestampMs) -> String {
        let at = self.at(at);
        let mut text = String::new();
        if at.date() != self.now.date() {
            text = format!("{} {} ", at.day(), short_month(self.language, month_index(&at)));
            if at.year() != self.now.year() {
                text = format!("{text}{} ", at.year());
            }
        }
        let time = at.time();
        text = format!("{text}{:02}:{:02}", time.hour(), time.minute());
        if self.zone.to_ambiguous_timestamp(at.datetime()).is_ambiguous() {
            text = format!("{text} {}", abbreviation(&at));
        }
        text
    }

    fn at(&self, at: TimestampMs) -> Zoned {
        timestamp(at).to_zoned(self.zone.clone())
    }
}

/// A device can claim a time that no calendar has; the nearest one is shown.
fn timestamp(at: TimestampMs) -> Timestamp {
    let nearest = if at.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(at.0).unwrap_or(nearest)
}

fn day_index(at: &Zoned) -> usize {
    usize::try_from(at.weekday().to_monday_zero_offset()).expect("it is 0 to 6")
}

fn month_index(at: &Zoned) -> usize {
    usize::try_from(at.month() - 1).expect("it is 0 to 11")
}

/// Such as "CET"; zones without an abbreviation have their offset, "UTC-03".
fn abbreviation(at: &Zoned) -> String {
    let text = at.strftime("%Z").to_string();
    if text.starts_with(['+', '-']) { format!("UTC{text}") } else { text }
}

/// As tools read it: RFC 3339 in UTC, to the millisecond.
pub(super) fn rfc3339(at: TimestampMs) -> String {
    format!("{:.3}", timestamp(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> TimestampMs {
        TimestampMs(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn times_follow_daylight_saving() {
        let clock = |now: &str| WallClock::new("Europe/Amsterdam", Language::Nl, ms(now));
        let winter = clock("2026-01-14T02:20:00Z");
        assert_eq!(winter.full(ms("2026-01-14T02:14:05Z")), "wo 14 januari 2026 03:14:05 CET");
        assert_eq!(winter.full(ms("2026-07-01T02:14:05Z")), "wo 1 juli 2026 04:14:05 CEST");
        // The clock skips from 02:00 to 03:00 on 29 March …
        let spring = clock("2026-03-29T01:30:00Z");
        assert_eq!(spring.short(ms("2026-03-29T00:59:00Z")), "01:59");
        assert_eq!(spring.short(ms("2026-03-29T01:00:00Z")), "03:00");
        // … and shows 02:00 to 03:00 twice on 25 October.
        let autumn = clock("2026-10-25T02:00:00Z");
        assert_eq!(autumn.short(ms("2026-10-25T00:30:00Z")), "02:30 CEST");
        assert_eq!(autumn.short(ms("2026-10-25T01:30:00Z")), "02:30 CET");
        assert_eq!(autumn.short(ms("2026-10-25T02:30:00Z")), "03:30");
    }

    #[test]
    fn a_date_is_said_where_it_is_not_todays() {
        let clock = WallClock::new("Europe/Amsterdam", Language::Nl, ms("2026-03-01T05:00:00Z"));
        assert_eq!(clock.short(ms("2026-02-28T23:30:00Z")), "00:30");
        assert_eq!(clock.short(ms("2026-02-28T22:30:00Z")), "28 feb 23:30");
        assert_eq!(clock.short(ms("2025-03-28T22:30:00Z")), "28 mrt 2025 23:30");
    }

    #[test]
    fn zones_without_a_name_and_times_without_a_calendar_are_told_all_the_same() {
        let now = ms("2026-01-14T02:14:05Z");
        let full = |zone: &str, at| WallClock::new(zone, Language::En, now).full(at);
        assert_eq!(full("America/Sao_Paulo", now), "Tue 13 January 2026 23:14:05 UTC-03");
        assert_eq!(full("Mars/Olympus", now), "Wed 14 January 2026 02:14:05 UTC");
        assert!(full("Europe/Amsterdam", TimestampMs(i64::MAX)).contains("9999"));
        assert!(full("Europe/Amsterdam", TimestampMs(i64::MIN)).contains("-9999"));
        assert_eq!(rfc3339(now), "2026-01-14T02:14:05.000Z");
    }
}
