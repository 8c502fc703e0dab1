//! One rule of one device with all that it may look at.

use std::sync::Arc;

use schema::{AlarmId, Cause, Originator, Severity, TimestampMs, Transition, TransitionKind};

use super::state::{Active, RuleState, UNTOLD};
use super::world::{Device, Keys, World};
use crate::identity;
use crate::limits::MAX_VALUES_BYTES;
use crate::program::{
    Context, History, HistoryKind, Holds, KeyRef, Kind, Rule, Shift, Touch, Zones,
};
use crate::value::Scalar;

/// Why a round is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trigger {
    pub cause: Cause,
    pub received_at: i64,
    /// A reading of the rule's keys, which counts and recurs; a deadline or an
    /// attribute does not.
    pub reading: bool,
    /// No deadline came before it, so nobody has looked yet whether a silence
    /// has broken the rule's durations.
    pub after_silence: bool,
}

impl Trigger {
    pub fn reading(cause: Cause, received_at: i64) -> Self {
        Self { cause, received_at, reading: true, after_silence: false }
    }

    pub fn change(cause: Cause, received_at: i64) -> Self {
        Self { cause, received_at, reading: false, after_silence: false }
    }

    /// The deadline at `at`.
    pub fn deadline(at: i64) -> Self {
        Self { cause: Cause::Deadline, received_at: at, reading: false, after_silence: false }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub rule: &'a Rule,
    pub world: &'a World,
    pub keys: &'a Keys,
    pub zones: &'a Zones,
    pub device: u32,
    /// The device itself, which every test of its own keys looks at.
    pub own: &'a Device,
}

/// A scene with the rule's memory.
pub(crate) struct View<'a> {
    pub scene: Scene<'a>,
    pub histories: &'a [History],
}

impl Context for View<'_> {
    fn last(&self, key: &KeyRef) -> Option<(&Scalar, i64)> {
        self.scene.last(key)
    }

    fn attribute(&self, name: u32) -> Option<&Scalar> {
        let device = self.scene.world.device(self.scene.device);
        let own = |platform: bool| {
            let mut found = device.attributes.iter().filter(|(key, _, _)| *key == name);
            found.find(|(_, by_platform, _)| *by_platform == platform).map(|(_, _, value)| value)
        };
        let shared = |list: &'_ [(u32, Scalar)]| list.iter().position(|(key, _)| *key == name);
        let location = self.scene.world.location_of(self.scene.device);
        let tenant = self.scene.world.tenant_of(self.scene.device);
        own(true)
            .or_else(|| own(false))
            .or_else(|| shared(&location.attributes).map(|place| &location.attributes[place].1))
            .or_else(|| shared(&tenant.attributes).map(|place| &tenant.attributes[place].1))
    }

    fn history(&self, place: usize) -> Option<&History> {
        self.histories.get(place)
    }

    fn history_kind(&self, place: usize) -> HistoryKind {
        self.scene.rule.histories[place].kind
    }
}

impl<'a> Scene<'a> {
    pub fn new(
        rule: &'a Rule,
        world: &'a World,
        keys: &'a Keys,
        zones: &'a Zones,
        device: u32,
    ) -> Self {
        Self { rule, world, keys, zones, device, own: world.device(device) }
    }

    #[inline]
    pub fn last(&self, key: &KeyRef) -> Option<(&'a Scalar, i64)> {
        self.last_of(key.device.as_deref(), key.key)
    }

    /// Of a device of the same location, or of the rule's own.
    #[inline]
    fn last_of(&self, device: Option<&str>, key: u32) -> Option<(&'a Scalar, i64)> {
        let device = match device {
            None => self.own,
            Some(name) => {
                let named = &self.world.location_of(self.device).named;
                self.world.device(*named.get(name)?)
            }
        };
        let cell = device.cell(key)?;
        Some((&cell.value, cell.at))
    }

    /// The time before which a rule at rest can't begin anything: the end of
    /// what it had going last, and the latest reading of its keys.
    #[inline]
    pub fn rest_until(&self, ended: i64, reading: bool) -> i64 {
        match self.rule.keys.as_slice() {
            // The one key's reading is what it begins with.
            [_] if reading => ended,
            keys => {
                let times = keys.iter().filter_map(|key| self.last(key));
                times.map(|(_, of)| of).fold(ended, i64::max)
            }
        }
    }

    /// True when a rule at rest has something to do at `at`: a raise condition
    /// holds, or may come to hold with no input.
    pub fn stirs(&self, at: i64) -> bool {
        let view = View { scene: *self, histories: &[] };
        self.rule.raises.iter().any(|(_, condition)| {
            let mut holds = Holds::new(at, Shift::None);
            holds.tree(&condition.tree, &view) || holds.wake != i64::MAX
        })
    }

    /// The round that nearly all are: no alarm, and the reading neither starts
    /// nor ends a timer or a counter. True when it was such a one, and is done;
    /// else nothing has changed that a round doesn't do again.
    pub fn rests(&self, state: &mut RuleState, at: i64, trigger: &Trigger) -> bool {
        if state.on.is_some()
            || state.alarm.is_some()
            || at < state.at
            || !trigger.reading
            || self.rule.switches.flapping.is_some()
        {
            return false;
        }
        let mut remembers = !self.rule.stateless_when_idle;
        for (_, condition) in &self.rule.raises {
            let view = View { scene: *self, histories: &state.histories };
            let mut holds = Holds::new(at, Shift::None);
            let held = holds.tree(&condition.tree, &view);
            if condition.schedule.is_some() || holds.wake != i64::MAX {
                return false;
            }
            let Some(slot) = condition.slot else {
                if held {
                    return false;
                }
                continue;
            };
            let temporal = &mut state.conditions[slot];
            match condition.kind {
                Kind::Duration(length) if held && temporal.is_pending() => {
                    if at - temporal.since >= length {
                        return false;
                    }
                    temporal.last = at;
                    remembers = true;
                }
                _ if held || !temporal.is_at_rest() => return false,
                _ => {}
            }
        }
        // A state with nothing in it is given back by a whole round.
        if remembers {
            (state.at, state.wake) = (at, i64::MAX);
        }
        remembers
    }

