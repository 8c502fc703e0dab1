//! Temporal kinds: whether a condition is true by now.

use super::scene::{Scene, Trigger, View};
use super::state::{RuleState, Temporal};
use crate::program::{Condition, Holds, Kind, Shift, Window};

/// What became of a condition in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    True,
    /// Its tree is true, its time or count is not full.
    NotYet,
    False,
}

impl Scene<'_> {
    /// Runs a condition's timer and counter; false resets them.
    #[inline]
    pub fn condition(
        &self,
        state: &mut RuleState,
        condition: &Condition,
        at: i64,
        shift: Shift,
        trigger: Trigger,
    ) -> Verdict {
        let window = self.scheduled(state, condition, at, shift);
        let Some(slot) = condition.slot else {
            return if window.is_some() { Verdict::True } else { Verdict::False };
        };
        let temporal = &mut state.conditions[slot];
        let Some(window) = window else {
            temporal.reset();
            return Verdict::False;
        };
        match condition.kind {
            Kind::Simple => Verdict::True,
            Kind::Duration(length) => duration(temporal, at, length, window, trigger),
            Kind::Repeating { times, within } => {
                let times_so_far = temporal.times.get_or_insert_default();
                // What counted before the schedule was off counts no longer.
                while times_so_far.front().is_some_and(|first| *first < window.from) {
                    times_so_far.pop_front();
                }
                repeating(times_so_far, at, times, within, trigger)
            }
        }
    }

    /// The schedule's window around `at`, if it is on and the tree holds.
    /// Notes in the state when to look again.
    #[inline]
    pub fn scheduled(
        &self,
        state: &mut RuleState,
        condition: &Condition,
        at: i64,
        shift: Shift,
    ) -> Option<Window> {
        let view = View { scene: *self, histories: &state.histories };
        let mut holds = Holds::new(at, shift);
        let held = holds.tree(&condition.tree, &view);
        let wake = holds.wake;
        state.wake = state.wake.min(wake);
        if !held {
            return None;
        }
        let Some(schedule) = &condition.schedule else { return Some(Window::ALWAYS) };
        let zone = self.world.location_of(self.device).zone;
        let window = schedule.window(self.zones, zone, at);
        if !window.active {
            // What is wrong when the schedule begins is raised then, not at
            // the next reading.
            state.wake = state.wake.min(window.until);
            return None;
        }
        Some(window)
    }
}

fn duration(
    temporal: &mut Temporal,
    at: i64,
    length: i64,
    window: Window,
    trigger: Trigger,
) -> Verdict {
    if !temporal.is_pending() {
        temporal.since = at;
        temporal.last = at;
    } else {
        // It held all the time, but the schedule may have been off in between.
        temporal.since = temporal.since.max(window.from);
    }
    if trigger.reading {
        temporal.last = at;
    }
    if at - temporal.since >= length { Verdict::True } else { Verdict::NotYet }
}

/// Readings of one time count once. Those that are further back than `within`
/// no longer count.
fn repeating(
    counted: &mut std::collections::VecDeque<i64>,
    at: i64,
    times: u32,
    within: Option<i64>,
    trigger: Trigger,
) -> Verdict {
    if trigger.reading && counted.back().is_none_or(|last| at > *last) {
        counted.push_back(at);
        if counted.len() > times as usize {
            counted.pop_front();
        }
    }
    if let Some(within) = within {
        while counted.front().is_some_and(|first| *first <= at.saturating_sub(within)) {
            counted.pop_front();
        }
    }
    if counted.len() >= times as usize { Verdict::True } else { Verdict::NotYet }
}
