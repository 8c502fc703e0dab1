//! A group of readings on its way through the rules that mention its keys.

use schema::{Transition, Value};
use smallvec::SmallVec;

use super::scene::{Scene, Trigger};
use super::world::Cell;
use super::{Engine, KeyIndex, state, timers};
use crate::program::Touch;

impl Engine {
    /// Evaluates a group at its own time.
    pub(super) fn take_in(
        &mut self,
        index: u32,
        at: i64,
        mut trigger: Trigger,
        values: &[(KeyIndex, Value<'_>)],
        out: &mut Vec<Transition>,
    ) {
        let mut watchers: Vec<(u32, u32)> = Vec::new();
        if self.world.device(index).watched {
            watchers = std::mem::take(&mut self.watchers);
            self.find_watchers(index, at, values, &mut watchers);
            // What their devices said before is evaluated before.
            for &(owner, rule) in &watchers {
                if owner != index && !self.is_of_system(rule) {
                    self.release(owner, at.saturating_sub(1), out);
                }
            }
        }
        for &(owner, rule) in &watchers {
            self.interrupt_gap(owner, rule, at);
        }
        let device = &self.world.devices[index as usize];
        let due = device.deadline <= at;
        if due {
            // What is late or said again does not move the device's time.
            let fresh = |(key, value): &(KeyIndex, Value<'_>)| {
                device.cell(key.0).is_none_or(|cell| cell.takes(at, *value))
            };
            if values.iter().any(fresh) {
                self.interrupt_gaps(index, values, at);
                self.fire_due(index, false, at, out);
            }
        }
        for &(owner, rule) in &watchers {
            self.fire_rule_due(owner, rule, at, out);
        }
        let mut touches = std::mem::take(&mut self.touches);
        touches.clear();
        self.put(index, at, values, &mut touches);
        if !touches.is_empty() {
            // What a silence broke must not fire. Where nothing was due, each
            // round looks for itself.
            trigger.after_silence = !due && touches.len() == values.len();
            if !due && !trigger.after_silence {
                self.interrupt_gaps(index, values, at);
            }
            self.evaluate(index, at, trigger, &touches, &watchers, out);
        }
        self.touches = touches;
        if watchers.capacity() > 0 {
            self.watchers = watchers;
        }
    }

    /// Evaluates what the platform says of a device, at the server's time. Only
    /// the rules that mention it come to that time, not the device.
    pub(super) fn take_in_system(
        &mut self,
        index: u32,
        at: i64,
        trigger: Trigger,
        values: &[(KeyIndex, Value<'_>)],
        out: &mut Vec<Transition>,
    ) {
        let mut watchers: Vec<(u32, u32)> = Vec::new();
        if self.world.device(index).watched {
            self.find_watchers(index, at, values, &mut watchers);
        }
        let device = self.world.device(index);
        let class = &self.world.tenants[device.tenant as usize].classes[device.class as usize];
        let fresh = |(key, value): &&(KeyIndex, Value<'_>)| {
            device.cell(key.0).is_none_or(|cell| cell.takes(at, *value))
        };
        let mut rules: Vec<u32> = Vec::new();
        for (key, _) in values.iter().filter(fresh) {
            rules.extend_from_slice(class.list(class.list_of(key.0)));
        }
        rules.sort_unstable();
        rules.dedup();
        let own = rules.into_iter().map(|rule| (index, rule));
        for (owner, rule) in own.chain(watchers.iter().copied()) {
            self.interrupt_gap(owner, rule, at);
            self.fire_rule_due(owner, rule, at, out);
        }
        let mut touches = Vec::new();
        self.put(index, at, values, &mut touches);
        if !touches.is_empty() {
            self.evaluate(index, at, trigger, &touches, &watchers, out);
        }
    }

    /// Puts values in their cells and notes what each did.
    fn put(
        &mut self,
        index: u32,
        at: i64,
        values: &[(KeyIndex, Value<'_>)],
        touches: &mut Vec<Touch>,
    ) {
        let device = &mut self.world.devices[index as usize];
        for &(KeyIndex(key), value) in values {
            let place = match device.cell_place(key) {
                Ok(place) => place,
                Err(place) => {
                    let tenant = &self.world.tenants[device.tenant as usize];
                    let list = tenant.classes[device.class as usize].list_of(key);
                    device.put_cell(place, Cell { key, list, at, value: value.into() });
                    touches.push(Touch::first(key, list, at, value));
                    continue;
                }
            };
            let cell = &mut device.cells[place];
            if cell.takes(at, value) {
                touches.push(Touch {
                    old_at: Some(cell.at),
                    old_number: cell.value.number(),
                    changed: !cell.value.is(value),
                    ..Touch::first(key, cell.list, at, value)
                });
                cell.at = at;
                cell.value.set(value);
            } else if at < cell.at {
                self.tally.late += 1;
            } else {
                self.tally.repeated += 1;
            }
        }
        self.tally.evaluated += touches.len() as u64;
    }

    /// Runs one round of each rule that mentions a touched key.
    fn evaluate(
        &mut self,
        index: u32,
        at: i64,
        trigger: Trigger,
        touches: &[Touch],
        watchers: &[(u32, u32)],
        out: &mut Vec<Transition>,
    ) {
        let device = &self.world.devices[index as usize];
        let (tenant, class) = (device.tenant, device.class);
        if let [touch] = touches {
            let class = &self.world.tenants[tenant as usize].classes[class as usize];
            let rules: SmallVec<[u32; 16]> = SmallVec::from_slice(class.list(touch.list));
            for &rule in &rules {
                self.round(index, rule, at, trigger, touches, index, out);
            }
        } else {
            let mut affected = std::mem::take(&mut self.affected);
            affected.clear();
            let class = &self.world.tenants[tenant as usize].classes[class as usize];
            for touch in touches {
                affected.extend_from_slice(class.list(touch.list));
            }
            affected.sort_unstable();
            affected.dedup();
            for &rule in &affected {
                self.round(index, rule, at, trigger, touches, index, out);
            }
            self.affected = affected;
        }
        let trigger = Trigger { after_silence: false, ..trigger };
        for &(owner, rule) in watchers {
            self.round(owner, rule, at, trigger, touches, index, out);
        }
    }

    /// The rules of other devices that look at what is new of this one.
    fn find_watchers(
        &self,
        index: u32,
        at: i64,
        values: &[(KeyIndex, Value<'_>)],
        watchers: &mut Vec<(u32, u32)>,
    ) {
        watchers.clear();
        let device = &self.world.devices[index as usize];
        let location = &self.world.locations[device.location as usize];
        let class = &self.world.tenants[device.tenant as usize].classes[device.class as usize];
        let fresh = |(key, value): &&(KeyIndex, Value<'_>)| {
            device.cell(key.0).is_none_or(|cell| cell.takes(at, *value))
        };
        for (key, _) in values.iter().filter(fresh) {
            watchers.extend(location.watchers.get(&(index, key.0)).into_iter().flatten().copied());
        }
        watchers.sort_unstable();
        watchers.dedup();
        // Its own rules that name it run once, with those that do not.
        let runs = |rule: u32| {
            let of =
                |(key, _): &(KeyIndex, Value<'_>)| class.list(class.list_of(key.0)).contains(&rule);
            values.iter().filter(fresh).any(of)
        };
        watchers.retain(|(owner, rule)| *owner != index || !runs(*rule));
    }

    /// One round of one rule of one device. `source` is the device that the
    /// touches are of.
    #[allow(clippy::too_many_arguments, reason = "the parts of one input, borrowed separately")]
    pub(crate) fn round(
        &mut self,
        index: u32,
        rule_index: u32,
        at: i64,
        trigger: Trigger,
        touches: &[Touch],
        source: u32,
        out: &mut Vec<Transition>,
    ) {
        let Some(rule) = &self.rules[rule_index as usize] else { return };
        let device = &self.world.devices[index as usize];
        if rule.anchor.as_ref().is_some_and(|anchor| *anchor != device.name) {
            return;
        }
        self.tally.rounds += 1;
        let place = device.state_place(rule_index);
        let known = place.ok().map(|place| device.states[place]);
        let (place, state_index) = match (place, known) {
            (Ok(place), Some(entry)) if entry.state != state::NONE => (place, entry.state),
            (place, known) => {
                let ended = known.map_or(i64::MIN, |entry| entry.at);
                let scene = Scene::new(rule, &self.world, &self.keys, &self.zones, index);
                let since = scene.rest_until(ended, trigger.reading);
                if rule.stateless_when_idle && !scene.stirs(at.max(since)) {
                    return;
                }
                let state = self.states.begin(rule, index, rule_index, since);
                let entry = state::Entry { rule: rule_index, state, at: since };
                (self.world.devices[index as usize].put_entry(place, entry), state)
            }
        };
        let scene = Scene::new(rule, &self.world, &self.keys, &self.zones, index);
        let entry = scene.own.states[place];
        if let Some(since) = self.states.waiting_since(state_index)
            && scene.keeps_waiting(since, entry.at, at, &trigger)
        {
            self.world.devices[index as usize].states[place].at = at;
            return;
        }
        let (state_index, rule_state) = self.states.unfold(rule, index, &entry);
        if trigger.after_silence {
            timers::break_durations(rule_state, rule, at);
        }
        scene.remember(rule_state, touches, source);
        if scene.rests(rule_state, at, &trigger) {
            let entry = &mut self.world.devices[index as usize].states[place];
            (entry.state, entry.at) = (state_index, at);
            self.states.fold(entry, rule);
            return;
        }
        let count = &mut self.counts[rule_index as usize];
        let was_refusing = count.refusing;
        scene.round(rule_state, count, at, trigger, out);
        if count.refusing && !was_refusing {
            self.refused.push(rule_index);
        }
        self.world.devices[index as usize].states[place].state = state_index;
        self.settle(index, rule_index, place);
    }

    /// After a round: frees a state that has nothing to remember, and sees to
    /// it that its next deadline is known.
    pub(crate) fn settle(&mut self, index: u32, rule_index: u32, place: usize) {
        let Some(rule) = &self.rules[rule_index as usize] else { return };
        let device = &mut self.world.devices[index as usize];
        let entry = &mut device.states[place];
        let Some(rule_state) = self.states.get_mut(entry.state) else { return };
        entry.at = rule_state.at;
        if rule.stateless_when_idle && rule_state.is_idle(rule) {
            self.states.release(entry);
            return;
        }
        let deadline = rule_state.deadline(rule);
        self.states.fold(entry, rule);
        let known = if rule.of_system { &mut device.system_deadline } else { &mut device.deadline };
        if deadline < *known {
            *known = deadline;
            self.queue(index);
        }
    }
}
