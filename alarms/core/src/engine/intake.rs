//! A group of readings on its way in: at once, or held back for earlier ones.
//!
//! What the platform says of a device is never held back, and lets nothing go.

use schema::{Transition, Value};

use super::scene::Trigger;
use super::world::{HeldGroup, Whose};
use super::{Engine, KeyIndex, Readings};
use crate::limits::MAX_HELD;
use crate::value::Scalar;

impl Engine {
    /// Takes in what one device observed at one time.
    pub fn readings(&mut self, readings: &Readings<'_>, out: &mut Vec<Transition>) {
        self.advance(readings.received_at, out);
        match self.keys.whose(readings.values) {
            Whose::Device => self.own_readings(readings, out),
            Whose::System => self.system_readings(readings, out),
            Whose::Both => {
                let of_system = |(key, _): &(KeyIndex, Value<'_>)| self.keys.is_of_system(key.0);
                let (system, own): (Vec<_>, Vec<_>) =
                    readings.values.iter().copied().partition(of_system);
                self.system_readings(&Readings { values: &system, ..*readings }, out);
                self.own_readings(&Readings { values: &own, ..*readings }, out);
            }
        }
    }

    fn system_readings(&mut self, readings: &Readings<'_>, out: &mut Vec<Transition>) {
        let trigger = Trigger::reading(readings.cause, readings.received_at.0);
        let (index, at) = (readings.device.0, readings.at.0);
        self.take_in_system(index, at, trigger, readings.values, out);
    }

    fn own_readings(&mut self, readings: &Readings<'_>, out: &mut Vec<Transition>) {
        let index = readings.device.0;
        let clock = self.clock;
        let device = &mut self.world.devices[index as usize];
        device.received = clock;
        let lateness =
            self.world.tenants[device.tenant as usize].classes[device.class as usize].lateness;
        if lateness == 0 && device.held.is_none() {
            let trigger = Trigger::reading(readings.cause, readings.received_at.0);
            self.take_in(index, readings.at.0, trigger, readings.values, out);
        } else {
            self.hold(index, lateness, readings, out);
        }
    }

    /// Holds a group back, and takes in all whose time has come.
    fn hold(
        &mut self,
        index: u32,
        lateness: i64,
        readings: &Readings<'_>,
        out: &mut Vec<Transition>,
    ) {
        let group = HeldGroup {
            at: readings.at.0,
            received_at: readings.received_at.0,
            cause: readings.cause,
            values: readings.values.iter().map(|(key, value)| (key.0, (*value).into())).collect(),
        };
        let held = self.world.devices[index as usize].held.get_or_insert_default();
        held.insert(group);
        let over = held.groups.len() > MAX_HELD;
        let mut until = held.newest.saturating_sub(lateness);
        if over {
            until = until.max(held.groups.front().map_or(until, |group| group.at));
            self.tally.released_early += 1;
        }
        self.release(index, until, out);
        self.queue(index);
    }

    /// Takes in, in time order, what is held at or before `until`.
    pub(crate) fn release(&mut self, index: u32, until: i64, out: &mut Vec<Transition>) {
        let mut values: Vec<(u32, Scalar)>;
        loop {
            let device = &mut self.world.devices[index as usize];
            let Some(held) = &mut device.held else { return };
            if held.groups.front().is_none_or(|group| group.at > until) {
                if held.groups.is_empty() {
                    device.held = None;
                }
                return;
            }
            let Some(group) = held.groups.pop_front() else { return };
            values = group.values;
            let borrowed: Vec<(KeyIndex, Value<'_>)> =
                values.iter().map(|(key, value)| (KeyIndex(*key), value.as_value())).collect();
            let trigger = Trigger::reading(group.cause, group.received_at);
            self.take_in(index, group.at, trigger, &borrowed, out);
        }
    }

    /// Brings one rule of a device up to `at`, before something else than a
    /// reading is done to it: takes in what is held until then, each at its own
    /// time, and fires what is due.
    pub(crate) fn catch_up(&mut self, index: u32, rule: u32, at: i64, out: &mut Vec<Transition>) {
        if !self.is_of_system(rule) {
            self.release(index, at, out);
        }
        self.fire_rule_due(index, rule, at, out);
    }

    pub(crate) fn is_of_system(&self, rule: u32) -> bool {
        self.rules[rule as usize].as_ref().is_some_and(|rule| rule.of_system)
    }
}
