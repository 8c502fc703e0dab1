//! The directory's documents: who there is, where, and what they may do.
//!
//! Each is stored as JSON with a version; secrets only as hashes. Unknown
//! fields are kept out when read, so an older node reads a newer document.

use serde::{Deserialize, Serialize};

use crate::{
    DeviceId, Forwarder, LocationId, MessageTemplate, OfflineProfile, RouterId, Subscription,
    SystemAlarms, TenantId, TimestampMs, User,
};

/// The longest name of a tenant, location, router, device or token, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// The most location groups that one location is in.
pub const MAX_GROUPS_OF_LOCATION: usize = 32;

/// The longest name of a location group, in bytes.
pub const MAX_LOCATION_GROUP_BYTES: usize = 64;

/// Whether a location group may be called so: 1 to
/// [`MAX_LOCATION_GROUP_BYTES`] bytes without control characters and without
/// white space around them.
#[must_use]
pub fn is_location_group(name: &str) -> bool {
    (1..=MAX_LOCATION_GROUP_BYTES).contains(&name.len())
        && name.trim() == name
        && !name.chars().any(char::is_control)
}

/// A document with its identity and version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Unique over all kinds; assigned by the directory, never used again.
    pub id: u64,
    /// 1 when created, then one more at each change.
    pub version: u64,
    pub changed_at: TimestampMs,
    pub body: DocumentBody,
}

/// What a document is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DocumentBody {
    Tenant(Tenant),
    Location(Location),
    Router(Router),
    Device(Device),
    ApiToken(ApiToken),
    User(User),
    Subscription(Subscription),
    OfflineProfile(OfflineProfile),
    MessageTemplate(MessageTemplate),
    Forwarder(Forwarder),
}

/// The kind of a document, as it is named in storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    Tenant,
    Location,
    Router,
    Device,
    ApiToken,
    User,
    Subscription,
    OfflineProfile,
    MessageTemplate,
    Forwarder,
}

impl DocumentKind {
    pub const ALL: [Self; 10] = [
        Self::Tenant,
        Self::Location,
        Self::Router,
        Self::Device,
        Self::ApiToken,
        Self::User,
        Self::Subscription,
        Self::OfflineProfile,
        Self::MessageTemplate,
        Self::Forwarder,
    ];

    /// The stable name in storage.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Location => "location",
            Self::Router => "router",
            Self::Device => "device",
            Self::ApiToken => "api_token",
            Self::User => "user",
            Self::Subscription => "subscription",
            Self::OfflineProfile => "offline_profile",
            Self::MessageTemplate => "message_template",
            Self::Forwarder => "forwarder",
        }
    }

    /// The kind of this name in storage.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl DocumentBody {
    #[must_use]
    pub fn kind(&self) -> DocumentKind {
        match self {
            Self::Tenant(_) => DocumentKind::Tenant,
            Self::Location(_) => DocumentKind::Location,
            Self::Router(_) => DocumentKind::Router,
            Self::Device(_) => DocumentKind::Device,
            Self::ApiToken(_) => DocumentKind::ApiToken,
            Self::User(_) => DocumentKind::User,
            Self::Subscription(_) => DocumentKind::Subscription,
            Self::OfflineProfile(_) => DocumentKind::OfflineProfile,
            Self::MessageTemplate(_) => DocumentKind::MessageTemplate,
            Self::Forwarder(_) => DocumentKind::Forwarder,
        }
    }

    /// The tenant that the document belongs to; none for a tenant itself and
    /// for a token of the whole installation.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        match self {
            Self::Tenant(_) => None,
            Self::Location(location) => Some(location.tenant),
            Self::Router(router) => Some(router.tenant),
            Self::Device(device) => Some(device.tenant),
            Self::ApiToken(token) => token.tenant,
            Self::User(user) => Some(user.tenant),
            Self::Subscription(subscription) => Some(subscription.tenant),
            Self::OfflineProfile(profile) => Some(profile.tenant),
            Self::MessageTemplate(template) => Some(template.tenant),
            Self::Forwarder(forwarder) => Some(forwarder.tenant),
        }
    }
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// Unique in the installation.
    pub name: String,
    #[serde(default)]
    pub settings: TenantSettings,
}

/// How a tenant's data is treated. The defaults are ThingsBoard's where it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantSettings {
    /// Text that is a number becomes one (`"21.5"` is 21.5).
    pub numbers_from_text: bool,
    /// A malformed payload closes the connection instead of being counted.
    pub close_on_malformed: bool,
    /// Days that history is kept; 0 keeps it for ever.
    pub retention_days: u32,
    /// The most devices behind all routers of the tenant together.
    pub max_devices: u32,
    /// The most distinct telemetry keys of the tenant.
    pub max_keys: u32,
    /// The most readings a second on average, over all routers; 0 sets no limit.
    pub max_readings_per_s: u32,
    /// How often a router sends telemetry, where its own document says nothing;
    /// 0 for routers that send at no interval and are never called silent.
    pub send_interval_s: u32,
    /// A router is silent after so many send intervals without telemetry.
    pub silent_factor: u32,
    pub system_alarms: SystemAlarms,
}

impl Default for TenantSettings {
    fn default() -> Self {
        Self {
            numbers_from_text: true,
            close_on_malformed: false,
            retention_days: 365,
            max_devices: 100_000,
            max_keys: 10_000,
            max_readings_per_s: 0,
            send_interval_s: 60,
            silent_factor: 3,
            system_alarms: SystemAlarms::default(),
        }
    }
}

