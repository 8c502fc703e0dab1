//! Alarms of a tenant as a whole that commands raise and clear: of what is no
//! device's, such as a forwarder that fails. Whether something is wrong is judged
//! by who writes the command; here the alarm has its lifecycle, so that people do
//! to it what they do to any other and a replay gives the same transitions.
//!
//! All commands about a tenant's alarms come to its home partition, so that no
//! other has one of the same key. There are as many as there are things that
//! they are about, of which the directory's quotas keep the number.

use std::sync::Arc;

use schema::{
    AlarmAction, AlarmId, Cause, ClearReason, Originator, ProfileId, RuleId, Severity, TenantId,
    TimestampMs, Transition, TransitionKind,
};
use serde::{Deserialize, Serialize};

use super::Engine;
use super::commands::Deed;
use super::state::{Active, UNTOLD};
use crate::identity;
use crate::limits::MAX_VALUES_BYTES;
use crate::program::cut_description;
use crate::value::Scalar;

/// An uncleared alarm with what was last said of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TenantAlarm {
    /// Of its rule, under the profile of the system alarms.
    pub key: Arc<str>,
    pub alarm: Active,
    /// The time of its latest transition; it never runs backwards.
    pub at: i64,
    pub description: String,
    pub values: Vec<(Arc<str>, Scalar)>,
}

/// What a command says of one of a tenant's alarms.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub tenant: TenantId,
    pub key: &'a Arc<str>,
    pub active: bool,
    pub severity: Severity,
    pub description: &'a str,
    pub values: &'a [(Arc<str>, serde_json::Value)],
}

impl TenantAlarm {
    /// Takes over what a command says, as far as it has room.
    fn describe(&mut self, said: &Said<'_>) {
        self.description = cut_description(said.description.to_owned());
        let mut room = MAX_VALUES_BYTES;
        let values = said
            .values
            .iter()
            .filter_map(|(key, json)| Some((key.clone(), Scalar::from_json(json)?)));
        let fitting = values.map_while(|(key, value)| {
            room = room.checked_sub(key.len() + value.bytes())?;
            Some((key, value))
        });
        self.values = fitting.collect();
    }

    /// A transition of it, which moves its time.
    fn transition(
        &mut self,
        tenant: TenantId,
        kind: TransitionKind,
        (at, cause): (TimestampMs, Cause),
    ) -> Transition {
        self.at = self.at.max(at.0);
        let originator = Originator::Tenant(tenant);
        let rule = RuleId { profile: ProfileId::SYSTEM, key: self.key.clone() };
        let received_at = at;
        let at = TimestampMs(self.at);
        let values = self.values.iter().map(|(key, value)| (key.clone(), value.to_json()));
        Transition {
            id: identity::transition_id(originator, &rule, kind.as_str(), at, cause),
            alarm: self.alarm.id,
            tenant,
            location: None,
            originator,
            rule,
            kind,
            at,
            received_at,
            severity: self.alarm.severity,
            cause,
            by: None,
            provenance: None,
            description: self.description.clone(),
            values: values.collect(),
        }
    }
}

impl Engine {
    /// Raises, updates or clears one of a tenant's alarms. A clear that says
    /// nothing leaves what was said last.
    pub(super) fn tenant_alarm(
        &mut self,
        said: &Said<'_>,
        when: (TimestampMs, Cause),
        out: &mut Vec<Transition>,
    ) {
        let tenant = self.world.tenant(said.tenant);
        let alarms = &mut self.world.tenants[tenant as usize].alarms;
        let place = alarms.binary_search_by(|known| known.key.cmp(said.key));
        match (place, said.active) {
            (Err(_), false) => {}
            (Err(place), true) => {
                let (alarm, raised) = raise(said, when);
                alarms.insert(place, alarm);
                out.push(raised);
            }
            (Ok(place), true) => {
                let alarm = &mut alarms[place];
                alarm.describe(said);
                let from = std::mem::replace(&mut alarm.alarm.severity, said.severity);
                let kind = match from == said.severity {
                    true => TransitionKind::Updated { times: 1 },
                    false => TransitionKind::SeverityChanged { from },
                };
                out.push(alarm.transition(said.tenant, kind, when));
            }
            (Ok(place), false) => {
                let mut alarm = alarms.remove(place);
                if !said.description.is_empty() {
                    alarm.describe(said);
                }
                let kind = TransitionKind::Cleared { reason: ClearReason::Condition };
                out.push(alarm.transition(said.tenant, kind, when));
                self.find_end_of_shelving();
            }
        }
    }

