//! The one configuration of a node: its sections, what each setting means, and
//! what it is when nobody sets it.
//!
//! Files, environment variables and flags are laid over these defaults in
//! [`load`]; the reference is generated from the same structs in [`reference`].
//! It describes; it opens no socket and makes no folder.

mod load;
mod reference;
mod settings;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use alarms::AlarmOptions;
use ingest::broker::{ListenerLimits, SessionLimits};
use ingest::limits::Limits;
use ingest::recorder::RecorderOptions;
use journal::EmbeddedOptions;
use serde::{Deserialize, Serialize};
use store::HistoryOptions;
use utoipa::ToSchema;

pub use load::{ConfigError, ConfigErrors, Layers, Loaded, Source};
pub use reference::reference;
pub use settings::{Kind, Setting, settings};

/// An hour, the unit of the journal's retention.
pub const HOUR_MS: u64 = 3_600_000;

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
    /// The history that queries read.
    #[schema(inline)]
    pub history: HistoryConfig,
    /// The alarm workers.
    #[schema(inline)]
    pub alarms: AlarmConfig,
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
        Self { data_dir: PathBuf::from("data"), worker_threads: 0, shutdown_timeout_ms: 20_000 }
    }
}

/// The MQTT broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// Where plain MQTT 3.1.1 and 5 are taken; empty takes none.
    #[schema(value_type = String, format = "address:port or empty")]
    pub listen: Listen,
    /// MQTT over TLS, on an address of its own.
    #[schema(inline)]
    pub tls: TlsConfig,
    /// What one connection and all of them together may use.
    #[schema(inline)]
    pub limits: MqttLimits,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            listen: Listen(Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1883)))),
            tls: TlsConfig::default(),
            limits: MqttLimits::default(),
        }
    }
}

/// MQTT over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Where MQTT over TLS is taken, usually `0.0.0.0:8883`; empty takes none.
    #[schema(value_type = String, format = "address:port or empty")]
    pub listen: Listen,
    /// The server's certificate chain, PEM. Read again at SIGHUP.
    #[schema(value_type = String, format = "file or empty")]
    pub cert: PathBuf,
    /// Its private key, PEM. Read again at SIGHUP.
    #[schema(value_type = String, format = "file or empty")]
    pub key: PathBuf,
    /// The authorities, PEM, whose client certificates may connect by their
    /// common name; empty takes client certificates by fingerprint only.
    #[schema(value_type = String, format = "file or empty")]
    pub client_ca: PathBuf,
}

/// What connections may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MqttLimits {
    /// Connections at once; more are closed before their first packet is read.
    #[schema(minimum = 1, maximum = 10_000_000)]
    pub max_connections: u32,
    /// The largest payload of one message; over it the connection is closed
    /// with a reason (MQTT 5: 0x95).
    #[schema(minimum = 1_024, maximum = 16_777_216)]
    pub max_payload_bytes: u32,
    /// Messages of one connection that may wait for their acknowledgement
    /// (MQTT 5: Receive Maximum).
    #[schema(minimum = 1, maximum = 65_535)]
    pub receive_maximum: u16,
    /// Connections that have not yet proved who they are, at the same time; past
    /// it the one that has taken longest is closed.
    #[schema(minimum = 1, maximum = 65_536)]
    pub max_unauthenticated: u32,
    /// How long a new connection may take for TLS, waiting for its turn included.
    #[schema(minimum = 100, maximum = 300_000)]
    pub handshake_timeout_ms: u64,
    /// How long it may take from there until its CONNECT packet is whole.
    #[schema(minimum = 100, maximum = 300_000)]
    pub connect_timeout_ms: u64,
    /// The longest keep alive that a client is granted; 0 grants any.
    #[schema(minimum = 0, maximum = 65_535)]
    pub max_keep_alive_s: u16,
    /// How far ahead of the server's clock a reading's time may be.
    #[schema(minimum = 0, maximum = 31_536_000)]
    pub future_tolerance_s: u32,
}

