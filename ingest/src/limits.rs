//! The named limits of one message, with their defaults and reasons.
//!
//! Past any of them a message is rejected whole, counted by its reason and
//! answered as malformed; nothing is cut short in silence. A time out of bounds
//! costs only the object that it stands in, which is counted just so.

use serde::{Deserialize, Serialize};

/// What one payload may be. Part of the server's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest payload. 65,536 is what ThingsBoard allows, and what
    /// `getSessionLimits` tells a gateway.
    pub max_payload_bytes: usize,
    /// The longest telemetry or attribute key. 255 is ThingsBoard's column width.
    pub max_key_bytes: usize,
    /// The most values of one message, over all of its objects and devices.
    /// A payload of the default size can't hold more than about 10,900, so
    /// this bites only where payloads are allowed to be larger.
    pub max_keys_per_message: usize,
    /// The deepest nesting of one value: a flat object or array counts 1.
    pub max_nesting: usize,
    /// The longest text or nested value. It equals the default payload, so
    /// that it too bites only where payloads are allowed to be larger.
    pub max_text_bytes: usize,
    /// How far ahead of the server's clock a reading's time may be. A day lets
    /// a router in whose clock stands in the wrong time zone (14 hours at
    /// most), because a reading refused is lost for ever; it still stops
    /// microseconds taken for milliseconds and clocks that run wild.
    pub future_tolerance_ms: u64,
    /// The most keys that one connection remembers; past it, a key is looked
    /// up in the shared table again, which is slower but no less right.
    pub max_cached_keys: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload_bytes: 65_536,
            max_key_bytes: 255,
            max_keys_per_message: 10_000,
            max_nesting: 16,
            max_text_bytes: 65_536,
            future_tolerance_ms: 24 * 60 * 60 * 1000,
            max_cached_keys: 4_096,
        }
    }
}
