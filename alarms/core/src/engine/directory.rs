//! What the directory says anew of devices and locations that were met.
//!
//! A device that is deleted leaves its place empty, and the next that is met
//! takes the lowest empty one, so that a replay gives each the same place.

use schema::{Cause, ClearReason, DeviceId, LocationId, TimestampMs, Transition, TransitionKind};

use super::scene::{Scene, Trigger};
use super::world::LocationText;
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

    /// A location has another name or time zone, or is in other groups: rules
    /// that are no longer for its devices end, others begin with the next
    /// reading. An older document than the one that is known changes nothing.
    pub(super) fn change_location(
        &mut self,
        id: LocationId,
        text: &LocationText<'_>,
        (at, cause): (TimestampMs, Cause),
        out: &mut Vec<Transition>,
    ) {
        let Some(place) = self.world.location_place(id) else { return };
        let location = &self.world.locations[place as usize];
        if text.version < location.version {
            return;
        }
        if location.groups.iter().map(AsRef::as_ref).eq(text.groups) {
            self.world.describe_location(place, text, &mut self.zones);
            return;
        }
        let devices = location.devices.clone();
        let leaving: Vec<(u32, u32)> =
            devices.iter().flat_map(|&index| self.leaving(index, text.groups)).collect();
        for &(index, rule) in &leaving {
            self.fire_rule_due(index, rule, at.0, out);
        }
        self.world.describe_location(place, text, &mut self.zones);
        for &index in &devices {
            self.classify(index);
        }
        self.wire_location(place);
        let trigger = Trigger::change(cause, at.0);
        for (index, rule) in leaving {
            self.end_rule(index, rule, ClearReason::RuleRemoved, at.0, trigger, out);
        }
        for index in devices {
            self.world.devices[index as usize].deadline = self.earliest(index);
            self.queue(index);
        }
    }

    /// The rules with something to remember of a device that are not for it
    /// once its location is in these groups.
    fn leaving(&self, index: u32, groups: &[String]) -> Vec<(u32, u32)> {
        let device = self.world.device(index);
        let location = self.world.location_of(index);
        let stays = |rule: u32| {
            let rule = self.rules[rule as usize].as_ref();
            let profile = rule.and_then(|rule| self.profiles.get(&rule.id.profile));
            let document = profile.and_then(|profile| profile.document.as_ref());
            document.is_some_and(|it| it.applies_to.includes_location(location.id, groups))
        };
        let rules = device.states.iter().map(|entry| entry.rule);
        rules.filter(|rule| !stays(*rule)).map(|rule| (index, rule)).collect()
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
