//! One JSON object of keys and values, straight into rows.
//!
//! A thing that is wrong is noted as the decoder's rejection and the rest of
//! its JSON is passed over, so that the next device's part can still be read
//! and broken JSON behind it is still noticed. Visitors fail for broken JSON only.
//!
//! A time out of bounds is no rejection of that kind: its object is read to its
//! end, as a later `ts` may stand in its stead, and then left out.

use std::fmt;

use schema::{DeviceId, SYSTEM_KEY_PREFIX, TimestampMs};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::rejection::{Shown, leave_out};
use super::{Context, LeftOut, Nulls, Reason, Rejection};
use crate::batch::{Found, KeyCache, Mark, Rows};

/// The state of decoding one message.
#[derive(Debug)]
pub(super) struct Decoder<'c> {
    pub context: &'c Context<'c>,
    pub keys: &'c mut KeyCache,
    pub rows: &'c mut Rows,
    pub nulls: Nulls,
    /// Whose the rows are that are being added.
    pub device: DeviceId,
    /// Rows before the message's first.
    pub rows_before: usize,
    /// The first thing wrong with the part being decoded.
    pub rejection: Option<Rejection>,
    /// Objects of the part that its other objects are taken without.
    pub left_out: Vec<LeftOut>,
}

/// What an object's keys may mean beside telemetry and attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Keys are keys.
    Plain,
    /// `ts` and `values` together make a timestamped object.
    Telemetry,
    /// Telemetry of a gateway, where `metadata` is passed over as well.
    GatewayTelemetry,
}

enum Key {
    Found(Found),
    Ts,
    Values,
    PassedOver,
    Rejected,
}

impl Decoder<'_> {
    pub(super) fn reject(&mut self, reason: Reason, detail: impl Into<String>) {
        self.rejection.get_or_insert_with(|| Rejection::new(reason, detail));
    }

    /// The rejection of a part that ends here and had `rows_before` rows in
    /// front of it: what is wrong with it, or its first object's time if
    /// nothing was taken but for the times.
    pub(super) fn part_rejection(&mut self, rows_before: usize) -> Option<Rejection> {
        let is_nothing_left = self.rows.len() == rows_before && !self.left_out.is_empty();
        let rejection = match self.rejection.take() {
            None if is_nothing_left => Some(self.left_out.swap_remove(0).rejection),
            rejection => rejection,
        };
        if rejection.is_some() {
            self.left_out.clear();
        }
        rejection
    }

    /// The time of an object's values. If it is out of bounds, it is said why,
    /// and the object is to be left out.
    fn observed_at(&mut self, sent: &RawValue) -> (TimestampMs, Option<Rejection>) {
        match self.time(sent.get()) {
            Ok(at) => (at, None),
            Err(rejection) if rejection.reason.is_time() => {
                (self.context.received_at, Some(rejection))
            }
            Err(rejection) => {
                self.rejection.get_or_insert(rejection);
                (self.context.received_at, None)
            }
        }
    }

    /// Decodes an object whose values bear the time of receipt, unless its
    /// form and keys make it a timestamped one.
    pub(super) fn object<'de, A: MapAccess<'de>>(
        &mut self,
        mut map: A,
        form: Form,
    ) -> Result<(), A::Error> {
        let mark = self.rows.mark();
        let received_at = self.context.received_at;
        let mut ts: Option<&'de RawValue> = None;
        let mut values: Option<&'de RawValue> = None;
        let mut timestamped = false;
        let mut out_of_bounds = None;
        self.keys.begin_object();
        while self.rejection.is_none() {
            let Some(key) = map.next_key_seed(KeySeed { decoder: self, form, timestamped })? else {
                break;
            };
            match key {
                Key::Found(found) => self.put(found, received_at, map.next_value()?),
                Key::PassedOver | Key::Rejected => drop(map.next_value::<IgnoredAny>()?),
                Key::Ts => {
                    let sent = map.next_value()?;
                    ts = Some(sent);
                    if timestamped {
                        let observed_at;
                        (observed_at, out_of_bounds) = self.observed_at(sent);
                        self.rows.set_observed_at(mark, observed_at);
                    }
                }
                Key::Values => match ts {
                    // The usual order, time first: no second pass over the values.
                    Some(ts) => {
                        self.rows.truncate(mark);
                        timestamped = true;
                        let observed_at;
                        (observed_at, out_of_bounds) = self.observed_at(ts);
                        map.next_value_seed(ValuesSeed { decoder: self, observed_at })?;
                    }
                    None => values = Some(map.next_value()?),
                },
            }
        }
        if self.rejection.is_some() {
            return pass_over(map);
        }
        if !timestamped {
            out_of_bounds = self.late_time(mark, ts, values);
        }
        match out_of_bounds {
            Some(rejection) if self.rejection.is_none() => {
                self.rows.truncate(mark);
                leave_out(&mut self.left_out, rejection);
            }
            _ => self.rows.compact(mark),
        }
        Ok(())
    }

    /// Finishes an object in which `ts` did not come before `values`; returns
    /// why its time is out of bounds.
    fn late_time(
        &mut self,
        mark: Mark,
        ts: Option<&RawValue>,
        values: Option<&RawValue>,
    ) -> Option<Rejection> {
        match (ts, values) {
            (None, None) => {}
            (Some(ts), Some(values)) => {
                self.rows.truncate(mark);
                let (observed_at, out_of_bounds) = self.observed_at(ts);
                let mut json = serde_json::Deserializer::from_str(values.get());
                let seed = ValuesSeed { decoder: self, observed_at };
                if let Err(error) = seed.deserialize(&mut json) {
                    self.reject(Reason::Malformed, format!("`values`: {error}"));
                }
                return out_of_bounds;
            }
            (Some(value), None) => self.put_named("ts", value),
            (None, Some(value)) => self.put_named("values", value),
        }
        None
    }

    fn put_named(&mut self, name: &str, value: &RawValue) {
        if let Some(found) = self.key(name) {
            self.put(found, self.context.received_at, value);
        }
    }

    /// The object under `values`.
    fn values<'de, A: MapAccess<'de>>(
        &mut self,
        mut map: A,
        observed_at: TimestampMs,
    ) -> Result<(), A::Error> {
        let mark = self.rows.mark();
        self.keys.begin_object();
        while self.rejection.is_none() {
            let seed = KeySeed { decoder: self, form: Form::Plain, timestamped: false };
            match map.next_key_seed(seed)? {
                None => break,
                Some(Key::Found(found)) => self.put(found, observed_at, map.next_value()?),
                Some(_) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if self.rejection.is_some() {
            return pass_over(map);
        }
        self.rows.compact(mark);
        Ok(())
    }

    pub(super) fn key(&mut self, name: &str) -> Option<Found> {
        let limits = self.context.limits;
        if name.is_empty() {
            self.reject(Reason::Malformed, "a key is empty; give it a name");
            return None;
        }
        if name.len() > limits.max_key_bytes {
            let (bytes, most) = (name.len(), limits.max_key_bytes);
            let detail =
                format!("key {} has {bytes} bytes; at most {most} are allowed", Shown(name));
            self.reject(Reason::KeyTooLong, detail);
            return None;
        }
        let row = self.rows.len();
        match self.keys.resolve_in_object(name, self.context.max_keys, row) {
            Ok(found) => {
                if found.earlier_row.is_none()
                    && row - self.rows_before >= limits.max_keys_per_message
                {
                    let most = limits.max_keys_per_message;
                    let detail =
                        format!("key {} is one more than the {most} of a message", Shown(name));
                    self.reject(Reason::TooManyKeys, detail);
                    return None;
                }
                Some(found)
            }
            Err(quota) => {
                self.reject(Reason::KeyQuota, format!("key {}: {quota}", Shown(name)));
                None
            }
        }
    }
}

/// Whether only the platform itself writes the key.
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with(SYSTEM_KEY_PREFIX)
}

