//! Random profiles, small enough that things happen.

use rand::Rng;
use rand::rngs::StdRng;
use schema::{
    AlarmProfile, AlarmRule, Condition, DurationMs, Filter, Flapping, Operand, Reference, Schedule,
};

/// Keys with numbers, one with texts, and one with booleans.
pub const NUMBERS: [&str; 3] = ["a", "b", "c"];
/// What the platform itself says, in numbers.
pub const SYSTEM: &str = "$baken.n";
pub const TEXT: &str = "s";
pub const BOOLEAN: &str = "g";
pub const TEXTS: [&str; 4] = ["run", "fault 7", "fault", ""];
pub const ATTRIBUTES: [&str; 2] = ["limit", "other"];
pub const DEVICES: [&str; 3] = ["d", "e", "f"];
pub const RULES: [&str; 3] = ["r0", "r1", "r2"];

/// What a case is about, so that its parts meet often enough.
#[derive(Clone, Copy, Debug)]
pub struct Flavour {
    pub devices: usize,
    pub lateness: bool,
    pub cross: bool,
    /// All is received long after, so that devices' own time alone counts.
    pub buffered: bool,
}

impl Flavour {
    pub fn random(rng: &mut StdRng) -> Self {
        let devices = rng.random_range(1..=DEVICES.len());
        let buffered = rng.random_bool(0.5);
        let cross = devices > 1 && rng.random_bool(0.5);
        let lateness = rng.random_bool(0.25);
        Self { devices, lateness, cross, buffered }
    }
}

pub fn pick<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from[rng.random_range(0..from.len())]
}

pub fn length(rng: &mut StdRng) -> DurationMs {
    DurationMs(rng.random_range(1..12) * 1_000)
}

fn sometimes<T>(rng: &mut StdRng, share: f64, make: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    rng.random_bool(share).then(|| make(rng))
}

fn number(rng: &mut StdRng) -> Operand {
    match rng.random_bool(0.8) {
        true => Operand::Integer(rng.random_range(0..10)),
        false => Operand::Number(f64::from(rng.random_range(0..20)) / 2.0),
    }
}

/// A number, another key or an attribute.
fn limit(rng: &mut StdRng) -> Operand {
    match rng.random_range(0..10) {
        0 => Operand::Reference(Reference {
            key: Some(pick(rng, &NUMBERS).to_owned()),
            ..Reference::default()
        }),
        1 | 2 => Operand::Reference(Reference {
            attribute: Some(pick(rng, &ATTRIBUTES).to_owned()),
            default: sometimes(rng, 0.5, |rng| Box::new(number(rng))),
            ..Reference::default()
        }),
        _ => number(rng),
    }
}

fn leaf(operator: &str, key: &str, value: Option<Operand>) -> Filter {
    let (key, operator) = (Some(key.to_owned()), Some(operator.to_owned()));
    Filter { key, operator, value, ..Filter::default() }
}

fn text_leaf(rng: &mut StdRng) -> Filter {
    let text = Operand::Text(pick(rng, &TEXTS).to_owned());
    match rng.random_range(0..4) {
        0 => {
            let list = (0..2).map(|_| Operand::Text(pick(rng, &TEXTS).to_owned())).collect();
            leaf(pick(rng, &["in", "not in"]), TEXT, Some(Operand::List(list)))
        }
        1 => leaf("matches", TEXT, Some(Operand::Text("^fault( [0-9])?$".to_owned()))),
        2 => leaf(pick(rng, &["=", "!="]), TEXT, Some(text)),
        _ => leaf(pick(rng, &["starts", "ends", "contains", "not contains"]), TEXT, Some(text)),
    }
}

