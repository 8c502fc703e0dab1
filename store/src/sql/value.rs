//! Values that go into statements and come out of rows, the same for both
//! databases. Ids are 64 bits and stand as signed numbers in both.

use std::error::Error;

use rusqlite::types::{ToSqlOutput, ValueRef};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::SqlError;

/// A value on its way into a statement or out of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a str),
    Blob(&'a [u8]),
}

/// A value that a statement keeps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owned {
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl From<i64> for Owned {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<String> for Owned {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Owned {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

impl Value<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Integer(_) => "an integer",
            Self::Real(_) => "a number",
            Self::Text(_) => "a text",
            Self::Blob(_) => "bytes",
        }
    }
}

/// What may be given to a statement.
pub(crate) trait Parameter {
    fn value(&self) -> Value<'_>;
}

macro_rules! integers {
    ($($kind:ty)*) => {$(
        impl Parameter for $kind {
            fn value(&self) -> Value<'_> {
                Value::Integer(i64::from(*self))
            }
        }
    )*};
}

integers!(i64 i32 u8 u16 u32 bool);

impl Parameter for u64 {
    fn value(&self) -> Value<'_> {
        Value::Integer(self.cast_signed())
    }
}

/// A limit: one that no database can count to is none.
impl Parameter for usize {
    fn value(&self) -> Value<'_> {
        Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl Parameter for str {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Parameter for String {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Parameter for [u8] {
    fn value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl Parameter for Vec<u8> {
    fn value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl<const N: usize> Parameter for [u8; N] {
    fn value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl Parameter for Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Integer(value) => Value::Integer(*value),
            Self::Text(value) => Value::Text(value),
            Self::Blob(value) => Value::Blob(value),
        }
    }
}

impl<T: Parameter> Parameter for Option<T> {
    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, Parameter::value)
    }
}

impl<T: Parameter + ?Sized> Parameter for &T {
    fn value(&self) -> Value<'_> {
        (**self).value()
    }
}

/// All parameters of a statement, in order.
pub(crate) trait Parameters {
    fn values(&self) -> Vec<Value<'_>>;
}

impl Parameters for &[&dyn Parameter] {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(|parameter| parameter.value()).collect()
    }
}

impl Parameters for &[Owned] {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(Parameter::value).collect()
    }
}

impl Parameters for [&dyn Parameter; 0] {
    fn values(&self) -> Vec<Value<'_>> {
        Vec::new()
    }
}

impl<T: Parameter> Parameters for [T; 1] {
    fn values(&self) -> Vec<Value<'_>> {
        vec![self[0].value()]
    }
}

impl<T: Parameter> Parameters for [T; 2] {
    fn values(&self) -> Vec<Value<'_>> {
        vec![self[0].value(), self[1].value()]
    }
}

/// Parameters of different kinds.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$(&$value as &dyn $crate::sql::Parameter),*] as &[&dyn $crate::sql::Parameter]
    };
}
pub(crate) use params;

/// What may be read from a column.
pub(crate) trait Column: Sized {
    /// What errors call it.
    const WANTED: &'static str;

    /// None where the value is of another kind.
    fn from_value(value: Value<'_>) -> Option<Self>;
}

pub(super) fn column<T: Column>(column: usize, value: Value<'_>) -> Result<T, SqlError> {
    let (found, wanted) = (value.name(), T::WANTED);
    T::from_value(value).ok_or(SqlError::Column { column, found, wanted })
}

macro_rules! columns {
    ($($kind:ty)*) => {$(
        impl Column for $kind {
            const WANTED: &'static str = concat!("a ", stringify!($kind));

            fn from_value(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Integer(value) => value.try_into().ok(),
                    _ => None,
                }
            }
        }
    )*};
}

columns!(i64 u8 u16 u32 usize);

impl Column for u64 {
    const WANTED: &'static str = "a u64";

    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Integer(value) => Some(value.cast_unsigned()),
            _ => None,
        }
    }
}

impl Column for bool {
    const WANTED: &'static str = "0 or 1";

    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Integer(value) => Some(value != 0),
            _ => None,
        }
    }
}

impl Column for String {
    const WANTED: &'static str = "a text";

    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Text(value) => Some(value.to_owned()),
            _ => None,
        }
    }
}

impl Column for Vec<u8> {
    const WANTED: &'static str = "bytes";

    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Blob(value) => Some(value.to_vec()),
            _ => None,
        }
    }
}

impl Column for [u8; 16] {
    const WANTED: &'static str = "16 bytes";

    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Blob(value) => value.try_into().ok(),
            _ => None,
        }
    }
}

impl<T: Column> Column for Option<T> {
    const WANTED: &'static str = T::WANTED;

    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Null => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(value),
            Self::Real(value) => ValueRef::Real(value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

pub(crate) fn from_sqlite(value: ValueRef<'_>) -> Result<Value<'_>, SqlError> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(_) => Value::Text(value.as_str().map_err(rusqlite::Error::from)?),
        ValueRef::Blob(value) => Value::Blob(value),
    })
}

/// The server says what it wants; numbers are given in that width.
impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match *self {
            Value::Null => Ok(IsNull::Yes),
            Value::Integer(value) => match *kind {
                Type::BOOL => (value != 0).to_sql(kind, out),
                Type::INT2 => i16::try_from(value)?.to_sql(kind, out),
                Type::INT4 => i32::try_from(value)?.to_sql(kind, out),
                Type::INT8 => value.to_sql(kind, out),
                _ => Err(format!("an integer where the statement has {kind}").into()),
            },
            Value::Real(value) => value.to_sql(kind, out),
            Value::Text(value) => value.to_sql(kind, out),
            Value::Blob(value) => value.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Whatever a column of PostgreSQL has, as far as the store's statements go.
impl<'a> FromSql<'a> for Value<'a> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *kind {
            Type::BOOL => Self::Integer(i64::from(bool::from_sql(kind, raw)?)),
            Type::INT2 => Self::Integer(i64::from(i16::from_sql(kind, raw)?)),
            Type::INT4 => Self::Integer(i64::from(i32::from_sql(kind, raw)?)),
            Type::INT8 => Self::Integer(i64::from_sql(kind, raw)?),
            Type::FLOAT8 => Self::Real(f64::from_sql(kind, raw)?),
            Type::BYTEA => Self::Blob(raw),
            _ => Self::Text(<&str>::from_sql(kind, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        let numbers = [Type::BOOL, Type::INT2, Type::INT4, Type::INT8, Type::FLOAT8, Type::BYTEA];
        numbers.contains(kind) || <&str as FromSql>::accepts(kind)
    }
}
