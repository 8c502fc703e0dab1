//! What one rule remembers of one device.

use std::collections::VecDeque;

use schema::{AlarmId, Severity, TimestampMs};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::limits::FLAP_STATES;
use crate::program::{History, Rule};

/// No state: the rule is at rest for the device.
pub(crate) const NONE: u32 = u32::MAX;

/// A rule's place in a device's short list. It stays when the state is freed,
/// because a rule's time never runs backwards.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub rule: u32,
    #[serde(with = "present")]
    pub state: u32,
    /// The time of its latest round with a state.
    pub at: i64,
}

/// In a snapshot only whether there is a state: places differ from run to run.
mod present {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub fn serialize<S: Serializer>(state: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(*state != super::NONE)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        Ok(if bool::deserialize(deserializer)? { 0 } else { super::NONE })
    }
}

/// A time that is mostly none in one byte, where the number of none takes ten.
mod unless_never {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub fn serialize<S: Serializer>(time: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        (*time != i64::MAX).then_some(*time).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(i64::MAX))
    }
}

/// The alarm as everybody sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Active {
    pub id: AlarmId,
    pub severity: Severity,
    pub acknowledged: bool,
    pub shelved_until: Option<TimestampMs>,
    /// Where its last `updated` transition was put, if nothing was told since. It
    /// may be taken by now, so whoever goes there looks whether it is the one.
    #[serde(skip, default = "untold")]
    pub updated_in: u32,
}

/// No place among transitions.
pub(crate) const UNTOLD: u32 = u32::MAX;

fn untold() -> u32 {
    UNTOLD
}

/// The rule's own view of being active; differs from [`Active`] only while
/// flapping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct On {
    pub severity: Severity,
    pub since: i64,
    /// When a raise condition was last found true.
    pub last_true: i64,
    /// Since when the clear condition is true.
    pub clear_since: Option<i64>,
    /// Clear came true, and only the acknowledgement is missing.
    pub latched: bool,
}

/// Timer and counter of one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Temporal {
    /// Since when it has been true; `i64::MIN` while it is not.
    pub since: i64,
    /// The last reading while true.
    pub last: i64,
    /// The readings that count, the oldest first; durations have none.
    #[allow(clippy::box_collection, reason = "most have none, and a thin pointer is small")]
    pub times: Option<Box<VecDeque<i64>>>,
}

impl Temporal {
    pub const fn new() -> Self {
        Self { since: i64::MIN, last: i64::MIN, times: None }
    }

    pub fn reset(&mut self) {
        self.since = i64::MIN;
        self.last = i64::MIN;
        if let Some(times) = &mut self.times {
            times.clear();
        }
    }

    pub fn is_pending(&self) -> bool {
        self.since != i64::MIN
    }

    /// Nothing is pending and nothing counts.
    pub fn is_at_rest(&self) -> bool {
        !self.is_pending() && self.times.as_ref().is_none_or(|times| times.is_empty())
    }
}

/// All that most states are: a duration runs, and the entry's time is that of
/// the last reading while true.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Waiting {
    /// Since when the condition has been true.
    pub since: i64,
}

impl Waiting {
    pub fn temporal(self, entry: &Entry) -> Temporal {
        Temporal { since: self.since, last: entry.at, times: None }
    }

    /// The state as a whole one.
    pub fn whole(self, device: u32, entry: &Entry) -> RuleState {
        RuleState {
            device,
            rule: entry.rule,
            at: entry.at,
            wake: i64::MAX,
            on: None,
            alarm: None,
            cleared_at: None,
            flaps: Flaps::default(),
            conditions: smallvec::smallvec![self.temporal(entry)],
            histories: SmallVec::new(),
        }
    }
}

/// The last states of a rule, the newest in bit 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flaps {
    bits: u32,
    count: u32,
    pub flapping: bool,
}

impl Flaps {
    pub fn push(&mut self, on: bool) {
        self.bits = ((self.bits << 1) | u32::from(on)) & ((1 << FLAP_STATES) - 1);
        self.count = (self.count + 1).min(FLAP_STATES);
    }

    /// The weighted share of changes, in percent: the newest weighs 1.2, the
    /// oldest 0.8. States that were not yet seen count as unchanged.
    pub fn share(self) -> f64 {
        let last = FLAP_STATES - 1;
        let mut sum = 0.0;
        for place in 0..self.count.saturating_sub(1).min(last) {
            let changed = (self.bits >> place) & 1 != (self.bits >> (place + 1)) & 1;
            if changed {
                sum += 1.2 - 0.4 * f64::from(place) / f64::from(last - 1);
            }
        }
        sum / f64::from(last) * 100.0
    }
}

