//! The demo's alarm profile, stored by the API.

use anyhow::Context as _;

use super::fleet::Site;
use super::machine::{ALARM_DEADBAND_C, ALARM_LIMIT_C};
use crate::client::{ApiClient, ClientError};

/// The rule's key, by which its alarm is recognised.
pub(super) const RULE: &str = "supply_too_warm";

/// Stores the profile, unless an earlier run did.
pub(super) async fn provision(client: &ApiClient, site: &Site) -> anyhow::Result<()> {
    let path = format!("/alarm-profiles?tenant={}", site.tenant);
    match client.post_text(&path, "application/toml", profile(site.plant)).await {
        Ok(_) => Ok(()),
        Err(ClientError::Refused(problem)) if problem.status == 409 => Ok(()),
        Err(error) => Err(error).context("storing the alarm profile"),
    }
}

fn profile(location: u64) -> String {
    format!(
        r#"name = "Chilled water"
applies_to.locations = [{location}]

[[rules]]
key = "{RULE}"
description = "supply of ${{device}} at ${{supply_temperature}} °C, ${{status}}"
raise.major = {{ when = {{ key = "supply_temperature", operator = ">", value = {ALARM_LIMIT_C} }}, for = "5s" }}
clear = {{ when = {{ key = "supply_temperature", operator = "<=", value = {ALARM_LIMIT_C} }} }}
deadband = {ALARM_DEADBAND_C:.1}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_without_fault() {
        let report = alarms::check(&alarms::parse_toml(&profile(7)).unwrap());
        assert!(report.errors.is_empty() && report.warnings.is_empty(), "{report:?}");
    }
}
