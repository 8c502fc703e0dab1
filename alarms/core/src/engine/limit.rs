//! The limit of a rule's active alarms: `max_active` of the tenant.
//!
//! An engine that stands alone tells of the limit itself. One of several is told
//! how many alarms the others have, and says to whoever runs it that it refuses;
//! the system alarm about it is one, at the tenant's home partition.

use schema::{
    AlarmId, Cause, ClearReason, Originator, ProfileId, RuleId, Severity, TenantId, TimestampMs,
    Transition, TransitionKind,
};
use serde::{Deserialize, Serialize};

use super::Engine;
use super::scene::Trigger;
use super::world::World;
use crate::identity;
use crate::limits::LIMIT_KEY_PREFIX;
use crate::program::Rule;

/// How many alarms of a rule are active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuleCount {
    pub active: u32,
    /// In the tenant's other partitions, as this one was told last.
    pub elsewhere: u32,
    /// No more are raised until there is room.
    pub refusing: bool,
    /// The system alarm that says so, where this engine tells it itself.
    pub limit: Option<AlarmId>,
}

/// How a rule stands against its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitStanding {
    pub tenant: TenantId,
    /// Its active alarms here.
    pub active: u32,
    /// Those of the tenant's other partitions, as told last.
    pub elsewhere: u32,
    /// `max_active`.
    pub most: u32,
    /// An alarm was not raised for want of room, and there is none yet.
    pub refusing: bool,
}

impl RuleCount {
    fn has_room(&self, rule: &Rule) -> bool {
        self.active.saturating_add(self.elsewhere) < rule.switches.max_active
    }

    /// Whether one more may be raised. The first that may not is told of.
    pub fn admits(
        &mut self,
        rule: &Rule,
        world: &World,
        at: i64,
        trigger: Trigger,
        out: &mut Vec<Transition>,
    ) -> bool {
        if self.has_room(rule) {
            return true;
        }
        if !self.refusing && world.partition.is_none() {
            let raised = transition(rule, world, None, TransitionKind::Raised, at, trigger);
            self.limit = Some(raised.alarm);
            out.push(raised);
        }
        self.refusing = true;
        false
    }

    /// Sees whether there is room for another by now.
    pub fn look_for_room(
        &mut self,
        rule: &Rule,
        world: &World,
        at: i64,
        trigger: Trigger,
        out: &mut Vec<Transition>,
    ) {
        if !self.refusing || !self.has_room(rule) {
            return;
        }
        self.refusing = false;
        if let Some(limit) = self.limit.take() {
            let kind = TransitionKind::Cleared { reason: ClearReason::Condition };
            out.push(transition(rule, world, Some(limit), kind, at, trigger));
        }
    }
}

/// The key of the system alarm about a rule's limit.
#[must_use]
pub fn limit_alarm_key(rule: &RuleId) -> String {
    format!("{LIMIT_KEY_PREFIX}{}/{}", rule.profile, rule.key)
}

/// What the system alarm about a rule's limit says.
#[must_use]
pub fn limit_alarm_text(rule: &RuleId, most: u32) -> String {
    format!(
        "Rule {} has {most} active alarms, its limit; further ones are not raised until some are cleared",
        rule.key
    )
}

/// The name of the system alarm's one value.
pub const LIMIT_ALARM_VALUE: &str = "max_active";

/// A transition of the tenant's own alarm about a rule's limit. It is the same
/// alarm whichever device runs into it.
fn transition(
    rule: &Rule,
    world: &World,
    alarm: Option<AlarmId>,
    kind: TransitionKind,
    at: i64,
    trigger: Trigger,
) -> Transition {
    let originator = Originator::Tenant(rule.tenant);
    let key = match world.partition {
        // Only one from before the tenant's partitions were told of one another
        // is still told by its partition, and has its number in its name.
        Some(partition) => format!("{}/{partition}", limit_alarm_key(&rule.id)),
        None => limit_alarm_key(&rule.id),
    };
    let id_of_rule = RuleId { profile: ProfileId::SYSTEM, key: key.into() };
    let at = TimestampMs(at);
    let id = identity::transition_id(originator, &id_of_rule, kind.as_str(), at, trigger.cause);
    let most = rule.switches.max_active;
    Transition {
        id,
        alarm: alarm.unwrap_or_else(|| identity::alarm_id(id)),
        tenant: rule.tenant,
        location: None,
        originator,
        rule: id_of_rule,
        kind,
        at,
        received_at: TimestampMs(trigger.received_at),
        severity: Severity::Major,
        cause: trigger.cause,
        by: None,
        provenance: None,
        description: limit_alarm_text(&rule.id, most),
        values: vec![(LIMIT_ALARM_VALUE.into(), most.into())],
    }
}

impl Engine {
    /// How a rule stands against its limit; none where there is no such rule.
    #[must_use]
    pub fn limit_standing(&self, rule: &RuleId) -> Option<LimitStanding> {
        let index = self.rule_index(rule)?;
        let compiled = self.rules[index as usize].as_ref()?;
        let RuleCount { active, elsewhere, refusing, .. } = self.counts[index as usize];
        let (tenant, most) = (compiled.tenant, compiled.switches.max_active);
        Some(LimitStanding { tenant, active, elsewhere, most, refusing })
    }

    /// The rules that have begun to refuse since the last call.
    pub fn take_refused(&mut self) -> Vec<RuleId> {
        let refused = std::mem::take(&mut self.refused);
        refused.into_iter().filter_map(|index| self.rule_id(index)).collect()
    }

    /// The rules that have active alarms or refuse some, in no order that counts.
    #[must_use]
    pub fn counted_rules(&self) -> Vec<RuleId> {
        let all = (0u32..).zip(&self.counts);
        let counted = all.filter(|(_, count)| count.active > 0 || count.refusing);
        counted.filter_map(|(index, _)| self.rule_id(index)).collect()
    }

    /// The rules of which this engine, as their tenant's home, has a system alarm
    /// about their limit.
    #[must_use]
    pub fn limit_alarms(&self) -> Vec<(TenantId, RuleId)> {
        let tenants = self.world.tenants.iter();
        let all = tenants.flat_map(|tenant| tenant.alarms.iter().map(|it| (tenant.id, &it.key)));
        let of_limits = all.filter_map(|(tenant, key)| {
            let (profile, rule) = key.strip_prefix(LIMIT_KEY_PREFIX)?.split_once('/')?;
            let profile = ProfileId(profile.parse().ok()?);
            Some((tenant, RuleId { profile, key: rule.into() }))
        });
        of_limits.collect()
    }

    fn rule_index(&self, rule: &RuleId) -> Option<u32> {
        let places = &self.profiles.get(&rule.profile)?.rules;
        places.iter().copied().find(|place| {
            self.rules[*place as usize].as_ref().is_some_and(|known| known.id == *rule)
        })
    }

    fn rule_id(&self, index: u32) -> Option<RuleId> {
        self.rules[index as usize].as_ref().map(|rule| rule.id.clone())
    }

    /// Takes in how many alarms of a rule the other partitions have.
    pub(super) fn set_elsewhere(
        &mut self,
        rule: &RuleId,
        active: u32,
        (at, cause): (TimestampMs, Cause),
        out: &mut Vec<Transition>,
    ) {
        let Some(index) = self.rule_index(rule) else { return };
        let Some(rule) = &self.rules[index as usize] else { return };
        let count = &mut self.counts[index as usize];
        count.elsewhere = active;
        count.look_for_room(rule, &self.world, at.0, Trigger::change(cause, at.0), out);
    }
}
