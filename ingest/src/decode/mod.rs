//! Payloads into rows: pure, without IO, clock or state but the key cache.
//!
//! Stands between the MQTT session, which knows the topic, and the batcher.
//! A message is taken whole or leaves no row behind; of a gateway's message,
//! each device's part is. The one exception are times: a router that was away
//! sends what it has buffered in one message, and an object in it that is too
//! far ahead or older than the retention costs only itself. It is left out and
//! reported. If nothing else was in the message, that is why it is rejected.
//!
//! The forms are `ThingsBoard`'s. Where the two differ:
//!
//! - JSON is read strictly. `ThingsBoard`'s reader also takes single quotes,
//!   names without quotes and comments, and keeps `NaN` as text.
//! - A key may not be empty, and a time must lie within the configured bounds.
//! - Types of numbers: at the head of `value.rs`.
//! - A device that is named twice in one gateway message keeps both parts.
//!
//! The same as there: in one object the last value of a repeated key wins, and
//! of a repeated `ts` or `values` too; beside both of them all other keys are
//! passed over; `{}`, `[]` and nothing but nulls are in order and bring no row;
//! an empty payload is malformed.

mod bodies;
mod gateway;
mod object;
mod plain;
mod rejection;
mod value;

pub use bodies::{
    AttributeRequest, Connect, Disconnect, GatewayAttributeRequest, GatewayRpcResponse, RpcRequest,
    attribute_request, connect, disconnect, gateway_attribute_request, gateway_rpc_response, json,
    rpc_request,
};
pub use rejection::{LeftOut, Reason, Rejection};

use schema::{DeviceId, TenantSettings, TimestampMs};
use serde::de::DeserializeSeed;

use self::gateway::MessageSeed;
use self::object::{Decoder, Form, PartSeed};
use self::rejection::Shown;
use crate::batch::{KeyCache, Rows};
use crate::limits::Limits;

/// What decoding needs to know of the message's tenant and time.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub limits: &'a Limits,
    /// When the message was read from its socket; the time of values without one.
    pub received_at: TimestampMs,
    /// The oldest time that is taken; `TimestampMs(i64::MIN)` takes any.
    pub oldest: TimestampMs,
    pub numbers_from_text: bool,
    /// The most distinct keys of the tenant.
    pub max_keys: u32,
}

impl<'a> Context<'a> {
    /// The context of a message of a tenant with these settings.
    #[must_use]
    pub fn new(limits: &'a Limits, settings: &TenantSettings, received_at: TimestampMs) -> Self {
        let retention_ms = i64::from(settings.retention_days) * 24 * 60 * 60 * 1000;
        let oldest = match settings.retention_days {
            0 => i64::MIN,
            _ => received_at.0.saturating_sub(retention_ms),
        };
        Self {
            limits,
            received_at,
            oldest: TimestampMs(oldest),
            numbers_from_text: settings.numbers_from_text,
            max_keys: settings.max_keys,
        }
    }
}

/// What a `null` among attributes means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// Nothing, as in all that devices send.
    Skipped,
    /// The attribute is deleted, as in what the platform sets.
    Deleted,
}

/// What the session knows of a name in a gateway's message.
#[derive(Clone, Debug)]
pub enum DeviceAnswer {
    Known(DeviceId),
    /// To be created; the message is decoded again afterwards.
    Unknown,
    /// May not be used: its part of the message is rejected for this reason.
    Refused(Rejection),
}

/// What came of a gateway's message.
#[derive(Debug, Default)]
pub struct GatewayParts {
    /// Names that were answered [`DeviceAnswer::Unknown`]. If there are any,
    /// no row was added: create the devices and decode the message again.
    pub unknown: Vec<String>,
    /// The parts that were rejected, by device; the rows of all others stand.
    pub rejected: Vec<(String, Rejection)>,
    /// Objects that were left out of parts that were taken, by device.
    pub left_out: Vec<(String, LeftOut)>,
}

