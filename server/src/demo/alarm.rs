//! The demo's alarm profile, stored by the API.

use serde_json::json;

use super::fleet::{Site, ensure};
use super::machine::{ALARM_DEADBAND_C, ALARM_LIMIT_C};
use crate::client::ApiClient;

/// The rule's key, by which its alarm is recognised.
pub(super) const RULE: &str = "supply_too_warm";

/// Stores the profile, unless an earlier run did.
pub(super) async fn provision(client: &ApiClient, site: &Site) -> anyhow::Result<()> {
    let body = json!({
        "tenant": site.tenant,
        "name": "Chilled water",
        "applies_to": { "locations": [site.plant] },
        "rules": [{
            "key": RULE,
            "description": "Supply of ${device} is ${supply_temperature} °C: ${status}",
            "raise": {
                "major": {
                    "when": {
                        "key": "supply_temperature", "operator": ">", "value": ALARM_LIMIT_C,
                    },
                    "for": "5s",
                },
            },
            "clear": {
                "when": { "key": "supply_temperature", "operator": "<=", "value": ALARM_LIMIT_C },
            },
            "deadband": ALARM_DEADBAND_C,
        }],
    });
    let filter = format!("tenant={}&", site.tenant);
    ensure(client, "/profiles", &filter, body).await?;
    Ok(())
}
