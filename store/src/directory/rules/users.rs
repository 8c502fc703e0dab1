//! What a user must hold to.

use schema::{
    Channel, Delivery, DocumentBody, DocumentKind, QuietHours, User, UserId, Webhook, parse_day,
    parse_time,
};

use super::super::draft::Draft;
use super::super::index::Claim;
use super::super::limits::{MAX_GROUP_S, MAX_PER_HOUR, MAX_QUIET_HOURS, MAX_URL_BYTES, MAX_USERS};
use super::recipients::{check_email, check_phone, check_time_zone, field};
use super::{
    DirectoryError, at_most, check_count, check_line, check_name, free, quoted, refuse, tenant,
};

pub(super) fn check_user(
    draft: &Draft<'_>,
    new: &User,
    id: Option<u64>,
) -> Result<(), DirectoryError> {
    tenant(draft, new.tenant)?;
    check_name(&new.name)?;
    check_count(draft, new.tenant, DocumentKind::User, MAX_USERS, id)?;
    new.email.as_deref().map_or(Ok(()), |email| check_email("email", email))?;
    new.phone.as_deref().map_or(Ok(()), |phone| check_phone("phone", phone))?;
    new.webhook.as_ref().map_or(Ok(()), check_webhook)?;
    check_time_zone(&new.time_zone)?;
    check_quiet_hours(&new.quiet_hours)?;
    check_limits(new)?;
    if let Some(id) = id {
        check_needed(draft, UserId(id), new)?;
    }
    let holder = draft.holder(&Claim::UserName(new.tenant, &new.name));
    free(holder, id, DocumentKind::User, &new.name)
}

fn check_webhook(webhook: &Webhook) -> Result<(), DirectoryError> {
    check_line("webhook.url", &webhook.url, MAX_URL_BYTES)?;
    match webhook.secret.0.is_empty() {
        false => Ok(()),
        true => refuse("webhook.secret", "empty".to_owned(), "a secret that signs the requests"),
    }
}

fn check_quiet_hours(list: &[QuietHours]) -> Result<(), DirectoryError> {
    if list.len() > MAX_QUIET_HOURS {
        let allowed = format!("at most {MAX_QUIET_HOURS}");
        return refuse("quiet_hours", format!("a list of {}", list.len()), allowed);
    }
    for quiet in list {
        if quiet.days.len() > 7 {
            let value = format!("a list of {}", quiet.days.len());
            return refuse("quiet_hours.days", value, "each day of the week once at most");
        }
        if let Some(day) = quiet.days.iter().find(|day| parse_day(day).is_none()) {
            return refuse("quiet_hours.days", quoted(day), "mon, tue, wed, thu, fri, sat and sun");
        }
        for (field, time) in [("quiet_hours.from", &quiet.from), ("quiet_hours.to", &quiet.to)] {
            if parse_time(time).is_none() {
                let allowed = "a time of the day from 00:00 to 24:00, such as 22:30";
                return refuse(field, quoted(time), allowed);
            }
        }
    }
    Ok(())
}

fn check_limits(user: &User) -> Result<(), DirectoryError> {
    let limits = &user.limits;
    for (channel, Delivery { group_s, max_per_hour }) in
        Channel::ALL.map(|channel| (channel, limits.of(channel)))
    {
        let (grouping, hourly) = match channel {
            Channel::Email => ("limits.email.group_s", "limits.email.max_per_hour"),
            Channel::Sms => ("limits.sms.group_s", "limits.sms.max_per_hour"),
            Channel::Webhook => ("limits.webhook.group_s", "limits.webhook.max_per_hour"),
        };
        at_most(grouping, group_s, MAX_GROUP_S)?;
        if !(1..=MAX_PER_HOUR).contains(&max_per_hour) {
            return refuse(hourly, max_per_hour.to_string(), format!("1 to {MAX_PER_HOUR}"));
        }
    }
    Ok(())
}

/// An address stays as long as something tells the user by it.
fn check_needed(draft: &Draft<'_>, id: UserId, new: &User) -> Result<(), DirectoryError> {
    let missing: Vec<Channel> =
        Channel::ALL.into_iter().filter(|channel| new.contact(*channel).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for (kind, noun) in [
        (DocumentKind::Subscription, "subscription"),
        (DocumentKind::OfflineProfile, "offline profile"),
    ] {
        for holder in draft.children(id.0, kind) {
            let channels = match draft.get(holder).map(|document| document.body) {
                Some(DocumentBody::Subscription(subscription)) => subscription.channels,
                Some(DocumentBody::OfflineProfile(profile)) => profile.channels,
                _ => unreachable!("children are live documents of the kind"),
            };
            if let Some(channel) = missing.iter().find(|channel| channels.contains(channel)) {
                let allowed =
                    format!("{noun} {holder} tells the user by {channel}; change that first");
                return refuse(field(*channel), "missing".to_owned(), allowed);
            }
        }
    }
    Ok(())
}