/// The state of one rule for one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuleState {
    pub device: u32,
    pub rule: u32,
    /// The time of its latest round; never runs backwards.
    pub at: i64,
    /// When to look again although nothing arrives.
    #[serde(with = "unless_never")]
    pub wake: i64,
    pub on: Option<Box<On>>,
    pub alarm: Option<Box<Active>>,
    /// When it last ended by its rule or by time.
    pub cleared_at: Option<i64>,
    pub flaps: Flaps,
    /// Of the conditions that have a timer or a counter.
    pub conditions: SmallVec<[Temporal; 1]>,
    pub histories: SmallVec<[History; 1]>,
}

impl RuleState {
    pub fn new(rule: &Rule, device: u32, index: u32, at: i64) -> Self {
        Self {
            device,
            rule: index,
            at,
            wake: i64::MAX,
            on: None,
            alarm: None,
            cleared_at: None,
            flaps: Flaps::default(),
            conditions: (0..rule.slots).map(|_| Temporal::new()).collect(),
            histories: rule.histories.iter().map(|spec| History::new(spec.kind)).collect(),
        }
    }

    /// As [`RuleState::new`], in memory that another state leaves behind.
    pub fn begin(&mut self, rule: &Rule, device: u32, index: u32, at: i64) {
        (self.device, self.rule, self.at, self.wake) = (device, index, at, i64::MAX);
        (self.on, self.alarm, self.cleared_at) = (None, None, None);
        self.flaps = Flaps::default();
        self.conditions.resize_with(rule.slots, Temporal::new);
        self.reset_conditions();
        self.histories.clear();
        self.histories.extend(rule.histories.iter().map(|spec| History::new(spec.kind)));
    }

    /// What it is, if it only waits.
    pub fn waiting(&self, rule: &Rule) -> Option<Waiting> {
        rule.waits?;
        match self.conditions.as_slice() {
            [Temporal { since, last, times: None }] if *since != i64::MIN && *last == self.at => {
                let only = self.on.is_none()
                    && self.alarm.is_none()
                    && self.cleared_at.is_none()
                    && self.wake == i64::MAX
                    && self.flaps == Flaps::default();
                only.then_some(Waiting { since: *since })
            }
            _ => None,
        }
    }

    /// The rule was edited: the alarm stays, timers and counters begin anew.
    pub fn begin_anew(&mut self, rule: &Rule) {
        let fresh = Self::new(rule, self.device, self.rule, self.at);
        let old = std::mem::replace(self, fresh);
        (self.alarm, self.on, self.cleared_at) = (old.alarm, old.on, old.cleared_at);
        if self.on.is_none()
            && let Some(alarm) = &self.alarm
        {
            // It was flapping, and the rule's own view was off.
            self.on = Some(Box::new(On {
                severity: alarm.severity,
                since: old.at,
                last_true: old.at,
                clear_since: None,
                latched: false,
            }));
        }
    }

    /// All timers and counters as if nothing had been; the alarm is the caller's.
    pub fn reset_conditions(&mut self) {
        for condition in &mut self.conditions {
            condition.reset();
        }
    }

    /// True when forgetting it changes nothing.
    pub fn is_idle(&self, rule: &Rule) -> bool {
        let again = rule.switches.re_alarm_after;
        let resting = self.cleared_at.is_none_or(|at| at.saturating_add(again) <= self.at);
        self.on.is_none()
            && self.alarm.is_none()
            && resting
            && self.wake == i64::MAX
            && self.conditions.iter().all(Temporal::is_at_rest)
    }

    /// The earliest time at which it must be looked at although nothing arrives.
    pub fn deadline(&self, rule: &Rule) -> i64 {
        let mut earliest = self.wake;
        let mut add = |at: i64| {
            if at > self.at {
                earliest = earliest.min(at);
            }
        };
        for (slot, length) in &rule.durations {
            let temporal = &self.conditions[*slot];
            if temporal.is_pending() {
                add(temporal.since.saturating_add(*length));
            }
        }
        if let Some(on) = &self.on {
            if let Some(since) = on.clear_since {
                add(on.clear_due(since, rule));
            }
            if let Some(after) = rule.switches.auto_clear_after {
                add(on.last_true.saturating_add(after));
            }
        }
        if let Some(until) = self.alarm.as_ref().and_then(|alarm| alarm.shelved_until) {
            add(until.0);
        }
        earliest
    }
}

impl On {
    /// When a clear condition that is true since `since` ends the alarm.
    pub fn clear_due(&self, since: i64, rule: &Rule) -> i64 {
        let delayed = since.saturating_add(rule.switches.off_delay);
        delayed.max(self.since.saturating_add(rule.switches.min_on))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_changes_is_weighed() {
        let mut flaps = Flaps::default();
        for _ in 0..FLAP_STATES {
            flaps.push(false);
        }
        assert!(flaps.share().abs() < 1e-9);
        for state in 0..FLAP_STATES {
            flaps.push(state % 2 == 0);
        }
        assert!((flaps.share() - 100.0).abs() < 1e-9, "{}", flaps.share());
        let mut newest = Flaps::default();
        newest.push(false);
        newest.push(true);
        assert!((newest.share() - 6.0).abs() < 1e-9, "{}", newest.share());
    }
}
