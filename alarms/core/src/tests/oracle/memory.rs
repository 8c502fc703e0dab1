//! The naive evaluator's rounds: the rows of the lifecycle and the switches of
//! a rule, for one device.

use std::collections::{BTreeMap, BTreeSet};

use schema::{AlarmRule, ClearReason, Severity, TransitionKind};

use super::compare::Shift;
use super::naive::Naive;
use super::text::{ages, clear_at, conditions, keys_of, looks_back, raises, seconds};

/// The alarm as everybody sees it.
#[derive(Clone, Debug)]
pub struct Alarm {
    pub number: usize,
    pub severity: Severity,
    pub acknowledged: bool,
    pub shelved_until: Option<i64>,
}

/// The rule's own view, which is another only while flapping.
#[derive(Clone, Debug)]
pub struct On {
    pub severity: Severity,
    since: i64,
    last_true: i64,
    clear_since: Option<i64>,
    pub latched: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Timer {
    pub since: Option<i64>,
    pub last: i64,
    pub times: Vec<i64>,
}

impl Timer {
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The time of its latest round, or when it last had something going.
    pub at: Option<i64>,
    /// Something is going on: it is active, waits, counts or looks back.
    pub alive: bool,
    pub alarm: Option<Alarm>,
    pub on: Option<On>,
    pub cleared_at: Option<i64>,
    pub timers: BTreeMap<String, Timer>,
    /// The conditions that the last round looked at; their ages can flip.
    pub looked_at: BTreeSet<String>,
    /// Those of them that only the schedule keeps from being true.
    pub off_schedule: BTreeSet<String>,
    /// True, too soon after a clear.
    held: bool,
    /// Active or not after each reading, the oldest first.
    pub states: Vec<bool>,
    pub flapping: bool,
    /// Since when the rule knows the readings of a key.
    pub known_since: BTreeMap<String, i64>,
    /// Keys of which it knew a correction first, and when that was: what stood
    /// before the corrected reading it does not know.
    pub known_by_correction: BTreeMap<String, i64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Raise {
    True(Severity),
    Kept,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    Nothing,
    On,
    Severity,
    Again,
    Off(ClearReason),
}

impl Memory {
    /// The rule was edited: the alarm stays, all else begins anew.
    pub fn begin_anew(&mut self) {
        let old = std::mem::take(self);
        let at = old.at.unwrap_or(0);
        let on = match (&old.alarm, old.on) {
            (Some(_), Some(on)) => Some(on),
            (Some(Alarm { severity, .. }), None) => Some(On {
                severity: *severity,
                since: at,
                last_true: at,
                clear_since: None,
                latched: false,
            }),
            (None, _) => None,
        };
        let (alive, cleared_at) = (old.alive, old.cleared_at);
        *self = Self { at: old.at, alive, alarm: old.alarm, on, cleared_at, ..Self::default() };
    }

    /// What has ended an alarm that waits for its acknowledgement: the end of
    /// its time, unless the clear condition has come to its end too.
    pub fn why_latched(&self, rule: &AlarmRule) -> ClearReason {
        let (Some(on), Some(at)) = (&self.on, self.at) else { return ClearReason::Condition };
        let by_rule = on.clear_since.is_some_and(|since| clear_due(rule, on, since) <= at);
        let after = rule.auto_clear_after.map(|after| after.0 / 1_000);
        let by_time = after.is_some_and(|after| on.last_true + after <= at);
        if by_time && !by_rule { ClearReason::Time } else { ClearReason::Condition }
    }

