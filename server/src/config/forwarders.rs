//! The settings of the forwarders.

use forwarders::ForwarderOptions;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AllowedNetworks;

/// An hour, the unit of how long data is kept for a platform.
const HOUR_MS: u64 = 3_600_000;

/// Forwarders of readings to customers' own platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForwarderConfig {
    /// Threads that read for forwarders and send; 0 takes half of the cores.
    #[schema(minimum = 0, maximum = 1_024)]
    pub threads: usize,
    /// How often it is stored how far forwarders are; what was sent since then is
    /// sent again after a crash.
    #[schema(minimum = 10, maximum = 60_000)]
    pub commit_interval_ms: u64,
    /// Values of one forwarder and partition that may be queued or in flight;
    /// past it the forwarder reads from its own place in the journal.
    #[schema(minimum = 16, maximum = 1_000_000)]
    pub queue_values: usize,
    /// Bytes of the same.
    #[schema(minimum = 65_536, maximum = 1_073_741_824)]
    pub queue_bytes: usize,
    /// How long the journal keeps what a platform has not taken, even where its
    /// own retention would delete it.
    #[schema(minimum = 1, maximum = 8_760)]
    pub keep_hours: u32,
    /// New connections a second over all forwarders.
    #[schema(minimum = 1, maximum = 10_000)]
    pub connects_per_s: u32,
    /// Refused values that are kept for one forwarder; the oldest make room.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_dead_letters: u32,
    /// Networks of this machine and of private addresses that forwarders may
    /// connect to, such as `10.0.0.0/8,fd00::/8`; the public Internet they always
    /// may. Whoever may change a tenant's forwarders can then reach all that is
    /// in them.
    #[schema(value_type = String, format = "networks or empty")]
    pub allowed_networks: AllowedNetworks,
}

impl Default for ForwarderConfig {
    fn default() -> Self {
        let options = ForwarderOptions::default();
        Self {
            threads: options.threads,
            commit_interval_ms: options.commit_interval_ms,
            queue_values: options.queue_values,
            queue_bytes: options.queue_bytes,
            keep_hours: u32::try_from(options.keep_ms / HOUR_MS).unwrap_or(u32::MAX),
            connects_per_s: options.connects_per_s,
            max_dead_letters: options.max_dead_letters,
            allowed_networks: AllowedNetworks(options.allowed_networks),
        }
    }
}

impl ForwarderConfig {
    #[must_use]
    pub fn options(&self) -> ForwarderOptions {
        ForwarderOptions {
            threads: self.threads,
            commit_interval_ms: self.commit_interval_ms,
            queue_values: self.queue_values,
            queue_bytes: self.queue_bytes,
            keep_ms: u64::from(self.keep_hours) * HOUR_MS,
            connects_per_s: self.connects_per_s,
            max_dead_letters: self.max_dead_letters,
            allowed_networks: self.allowed_networks.0.clone(),
            ..ForwarderOptions::default()
        }
    }
}
