//! What enters besides readings: what people do to alarms, and profiles that
//! are new, changed or gone.

use std::sync::Arc;

use schema::{
    AlarmAction, AlarmId, AlarmProfile, Cause, ClearReason, Command, CommandBody, DeviceId,
    LocationId, Originator, ProfileId, Provenance, RuleId, Severity, TenantId, TimestampMs,
    Transition, TransitionKind,
};

use super::directory::DeviceText;
use super::limit::RuleCount;
use super::scene::{Scene, Trigger};
use super::state::{Active, Flaps, RuleState, UNTOLD};
use super::tenant_alarms::Said;
use super::world::{GONE, LocationText};
use super::{Engine, Profile};
use crate::identity;
use crate::program::{self, Report, Rule};
use crate::value::Scalar;

/// What somebody does to one alarm.
pub(super) struct Deed<'a> {
    pub alarm: AlarmId,
    pub tenant: TenantId,
    device: Option<DeviceId>,
    location: Option<LocationId>,
    rule: &'a RuleId,
    severity: Severity,
    by: &'a Arc<str>,
    provenance: Option<&'a Arc<Provenance>>,
    pub action: &'a AlarmAction,
    pub at: TimestampMs,
    pub cause: Cause,
}

impl Engine {
    /// Applies a command from the journal.
    ///
    /// # Errors
    /// A profile that does not pass [`crate::check`]; nothing has changed then.
    pub fn command(
        &mut self,
        command: &Command,
        cause: Cause,
        out: &mut Vec<Transition>,
    ) -> Result<(), Report> {
        self.advance(command.at, out);
        match &command.body {
            CommandBody::Alarm {
                alarm,
                device,
                location,
                rule,
                severity,
                by,
                provenance,
                action,
            } => {
                self.deed(
                    &Deed {
                        alarm: *alarm,
                        tenant: command.tenant,
                        device: *device,
                        location: *location,
                        rule,
                        severity: *severity,
                        by,
                        provenance: provenance.as_ref(),
                        action,
                        at: command.at,
                        cause,
                    },
                    out,
                );
                Ok(())
            }
            CommandBody::TenantAlarm { key, active, severity, description, values } => {
                let (tenant, active, severity) = (command.tenant, *active, *severity);
                let said = Said { tenant, key, active, severity, description, values };
                self.tenant_alarm(&said, (command.at, cause), out);
                Ok(())
            }
            CommandBody::ActiveElsewhere { rule, active } => {
                self.set_elsewhere(rule, *active, (command.at, cause), out);
                Ok(())
            }
            CommandBody::ProfileSaved { profile, version, body } => {
                let change = (*profile, *version, Some(body.clone()));
                self.change_profile(command.tenant, change, command.at.0, cause, out)
            }
            CommandBody::ProfileDeleted { profile, version } => {
                let change = (*profile, *version, None);
                self.change_profile(command.tenant, change, command.at.0, cause, out)
            }
            CommandBody::Attribute { location, key, value } => {
                let value = value.as_ref().and_then(Scalar::from_json);
                self.shared_attribute(command, *location, key, value, cause, out);
                Ok(())
            }
            CommandBody::DeviceChanged { device, version, name, device_type } => {
                let device_type = device_type.as_deref();
                let text = DeviceText { version: *version, name, device_type };
                self.change_device(*device, &text, (command.at, cause), out);
                Ok(())
            }
            CommandBody::DeviceDeleted { device } => {
                self.delete_device(*device, (command.at, cause), out);
                Ok(())
            }
            CommandBody::LocationChanged { location, version, name, time_zone, groups } => {
                let text = LocationText { version: *version, name, time_zone, groups };
                self.change_location(*location, &text, (command.at, cause), out);
                Ok(())
            }
        }
    }

    /// The devices of a tenant that are there.
    pub(super) fn devices_of(&self, tenant: u32) -> Vec<u32> {
        let all = (0u32..).zip(&self.world.devices);
        let of_tenant = all.filter(|(_, device)| device.tenant == tenant && device.id != GONE);
        of_tenant.map(|(index, _)| index).collect()
    }