/// Adds the rows of a `v1/devices/me/telemetry` message. Returns what was left
/// out of it, an entry for each reason.
///
/// # Errors
/// Why the message is rejected; it has then added no row.
pub fn telemetry(
    payload: &[u8],
    device: DeviceId,
    context: &Context<'_>,
    keys: &mut KeyCache,
    rows: &mut Rows,
) -> Result<Vec<LeftOut>, Rejection> {
    let part = Part { device, form: Form::Telemetry, list_allowed: true, nulls: Nulls::Skipped };
    part.decode(payload, context, keys, rows)
}

/// Adds the rows of a `v1/devices/me/attributes` message.
///
/// # Errors
/// Why the message is rejected; it has then added no row.
pub fn attributes(
    payload: &[u8],
    device: DeviceId,
    nulls: Nulls,
    context: &Context<'_>,
    keys: &mut KeyCache,
    rows: &mut Rows,
) -> Result<(), Rejection> {
    let part = Part { device, form: Form::Plain, list_allowed: false, nulls };
    let mark = rows.mark();
    let mut left_out = part.decode(payload, context, keys, rows)?;
    match left_out.pop() {
        None => Ok(()),
        Some(LeftOut { rejection, .. }) => {
            rows.truncate(mark);
            Err(rejection)
        }
    }
}

/// Adds the rows of a `v1/gateway/telemetry` message. `device` is asked once
/// for each name, in the message's order.
///
/// # Errors
/// Why the whole message is rejected: it is no JSON, or all of its parts are
/// bad; it has then added no row.
pub fn gateway_telemetry(
    payload: &[u8],
    context: &Context<'_>,
    keys: &mut KeyCache,
    rows: &mut Rows,
    device: impl FnMut(&str) -> DeviceAnswer,
) -> Result<GatewayParts, Rejection> {
    decode_gateway(payload, Form::GatewayTelemetry, context, keys, rows, device)
}

/// Adds the rows of a `v1/gateway/attributes` message, as [`gateway_telemetry`].
///
/// # Errors
/// As [`gateway_telemetry`].
pub fn gateway_attributes(
    payload: &[u8],
    context: &Context<'_>,
    keys: &mut KeyCache,
    rows: &mut Rows,
    device: impl FnMut(&str) -> DeviceAnswer,
) -> Result<GatewayParts, Rejection> {
    decode_gateway(payload, Form::Plain, context, keys, rows, device)
}

/// What a message on a device topic may be.
struct Part {
    device: DeviceId,
    form: Form,
    list_allowed: bool,
    nulls: Nulls,
}

impl Part {
    fn decode(
        self,
        payload: &[u8],
        context: &Context<'_>,
        keys: &mut KeyCache,
        rows: &mut Rows,
    ) -> Result<Vec<LeftOut>, Rejection> {
        let text = text(payload, context.limits)?;
        let mut decoder = self.decoder(context, keys, rows);
        if decoder.take_plain(text, self.form, self.list_allowed) {
            return Ok(Vec::new());
        }
        self.decode_generally(text, context, keys, rows)
    }

    fn decoder<'c>(
        &self,
        context: &'c Context<'c>,
        keys: &'c mut KeyCache,
        rows: &'c mut Rows,
    ) -> Decoder<'c> {
        let (rows_before, rejection, left_out) = (rows.len(), None, Vec::new());
        let Self { device, nulls, .. } = *self;
        Decoder { context, keys, rows, nulls, device, rows_before, rejection, left_out }
    }

    /// Reads any JSON.
    fn decode_generally(
        self,
        text: &str,
        context: &Context<'_>,
        keys: &mut KeyCache,
        rows: &mut Rows,
    ) -> Result<Vec<LeftOut>, Rejection> {
        let (mark, rows_before) = (rows.mark(), rows.len());
        let mut decoder = self.decoder(context, keys, rows);
        let Self { form, list_allowed, .. } = self;
        let mut json = serde_json::Deserializer::from_str(text);
        let seed = PartSeed { decoder: &mut decoder, form, object_allowed: true, list_allowed };
        let read = seed.deserialize(&mut json).and_then(|()| json.end());
        let rejection = match read {
            Ok(()) => decoder.part_rejection(rows_before),
            Err(error) => Some(no_json(text, &error)),
        };
        match rejection {
            None => Ok(decoder.left_out),
            Some(rejection) => {
                rows.truncate(mark);
                Err(rejection)
            }
        }
    }
}