    /// The weighed share of changes among the last 21 states, in percent.
    pub fn share(&self) -> f64 {
        let newest_first: Vec<bool> = self.states.iter().rev().take(21).copied().collect();
        let weighed = newest_first.windows(2).enumerate().map(|(place, pair)| {
            let weight = 1.2 - 0.4 * place as f64 / 19.0;
            if pair[0] == pair[1] { 0.0 } else { weight }
        });
        weighed.sum::<f64>() / 20.0 * 100.0
    }
}

fn clear_due(rule: &AlarmRule, on: &On, since: i64) -> i64 {
    (since + seconds(rule.off_delay)).max(on.since + seconds(rule.min_on))
}

impl Naive {
    /// When the rule must be looked at again although nothing arrives: the
    /// first such second behind its last round, up to `until`.
    pub fn deadline(
        &self,
        device: usize,
        rule: &AlarmRule,
        memory: &Memory,
        until: i64,
    ) -> Option<i64> {
        let last = memory.at?;
        let mut all: Vec<i64> = Vec::new();
        for (name, condition) in conditions(rule) {
            let since = memory.timers.get(&name).and_then(|timer| timer.since);
            let length = condition.holds_for.map(|length| length.0 / 1_000);
            all.extend(since.zip(length).map(|(since, length)| since + length));
            if memory.looked_at.contains(&name) {
                let of = |(key, length)| self.last(device, key).map(|(at, _)| at + length);
                all.extend(ages(condition).into_iter().filter_map(of));
            }
            if memory.off_schedule.contains(&name) {
                let begins = |second: &i64| {
                    self.on_schedule(rule, &name, condition, *second)
                        && !self.on_schedule(rule, &name, condition, second - 1)
                };
                all.extend((last + 1..=until).find(begins));
            }
        }
        if let Some(on) = &memory.on {
            all.extend(on.clear_since.map(|since| clear_due(rule, on, since)));
            all.extend(rule.auto_clear_after.map(|after| on.last_true + after.0 / 1_000));
        }
        all.extend(memory.alarm.as_ref().and_then(|alarm| alarm.shelved_until));
        if memory.held {
            all.extend(memory.cleared_at.map(|at| at + seconds(rule.re_alarm_after)));
        }
        all.into_iter().filter(|second| last < *second && *second <= until).min()
    }

    /// One round; nothing happens where nothing goes on and nothing stirs.
    pub fn round(&mut self, device: usize, rule: &AlarmRule, at: i64, reading: bool) {
        let keys = keys_of(rule);
        let times = keys.iter().filter_map(|key| self.last(device, key)).map(|(at, _)| at);
        let latest = times.max().unwrap_or(at);
        let memory = self.memory(device, &rule.key);
        let mut now = at.max(memory.at.unwrap_or(at));
        if !memory.alive {
            now = now.max(latest);
            let stirs = raises(rule).iter().any(|(_, _, condition)| {
                let flips = |(key, length): &(&str, i64)| {
                    self.last(device, key).is_some_and(|(at, _)| at + length > now)
                };
                self.holds(device, rule, condition, now, Shift::None)
                    || ages(condition).iter().any(flips)
            });
            if !stirs && !looks_back(rule) {
                return;
            }
        }
        let memory = self.memory(device, &rule.key);
        (memory.at, memory.alive, memory.held) = (Some(now), true, false);
        memory.looked_at.clear();
        memory.off_schedule.clear();
        if let Some(alarm) = &mut memory.alarm
            && alarm.shelved_until.is_some_and(|until| until <= now)
        {
            alarm.shelved_until = None;
            self.tell(device, &rule.key, now, TransitionKind::Unshelved { by_time: true });
        }
        let raise = self.raise(device, rule, now, reading);
        let decision = self.decide(device, rule, raise, now, reading);
        self.tell_decision(device, rule, decision, now, reading);
        self.rest(device, rule, now);
    }

    /// Nothing goes on any more: all but the time is forgotten.
    pub fn rest(&mut self, device: usize, rule: &AlarmRule, now: i64) {
        let flips = conditions(rule).into_iter().any(|(name, condition)| {
            let looked = self.memories[&(device, rule.key.clone())].looked_at.contains(&name);
            let later = |(key, length): &(&str, i64)| {
                self.last(device, key).is_some_and(|(at, _)| at + length > now)
            };
            looked && ages(condition).iter().any(later)
        });
        let memory = self.memory(device, &rule.key);
        let again = seconds(rule.re_alarm_after);
        let busy = memory.on.is_some()
            || memory.alarm.is_some()
            || memory.cleared_at.is_some_and(|cleared| cleared + again > now)
            || memory.held
            || !memory.off_schedule.is_empty()
            || memory.timers.values().any(|timer| timer.since.is_some() || !timer.times.is_empty());
        if !busy && !flips && !looks_back(rule) {
            *memory = Memory { at: memory.at, ..Memory::default() };
        }
    }

