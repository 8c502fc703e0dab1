//! What a location must hold to.

use schema::{
    DocumentKind, Location, MAX_GROUPS_OF_LOCATION, MAX_LOCATION_GROUP_BYTES, is_location_group,
};

use super::super::draft::Draft;
use super::super::index::Claim;
use super::{DirectoryError, check_name, check_text, free, tenant};

pub(super) fn check_location(
    draft: &Draft<'_>,
    new: &Location,
    id: Option<u64>,
) -> Result<(), DirectoryError> {
    tenant(draft, new.tenant)?;
    check_name(&new.name)?;
    check_text("time_zone", &new.time_zone)?;
    check_groups(&new.groups)?;
    let holder = draft.holder(&Claim::LocationName(new.tenant, &new.name));
    free(holder, id, DocumentKind::Location, &new.name)
}

fn check_groups(groups: &[String]) -> Result<(), DirectoryError> {
    let refused = |value: String, allowed: String| {
        Err(DirectoryError::Invalid { field: "groups", value, allowed })
    };
    if groups.len() > MAX_GROUPS_OF_LOCATION {
        let allowed = format!("a location is in at most {MAX_GROUPS_OF_LOCATION} groups");
        return refused(format!("a list of {}", groups.len()), allowed);
    }
    for (place, group) in groups.iter().enumerate() {
        if !is_location_group(group) {
            let allowed = format!(
                "1 to {MAX_LOCATION_GROUP_BYTES} bytes without control characters or white space \
                 around them"
            );
            let shown: String = group.chars().take(64).collect();
            return refused(format!("{shown:?}"), allowed);
        }
        if groups[..place].contains(group) {
            return refused(format!("{group:?}"), "each group is named once".to_owned());
        }
    }
    Ok(())
}
