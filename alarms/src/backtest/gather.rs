//! Makes alarms and totals of the transitions of one unit.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use schema::{
    AlarmId, DeviceId, Originator, ProfileId, RuleId, TimestampMs, Transition, TransitionKind,
};

use super::outcome::{BacktestAlarm, BacktestTransition, Span, Totals};
use super::{
    MAX_COMPARED_ALARMS, MAX_LISTED_ALARMS, MAX_LISTED_BYTES, MAX_LISTED_TRANSITIONS,
    MAX_LISTED_TRANSITIONS_IN_ALL,
};

/// Raises of one rule on one device within so long …
const CHATTER_MS: i64 = 60_000;
/// … that are as many make it chatter: ISA-18.2's measure.
const CHATTER_RAISES: usize = 3;

/// What comes of transitions between two times.
#[derive(Debug)]
pub(super) struct Gather {
    from: TimestampMs,
    to: TimestampMs,
    /// The first that were raised, as many as have room, each whole.
    pub alarms: Vec<BacktestAlarm>,
    /// What the listed alarms take.
    taken: Taken,
    /// One was left out for want of room, so that no later one is listed.
    full: bool,
    pub spans: Vec<Span>,
    pub totals: Totals,
    /// More alarms than are compared.
    pub overfull: bool,
    open: HashMap<AlarmId, Open, FixedState>,
    raises: HashMap<(DeviceId, RuleId), Raises, FixedState>,
}

/// An alarm that is active.
#[derive(Debug)]
struct Open {
    span: Span,
    profile: ProfileId,
    /// Its place among those listed.
    listed: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    transitions: usize,
    bytes: usize,
}

impl Taken {
    fn fits(self) -> bool {
        self.transitions <= MAX_LISTED_TRANSITIONS_IN_ALL && self.bytes <= MAX_LISTED_BYTES
    }

    fn with(self, alarm: &BacktestAlarm) -> Self {
        let transitions = self.transitions + alarm.transitions.len();
        Self { transitions, bytes: self.bytes + alarm.bytes }
    }
}

/// The last raises of a rule on a device, up to one less than chattering needs.
#[derive(Debug, Default)]
struct Raises {
    at: Vec<TimestampMs>,
    chatters: bool,
}

impl Gather {
    pub fn new(from: TimestampMs, to: TimestampMs) -> Self {
        Self {
            from,
            to,
            alarms: Vec::new(),
            taken: Taken::default(),
            full: false,
            spans: Vec::new(),
            totals: Totals::default(),
            overfull: false,
            open: HashMap::default(),
            raises: HashMap::default(),
        }
    }

    /// Takes transitions in the order in which the engine gave them.
    pub fn take(&mut self, transitions: &mut Vec<Transition>) {
        for transition in transitions.drain(..) {
            // System alarms are not the profile's.
            let Originator::Device(device) = transition.originator else { continue };
            if transition.rule.profile != ProfileId::SYSTEM && transition.at < self.to {
                self.transition(device, &transition);
            }
        }
    }

    fn transition(&mut self, device: DeviceId, transition: &Transition) {
        if transition.kind == TransitionKind::Raised {
            self.raised(device, transition);
            return;
        }
        let Some(open) = self.open.get_mut(&transition.alarm) else { return };
        open.span.severity = open.span.severity.max(transition.severity);
        if let Some(alarm) = open.listed.and_then(|place| self.alarms.get_mut(place)) {
            alarm.peak = open.span.severity;
            match &transition.kind {
                TransitionKind::Updated { times } => alarm.updates += u64::from(*times),
                TransitionKind::Cleared { reason } => {
                    alarm.cleared_at = Some(transition.at);
                    alarm.cleared_reason = Some(*reason);
                }
                _ => {}
            }
            if !matches!(transition.kind, TransitionKind::Updated { .. })
                && alarm.transitions.len() < MAX_LISTED_TRANSITIONS
            {
                let transition = BacktestTransition::of(transition);
                let bytes = transition.bytes();
                alarm.transitions.push(transition);
                alarm.bytes += bytes;
                self.taken.transitions += 1;
                self.taken.bytes += bytes;
                self.leave_out();
            }
        }
        match transition.kind {
            TransitionKind::Suppressed { .. } if transition.at >= self.from => {
                self.totals.rules.entry(transition.rule.clone()).or_default().suppressions += 1;
            }
            TransitionKind::Cleared { .. } => {
                if let Some(mut open) = self.open.remove(&transition.alarm) {
                    open.span.cleared_at = Some(transition.at);
                    self.over(open);
                }
            }
            _ => {}
        }
    }

