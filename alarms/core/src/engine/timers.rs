//! Deadlines: what becomes due although nothing arrives.

use std::cmp::Reverse;

use schema::{TimestampMs, Transition, Value};

use super::Engine;
use super::scene::Trigger;
use super::state::{Entry, RuleState};
use crate::program::Rule;

impl Engine {
    /// The clock has come to `now`: fires, at their own times, the deadlines of
    /// all devices that have been silent for the grace, and those of tenants'
    /// own alarms. An earlier time than the clock's changes nothing. Returns
    /// whether anything was due.
    pub fn advance(&mut self, now: TimestampMs, out: &mut Vec<Transition>) -> bool {
        self.clock = self.clock.max(now.0);
        let mut fired = self.shelving_ends <= self.clock && self.end_shelving(out);
        while let Some(&Reverse((wake, index))) = self.wakes.peek() {
            if wake > self.clock {
                break;
            }
            self.wakes.pop();
            let device = &mut self.world.devices[index as usize];
            if device.queued != wake {
                continue;
            }
            device.queued = i64::MAX;
            self.find_deadlines(index);
            let (own, of_system) = self.wakes_of(index);
            // One that turns out to be due later waits for its turn, so that the
            // order is that of the state and not of how it came about.
            if own.min(of_system) <= wake {
                let horizon = self.clock.saturating_sub(self.options.grace_ms);
                if of_system <= self.clock {
                    self.fire_due(index, true, horizon, out);
                }
                if own <= self.clock {
                    let horizon = horizon.saturating_sub(self.lateness(index));
                    self.release(index, horizon, out);
                    self.fire_due(index, false, horizon, out);
                }
                fired = true;
            }
            self.queue(index);
        }
        fired
    }

    /// The clock's time at which [`Engine::advance`] next has something to do,
    /// if nothing arrives before; it may turn out to be nothing.
    #[must_use]
    pub fn next_deadline(&self) -> Option<TimestampMs> {
        let of_devices = self.wakes.peek().map_or(i64::MAX, |Reverse((wake, _))| *wake);
        let earliest = of_devices.min(self.shelving_ends);
        (earliest != i64::MAX).then_some(TimestampMs(earliest))
    }

    pub(crate) fn lateness(&self, index: u32) -> i64 {
        let class = self.world.device(index).class;
        let classes = &self.world.tenant_of(index).classes;
        classes.get(class as usize).map_or(0, |class| class.lateness)
    }

    /// When a device must be seen to: if it is silent till then, and whether it
    /// is or not, for the rules over the platform's keys. The latest time there
    /// is stands for never.
    fn wakes_of(&self, index: u32) -> (i64, i64) {
        let device = self.world.device(index);
        let grace_ms = self.options.grace_ms;
        let of_system = device.system_deadline.saturating_add(grace_ms);
        let held = device.held.as_ref().and_then(|held| held.groups.front());
        let earliest = held.map_or(device.deadline, |group| device.deadline.min(group.at));
        if earliest == i64::MAX {
            return (i64::MAX, of_system);
        }
        let due = earliest.saturating_add(self.lateness(index));
        (due.max(device.received).saturating_add(grace_ms), of_system)
    }

    /// Puts a device in the queue of those to be seen to.
    pub(crate) fn queue(&mut self, index: u32) {
        let (own, of_system) = self.wakes_of(index);
        let wake = own.min(of_system);
        let device = &mut self.world.devices[index as usize];
        if wake < device.queued {
            device.queued = wake;
            self.wakes.push(Reverse((wake, index)));
        }
    }

    /// Finds the earliest deadlines of a device's rules anew.
    pub(crate) fn find_deadlines(&mut self, index: u32) {
        let (mut own, mut of_system) = (i64::MAX, i64::MAX);
        for entry in &self.world.device(index).states {
            let earliest = if self.is_of_system(entry.rule) { &mut of_system } else { &mut own };
            *earliest = self.deadline_of(entry).min(*earliest);
        }
        let device = &mut self.world.devices[index as usize];
        (device.deadline, device.system_deadline) = (own, of_system);
    }

    fn deadline_of(&self, entry: &Entry) -> i64 {
        match &self.rules[entry.rule as usize] {
            Some(rule) => self.states.deadline(entry, rule),
            None => i64::MAX,
        }
    }

    /// Fires a device's deadlines at or before `until`, the earliest first and
    /// those of one time in the order of their rules: those of the rules over
    /// the platform's keys, or of all others.
    pub(crate) fn fire_due(
        &mut self,
        index: u32,
        of_system: bool,
        until: i64,
        out: &mut Vec<Transition>,
    ) {
        loop {
            let entries = self.world.device(index).states.iter();
            let entries = entries.filter(|entry| self.is_of_system(entry.rule) == of_system);
            let next =
                entries.map(|entry| (self.deadline_of(entry), entry.rule)).min_by_key(|due| *due);
            let device = &mut self.world.devices[index as usize];
            let known = if of_system { &mut device.system_deadline } else { &mut device.deadline };
            *known = next.map_or(i64::MAX, |(at, _)| at);
            let Some((at, rule)) = next.filter(|(at, _)| *at <= until) else { return };
            self.round(index, rule, at, Trigger::deadline(at), &[], index, out);
        }
    }

    /// Fires one rule's deadlines at or before `until`.
    pub(crate) fn fire_rule_due(
        &mut self,
        index: u32,
        rule: u32,
        until: i64,
        out: &mut Vec<Transition>,
    ) {
        loop {
            let device = self.world.device(index);
            let Ok(place) = device.state_place(rule) else { return };
            let at = self.deadline_of(&device.states[place]);
            if at > until {
                return;
            }
            self.round(index, rule, at, Trigger::deadline(at), &[], index, out);
        }
    }

    /// Breaks the durations of all rules on the keys of a group before which a
    /// silence fell.
    pub(crate) fn interrupt_gaps(
        &mut self,
        index: u32,
        values: &[(super::KeyIndex, Value<'_>)],
        at: i64,
    ) {
        let device = &mut self.world.devices[index as usize];
        let class = &self.world.tenants[device.tenant as usize].classes[device.class as usize];
        for (key, _) in values {
            for &rule_index in class.list(class.list_of(key.0)) {
                if let (Ok(place), Some(rule)) =
                    (device.state_place(rule_index), &self.rules[rule_index as usize])
                {
                    self.states.break_durations(&mut device.states[place], rule, index, at);
                }
            }
        }
    }

    /// The same for one rule that looks at another device.
    pub(crate) fn interrupt_gap(&mut self, index: u32, rule_index: u32, at: i64) {
        let device = &mut self.world.devices[index as usize];
        if let (Ok(place), Some(rule)) =
            (device.state_place(rule_index), &self.rules[rule_index as usize])
        {
            self.states.break_durations(&mut device.states[place], rule, index, at);
        }
    }
}

/// Starts a rule's durations anew where its readings are further apart than
/// they are long: what was between is not known. A silence that the clock has
/// seen out has fired its deadline already.
pub(crate) fn break_durations(state: &mut RuleState, rule: &Rule, at: i64) {
    if !rule.switches.gap_breaks_duration {
        return;
    }
    for (slot, length) in &rule.durations {
        let temporal = &mut state.conditions[*slot];
        if temporal.is_pending() && at.saturating_sub(temporal.last) > *length {
            temporal.reset();
        }
    }
}
