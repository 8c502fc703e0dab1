//! What a tenant and its settings must hold to.

use schema::{
    DocumentBody, DocumentKind, MAX_SILENT_FACTOR, MAX_SYSTEM_DELAY_S, Tenant, TenantSettings,
};

use super::super::draft::Draft;
use super::super::index::Claim;
use super::{DirectoryError, at_most, check_name, free, refuse};

pub(super) fn check_tenant(
    draft: &Draft<'_>,
    new: &Tenant,
    id: Option<u64>,
) -> Result<(), DirectoryError> {
    check_name(&new.name)?;
    check_settings(&new.settings)?;
    if let Some(id) = id {
        check_offline_delay(draft, id, &new.settings)?;
    }
    let holder = draft.holder(&Claim::TenantName(&new.name));
    free(holder, id, DocumentKind::Tenant, &new.name)
}

/// An offline profile of the tenant tells no earlier than its alarm is raised.
fn check_offline_delay(
    draft: &Draft<'_>,
    id: u64,
    settings: &TenantSettings,
) -> Result<(), DirectoryError> {
    let delay_s = settings.system_alarms.offline.delay_s;
    for profile in draft.children(id, DocumentKind::OfflineProfile) {
        let body = draft.get(profile).map(|document| document.body);
        if let Some(DocumentBody::OfflineProfile(body)) = body
            && body.after_s < delay_s
        {
            let allowed = format!(
                "at most {}, after which offline profile {profile} tells; change that first",
                body.after_s
            );
            return refuse("settings.system_alarms.offline.delay_s", delay_s.to_string(), allowed);
        }
    }
    Ok(())
}

fn check_settings(settings: &TenantSettings) -> Result<(), DirectoryError> {
    at_most("settings.send_interval_s", settings.send_interval_s, MAX_SYSTEM_DELAY_S)?;
    if settings.silent_factor == 0 {
        return Err(DirectoryError::Invalid {
            field: "settings.silent_factor",
            value: "0".to_owned(),
            allowed: format!("1 to {MAX_SILENT_FACTOR}"),
        });
    }
    at_most("settings.silent_factor", settings.silent_factor, MAX_SILENT_FACTOR)?;
    let alarms = &settings.system_alarms;
    let delays = [
        ("settings.system_alarms.offline.delay_s", alarms.offline.delay_s),
        ("settings.system_alarms.silent.delay_s", alarms.silent.delay_s),
        ("settings.system_alarms.refused.delay_s", alarms.refused.delay_s),
        ("settings.system_alarms.clock_wrong.delay_s", alarms.clock_wrong.delay_s),
        ("settings.system_alarms.undeliverable.delay_s", alarms.undeliverable.delay_s),
    ];
    delays.into_iter().try_for_each(|(field, delay_s)| at_most(field, delay_s, MAX_SYSTEM_DELAY_S))
}
