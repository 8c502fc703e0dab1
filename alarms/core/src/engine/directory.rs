//! What the directory says anew of devices and locations that were met.
//!
//! A device that is deleted leaves its place empty, and the next that is met
//! takes the lowest empty one, so that a replay gives each the same place.

use schema::{Cause, ClearReason, DeviceId, LocationId, TimestampMs, Transition, TransitionKind};

use super::scene::{Scene, Trigger};
use super::world::LocationText;
use super::{DeviceIndex, Engine};

/// What a device's document says.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeviceText<'a> {
    pub version: u64,
    pub name: &'a str,
    pub device_type: Option<&'a str>,
}

impl Engine {
    /// A device has another name or type: rules that are no longer for it end,
    /// others begin with its next reading. An older document than the one that
    /// is known changes nothing.
    pub(super) fn change_device(
        &mut self,
        id: DeviceId,
        text: &DeviceText<'_>,
        (at, cause): (TimestampMs, Cause),
        out: &mut Vec<Transition>,
    ) {
        let Some(DeviceIndex(index)) = self.device(id) else { return };
        let device = &mut self.world.devices[index as usize];
        if text.version < device.version {
            return;
        }
        device.version = text.version;
        if &*device.name == text.name && device.device_type.as_deref() == text.device_type {
            return;
        }
        let location = device.location;
        self.release(index, at.0, out);
        let groups = self.world.location_of(index).groups.clone();
        let leaving = self.leaving(index, text.name, text.device_type, &groups);
        for &(index, rule) in &leaving {
            self.fire_rule_due(index, rule, at.0, out);
        }
        let device = &mut self.world.devices[index as usize];
        device.name = text.name.into();
        device.device_type = text.device_type.map(Into::into);
        self.classify(index);
        self.wire_location(location);
        let trigger = Trigger::change(cause, at.0);
        for (index, rule) in leaving {
            self.end_rule(index, rule, ClearReason::RuleRemoved, at.0, trigger, out);
        }
        self.find_deadlines(index);
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
        self.release(index, at.0, out);
        self.fire_due(index, false, at.0, out);
        self.fire_due(index, true, at.0, out);
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
    /// reading, and those with a schedule look again at what time it is. An
    /// older document than the one that is known changes nothing.
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
        let moves = !location.groups.iter().map(AsRef::as_ref).eq(text.groups);
        let other_time = &*location.time_zone != text.time_zone;
        if !moves && !other_time {
            self.world.describe_location(place, text, &mut self.zones);
            return;
        }
        let devices = location.devices.clone();
        let (mut leaving, mut timed) = (Vec::new(), Vec::new());
        for &index in &devices {
            self.release(index, at.0, out);
        }
        for &index in &devices {
            let device = self.world.device(index);
            let (name, kind) = (device.name.clone(), device.device_type.clone());
            leaving.extend(self.leaving(index, &name, kind.as_deref(), text.groups));
            timed.extend(self.on_local_time(index).into_iter().filter(|_| other_time));
        }
        for &(index, rule) in leaving.iter().chain(&timed) {
            self.fire_rule_due(index, rule, at.0, out);
        }
        self.world.describe_location(place, text, &mut self.zones);
        if moves {
            for &index in &devices {
                self.classify(index);
            }
            self.wire_location(place);
        }
        let trigger = Trigger::change(cause, at.0);
        for (index, rule) in leaving {
            self.end_rule(index, rule, ClearReason::RuleRemoved, at.0, trigger, out);
        }
        for (index, rule) in timed {
            if self.is_for(index, rule) {
                self.round(index, rule, at.0, trigger, &[], index, out);
            }
        }
        for index in devices {
            self.find_deadlines(index);
            self.queue(index);
        }
    }

    /// The rules of a device with a schedule by the time of its location.
    fn on_local_time(&self, index: u32) -> Vec<(u32, u32)> {
        let device = self.world.device(index);
        let class = &self.world.tenant_of(index).classes[device.class as usize];
        let local = |rule: &u32| {
            let rule = self.rules[*rule as usize].as_ref();
            rule.is_some_and(crate::program::Rule::is_on_local_time)
        };
        let rules = class.rules.iter().copied().filter(local);
        rules.filter(|rule| self.is_for(index, *rule)).map(|rule| (index, rule)).collect()
    }

    /// The rules with something to remember of a device that are not for it
    /// once it has this name and type and its location is in these groups.
    fn leaving<G: AsRef<str>>(
        &self,
        index: u32,
        name: &str,
        device_type: Option<&str>,
        groups: &[G],
    ) -> Vec<(u32, u32)> {
        let device = self.world.device(index);
        let location = self.world.location_of(index);
        let stays = |index: u32| {
            let Some(rule) = &self.rules[index as usize] else { return false };
            let profile = self.profiles.get(&rule.id.profile);
            let document = profile.and_then(|profile| profile.document.as_ref());
            rule.anchor.as_deref().is_none_or(|anchor| anchor == name)
                && document.is_some_and(|document| {
                    document.applies_to.includes(device.id, location.id, groups, device_type)
                })
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
