//! Doubtful limits: conditions that can never be true, severities that are
//! never reached, and values at which an alarm is raised and cleared at once.
//!
//! Only comparisons of one key's value with constants are looked at; of more
//! than that nothing is said. What is said is sure, what isn't said is not.

use schema::{AlarmRule, Condition, Filter, Operand, Severity};

use super::check::Problem;
use super::operators;

/// The most intervals of one condition that are looked at.
const MAX_INTERVALS: usize = 64;

/// Values from `low` to `high`, with the ends when they are closed.
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

/// The values for which a condition is true: any of these intervals.
#[derive(Clone, Debug, PartialEq)]
struct Values(Vec<Interval>);

impl Values {
    fn is_empty(&self) -> bool {
        self.0.iter().all(|interval| interval.is_empty())
    }

    fn and(&self, other: &Self) -> Self {
        let pairs = self.0.iter().flat_map(|one| other.0.iter().map(|two| one.and(*two)));
        Self(pairs.filter(|interval| !interval.is_empty()).collect())
    }

    /// True only when all of them are surely among the others.
    fn within(&self, other: &Self) -> bool {
        self.0.iter().all(|one| one.is_empty() || other.0.iter().any(|two| one.and(*two) == *one))
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
fn values(filter: &Filter) -> Option<(&str, Values)> {
    if let Some(filters) = filter.all.as_ref().or(filter.any.as_ref()) {
        let mut parts = filters.iter().map(values);
        let (key, mut whole) = parts.next()??;
        for part in parts {
            let (other, values) = part?;
            if other != key {
                return None;
            }
            if filter.all.is_some() {
                whole = whole.and(&values);
            } else {
                whole.0.extend(values.0);
            }
            if whole.0.len() > MAX_INTERVALS {
                return None;
            }
        }
        return Some((key, whole));
    }
    if filter.of.as_deref().is_some_and(|of| of != "value") {
        return None;
    }
    let key = filter.key.as_deref()?;
    let (operator, _) = operators::find(filter.operator.as_deref()?)?;
    let one = |interval: Interval| vec![interval];
    let exactly =
        |value: f64| Interval { low: value, low_closed: true, high: value, high_closed: true };
    let intervals = match (operator, filter.value.as_ref()?) {
        ("between", Operand::List(pair)) if pair.len() == 2 => {
            let (low, high) = (constant(&pair[0])?, constant(&pair[1])?);
            one(Interval { low, low_closed: true, high, high_closed: true })
        }
        ("outside", Operand::List(pair)) if pair.len() == 2 => {
            let (low, high) = (constant(&pair[0])?, constant(&pair[1])?);
            vec![Interval { high: low, ..ALL }, Interval { low: high, ..ALL }]
        }
        ("in", Operand::List(list)) => {
            list.iter().map(|value| constant(value).map(exactly)).collect::<Option<_>>()?
        }
        (">", value) => one(Interval { low: constant(value)?, ..ALL }),
        (">=", value) => one(Interval { low: constant(value)?, low_closed: true, ..ALL }),
        ("<", value) => one(Interval { high: constant(value)?, ..ALL }),
        ("<=", value) => one(Interval { high: constant(value)?, high_closed: true, ..ALL }),
        ("=", value) => one(exactly(constant(value)?)),
        ("!=", value) => {
            let value = constant(value)?;
            vec![Interval { high: value, ..ALL }, Interval { low: value, ..ALL }]
        }
        _ => return None,
    };
    Some((key, Values(intervals)))
}

fn of(condition: &Condition) -> Option<(&str, Values)> {
    condition.when.as_ref().and_then(values)
}

/// Adds a warning for each contradiction of a rule.
pub(super) fn warn(path: &str, rule: &AlarmRule, warnings: &mut Vec<Problem>) {
    let mut add = |field: String, message: String| {
        warnings.push(Problem { field, value: String::new(), message });
    };
    for (name, condition) in &rule.raise {
        if of(condition).is_some_and(|(_, values)| values.is_empty()) {
            add(format!("{path}.raise.{name}.when"), "no value makes this true".to_owned());
        }
        let Ok(severity) = name.parse::<Severity>() else { continue };
        for (other_name, other) in &rule.raise {
            let worse = other_name.parse::<Severity>().is_ok_and(|other| other > severity);
            let (Some((key, own)), Some((other_key, whole))) = (of(condition), of(other)) else {
                continue;
            };
            let same_kind = condition.holds_for == other.holds_for
                && condition.times == other.times
                && (other.schedule.is_none() || other.schedule == condition.schedule);
            if worse && same_kind && key == other_key && !own.is_empty() && own.within(&whole) {
                add(
                    format!("{path}.raise.{name}.when"),
                    format!(
                        "never reached: `{other_name}` is true for all of these values and goes first"
                    ),
                );
            }
        }
        let own = rule.clear_by_severity.get(name);
        let field = match own {
            Some(_) => format!("{path}.clear_by_severity.{name}.when"),
            None => format!("{path}.clear.when"),
        };
        let Some((key, cleared)) = own.or(rule.clear.as_ref()).and_then(of) else { continue };
        if cleared.is_empty() {
            add(field, format!("no value makes this true, so the alarm can't end at `{name}`"));
            continue;
        }
        // A deadband moves the clear limit away, so that the two may well part.
        let parted = rule.deadband.is_some_and(|deadband| deadband > 0.0);
        let Some((raise_key, raised)) = of(condition) else { continue };
        if key == raise_key && !parted && !cleared.and(&raised).is_empty() {
            add(
                field,
                format!("also true for values at which `{name}` is raised; raising wins there"),
            );
        }
    }
}