impl Default for MqttLimits {
    fn default() -> Self {
        let (listener, session) = (ListenerLimits::default(), SessionLimits::default());
        let payload = Limits::default();
        let fits = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            max_connections: fits(listener.max_connections),
            max_payload_bytes: fits(payload.max_payload_bytes),
            receive_maximum: session.receive_maximum,
            max_unauthenticated: fits(listener.max_unauthenticated),
            handshake_timeout_ms: listener.handshake_timeout_ms,
            connect_timeout_ms: listener.connect_timeout_ms,
            max_keep_alive_s: session.max_keep_alive_s,
            future_tolerance_s: u32::try_from(payload.future_tolerance_ms / 1_000)
                .unwrap_or(u32::MAX),
        }
    }
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// Partitions of a new journal. A folder keeps its number for life, because
    /// a location's readings would otherwise lose their order.
    #[schema(minimum = 1, maximum = 1_024)]
    pub partitions: u16,
    /// The size at which a file of the journal is closed and the next begun.
    #[schema(minimum = 1_048_576, maximum = 2_000_000_000)]
    pub segment_bytes: u64,
    /// Records are deleted when the journal is larger than this and no reader
    /// needs them any more.
    #[schema(minimum = 16_777_216)]
    pub retention_bytes: u64,
    /// Records are deleted when they are older than this and no reader needs
    /// them any more.
    #[schema(minimum = 1, maximum = 876_000)]
    pub retention_hours: u32,
    /// Bytes that may wait to be written; past it publishers are slowed.
    #[schema(minimum = 1_048_576, maximum = 1_073_741_824)]
    pub queue_bytes: u64,
    /// The journal stalls rather than leave less than this free on its disk, so
    /// that history and database can go on and free some; 0 to use all.
    #[schema(minimum = 0)]
    pub reserve_bytes: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        let options = EmbeddedOptions::default();
        Self {
            partitions: options.partitions,
            segment_bytes: options.segment_bytes,
            retention_bytes: options.retention_bytes,
            retention_hours: u32::try_from(options.retention_ms / HOUR_MS).unwrap_or(u32::MAX),
            queue_bytes: options.queue_bytes as u64,
            reserve_bytes: options.reserve_bytes,
        }
    }
}

/// The history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryConfig {
    /// Records that the history may be behind the journal before
    /// `/health/ready` says so.
    #[schema(minimum = 1)]
    pub max_lag_records: u64,
    /// Readings of one partition that are kept in memory, in bytes, before they
    /// are written to a file; two such may wait to be written.
    #[schema(minimum = 1_048_576, maximum = 2_000_000_000)]
    pub memtable_bytes: u64,
    /// They are written at this age too, so that the journal need not be kept
    /// for them.
    #[schema(minimum = 1_000, maximum = 86_400_000)]
    pub memtable_age_ms: u64,
    /// Memory for what is known of files, over all partitions.
    #[schema(minimum = 1_048_576, maximum = 2_000_000_000)]
    pub cache_bytes: u64,
    /// Queries that read files at the same time; more wait for their turn.
    #[schema(minimum = 1, maximum = 1_024)]
    pub concurrent_queries: u32,
    /// Threads that write history; 0 takes half of the cores.
    #[schema(minimum = 0, maximum = 1_024)]
    pub recorder_threads: u32,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        let options = HistoryOptions::default();
        Self {
            max_lag_records: 100_000,
            memtable_bytes: options.memtable_bytes as u64,
            memtable_age_ms: options.memtable_age_ms,
            cache_bytes: options.cache_bytes as u64,
            concurrent_queries: u32::try_from(options.concurrent_queries).unwrap_or(1),
            recorder_threads: u32::try_from(RecorderOptions::default().threads).unwrap_or(0),
        }
    }
}

/// The alarm workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmConfig {
    /// Records that the alarms may be behind the journal before
    /// `/health/ready` says so.
    #[schema(minimum = 1)]
    pub max_lag_records: u64,
    /// How long a device must be silent before its deadlines fire by the clock
    /// instead of by the next reading's time.
    #[schema(minimum = 0, maximum = 3_600_000)]
    pub grace_ms: u64,
    /// Threads that evaluate rules; 0 takes half of the cores.
    #[schema(minimum = 0, maximum = 1_024)]
    pub threads: u32,
}

impl Default for AlarmConfig {
    fn default() -> Self {
        let options = AlarmOptions::default();
        Self {
            max_lag_records: 100_000,
            grace_ms: u64::try_from(options.grace_ms).unwrap_or(0),
            threads: u32::try_from(options.threads).unwrap_or(0),
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

/// An address to listen on, or none; in text an empty string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

impl Serialize for Listen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(address) => serializer.collect_str(&address),
            None => serializer.serialize_str(""),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(serde::de::Error::custom)
    }
}
