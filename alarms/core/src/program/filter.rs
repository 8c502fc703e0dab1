//! The tree of a condition and what its leaves compare.

use std::sync::Arc;

use regex::Regex;

use super::history::{History, HistoryKind};
use crate::value::Scalar;

/// A telemetry key, of the rule's own device or of a named one at its location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRef {
    pub device: Option<Arc<str>>,
    pub key: u32,
    /// As it was written.
    pub name: Arc<str>,
}

#[derive(Debug)]
pub(crate) enum Tree {
    All(Box<[Tree]>),
    Any(Box<[Tree]>),
    Is(Test),
}

#[derive(Debug)]
pub(crate) struct Test {
    pub key: KeyRef,
    pub of: Of,
    pub op: Op,
}

/// What of a key is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Value,
    /// Milliseconds since the last value.
    Age,
    /// Delta, rate or change, remembered in the rule's state at this place.
    History(usize),
}

#[derive(Debug)]
pub(crate) enum Op {
    Equal(Operand),
    NotEqual(Operand),
    Above(Operand),
    AtLeast(Operand),
    Below(Operand),
    AtMost(Operand),
    Between(Operand, Operand),
    Outside(Operand, Operand),
    Starts(Operand),
    Ends(Operand),
    Contains(Operand),
    NotContains(Operand),
    In(Box<[Scalar]>),
    NotIn(Box<[Scalar]>),
    Matches(Box<Regex>),
    Is(bool),
    Changed,
}

#[derive(Debug)]
pub(crate) enum Operand {
    Constant(Scalar),
    Key(Box<KeyRef>),
    Attribute { name: u32, default: Option<Scalar> },
}

/// Where a test finds values. The engine answers for one device.
pub(crate) trait Context {
    /// The last value of a key and when it was observed.
    fn last(&self, key: &KeyRef) -> Option<(&Scalar, i64)>;
    fn attribute(&self, name: u32) -> Option<&Scalar>;
    fn history(&self, place: usize) -> Option<&History>;
    fn history_kind(&self, place: usize) -> HistoryKind;
}

/// How much a limit is moved, and which way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shift {
    None,
    /// Past the limit by this much: clear conditions.
    Past(f64),
    /// Short of the limit by this much: what still counts as raised.
    Short(f64),
}

impl Shift {
    /// How far an upward limit moves up.
    #[inline]
    fn up(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Past(by) => by,
            Self::Short(by) => -by,
        }
    }
}

/// Whether a tree is true, and the earliest later time at which that can change
/// with no input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holds {
    pub now: i64,
    pub shift: Shift,
    pub wake: i64,
}

impl Holds {
    pub fn new(now: i64, shift: Shift) -> Self {
        Self { now, shift, wake: i64::MAX }
    }

    /// All leaves that are looked at may set `wake`; what is unknown is false.
    #[inline]
    pub fn tree(&mut self, tree: &Tree, context: &impl Context) -> bool {
        match tree {
            Tree::Is(test) => self.test(test, context).unwrap_or(false),
            Tree::All(_) | Tree::Any(_) => self.branches(tree, context),
        }
    }

    fn branches(&mut self, tree: &Tree, context: &impl Context) -> bool {
        match tree {
            Tree::Is(test) => self.test(test, context).unwrap_or(false),
            // No short cut: a leaf behind a false one may be what changes next.
            Tree::All(trees) => {
                let mut all = true;
                for tree in trees {
                    all &= self.tree(tree, context);
                }
                all
            }
            Tree::Any(trees) => {
                let mut any = false;
                for tree in trees {
                    any |= self.tree(tree, context);
                }
                any
            }
        }
    }

    #[inline]
    fn test(&mut self, test: &Test, context: &impl Context) -> Option<bool> {
        match test.of {
            Of::Value => {
                let (value, _) = context.last(&test.key)?;
                if let Some(is) = self.compare_numbers(&test.op, value) {
                    return Some(is);
                }
                self.compare(&test.op, value, context)
            }
            Of::Age => {
                let (_, at) = context.last(&test.key)?;
                self.age(&test.op, at)
            }
            Of::History(place) => {
                let number = match context.history(place)? {
                    History::Changed(changed) => return Some(*changed),
                    History::Rate { rate, .. } if rate.is_nan() => return None,
                    History::Rate { rate, .. } => *rate,
                    History::Delta(delta) => {
                        let HistoryKind::Delta(window) = context.history_kind(place) else {
                            return None;
                        };
                        let number = context.last(&test.key)?.0.number()?;
                        number - delta.first_since(self.now - window)?
                    }
                };
                let number = Scalar::Number(number);
                let quick = self.compare_numbers(&test.op, &number);
                quick.or_else(|| self.compare(&test.op, &number, context))
            }
        }
    }