    fn deed(&mut self, deed: &Deed<'_>, out: &mut Vec<Transition>) {
        let kind = match deed.action {
            AlarmAction::Acknowledge => TransitionKind::Acknowledged,
            AlarmAction::Unacknowledge => TransitionKind::Unacknowledged,
            AlarmAction::Clear => TransitionKind::Cleared { reason: ClearReason::Person },
            AlarmAction::Shelve { until } => TransitionKind::Shelved { until: *until },
            AlarmAction::Unshelve => TransitionKind::Unshelved { by_time: false },
            AlarmAction::Comment { text } => TransitionKind::Commented { text: text.clone() },
            AlarmAction::Assign { to } => TransitionKind::Assigned { to: to.clone() },
        };
        if deed.device.is_none() && self.deed_of_tenant(deed, &kind, out) {
            return;
        }
        let find = |engine: &Self| engine.find_alarm(deed.device?, deed.alarm);
        if let Some((device, place)) = find(self) {
            // It may have ended before somebody did something to it.
            let Some(rule) = self.states.get(place).map(|state| state.rule) else { return };
            self.catch_up(device, rule, deed.at.0, out);
        }
        let Some((device, place)) = find(self) else {
            // The alarm is over, or a limit's: only what can be done to such a
            // one is told, and the store sees to what was so already.
            let over = !matches!(
                deed.action,
                AlarmAction::Clear | AlarmAction::Shelve { .. } | AlarmAction::Unshelve
            );
            if over {
                out.push(deed.of_forgotten(kind));
            }
            return;
        };
        let Some(rule_state) = self.states.get_mut(place) else { return };
        let rule_index = rule_state.rule;
        let Some(rule) = &self.rules[rule_index as usize] else { return };
        let count = &mut self.counts[rule_index as usize];
        let scene = Scene::new(rule, &self.world, &self.keys, &self.zones, device);
        do_to(&scene, rule_state, count, deed, kind, out);
        if let Ok(place) = self.world.device(device).state_place(rule_index) {
            self.settle(device, rule_index, place);
        }
    }

    fn find_alarm(&self, device: DeviceId, alarm: AlarmId) -> Option<(u32, u32)> {
        let index = self.device(device)?.0;
        let entries = self.world.device(index).states.iter();
        let found = entries.into_iter().find(|entry| {
            let active = self.states.get(entry.state).and_then(|state| state.alarm.as_ref());
            active.is_some_and(|active| active.id == alarm)
        });
        found.map(|entry| (index, entry.state))
    }

    /// Row 10. An older version than the one in force changes nothing.
    fn change_profile(
        &mut self,
        tenant: TenantId,
        (id, version, document): (ProfileId, u64, Option<Arc<AlarmProfile>>),
        at: i64,
        cause: Cause,
        out: &mut Vec<Transition>,
    ) -> Result<(), Report> {
        if self.profiles.get(&id).is_some_and(|known| known.version >= version) {
            return Ok(());
        }
        let compiled = match &document {
            Some(document) => {
                program::compile(tenant, id, document, &mut self.keys, &mut self.zones)?
            }
            None => Vec::new(),
        };
        let place = self.world.tenant(tenant);
        let devices = self.devices_of(place);
        self.fire_before_change(id, &compiled, &devices, at, out);
        let old = self.profiles.remove(&id).map_or_else(Vec::new, |profile| profile.rules);
        let (rules, changed) = self.place_rules(&old, compiled);
        self.profiles.insert(id, Profile { tenant, version, document, rules: rules.clone() });
        self.world.tenants[place as usize].classes.clear();
        for &device in &devices {
            self.classify(device);
        }
        let wired: std::collections::BTreeSet<u32> =
            devices.iter().map(|device| self.world.device(*device).location).collect();
        for location in wired {
            self.wire_location(location);
        }
        let trigger = Trigger::change(cause, at);
        for device in devices {
            self.end_rules_that_are_gone(device, &old, at, trigger, out);
            self.begin_changed_rules(device, &changed, at, trigger, out);
            // Its lateness may be another.
            self.queue(device);
        }
        for rule in old {
            if !rules.contains(&rule) {
                self.rules[rule as usize] = None;
            }
        }
        Ok(())
    }

    /// What came before is judged by what was in force then: takes in what is
    /// held, and fires what was due under the rules that a new version changes
    /// or drops.
    fn fire_before_change(
        &mut self,
        profile: ProfileId,
        compiled: &[Rule],
        devices: &[u32],
        at: i64,
        out: &mut Vec<Transition>,
    ) {
        for &device in devices {
            self.release(device, at, out);
        }
        let Some(profile) = self.profiles.get(&profile) else { return };
        let stays = |place: &u32| {
            let rule = self.rules[*place as usize].as_ref();
            rule.is_some_and(|rule| {
                compiled.iter().any(|new| new.id == rule.id && new.source == rule.source)
            })
        };
        let touched: Vec<u32> =
            profile.rules.iter().copied().filter(|place| !stays(place)).collect();
        for &device in devices {
            for &rule in &touched {
                self.fire_rule_due(device, rule, at, out);
            }
        }
    }

    /// Gives compiled rules their places: a rule keeps its place by its key, and
    /// its very program where it was not edited. Also says which were edited.
    fn place_rules(&mut self, old: &[u32], compiled: Vec<Rule>) -> (Vec<u32>, Vec<u32>) {
        let (mut places, mut changed) = (Vec::new(), Vec::new());
        for rule in compiled {
            let known = old.iter().copied().find(|place| {
                let known = self.rules[*place as usize].as_ref();
                known.is_some_and(|known| known.id == rule.id)
            });
            let Some(place) = known else {
                places.push(self.add_rule(rule));
                continue;
            };
            let same = self.rules[place as usize].as_ref().is_some_and(|k| k.source == rule.source);
            if !same {
                self.rules[place as usize] = Some(rule);
                changed.push(place);
            }
            places.push(place);
        }
        (places, changed)
    }

