//! A round of one rule: the rows of the lifecycle and the rule's switches.
//!
//! A round first decides what the rule itself makes of the inputs, then what
//! of that is told. The two differ only while the alarm flaps.

use schema::{ClearReason, Severity, SuppressReason, TransitionKind};

use super::condition::Verdict;
use super::limit::RuleCount;
use super::scene::{Scene, Trigger};
use super::state::{Flaps, On, RuleState, UNTOLD};
use crate::program::Shift;

/// What a round of raise conditions came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Raise {
    True(Severity),
    /// Not true, but not past the limit by the deadband either.
    Kept,
    No,
}

/// What a round changed in the rule's own view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Nothing,
    On,
    Severity,
    Again,
    Off(ClearReason),
}

type Out = Vec<schema::Transition>;

impl Scene<'_> {
    /// One round at `at`, or at the rule's own time where that is later.
    pub fn round(
        &self,
        state: &mut RuleState,
        count: &mut RuleCount,
        at: i64,
        trigger: Trigger,
        out: &mut Out,
    ) {
        let at = at.max(state.at);
        state.at = at;
        state.wake = i64::MAX;
        self.unshelve(state, at, trigger, out);
        let raise = self.raise_conditions(state, at, trigger);
        if raise == Raise::No && state.on.is_none() && self.rule.switches.flapping.is_none() {
            return;
        }
        let decision = self.decide(state, count, raise, at, trigger, out);
        let was_flapping = state.flaps.flapping;
        self.flap(state, decision, trigger);
        match (was_flapping, state.flaps.flapping) {
            (false, false) => self.tell(state, count, decision, at, trigger, out),
            (false, true) => {
                if decision == Decision::On {
                    self.tell(state, count, decision, at, trigger, out);
                }
                let kind = TransitionKind::Suppressed { reason: SuppressReason::Flapping };
                self.emit(state, kind, at, trigger, out);
            }
            (true, true) => self.tell_worse(state, decision, at, trigger, out),
            (true, false) => self.tell_end_of_flapping(state, count, decision, at, trigger, out),
        }
    }

    fn unshelve(&self, state: &mut RuleState, at: i64, trigger: Trigger, out: &mut Out) {
        let Some(alarm) = &mut state.alarm else { return };
        if alarm.shelved_until.is_some_and(|until| until.0 <= at) {
            alarm.shelved_until = None;
            self.emit(state, TransitionKind::Unshelved { by_time: true }, at, trigger, out);
        }
    }

    /// Row 1: the worst first, and none behind the first that is true.
    fn raise_conditions(&self, state: &mut RuleState, at: i64, trigger: Trigger) -> Raise {
        let deadband = self.rule.switches.deadband;
        let keeps = self.rule.switches.de_escalate && deadband > 0.0;
        for (place, (severity, condition)) in self.rule.raises.iter().enumerate() {
            let verdict = self.condition(state, condition, at, Shift::None, trigger);
            if verdict == Verdict::True {
                self.pass_over(state, place, at, trigger);
                return Raise::True(*severity);
            }
            let current = state.on.as_ref().is_some_and(|on| on.severity == *severity);
            if keeps
                && current
                && verdict == Verdict::False
                && self.scheduled(state, condition, at, Shift::Short(deadband)).is_some()
            {
                self.pass_over(state, place, at, trigger);
                return Raise::Kept;
            }
        }
        Raise::No
    }

    /// The conditions behind a place are not evaluated in this round, but the
    /// reading came: it is no silence that would break their durations.
    fn pass_over(&self, state: &mut RuleState, place: usize, at: i64, trigger: Trigger) {
        if !trigger.reading {
            return;
        }
        for slot in self.rule.raises[place + 1..].iter().filter_map(|(_, lower)| lower.slot) {
            let temporal = &mut state.conditions[slot];
            if temporal.is_pending() {
                temporal.last = at;
            }
        }
    }

    fn decide(
        &self,
        state: &mut RuleState,
        count: &mut RuleCount,
        raise: Raise,
        at: i64,
        trigger: Trigger,
        out: &mut Out,
    ) -> Decision {
        let Some(on) = &mut state.on else {
            return match raise {
                Raise::True(severity) => self.turn_on(state, count, severity, at, trigger, out),
                Raise::Kept | Raise::No => Decision::Nothing,
            };
        };
        let severity = match raise {
            Raise::No => return self.clear_condition(state, at, trigger),
            // Row 3: raise beats clear.
            Raise::Kept | Raise::True(_) => {
                on.clear_since = None;
                on.latched = false;
                for condition in self.clear_slots() {
                    state.conditions[condition].reset();
                }
                match raise {
                    Raise::True(severity) => severity,
                    Raise::Kept | Raise::No => return self.time_out(state, at),
                }
            }
        };
        let Some(on) = &mut state.on else { return Decision::Nothing };
        // Row 5.
        let down = severity < on.severity && self.rule.switches.de_escalate;
        if severity > on.severity || down {
            on.severity = severity;
            on.last_true = at;
            return Decision::Severity;
        }
        if !trigger.reading {
            return self.time_out(state, at);
        }
        on.last_true = at;
        if severity == on.severity { Decision::Again } else { Decision::Nothing }
    }

    fn clear_slots(&self) -> impl Iterator<Item = usize> {
        let by_severity = self.rule.clear_by_severity.iter().map(|(_, condition)| condition);
        by_severity.chain(self.rule.clear.as_ref()).filter_map(|condition| condition.slot)
    }

    fn turn_on(
        &self,
        state: &mut RuleState,
        count: &mut RuleCount,
        severity: Severity,
        at: i64,
        trigger: Trigger,
        out: &mut Out,
    ) -> Decision {
        let again = self.rule.switches.re_alarm_after;
        if let Some(cleared_at) = state.cleared_at
            && at < cleared_at.saturating_add(again)
        {
            state.wake = state.wake.min(cleared_at.saturating_add(again));
            return Decision::Nothing;
        }
        if state.alarm.is_none() && !count.admits(self.rule, self.world, at, trigger, out) {
            return Decision::Nothing;
        }
        let (clear_since, latched) = (None, false);
        state.on = Some(Box::new(On { severity, since: at, last_true: at, clear_since, latched }));
        Decision::On
    }

    /// Row 4, with the delays and the latch.
    fn clear_condition(&self, state: &mut RuleState, at: i64, trigger: Trigger) -> Decision {
        let Some(severity) = state.on.as_ref().map(|on| on.severity) else {
            return Decision::Nothing;
        };
        let shift = Shift::Past(self.rule.switches.deadband);
        let verdict = match self.rule.clear_for(severity) {
            Some(condition) => self.condition(state, condition, at, shift, trigger),
            None => Verdict::False,
        };
        let acknowledged = state.alarm.as_ref().is_none_or(|alarm| alarm.acknowledged);
        let Some(on) = &mut state.on else { return Decision::Nothing };
        if verdict != Verdict::True {
            on.clear_since = None;
            return self.time_out(state, at);
        }
        let since = *on.clear_since.get_or_insert(at);
        if at < on.clear_due(since, self.rule) {
            return self.time_out(state, at);
        }
        if self.rule.switches.latch && !acknowledged {
            on.latched = true;
            return Decision::Nothing;
        }
        self.turn_off(state, at);
        Decision::Off(ClearReason::Condition)
    }

    /// `auto_clear_after` without recurrence.
    fn time_out(&self, state: &mut RuleState, at: i64) -> Decision {
        let Some(after) = self.rule.switches.auto_clear_after else { return Decision::Nothing };
        let acknowledged = state.alarm.as_ref().is_none_or(|alarm| alarm.acknowledged);
        let Some(on) = &mut state.on else { return Decision::Nothing };
        if at < on.last_true.saturating_add(after) {
            return Decision::Nothing;
        }
        if self.rule.switches.latch && !acknowledged {
            on.latched = true;
            return Decision::Nothing;
        }
        self.turn_off(state, at);
        state.flaps = Flaps::default();
        Decision::Off(ClearReason::Time)
    }

    /// What has ended an alarm that is active only because nobody has
    /// acknowledged it.
    pub fn latched_by(&self, state: &RuleState) -> ClearReason {
        let Some(on) = &state.on else { return ClearReason::Condition };
        let ended = on.clear_since.is_some_and(|since| state.at >= on.clear_due(since, self.rule));
        let timed_out = |after: i64| state.at >= on.last_true.saturating_add(after);
        match self.rule.switches.auto_clear_after {
            Some(after) if !ended && timed_out(after) => ClearReason::Time,
            _ => ClearReason::Condition,
        }
    }

    pub fn turn_off(&self, state: &mut RuleState, at: i64) {
        state.on = None;
        state.cleared_at = Some(at);
        state.reset_conditions();
    }

    /// Looks back over the last states; only readings make new ones.
    fn flap(&self, state: &mut RuleState, decision: Decision, trigger: Trigger) {
        let Some((low, high)) = self.rule.switches.flapping else { return };
        if !trigger.reading {
            return;
        }
        state.flaps.push(state.on.is_some());
        let share = state.flaps.share();
        let seen = state.alarm.is_some() || decision == Decision::On;
        if state.flaps.flapping {
            state.flaps.flapping = share >= low;
        } else {
            state.flaps.flapping = share >= high && seen;
        }
    }

    /// Tells a decision as it is.
    fn tell(
        &self,
        state: &mut RuleState,
        count: &mut RuleCount,
        decision: Decision,
        at: i64,
        trigger: Trigger,
        out: &mut Out,
    ) {
        match decision {
            Decision::Nothing => {}
            Decision::On => {
                let Some(severity) = state.on.as_ref().map(|on| on.severity) else { return };
                let (alarm, transition) = self.raise(severity, at, trigger);
                state.alarm = Some(Box::new(alarm));
                count.active += 1;
                out.push(transition);
            }
            Decision::Severity => self.tell_severity(state, at, trigger, out),
            Decision::Again => self.update_again(state, at, trigger, out),
            Decision::Off(reason) => {
                self.emit(state, TransitionKind::Cleared { reason }, at, trigger, out);
                self.forget(state, count, at, trigger, out);
            }
        }
    }

    /// While flapping nothing is told but a severity that is worse than any
    /// told so far, and the end by time.
    fn tell_worse(
        &self,
        state: &mut RuleState,
        decision: Decision,
        at: i64,
        trigger: Trigger,
        out: &mut Out,
    ) {
        let told = state.alarm.as_ref().map(|alarm| alarm.severity);
        let now = state.on.as_ref().map(|on| on.severity);
        let changed = matches!(decision, Decision::On | Decision::Severity);
        if changed && now > told {
            self.tell_severity(state, at, trigger, out);
        }
    }

    fn tell_end_of_flapping(
        &self,
        state: &mut RuleState,
        count: &mut RuleCount,
        decision: Decision,
        at: i64,
        trigger: Trigger,
        out: &mut Out,
    ) {
        let told = state.alarm.as_ref().map(|alarm| alarm.severity);
        match (&state.on, decision) {
            (None, Decision::Off(reason)) => {
                self.tell(state, count, Decision::Off(reason), at, trigger, out);
            }
            (None, _) => {
                let reason = ClearReason::Condition;
                self.tell(state, count, Decision::Off(reason), at, trigger, out);
            }
            (Some(on), _) if Some(on.severity) != told => {
                self.tell_severity(state, at, trigger, out);
            }
            (Some(_), Decision::Again | Decision::On) => {
                self.update_again(state, at, trigger, out);
            }
            (Some(_), _) => {}
        }
    }

    fn tell_severity(&self, state: &mut RuleState, at: i64, trigger: Trigger, out: &mut Out) {
        let Some(severity) = state.on.as_ref().map(|on| on.severity) else { return };
        let Some(alarm) = &mut state.alarm else { return };
        let from = std::mem::replace(&mut alarm.severity, severity);
        let escalated = severity > from;
        self.emit(state, TransitionKind::SeverityChanged { from }, at, trigger, out);
        let Some(alarm) = &mut state.alarm else { return };
        if escalated && alarm.acknowledged && self.rule.switches.reacknowledge_on_escalation {
            alarm.acknowledged = false;
            self.emit(state, TransitionKind::Unacknowledged, at, trigger, out);
        }
    }

    /// The alarm is true again.
    fn update_again(&self, state: &mut RuleState, at: i64, trigger: Trigger, out: &mut Out) {
        let Some(alarm) = &mut state.alarm else { return };
        if self.world.gathers_updates
            && let Some(last) = out.get_mut(alarm.updated_in as usize)
            && let TransitionKind::Updated { times } = last.kind
            && last.alarm == alarm.id
        {
            self.update(last, times.saturating_add(1), at, trigger);
            return;
        }
        alarm.updated_in = u32::try_from(out.len()).unwrap_or(UNTOLD);
        out.push(self.transition(alarm, TransitionKind::Updated { times: 1 }, at, trigger));
    }

    fn emit(
        &self,
        state: &mut RuleState,
        kind: TransitionKind,
        at: i64,
        trigger: Trigger,
        out: &mut Out,
    ) {
        if let Some(alarm) = &mut state.alarm {
            alarm.updated_in = UNTOLD;
            out.push(self.transition(alarm, kind, at, trigger));
        }
    }

    /// The alarm is over and told so; there is room for another.
    pub fn forget(
        &self,
        state: &mut RuleState,
        count: &mut RuleCount,
        at: i64,
        trigger: Trigger,
        out: &mut Out,
    ) {
        state.alarm = None;
        state.flaps.flapping = false;
        count.active = count.active.saturating_sub(1);
        count.look_for_room(self.rule, self.world, at, trigger, out);
    }
}