    /// The round that nearly all are of a rule whose duration runs: the reading
    /// only says that it still holds, as the one at `last` did. True when it was
    /// such a one; its time is then all that there is to be noted.
    pub fn keeps_waiting(&self, since: i64, last: i64, at: i64, trigger: &Trigger) -> bool {
        let Some(length) = self.rule.waits else { return false };
        let gap = at.saturating_sub(last) > length;
        let broken = trigger.after_silence && self.rule.switches.gap_breaks_duration && gap;
        if !trigger.reading || at < last || broken || at - since >= length {
            return false;
        }
        let view = View { scene: *self, histories: &[] };
        for (_, condition) in &self.rule.raises {
            let mut holds = Holds::new(at, Shift::None);
            let held = holds.tree(&condition.tree, &view);
            if condition.schedule.is_some()
                || holds.wake != i64::MAX
                || held != condition.slot.is_some()
            {
                return false;
            }
        }
        true
    }

    /// Puts touched readings into the rule's memory.
    pub fn remember(&self, state: &mut RuleState, touches: &[Touch], source: u32) {
        if self.rule.histories.is_empty() {
            return;
        }
        for (spec, history) in self.rule.histories.iter().zip(&mut state.histories) {
            let of = match &spec.key.device {
                None => Some(self.device),
                Some(name) => self.world.location_of(self.device).named.get(name).copied(),
            };
            if of != Some(source) {
                continue;
            }
            if let Some(touch) = touches.iter().find(|touch| touch.key == spec.key.key) {
                history.touch(spec.kind, touch);
            }
        }
    }

    /// A transition of the rule's alarm.
    pub fn transition(
        &self,
        alarm: &Active,
        kind: TransitionKind,
        at: i64,
        trigger: Trigger,
    ) -> Transition {
        let originator = Originator::Device(self.world.device(self.device).id);
        let at = TimestampMs(at);
        let id =
            identity::transition_id(originator, &self.rule.id, kind.as_str(), at, trigger.cause);
        Transition {
            id,
            alarm: alarm.id,
            tenant: self.rule.tenant,
            location: Some(self.world.location_of(self.device).id),
            originator,
            rule: self.rule.id.clone(),
            kind,
            at,
            received_at: TimestampMs(trigger.received_at),
            severity: alarm.severity,
            cause: trigger.cause,
            by: None,
            provenance: None,
            description: self.described(alarm.severity),
            values: self.values(),
        }
    }

    /// Makes the alarm's last `updated` transition tell of this time too, in the
    /// memory that it has.
    pub fn update(&self, last: &mut Transition, times: u32, at: i64, trigger: Trigger) {
        last.kind = TransitionKind::Updated { times };
        (last.at, last.received_at) = (TimestampMs(at), TimestampMs(trigger.received_at));
        last.cause = trigger.cause;
        last.description.clear();
        self.describe(last.severity, &mut last.description);
        last.values.clear();
        last.values.extend(self.known_values());
    }

    /// The values of the rule's keys, as far as they have room.
    fn values(&self) -> Vec<(Arc<str>, serde_json::Value)> {
        let mut values = Vec::with_capacity(self.rule.keys.len());
        values.extend(self.known_values());
        values
    }

    fn known_values(&self) -> impl Iterator<Item = (Arc<str>, serde_json::Value)> {
        let mut room = MAX_VALUES_BYTES;
        let known = self.rule.keys.iter().filter_map(|key| Some((key, self.last(key)?.0)));
        known.map_while(move |(key, value)| {
            room = room.checked_sub(key.name.len() + value.bytes())?;
            Some((key.name.clone(), value.to_json()))
        })
    }

    /// The raising transition and its alarm.
    pub fn raise(&self, severity: Severity, at: i64, trigger: Trigger) -> (Active, Transition) {
        let id = AlarmId(0);
        let mut alarm =
            Active { id, severity, acknowledged: false, shelved_until: None, updated_in: UNTOLD };
        let mut transition = self.transition(&alarm, TransitionKind::Raised, at, trigger);
        alarm.id = identity::alarm_id(transition.id);
        transition.alarm = alarm.id;
        (alarm, transition)
    }

    fn described(&self, severity: Severity) -> String {
        let mut text = String::new();
        self.describe(severity, &mut text);
        text
    }

    /// Writes the rule's description with its values behind `text`, which is empty.
    fn describe(&self, severity: Severity, text: &mut String) {
        self.rule.description.fill(text, |name, text| {
            match name {
                "device" => text.push_str(&self.own.name),
                "location" => text.push_str(&self.world.location_of(self.device).name),
                "rule" => text.push_str(&self.rule.id.key),
                "severity" => text.push_str(severity.as_str()),
                key => self.write_value(key, text)?,
            }
            Some(())
        });
    }

    /// Writes the last value of `key` or `device/key`; none where there is none.
    fn write_value(&self, written: &str, text: &mut String) -> Option<()> {
        let (device, key) = match written.split_once('/') {
            Some((device, key)) => (Some(device), key),
            None => (None, written),
        };
        let (value, _) = self.last_of(device, self.keys.find(key)?)?;
        value.write_text(text);
        Some(())
    }
}
