//! What the directory says anew of devices and locations that were met.
//!
//! A device that is deleted leaves its place empty, and the next that is met
//! takes the lowest empty one, so that a replay gives each the same place.

use schema::{Cause, ClearReason, DeviceId, LocationId, TimestampMs, Transition, TransitionKind};

use super::scene::{Scene, Trigger};
use super::{DeviceIndex, Engine, state};

impl Engine {
    /// A device has another name or type: rules that are no longer for it end,
    /// others begin with its next reading.
    pub(super) fn change_device(
        &mut self,
        id: DeviceId,
        name: &str,
        device_type: Option<&str>,
        (at, cause): (TimestampMs, Cause),
        out: &mut Vec<Transition>,
    ) {
        let Some(DeviceIndex(index)) = self.device(id) else { return };
        let device = &mut self.world.devices[index as usize];
        if &*device.name == name && device.device_type.as_deref() == device_type {
            return;
        }
        device.name = name.into();
        device.device_type = device_type.map(Into::into);
        let location = device.location;
        let rules: Vec<u32> = device.states.iter().map(|entry| entry.rule).collect();
        self.classify(index);
        self.wire_location(location);
        let trigger = Trigger::change(cause, at.0);
        for rule in rules {
            if !self.is_for(index, rule) {
                self.end_rule(index, rule, ClearReason::RuleRemoved, at.0, trigger, out);
            }
        }
        self.world.devices[index as usize].deadline = self.earliest(index);
        self.queue(index);
    }

    /// Whether a rule runs for a device as it is now.
    pub(super) fn is_for(&self, index: u32, rule: u32) -> bool {
        let device = self.world.device(index);
        let class = &self.world.tenant_of(index).classes[device.class as usize];
        let anchor = self.rules[rule as usize].as_ref().and_then(|rule| rule.anchor.as_ref());
        class.rules.binary_search(&rule).is_ok() && anchor.is_none_or(|name| *name == device.name)
    }

    /// A device is gone: its alarms end, and all that was remembered of it.
    pub(super) fn delete_device(
        &mut self,
        id: DeviceId,
        (at, cause): (TimestampMs, Cause),
        out: &mut Vec<Transition>,
    ) {
        let Some(DeviceIndex(index)) = self.device(id) else { return };
        let states = &self.world.device(index).states;
        let rules: Vec<u32> = states.iter().map(|entry| entry.rule).collect();
        let trigger = Trigger::change(cause, at.0);
        for rule in rules {
            self.end_rule(index, rule, ClearReason::DeviceRemoved, at.0, trigger, out);
        }
        self.device_index.remove(id);
        let location = self.world.remove(index);
        self.wire_location(location);
    }

    /// A location has another name or time zone.
    pub(super) fn change_location(&mut self, id: LocationId, name: &str, time_zone: &str) {
        self.world.describe_location(id, name, time_zone, &mut self.zones);
    }

    /// Forgets what a rule remembers of a device; its alarm is cleared.
    pub(super) fn end_rule(
        &mut self,
        device: u32,
        index: u32,
        reason: ClearReason,
        at: i64,
        trigger: Trigger,
        out: &mut Vec<Transition>,
    ) {
        let Ok(place) = self.world.device(device).state_place(index) else { return };
        let entry = self.world.devices[device as usize].states.remove(place);
        if entry.state == state::NONE {
            return;
        }
        let Some(mut rule_state) = self.states.remove(entry.state) else { return };
        let Some(rule) = &self.rules[index as usize] else { return };
        let scene = Scene::new(rule, &self.world, &self.keys, &self.zones, device);
        if let Some(alarm) = &rule_state.alarm {
            out.push(scene.transition(alarm, TransitionKind::Cleared { reason }, at, trigger));
            let count = &mut self.counts[index as usize];
            scene.forget(&mut rule_state, count, at, trigger, out);
        }
    }
}
