//! Values to the type that a platform's field has. A platform fixes a field's
//! type with its first write, so that a sensor which says `21` once and `21.5`
//! the next time must be the same type both times.

use schema::Value;

use super::{DataType, Datum, shortest};

/// Why a value does not become the type that its item asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("the value is not of the configured type and does not become one")]
    WrongType,
    #[error("the value is no finite number")]
    NotFinite,
}

/// The value as `wanted`, or as it is where nothing is asked.
///
/// Nothing is rounded and nothing is guessed: 21.5 is no integer and `"on"` no
/// boolean. A number in text is a number, 0 and 1 are booleans.
///
/// # Errors
/// [`Unfit`] says why it does not become one.
#[allow(clippy::cast_precision_loss, reason = "a number field is floating point")]
pub fn coerce(value: Value<'_>, wanted: Option<DataType>) -> Result<Datum, Unfit> {
    if let Value::Number(number) = value
        && !number.is_finite()
    {
        return Err(Unfit::NotFinite);
    }
    let Some(wanted) = wanted else { return Ok(as_it_is(value)) };
    match wanted {
        DataType::Number => match value {
            Value::Number(number) => Ok(Datum::Number(number)),
            Value::Integer(integer) => Ok(Datum::Number(integer as f64)),
            Value::Boolean(boolean) => Ok(Datum::Number(f64::from(u8::from(boolean)))),
            Value::Text(text) => parsed(text).map(Datum::Number),
            Value::Json(_) => Err(Unfit::WrongType),
        },
        DataType::Integer => match value {
            Value::Integer(integer) => Ok(Datum::Integer(integer)),
            Value::Number(number) => whole(number).map(Datum::Integer),
            Value::Boolean(boolean) => Ok(Datum::Integer(i64::from(boolean))),
            Value::Text(text) => match text.trim().parse() {
                Ok(integer) => Ok(Datum::Integer(integer)),
                Err(_) => parsed(text).and_then(whole).map(Datum::Integer),
            },
            Value::Json(_) => Err(Unfit::WrongType),
        },
        DataType::Boolean => boolean(value).map(Datum::Boolean),
        DataType::Text => Ok(Datum::Text(text(value))),
        DataType::Json => match value {
            Value::Json(json) => Ok(Datum::Json(json.into())),
            _ => Err(Unfit::WrongType),
        },
    }
}

fn as_it_is(value: Value<'_>) -> Datum {
    match value {
        Value::Number(number) => Datum::Number(number),
        Value::Integer(integer) => Datum::Integer(integer),
        Value::Boolean(boolean) => Datum::Boolean(boolean),
        Value::Text(text) => Datum::Text(text.into()),
        Value::Json(json) => Datum::Json(json.into()),
    }
}

fn parsed(text: &str) -> Result<f64, Unfit> {
    let number: f64 = text.trim().parse().map_err(|_| Unfit::WrongType)?;
    if number.is_finite() { Ok(number) } else { Err(Unfit::NotFinite) }
}

/// A number without a fraction that fits 64 bits.
#[allow(clippy::cast_possible_truncation, reason = "the bounds are checked before")]
fn whole(number: f64) -> Result<i64, Unfit> {
    // 2^63 is a double, and the first number above what fits.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if number.fract() == 0.0 && (-LIMIT..LIMIT).contains(&number) {
        Ok(number as i64)
    } else {
        Err(Unfit::WrongType)
    }
}

fn boolean(value: Value<'_>) -> Result<bool, Unfit> {
    let number = match value {
        Value::Boolean(boolean) => return Ok(boolean),
        Value::Text(text) if text.eq_ignore_ascii_case("true") => return Ok(true),
        Value::Text(text) if text.eq_ignore_ascii_case("false") => return Ok(false),
        Value::Text(_) | Value::Json(_) => return Err(Unfit::WrongType),
        Value::Integer(integer) => integer,
        Value::Number(number) => whole(number)?,
    };
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Unfit::WrongType),
    }
}

fn text(value: Value<'_>) -> Box<str> {
    match value {
        Value::Text(text) | Value::Json(text) => text.into(),
        Value::Boolean(boolean) => boolean.to_string().into(),
        Value::Integer(integer) => integer.to_string().into(),
        Value::Number(number) => shortest(number).into(),
    }
}
