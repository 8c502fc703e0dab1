//! The broker's settings: where it listens, and what connections, sessions and
//! addresses may use.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ingest::auth::AuthLimits;
use ingest::broker::{
    AddressLimits, Allowance, ListenerLimits, PresenceOptions, RateLimits, SessionLimits, TlsFiles,
};
use ingest::limits::Limits;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text::{Hosts, Listen, Rates};

/// The MQTT broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// Where plain MQTT 3.1.1 and 5 are taken; empty takes none.
    #[schema(value_type = String, format = "address:port or empty")]
    pub listen: Listen,
    /// The host names under which routers reach this cloud. A router whose
    /// document names another stands at another cloud; empty knows of no other.
    #[schema(value_type = String, format = "host names with commas between, or empty")]
    pub public_hosts: Hosts,
    /// MQTT over TLS, on an address of its own.
    #[schema(inline)]
    pub tls: TlsConfig,
    /// What one connection and all of them together may use.
    #[schema(inline)]
    pub limits: MqttLimits,
    /// What a connection may use once its router is known.
    #[schema(inline)]
    pub session: SessionConfig,
    /// The checking of passwords, which is slow on purpose.
    #[schema(inline)]
    pub auth: AuthConfig,
    /// What one source address may do.
    #[schema(inline)]
    pub address: AddressConfig,
    /// Whether routers are there.
    #[schema(inline)]
    pub presence: PresenceConfig,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            listen: Listen(Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1883)))),
            public_hosts: Hosts::default(),
            tls: TlsConfig::default(),
            limits: MqttLimits::default(),
            session: SessionConfig::default(),
            auth: AuthConfig::default(),
            address: AddressConfig::default(),
            presence: PresenceConfig::default(),
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
    /// How many connections a second are asked to go to another node before this
    /// one stops, where others share the store (MQTT 5: 0x9C).
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub drain_per_s: u32,
    /// How far ahead of the server's clock a reading's time may be.
    #[schema(minimum = 0, maximum = 31_536_000)]
    pub future_tolerance_s: u32,
}

/// What a session may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// Topic aliases that an MQTT 5 client may set.
    #[schema(minimum = 0, maximum = 65_535)]
    pub topic_alias_maximum: u16,
    /// Messages that may wait for their acknowledgement, past which the socket
    /// is not read; what bounds an MQTT 3.1.1 client, which knows no Receive
    /// Maximum.
    #[schema(minimum = 1, maximum = 1_048_576)]
    pub max_inflight_publishes: usize,
    /// Socket reads whose messages may be on their way into the journal, likewise.
    #[schema(minimum = 1, maximum = 4_096)]
    pub max_inflight_submissions: usize,
    /// Readings that may be on their way into the journal, likewise.
    #[schema(minimum = 1, maximum = 16_777_216)]
    pub max_inflight_rows: usize,
    /// Bytes that may wait for a client that does not read, likewise.
    #[schema(minimum = 4_096, maximum = 268_435_456)]
    pub max_output_bytes: usize,
    /// A client that takes no byte for so long is disconnected.
    #[schema(minimum = 100, maximum = 3_600_000)]
    pub write_stall_ms: u64,
    /// Messages to the client that may wait for its acknowledgements; more calls
    /// are refused, more attribute changes wait until it connects again.
    #[schema(minimum = 1, maximum = 65_535)]
    pub max_downlink_queue: usize,
    /// Calls to a router that may wait for their answer.
    #[schema(minimum = 1, maximum = 65_535)]
    pub max_pending_calls: usize,
    /// Attribute requests of a router that may wait for their answer.
    #[schema(minimum = 1, maximum = 65_535)]
    pub max_pending_requests: usize,
    /// Device names that a connection remembers, so that they need not be looked up.
    #[schema(minimum = 1, maximum = 10_000_000)]
    pub max_cached_devices: usize,
    /// How long an attribute request waits until the attributes that the router
    /// itself sent before can be read.
    #[schema(minimum = 0, maximum = 60_000)]
    pub attribute_wait_ms: u64,
    /// Messages of any kind that a session may send; more are told
    /// so by MQTT 5, and read more slowly by MQTT 3.1.1.
    #[schema(value_type = String, format = "COUNT:SECONDS, with commas between several, or empty")]
    pub message_rates: Rates,
    /// Messages with telemetry that it may send, likewise.
    #[schema(value_type = String, format = "COUNT:SECONDS, with commas between several, or empty")]
    pub telemetry_message_rates: Rates,
    /// Readings that it may send, likewise.
    #[schema(value_type = String, format = "COUNT:SECONDS, with commas between several, or empty")]
    pub reading_rates: Rates,
}

