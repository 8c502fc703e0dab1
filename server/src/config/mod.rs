//! The one configuration of a node: its sections, what each setting means, and
//! what it is when nobody sets it.
//!
//! Files, environment variables and flags are laid over these defaults in
//! [`load`]; the reference is generated from the same structs in [`reference`].
//! It describes; it opens no socket and makes no folder.

mod backup;
mod forwarders;
mod load;
mod mqtt;
mod notifications;
mod reference;
mod roles;
mod service_url;
mod settings;
mod storage;
mod text;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use backup::BackupConfig;
pub use forwarders::ForwarderConfig;
pub use load::{ConfigError, ConfigErrors, Layers, Loaded, Source};
pub use mqtt::{
    AddressConfig, AuthConfig, MqttConfig, MqttLimits, PresenceConfig, SessionConfig, TlsConfig,
};
pub use notifications::{
    CmConfig, EmailConfig, EmailTls, HttpSmsConfig, NotificationsConfig, SmsConfig,
    SmsProviderName, TwilioConfig, WebhookConfig,
};
pub use reference::reference;
pub use roles::{Role, Roles};
pub use service_url::ServiceUrl;
pub use settings::{Kind, Setting, settings};
pub use storage::{
    AlarmConfig, BatchConfig, HistoryConfig, HistoryFilesConfig, JournalConfig, StoreConfig,
};
pub use text::{AllowedNetworks, Hosts, Listen, Rates};

/// The configuration of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The process and its folder.
    #[schema(inline)]
    pub server: ServerConfig,
    /// The MQTT broker that routers connect to.
    #[schema(inline)]
    pub mqtt: MqttConfig,
    /// The durable journal: what is acknowledged is in here.
    #[schema(inline)]
    pub journal: JournalConfig,
    /// Where directory, history, alarms and what else is stored are kept.
    #[schema(inline)]
    pub store: StoreConfig,
    /// The history that queries read.
    #[schema(inline)]
    pub history: HistoryConfig,
    /// The alarm workers.
    #[schema(inline)]
    pub alarms: AlarmConfig,
    /// How people are told of alarms.
    #[schema(inline)]
    pub notifications: NotificationsConfig,
    /// Forwarders of readings to customers' own platforms.
    #[schema(inline)]
    pub forwarders: ForwarderConfig,
    /// Backups of the node's folder while it runs.
    #[schema(inline)]
    pub backup: BackupConfig,
    /// The HTTP API, health and metrics.
    #[schema(inline)]
    pub api: ApiConfig,
    /// What the process writes about itself to standard error.
    #[schema(inline)]
    pub log: LogConfig,
    /// Metrics for Prometheus, at `/metrics` of the API's address.
    #[schema(inline)]
    pub metrics: MetricsConfig,
}

/// The process and its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The folder that holds all: journal, history, directory, secret, admin
    /// token. One process at a time. Also the flag `--data`.
    #[schema(value_type = String, format = "folder")]
    pub data_dir: PathBuf,
    /// The file with the installation's secret, 64 hexadecimal digits, with which
    /// tokens are checked and what must be read back is sealed. Empty for the
    /// folder's own file `secret`, which the first start makes. Several nodes of
    /// one installation have the same.
    #[schema(value_type = String, format = "file")]
    pub secret_file: PathBuf,
    /// The node's name in metrics; empty takes the machine's.
    pub node: String,
    /// What this node does of all that is to be done, with commas between:
    /// `ingest`, `recorder`, `alarms`, `notifier`, `forwarders`, `api`. Other than
    /// all where several nodes share a journal in Kafka and a store in PostgreSQL.
    /// Also the flag `--roles`.
    #[schema(value_type = String, format = "roles with commas between")]
    pub roles: Roles,
    /// Threads that carry connections and queries; 0 takes one for each core.
    #[schema(minimum = 0, maximum = 1024)]
    pub worker_threads: u32,
    /// How long an orderly stop may take before the process ends anyway. What
    /// was acknowledged is on disk in either case.
    #[schema(minimum = 100, maximum = 600_000)]
    pub shutdown_timeout_ms: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            secret_file: PathBuf::new(),
            node: String::new(),
            roles: Roles::default(),
            worker_threads: 0,
            shutdown_timeout_ms: 20_000,
        }
    }
}

/// The HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Where HTTP is taken. Plain: put a proxy with TLS before it when it is
    /// to be reached from other machines.
    #[schema(value_type = String, format = "address:port")]
    pub listen: SocketAddr,
    /// The largest body of a request.
    #[schema(minimum = 1_024, maximum = 1_073_741_824)]
    pub max_body_bytes: u64,
    /// How long the beginning of an answer may take.
    #[schema(minimum = 100, maximum = 600_000)]
    pub request_timeout_ms: u64,
    /// Requests being answered at once; more are told to come back.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_requests: u32,
    /// Connections at once; more wait to be accepted.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_connections: u32,
    /// A client that takes no byte of its answer for so long is disconnected.
    #[schema(minimum = 100, maximum = 3_600_000)]
    pub write_stall_ms: u64,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            max_body_bytes: 4 << 20,
            request_timeout_ms: 30_000,
            max_requests: 256,
            max_connections: 1_024,
            write_stall_ms: 60_000,
        }
    }
}

/// What the process writes about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// From which level on, and by module where one is named, such as
    /// `info,ingest=debug`.
    #[schema(format = "error, warn, info, debug, trace; module=level")]
    pub level: String,
    /// How a line looks.
    #[schema(inline)]
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// Metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Whether `/metrics` asks for a token of the whole installation.
    pub require_token: bool,
}

#[cfg(test)]
mod tests;
