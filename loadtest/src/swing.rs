//! Values that cross the limits of alarms, and the profile that has the limits.
//!
//! Of a key that is watched, exactly the share that is asked for of the readings
//! crosses the lower limit, up and down in turns, and about every second time
//! above it the upper one too. Where each reading stands follows from its
//! number, so what alarms must come of it can be worked out afterwards from the
//! readings alone. It never performs IO or reads a clock.

use std::fmt::Write as _;

use schema::Severity;

use crate::template::key_name;
use crate::values::{self, Sample};

/// Keys that are watched, at most: numbers, the first of all.
const MAX_WATCHED_KEYS: u32 = 3;
/// Crossings are counted in millionths of one.
const CROSSING: u64 = 1_000_000;
/// Up and down again.
const CYCLE: u64 = 2 * CROSSING;
/// How much of a cycle is above the lower limit, at least.
const MIN_ABOVE: u64 = CYCLE / 20;
/// Cycles after which severities repeat.
const VARIANTS: u64 = 4;

/// How often values cross the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swing {
    /// Of a million readings of a watched key so many cross the lower limit.
    per_million: u32,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Normal,
    Major,
    Critical,
}

impl Swing {
    /// The most of a million readings of a key that can cross.
    pub const MAX_PER_MILLION: u32 = 500_000;

    /// So many of a million readings of a watched key raise or clear; 0 for a
    /// load that no profile watches.
    #[must_use]
    pub fn new(per_million: u32) -> Self {
        Self { per_million: per_million.min(Self::MAX_PER_MILLION) }
    }

    /// Whether there are alarms at all.
    #[must_use]
    pub fn is_on(self) -> bool {
        self.per_million > 0
    }

    /// Whether the key has limits.
    #[must_use]
    pub fn watches(self, key: u32) -> bool {
        self.is_on() && key < MAX_WATCHED_KEYS
    }

    /// The value of reading `number` of a key, like [`values::sample`].
    #[must_use]
    pub fn sample(self, series: u64, key: u32, number: u64) -> Sample {
        let sample = values::sample(series, key, number);
        if !self.watches(key) {
            return sample;
        }
        let level = self.level(series, key, number);
        match sample {
            Sample::Hundredths(value) => Sample::Hundredths(placed(level, value, 1)),
            Sample::Integer(value) => Sample::Integer(placed(level, value, 10)),
            other => other,
        }
    }

    fn level(self, series: u64, key: u32, number: u64) -> Level {
        let step = u64::from(self.per_million);
        // Two readings at least are above the limit, so that both severities
        // have their turn.
        let above = MIN_ABOVE.max(2 * step);
        let hash = values::mix(series ^ u64::from(key));
        // All begin below the limit, each somewhere else in its cycle.
        let begin = (hash >> 32) % VARIANTS * CYCLE + (hash & 0xffff_ffff) % (CYCLE - above);
        let place = begin + number * step;
        let within = place % CYCLE;
        if within < CYCLE - above {
            return Level::Normal;
        }
        let late = within >= CYCLE - above / 2;
        match (place / CYCLE % VARIANTS, late) {
            (0, _) | (1, false) | (3, true) => Level::Major,
            _ => Level::Critical,
        }
    }
}

/// Watched keys among so many.
#[must_use]
pub fn watched_keys(keys: u32) -> u32 {
    keys.min(MAX_WATCHED_KEYS)
}

/// A value that is anywhere in its range, brought to where its level is, well
/// off the limits. `unit` is 1 for hundredths; integers have ten times as many.
fn placed(level: Level, value: u32, unit: u32) -> u32 {
    let (lowest, width) = match level {
        Level::Normal => (10_000, 50_000),
        Level::Major => (70_000, 15_000),
        Level::Critical => (90_000, 10_000),
    };
    let place = u64::from(value - 10_000 * unit) * width / 90_000;
    lowest * unit + u32::try_from(place).expect("a part of a u32 fits a u32")
}

/// The limits of a key, as its profile writes them.
fn limits(key: u32) -> (u32, u32) {
    match key % 5 {
        1 => (650_000, 875_000),
        _ => (650, 875),
    }
}

