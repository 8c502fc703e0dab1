//! One JSON value into a row's value.
//!
//! The text of the JSON value decides, so that no digit is lost on the way:
//!
//! - `true`, `false`: boolean; `null`: none.
//! - A number with neither point nor exponent: integer, or text as sent where
//!   it is beyond an i64. Any other number: the nearest float. `ThingsBoard`
//!   makes `1e3` an integer and turns a number of 17 decimals or more into
//!   text; here a key whose values are floats stays one of floats.
//! - Text: as it is, or a number where the tenant has numbers made from text.
//!   The form is `ThingsBoard`'s (commons-lang's `isParsable`, ASCII only): an
//!   optional minus, digits, at most one point that is not at the end.
//!   Leading zeros are allowed and lost (`"007"` is 7); a plus sign, an
//!   exponent, a blank or a hexadecimal number stay text, as do whole numbers
//!   beyond an i64.
//! - Objects and arrays: their JSON text exactly as sent.

use std::cell::Cell;
use std::fmt;

use schema::{TimestampMs, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::object::Decoder;
use super::rejection::Shown;
use super::{Nulls, Reason, Rejection};
use crate::batch::Found;

impl Decoder<'_> {
    /// Adds the row of a value, or gives an earlier row of the same key in the
    /// same object this value: the last one wins, as in `ThingsBoard`.
    pub(super) fn put(&mut self, found: Found, observed_at: TimestampMs, sent: &RawValue) {
        let sent = sent.get();
        let value = match sent.as_bytes()[0] {
            b'n' => None,
            b't' => Some(Value::Boolean(true)),
            b'f' => Some(Value::Boolean(false)),
            b'"' => return self.put_text(found, observed_at, sent),
            b'{' | b'[' => {
                if !self.check_nested(found, sent) {
                    return;
                }
                Some(Value::Json(sent))
            }
            _ => {
                let Some(value) = self.number(found, sent) else { return };
                Some(value)
            }
        };
        self.place(found, observed_at, value);
    }

    pub(super) fn place(
        &mut self,
        found: Found,
        observed_at: TimestampMs,
        value: Option<Value<'_>>,
    ) {
        let row = found.earlier_row.unwrap_or(self.rows.len());
        match found.earlier_row {
            Some(row) => self.rows.replace(row, value),
            None => self.rows.push(self.device, found.id, observed_at, value),
        }
        if value.is_none() && self.nulls == Nulls::Skipped {
            self.rows.set_aside(row);
        }
    }

    fn put_text(&mut self, found: Found, observed_at: TimestampMs, sent: &str) {
        let inner = &sent[1..sent.len() - 1];
        if !inner.as_bytes().contains(&b'\\') {
            return self.place_text(found, observed_at, inner);
        }
        match serde_json::from_str::<String>(sent) {
            Ok(text) => self.place_text(found, observed_at, &text),
            Err(error) => {
                let key = self.keys.name(found.id);
                let detail = format!("{}: {} is no text: {error}", Shown(&key), Shown(sent));
                self.reject(Reason::Malformed, detail);
            }
        }
    }

    pub(super) fn place_text(&mut self, found: Found, observed_at: TimestampMs, text: &str) {
        if self.context.numbers_from_text
            && let Some(number) = number_from_text(text)
        {
            return self.place(found, observed_at, Some(number));
        }
        if self.check_len(found, text) {
            self.place(found, observed_at, Some(Value::Text(text)));
        }
    }

    fn check_len(&mut self, found: Found, text: &str) -> bool {
        let most = self.context.limits.max_text_bytes;
        if text.len() <= most {
            return true;
        }
        let key = self.keys.name(found.id);
        let detail = format!("{}: {}; at most {most} bytes are allowed", Shown(&key), Shown(text));
        self.reject(Reason::ValueTooLong, detail);
        false
    }

    fn number<'s>(&mut self, found: Found, sent: &'s str) -> Option<Value<'s>> {
        if sent.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
            let number = sent.parse().unwrap_or(f64::INFINITY);
            if number.is_finite() {
                return Some(Value::Number(number));
            }
            let key = self.keys.name(found.id);
            let detail = format!("{}: {} is beyond a 64-bit float", Shown(&key), Shown(sent));
            self.reject(Reason::NotFinite, detail);
            return None;
        }
        match sent.parse() {
            Ok(integer) => Some(Value::Integer(integer)),
            Err(_) => self.check_len(found, sent).then_some(Value::Text(sent)),
        }
    }

    /// Whether a nested value is short, flat and sound enough to be kept. It is
    /// read once more for this, because only its extent is known so far: its
    /// numbers may be infinite and its texts may hold halves of characters.
    fn check_nested(&mut self, found: Found, sent: &str) -> bool {
        if !self.check_len(found, sent) {
            return false;
        }
        let most = self.context.limits.max_nesting;
        let too_deep = Cell::new(false);
        let mut json = serde_json::Deserializer::from_str(sent);
        let Err(error) = (Nested { left: most, too_deep: &too_deep }).deserialize(&mut json) else {
            return true;
        };
        let (key, error) = (self.keys.name(found.id), error.to_string());
        let (key, shown) = (Shown(&key), Shown(sent));
        if too_deep.get() || error.starts_with("recursion limit") {
            let detail = format!("{key}: {shown} is nested deeper than the {most} levels allowed");
            self.reject(Reason::TooDeep, detail);
        } else if error.starts_with("number out of range") {
            let detail = format!("{key}: {shown} holds a number beyond a 64-bit float");
            self.reject(Reason::NotFinite, detail);
        } else {
            self.reject(Reason::Malformed, format!("{key}: {shown}: {error}"));
        }
        false
    }

    /// The time under `ts`, or why it is none or is not taken. As in
    /// `ThingsBoard` it may be a float, whose fraction is cut off, or either as
    /// text.
    pub(super) fn time(&self, sent: &str) -> Result<TimestampMs, Rejection> {
        let Some(ts) = whole_ms(sent) else {
            let detail = format!("`ts`: {} is no time in milliseconds since 1970", Shown(sent));
            return Err(Rejection::new(Reason::Malformed, detail));
        };
        let (now, tolerance_ms) =
            (self.context.received_at.0, self.context.limits.future_tolerance_ms);
        let ahead_ms = ts.saturating_sub(now);
        if ahead_ms > 0 && ahead_ms.unsigned_abs() > tolerance_ms {
            let detail = format!(
                "`ts`: {ts} is {ahead_ms} ms ahead of the server's clock ({now}); \
                 at most {tolerance_ms} ms are allowed"
            );
            return Err(Rejection::of_clock(Reason::Future, detail, ahead_ms));
        }
        // The least i64 stands for all that are less still.
        let oldest = self.context.oldest.0.max(i64::MIN + 1);
        if ts < oldest {
            let detail =
                format!("`ts`: {ts} is before {oldest}, the oldest time that is still kept");
            return Err(Rejection::of_clock(Reason::TooOld, detail, ahead_ms));
        }
        Ok(TimestampMs(ts))
    }
}

