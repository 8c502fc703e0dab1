//! A reading's value on its way to a platform: coerced to the type that the
//! forwarder's item asks for, and compared with the one that was sent last.

mod coerce;
mod number;

pub use coerce::{Unfit, coerce};
pub use number::{decimal, shortest};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A value that owns its text, as it is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Datum {
    /// Always finite.
    Number(f64),
    Integer(i64),
    Boolean(bool),
    Text(Box<str>),
    /// An object or array as its JSON text.
    Json(Box<str>),
}

/// What an item asks a value to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    Number,
    Integer,
    Boolean,
    Text,
    Json,
}

impl Datum {
    /// What it takes of memory beside its own size.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Json(text) => text.len(),
            Self::Number(_) | Self::Integer(_) | Self::Boolean(_) => 0,
        }
    }

    /// What it takes in a JSON body, or a little less where nested JSON is written
    /// anew.
    #[must_use]
    pub fn json_bytes(&self) -> usize {
        match self {
            Self::Text(text) => json_bytes(text),
            Self::Json(json) => json.len(),
            // The longest number has 24 characters.
            Self::Number(_) | Self::Integer(_) | Self::Boolean(_) => 24,
        }
    }

    /// As JSON; nested JSON becomes what it says, or text if it says nothing.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Number(number) => (*number).into(),
            Self::Integer(integer) => (*integer).into(),
            Self::Boolean(boolean) => (*boolean).into(),
            Self::Text(text) => text.as_ref().into(),
            Self::Json(json) => serde_json::from_str(json).unwrap_or_else(|_| json.as_ref().into()),
        }
    }
}

/// What a text takes in JSON with its quotes. A text that is a device's own may
/// be all control characters, each of which takes six bytes.
#[must_use]
pub fn json_bytes(text: &str) -> usize {
    let width = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(width).sum::<usize>() + 2
}

/// What is remembered of a value that was sent: enough to tell whether the next
/// one is the same. Texts are remembered by the beginning of their SHA-256, so
/// that a series takes the same room whatever it says. Stored; the order of the
/// variants is stable.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fingerprint {
    Number(f64),
    Integer(i64),
    Boolean(bool),
    Text([u8; 16]),
    Json([u8; 16]),
}

impl Fingerprint {
    #[must_use]
    pub fn of(datum: &Datum) -> Self {
        match datum {
            Datum::Number(number) => Self::Number(*number),
            Datum::Integer(integer) => Self::Integer(*integer),
            Datum::Boolean(boolean) => Self::Boolean(*boolean),
            Datum::Text(text) => Self::Text(digest(text)),
            Datum::Json(json) => Self::Json(digest(json)),
        }
    }

    /// The value as a number, for tolerances.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a tolerance is floating point")]
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Integer(integer) => Some(integer as f64),
            Self::Boolean(_) | Self::Text(_) | Self::Json(_) => None,
        }
    }
}

fn digest(text: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&Sha256::digest(text.as_bytes())[..16]);
    short
}

#[cfg(test)]
mod tests;
