//! Doubtful limits: conditions that can never be true, severities that are
//! never reached, and values at which an alarm is raised and cleared at once.
//!
//! Only single comparisons of one key's value with constants are looked at; of
//! more than that nothing is said.

use schema::{AlarmRule, Condition, Filter, Operand, Severity};

use super::check::Problem;
use super::operators;

/// The values for which a condition is true: from `low` to `high`, with the
/// ends when they are closed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Interval {
    low: f64,
    low_closed: bool,
    high: f64,
    high_closed: bool,
}

const ALL: Interval =
    Interval { low: f64::NEG_INFINITY, low_closed: false, high: f64::INFINITY, high_closed: false };

impl Interval {
    fn is_empty(self) -> bool {
        self.low > self.high || (self.low == self.high && !(self.low_closed && self.high_closed))
    }

    fn and(self, other: Self) -> Self {
        let (low, low_closed) = match self.low.total_cmp(&other.low) {
            std::cmp::Ordering::Greater => (self.low, self.low_closed),
            std::cmp::Ordering::Less => (other.low, other.low_closed),
            std::cmp::Ordering::Equal => (self.low, self.low_closed && other.low_closed),
        };
        let (high, high_closed) = match self.high.total_cmp(&other.high) {
            std::cmp::Ordering::Less => (self.high, self.high_closed),
            std::cmp::Ordering::Greater => (other.high, other.high_closed),
            std::cmp::Ordering::Equal => (self.high, self.high_closed && other.high_closed),
        };
        Self { low, low_closed, high, high_closed }
    }
}

#[allow(clippy::cast_precision_loss, reason = "limits are compared as floating point")]
fn constant(operand: &Operand) -> Option<f64> {
    match operand {
        Operand::Integer(integer) => Some(*integer as f64),
        Operand::Number(number) => Some(*number),
        _ => None,
    }
}

/// The one key that a filter looks at and the values for which it is true.
fn interval(filter: &Filter) -> Option<(&str, Interval)> {
    if let Some(all) = &filter.all {
        let mut parts = all.iter().map(interval);
        let (key, mut whole) = parts.next()??;
        for part in parts {
            let (other, interval) = part?;
            if other != key {
                return None;
            }
            whole = whole.and(interval);
        }
        return Some((key, whole));
    }
    if filter.any.is_some() || filter.of.as_deref().is_some_and(|of| of != "value") {
        return None;
    }
    let key = filter.key.as_deref()?;
    let (operator, _) = operators::find(filter.operator.as_deref()?)?;
    let value = filter.value.as_ref()?;
    let interval = match (operator, value) {
        ("between", Operand::List(pair)) if pair.len() == 2 => Interval {
            low: constant(&pair[0])?,
            low_closed: true,
            high: constant(&pair[1])?,
            high_closed: true,
        },
        (">", value) => Interval { low: constant(value)?, ..ALL },
        (">=", value) => Interval { low: constant(value)?, low_closed: true, ..ALL },
        ("<", value) => Interval { high: constant(value)?, ..ALL },
        ("<=", value) => Interval { high: constant(value)?, high_closed: true, ..ALL },
        ("=", value) => {
            let value = constant(value)?;
            Interval { low: value, low_closed: true, high: value, high_closed: true }
        }
        _ => return None,
    };
    Some((key, interval))
}

fn of(condition: &Condition) -> Option<(&str, Interval)> {
    condition.when.as_ref().and_then(interval)
}

/// Adds a warning for each contradiction of a rule.
pub(super) fn warn(path: &str, rule: &AlarmRule, warnings: &mut Vec<Problem>) {
    let mut add = |field: String, message: String| {
        warnings.push(Problem { field, value: String::new(), message });
    };
    for (name, condition) in &rule.raise {
        if of(condition).is_some_and(|(_, interval)| interval.is_empty()) {
            add(format!("{path}.raise.{name}.when"), "no value makes this true".to_owned());
        }
        let Ok(severity) = name.parse::<Severity>() else { continue };
        for (other_name, other) in &rule.raise {
            let worse = other_name.parse::<Severity>().is_ok_and(|other| other > severity);
            let (Some((key, own)), Some((other_key, whole))) = (of(condition), of(other)) else {
                continue;
            };
            let same_kind =
                condition.holds_for == other.holds_for && condition.times == other.times;
            if worse && same_kind && key == other_key && !own.is_empty() && own.and(whole) == own {
                add(
                    format!("{path}.raise.{name}.when"),
                    format!(
                        "never reached: `{other_name}` is true for all of these values and goes first"
                    ),
                );
            }
        }
        let clear = rule.clear_by_severity.get(name).or(rule.clear.as_ref());
        let Some((key, cleared)) = clear.and_then(of) else { continue };
        let Some((raise_key, raised)) = of(condition) else { continue };
        if key == raise_key && !cleared.and(raised).is_empty() {
            add(
                format!("{path}.clear.when"),
                format!("also true for values at which `{name}` is raised; raising wins there"),
            );
        }
    }
    if rule.clear.as_ref().and_then(of).is_some_and(|(_, interval)| interval.is_empty()) {
        add(
            format!("{path}.clear.when"),
            "no value makes this true, so the alarm can't end".to_owned(),
        );
    }
}
