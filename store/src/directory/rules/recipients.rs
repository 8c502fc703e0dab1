//! What subscriptions, offline profiles and users have in common: addresses, time
//! zones, channels, places and waits.

use std::collections::HashSet;
use std::hash::Hash;

use schema::{
    Channel, MAX_LOCATION_GROUP_BYTES, Scope, TenantId, User, UserId, is_email, is_location_group,
    is_phone, time_zone,
};

use super::super::draft::Draft;
use super::super::limits::{MAX_SCOPE_ENTRIES, MAX_WAIT_S, MIN_WAIT_S};
use super::{DirectoryError, location, quoted, refuse};

pub(super) fn check_email(field: &'static str, text: &str) -> Result<(), DirectoryError> {
    match is_email(text) {
        true => Ok(()),
        false => refuse(field, quoted(text), "an e-mail address such as eva@example.com"),
    }
}

pub(super) fn check_phone(field: &'static str, text: &str) -> Result<(), DirectoryError> {
    match is_phone(text) {
        true => Ok(()),
        false => refuse(
            field,
            quoted(text),
            "a number in the form of E.164, with a plus sign, the country and no spaces, such as \
             +31612345678",
        ),
    }
}

pub(super) fn check_time_zone(name: &str) -> Result<(), DirectoryError> {
    match time_zone(name) {
        Some(_) => Ok(()),
        None => refuse(
            "time_zone",
            quoted(name),
            "a time zone of the IANA database, such as Europe/Amsterdam or UTC",
        ),
    }
}

/// At least one of a list, and each once.
pub(super) fn check_some<T: Copy + Eq + Hash>(
    field: &'static str,
    list: &[T],
    shown: impl Fn(T) -> String,
    allowed: &str,
) -> Result<(), DirectoryError> {
    if list.is_empty() {
        return refuse(field, "an empty list".to_owned(), format!("at least one of {allowed}"));
    }
    check_once(field, list, shown)
}

/// Each of a list is in it once.
pub(super) fn check_once<T: Copy + Eq + Hash>(
    field: &'static str,
    list: &[T],
    shown: impl Fn(T) -> String,
) -> Result<(), DirectoryError> {
    let mut seen = HashSet::with_capacity(list.len());
    match list.iter().find(|one| !seen.insert(**one)) {
        Some(twice) => {
            refuse(field, format!("a list with {} twice", shown(*twice)), "each is named once")
        }
        None => Ok(()),
    }
}

pub(super) fn check_channels(channels: &[Channel]) -> Result<(), DirectoryError> {
    check_some("channels", channels, |channel| channel.to_string(), "email, sms and webhook")
}

/// Whether the user has an address for each channel.
pub(super) fn check_reached(
    id: UserId,
    user: &User,
    channels: &[Channel],
) -> Result<(), DirectoryError> {
    match channels.iter().find(|channel| user.contact(**channel).is_none()) {
        Some(channel) => refuse(
            "channels",
            channel.to_string(),
            format!("user {id} has no address for it; give the user a `{}` first", field(*channel)),
        ),
        None => Ok(()),
    }
}

/// Where a user's address for a channel stands.
pub(super) fn field(channel: Channel) -> &'static str {
    match channel {
        Channel::Email => "email",
        Channel::Sms => "phone",
        Channel::Webhook => "webhook",
    }
}

pub(super) fn check_scope(
    draft: &Draft<'_>,
    tenant: TenantId,
    scope: &Scope,
) -> Result<(), DirectoryError> {
    let Scope { locations, groups } = scope;
    let entries = locations.len() + groups.len();
    if entries > MAX_SCOPE_ENTRIES {
        let allowed = format!("at most {MAX_SCOPE_ENTRIES} locations and groups together");
        return refuse("scope", format!("one of {entries} entries"), allowed);
    }
    check_once("scope.locations", locations, |id| id.to_string())?;
    for id in locations {
        // One of another tenant is told of as if it were not there.
        if !location(draft, *id).is_ok_and(|found| found.tenant == tenant) {
            return refuse("scope.locations", id.to_string(), "ids of the tenant's own locations");
        }
    }
    let names: Vec<&str> = groups.iter().map(String::as_str).collect();
    for group in &names {
        if !is_location_group(group) {
            let allowed = format!(
                "1 to {MAX_LOCATION_GROUP_BYTES} bytes without control characters or white space \
                 around them"
            );
            return refuse("scope.groups", quoted(group), allowed);
        }
    }
    check_once("scope.groups", &names, quoted)
}

/// How long somebody waits, or how often they are told again; 0 for not at all.
pub(super) fn check_wait(field: &'static str, wait_s: u32) -> Result<(), DirectoryError> {
    if wait_s == 0 || (MIN_WAIT_S..=MAX_WAIT_S).contains(&wait_s) {
        return Ok(());
    }
    refuse(field, wait_s.to_string(), format!("0, or {MIN_WAIT_S} to {MAX_WAIT_S}"))
}
