//! What of a rule's rounds is told, and what people do to its alarm.

use schema::{AlarmRule, ClearReason, Severity, SuppressReason, TimestampMs, TransitionKind};

use super::memory::{Alarm, Decision};
use super::naive::{Naive, Told};
use super::steps::Deed;
use crate::tests::harness::START_MS;

impl Deed {
    pub fn kind(self) -> TransitionKind {
        match self {
            Self::Acknowledge => TransitionKind::Acknowledged,
            Self::Unacknowledge => TransitionKind::Unacknowledged,
            Self::Clear => TransitionKind::Cleared { reason: ClearReason::Person },
            Self::Shelve(until) => {
                TransitionKind::Shelved { until: TimestampMs(START_MS + until * 1_000) }
            }
            Self::Unshelve => TransitionKind::Unshelved { by_time: false },
            Self::Comment => TransitionKind::Commented { text: "seen".to_owned() },
            Self::Assign => TransitionKind::Assigned { to: Some("eva".to_owned()) },
        }
    }
}

impl Naive {
    /// What of a decision is told, which while flapping is little.
    pub fn tell_decision(
        &mut self,
        device: usize,
        rule: &AlarmRule,
        decision: Decision,
        at: i64,
        reading: bool,
    ) {
        let memory = self.memory(device, &rule.key);
        let was = memory.flapping;
        if let (Some(flapping), true) = (&rule.flapping, reading) {
            memory.states.push(memory.on.is_some());
            let share = memory.share();
            let seen = memory.alarm.is_some() || decision == Decision::On;
            memory.flapping =
                if was { share >= flapping.low } else { share >= flapping.high && seen };
        }
        let now = memory.flapping;
        let on = memory.on.as_ref().map(|on| on.severity);
        let told = memory.alarm.as_ref().map(|alarm| alarm.severity);
        match (was, now) {
            (false, false) => self.tell_as_it_is(device, rule, decision, at),
            (false, true) => {
                if decision == Decision::On {
                    self.tell_as_it_is(device, rule, decision, at);
                }
                let reason = SuppressReason::Flapping;
                self.tell(device, &rule.key, at, TransitionKind::Suppressed { reason });
            }
            (true, true) => {
                if matches!(decision, Decision::On | Decision::Severity) && on > told {
                    self.tell_severity(device, rule, at);
                }
            }
            (true, false) => match (on, decision) {
                (None, Decision::Off(_)) => self.tell_as_it_is(device, rule, decision, at),
                (None, _) => {
                    let off = Decision::Off(ClearReason::Condition);
                    self.tell_as_it_is(device, rule, off, at);
                }
                (Some(_), _) if on != told => self.tell_severity(device, rule, at),
                (Some(_), Decision::Again | Decision::On) => {
                    self.tell(device, &rule.key, at, TransitionKind::Updated { times: 1 });
                }
                (Some(_), _) => {}
            },
        }
    }

    fn tell_as_it_is(&mut self, device: usize, rule: &AlarmRule, decision: Decision, at: i64) {
        match decision {
            Decision::Nothing => {}
            Decision::On => {
                self.raised += 1;
                let number = self.raised;
                let memory = self.memory(device, &rule.key);
                let severity = memory.on.as_ref().unwrap().severity;
                let (acknowledged, shelved_until) = (false, None);
                memory.alarm = Some(Alarm { number, severity, acknowledged, shelved_until });
                self.had.insert((device, rule.key.clone()), number);
                self.tell(device, &rule.key, at, TransitionKind::Raised);
            }
            Decision::Severity => self.tell_severity(device, rule, at),
            Decision::Again => {
                self.tell(device, &rule.key, at, TransitionKind::Updated { times: 1 })
            }
            Decision::Off(reason) => {
                self.tell(device, &rule.key, at, TransitionKind::Cleared { reason });
                self.forget(device, rule, at);
            }
        }
    }

    fn tell_severity(&mut self, device: usize, rule: &AlarmRule, at: i64) {
        let memory = self.memory(device, &rule.key);
        let severity = memory.on.as_ref().unwrap().severity;
        let alarm = memory.alarm.as_mut().unwrap();
        let from = std::mem::replace(&mut alarm.severity, severity);
        let again = severity > from && alarm.acknowledged && rule.reacknowledge_on_escalation;
        alarm.acknowledged &= !again;
        self.tell(device, &rule.key, at, TransitionKind::SeverityChanged { from });
        if again {
            self.tell(device, &rule.key, at, TransitionKind::Unacknowledged);
        }
    }

    /// The alarm is over and told so; there may be room for others.
    pub fn forget(&mut self, device: usize, rule: &AlarmRule, at: i64) {
        let memory = self.memory(device, &rule.key);
        memory.alarm = None;
        memory.flapping = false;
        let of_rule = self.memories.iter().filter(|((_, key), _)| *key == rule.key);
        let active = of_rule.filter(|(_, memory)| memory.alarm.is_some()).count();
        let room = rule.max_active.is_none_or(|most| active < most as usize);
        if room && self.limits.remove(&rule.key) {
            let reason = ClearReason::Condition;
            self.tell_limit(rule, at, TransitionKind::Cleared { reason });
        }
    }

    pub fn tell_limit(&mut self, rule: &AlarmRule, at: i64, kind: TransitionKind) {
        let (rule, severity) = (format!("alarm_limit/7/{}", rule.key), Severity::Major);
        self.told.push(Told { device: None, rule, at, severity, kind });
    }

    /// What is so already is not told again.
    pub fn do_to_active(&mut self, device: usize, rule: &AlarmRule, deed: Deed, at: i64) {
        let memory = self.memory(device, &rule.key);
        let alarm = memory.alarm.as_mut().unwrap();
        let changes = match deed {
            Deed::Acknowledge => !std::mem::replace(&mut alarm.acknowledged, true),
            Deed::Unacknowledge => std::mem::replace(&mut alarm.acknowledged, false),
            Deed::Shelve(until) if until > at => {
                alarm.shelved_until = Some(until);
                true
            }
            Deed::Shelve(_) => false,
            Deed::Unshelve => alarm.shelved_until.take().is_some(),
            Deed::Clear | Deed::Comment | Deed::Assign => true,
        };
        if !changes {
            return;
        }
        let latched = memory.on.as_ref().is_some_and(|on| on.latched);
        let reason = memory.why_latched(rule);
        let last = memory.at.unwrap_or(at);
        self.tell(device, &rule.key, at, deed.kind());
        let memory = self.memory(device, &rule.key);
        match deed {
            // Row 8.
            Deed::Clear => {
                (memory.on, memory.cleared_at) = (None, None);
                memory.timers.clear();
                memory.states.clear();
                self.forget(device, rule, at);
            }
            Deed::Acknowledge if latched => {
                self.tell(device, &rule.key, at, TransitionKind::Cleared { reason });
                let memory = self.memory(device, &rule.key);
                (memory.on, memory.cleared_at) = (None, Some(at.max(last)));
                memory.timers.clear();
                self.forget(device, rule, at);
            }
            _ => {}
        }
        self.rest(device, rule, last);
    }
}
