//! The value of a reading.

/// What a device said of one key at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A finite floating-point number; NaN and infinities are refused at the edge.
    Number(f64),
    /// A whole number that fits 64 bits.
    Integer(i64),
    Boolean(bool),
    Text(&'a str),
    /// A nested object or array, as the JSON text that was sent.
    Json(&'a str),
}

/// The type of a [`Value`]. The numbers are part of stored formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ValueKind {
    Number = 1,
    Integer = 2,
    Boolean = 3,
    Text = 4,
    Json = 5,
}

impl Value<'_> {
    #[must_use]
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Number(_) => ValueKind::Number,
            Self::Integer(_) => ValueKind::Integer,
            Self::Boolean(_) => ValueKind::Boolean,
            Self::Text(_) => ValueKind::Text,
            Self::Json(_) => ValueKind::Json,
        }
    }

    /// The value as a number, for aggregation: booleans count as 0 and 1, text has none.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "aggregates are floating point")]
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Number(number) => Some(number),
            Self::Integer(integer) => Some(integer as f64),
            Self::Boolean(boolean) => Some(f64::from(u8::from(boolean))),
            Self::Text(_) | Self::Json(_) => None,
        }
    }
}
