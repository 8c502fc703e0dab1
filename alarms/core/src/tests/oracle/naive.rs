//! The naive evaluator's world: it keeps every reading, reads the profile as it
//! was written, and looks at every second that passes whether something is due.
//! Times are whole seconds behind the start.

use std::collections::{BTreeMap, BTreeSet};

use schema::{AlarmProfile, AlarmRule, ClearReason, Severity, TransitionKind};
use serde_json::Value as Json;

use super::memory::Memory;
use super::steps::{Deed, Scope, Step};
use super::text::{
    attributes_of, conditions, has_system_time, is_of_system, keys_of, keys_of_condition, seconds,
};

/// How long a device must be silent before the clock counts for it.
pub const GRACE: i64 = 2;

/// What was told: of a device's rule, or of the tenant's limit for a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub device: Option<usize>,
    pub rule: String,
    pub at: i64,
    pub severity: Severity,
    pub kind: TransitionKind,
}

#[derive(Debug, Default)]
pub struct Device {
    pub name: &'static str,
    /// All readings of each key that were evaluated, in order.
    pub readings: BTreeMap<String, Vec<(i64, Json)>>,
    /// Keys whose last reading differed from what was known before it.
    pub changed: BTreeMap<String, bool>,
    /// Keys whose last reading replaced one of the same time.
    corrected: BTreeMap<String, bool>,
    pub shared: BTreeMap<String, Json>,
    pub client: BTreeMap<String, Json>,
    /// Readings that wait for earlier ones.
    held: Vec<(i64, Vec<(&'static str, Json)>)>,
    received: i64,
}

/// Which rules of a device are meant.
#[derive(Clone, Copy)]
enum Which<'a> {
    Rule(&'a str),
    /// Those that have the device's time.
    Own,
    /// Those that have the server's.
    System,
}

#[derive(Debug, Default)]
pub struct Naive {
    pub profile: Option<AlarmProfile>,
    pub devices: Vec<Device>,
    pub of_location: BTreeMap<String, Json>,
    pub of_tenant: BTreeMap<String, Json>,
    pub memories: BTreeMap<(usize, String), Memory>,
    /// Rules whose limit is reached and told so.
    pub limits: BTreeSet<String>,
    /// The number of the last alarm of a device and a rule.
    pub had: BTreeMap<(usize, String), usize>,
    /// How many alarms there were.
    pub raised: usize,
    pub told: Vec<Told>,
    clock: i64,
}

impl Naive {
    pub fn new(profile: AlarmProfile, names: &[&'static str]) -> Self {
        let device = |name: &&'static str| Device { name, received: -1_000, ..Device::default() };
        let devices = names.iter().map(device).collect();
        Self { profile: Some(profile), devices, ..Self::default() }
    }

    /// Takes one step; what was told by it.
    pub fn step(&mut self, step: &Step) -> Vec<Told> {
        match step {
            Step::Message { device, at, received, values } => {
                self.message(*device, *at, *received, values);
            }
            Step::Attribute { scope, key, value, at } => self.attribute(scope, key, value, *at),
            Step::Do { device, rule, deed, at } => self.deed(*device, rule, *deed, *at),
            Step::Profile { document, at } => self.change_profile(document.clone(), *at),
            Step::Clock { at } => self.advance(*at),
        }
        std::mem::take(&mut self.told)
    }

    pub fn rule(&self, key: &str) -> Option<&AlarmRule> {
        self.profile.as_ref()?.rules.iter().find(|rule| rule.key == key)
    }

    /// The rules that run for a device. One that raises by other devices only
    /// is run for the device that it names.
    fn rules_of(&self, device: usize) -> Vec<&AlarmRule> {
        let rules = self.profile.iter().flat_map(|profile| &profile.rules);
        let runs = |rule: &&AlarmRule| {
            let keys: Vec<&str> = rule.raise.values().flat_map(keys_of_condition).collect();
            let own = keys.iter().any(|key| !key.contains('/'));
            own || keys[0].split('/').next() == Some(self.devices[device].name)
        };
        rules.filter(runs).collect()
    }

    fn copies_of(&self, device: usize) -> Vec<AlarmRule> {
        self.rules_of(device).into_iter().cloned().collect()
    }

    pub fn memory(&mut self, device: usize, rule: &str) -> &mut Memory {
        self.memories.entry((device, rule.to_owned())).or_default()
    }

    fn lateness(&self) -> i64 {
        seconds(self.profile.as_ref().and_then(|profile| profile.lateness))
    }

    fn message(&mut self, device: usize, at: i64, received: i64, values: &[(&'static str, Json)]) {
        self.advance(received);
        let of_system = |(key, _): &(&str, Json)| is_of_system(key);
        let (system, own): (Vec<_>, Vec<_>) = values.iter().cloned().partition(of_system);
        self.take_in(device, at, &system, true);
        if own.is_empty() {
            return;
        }
        self.devices[device].received = self.clock;
        let held = &mut self.devices[device].held;
        held.push((at, own));
        held.sort_by_key(|(at, _)| *at);
        let newest = held.last().map_or(at, |(at, _)| *at);
        self.release(device, newest - self.lateness());
    }

    fn release(&mut self, device: usize, until: i64) {
        while self.devices[device].held.first().is_some_and(|(at, _)| *at <= until) {
            let (at, values) = self.devices[device].held.remove(0);
            self.take_in(device, at, &values, false);
        }
    }

    /// The clock: silent devices' deadlines fire, and what is held back for
    /// them; the device first that has waited longest. For what the platform
    /// says, a device need not be silent.
    fn advance(&mut self, clock: i64) {
        self.clock = self.clock.max(clock);
        let lateness = self.lateness();
        let horizon = self.clock - GRACE;
        loop {
            let own_wake = |device: usize| {
                let Device { held, received, .. } = &self.devices[device];
                let held = held.first().map(|(at, _)| *at);
                let due = self.next_due(device, Which::Own, horizon - lateness);
                let first = held.into_iter().chain(due.map(|(second, _)| second)).min()?;
                Some((first + lateness).max(*received) + GRACE).filter(|wake| *wake <= self.clock)
            };
            let system_wake = |device: usize| {
                let due = self.next_due(device, Which::System, horizon);
                due.map(|(second, _)| second + GRACE)
            };
            let wakes = (0..self.devices.len()).filter_map(|device| {
                let wake = own_wake(device).into_iter().chain(system_wake(device)).min()?;
                Some((wake, device))
            });
            let Some((_, device)) = wakes.min() else { return };
            let is_silent = own_wake(device).is_some();
            self.fire(device, Which::System, horizon);
            if is_silent {
                self.release(device, horizon - lateness);
                self.fire(device, Which::Own, horizon - lateness);
            }
        }
    }

    /// The next deadline up to `until` of one rule, or several, of a device.
    fn next_due(&self, device: usize, which: Which<'_>, until: i64) -> Option<(i64, String)> {
        let rules = self.rules_of(device).into_iter();
        let meant = |rule: &&AlarmRule| match which {
            Which::Rule(key) => rule.key == key,
            Which::Own => !has_system_time(rule),
            Which::System => has_system_time(rule),
        };
        let due = rules.filter(meant).filter_map(|rule| {
            let memory = self.memories.get(&(device, rule.key.clone()))?;
            let second = self.deadline(device, rule, memory, until)?;
            Some((second, rule.key.clone()))
        });
        due.min_by_key(|(second, _)| *second)
    }

    /// Fires the deadlines up to `until` of one rule, or several, of a device.
    fn fire(&mut self, device: usize, which: Which<'_>, until: i64) {
        while let Some((second, key)) = self.next_due(device, which, until) {
            let rule = self.rule(&key).cloned().expect("a rule that is due is there");
            self.round(device, &rule, second, false);
        }
    }

    /// What came before something is done to a rule.
    fn catch_up(&mut self, device: usize, rule: &AlarmRule, at: i64) {
        if !has_system_time(rule) {
            self.release(device, at);
        }
        self.fire(device, Which::Rule(&rule.key), at);
    }

    /// What is `of_system` moves only the rules that it touches.
    fn take_in(
        &mut self,
        device: usize,
        at: i64,
        values: &[(&'static str, Json)],
        of_system: bool,
    ) {
        let known = &self.devices[device].readings;
        let is_fresh = |(key, value): &&(&'static str, Json)| {
            let last = known.get(*key).and_then(|all| all.last());
            last.is_none_or(|(t, v)| at > *t || (at == *t && value != v))
        };
        let fresh: Vec<_> = values.iter().filter(is_fresh).cloned().collect();
        if fresh.is_empty() {
            return;
        }
        // What a silence has broken, and what was due before.
        let name = self.devices[device].name;
        let mentions = |rule: &AlarmRule, key: &str, own: bool| {
            let written = if own { key.to_owned() } else { format!("{name}/{key}") };
            keys_of(rule).contains(&written.as_str())
        };
        let touched = |rule: &AlarmRule, own: bool, keys: &[(&'static str, Json)]| {
            keys.iter().any(|(key, _)| mentions(rule, key, own))
        };
        // What the others that look on have said before comes before.
        for owner in (0..self.devices.len()).filter(|owner| *owner != device && !of_system) {
            if self.copies_of(owner).iter().any(|rule| touched(rule, false, &fresh)) {
                self.release(owner, at - 1);
            }
        }
        let mut affected = Vec::new();
        for rule in self.copies_of(device) {
            if touched(&rule, true, values) {
                self.break_gaps(device, &rule, at);
            }
            if touched(&rule, true, &fresh) {
                affected.push((device, rule));
            }
        }
        for owner in 0..self.devices.len() {
            for rule in self.copies_of(owner) {
                let runs_already = owner == device && touched(&rule, true, &fresh);
                if touched(&rule, false, &fresh) && !runs_already {
                    self.break_gaps(owner, &rule, at);
                    affected.push((owner, rule));
                }
            }
        }
        if !of_system {
            self.fire(device, Which::Own, at);
        }
        for (owner, rule) in &affected {
            self.fire(*owner, Which::Rule(&rule.key), at);
        }
        self.put(device, at, &fresh);
        for (owner, rule) in affected {
            self.remember(device, owner, &rule, &fresh);
            self.round(owner, &rule, at, true);
        }
    }

    fn put(&mut self, device: usize, at: i64, fresh: &[(&'static str, Json)]) {
        for (key, value) in fresh {
            let all = self.devices[device].readings.entry((*key).to_owned()).or_default();
            let changed = all.last().is_some_and(|(_, last)| last != value);
            let corrects = all.last().is_some_and(|(last, _)| *last == at);
            match all.last_mut() {
                Some(last) if last.0 == at => last.1 = value.clone(),
                _ => all.push((at, value.clone())),
            }
            self.devices[device].changed.insert((*key).to_owned(), changed);
            self.devices[device].corrected.insert((*key).to_owned(), corrects);
        }
    }

    /// Since when a rule knows a key's readings: from its own first one on.
    fn remember(
        &mut self,
        device: usize,
        owner: usize,
        rule: &AlarmRule,
        fresh: &[(&'static str, Json)],
    ) {
        let name = self.devices[device].name;
        for (key, _) in fresh {
            let at = self.devices[device].readings[*key].last().map_or(0, |(at, _)| *at);
            let mut written = vec![format!("{name}/{key}")];
            written.extend((owner == device).then(|| (*key).to_owned()));
            let corrects = self.devices[device].corrected[*key];
            for written in written {
                let memory = self.memory(owner, &rule.key);
                if corrects && !memory.known_since.contains_key(&written) {
                    memory.known_by_correction.insert(written.clone(), at);
                }
                memory.known_since.entry(written).or_insert(at);
            }
        }
    }

    fn break_gaps(&mut self, device: usize, rule: &AlarmRule, at: i64) {
        if !rule.gap_breaks_duration {
            return;
        }
        for (name, condition) in conditions(rule) {
            let Some(length) = condition.holds_for else { continue };
            let timer = self.memory(device, &rule.key).timers.entry(name).or_default();
            if timer.since.is_some() && at - timer.last > length.0 / 1_000 {
                timer.reset();
            }
        }
    }

    fn attribute(&mut self, scope: &Scope, key: &str, value: &Option<Json>, at: i64) {
        self.advance(at);
        let devices: Vec<usize> = match scope {
            Scope::Shared(device) | Scope::Client(device) => vec![*device],
            Scope::Location | Scope::Tenant => (0..self.devices.len()).collect(),
        };
        let mut affected = Vec::new();
        for device in devices {
            for rule in self.copies_of(device) {
                if attributes_of(&rule).contains(&key) {
                    self.catch_up(device, &rule, at);
                    affected.push((device, rule));
                }
            }
        }
        let place = match scope {
            Scope::Shared(device) => &mut self.devices[*device].shared,
            Scope::Client(device) => &mut self.devices[*device].client,
            Scope::Location => &mut self.of_location,
            Scope::Tenant => &mut self.of_tenant,
        };
        match value {
            Some(value) => drop(place.insert(key.to_owned(), value.clone())),
            None => drop(place.remove(key)),
        }
        for (device, rule) in affected {
            self.round(device, &rule, at, false);
        }
    }

    fn deed(&mut self, device: usize, rule: &str, deed: Deed, at: i64) {
        let Some(number) = self.had.get(&(device, rule.to_owned())).copied() else { return };
        self.advance(at);
        let written = self.rule(rule).cloned();
        let active = |naive: &Self| {
            let memory = naive.memories.get(&(device, rule.to_owned()));
            let alarm = memory.and_then(|memory| memory.alarm.as_ref());
            alarm.is_some_and(|alarm| alarm.number == number)
        };
        if let Some(written) = written.as_ref().filter(|_| active(self)) {
            self.catch_up(device, written, at);
        }
        match written {
            Some(written) if active(self) => self.do_to_active(device, &written, deed, at),
            _ => {
                let kind = deed.kind();
                let over = matches!(deed, Deed::Clear | Deed::Shelve(_) | Deed::Unshelve);
                if !over {
                    let severity = Severity::Major;
                    let rule = rule.to_owned();
                    self.told.push(Told { device: Some(device), rule, at, severity, kind });
                }
            }
        }
    }

    /// Row 10.
    fn change_profile(&mut self, document: Option<AlarmProfile>, at: i64) {
        self.advance(at);
        for device in 0..self.devices.len() {
            self.release(device, at);
        }
        let old = self.profile.take();
        let new = |key: &str| {
            document.iter().flat_map(|profile| &profile.rules).find(|rule| rule.key == key)
        };
        let old_rules: Vec<AlarmRule> = old.iter().flat_map(|old| old.rules.clone()).collect();
        let (mut gone, mut changed) = (Vec::new(), Vec::new());
        for rule in &old_rules {
            match new(&rule.key) {
                None => gone.push(rule.clone()),
                Some(new) if new != rule => changed.push((rule.clone(), new.clone())),
                Some(_) => {}
            }
        }
        self.profile = old;
        for device in 0..self.devices.len() {
            for rule in gone.iter().chain(changed.iter().map(|(old, _)| old)) {
                self.fire(device, Which::Rule(&rule.key), at);
            }
        }
        for device in 0..self.devices.len() {
            for rule in &gone {
                if self.memory(device, &rule.key).alarm.is_some() {
                    let kind = TransitionKind::Cleared { reason: ClearReason::RuleRemoved };
                    self.tell(device, &rule.key, at, kind);
                    self.forget(device, rule, at);
                }
                self.memories.remove(&(device, rule.key.clone()));
            }
        }
        self.profile = document;
        for device in 0..self.devices.len() {
            let runs = self.copies_of(device);
            for (old, new) in &changed {
                if runs.contains(new) {
                    self.memory(device, &new.key).begin_anew();
                    self.round(device, new, at, false);
                } else {
                    // It now belongs to another device. Should it come back, it
                    // begins as one that was never here.
                    if self.memory(device, &old.key).alarm.is_some() {
                        let kind = TransitionKind::Cleared { reason: ClearReason::RuleRemoved };
                        self.tell(device, &old.key, at, kind);
                        self.forget(device, new, at);
                    }
                    self.memories.remove(&(device, old.key.clone()));
                }
            }
        }
    }

    pub fn tell(&mut self, device: usize, rule: &str, at: i64, kind: TransitionKind) {
        let alarm = self.memory(device, rule).alarm.as_ref().expect("told of an alarm");
        let severity = alarm.severity;
        let rule = rule.to_owned();
        self.told.push(Told { device: Some(device), rule, at, severity, kind });
    }
}
