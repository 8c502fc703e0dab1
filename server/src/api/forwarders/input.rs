//! What a client of the API writes of a forwarder.

use std::collections::BTreeMap;

use schema::{
    ForwardedTolerance, ForwardedType, Forwarder, ForwarderItem, ForwarderScope, LocationId,
    TenantId,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A forwarder to be made.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ForwarderInput)]
pub struct Input {
    /// Whose readings it sends; the token's tenant when not given.
    pub tenant: Option<u64>,
    /// Unique in the tenant; 1 to 255 bytes without control characters.
    name: String,
    scope: Scope,
    /// Whether it sends; true when not given.
    enabled: Option<bool>,
    /// `azure_iot_hub`, `aws_iot_core`, `influxdb` or `blockbax`.
    platform: String,
    /// What the platform asks; see the documentation of each.
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
    /// By name; never shown again.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    /// The telemetry that is sent; all, but for what Baken says itself, when not
    /// given. InfluxDB and Blockbax need at least one.
    #[serde(default)]
    items: Vec<Item>,
    /// Sends only changes, and the same value once so many seconds have passed
    /// since it was sent last; 0 never sends the same value twice in a row. All
    /// is sent when not given.
    smart_interval_s: Option<u32>,
}

/// What is to change of a forwarder; what is not given stays.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ForwarderUpdate)]
pub struct Update {
    name: Option<String>,
    scope: Option<Scope>,
    enabled: Option<bool>,
    /// Another platform needs its settings and secrets with it.
    platform: Option<String>,
    #[schema(value_type = Option<Object>)]
    settings: Option<Map<String, Value>>,
    /// Those that are given replace the former; an empty one takes it away.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    items: Option<Vec<Item>>,
    /// `null` to send all again.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    smart_interval_s: Option<Option<u32>>,
}

/// Tells `null` from what is not given.
fn given<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// Whose readings are sent: `"tenant"`, `{"location": 5}` or
/// `{"location_group": "Coast"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ForwarderScope)]
pub enum Scope {
    Tenant,
    Location(u64),
    LocationGroup(String),
}

/// A telemetry key that is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ForwarderItem)]
pub struct Item {
    key: String,
    /// What each value becomes; InfluxDB and Blockbax need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_type: Option<DataType>,
    /// How far from the value that was sent last still counts as the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tolerance: Option<Tolerance>,
    /// What the platform asks of each item.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
}

/// What a value becomes before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ForwardedType)]
pub enum DataType {
    Number,
    Integer,
    Boolean,
    Text,
    Json,
}

/// `{"absolute": 0.5}`, or `{"relative": 0.01}` for one percent of the value that
/// was sent last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ForwardedTolerance)]
pub enum Tolerance {
    Absolute(f64),
    Relative(f64),
}

impl Input {
    /// The document, and the secrets that are to be sealed into it.
    pub fn forwarder(self, tenant: TenantId) -> (Forwarder, BTreeMap<String, String>) {
        let forwarder = Forwarder {
            tenant,
            name: self.name,
            scope: self.scope.into(),
            enabled: self.enabled.unwrap_or(true),
            paused: false,
            platform: self.platform,
            settings: self.settings,
            secrets: BTreeMap::new(),
            items: self.items.into_iter().map(Into::into).collect(),
            smart_interval_s: self.smart_interval_s,
            identity: None,
        };
        (forwarder, self.secrets)
    }
}

impl Update {
    /// Changes the document; the secrets that are to be sealed into it.
    pub fn change(self, forwarder: &mut Forwarder) -> BTreeMap<String, String> {
        if let Some(name) = self.name {
            forwarder.name = name;
        }
        if let Some(scope) = self.scope {
            forwarder.scope = scope.into();
        }
        if let Some(enabled) = self.enabled {
            forwarder.enabled = enabled;
        }
        if let Some(platform) = self.platform {
            if platform != forwarder.platform {
                // Sealed for the former platform, and of no use to another.
                forwarder.secrets.clear();
            }
            forwarder.platform = platform;
        }
        if let Some(settings) = self.settings {
            forwarder.settings = settings;
        }
        if let Some(items) = self.items {
            forwarder.items = items.into_iter().map(Into::into).collect();
        }
        if let Some(smart_interval_s) = self.smart_interval_s {
            forwarder.smart_interval_s = smart_interval_s;
        }
        self.secrets
    }
}

impl From<Scope> for ForwarderScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Tenant => Self::Tenant,
            Scope::Location(location) => Self::Location(LocationId(location)),
            Scope::LocationGroup(group) => Self::LocationGroup(group),
        }
    }
}

impl From<&ForwarderScope> for Scope {
    fn from(scope: &ForwarderScope) -> Self {
        match scope {
            ForwarderScope::Tenant => Self::Tenant,
            ForwarderScope::Location(location) => Self::Location(location.0),
            ForwarderScope::LocationGroup(group) => Self::LocationGroup(group.clone()),
        }
    }
}

impl From<Item> for ForwarderItem {
    fn from(item: Item) -> Self {
        let data_type = item.data_type.map(|data_type| match data_type {
            DataType::Number => ForwardedType::Number,
            DataType::Integer => ForwardedType::Integer,
            DataType::Boolean => ForwardedType::Boolean,
            DataType::Text => ForwardedType::Text,
            DataType::Json => ForwardedType::Json,
        });
        let tolerance = item.tolerance.map(|tolerance| match tolerance {
            Tolerance::Absolute(width) => ForwardedTolerance::Absolute(width),
            Tolerance::Relative(share) => ForwardedTolerance::Relative(share),
        });
        Self { key: item.key, data_type, tolerance, settings: item.settings }
    }
}

impl From<&ForwarderItem> for Item {
    fn from(item: &ForwarderItem) -> Self {
        let data_type = item.data_type.map(|data_type| match data_type {
            ForwardedType::Number => DataType::Number,
            ForwardedType::Integer => DataType::Integer,
            ForwardedType::Boolean => DataType::Boolean,
            ForwardedType::Text => DataType::Text,
            ForwardedType::Json => DataType::Json,
        });
        let tolerance = item.tolerance.map(|tolerance| match tolerance {
            ForwardedTolerance::Absolute(width) => Tolerance::Absolute(width),
            ForwardedTolerance::Relative(share) => Tolerance::Relative(share),
        });
        let (key, settings) = (item.key.clone(), item.settings.clone());
        Self { key, data_type, tolerance, settings }
    }
}