fn decode_gateway(
    payload: &[u8],
    form: Form,
    context: &Context<'_>,
    keys: &mut KeyCache,
    rows: &mut Rows,
    device: impl FnMut(&str) -> DeviceAnswer,
) -> Result<GatewayParts, Rejection> {
    let text = text(payload, context.limits)?;
    let (mark, rows_before) = (rows.mark(), rows.len());
    let mut decoder = Decoder {
        context,
        keys,
        rows,
        nulls: Nulls::Skipped,
        device: DeviceId::default(),
        rows_before,
        rejection: None,
        left_out: Vec::new(),
    };
    let (mut parts, mut count) = (GatewayParts::default(), 0);
    let mut json = serde_json::Deserializer::from_str(text);
    let seed =
        MessageSeed { decoder: &mut decoder, form, device, parts: &mut parts, count: &mut count };
    let read = seed.deserialize(&mut json).and_then(|()| json.end());
    let rejection = match read {
        Ok(()) => whole_message(&parts, count),
        Err(error) => Some(no_json(text, &error)),
    };
    if rejection.is_some() || !parts.unknown.is_empty() {
        rows.truncate(mark);
    }
    rejection.map_or(Ok(parts), Err)
}

/// Why the whole message is rejected, where its parts make it so: there are
/// too many values in it, or none of its parts is good.
fn whole_message(parts: &GatewayParts, count: usize) -> Option<Rejection> {
    let (device, first) = parts.rejected.first()?;
    let too_many = parts.rejected.iter().find(|(_, part)| part.reason == Reason::TooManyKeys);
    if let Some((device, part)) = too_many {
        return Some(Rejection::new(part.reason, format!("{}: {}", Shown(device), part.detail)));
    }
    if parts.rejected.len() < count {
        return None;
    }
    let same = parts.rejected.iter().all(|(_, part)| part.reason == first.reason);
    let reason = if same { first.reason } else { Reason::Malformed };
    let detail = format!("all {count} devices are rejected; {}: {}", Shown(device), first.detail);
    Some(Rejection::new(reason, detail))
}

fn text<'p>(payload: &'p [u8], limits: &Limits) -> Result<&'p str, Rejection> {
    if payload.len() > limits.max_payload_bytes {
        let (bytes, most) = (payload.len(), limits.max_payload_bytes);
        let detail = format!("the payload has {bytes} bytes; at most {most} are allowed");
        return Err(Rejection::new(Reason::TooLarge, detail));
    }
    str::from_utf8(payload).map_err(|error| {
        let shown = String::from_utf8_lossy(payload);
        let detail = format!("the payload is no UTF-8: {error} in {}", Shown(&shown));
        Rejection::new(Reason::Malformed, detail)
    })
}

/// Words for broken JSON. `NaN` and the infinities, which are none and which
/// Python's encoder writes all the same, have a reason of their own.
fn no_json(text: &str, error: &serde_json::Error) -> Rejection {
    if text.is_empty() {
        return Rejection::new(Reason::Malformed, "the payload is empty; expected JSON");
    }
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let at = line.get(error.column().saturating_sub(1)..).unwrap_or_default();
    let reason = match at.starts_with("NaN") || at.starts_with("Infinity") {
        true => Reason::NotFinite,
        false => Reason::Malformed,
    };
    Rejection::new(reason, format!("{error} in {}", Shown(text)))
}

#[cfg(test)]
mod tests;