    /// Does to a tenant's alarm what somebody asks; false where there is none
    /// such. What is so already is not told again.
    pub(super) fn deed_of_tenant(
        &mut self,
        deed: &Deed<'_>,
        kind: &TransitionKind,
        out: &mut Vec<Transition>,
    ) -> bool {
        let tenant = self.world.tenant(deed.tenant);
        let alarms = &mut self.world.tenants[tenant as usize].alarms;
        let Some(place) = alarms.iter().position(|known| known.alarm.id == deed.alarm) else {
            return false;
        };
        let alarm = &mut alarms[place];
        if deed.change(&mut alarm.alarm) {
            let mut done = alarm.transition(deed.tenant, kind.clone(), (deed.at, deed.cause));
            deed.sign(&mut done);
            out.push(done);
        }
        if matches!(deed.action, AlarmAction::Clear) {
            alarms.remove(place);
        }
        self.find_end_of_shelving();
        true
    }

    /// Ends, each at its own time, the shelving of tenants' alarms that the clock
    /// has come to; whether there was any. No reading is on its way to these
    /// alarms, so that they wait for no grace.
    pub(super) fn end_shelving(&mut self, out: &mut Vec<Transition>) -> bool {
        let mut any = false;
        while self.shelving_ends <= self.clock {
            let Some((until, tenant, place)) = self.next_end_of_shelving() else { break };
            let tenant = &mut self.world.tenants[tenant];
            let alarm = &mut tenant.alarms[place];
            alarm.alarm.shelved_until = None;
            let kind = TransitionKind::Unshelved { by_time: true };
            out.push(alarm.transition(tenant.id, kind, (until, Cause::Deadline)));
            self.find_end_of_shelving();
            any = true;
        }
        any
    }

    /// Finds anew when the next one's shelving ends. There are few of them.
    pub(super) fn find_end_of_shelving(&mut self) {
        let next = self.next_end_of_shelving();
        self.shelving_ends = next.map_or(i64::MAX, |(until, _, _)| until.0);
    }

    /// (time, tenant, alarm) of the earliest.
    fn next_end_of_shelving(&self) -> Option<(TimestampMs, usize, usize)> {
        let tenants = self.world.tenants.iter().enumerate();
        let all = tenants.flat_map(|(tenant, known)| {
            let alarms = known.alarms.iter().enumerate();
            alarms.filter_map(move |(place, it)| Some((it.alarm.shelved_until?, tenant, place)))
        });
        all.min()
    }
}

/// A new alarm and the transition that raises it.
fn raise(said: &Said<'_>, when: (TimestampMs, Cause)) -> (TenantAlarm, Transition) {
    let mut alarm = TenantAlarm {
        key: said.key.clone(),
        alarm: Active {
            id: AlarmId(0),
            severity: said.severity,
            acknowledged: false,
            shelved_until: None,
            updated_in: UNTOLD,
        },
        at: when.0.0,
        description: String::new(),
        values: Vec::new(),
    };
    alarm.describe(said);
    let mut raised = alarm.transition(said.tenant, TransitionKind::Raised, when);
    alarm.alarm.id = identity::alarm_id(raised.id);
    raised.alarm = alarm.alarm.id;
    (alarm, raised)
}
