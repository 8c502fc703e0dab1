//! What the broker listens on, and its named limits.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::limiter::AddressLimits;
use super::tls::TlsFiles;
use crate::auth::AuthLimits;
use crate::limits::Limits;

/// How a [`super::Broker`] is started.
#[derive(Clone, Debug, Default)]
pub struct BrokerOptions {
    /// Addresses for MQTT over plain TCP; port 0 takes any free one.
    pub plain: Vec<SocketAddr>,
    /// Addresses for MQTT over TLS; they need `tls_files`.
    pub tls: Vec<SocketAddr>,
    pub tls_files: Option<TlsFiles>,
    /// The installation's secret, under which access tokens are hashed.
    pub secret: Vec<u8>,
    pub listener: ListenerLimits,
    pub session: SessionLimits,
    pub payload: Limits,
    pub auth: AuthLimits,
    pub address: AddressLimits,
    /// The nodes that share the store, this one among them; none where it is alone.
    pub cluster: Option<store::Cluster>,
    /// What this node is called.
    pub name: String,
}

/// Limits of the node as a whole, and of a connection before its session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerLimits {
    /// More are closed as soon as they are accepted.
    pub max_connections: usize,
    /// Connections without a session, in the TLS handshake or before CONNECT;
    /// with more, the oldest is closed.
    pub max_unauthenticated: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout_ms: u64,
    /// From there to a whole CONNECT.
    pub connect_timeout_ms: u64,
    /// Connections that the kernel holds before they are accepted.
    pub backlog: u32,
    /// How often the TLS files are looked at.
    pub tls_reload_interval_ms: u64,
    /// How long a shutdown waits for what is on its way into the journal.
    pub shutdown_timeout_ms: u64,
    /// Connections a second that are asked to go to another node before a stop.
    pub drain_per_s: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            max_connections: 100_000,
            max_unauthenticated: 16_384,
            handshake_timeout_ms: 30_000,
            connect_timeout_ms: 30_000,
            backlog: 4_096,
            tls_reload_interval_ms: 5_000,
            shutdown_timeout_ms: 10_000,
            drain_per_s: 1_000,
        }
    }
}

/// Limits of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionLimits {
    /// The QoS 1 publishes that an MQTT 5 client may have unanswered (its
    /// Receive Maximum), and what `getSessionLimits` says.
    pub receive_maximum: u16,
    /// Topic aliases that a client may set.
    pub topic_alias_maximum: u16,
    /// The longest keep alive; MQTT 5 clients are told. 0 sets none.
    pub max_keep_alive_s: u16,
    /// Unanswered QoS 1 publishes of one connection, past which its socket is
    /// not read; what bounds an MQTT 3.1.1 client.
    pub max_inflight_publishes: usize,
    /// Submissions of one connection on their way into the journal, likewise.
    pub max_inflight_submissions: usize,
    /// Rows of one connection on their way into the journal, likewise.
    pub max_inflight_rows: usize,
    /// Bytes that wait for a client that does not read, likewise.
    pub max_output_bytes: usize,
    /// A client that takes no byte for so long is disconnected.
    pub write_stall_ms: u64,
    /// Messages to the client that wait for its PUBACKs; more calls are refused,
    /// more attribute changes stay undelivered until it connects again.
    pub max_downlink_queue: usize,
    /// Calls to one router that have no answer yet.
    pub max_pending_calls: usize,
    /// Attribute requests of one connection that are being answered.
    pub max_pending_requests: usize,
    /// Device names that one connection remembers.
    pub max_cached_devices: usize,
    /// How long an attribute request waits for the session's own earlier
    /// attributes to be applied.
    pub attribute_wait_ms: u64,
    /// Rates of one session; none by default.
    pub rates: RateLimits,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            receive_maximum: 100,
            topic_alias_maximum: 16,
            max_keep_alive_s: 0,
            max_inflight_publishes: 16_384,
            max_inflight_submissions: 16,
            max_inflight_rows: 65_536,
            max_output_bytes: 256 * 1024,
            write_stall_ms: 60_000,
            max_downlink_queue: 64,
            max_pending_calls: 64,
            max_pending_requests: 16,
            max_cached_devices: 10_000,
            attribute_wait_ms: 5_000,
            rates: RateLimits::default(),
        }
    }
}

/// So many in so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub count: u32,
    pub seconds: u32,
}

/// What one session may send. Each list holds together, as in ThingsBoard:
/// ten a second and also three hundred a minute. An empty one sets no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// Publishes of any kind.
    pub messages: Vec<Rate>,
    pub telemetry_messages: Vec<Rate>,
    pub telemetry_data_points: Vec<Rate>,
}

impl RateLimits {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.telemetry_messages.is_empty()
            && self.telemetry_data_points.is_empty()
    }
}

/// Bytes of an MQTT packet around its payload: header, topic, properties.
pub(crate) const PACKET_OVERHEAD_BYTES: usize = 1_024;

impl BrokerOptions {
    /// The largest packet that is taken; MQTT 5 clients are told.
    #[must_use]
    pub fn max_packet_bytes(&self) -> usize {
        self.payload.max_payload_bytes + PACKET_OVERHEAD_BYTES
    }
}