fn number_leaf(rng: &mut StdRng) -> Filter {
    let key = if rng.random_bool(0.05) { SYSTEM } else { pick(rng, &NUMBERS) };
    let pair = |rng: &mut StdRng| {
        let low = rng.random_range(0..6);
        let high = low + rng.random_range(0..5);
        Some(Operand::List(vec![Operand::Integer(low), Operand::Integer(high)]))
    };
    let operator = pick(rng, &[">", ">=", "<", "<=", "=", "!="]);
    match rng.random_range(0..14) {
        0 => leaf("changed", key, None),
        1 => Filter { of: Some("rate".to_owned()), ..leaf(operator, key, Some(number(rng))) },
        2 => Filter {
            of: Some("delta".to_owned()),
            window: Some(length(rng)),
            ..leaf(operator, key, Some(number(rng)))
        },
        3 => {
            let value = Some(Operand::Text(length(rng).to_string()));
            Filter { of: Some("age".to_owned()), ..leaf(pick(rng, &[">=", "<"]), key, value) }
        }
        4 => {
            let value = pair(rng);
            leaf(pick(rng, &["between", "outside"]), key, value)
        }
        5 => {
            let list = (0..3).map(|_| Operand::Integer(rng.random_range(0..10))).collect();
            leaf(pick(rng, &["in", "not in"]), key, Some(Operand::List(list)))
        }
        _ => leaf(operator, key, Some(limit(rng))),
    }
}

fn random_filter(rng: &mut StdRng, flavour: Flavour, depth: u32) -> Filter {
    if depth < 2 && rng.random_bool(0.3) {
        let count = rng.random_range(1..4);
        let inner = (0..count).map(|_| random_filter(rng, flavour, depth + 1)).collect();
        return match rng.random_bool(0.5) {
            true => Filter { all: Some(inner), ..Filter::default() },
            false => Filter { any: Some(inner), ..Filter::default() },
        };
    }
    let mut filter = match rng.random_range(0..10) {
        0 => text_leaf(rng),
        1 => leaf("is", BOOLEAN, Some(Operand::Boolean(rng.random_bool(0.5)))),
        _ => number_leaf(rng),
    };
    if flavour.cross && rng.random_bool(0.3) {
        // One device only, so that a rule that looks at no other is surely its.
        filter.key = filter.key.map(|key| format!("e/{key}"));
    }
    filter
}

fn schedule(rng: &mut StdRng) -> Schedule {
    let minute = |rng: &mut StdRng| rng.random_range(0..4);
    let days = match rng.random_range(0..4) {
        0 => vec!["mon".to_owned()],
        1 => vec!["sun".to_owned(), "tue".to_owned()],
        _ => Vec::new(),
    };
    // Histories begin on a Monday, at midnight in UTC and at one in Amsterdam.
    let (hour, time_zone) = match rng.random_range(0..3) {
        0 => ("00", Some("UTC".to_owned())),
        1 => ("01", Some("Europe/Amsterdam".to_owned())),
        _ => ("01", None),
    };
    let from = format!("{hour}:{:02}", minute(rng));
    let to = match rng.random_bool(0.2) {
        true => "00:00".to_owned(),
        false => format!("{hour}:{:02}", minute(rng)),
    };
    Schedule { time_zone, days, from, to }
}

fn random_condition(rng: &mut StdRng, flavour: Flavour) -> Condition {
    if rng.random_bool(0.08) {
        let key = Some(pick(rng, &NUMBERS).to_owned());
        return Condition { key, no_reading_for: Some(length(rng)), ..Condition::default() };
    }
    let when = Some(random_filter(rng, flavour, 0));
    let mut condition = Condition { when, ..Condition::default() };
    match rng.random_range(0..4) {
        0 => condition.holds_for = Some(length(rng)),
        1 => {
            condition.times = Some(rng.random_range(1..4));
            condition.within = sometimes(rng, 0.5, length);
        }
        _ => {}
    }
    condition.schedule = sometimes(rng, 0.1, schedule);
    condition
}

