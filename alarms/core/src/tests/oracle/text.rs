//! What a rule mentions, read from the profile as it was written.

use schema::{AlarmRule, Condition, DurationMs, Filter, Operand, Severity};

/// In seconds; none is no time.
pub fn seconds(duration: Option<DurationMs>) -> i64 {
    duration.map_or(0, |duration| duration.0 / 1_000)
}

/// The raise conditions, the worst first.
pub fn raises(rule: &AlarmRule) -> Vec<(Severity, String, &Condition)> {
    let mut all: Vec<_> = rule
        .raise
        .iter()
        .map(|(name, condition)| {
            (name.parse::<Severity>().unwrap(), format!("raise {name}"), condition)
        })
        .collect();
    all.sort_by_key(|(severity, ..)| std::cmp::Reverse(*severity));
    all
}

/// The clear condition that counts at a severity.
pub fn clear_at(rule: &AlarmRule, severity: Severity) -> Option<(String, &Condition)> {
    let mut own = rule.clear_by_severity.iter();
    let own = own.find(|(name, _)| name.parse() == Ok(severity));
    match own {
        Some((name, condition)) => Some((format!("clear {name}"), condition)),
        None => rule.clear.as_ref().map(|condition| ("clear".to_owned(), condition)),
    }
}

/// All conditions by the names of their timers.
pub fn conditions(rule: &AlarmRule) -> Vec<(String, &Condition)> {
    let raises = raises(rule).into_iter().map(|(_, name, condition)| (name, condition));
    let clears = rule.clear_by_severity.iter();
    let clears = clears.map(|(name, condition)| (format!("clear {name}"), condition));
    let clear = rule.clear.iter().map(|condition| ("clear".to_owned(), condition));
    raises.chain(clears).chain(clear).collect()
}

fn leaves_of<'a>(filter: &'a Filter, found: &mut Vec<&'a Filter>) {
    for inner in filter.all.iter().chain(&filter.any).flatten() {
        leaves_of(inner, found);
    }
    if filter.key.is_some() {
        found.push(filter);
    }
}

pub fn leaves(condition: &Condition) -> Vec<&Filter> {
    let mut found = Vec::new();
    if let Some(filter) = &condition.when {
        leaves_of(filter, &mut found);
    }
    found
}

pub fn keys_of_condition(condition: &Condition) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    for leaf in leaves(condition) {
        keys.extend(leaf.key.as_deref());
        if let Some(Operand::Reference(reference)) = &leaf.value {
            keys.extend(reference.key.as_deref());
        }
    }
    keys.extend(condition.key.as_deref());
    keys
}

pub fn keys_of(rule: &AlarmRule) -> Vec<&str> {
    conditions(rule).into_iter().flat_map(|(_, condition)| keys_of_condition(condition)).collect()
}

/// True when the platform itself writes a key, at the server's time.
pub fn is_of_system(key: &str) -> bool {
    key.rsplit('/').next().is_some_and(|own| own.starts_with("$baken."))
}

/// True when a rule looks at nothing else.
pub fn has_system_time(rule: &AlarmRule) -> bool {
    keys_of(rule).into_iter().all(is_of_system)
}

pub fn attributes_of(rule: &AlarmRule) -> Vec<&str> {
    let leaves = conditions(rule).into_iter().flat_map(|(_, condition)| leaves(condition));
    leaves
        .filter_map(|leaf| match &leaf.value {
            Some(Operand::Reference(reference)) => reference.attribute.as_deref(),
            _ => None,
        })
        .collect()
}

/// True when the rule compares what came before with what came last, or counts
/// changes, so that it is never without something to remember.
pub fn looks_back(rule: &AlarmRule) -> bool {
    let mut leaves = conditions(rule).into_iter().flat_map(|(_, condition)| leaves(condition));
    let back = |leaf: &Filter| {
        matches!(leaf.of.as_deref(), Some("rate" | "delta"))
            || leaf.operator.as_deref() == Some("changed")
    };
    rule.flapping.is_some() || leaves.any(back)
}

/// Ages that a condition compares, with their keys, in seconds.
pub fn ages(condition: &Condition) -> Vec<(&str, i64)> {
    let mut ages = Vec::new();
    for leaf in leaves(condition) {
        if let (Some("age"), Some(Operand::Text(text))) = (leaf.of.as_deref(), &leaf.value) {
            ages.push((
                leaf.key.as_deref().unwrap(),
                text.parse::<DurationMs>().unwrap().0 / 1_000,
            ));
        }
    }
    if let (Some(key), Some(length)) = (&condition.key, condition.no_reading_for) {
        ages.push((key.as_str(), length.0 / 1_000));
    }
    ages
}