    fn raised(&mut self, device: DeviceId, transition: &Transition) {
        let span = Span {
            device,
            location: transition.location,
            rule: transition.rule.key.clone(),
            raised_at: transition.at,
            cleared_at: None,
            severity: transition.severity,
        };
        let mut listed = None;
        if transition.at >= self.from {
            self.note_raise(device, transition);
            if self.alarms.len() < MAX_LISTED_ALARMS && !self.full {
                listed = Some(self.alarms.len());
                let first = BacktestTransition::of(transition);
                let texts = transition.description.len() + transition.rule.key.len();
                let bytes = size_of::<BacktestAlarm>() + texts + first.bytes();
                self.alarms.push(BacktestAlarm {
                    device,
                    location: transition.location,
                    rule: transition.rule.clone(),
                    severity: transition.severity,
                    peak: transition.severity,
                    raised_at: transition.at,
                    cleared_at: None,
                    cleared_reason: None,
                    updates: 0,
                    description: transition.description.clone(),
                    transitions: vec![first],
                    bytes,
                });
                self.taken.transitions += 1;
                self.taken.bytes += bytes;
                self.leave_out();
            }
        }
        let open = Open { span, profile: transition.rule.profile, listed };
        self.open.insert(transition.alarm, open);
    }

    /// Drops the last alarms of the list until the others have room.
    fn leave_out(&mut self) {
        while !self.taken.fits() {
            let Some(last) = self.alarms.pop() else { return };
            self.taken.transitions -= last.transitions.len();
            self.taken.bytes -= last.bytes;
            self.full = true;
        }
    }

    /// Keeps the first by time, as many as have room. So it comes to the same in
    /// whatever order units are taken over.
    fn keep_first(&mut self) {
        self.alarms.sort_by(by_time);
        let (mut taken, mut count) = (Taken::default(), 0);
        for alarm in self.alarms.iter().take(MAX_LISTED_ALARMS) {
            let with = taken.with(alarm);
            if !with.fits() {
                break;
            }
            (taken, count) = (with, count + 1);
        }
        self.alarms.truncate(count);
        self.taken = taken;
    }

    fn note_raise(&mut self, device: DeviceId, transition: &Transition) {
        let rule = &transition.rule;
        let raises = self.raises.entry((device, rule.clone())).or_default();
        let since = transition.at.0.saturating_sub(CHATTER_MS);
        raises.at.retain(|at| at.0 > since);
        if raises.at.len() + 1 >= CHATTER_RAISES && !raises.chatters {
            raises.chatters = true;
            self.totals.rules.entry(rule.clone()).or_default().chattering_devices += 1;
        }
        if raises.at.len() + 1 >= CHATTER_RAISES {
            raises.at.remove(0);
        }
        raises.at.push(transition.at);
    }

    /// Counts an alarm that has ended, or that the period has.
    fn over(&mut self, open: Open) {
        let Open { span, profile, .. } = open;
        let at_end = span.cleared_at.is_none();
        if span.raised_at < self.from {
            let at_start = span.cleared_at.is_none_or(|at| at >= self.from);
            self.totals.active_at_start += u64::from(at_start);
            return;
        }
        let end = span.cleared_at.unwrap_or(self.to);
        let active_ms = u64::try_from(end.0.saturating_sub(span.raised_at.0)).unwrap_or(0);
        let rule = RuleId { profile, key: span.rule.clone() };
        let of_rule = self.totals.rules.entry(rule).or_default();
        of_rule.alarms += 1;
        of_rule.active_ms += active_ms;
        of_rule.active_at_end += u64::from(at_end);
        *of_rule.by_severity.entry(span.severity).or_default() += 1;
        self.totals.alarms += 1;
        self.totals.active_ms += active_ms;
        self.totals.active_at_end += u64::from(at_end);
        *self.totals.by_severity.entry(span.severity).or_default() += 1;
        if self.spans.len() < MAX_COMPARED_ALARMS {
            self.spans.push(span);
        } else {
            self.overfull = true;
        }
    }

    /// Alarms raised in the period so far.
    pub fn count(&self) -> u64 {
        let open = self.open.values().filter(|open| open.span.raised_at >= self.from).count();
        self.totals.alarms + open as u64
    }

    /// The end of the unit: what is active counts up to the end of the period.
    pub fn finish(&mut self) {
        let open: Vec<Open> = self.open.drain().map(|(_, open)| open).collect();
        open.into_iter().for_each(|open| self.over(open));
        self.raises.clear();
        self.keep_first();
    }

    /// Takes over what another has gathered.
    pub fn add(&mut self, other: Self) {
        if !other.alarms.is_empty() {
            self.alarms.extend(other.alarms);
            self.keep_first();
        }
        self.totals.add(&other.totals);
        self.spans.extend(other.spans);
        self.overfull |= other.overfull || self.spans.len() > MAX_COMPARED_ALARMS;
        self.spans.truncate(MAX_COMPARED_ALARMS);
    }
}

fn by_time(a: &BacktestAlarm, b: &BacktestAlarm) -> std::cmp::Ordering {
    (a.raised_at, a.device, &a.rule).cmp(&(b.raised_at, b.device, &b.rule))
}
