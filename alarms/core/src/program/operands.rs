//! What a key is compared with: constants, other keys and attributes.

use schema::{DurationMs, Filter, Operand as OperandText};

use super::check::Compiler;
use super::filter::{KeyRef, Of, Op, Operand};
use super::operators::{self, Wants};
use crate::limits::MAX_LIST;
use crate::value::Scalar;

impl Compiler<'_> {
    pub(super) fn op(
        &mut self,
        path: &str,
        filter: &Filter,
        name: &str,
        wants: Wants,
        of: Of,
    ) -> Option<Op> {
        let field = format!("{path}.value");
        if of == Of::Age {
            return self.age_op(&field, filter, name);
        }
        let value = match (&filter.value, wants) {
            (None, Wants::Nothing) => return Some(Op::Changed),
            (Some(value), Wants::Nothing) => {
                self.error(&field, show(value), format!("`{name}` takes no value"));
                return None;
            }
            (None, _) => {
                self.error(&field, "", format!("`{name}` needs {}", wants.describe()));
                return None;
            }
            (Some(value), _) => value,
        };
        match (wants, value) {
            (Wants::Pair, OperandText::List(pair)) if pair.len() == 2 => {
                let low = self.operand(&format!("{field}[0]"), &pair[0], Wants::Number)?;
                let high = self.operand(&format!("{field}[1]"), &pair[1], Wants::Number)?;
                if let (Operand::Constant(low), Operand::Constant(high)) = (&low, &high)
                    && low.number() > high.number()
                {
                    self.error(&field, show(value), "the lower limit comes first");
                }
                Some(operators::pair(name, low, high))
            }
            (Wants::List, OperandText::List(list)) => {
                if list.is_empty() || list.len() > MAX_LIST {
                    self.error(&field, list.len(), format!("from 1 to {MAX_LIST} values"));
                    return None;
                }
                let items: Option<Box<[Scalar]>> = list.iter().map(scalar).collect();
                if items.is_none() {
                    self.error(&field, show(value), "a list of numbers, booleans or texts");
                }
                Some(operators::list(name, items?))
            }
            (Wants::Pattern, OperandText::Text(text)) => match self.patterns.compile(text) {
                Ok(regex) => Some(Op::Matches(Box::new(regex))),
                Err(message) => {
                    self.error(&field, text, message);
                    None
                }
            },
            (Wants::Boolean, OperandText::Boolean(boolean)) => Some(Op::Is(*boolean)),
            (Wants::Number | Wants::Text | Wants::Any, value) => {
                let operand = self.operand(&field, value, wants)?;
                Some(operators::single(name, operand))
            }
            _ => {
                let message = format!("`{name}` needs {}", wants.describe());
                self.error(&field, show(value), message);
                None
            }
        }
    }

    fn age_op(&mut self, field: &str, filter: &Filter, name: &str) -> Option<Op> {
        let length = match &filter.value {
            Some(OperandText::Text(text)) => text.parse::<DurationMs>().ok(),
            _ => None,
        };
        let Some(length) = length else {
            let written = filter.value.as_ref().map(show).unwrap_or_default();
            self.error(field, written, "an age is compared with a duration, such as `10m`");
            return None;
        };
        Some(operators::single(name, Operand::Constant(Scalar::Integer(length.0))))
    }

    fn operand(&mut self, field: &str, text: &OperandText, wants: Wants) -> Option<Operand> {
        if let OperandText::Reference(reference) = text {
            return match (&reference.key, &reference.attribute) {
                (Some(key), None) if reference.default.is_none() => {
                    self.key(&format!("{field}.key"), key).map(|key| Operand::Key(Box::new(key)))
                }
                (None, Some(name)) if !name.is_empty() => {
                    let name = self.keys.intern(name);
                    if !self.attributes.contains(&name) {
                        self.attributes.push(name);
                    }
                    let default = match &reference.default {
                        None => None,
                        Some(default) => {
                            match self.operand(&format!("{field}.default"), default, wants)? {
                                Operand::Constant(constant) => Some(constant),
                                Operand::Key(_) | Operand::Attribute { .. } => {
                                    self.error(
                                        &format!("{field}.default"),
                                        "",
                                        "a default is a constant",
                                    );
                                    return None;
                                }
                            }
                        }
                    };
                    Some(Operand::Attribute { name, default })
                }
                _ => {
                    self.error(
                        field,
                        "",
                        "either `key`, or `attribute` with a `default` where wanted",
                    );
                    None
                }
            };
        }
        let constant = scalar(text).filter(|constant| wants.takes(constant));
        if constant.is_none() {
            let message = format!("{}, or a table with `key` or `attribute`", wants.describe());
            self.error(field, show(text), message);
        }
        constant.map(Operand::Constant)
    }

    pub(super) fn key(&mut self, field: &str, written: &str) -> Option<KeyRef> {
        let (device, key) = match written.split_once('/') {
            Some((device, key)) => (Some(device), key),
            None => (None, written),
        };
        if key.is_empty() || device.is_some_and(str::is_empty) || written.len() > 512 {
            self.error(field, written, "a telemetry key, or `device/key`, of at most 512 bytes");
            return None;
        }
        let key = KeyRef {
            device: device.map(Into::into),
            key: self.keys.intern(key),
            name: written.into(),
        };
        if !self.rule_keys.contains(&key) {
            self.rule_keys.push(key.clone());
        }
        Some(key)
    }
}

fn show(operand: &OperandText) -> String {
    serde_json::to_string(operand).unwrap_or_default()
}

fn scalar(operand: &OperandText) -> Option<Scalar> {
    match operand {
        OperandText::Boolean(boolean) => Some(Scalar::Boolean(*boolean)),
        OperandText::Integer(integer) => Some(Scalar::Integer(*integer)),
        OperandText::Number(number) => number.is_finite().then_some(Scalar::Number(*number)),
        OperandText::Text(text) => Some(Scalar::from(schema::Value::Text(text))),
        OperandText::List(_) | OperandText::Reference(_) => None,
    }
}