/// A place at a customer's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Location {
    pub tenant: TenantId,
    /// Unique in the tenant.
    pub name: String,
    /// An IANA time zone, such as `Europe/Amsterdam`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// The location groups that it is in, each once; a group is there as long as
    /// a location is in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// A router at a location. Its location never changes, because its readings
/// would change partition and lose their order; a moved router is a new one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Router {
    pub tenant: TenantId,
    pub location: LocationId,
    /// Unique in the tenant.
    pub name: String,
    /// The device that the router itself is (`v1/devices/me`).
    pub device: DeviceId,
    pub credentials: Credentials,
    /// A router that is not enabled may not connect, and is disconnected.
    pub enabled: bool,
    /// The cloud that it is configured to send to, by host name, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_host: Option<String>,
    /// How often it sends; the tenant's where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_interval_s: Option<u32>,
}

impl Router {
    /// How long it may be connected without telemetry before it is silent;
    /// none for one that sends at no interval.
    #[must_use]
    pub fn silent_after_ms(&self, settings: &TenantSettings) -> Option<i64> {
        let interval_s = self.send_interval_s.unwrap_or(settings.send_interval_s);
        let limit_ms = i64::from(interval_s) * i64::from(settings.silent_factor) * 1_000;
        (limit_ms > 0).then_some(limit_ms)
    }
}

/// How a router proves who it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Credentials {
    /// The user name is an access token; its keyed hash (HMAC-SHA-256 under
    /// the installation's secret, hexadecimal) is stored.
    AccessToken { hash: String },
    /// User name and password, and a client id where one is given.
    Password {
        user: String,
        client_id: Option<String>,
        /// A PHC string by argon2id.
        password_hash: String,
    },
    /// A client certificate by its SHA-256 fingerprint, lower-case hexadecimal.
    Fingerprint { sha256: String },
    /// A client certificate signed by the configured CA, by its common name.
    CommonName { common_name: String },
}

impl Credentials {
    /// What the credentials are found by; unique among all routers.
    #[must_use]
    pub fn lookup_key(&self) -> String {
        match self {
            Self::AccessToken { hash } => format!("token:{hash}"),
            Self::Password { user, .. } => format!("user:{user}"),
            Self::Fingerprint { sha256 } => format!("fingerprint:{sha256}"),
            Self::CommonName { common_name } => format!("cn:{common_name}"),
        }
    }
}

/// A router's own device, or a machine behind one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub tenant: TenantId,
    pub location: LocationId,
    pub router: RouterId,
    /// Unique in the tenant, as in ThingsBoard.
    pub name: String,
    /// ThingsBoard's device profile, as the gateway names it.
    #[serde(default)]
    pub device_type: Option<String>,
    /// False for the router's own device.
    pub behind_router: bool,
}

/// A bearer token of the HTTP API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiToken {
    /// The one tenant that it opens; none opens the whole installation.
    pub tenant: Option<TenantId>,
    pub name: String,
    /// HMAC-SHA-256 under the installation's secret, hexadecimal.
    pub hash: String,
    pub read_only: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_reads_back_as_it_was_written() {
        let document = Document {
            id: 7,
            version: 2,
            changed_at: TimestampMs(5),
            body: DocumentBody::Router(Router {
                tenant: TenantId(1),
                location: LocationId(2),
                name: "north".to_owned(),
                device: DeviceId(8),
                credentials: Credentials::AccessToken { hash: "ab".to_owned() },
                enabled: true,
                cloud_host: None,
                send_interval_s: None,
            }),
        };
        let text = serde_json::to_string(&document).unwrap();
        assert_eq!(
            text,
            r#"{"id":7,"version":2,"changed_at":5,"body":{"kind":"router","tenant":1,"location":2,"name":"north","device":8,"credentials":{"type":"access_token","hash":"ab"},"enabled":true}}"#
        );
        assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document);
    }

    #[test]
    fn a_location_from_before_there_were_groups_reads_and_is_written_as_it_was() {
        let text = r#"{"kind":"location","tenant":1,"name":"North","time_zone":"UTC"}"#;
        let body: DocumentBody = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&body).unwrap(), text);
        let DocumentBody::Location(mut location) = body else { panic!("a location") };
        location.groups.push("Coast".to_owned());
        let text = serde_json::to_string(&location).unwrap();
        assert!(text.ends_with(r#","groups":["Coast"]}"#), "{text}");
        assert_eq!(serde_json::from_str::<Location>(&text).unwrap(), location);
    }

    #[test]
    fn a_group_s_name_is_short_and_plain() {
        let longest = "x".repeat(MAX_LOCATION_GROUP_BYTES);
        for name in ["Coast", "cold stores", "Zuid-Holland/1", "é", longest.as_str()] {
            assert!(is_location_group(name), "{name:?}");
        }
        let too_long = format!("{longest}x");
        for name in ["", " ", " Coast", "Coast ", "a\nb", too_long.as_str()] {
            assert!(!is_location_group(name), "{name:?}");
        }
    }

    #[test]
    fn missing_settings_take_their_defaults_and_misspelt_ones_are_named() {
        let settings: TenantSettings = serde_json::from_str(r#"{"retention_days":30}"#).unwrap();
        assert_eq!(settings, TenantSettings { retention_days: 30, ..TenantSettings::default() });
        let error = serde_json::from_str::<TenantSettings>(r#"{"retention":30}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `retention`"), "{error}");
    }
}
