//! Random profiles × random histories against a slow evaluator that is written
//! from the contract alone: it keeps every reading, reads the profile as it was
//! written, and looks at every second that passes whether something is due.

mod random;

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use schema::{
    AlarmProfile, AlarmRule, ClearReason, Condition, DurationMs, Filter, Operand, Severity,
    TransitionKind,
};

use random::{random_history, random_rule};

use super::harness::World;

/// Cases of the normal test run; `ALARM_ORACLE_CASES` sets another number at
/// compile time, because the core reads no environment.
const CASES: u64 = match option_env!("ALARM_ORACLE_CASES") {
    Some(text) => parse(text),
    None => 5_000,
};

const fn parse(text: &str) -> u64 {
    let (bytes, mut place, mut number) = (text.as_bytes(), 0, 0);
    while place < bytes.len() {
        number = number * 10 + (bytes[place] - b'0') as u64;
        place += 1;
    }
    number
}

#[derive(Clone, Debug, PartialEq)]
enum Told {
    Raised(Severity),
    Changed(Severity),
    Updated,
    Cleared(ClearReason),
}

/// One alarm as the contract has it.
#[derive(Clone, Debug)]
struct Alarm {
    severity: Severity,
    since: i64,
    last_true: i64,
    clear_since: Option<i64>,
}

#[derive(Clone, Debug, Default)]
struct Timer {
    since: Option<i64>,
    last: i64,
    times: Vec<i64>,
}

#[derive(Debug, Default)]
struct RuleMemory {
    alarm: Option<Alarm>,
    cleared_at: Option<i64>,
    timers: BTreeMap<String, Timer>,
    /// The conditions that the last round looked at; their ages can flip.
    looked_at: Vec<String>,
    /// The last round found it true, too soon after a clear.
    held: bool,
}

/// The naive evaluator of one device that is never silent for the grace, so
/// that its own time alone counts. Times in seconds.
struct Oracle {
    profile: AlarmProfile,
    /// All readings of each key that were evaluated, in order.
    readings: BTreeMap<&'static str, Vec<(i64, f64)>>,
    /// Keys whose last reading differed from what was known before it.
    changed: BTreeMap<&'static str, bool>,
    rules: Vec<RuleMemory>,
    now: i64,
}

fn seconds(duration: Option<DurationMs>) -> i64 {
    duration.map_or(0, |duration| duration.0 / 1_000)
}

impl Oracle {
    fn new(profile: AlarmProfile) -> Self {
        let rules = profile.rules.iter().map(|_| RuleMemory::default()).collect();
        Self { profile, readings: BTreeMap::new(), changed: BTreeMap::new(), rules, now: 0 }
    }

