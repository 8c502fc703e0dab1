//! Values of readings on their way to and from the columns of PostgreSQL. What
//! a column can't hold as it is stands there escaped, so that nothing is lost.

use std::borrow::Cow;

use schema::{Value, ValueKind};
use serde::de::IgnoredAny;
use tokio_postgres::Row as SqlRow;

use super::time::Micros;
use crate::history::HistoryError;
use crate::history::rows::{Row, Rows};

/// A text as PostgreSQL takes it, and whether it is escaped.
pub(super) struct Stored<'a> {
    pub text: Cow<'a, str>,
    pub escaped: bool,
}

impl<'a> Stored<'a> {
    /// As the inside of a JSON string where it holds U+0000.
    pub fn text(text: &'a str) -> Self {
        if !text.as_bytes().contains(&0) {
            return Self { text: text.into(), escaped: false };
        }
        let quoted = quote(text);
        let inside = &quoted[1..quoted.len() - 1];
        Self { text: inside.to_owned().into(), escaped: true }
    }

    /// As a JSON string where PostgreSQL might refuse it.
    pub fn json(json: &'a str) -> Self {
        if serde_json::from_str::<IgnoredAny>(json).is_ok() {
            return Self { text: json.into(), escaped: false };
        }
        Self { text: quote(json).into(), escaped: true }
    }
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The text that was stored.
pub(super) fn unescape(stored: &str, escaped: bool) -> Result<Cow<'_, str>, HistoryError> {
    if !escaped {
        return Ok(stored.into());
    }
    unquote(&format!("\"{stored}\"")).map(Cow::Owned)
}

fn unquote(quoted: &str) -> Result<String, HistoryError> {
    serde_json::from_str(quoted)
        .map_err(|error| HistoryError::Contents(format!("an escaped text: {error}")))
}

/// Adds a reading whose columns number, integer, boolean, escaped, text and json
/// begin at `first`.
pub(super) fn push(
    out: &mut Rows,
    observed_at: i64,
    row: &SqlRow,
    first: usize,
) -> Result<(), HistoryError> {
    if let Some(number) = row.try_get::<_, Option<f64>>(first)? {
        out.push(observed_at, Value::Number(number));
    } else if let Some(integer) = row.try_get::<_, Option<i64>>(first + 1)? {
        out.push(observed_at, Value::Integer(integer));
    } else if let Some(boolean) = row.try_get::<_, Option<bool>>(first + 2)? {
        out.push(observed_at, Value::Boolean(boolean));
    } else if let Some(text) = row.try_get::<_, Option<&str>>(first + 4)? {
        let escaped = row.try_get::<_, Option<bool>>(first + 3)?.unwrap_or(false);
        out.push(observed_at, Value::Text(&unescape(text, escaped)?));
    } else if let Some(json) = row.try_get::<_, Option<JsonText<'_>>>(first + 5)? {
        let escaped = row.try_get::<_, Option<bool>>(first + 3)?.unwrap_or(false);
        let json = if escaped { unquote(json.0)?.into() } else { Cow::Borrowed(json.0) };
        out.push(observed_at, Value::Json(&json));
    } else {
        return Err(HistoryError::Contents("a reading without a value".to_owned()));
    }
    Ok(())
}

/// The time of a row of `readings` or of `odd_readings`.
pub(super) fn observed_at(row: &SqlRow, column: usize, odd: bool) -> Result<i64, HistoryError> {
    if odd {
        return Ok(row.try_get(column)?);
    }
    Ok(row.try_get::<_, Micros>(column)?.ms())
}

/// A column of the type JSON as it stands there.
struct JsonText<'a>(&'a str);

impl<'a> tokio_postgres::types::FromSql<'a> for JsonText<'a> {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?))
    }

    tokio_postgres::types::accepts!(JSON);
}

/// The value of a gathered row, borrowed.
pub(super) fn value<'a>(rows: &'a Rows, row: &Row) -> Value<'a> {
    let text = || std::str::from_utf8(rows.text(row)).unwrap_or_default();
    match row.kind {
        ValueKind::Number => Value::Number(f64::from_bits(row.bits)),
        ValueKind::Integer => Value::Integer(row.bits.cast_signed()),
        ValueKind::Boolean => Value::Boolean(row.bits != 0),
        ValueKind::Text => Value::Text(text()),
        ValueKind::Json => Value::Json(text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgresql_cannot_hold_comes_back_from_its_escaped_form() {
        for text in ["", "plain \"quoted\" \\", "a\0b", "\0", "\u{1}\0ä\u{1f600}"] {
            let stored = Stored::text(text);
            assert!(!stored.text.contains('\0'));
            assert_eq!(unescape(&stored.text, stored.escaped).unwrap(), text);
        }
        for (json, escaped) in [("{\"a\": [1,  2]}", false), ("{\"a\0\":1}", true), ("no", true)] {
            let stored = Stored::json(json);
            assert_eq!(stored.escaped, escaped);
            if escaped {
                assert_eq!(unquote(&stored.text).unwrap(), json);
            }
        }
    }
}
