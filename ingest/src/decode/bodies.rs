//! The small bodies: connect, disconnect, attribute requests, RPC.
//!
//! Unknown fields are passed over, as ThingsBoard does.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Unexpected};
use serde_json::value::RawValue;

use super::rejection::Shown;
use super::{Reason, Rejection};

/// `v1/gateway/connect`.
#[derive(Debug, Deserialize)]
pub struct Connect<'a> {
    #[serde(borrow)]
    pub device: Cow<'a, str>,
    /// ThingsBoard's device profile.
    #[serde(borrow, default, rename = "type")]
    pub device_type: Option<Cow<'a, str>>,
}

/// `v1/gateway/disconnect`.
#[derive(Debug, Deserialize)]
pub struct Disconnect<'a> {
    #[serde(borrow)]
    pub device: Cow<'a, str>,
}

/// `v1/devices/me/attributes/request/N`. With neither list, all attributes of
/// both scopes are asked for, as in ThingsBoard.
#[derive(Debug, PartialEq, Eq)]
pub struct AttributeRequest {
    pub client_keys: Option<Vec<String>>,
    pub shared_keys: Option<Vec<String>>,
}

/// `v1/gateway/attributes/request`.
#[derive(Debug, PartialEq, Eq)]
pub struct GatewayAttributeRequest<'a> {
    pub id: i64,
    pub device: Cow<'a, str>,
    /// Client scope if true, else shared.
    pub client: bool,
    pub keys: Vec<String>,
    /// Whether `"keys"` was sent instead of `"key"`: the answer then bears
    /// `"values"` instead of `"value"`.
    pub several: bool,
}

/// A call by a client, `v1/devices/me/rpc/request/N`.
#[derive(Debug, Deserialize)]
pub struct RpcRequest<'a> {
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    #[serde(borrow, default)]
    pub params: Option<&'a RawValue>,
}

/// A gateway's answer to a call, `v1/gateway/rpc`.
#[derive(Debug, Deserialize)]
pub struct GatewayRpcResponse<'a> {
    #[serde(borrow)]
    pub device: Cow<'a, str>,
    #[serde(deserialize_with = "whole_number")]
    pub id: i64,
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
}

/// Reads a `v1/gateway/connect` body.
///
/// # Errors
/// Why it is rejected.
pub fn connect(payload: &[u8]) -> Result<Connect<'_>, Rejection> {
    read(payload, "{\"device\":name,\"type\":profile?}")
}

/// Reads a `v1/gateway/disconnect` body.
///
/// # Errors
/// Why it is rejected.
pub fn disconnect(payload: &[u8]) -> Result<Disconnect<'_>, Rejection> {
    read(payload, "{\"device\":name}")
}

/// Reads a `v1/devices/me/attributes/request/N` body.
///
/// # Errors
/// Why it is rejected.
pub fn attribute_request(payload: &[u8]) -> Result<AttributeRequest, Rejection> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        #[serde(default)]
        client_keys: Option<String>,
        #[serde(default)]
        shared_keys: Option<String>,
    }
    let body: Body = read(payload, "{\"clientKeys\":\"a,b\",\"sharedKeys\":\"c\"}")?;
    Ok(AttributeRequest {
        client_keys: body.client_keys.map(|list| split(&list)),
        shared_keys: body.shared_keys.map(|list| split(&list)),
    })
}

/// Reads a `v1/gateway/attributes/request` body.
///
/// # Errors
/// Why it is rejected.
pub fn gateway_attribute_request(payload: &[u8]) -> Result<GatewayAttributeRequest<'_>, Rejection> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(deserialize_with = "whole_number")]
        id: i64,
        #[serde(borrow)]
        device: Cow<'a, str>,
        client: bool,
        #[serde(default)]
        key: Option<String>,
        #[serde(default)]
        keys: Option<Vec<String>>,
    }
    let form = "{\"id\":n,\"device\":name,\"client\":bool,\"key\":k} or \"keys\":[…]";
    let body: Body<'_> = read(payload, form)?;
    let several = body.keys.is_some();
    let keys = match (body.keys, body.key) {
        (Some(keys), _) => keys,
        (None, Some(key)) => vec![key],
        (None, None) => {
            let detail = format!("neither `key` nor `keys` is given; expected {form}");
            return Err(Rejection::new(Reason::Malformed, detail));
        }
    };
    Ok(GatewayAttributeRequest {
        id: body.id,
        device: body.device,
        client: body.client,
        keys,
        several,
    })
}

/// Reads a client's call.
///
/// # Errors
/// Why it is rejected.
pub fn rpc_request(payload: &[u8]) -> Result<RpcRequest<'_>, Rejection> {
    read(payload, "{\"method\":name,\"params\":any}")
}

/// Reads a gateway's answer to a call.
///
/// # Errors
/// Why it is rejected.
pub fn gateway_rpc_response(payload: &[u8]) -> Result<GatewayRpcResponse<'_>, Rejection> {
    read(payload, "{\"device\":name,\"id\":n,\"data\":any}")
}

/// Any JSON value as its text, such as the answer to a call.
///
/// # Errors
/// Why it is rejected.
pub fn json(payload: &[u8]) -> Result<&RawValue, Rejection> {
    read(payload, "any JSON value")
}

fn read<'a, T: Deserialize<'a>>(payload: &'a [u8], form: &str) -> Result<T, Rejection> {
    serde_json::from_slice(payload).map_err(|error| {
        let shown = String::from_utf8_lossy(payload);
        let detail = format!("{error} in {}; expected {form}", Shown(&shown));
        Rejection::new(Reason::Malformed, detail)
    })
}

fn split(list: &str) -> Vec<String> {
    list.split(',').filter(|key| !key.is_empty()).map(str::to_owned).collect()
}

/// An id as a number or as its text: ThingsBoard's reader takes both.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(i64),
        Text(String),
    }
    match Id::deserialize(deserializer)? {
        Id::Number(number) => Ok(number),
        Id::Text(text) => text
            .parse()
            .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &"a whole number")),
    }
}
