//! An alarm profile as a person writes it, in TOML or JSON.
//!
//! The fields that a person can misspell in meaning (operators, severities,
//! time zones) stay text here; the alarm core checks them all at once and names
//! each wrong one by its path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DurationMs;
use crate::{DeviceId, LocationId};

/// Rules for the places that they are applied to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmProfile {
    pub name: String,
    /// How long a reading is held back so that earlier ones can still come.
    /// Where several profiles apply to a device, the longest counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness: Option<DurationMs>,
    #[serde(default, skip_serializing_if = "AppliesTo::is_all")]
    pub applies_to: AppliesTo,
    #[serde(default)]
    pub rules: Vec<AlarmRule>,
}

/// Which devices of the tenant a profile is for. An empty list sets no bound;
/// a device must be within all lists that are not empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppliesTo {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<LocationId>,
    /// Names of location groups; a location that is in one of them is within.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub location_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_types: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceId>,
}

impl AppliesTo {
    /// True when the profile is for all of the tenant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.locations.is_empty()
            && self.location_groups.is_empty()
            && self.device_types.is_empty()
            && self.devices.is_empty()
    }

    /// Whether a location that is in these groups is within `locations` and
    /// `location_groups`.
    #[must_use]
    pub fn includes_location<G: AsRef<str>>(&self, location: LocationId, groups: &[G]) -> bool {
        let in_group = |wanted: &String| groups.iter().any(|group| group.as_ref() == wanted);
        (self.locations.is_empty() || self.locations.contains(&location))
            && (self.location_groups.is_empty() || self.location_groups.iter().any(in_group))
    }

    /// Whether a device is within; `groups` are those of its location.
    #[must_use]
    pub fn includes<G: AsRef<str>>(
        &self,
        device: DeviceId,
        location: LocationId,
        groups: &[G],
        device_type: Option<&str>,
    ) -> bool {
        self.includes_location(location, groups)
            && (self.devices.is_empty() || self.devices.contains(&device))
            && (self.device_types.is_empty()
                || device_type.is_some_and(|name| self.device_types.iter().any(|t| t == name)))
    }
}

/// One thing that can be wrong, and when it is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmRule {
    /// Unique in the profile; an alarm is found again by it after an edit.
    pub key: String,
    /// What a person reads; `${temperature}` is the value of a key, and
    /// `${device}`, `${location}`, `${rule}`, `${severity}` stand for their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A condition per severity name.
    pub raise: BTreeMap<String, Condition>,
    /// When the alarm is over; required unless `clear_by_severity` has one for
    /// each severity of `raise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<Condition>,
    /// Clear conditions that hold for one severity and go before `clear`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clear_by_severity: BTreeMap<String, Condition>,
    /// When the raise conditions count; always where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// How far past the limit of the clear condition a value must go back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadband: Option<f64>,
    /// How long the clear condition must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_delay: Option<DurationMs>,
    /// The least time that an alarm stays active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_on: Option<DurationMs>,
    /// The least time from a clear to the next raise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re_alarm_after: Option<DurationMs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flapping: Option<Flapping>,
    /// Active until acknowledged, even when the clear condition is true.
    #[serde(default, skip_serializing_if = "is_false")]
    pub latch: bool,
    /// The severity follows the conditions down as well as up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub de_escalate: bool,
    /// Cleared when no raise condition was true for this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_clear_after: Option<DurationMs>,
    /// Two readings further apart than a duration say nothing of the time between.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub gap_breaks_duration: bool,
    /// The most active alarms of this rule that the tenant has; past it one system
    /// alarm says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_active: Option<u32>,
    /// A rise in severity takes an acknowledgement back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reacknowledge_on_escalation: bool,
}

impl Default for AlarmRule {
    fn default() -> Self {
        Self {
            key: String::new(),
            description: None,
            raise: BTreeMap::new(),
            clear: None,
            clear_by_severity: BTreeMap::new(),
            schedule: None,
            deadband: None,
            off_delay: None,
            min_on: None,
            re_alarm_after: None,
            flapping: None,
            latch: false,
            de_escalate: false,
            auto_clear_after: None,
            gap_breaks_duration: true,
            max_active: None,
            reacknowledge_on_escalation: false,
        }
    }
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_true(switch: &bool) -> bool {
    *switch
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(switch: &bool) -> bool {
    !*switch
}

/// A tree of filters with a temporal kind: `for` makes it a duration, `times`
/// (and `within`) repeating, `no_reading_for` inactivity of `key`; else it is simple.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Condition {
    /// The tree; absent for inactivity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Filter>,
    /// Must hold for this long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub holds_for: Option<DurationMs>,
    /// Must be true at this many readings in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// The `times` must lie within this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<DurationMs>,
    /// The key whose readings must have stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// True when `key` had no reading for this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_reading_for: Option<DurationMs>,
    /// Goes before the rule's own schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// A node of the tree: `all` or `any` of further nodes, or a comparison of `key`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<Filter>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<Filter>>,
    /// A telemetry key, or `device/key` of another device at the location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What is compared: `value` (where absent), `delta` over `window`, `rate`
    /// (change a second) or `age` of the last value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<DurationMs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Operand>,
}

/// What a key is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a number, a boolean, a text, a list of these, or a table with `key`, or `attribute` and `default`"
)]
pub enum Operand {
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Operand>),
    Reference(Reference),
}

/// A value that is found when it is needed: the last value of `key`, or
/// `attribute` of the device, else of its location, else of the tenant, else `default`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reference {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Box<Operand>>,
}

/// Weekdays and times of the day in a time zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// An IANA name; the location's own zone where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// `mon` to `sun`; all where empty. A time that wraps over midnight belongs
    /// to the day on which it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<String>,
    /// `HH:MM`, inclusive.
    pub from: String,
    /// `HH:MM`, exclusive; at or before `from` it is the next day's.
    pub to: String,
}

/// When an alarm that goes on and off is held as one. The share of changes over
/// the last 21 states weighs the newest 1.5 times the oldest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flapping {
    /// Flapping ends below this share of changes, in percent.
    pub low: f64,
    /// Flapping starts at this share of changes, in percent.
    pub high: f64,
}