fn random_rule(rng: &mut StdRng, flavour: Flavour, key: &str) -> AlarmRule {
    let severities = [["critical", "major", "minor"], ["high", "middle", "low"]];
    let severities = severities[rng.random_range(0..2)];
    let count = rng.random_range(1..=severities.len());
    let each = |rng: &mut StdRng| {
        let conditions = severities[..count].iter();
        conditions.map(|name| ((*name).to_owned(), random_condition(rng, flavour))).collect()
    };
    let raise = each(rng);
    let by_severity = rng.random_bool(0.15);
    let clear_by_severity = if by_severity { each(rng) } else { Default::default() };
    let own_clear = !by_severity || rng.random_bool(0.5);
    let max_active = rng.random_bool(0.3);
    let mut rule = AlarmRule {
        key: key.to_owned(),
        raise,
        clear: own_clear.then(|| random_condition(rng, flavour)),
        clear_by_severity,
        schedule: sometimes(rng, 0.15, schedule),
        deadband: sometimes(rng, 0.3, |rng| f64::from(rng.random_range(0..3))),
        off_delay: sometimes(rng, 0.3, length),
        min_on: sometimes(rng, 0.3, length),
        re_alarm_after: sometimes(rng, 0.3, length),
        flapping: sometimes(rng, 0.2, |rng| {
            let low = f64::from(rng.random_range(1..20));
            Flapping { low, high: low + f64::from(rng.random_range(1..20)) }
        }),
        latch: rng.random_bool(0.15),
        de_escalate: rng.random_bool(0.3),
        auto_clear_after: sometimes(rng, 0.15, length),
        gap_breaks_duration: rng.random_bool(0.5),
        max_active: max_active.then(|| rng.random_range(1..3)),
        reacknowledge_on_escalation: rng.random_bool(0.3),
        ..AlarmRule::default()
    };
    if rng.random_bool(0.15) {
        let all = rule.raise.values_mut().chain(rule.clear_by_severity.values_mut());
        all.chain(&mut rule.clear).for_each(of_system);
    }
    rule
}

/// The same condition over the platform's key alone.
fn of_system(condition: &mut Condition) {
    condition.key.iter_mut().for_each(rename);
    condition.when.iter_mut().for_each(filter_of_system);
}

fn filter_of_system(filter: &mut Filter) {
    filter.key.iter_mut().for_each(rename);
    if let Some(Operand::Reference(reference)) = &mut filter.value {
        reference.key.iter_mut().for_each(rename);
    }
    filter.all.iter_mut().chain(&mut filter.any).flatten().for_each(filter_of_system);
}

fn rename(key: &mut String) {
    let device = key.split_once('/').map(|(device, _)| format!("{device}/"));
    *key = format!("{}{SYSTEM}", device.unwrap_or_default());
}

pub fn random_profile(rng: &mut StdRng, flavour: Flavour) -> AlarmProfile {
    let count = rng.random_range(1..=RULES.len());
    AlarmProfile {
        name: "p".to_owned(),
        lateness: flavour.lateness.then(|| length(rng)),
        rules: RULES[..count].iter().map(|key| random_rule(rng, flavour, key)).collect(),
        ..AlarmProfile::default()
    }
}

/// The same profile with a rule more, fewer, or written anew.
pub fn edited(rng: &mut StdRng, flavour: Flavour, profile: &AlarmProfile) -> AlarmProfile {
    let mut profile = profile.clone();
    let key = pick(rng, &RULES);
    let place = profile.rules.iter().position(|rule| rule.key == key);
    match (place, rng.random_range(0..4)) {
        (Some(place), 0) => drop(profile.rules.remove(place)),
        (Some(place), 1) => profile.rules[place] = random_rule(rng, flavour, key),
        (Some(place), _) => {
            // A switch only, so that what goes on may go on.
            profile.rules[place].auto_clear_after = sometimes(rng, 0.5, length);
            profile.rules[place].deadband = Some(f64::from(rng.random_range(0..3)));
        }
        (None, _) => profile.rules.push(random_rule(rng, flavour, key)),
    }
    profile
}