fn pass_over<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

struct KeySeed<'a, 'c> {
    decoder: &'a mut Decoder<'c>,
    form: Form,
    /// Other keys of a timestamped object are passed over.
    timestamped: bool,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_, '_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_, '_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        let key = match (self.form, name) {
            (Form::Telemetry | Form::GatewayTelemetry, "ts") => Key::Ts,
            (Form::Telemetry | Form::GatewayTelemetry, "values") => Key::Values,
            (Form::GatewayTelemetry, "metadata") => Key::PassedOver,
            _ if self.timestamped => Key::PassedOver,
            _ if is_reserved(name) => {
                let detail = format!("key {} is the platform's own", Shown(name));
                let rejection = Rejection::new(Reason::ReservedKey, detail);
                leave_out(&mut self.decoder.left_out, rejection);
                Key::PassedOver
            }
            _ => self.decoder.key(name).map_or(Key::Rejected, Key::Found),
        };
        Ok(key)
    }
}

/// Implements the visits of a JSON value that the place doesn't allow: each
/// notes the rejection and reads on.
macro_rules! reject_other_json {
    ($($visit:ident: $type:ty),+) => {
        $(fn $visit<E>(mut self, _: $type) -> Result<(), E> {
            self.misplaced();
            Ok(())
        })+

        fn visit_unit<E>(mut self) -> Result<(), E> {
            self.misplaced();
            Ok(())
        }
    };
    () => {
        reject_other_json!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);
    };
}

struct ValuesSeed<'a, 'c> {
    decoder: &'a mut Decoder<'c>,
    observed_at: TimestampMs,
}

impl ValuesSeed<'_, '_> {
    fn misplaced(&mut self) {
        self.decoder.reject(Reason::Malformed, "`values` is not an object of keys and values");
    }
}

impl<'de> DeserializeSeed<'de> for ValuesSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValuesSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of keys and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.decoder.values(map, self.observed_at)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.misplaced();
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    reject_other_json!();
}

/// Where telemetry or attributes may stand: an object, a list of objects, or both.
pub(super) struct PartSeed<'a, 'c> {
    pub decoder: &'a mut Decoder<'c>,
    pub form: Form,
    pub object_allowed: bool,
    pub list_allowed: bool,
}

impl PartSeed<'_, '_> {
    fn misplaced(&mut self) {
        let expected = match (self.object_allowed, self.list_allowed) {
            (true, true) => "an object, or a list of objects",
            (true, false) => "an object of keys and values",
            _ => "a list of objects",
        };
        self.decoder.reject(Reason::Malformed, format!("found something else than {expected}"));
    }
}

impl<'de> DeserializeSeed<'de> for PartSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PartSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("telemetry or attributes")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        if self.object_allowed {
            return self.decoder.object(map, self.form);
        }
        self.misplaced();
        pass_over(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        if !self.list_allowed {
            self.misplaced();
        }
        let Self { decoder, form, .. } = self;
        while decoder.rejection.is_none() {
            let element = PartSeed { decoder, form, object_allowed: true, list_allowed: false };
            if list.next_element_seed(element)?.is_none() {
                return Ok(());
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    reject_other_json!();
}
