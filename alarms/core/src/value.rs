//! The last value of a key, kept small.

use std::fmt::Write as _;

use schema::Value;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_TEXT_BYTES;

/// A value as it is kept. Text is cut at [`MAX_TEXT_BYTES`], and stands apart so
/// that numbers, which most values are, take 16 bytes and no more.
#[allow(clippy::box_collection, reason = "a thin pointer keeps the enum at 16 bytes")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Scalar {
    Number(f64),
    Integer(i64),
    Boolean(bool),
    Text(Box<String>),
    /// Nested JSON; it can be looked at for change only.
    Json(Box<String>),
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[allow(clippy::box_collection, reason = "it is kept as it is returned")]
fn boxed(text: &str) -> Box<String> {
    Box::new(cut(text).to_owned())
}

impl From<Value<'_>> for Scalar {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Number(number) => Self::Number(number),
            Value::Integer(integer) => Self::Integer(integer),
            Value::Boolean(boolean) => Self::Boolean(boolean),
            Value::Text(text) => Self::Text(boxed(text)),
            Value::Json(json) => Self::Json(boxed(json)),
        }
    }
}

impl Scalar {
    /// Takes a new value, in the same memory where it is text.
    pub fn set(&mut self, value: Value<'_>) {
        match (&mut *self, value) {
            (Self::Text(old), Value::Text(new)) | (Self::Json(old), Value::Json(new)) => {
                old.clear();
                old.push_str(cut(new));
            }
            (_, value) => *self = value.into(),
        }
    }

    /// True when the value is the same in kind and content.
    pub fn is(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::Number(old), Value::Number(new)) => old.to_bits() == new.to_bits(),
            (Self::Integer(old), Value::Integer(new)) => *old == new,
            (Self::Boolean(old), Value::Boolean(new)) => *old == new,
            (Self::Text(old), Value::Text(new)) | (Self::Json(old), Value::Json(new)) => {
                old.as_str() == cut(new)
            }
            _ => false,
        }
    }

    pub fn as_value(&self) -> Value<'_> {
        match self {
            Self::Number(number) => Value::Number(*number),
            Self::Integer(integer) => Value::Integer(*integer),
            Self::Boolean(boolean) => Value::Boolean(*boolean),
            Self::Text(text) => Value::Text(text),
            Self::Json(json) => Value::Json(json),
        }
    }

    /// The number that a comparison sees; booleans and text are none.
    #[allow(clippy::cast_precision_loss, reason = "limits are floating point")]
    pub fn number(&self) -> Option<f64> {
        match *self {
            Self::Number(number) => Some(number),
            Self::Integer(integer) => Some(integer as f64),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it takes where it is shown, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Json(text) => text.len(),
            Self::Number(_) | Self::Integer(_) | Self::Boolean(_) => size_of::<f64>(),
        }
    }

    /// Equal as a person sees it: 5 and 5.0 are, 5 and "5" are not.
    pub fn equals(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a == b),
            (Self::Boolean(a), Self::Boolean(b)) => Some(a == b),
            (Self::Text(a), Self::Text(b)) => Some(a == b),
            _ => Some(self.number()? == other.number()?),
        }
    }

    /// Writes it as a person reads it: as JSON, and text without its quotes.
    pub fn write_text(&self, into: &mut String) {
        match self {
            Self::Text(text) | Self::Json(text) => into.push_str(text),
            number => write!(into, "{}", number.to_json()).expect("a string takes all text"),
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Number(number) => serde_json::Value::from(*number),
            Self::Integer(integer) => serde_json::Value::from(*integer),
            Self::Boolean(boolean) => serde_json::Value::from(*boolean),
            Self::Text(text) | Self::Json(text) => serde_json::Value::from(text.as_str()),
        }
    }

    /// A JSON attribute as a value; null is none.
    pub fn from_json(value: &serde_json::Value) -> Option<Self> {
        match value {
            serde_json::Value::Null => None,
            serde_json::Value::Bool(boolean) => Some(Self::Boolean(*boolean)),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(integer) => Some(Self::Integer(integer)),
                None => number.as_f64().map(Self::Number),
            },
            serde_json::Value::String(text) => Some(Self::Text(boxed(text))),
            nested => Some(Self::Json(boxed(&nested.to_string()))),
        }
    }
}
