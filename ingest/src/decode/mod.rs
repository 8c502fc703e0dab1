//! Payloads into rows: pure, without IO, clock or state but the key cache.
//!
//! Stands between the MQTT session, which knows the topic, and the batcher.
//! A message is taken whole or leaves no row behind; of a gateway's message,
//! each device's part is.

mod bodies;
mod rejection;

pub use bodies::{
    AttributeRequest, Connect, Disconnect, GatewayAttributeRequest, GatewayRpcResponse, RpcRequest,
    attribute_request, connect, disconnect, gateway_attribute_request, gateway_rpc_response, json,
    rpc_request,
};
pub use rejection::{Reason, Rejection};

use schema::{DeviceId, TenantSettings, TimestampMs};

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
}

/// Adds the rows of a `v1/devices/me/telemetry` message.
///
/// # Errors
/// Why the message is rejected; it has then added no row.
pub fn telemetry(
    payload: &[u8],
    device: DeviceId,
    context: &Context<'_>,
    keys: &mut KeyCache,
    rows: &mut Rows,
) -> Result<(), Rejection> {
    let _ = (payload, device, context, keys, rows);
    Ok(())
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
    let _ = (payload, device, nulls, context, keys, rows);
    Ok(())
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
    let _ = (payload, context, keys, rows, device);
    Ok(GatewayParts::default())
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
    let _ = (payload, context, keys, rows, device);
    Ok(GatewayParts::default())
}