/// The severity of an alarm that a value is worth, by the profile's limits.
#[must_use]
pub fn severity_of(key: u32, sample: Sample) -> Option<Severity> {
    let (major, critical) = limits(key);
    let (value, unit) = match sample {
        Sample::Hundredths(value) => (value, 100),
        Sample::Integer(value) => (value, 1),
        Sample::Boolean(_) | Sample::Text(_) => return None,
    };
    if value > critical * unit {
        Some(Severity::Critical)
    } else if value > major * unit {
        Some(Severity::Major)
    } else {
        None
    }
}

/// The rule that watches a key.
#[must_use]
pub fn rule_name(key: u32) -> String {
    format!("{}_too_high", key_name(key))
}

/// The profile that watches a load of so many keys, in TOML.
#[must_use]
pub fn profile(keys: u32) -> String {
    let mut text = "name = \"Load test\"\n".to_owned();
    for key in 0..watched_keys(keys) {
        let (name, rule, (major, critical)) = (key_name(key), rule_name(key), limits(key));
        // Writing to a string can't fail.
        let _ = write!(
            text,
            r#"
[[rules]]
key = "{rule}"
description = "{name} of ${{device}} is ${{{name}}}"
raise.critical = {{ when = {{ key = "{name}", operator = ">", value = {critical} }} }}
raise.major = {{ when = {{ key = "{name}", operator = ">", value = {major} }} }}
clear = {{ when = {{ key = "{name}", operator = "<=", value = {major} }} }}
"#
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn severities(swing: Swing, key: u32, readings: u64) -> Vec<Option<Severity>> {
        let series = values::series(3, 1, false);
        (0..readings).map(|n| severity_of(key, swing.sample(series, key, n))).collect()
    }

    #[test]
    fn the_share_that_is_asked_for_crosses_and_all_begin_below() {
        for per_million in [1_000, 6_667, 20_000, 333_333, Swing::MAX_PER_MILLION] {
            for key in 0..3 {
                let all = severities(Swing::new(per_million), key, 100_000);
                let crossing =
                    all.windows(2).filter(|pair| pair[0].is_some() != pair[1].is_some()).count();
                let asked = usize::try_from(per_million / 10).unwrap();
                assert!(crossing.abs_diff(asked) <= 2, "{crossing} of {asked} at key {key}");
                assert_eq!(all[0], None);
            }
        }
    }

    #[test]
    fn severities_rise_fall_and_stay() {
        use Severity::{Critical, Major};
        let all = severities(Swing::new(20_000), 0, 10_000);
        for pair in [
            [None, Some(Major)],
            [None, Some(Critical)],
            [Some(Major), Some(Critical)],
            [Some(Critical), Some(Major)],
            [Some(Major), None],
            [Some(Critical), None],
        ] {
            assert!(all.windows(2).any(|found| found == pair), "{pair:?}");
        }
    }

    #[test]
    fn values_keep_their_width_and_differ_between_devices() {
        let swing = Swing::new(20_000);
        let mut same = 0;
        for number in 0..2_000 {
            for key in 0..3 {
                let sample = swing.sample(values::series(1, 0, false), key, number);
                let mut text = vec![b'#'; Sample::width(key)];
                sample.write(&mut text);
                let text = std::str::from_utf8(&text).unwrap();
                assert!(text.parse::<f64>().unwrap() >= 100.0, "{text}");
                same += u32::from(sample == swing.sample(values::series(2, 0, false), key, number));
            }
        }
        assert!(same < 20, "{same} of 6000 equal between devices");
    }

    #[test]
    fn a_load_without_alarms_has_the_values_that_it_always_had() {
        for key in 0..5 {
            assert_eq!(Swing::default().sample(7, key, 9), values::sample(7, key, 9));
        }
        assert!(!Swing::default().watches(0));
        assert!(Swing::new(1).watches(2) && !Swing::new(1).watches(3));
    }

    #[test]
    fn the_profile_has_a_rule_for_each_watched_key() {
        assert_eq!(profile(2).matches("[[rules]]").count(), 2);
        assert_eq!(profile(100).matches("[[rules]]").count(), 3);
        assert!(profile(1).contains("description = \"k0 of ${device} is ${k0}\""));
        assert!(profile(2).contains("value = 650000"), "an integer's limit");
    }
}
