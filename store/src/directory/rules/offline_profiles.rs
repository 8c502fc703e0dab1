//! What an offline profile must hold to.

use schema::{DocumentKind, OfflineProfile};

use super::super::draft::Draft;
use super::super::index::Claim;
use super::super::limits::{MAX_ADDRESSES, MAX_OFFLINE_PROFILES, MAX_USERS, MAX_WAIT_S};
use super::recipients::{
    check_channels, check_email, check_once, check_phone, check_reached, check_scope,
    check_time_zone, check_wait,
};
use super::{DirectoryError, check_count, check_name, free, quoted, refuse, tenant, user};

pub(super) fn check_offline_profile(
    draft: &Draft<'_>,
    new: &OfflineProfile,
    id: Option<u64>,
) -> Result<(), DirectoryError> {
    let tenant = tenant(draft, new.tenant)?;
    check_name(&new.name)?;
    check_count(draft, new.tenant, DocumentKind::OfflineProfile, MAX_OFFLINE_PROFILES, id)?;
    check_scope(draft, new.tenant, &new.scope)?;
    check_after(new.after_s, tenant.settings.system_alarms.offline.delay_s)?;
    check_wait("repeat_s", new.repeat_s)?;
    check_time_zone(&new.time_zone)?;
    check_recipients(draft, new)?;
    let holder = draft.holder(&Claim::OfflineProfileName(new.tenant, &new.name));
    free(holder, id, DocumentKind::OfflineProfile, &new.name)
}

fn check_after(after_s: u32, delay_s: u32) -> Result<(), DirectoryError> {
    if (delay_s..=MAX_WAIT_S).contains(&after_s) {
        return Ok(());
    }
    let allowed = format!(
        "{delay_s} to {MAX_WAIT_S}: the tenant's own alarm comes after {delay_s} s \
         (`settings.system_alarms.offline.delay_s`), and nobody is told before it"
    );
    refuse("after_s", after_s.to_string(), allowed)
}

fn check_recipients(draft: &Draft<'_>, new: &OfflineProfile) -> Result<(), DirectoryError> {
    let OfflineProfile { users, channels, emails, phones, .. } = new;
    if users.is_empty() && emails.is_empty() && phones.is_empty() {
        let allowed = "at least one recipient among `users`, `emails` and `phones`";
        return refuse("users", "an empty list".to_owned(), allowed);
    }
    let addresses = emails.len() + phones.len();
    if addresses > MAX_ADDRESSES {
        let allowed = format!("at most {MAX_ADDRESSES} e-mail addresses and numbers together");
        return refuse("emails", format!("one of {addresses} with `phones`"), allowed);
    }
    emails.iter().try_for_each(|email| check_email("emails", email))?;
    phones.iter().try_for_each(|phone| check_phone("phones", phone))?;
    let texts = |list: &[String]| list.iter().map(|text| quoted(text)).collect::<Vec<_>>();
    for (field, list) in [("emails", texts(emails)), ("phones", texts(phones))] {
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        check_once(field, &list, str::to_owned)?;
    }
    if users.len() > MAX_USERS as usize {
        let allowed = format!("at most {MAX_USERS}");
        return refuse("users", format!("a list of {}", users.len()), allowed);
    }
    check_once("users", users, |id| id.to_string())?;
    if !users.is_empty() || !channels.is_empty() {
        check_channels(channels)?;
    }
    for id in users {
        match user(draft, *id) {
            Ok(found) if found.tenant == new.tenant => check_reached(*id, &found, channels)?,
            _ => return refuse("users", id.to_string(), "ids of the tenant's own users"),
        }
    }
    Ok(())
}