    /// One message at `at`; what was told, by rule.
    fn message(&mut self, at: i64, values: &[(&'static str, f64)]) -> Vec<(usize, i64, Told)> {
        let mut told = Vec::new();
        let fresh: Vec<_> = values
            .iter()
            .copied()
            .filter(|(key, value)| {
                let last = self.readings.get(key).and_then(|all| all.last());
                last.is_none_or(|(t, v)| at > *t || (at == *t && value != v))
            })
            .collect();
        if fresh.is_empty() {
            return told;
        }
        self.break_gaps(at, values);
        for second in self.now + 1..=at {
            for rule in 0..self.rules.len() {
                if self.is_due(rule, second) {
                    self.round(rule, second, false, &mut told);
                }
            }
        }
        self.now = self.now.max(at);
        for (key, value) in &fresh {
            let all = self.readings.entry(key).or_default();
            self.changed.insert(key, all.last().is_some_and(|(_, last)| last != value));
            match all.last_mut() {
                Some(last) if last.0 == at => last.1 = *value,
                _ => all.push((at, *value)),
            }
        }
        for rule in 0..self.rules.len() {
            let keys = keys_of(&self.profile.rules[rule]);
            if fresh.iter().any(|(key, _)| keys.contains(key)) {
                self.round(rule, at, true, &mut told);
            }
        }
        told
    }

    fn break_gaps(&mut self, at: i64, values: &[(&'static str, f64)]) {
        for (rule, memory) in self.profile.rules.iter().zip(&mut self.rules) {
            let keys = keys_of(rule);
            let touched = values.iter().any(|(key, _)| keys.contains(key));
            if !touched || !rule.gap_breaks_duration {
                continue;
            }
            for (name, condition) in conditions(rule) {
                let Some(length) = condition.holds_for else { continue };
                let timer = memory.timers.entry(name).or_default();
                if timer.since.is_some() && at - timer.last > length.0 / 1_000 {
                    *timer = Timer::default();
                }
            }
        }
    }

    /// True when the rule has a deadline at exactly this second.
    fn is_due(&self, rule: usize, second: i64) -> bool {
        let (rule, memory) = (&self.profile.rules[rule], &self.rules[rule]);
        let timer_due = conditions(rule).iter().any(|(name, condition)| {
            let since = memory.timers.get(name).and_then(|timer| timer.since);
            condition
                .holds_for
                .is_some_and(|length| since.is_some_and(|since| since + length.0 / 1_000 == second))
        });
        let alarm_due = memory.alarm.as_ref().is_some_and(|alarm| {
            let clear = alarm.clear_since.map(|since| clear_due(rule, alarm, since));
            let auto = rule.auto_clear_after.map(|after| alarm.last_true + after.0 / 1_000);
            clear == Some(second) || auto == Some(second)
        });
        let again = memory.held
            && memory.cleared_at.is_some_and(|at| at + seconds(rule.re_alarm_after) == second);
        let ages = ages_of(rule, &memory.looked_at).into_iter().any(|(key, length)| {
            let last = self.readings.get(key.as_str()).and_then(|all| all.last());
            last.is_some_and(|(at, _)| at + length == second)
        });
        timer_due || alarm_due || again || ages
    }

    fn round(&mut self, index: usize, at: i64, reading: bool, told: &mut Vec<(usize, i64, Told)>) {
        let rule = self.profile.rules[index].clone();
        self.rules[index].looked_at.clear();
        self.rules[index].held = false;
        let mut raise = None;
        for severity in Severity::WORST_FIRST {
            let Some(condition) = rule.raise.get(severity.as_str()) else { continue };
            let name = format!("raise {severity}");
            if self.condition(index, &name, condition, at, 0.0, reading) {
                raise = Some(severity);
                break;
            }
        }
        let before = self.rules[index].alarm.clone();
        let mut tell = |what: Told| told.push((index, at, what));
        match (before, raise) {
            (None, None) => {}
            (None, Some(severity)) => {
                let memory = &mut self.rules[index];
                let held = memory
                    .cleared_at
                    .is_some_and(|cleared| at < cleared + seconds(rule.re_alarm_after));
                memory.held = held;
                if !held {
                    memory.alarm =
                        Some(Alarm { severity, since: at, last_true: at, clear_since: None });
                    tell(Told::Raised(severity));
                }
            }
            (Some(alarm), Some(severity)) => {
                self.rules[index].timers.remove("clear");
                let memory = self.rules[index].alarm.as_mut().unwrap();
                memory.clear_since = None;
                let falls = severity < alarm.severity && rule.de_escalate;
                if severity > alarm.severity || falls {
                    (memory.severity, memory.last_true) = (severity, at);
                    tell(Told::Changed(severity));
                } else if reading {
                    memory.last_true = at;
                    if severity == alarm.severity {
                        tell(Told::Updated);
                    }
                } else if auto_due(&rule, &alarm, at) {
                    self.end(index, at);
                    tell(Told::Cleared(ClearReason::Time));
                }
            }
            (Some(mut alarm), None) => {
                let clear = rule.clear.clone().unwrap();
                let deadband = rule.deadband.unwrap_or(0.0);
                let over = self.condition(index, "clear", &clear, at, deadband, reading);
                alarm.clear_since = over.then(|| alarm.clear_since.unwrap_or(at));
                let ends = alarm.clear_since.is_some_and(|s| at >= clear_due(&rule, &alarm, s));
                self.rules[index].alarm = Some(alarm.clone());
                if ends {
                    self.end(index, at);
                    tell(Told::Cleared(ClearReason::Condition));
                } else if auto_due(&rule, &alarm, at) {
                    self.end(index, at);
                    tell(Told::Cleared(ClearReason::Time));
                }
            }
        }
    }

    fn end(&mut self, index: usize, at: i64) {
        let memory = &mut self.rules[index];
        memory.alarm = None;
        memory.cleared_at = Some(at);
        memory.timers.clear();
    }

    fn condition(
        &mut self,
        index: usize,
        name: &str,
        condition: &Condition,
        at: i64,
        past: f64,
        reading: bool,
    ) -> bool {
        self.rules[index].looked_at.push(name.to_owned());
        let holds = match (&condition.when, condition.no_reading_for) {
            (Some(filter), _) => self.filter(filter, at, past),
            (None, Some(length)) => {
                let last = self.last(condition.key.as_deref().unwrap());
                last.is_some_and(|(t, _)| at - t >= length.0 / 1_000)
            }
            (None, None) => unreachable!(),
        };
        let timer = self.rules[index].timers.entry(name.to_owned()).or_default();
        if !holds {
            *timer = Timer::default();
            return false;
        }
        if let Some(length) = condition.holds_for {
            let since = *timer.since.get_or_insert(at);
            if reading || since == at {
                timer.last = at;
            }
            return at - since >= length.0 / 1_000;
        }
        let Some(times) = condition.times else { return true };
        if reading && timer.times.last().is_none_or(|last| at > *last) {
            timer.times.push(at);
        }
        let kept = timer
            .times
            .iter()
            .filter(|time| condition.within.is_none_or(|within| **time > at - within.0 / 1_000));
        kept.count() >= times as usize
    }

    fn last(&self, key: &str) -> Option<(i64, f64)> {
        self.readings.get(key).and_then(|all| all.last()).copied()
    }

    fn filter(&self, filter: &Filter, at: i64, past: f64) -> bool {
        if let Some(all) = &filter.all {
            return all.iter().all(|filter| self.filter(filter, at, past));
        }
        if let Some(any) = &filter.any {
            return any.iter().any(|filter| self.filter(filter, at, past));
        }
        self.compare(filter, at, past).unwrap_or(false)
    }

    #[allow(clippy::cast_precision_loss)]
    fn compare(&self, filter: &Filter, at: i64, past: f64) -> Option<bool> {
        let key = filter.key.as_deref().unwrap();
        let all = self.readings.get(key)?;
        let &(time, last) = all.last()?;
        let before = all.iter().rev().nth(1);
        let value = match filter.of.as_deref() {
            None if filter.operator.as_deref() == Some("changed") => {
                return Some(self.changed[key]);
            }
            None => last,
            Some("age") => {
                let Some(Operand::Text(text)) = &filter.value else { panic!() };
                let limit = text.parse::<DurationMs>().unwrap().0 / 1_000;
                return Some(match filter.operator.as_deref() {
                    Some(">=") => at - time >= limit,
                    Some("<") => at - time < limit,
                    other => panic!("{other:?}"),
                });
            }
            Some("rate") => {
                let (t, v) = before?;
                (last - v) / (time - t) as f64
            }
            Some(other) => panic!("{other}"),
        };
        let limit = match &filter.value {
            Some(Operand::Integer(limit)) => *limit as f64,
            Some(Operand::Reference(reference)) => self.last(reference.key.as_deref().unwrap())?.1,
            other => panic!("{other:?}"),
        };
        Some(match filter.operator.as_deref().unwrap() {
            ">" => value > limit + past,
            ">=" => value >= limit + past,
            "<" => value < limit - past,
            "<=" => value <= limit - past,
            "=" => value == limit,
            "!=" => value != limit,
            other => panic!("{other}"),
        })
    }
}

fn clear_due(rule: &AlarmRule, alarm: &Alarm, since: i64) -> i64 {
    (since + seconds(rule.off_delay)).max(alarm.since + seconds(rule.min_on))
}

fn auto_due(rule: &AlarmRule, alarm: &Alarm, at: i64) -> bool {
    rule.auto_clear_after.is_some_and(|after| at >= alarm.last_true + after.0 / 1_000)
}

fn conditions(rule: &AlarmRule) -> Vec<(String, &Condition)> {
    let raises = rule.raise.iter().map(|(name, condition)| (format!("raise {name}"), condition));
    raises.chain(rule.clear.iter().map(|condition| ("clear".to_owned(), condition))).collect()
}

fn leaves<'a>(filter: &'a Filter, found: &mut Vec<&'a Filter>) {
    for inner in filter.all.iter().chain(&filter.any).flatten() {
        leaves(inner, found);
    }
    if filter.key.is_some() {
        found.push(filter);
    }
}

fn all_leaves(rule: &AlarmRule) -> Vec<&Filter> {
    let mut found = Vec::new();
    for (_, condition) in conditions(rule) {
        if let Some(filter) = &condition.when {
            leaves(filter, &mut found);
        }
    }
    found
}

fn keys_of(rule: &AlarmRule) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    for leaf in all_leaves(rule) {
        keys.extend(leaf.key.as_deref());
        if let Some(Operand::Reference(reference)) = &leaf.value {
            keys.extend(reference.key.as_deref());
        }
    }
    keys.extend(conditions(rule).iter().filter_map(|(_, condition)| condition.key.as_deref()));
    keys
}

fn ages_of(rule: &AlarmRule, looked_at: &[String]) -> Vec<(String, i64)> {
    let mut ages: Vec<(String, i64)> = Vec::new();
    for (_, condition) in conditions(rule).iter().filter(|(name, _)| looked_at.contains(name)) {
        let mut found = Vec::new();
        if let Some(filter) = &condition.when {
            leaves(filter, &mut found);
        }
        for leaf in found {
            if let (Some("age"), Some(Operand::Text(text))) = (leaf.of.as_deref(), &leaf.value) {
                let length = text.parse::<DurationMs>().unwrap().0 / 1_000;
                ages.push((leaf.key.clone().unwrap(), length));
            }
        }
        if let (Some(key), Some(length)) = (&condition.key, condition.no_reading_for) {
            ages.push((key.clone(), length.0 / 1_000));
        }
    }
    ages
}

fn seen(world: &mut World, at: i64, values: &[(&'static str, f64)]) -> Vec<(usize, i64, Told)> {
    let pairs: Vec<String> = values.iter().map(|(key, value)| format!("{key} {value}")).collect();
    let (_, out) = world.apply(&format!("{at}s@1000000s d {}", pairs.join(" ")));
    out.into_iter()
        .map(|transition| {
            let told = match transition.kind {
                TransitionKind::Raised => Told::Raised(transition.severity),
                TransitionKind::SeverityChanged { .. } => Told::Changed(transition.severity),
                TransitionKind::Updated => Told::Updated,
                TransitionKind::Cleared { reason } => Told::Cleared(reason),
                other => panic!("{other:?}"),
            };
            let rule = transition.rule.key[1..].parse().unwrap();
            (rule, (transition.at.0 - super::harness::START_MS) / 1_000, told)
        })
        .collect()
}

/// In the order of time and rule, as both sides may interleave rules freely.
fn sorted(mut told: Vec<(usize, i64, Told)>) -> Vec<(usize, i64, Told)> {
    told.sort_by_key(|(rule, at, _)| (*rule, *at));
    told
}

/// Runs one case; how many transitions of each kind it saw.
fn case(seed: u64) -> [usize; 5] {
    let mut rng = StdRng::seed_from_u64(seed);
    let count = rng.random_range(1..4);
    let profile = AlarmProfile {
        name: "p".to_owned(),
        rules: (0..count).map(|index| random_rule(&mut rng, index)).collect(),
        ..AlarmProfile::default()
    };
    let text = toml::to_string(&profile).unwrap();
    let mut world = World::new(&[&text]);
    let mut oracle = Oracle::new(profile);
    let history = random_history(&mut rng);
    let mut kinds = [0; 5];
    for (step, (at, values)) in history.iter().enumerate() {
        // What comes late is late for all of its keys: what a rule makes of keys
        // that are out of step with each other is a text scenario.
        let late = |key: &str| oracle.last(key).is_some_and(|(last, _)| last > *at);
        let kept: Vec<_> =
            values.iter().copied().filter(|(key, _)| *at >= oracle.now || late(key)).collect();
        if kept.is_empty() {
            continue;
        }
        let (seen, expected) =
            (sorted(seen(&mut world, *at, &kept)), sorted(oracle.message(*at, &kept)));
        assert_eq!(
            seen,
            expected,
            "seed {seed}, step {step} at {at}s {values:?}\n{text}\n{:#?}",
            &history[..=step]
        );
        for (_, _, told) in &seen {
            kinds[match told {
                Told::Raised(_) => 0,
                Told::Changed(_) => 1,
                Told::Updated => 2,
                Told::Cleared(ClearReason::Condition) => 3,
                Told::Cleared(_) => 4,
            }] += 1;
        }
        if seed.is_multiple_of(16) {
            let bytes = world.engine.snapshot();
            world.engine = crate::Engine::restore(crate::EngineOptions::default(), &bytes).unwrap();
            assert_eq!(world.engine.snapshot(), bytes, "seed {seed}, step {step}");
        }
    }
    kinds
}

#[test]
fn the_engine_agrees_with_a_naive_evaluator() {
    let mut kinds = [0; 5];
    for seed in 0..CASES {
        for (sum, seen) in kinds.iter_mut().zip(case(seed)) {
            *sum += seen;
        }
    }
    let least = usize::try_from(CASES / 20).unwrap();
    assert!(kinds.iter().all(|seen| *seen >= least), "too little happens: {kinds:?}");
}