    fn add_rule(&mut self, rule: Rule) -> u32 {
        self.rules.push(Some(rule));
        self.counts.push(RuleCount::default());
        u32::try_from(self.rules.len() - 1).expect("fewer rules than 2^32 in an engine's life")
    }

    /// Clears the alarms of rules that a device no longer has.
    fn end_rules_that_are_gone(
        &mut self,
        device: u32,
        old: &[u32],
        at: i64,
        trigger: Trigger,
        out: &mut Vec<Transition>,
    ) {
        for &index in old {
            let class = self.world.device(device).class as usize;
            if self.world.tenant_of(device).classes[class].rules.binary_search(&index).is_ok() {
                continue;
            }
            self.end_rule(device, index, ClearReason::RuleRemoved, at, trigger, out);
        }
    }

    /// A changed rule keeps its alarm, starts its timers and counters anew, and
    /// is run again.
    fn begin_changed_rules(
        &mut self,
        device: u32,
        changed: &[u32],
        at: i64,
        trigger: Trigger,
        out: &mut Vec<Transition>,
    ) {
        for &index in changed {
            if !self.is_for(device, index) {
                // It looks at other devices now, and belongs to one of them.
                self.end_rule(device, index, ClearReason::RuleRemoved, at, trigger, out);
                continue;
            }
            if let Ok(place) = self.world.device(device).state_place(index) {
                let entry = &mut self.world.devices[device as usize].states[place];
                if let Some(rule) = &self.rules[index as usize] {
                    match self.states.get_mut(entry.state) {
                        Some(state) => state.begin_anew(rule),
                        None => self.states.begin_folded_anew(entry, rule, device),
                    }
                }
            }
            self.round(device, index, at, trigger, &[], device, out);
        }
    }
}

/// Does what is asked to an alarm that is active. What is so already is not
/// told again.
fn do_to(
    scene: &Scene<'_>,
    rule_state: &mut RuleState,
    count: &mut RuleCount,
    deed: &Deed<'_>,
    kind: TransitionKind,
    out: &mut Vec<Transition>,
) {
    let Some(alarm) = &mut rule_state.alarm else { return };
    if !deed.change(alarm) {
        return;
    }
    alarm.updated_in = UNTOLD;
    let trigger = Trigger::change(deed.cause, deed.at.0);
    let mut transition = scene.transition(alarm, kind, deed.at.0, trigger);
    deed.sign(&mut transition);
    out.push(transition);
    let latched = rule_state.on.as_ref().is_some_and(|on| on.latched);
    match deed.action {
        AlarmAction::Clear => {
            rule_state.on = None;
            rule_state.cleared_at = None;
            rule_state.flaps = Flaps::default();
            rule_state.reset_conditions();
            scene.forget(rule_state, count, deed.at.0, trigger, out);
        }
        AlarmAction::Acknowledge if latched => {
            let kind = TransitionKind::Cleared { reason: scene.latched_by(rule_state) };
            if let Some(alarm) = &rule_state.alarm {
                out.push(scene.transition(alarm, kind, deed.at.0, trigger));
            }
            let at = rule_state.at.max(deed.at.0);
            scene.turn_off(rule_state, at);
            scene.forget(rule_state, count, deed.at.0, trigger, out);
        }
        _ => {}
    }
}

impl Deed<'_> {
    /// Does it to an alarm as everybody sees it; false where it is so already.
    pub fn change(&self, alarm: &mut Active) -> bool {
        match self.action {
            AlarmAction::Acknowledge => !std::mem::replace(&mut alarm.acknowledged, true),
            AlarmAction::Unacknowledge => std::mem::replace(&mut alarm.acknowledged, false),
            AlarmAction::Shelve { until } => {
                let later = *until > self.at;
                if later {
                    alarm.shelved_until = Some(*until);
                }
                later
            }
            AlarmAction::Unshelve => alarm.shelved_until.take().is_some(),
            AlarmAction::Clear | AlarmAction::Comment { .. } | AlarmAction::Assign { .. } => true,
        }
    }

    /// Says in a transition who did it.
    pub fn sign(&self, transition: &mut Transition) {
        transition.by = Some(self.by.clone());
        transition.provenance = self.provenance.cloned();
    }

    /// A transition of an alarm that the engine no longer holds.
    fn of_forgotten(&self, kind: TransitionKind) -> Transition {
        let originator = self.device.map_or(Originator::Tenant(self.tenant), Originator::Device);
        let id = identity::transition_id(originator, self.rule, kind.as_str(), self.at, self.cause);
        Transition {
            id,
            alarm: self.alarm,
            tenant: self.tenant,
            location: self.location,
            originator,
            rule: self.rule.clone(),
            kind,
            at: self.at,
            received_at: self.at,
            severity: self.severity,
            cause: self.cause,
            by: Some(self.by.clone()),
            provenance: self.provenance.cloned(),
            description: String::new(),
            values: Vec::new(),
        }
    }
}
