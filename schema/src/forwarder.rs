//! What sends a customer's readings to a platform of their own.
//!
//! What a platform is asked of and how its settings look is the forwarders'
//! business; here stands what every forwarder has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{LocationId, Sealed, TenantId};

/// A forwarder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forwarder {
    pub tenant: TenantId,
    /// Unique in the tenant.
    pub name: String,
    pub scope: ForwarderScope,
    /// One that is switched off sends nothing, and nothing is kept for it.
    pub enabled: bool,
    /// One that a person has paused sends nothing, and its data is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The platform's name, such as `influxdb`.
    pub platform: String,
    /// As the platform asks; never a secret.
    pub settings: Map<String, Value>,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Sealed>,
    /// The telemetry that is sent; empty for all, where the platform has that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<ForwarderItem>,
    /// Only changes are sent, and the same value once this long has passed; 0
    /// never sends the same value twice in a row. None sends all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smart_interval_s: Option<u32>,
    /// Who it is to the platform, where only one forwarder may be that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

/// Whose readings a forwarder sends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwarderScope {
    Tenant,
    Location(LocationId),
    /// All locations of the tenant that bear this location group.
    LocationGroup(String),
}

/// A telemetry key that is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForwarderItem {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_type: Option<ForwardedType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<ForwardedTolerance>,
    /// What the platform asks of each item.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub settings: Map<String, Value>,
}

/// What a value becomes before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedType {
    Number,
    Integer,
    Boolean,
    Text,
    Json,
}

/// How far from the value that was sent last still counts as the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedTolerance {
    Absolute(f64),
    /// A share of the value that was sent last: 0.01 is one percent.
    Relative(f64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarder_reads_back_as_it_was_written() {
        let text = r#"{"tenant":1,"name":"Cloud","scope":{"location":5},"enabled":true,"platform":"influxdb","settings":{"bucket":"b"},"secrets":{"token":"sealed"},"items":[{"key":"t","data_type":"number","tolerance":{"absolute":0.5},"settings":{"measurement":"m"}}],"smart_interval_s":60}"#;
        let forwarder: Forwarder = serde_json::from_str(text).unwrap();
        assert_eq!(forwarder.scope, ForwarderScope::Location(LocationId(5)));
        assert_eq!(serde_json::to_string(&forwarder).unwrap(), text);
        assert!(!format!("{forwarder:?}").contains("\"sealed\""));
        let scope: ForwarderScope = serde_json::from_str(r#""tenant""#).unwrap();
        assert_eq!(scope, ForwarderScope::Tenant);
    }
}