/// The checking of passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Passwords that are checked at the same time; each takes a thread and some
    /// 19 MiB.
    #[schema(minimum = 1, maximum = 1_024)]
    pub password_checks: usize,
    /// Connections that may wait for that; more are told that the server is busy.
    #[schema(minimum = 1, maximum = 1_048_576)]
    pub password_waiters: usize,
    /// Passwords that are remembered to be right, 32 bytes each.
    #[schema(minimum = 1, maximum = 16_777_216)]
    pub verified_passwords: usize,
}

/// What one source address may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AddressConfig {
    /// New connections at once; high, because a whole fleet may share an address.
    #[schema(minimum = 1, maximum = 10_000_000)]
    pub connects_burst: u32,
    /// New connections a second after that.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub connects_per_s: u32,
    /// Refused credentials at once; past it all of the address is refused until
    /// some time has gone.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub failures_burst: u32,
    /// Refused credentials a second after that.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub failures_per_s: u32,
    /// Addresses that are told apart, some 32 bytes each.
    #[schema(minimum = 1, maximum = 16_777_216)]
    pub max_addresses: usize,
}

/// Whether routers are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceConfig {
    /// How long after a start a router that was connected before may take to come
    /// back before it is said to be away since the start.
    #[schema(minimum = 0, maximum = 3_600_000)]
    pub start_grace_ms: u64,
    /// How often it is looked for routers that have fallen silent.
    #[schema(minimum = 10, maximum = 60_000)]
    pub check_interval_ms: u64,
    /// At most so often it is said what was refused of a router.
    #[schema(minimum = 10, maximum = 3_600_000)]
    pub refused_interval_ms: u64,
    /// How long a write that failed waits before it is tried again.
    #[schema(minimum = 1, maximum = 600_000)]
    pub retry_ms: u64,
    /// A node that shares the store and is not heard for so long has died. After
    /// `start_grace_ms` more its routers are said to be away, unless they have come
    /// to another node.
    #[schema(minimum = 5_000, maximum = 600_000)]
    pub node_dead_ms: u64,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        let options = PresenceOptions::default();
        Self {
            start_grace_ms: options.start_grace_ms,
            check_interval_ms: options.check_interval_ms,
            refused_interval_ms: options.refused_interval_ms,
            retry_ms: options.retry_ms,
            node_dead_ms: options.node_dead_ms,
        }
    }
}

impl PresenceConfig {
    /// How presence is watched.
    #[must_use]
    pub fn options(&self) -> PresenceOptions {
        PresenceOptions {
            start_grace_ms: self.start_grace_ms,
            check_interval_ms: self.check_interval_ms,
            refused_interval_ms: self.refused_interval_ms,
            retry_ms: self.retry_ms,
            node_dead_ms: self.node_dead_ms,
        }
    }
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
            drain_per_s: listener.drain_per_s,
            future_tolerance_s: u32::try_from(payload.future_tolerance_ms / 1_000)
                .unwrap_or(u32::MAX),
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        let limits = SessionLimits::default();
        Self {
            topic_alias_maximum: limits.topic_alias_maximum,
            max_inflight_publishes: limits.max_inflight_publishes,
            max_inflight_submissions: limits.max_inflight_submissions,
            max_inflight_rows: limits.max_inflight_rows,
            max_output_bytes: limits.max_output_bytes,
            write_stall_ms: limits.write_stall_ms,
            max_downlink_queue: limits.max_downlink_queue,
            max_pending_calls: limits.max_pending_calls,
            max_pending_requests: limits.max_pending_requests,
            max_cached_devices: limits.max_cached_devices,
            attribute_wait_ms: limits.attribute_wait_ms,
            message_rates: Rates(limits.rates.messages),
            telemetry_message_rates: Rates(limits.rates.telemetry_messages),
            reading_rates: Rates(limits.rates.telemetry_data_points),
        }
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        let AuthLimits { password_checks, password_waiters, verified_passwords } =
            AuthLimits::default();
        Self { password_checks, password_waiters, verified_passwords }
    }
}