    /// Ages only grow, so each comparison with a constant flips once.
    #[allow(clippy::cast_possible_truncation, reason = "durations are whole milliseconds")]
    fn age(&mut self, op: &Op, at: i64) -> Option<bool> {
        let (Op::Above(limit) | Op::AtLeast(limit) | Op::Below(limit) | Op::AtMost(limit)) = op
        else {
            return None;
        };
        let Operand::Constant(limit) = limit else { return None };
        let flips_at = at.saturating_add(limit.number()? as i64)
            + i64::from(matches!(op, Op::Above(_) | Op::AtMost(_)));
        let old = self.now >= flips_at;
        if !old {
            self.wake = self.wake.min(flips_at);
        }
        Some(old == matches!(op, Op::Above(_) | Op::AtLeast(_)))
    }

    /// The most frequent case in few instructions: a number and a constant one.
    #[inline]
    fn compare_numbers(&self, op: &Op, value: &Scalar) -> Option<bool> {
        let Scalar::Number(value) = value else { return None };
        let (Op::Above(Operand::Constant(limit))
        | Op::AtLeast(Operand::Constant(limit))
        | Op::Below(Operand::Constant(limit))
        | Op::AtMost(Operand::Constant(limit))) = op
        else {
            return None;
        };
        let limit = limit.number()?;
        let by = self.shift.up();
        match op {
            Op::Above(_) => Some(*value > limit + by),
            Op::AtLeast(_) => Some(*value >= limit + by),
            Op::Below(_) => Some(*value < limit - by),
            Op::AtMost(_) => Some(*value <= limit - by),
            _ => None,
        }
    }

    fn compare(&self, op: &Op, value: &Scalar, context: &impl Context) -> Option<bool> {
        let by = self.shift.up();
        let number = |operand: &Operand| operand_value(operand, context)?.number();
        let text = |operand: &Operand, holds: fn(&str, &str) -> bool| {
            Some(holds(value.text()?, operand_value(operand, context)?.text()?))
        };
        match op {
            Op::Equal(operand) => value.equals(operand_value(operand, context)?),
            Op::NotEqual(operand) => value.equals(operand_value(operand, context)?).map(|is| !is),
            Op::Above(limit) => Some(value.number()? > number(limit)? + by),
            Op::AtLeast(limit) => Some(value.number()? >= number(limit)? + by),
            Op::Below(limit) => Some(value.number()? < number(limit)? - by),
            Op::AtMost(limit) => Some(value.number()? <= number(limit)? - by),
            Op::Between(low, high) => {
                let value = value.number()?;
                Some(value >= number(low)? + by && value <= number(high)? - by)
            }
            Op::Outside(low, high) => {
                let value = value.number()?;
                Some(value < number(low)? - by || value > number(high)? + by)
            }
            Op::Starts(operand) => text(operand, |a, b| a.starts_with(b)),
            Op::Ends(operand) => text(operand, |a, b| a.ends_with(b)),
            Op::Contains(operand) => text(operand, |a, b| a.contains(b)),
            Op::NotContains(operand) => text(operand, |a, b| !a.contains(b)),
            Op::In(list) => Some(list.iter().any(|item| value.equals(item) == Some(true))),
            Op::NotIn(list) => Some(list.iter().all(|item| value.equals(item) != Some(true))),
            Op::Matches(pattern) => Some(pattern.is_match(value.text()?)),
            Op::Is(expected) => match value {
                Scalar::Boolean(boolean) => Some(boolean == expected),
                _ => None,
            },
            Op::Changed => None,
        }
    }
}

fn operand_value<'a>(operand: &'a Operand, context: &'a impl Context) -> Option<&'a Scalar> {
    match operand {
        Operand::Constant(constant) => Some(constant),
        Operand::Key(key) => context.last(key).map(|(value, _)| value),
        Operand::Attribute { name, default } => context.attribute(*name).or(default.as_ref()),
    }
}
