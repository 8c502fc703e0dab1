//! The operators by their names, and the nearest to a name that is none.

use super::filter::{Op, Operand};
use crate::value::Scalar;

/// What an operator is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Number,
    Text,
    /// A number, a boolean or a text.
    Any,
    Pair,
    List,
    Pattern,
    Boolean,
    Nothing,
}

impl Wants {
    pub fn describe(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Any => "a number, a boolean or a text",
            Self::Pair => "a list of two numbers",
            Self::List => "a list of values",
            Self::Pattern => "a regular expression",
            Self::Boolean => "true or false",
            Self::Nothing => "no value",
        }
    }

    pub fn takes(self, constant: &Scalar) -> bool {
        match self {
            Self::Number => constant.number().is_some(),
            Self::Text => constant.text().is_some(),
            Self::Any => true,
            Self::Pair | Self::List | Self::Pattern | Self::Boolean | Self::Nothing => false,
        }
    }
}

/// (canonical name, other spelling, what it wants).
const OPERATORS: [(&str, &str, Wants); 17] = [
    ("=", "==", Wants::Any),
    ("!=", "≠", Wants::Any),
    (">", ">", Wants::Number),
    (">=", "≥", Wants::Number),
    ("<", "<", Wants::Number),
    ("<=", "≤", Wants::Number),
    ("between", "between", Wants::Pair),
    ("outside", "outside", Wants::Pair),
    ("starts", "starts with", Wants::Text),
    ("ends", "ends with", Wants::Text),
    ("contains", "contains", Wants::Text),
    ("not contains", "not_contains", Wants::Text),
    ("in", "in", Wants::List),
    ("not in", "not_in", Wants::List),
    ("matches", "matches", Wants::Pattern),
    ("is", "is", Wants::Boolean),
    ("changed", "changed", Wants::Nothing),
];

pub(super) fn find(written: &str) -> Option<(&'static str, Wants)> {
    let found = OPERATORS.iter().find(|(name, other, _)| *name == written || *other == written);
    found.map(|(name, _, wants)| (*name, *wants))
}

/// True for what compares numbers, so that a delta or a rate can be compared.
pub(super) fn is_numeric(name: &str) -> bool {
    matches!(name, "=" | "!=" | ">" | ">=" | "<" | "<=" | "between" | "outside")
}

pub(super) fn unknown(written: &str) -> String {
    let names: Vec<&str> = OPERATORS.iter().map(|(name, _, _)| *name).collect();
    nearest(written, &names)
}

/// Nothing longer is compared with the known names, which are all shorter.
const MAX_COMPARED_BYTES: usize = 64;

/// Says what is known and, where one is near, which was meant.
pub(super) fn nearest(written: &str, names: &[&str]) -> String {
    let near = names
        .iter()
        .filter(|_| written.len() <= MAX_COMPARED_BYTES)
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3) && *distance < name.len())
        .min_by_key(|(distance, _)| *distance);
    let known = names.join(", ");
    match near {
        Some((_, name)) if !written.is_empty() => {
            format!("unknown; the nearest known is `{name}`. Known are {known}")
        }
        _ => format!("known are {known}"),
    }
}

pub(super) fn pair(name: &str, low: Operand, high: Operand) -> Op {
    if name == "between" { Op::Between(low, high) } else { Op::Outside(low, high) }
}

pub(super) fn list(name: &str, items: Box<[Scalar]>) -> Op {
    if name == "in" { Op::In(items) } else { Op::NotIn(items) }
}

/// # Panics
/// If the operator takes no single operand, which the table above rules out.
pub(super) fn single(name: &str, operand: Operand) -> Op {
    match name {
        "=" => Op::Equal(operand),
        "!=" => Op::NotEqual(operand),
        ">" => Op::Above(operand),
        ">=" => Op::AtLeast(operand),
        "<" => Op::Below(operand),
        "<=" => Op::AtMost(operand),
        "starts" => Op::Starts(operand),
        "ends" => Op::Ends(operand),
        "contains" => Op::Contains(operand),
        "not contains" => Op::NotContains(operand),
        other => unreachable!("`{other}` takes no single operand"),
    }
}