/// Any number is a time, the nearest that an i64 can be: what lies beyond is
/// out of bounds and no less a time for it.
fn whole_ms(sent: &str) -> Option<i64> {
    let sent = sent.strip_prefix('"').and_then(|sent| sent.strip_suffix('"')).unwrap_or(sent);
    if let Ok(whole) = sent.parse() {
        return Some(whole);
    }
    if !sent.strip_prefix('-').unwrap_or(sent).starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let number: f64 = sent.parse().ok()?;
    #[allow(clippy::cast_possible_truncation, reason = "the fraction is to be cut off")]
    Some(number as i64)
}

/// The number that a text is, by the rule at the head of this file.
fn number_from_text(text: &str) -> Option<Value<'static>> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.as_bytes().last()?.is_ascii_digit() {
        return None;
    }
    let mut points = 0;
    for byte in digits.bytes() {
        match byte {
            b'0'..=b'9' => {}
            b'.' => points += 1,
            _ => return None,
        }
    }
    match points {
        0 => text.parse().ok().map(Value::Integer),
        1 => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Number),
        _ => None,
    }
}

/// Reads a nested value to its end, counting levels.
struct Nested<'a> {
    left: usize,
    too_deep: &'a Cell<bool>,
}

impl Nested<'_> {
    fn deeper<E: Error>(&self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, too_deep: self.too_deep }),
            None => {
                self.too_deep.set(true);
                Err(E::custom("nested too deep"))
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        while map.next_key_seed(Nested { ..deeper })?.is_some() {
            map.next_value_seed(Nested { ..deeper })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        while list.next_element_seed(Nested { ..deeper })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
