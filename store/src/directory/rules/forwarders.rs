//! What a forwarder must hold to, but for what its platform asks.

use std::collections::HashSet;

use schema::{DocumentKind, Forwarder, ForwarderScope};

use super::super::draft::Draft;
use super::super::index::Claim;
use super::{DirectoryError, check_count, check_name, check_text, fixed, free, location, tenant};

/// Forwarders of one tenant.
const MAX_FORWARDERS_OF_TENANT: u32 = 5_000;

/// Items of one forwarder.
const MAX_FORWARDER_ITEMS: usize = 1_000;

/// The longest interval after which an unchanged value is sent again: 31 days.
const MAX_SMART_INTERVAL_S: u32 = 31 * 86_400;

pub(super) fn check_forwarder(
    draft: &Draft<'_>,
    new: &Forwarder,
    id: Option<u64>,
) -> Result<(), DirectoryError> {
    tenant(draft, new.tenant)?;
    check_name(&new.name)?;
    match &new.scope {
        ForwarderScope::Tenant => {}
        ForwarderScope::Location(place) => {
            fixed("scope.location", location(draft, *place)?.tenant, new.tenant)?;
        }
        ForwarderScope::LocationGroup(group) => check_text("scope.location_group", group)?,
    }
    super::at_most("smart_interval_s", new.smart_interval_s.unwrap_or(0), MAX_SMART_INTERVAL_S)?;
    check_items(new)?;
    check_count(draft, new.tenant, DocumentKind::Forwarder, MAX_FORWARDERS_OF_TENANT, id)?;
    if let Some(identity) = &new.identity {
        let holder = draft.holder(&Claim::ForwarderIdentity(identity));
        if holder.is_some() && holder != id {
            return Err(DirectoryError::IdentityInUse);
        }
    }
    let holder = draft.holder(&Claim::ForwarderName(new.tenant, &new.name));
    free(holder, id, DocumentKind::Forwarder, &new.name)
}

fn check_items(new: &Forwarder) -> Result<(), DirectoryError> {
    let refused = |value: String, allowed: String| {
        Err(DirectoryError::Invalid { field: "items", value, allowed })
    };
    if new.items.len() > MAX_FORWARDER_ITEMS {
        let value = format!("a list of {}", new.items.len());
        return refused(value, format!("at most {MAX_FORWARDER_ITEMS}"));
    }
    let mut keys = HashSet::new();
    for item in &new.items {
        check_text("items", &item.key)?;
        if !keys.insert(item.key.as_str()) {
            let shown: String = item.key.chars().take(64).collect();
            return refused(format!("{shown:?}"), "each key is selected once".to_owned());
        }
    }
    Ok(())
}
