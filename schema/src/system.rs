//! What the platform itself says of a router: the reserved telemetry keys under
//! which it is journaled, and the tenants' settings of the alarms over them.

use serde::{Deserialize, Serialize};

use crate::Severity;

/// Telemetry keys that begin so are the platform's own; a router that publishes
/// one is refused. Part of stored data.
pub const SYSTEM_KEY_PREFIX: &str = "$baken.";

/// Boolean: the router has an MQTT session.
pub const KEY_CONNECTED: &str = "$baken.connected";
/// Boolean: the router may connect. Written beside [`KEY_CONNECTED`].
pub const KEY_ENABLED: &str = "$baken.enabled";
/// Text: since when it is not connected. Written when the connection ends.
pub const KEY_DISCONNECTED_SINCE: &str = "$baken.disconnected_since";
/// Text: why the connection ended, as `baken_broker_disconnects_total` names it.
pub const KEY_DISCONNECT_CAUSE: &str = "$baken.disconnect_cause";
/// Boolean: connected, but without telemetry for longer than the router's limit.
pub const KEY_SILENT: &str = "$baken.silent";
/// Text: since when there is no telemetry. Written when [`KEY_SILENT`] turns true.
pub const KEY_SILENT_SINCE: &str = "$baken.silent_since";
/// Integer: publishes and parts of them that were refused since the reading
/// before; written at the first one, then at most once a minute, and 0 once
/// when a minute had none.
pub const KEY_REFUSED: &str = "$baken.refused";
/// Text: the reasons of [`KEY_REFUSED`] with their numbers.
pub const KEY_REFUSED_REASONS: &str = "$baken.refused_reasons";
/// Integer: how far ahead of the server's clock the last refused time was, in
/// milliseconds; negative where it was behind, 0 when no time is refused any more.
pub const KEY_CLOCK_OFFSET: &str = "$baken.clock_offset_ms";

/// All keys of the platform.
pub const SYSTEM_KEYS: [&str; 9] = [
    KEY_CONNECTED,
    KEY_ENABLED,
    KEY_DISCONNECTED_SINCE,
    KEY_DISCONNECT_CAUSE,
    KEY_SILENT,
    KEY_SILENT_SINCE,
    KEY_REFUSED,
    KEY_REFUSED_REASONS,
    KEY_CLOCK_OFFSET,
];

/// The longest delay of a system alarm and the longest send interval: 30 days.
pub const MAX_SYSTEM_DELAY_S: u32 = 30 * 24 * 3_600;

/// The highest `silent_factor` of a tenant.
pub const MAX_SILENT_FACTOR: u32 = 1_000;

/// The alarms that every tenant has about its routers and notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SystemAlarms {
    /// A router that was connected has had no connection for `delay_s`.
    pub offline: SystemAlarm,
    /// Connected, but silent for its limit and `delay_s` more.
    pub silent: SystemAlarm,
    /// Publishes or parts of them are refused; over when none was for `delay_s`,
    /// and at least for as long as refusals that go on are not told of again.
    pub refused: SystemAlarm,
    /// Times are refused, so its clock seems wrong; over as `refused` is.
    pub clock_wrong: SystemAlarm,
    /// Notifications can't be delivered: a provider takes none for `delay_s`, or
    /// a recipient can't be reached, which needs no delay.
    pub undeliverable: SystemAlarm,
}

/// The settings of one system alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemAlarm {
    pub enabled: bool,
    pub severity: Severity,
    pub delay_s: u32,
}

impl Default for SystemAlarms {
    fn default() -> Self {
        let alarm = |severity, delay_s| SystemAlarm { enabled: true, severity, delay_s };
        Self {
            offline: alarm(Severity::Major, 600),
            silent: alarm(Severity::Minor, 0),
            refused: alarm(Severity::Warning, 900),
            clock_wrong: alarm(Severity::Warning, 900),
            undeliverable: alarm(Severity::Major, 120),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_bear_the_prefix_and_differ() {
        let keys: std::collections::HashSet<_> = SYSTEM_KEYS.iter().collect();
        assert_eq!(keys.len(), SYSTEM_KEYS.len());
        assert!(SYSTEM_KEYS.iter().all(|key| key.starts_with(SYSTEM_KEY_PREFIX)));
    }

    #[test]
    fn what_is_not_given_takes_its_default() {
        let text = r#"{"offline":{"enabled":true,"severity":"critical","delay_s":60}}"#;
        let alarms: SystemAlarms = serde_json::from_str(text).unwrap();
        assert_eq!((alarms.offline.severity, alarms.offline.delay_s), (Severity::Critical, 60));
        assert_eq!(alarms.silent, SystemAlarms::default().silent);
        assert!(serde_json::from_str::<SystemAlarms>(r#"{"late":{}}"#).is_err());
    }
}