impl Default for AddressConfig {
    fn default() -> Self {
        let AddressLimits { connects, failures, addresses } = AddressLimits::default();
        Self {
            connects_burst: connects.burst,
            connects_per_s: connects.per_s,
            failures_burst: failures.burst,
            failures_per_s: failures.per_s,
            max_addresses: addresses,
        }
    }
}

impl MqttConfig {
    /// For all connections, and one before its session.
    #[must_use]
    pub fn listener_limits(&self, shutdown_timeout_ms: u64) -> ListenerLimits {
        ListenerLimits {
            max_connections: self.limits.max_connections as usize,
            max_unauthenticated: self.limits.max_unauthenticated as usize,
            handshake_timeout_ms: self.limits.handshake_timeout_ms,
            connect_timeout_ms: self.limits.connect_timeout_ms,
            shutdown_timeout_ms,
            drain_per_s: self.limits.drain_per_s,
            ..ListenerLimits::default()
        }
    }

    /// For one session.
    #[must_use]
    pub fn session_limits(&self) -> SessionLimits {
        let session = self.session.clone();
        SessionLimits {
            receive_maximum: self.limits.receive_maximum,
            max_keep_alive_s: self.limits.max_keep_alive_s,
            topic_alias_maximum: session.topic_alias_maximum,
            max_inflight_publishes: session.max_inflight_publishes,
            max_inflight_submissions: session.max_inflight_submissions,
            max_inflight_rows: session.max_inflight_rows,
            max_output_bytes: session.max_output_bytes,
            write_stall_ms: session.write_stall_ms,
            max_downlink_queue: session.max_downlink_queue,
            max_pending_calls: session.max_pending_calls,
            max_pending_requests: session.max_pending_requests,
            max_cached_devices: session.max_cached_devices,
            attribute_wait_ms: session.attribute_wait_ms,
            rates: RateLimits {
                messages: session.message_rates.0,
                telemetry_messages: session.telemetry_message_rates.0,
                telemetry_data_points: session.reading_rates.0,
            },
        }
    }

    /// For one message.
    #[must_use]
    pub fn payload_limits(&self) -> Limits {
        Limits {
            max_payload_bytes: self.limits.max_payload_bytes as usize,
            max_text_bytes: self.limits.max_payload_bytes as usize,
            future_tolerance_ms: u64::from(self.limits.future_tolerance_s) * 1_000,
            ..Limits::default()
        }
    }

    /// For the checking of passwords.
    #[must_use]
    pub fn auth_limits(&self) -> AuthLimits {
        let AuthConfig { password_checks, password_waiters, verified_passwords } = self.auth;
        AuthLimits { password_checks, password_waiters, verified_passwords }
    }

    /// For one source address.
    #[must_use]
    pub fn address_limits(&self) -> AddressLimits {
        let address = &self.address;
        AddressLimits {
            connects: Allowance { burst: address.connects_burst, per_s: address.connects_per_s },
            failures: Allowance { burst: address.failures_burst, per_s: address.failures_per_s },
            addresses: address.max_addresses,
        }
    }

    /// The files of TLS, where it is taken.
    #[must_use]
    pub fn tls_files(&self) -> Option<TlsFiles> {
        let file = |path: &Path| (!path.as_os_str().is_empty()).then(|| path.to_owned());
        self.tls.listen.0.map(|_| TlsFiles {
            certificate: self.tls.cert.clone(),
            key: self.tls.key.clone(),
            client_ca: file(&self.tls.client_ca),
        })
    }
}
