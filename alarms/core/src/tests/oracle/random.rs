//! Random rules and histories, small enough that things happen.

use rand::Rng;
use rand::rngs::StdRng;
use schema::{AlarmRule, Condition, DurationMs, Filter, Operand};

const KEYS: [&str; 3] = ["a", "b", "c"];

fn length(rng: &mut StdRng) -> DurationMs {
    DurationMs(rng.random_range(1..12) * 1_000)
}

fn sometimes<T>(rng: &mut StdRng, share: f64, make: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    rng.random_bool(share).then(|| make(rng))
}

fn random_filter(rng: &mut StdRng, depth: u32) -> Filter {
    if depth < 2 && rng.random_bool(0.3) {
        let count = rng.random_range(1..4);
        let inner = (0..count).map(|_| random_filter(rng, depth + 1)).collect();
        return match rng.random_bool(0.5) {
            true => Filter { all: Some(inner), ..Filter::default() },
            false => Filter { any: Some(inner), ..Filter::default() },
        };
    }
    let key = Some(KEYS[rng.random_range(0..KEYS.len())].to_owned());
    let operators = [">", ">=", "<", "<=", "=", "!="];
    let operator = Some(operators[rng.random_range(0..operators.len())].to_owned());
    let number = Some(Operand::Integer(rng.random_range(0..10)));
    let filter = Filter { key, operator, value: number, ..Filter::default() };
    match rng.random_range(0..10) {
        0 => Filter { operator: Some("changed".to_owned()), value: None, ..filter },
        1 => Filter { of: Some("rate".to_owned()), ..filter },
        2 => {
            let operator = if rng.random_bool(0.5) { ">=" } else { "<" };
            let value = Some(Operand::Text(length(rng).to_string()));
            Filter {
                of: Some("age".to_owned()),
                operator: Some(operator.to_owned()),
                value,
                ..filter
            }
        }
        3 => {
            let key = Some(KEYS[rng.random_range(0..KEYS.len())].to_owned());
            let reference = schema::Reference { key, ..schema::Reference::default() };
            Filter { value: Some(Operand::Reference(reference)), ..filter }
        }
        _ => filter,
    }
}

fn random_condition(rng: &mut StdRng) -> Condition {
    if rng.random_bool(0.08) {
        let key = Some(KEYS[rng.random_range(0..KEYS.len())].to_owned());
        return Condition { key, no_reading_for: Some(length(rng)), ..Condition::default() };
    }
    let mut condition = Condition { when: Some(random_filter(rng, 0)), ..Condition::default() };
    match rng.random_range(0..4) {
        0 => condition.holds_for = Some(length(rng)),
        1 => {
            condition.times = Some(rng.random_range(1..4));
            condition.within = sometimes(rng, 0.5, length);
        }
        _ => {}
    }
    condition
}

pub fn random_rule(rng: &mut StdRng, index: usize) -> AlarmRule {
    let severities = ["critical", "major", "minor"];
    let count = rng.random_range(1..=severities.len());
    AlarmRule {
        key: format!("r{index}"),
        raise: severities[..count]
            .iter()
            .map(|name| ((*name).to_owned(), random_condition(rng)))
            .collect(),
        clear: Some(random_condition(rng)),
        deadband: sometimes(rng, 0.3, |rng| f64::from(rng.random_range(0..3))),
        off_delay: sometimes(rng, 0.3, length),
        min_on: sometimes(rng, 0.3, length),
        re_alarm_after: sometimes(rng, 0.3, length),
        auto_clear_after: sometimes(rng, 0.3, length),
        gap_breaks_duration: rng.random_bool(0.5),
        de_escalate: false,
        ..AlarmRule::default()
    }
}

/// A script of messages of one device, all received long after, so that only
/// its own time counts; some late, some repeated.
pub fn random_history(rng: &mut StdRng) -> Vec<(i64, Vec<(&'static str, f64)>)> {
    let mut at = 0;
    (0..rng.random_range(3..40))
        .map(|_| {
            at += [0, 1, 1, 2, 3, 7, 15][rng.random_range(0..7)];
            let late = if rng.random_bool(0.1) { rng.random_range(0..6) } else { 0 };
            let mut values: Vec<(&'static str, f64)> = Vec::new();
            for key in KEYS {
                if rng.random_bool(0.5) {
                    values.push((key, f64::from(rng.random_range(0..10))));
                }
            }
            ((at - late).max(0), values)
        })
        .filter(|(_, values)| !values.is_empty())
        .collect()
}
