//! A gateway's message: an object with a part for each device behind it.
//!
//! What is wrong within a part rejects that part, but for times out of bounds,
//! which cost only their objects. Broken JSON rejects the whole
//! message, since nobody can tell where the next part begins; so does a number
//! that no float can be where no number may stand, because the JSON reader
//! stumbles over it.

use std::fmt;

use schema::{DeviceId, MAX_NAME_BYTES};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::object::{Decoder, Form, PartSeed};
use super::rejection::Shown;
use super::{DeviceAnswer, GatewayParts, Reason, Rejection};

/// Decodes the message's parts. Broken JSON is an error; what is wrong with a
/// part stands in `parts`.
pub(super) struct MessageSeed<'a, 'c, F> {
    pub decoder: &'a mut Decoder<'c>,
    pub form: Form,
    pub device: F,
    pub parts: &'a mut GatewayParts,
    /// How many parts there were, good and bad.
    pub count: &'a mut usize,
}

impl<'de, F: FnMut(&str) -> DeviceAnswer> DeserializeSeed<'de> for MessageSeed<'_, '_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&str) -> DeviceAnswer> Visitor<'de> for MessageSeed<'_, '_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a part for each device")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut name = String::new();
        loop {
            let seed = NameSeed { device: &mut self.device, name: &mut name };
            let Some(named) = map.next_key_seed(seed)? else { return Ok(()) };
            *self.count += 1;
            let (mark, rows_before) = (self.decoder.rows.mark(), self.decoder.rows.len());
            self.decoder.rejection = named.rejection;
            self.decoder.device = named.device.unwrap_or_default();
            let is_telemetry = self.form == Form::GatewayTelemetry;
            map.next_value_seed(PartSeed {
                decoder: &mut *self.decoder,
                form: self.form,
                object_allowed: !is_telemetry,
                list_allowed: is_telemetry,
            })?;
            if let Some(rejection) = self.decoder.part_rejection(rows_before) {
                self.decoder.rows.truncate(mark);
                self.parts.rejected.push((name.clone(), rejection));
                continue;
            }
            if named.device.is_none() {
                self.parts.unknown.push(name.clone());
            }
            for left_out in self.decoder.left_out.drain(..) {
                self.parts.left_out.push((name.clone(), left_out));
            }
        }
    }
}

/// A part's device, and what is wrong with it.
struct Named {
    /// None for a device that is yet to be created.
    device: Option<DeviceId>,
    rejection: Option<Rejection>,
}

struct NameSeed<'a, F> {
    device: &'a mut F,
    /// Where the name is left for a report.
    name: &'a mut String,
}

impl<'de, F: FnMut(&str) -> DeviceAnswer> DeserializeSeed<'de> for NameSeed<'_, F> {
    type Value = Named;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Named, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<F: FnMut(&str) -> DeviceAnswer> Visitor<'_> for NameSeed<'_, F> {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a device's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Named, E> {
        let answer = if name.is_empty() || name.len() > MAX_NAME_BYTES {
            let detail = format!(
                "device name {} has {} bytes; 1 to {MAX_NAME_BYTES} are allowed",
                Shown(name),
                name.len()
            );
            DeviceAnswer::Refused(Rejection::new(Reason::DeviceRefused, detail))
        } else {
            (self.device)(name)
        };
        self.name.clear();
        self.name.push_str(name);
        Ok(match answer {
            DeviceAnswer::Known(device) => Named { device: Some(device), rejection: None },
            DeviceAnswer::Unknown => Named { device: None, rejection: None },
            DeviceAnswer::Refused(rejection) => Named { device: None, rejection: Some(rejection) },
        })
    }
}
