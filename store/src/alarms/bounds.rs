//! Conditions of statements with their values, and columns as they are read.

use schema::Severity;
use serde_json::Value;

use super::AlarmStoreError;
use crate::sql::{Owned, Row, Session, SqlError};

/// Conditions of a statement with their values.
#[derive(Default)]
pub(super) struct Bounds {
    text: Vec<String>,
    values: Vec<Owned>,
}

impl Bounds {
    /// A condition with one value, where there is one.
    pub fn add(&mut self, text: &str, value: Option<impl Into<Owned>>) {
        if let Some(value) = value {
            self.text.push(text.to_owned());
            self.values.push(value.into());
        }
    }

    /// A condition without a value. Bounds that a partial index is made for
    /// stand here in full, because SQLite can't use it for a parameter.
    pub fn fixed(&mut self, text: &str) {
        self.text.push(text.to_owned());
    }

    /// The column has one of these values, where there are any.
    pub fn among<T: Into<Owned>>(&mut self, column: &str, values: impl IntoIterator<Item = T>) {
        let before = self.values.len();
        self.values.extend(values.into_iter().map(Into::into));
        let marks = vec!["?"; self.values.len() - before];
        if !marks.is_empty() {
            self.text.push(format!("{column} IN ({})", marks.join(", ")));
        }
    }

    /// A condition with several values.
    pub fn several(&mut self, text: &str, values: impl IntoIterator<Item = Owned>) {
        self.text.push(text.to_owned());
        self.values.extend(values);
    }

    pub fn clause(&self) -> String {
        if self.text.is_empty() { "1 = 1".to_owned() } else { self.text.join(" AND ") }
    }

    pub fn values(&self) -> &[Owned] {
        &self.values
    }

    pub fn into_values(self) -> Vec<Owned> {
        self.values
    }
}

pub(super) fn number(id: u64) -> i64 {
    id.cast_signed()
}

pub(super) fn rows<T>(
    sql: &Session,
    statement: &str,
    values: &[Owned],
    convert: fn(&Row<'_>) -> Result<T, SqlError>,
) -> Result<Vec<T>, AlarmStoreError> {
    let mut statement = sql.prepare_cached(statement)?;
    Ok(statement.query_map(values, convert)?)
}

pub(super) fn unreadable(column: usize, what: &str) -> SqlError {
    SqlError::Unreadable { column, reason: what.to_owned() }
}

pub(super) fn severity(row: &Row<'_>, column: usize) -> Result<Option<Severity>, SqlError> {
    let stored: Option<u8> = row.get(column)?;
    stored
        .map(|stored| {
            Severity::from_u8(stored).ok_or_else(|| unreadable(column, "an unknown severity"))
        })
        .transpose()
}

pub(super) fn known_severity(row: &Row<'_>, column: usize) -> Result<Severity, SqlError> {
    severity(row, column)?.ok_or_else(|| unreadable(column, "no severity"))
}

pub(super) fn json(row: &Row<'_>, column: usize) -> Result<Option<Value>, SqlError> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| {
        serde_json::from_str(&text).map_err(|error| unreadable(column, &error.to_string()))
    })
    .transpose()
}

pub(super) fn known_json(row: &Row<'_>, column: usize) -> Result<Value, SqlError> {
    Ok(json(row, column)?.unwrap_or(Value::Null))
}