    /// Row 1: the worst first, and none behind the first that is true.
    fn raise(&mut self, device: usize, rule: &AlarmRule, at: i64, reading: bool) -> Raise {
        let deadband = rule.deadband.unwrap_or(0.0);
        let all = raises(rule);
        for (place, (severity, name, condition)) in all.iter().cloned().enumerate() {
            let passed_over: Vec<&String> =
                all[place + 1..].iter().map(|(_, name, _)| name).collect();
            let full = self.condition(device, rule, &name, condition, at, Shift::None, reading);
            if full == Some(true) {
                self.hear(device, rule, &passed_over, at, reading);
                return Raise::True(severity);
            }
            let memory = self.memory(device, &rule.key);
            let current = memory.on.as_ref().is_some_and(|on| on.severity == severity);
            if rule.de_escalate && deadband > 0.0 && current && full.is_none() {
                let shift = Shift::Short(deadband);
                let holds = self.holds(device, rule, condition, at, shift);
                let on = self.on_schedule(rule, &name, condition, at);
                if holds && !on {
                    self.memory(device, &rule.key).off_schedule.insert(name);
                } else if holds {
                    self.hear(device, rule, &passed_over, at, reading);
                    return Raise::Kept;
                }
            }
        }
        Raise::No
    }

    /// A reading came, though these conditions were not looked at: no silence.
    fn hear(&mut self, device: usize, rule: &AlarmRule, names: &[&String], at: i64, reading: bool) {
        let timers = &mut self.memory(device, &rule.key).timers;
        for name in names.iter().filter(|_| reading) {
            if let Some(timer) = timers.get_mut(*name).filter(|timer| timer.since.is_some()) {
                timer.last = at;
            }
        }
    }

    /// Runs a condition's timer or counter. None while it does not hold at all,
    /// false while its time or count is not full.
    #[allow(clippy::too_many_arguments)]
    fn condition(
        &mut self,
        device: usize,
        rule: &AlarmRule,
        name: &str,
        condition: &schema::Condition,
        at: i64,
        shift: Shift,
        reading: bool,
    ) -> Option<bool> {
        let holds = self.holds(device, rule, condition, at, shift);
        let on_schedule = self.on_schedule(rule, name, condition, at);
        let started = |since: i64| {
            let off = (since..at).rev().find(|s| !self.on_schedule(rule, name, condition, *s));
            off.map_or(since, |off| off + 1)
        };
        let memory = self.memories.get(&(device, rule.key.clone())).cloned().unwrap_or_default();
        let mut timer = memory.timers.get(name).cloned().unwrap_or_default();
        let full = if !holds || !on_schedule {
            timer.reset();
            None
        } else if let Some(length) = condition.holds_for {
            let fresh = timer.since.is_none();
            let since = timer.since.map_or(at, started);
            timer.since = Some(since);
            if reading || fresh {
                timer.last = at;
            }
            Some(at - since >= length.0 / 1_000)
        } else if let Some(times) = condition.times {
            let begin = timer.times.first().map_or(at, |first| started(*first));
            timer.times.retain(|time| *time >= begin);
            if reading && timer.times.last().is_none_or(|last| at > *last) {
                timer.times.push(at);
            }
            let within = condition.within.map_or(i64::MAX, |within| within.0 / 1_000);
            timer.times.retain(|time| at - time < within);
            Some(timer.times.len() >= times as usize)
        } else {
            Some(true)
        };
        let memory = self.memory(device, &rule.key);
        memory.timers.insert(name.to_owned(), timer);
        memory.looked_at.insert(name.to_owned());
        if holds && !on_schedule {
            memory.off_schedule.insert(name.to_owned());
        }
        full
    }

