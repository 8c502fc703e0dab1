//! Where states are kept: whole, or folded to the little that most of them are.

use std::borrow::Cow;

use super::state::{Entry, NONE, RuleState, Waiting};
use super::timers;
use crate::program::Rule;

/// Marks the place of a folded state.
const FOLDED: u32 = 1 << 31;

/// All states, in places that are used again with the memory that they have. A
/// state that only waits for its duration takes 8 bytes, and a tenth of the
/// time that a whole one does.
#[derive(Debug, Default)]
pub(crate) struct States {
    places: Vec<RuleState>,
    free: Vec<u32>,
    folded: Vec<Waiting>,
    free_folded: Vec<u32>,
}

impl States {
    /// Adds a state of a rule, folded where it can be.
    pub fn add(&mut self, state: RuleState, rule: Option<&Rule>) -> u32 {
        match rule.and_then(|rule| state.waiting(rule)) {
            Some(waiting) => self.add_folded(waiting),
            None => self.add_whole(state),
        }
    }

    fn add_whole(&mut self, state: RuleState) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = state;
            return place;
        }
        self.places.push(state);
        let place = u32::try_from(self.places.len() - 1).ok().filter(|place| *place < FOLDED);
        place.expect("memory ends before 2^31 states")
    }

    fn add_folded(&mut self, waiting: Waiting) -> u32 {
        if let Some(place) = self.free_folded.pop() {
            self.folded[place as usize] = waiting;
            return place | FOLDED;
        }
        self.folded.push(waiting);
        let place = u32::try_from(self.folded.len() - 1).ok().filter(|place| *place < !FOLDED);
        place.expect("memory ends before 2^31 states") | FOLDED
    }

    /// Adds a fresh state, whole.
    pub fn begin(&mut self, rule: &Rule, device: u32, index: u32, at: i64) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize].begin(rule, device, index, at);
            return place;
        }
        self.add_whole(RuleState::new(rule, device, index, at))
    }

    /// A whole state; of a folded one or none there is nothing.
    pub fn get(&self, place: u32) -> Option<&RuleState> {
        if place & FOLDED == 0 { self.places.get(place as usize) } else { None }
    }

    pub fn get_mut(&mut self, place: u32) -> Option<&mut RuleState> {
        if place & FOLDED == 0 { self.places.get_mut(place as usize) } else { None }
    }

    #[inline]
    fn waiting(&self, place: u32) -> Option<&Waiting> {
        folded_at(place).map(|at| &self.folded[at as usize])
    }

    /// Since when a folded state waits.
    #[inline]
    pub fn waiting_since(&self, place: u32) -> Option<i64> {
        self.waiting(place).map(|waiting| waiting.since)
    }

    /// The state of an entry as a whole one, if it has any.
    pub fn whole(&self, device: u32, entry: &Entry) -> Option<Cow<'_, RuleState>> {
        match self.waiting(entry.state) {
            Some(waiting) => Some(Cow::Owned(waiting.whole(device, entry))),
            None => self.get(entry.state).map(Cow::Borrowed),
        }
    }

    /// Makes the state of an entry whole; the entry's place is then another.
    ///
    /// # Panics
    /// If the entry has no state.
    pub fn unfold(&mut self, rule: &Rule, device: u32, entry: &Entry) -> (u32, &mut RuleState) {
        let mut place = entry.state;
        if let Some(waiting) = self.waiting(place).copied() {
            self.free_folded.push(place & !FOLDED);
            place = self.begin(rule, device, entry.rule, entry.at);
            self.places[place as usize].conditions[0] = waiting.temporal(entry);
        }
        (place, &mut self.places[place as usize])
    }

    /// Folds the state of an entry where it can be.
    pub fn fold(&mut self, entry: &mut Entry, rule: &Rule) {
        let waiting = self.get(entry.state).and_then(|state| state.waiting(rule));
        if let Some(waiting) = waiting {
            self.free.push(entry.state);
            entry.state = self.add_folded(waiting);
        }
    }

    /// The earliest time at which an entry must be looked at although nothing
    /// arrives.
    pub fn deadline(&self, entry: &Entry, rule: &Rule) -> i64 {
        match (self.waiting(entry.state), rule.waits) {
            (Some(waiting), Some(length)) => {
                let due = waiting.since.saturating_add(length);
                if due > entry.at { due } else { i64::MAX }
            }
            _ => self.get(entry.state).map_or(i64::MAX, |state| state.deadline(rule)),
        }
    }

    /// Starts the durations of an entry's state anew where readings are further
    /// apart than they are long.
    pub fn break_durations(&mut self, entry: &mut Entry, rule: &Rule, device: u32, at: i64) {
        if let Some(state) = self.get_mut(entry.state) {
            timers::break_durations(state, rule, at);
            return;
        }
        if let Some(length) = rule.waits
            && rule.switches.gap_breaks_duration
            && at.saturating_sub(entry.at) > length
        {
            self.begin_folded_anew(entry, rule, device);
        }
    }

    /// Makes the folded state of an entry a fresh one of the same time; an entry
    /// without one is left as it is.
    pub fn begin_folded_anew(&mut self, entry: &mut Entry, rule: &Rule, device: u32) {
        if self.waiting(entry.state).is_some() {
            self.free(entry.state);
            entry.state = self.begin(rule, device, entry.rule, entry.at);
        }
    }

    /// Takes a state out and gives its place back; of a folded one nothing is
    /// left.
    pub fn remove(&mut self, place: u32) -> Option<RuleState> {
        let state = self.get(place).cloned();
        self.free(place);
        state
    }

    /// Gives an entry's place back, without the state that it held.
    pub fn release(&mut self, entry: &mut Entry) {
        self.free(entry.state);
        entry.state = NONE;
    }

    fn free(&mut self, place: u32) {
        match folded_at(place) {
            Some(at) => self.free_folded.push(at),
            None if place == NONE => {}
            None => self.free.push(place),
        }
    }
}

/// Where a folded state is; nowhere of a whole one or none.
#[inline]
fn folded_at(place: u32) -> Option<u32> {
    (place != NONE && place & FOLDED != 0).then_some(place & !FOLDED)
}