    fn decide(
        &mut self,
        device: usize,
        rule: &AlarmRule,
        raise: Raise,
        at: i64,
        reading: bool,
    ) -> Decision {
        let memory = self.memory(device, &rule.key);
        let Some(on) = memory.on.clone() else {
            return match raise {
                Raise::True(severity) => self.turn_on(device, rule, severity, at),
                Raise::Kept | Raise::No => Decision::Nothing,
            };
        };
        if raise == Raise::No {
            return self.clear(device, rule, on, at, reading);
        }
        // Row 3.
        memory.timers.retain(|name, _| !name.starts_with("clear"));
        let on = memory.on.as_mut().unwrap();
        (on.clear_since, on.latched) = (None, false);
        let Raise::True(severity) = raise else { return self.time_out(device, rule, at) };
        // Row 5.
        if severity > on.severity || (severity < on.severity && rule.de_escalate) {
            (on.severity, on.last_true) = (severity, at);
            return Decision::Severity;
        }
        if !reading {
            return self.time_out(device, rule, at);
        }
        on.last_true = at;
        if severity == on.severity { Decision::Again } else { Decision::Nothing }
    }

    fn turn_on(
        &mut self,
        device: usize,
        rule: &AlarmRule,
        severity: Severity,
        at: i64,
    ) -> Decision {
        let memory = self.memory(device, &rule.key);
        if memory.cleared_at.is_some_and(|cleared| at < cleared + seconds(rule.re_alarm_after)) {
            memory.held = true;
            return Decision::Nothing;
        }
        let of_rule = self.memories.iter().filter(|((_, key), _)| *key == rule.key);
        let active = of_rule.filter(|(_, memory)| memory.alarm.is_some()).count();
        let most = rule.max_active.map_or(usize::MAX, |most| most as usize);
        let memory = self.memory(device, &rule.key);
        if memory.alarm.is_none() && active >= most {
            if self.limits.insert(rule.key.clone()) {
                self.tell_limit(rule, at, TransitionKind::Raised);
            }
            return Decision::Nothing;
        }
        let (clear_since, latched) = (None, false);
        memory.on = Some(On { severity, since: at, last_true: at, clear_since, latched });
        Decision::On
    }

    /// Row 4, with the delays and the latch.
    fn clear(
        &mut self,
        device: usize,
        rule: &AlarmRule,
        mut on: On,
        at: i64,
        reading: bool,
    ) -> Decision {
        let shift = Shift::Past(rule.deadband.unwrap_or(0.0));
        let over = clear_at(rule, on.severity).is_some_and(|(name, condition)| {
            self.condition(device, rule, &name, condition, at, shift, reading) == Some(true)
        });
        on.clear_since = over.then(|| on.clear_since.unwrap_or(at));
        let ends = on.clear_since.is_some_and(|since| at >= clear_due(rule, &on, since));
        self.memory(device, &rule.key).on = Some(on);
        if ends {
            self.end(device, rule, at, ClearReason::Condition)
        } else {
            self.time_out(device, rule, at)
        }
    }

    fn time_out(&mut self, device: usize, rule: &AlarmRule, at: i64) -> Decision {
        let on = self.memory(device, &rule.key).on.clone().unwrap();
        match rule.auto_clear_after {
            Some(after) if at >= on.last_true + after.0 / 1_000 => {
                self.end(device, rule, at, ClearReason::Time)
            }
            _ => Decision::Nothing,
        }
    }

    fn end(&mut self, device: usize, rule: &AlarmRule, at: i64, reason: ClearReason) -> Decision {
        let memory = self.memory(device, &rule.key);
        let acknowledged = memory.alarm.as_ref().is_none_or(|alarm| alarm.acknowledged);
        if rule.latch && !acknowledged {
            memory.on.as_mut().unwrap().latched = true;
            return Decision::Nothing;
        }
        memory.on = None;
        memory.cleared_at = Some(at);
        memory.timers.clear();
        if reason == ClearReason::Time {
            memory.states.clear();
            memory.flapping = false;
        }
        Decision::Off(reason)
    }
}
