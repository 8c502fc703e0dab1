//! The recipient of a notice as they are by now, and what of a notice decides
//! about it.

use jiff::tz::{TimeZone, TimeZoneDatabase};
use schema::{
    Channel, Contact, Language, Moment, Purpose, Recipient, Subscription, TenantId, TimestampMs,
    UserId,
};
use store::Directory;
use store::alarms::{DueNotice, DueRecipient};

use crate::decision::{Candidate, DropReason, HoldReason, Whom};

/// The recipient with all that a message to them needs.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub whom: Whom,
    /// The user's name, or the address.
    pub name: String,
    pub language: Language,
    /// An IANA name.
    pub time_zone: String,
    /// Where they are reached; empty where they are not.
    pub address: String,
}

/// What asks for a notice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Source {
    pub is_asked: bool,
    /// Somebody who is told of an alarm only if nobody sees to it.
    pub is_escalation: bool,
    pub asks_for_raises: bool,
    pub repeat_ms: i64,
    pub language: Language,
    pub time_zone: String,
}

impl Source {
    /// What the document with this id asks for, by now.
    pub fn of(directory: &Directory, id: u64) -> Self {
        if let Some(found) = directory.subscription(id) {
            return Self::subscription(&found);
        }
        let found = directory.offline_profile(id);
        let (language, time_zone) = found.as_ref().map_or_else(
            || (Language::default(), "UTC".to_owned()),
            |profile| (profile.language, profile.time_zone.clone()),
        );
        Self {
            is_asked: found.as_ref().is_some_and(|profile| profile.enabled),
            is_escalation: false,
            asks_for_raises: true,
            repeat_ms: found.map_or(0, |profile| i64::from(profile.repeat_s) * 1_000),
            language,
            time_zone,
        }
    }

    fn subscription(subscription: &Subscription) -> Self {
        Self {
            is_asked: subscription.enabled,
            is_escalation: subscription.unacknowledged_for_s > 0,
            asks_for_raises: subscription.on.contains(&Moment::Raised),
            repeat_ms: i64::from(subscription.repeat_s) * 1_000,
            language: Language::default(),
            time_zone: "UTC".to_owned(),
        }
    }
}

fn zone(name: &str) -> TimeZone {
    // Zones are checked when they are saved.
    TimeZoneDatabase::bundled().get(name).unwrap_or(TimeZone::UTC)
}

impl Reader {
    /// `source` gives a bare address its language and time zone.
    pub fn of(directory: &Directory, due: &DueRecipient, source: &Source) -> Self {
        match &due.recipient {
            Recipient::User(id) => Self::user(directory, due.tenant, id.0, due.channel),
            Recipient::Address(address) => {
                let limits = schema::ChannelLimits::default().of(due.channel);
                let whom = Whom {
                    unreachable: None,
                    group_ms: i64::from(limits.group_s) * 1_000,
                    max_per_hour: limits.max_per_hour as usize,
                    time_zone: zone(&source.time_zone),
                    quiet: Vec::new(),
                };
                Self {
                    whom,
                    name: address.clone(),
                    language: source.language,
                    time_zone: source.time_zone.clone(),
                    address: address.clone(),
                }
            }
        }
    }

    fn user(directory: &Directory, tenant: TenantId, id: u64, channel: Channel) -> Self {
        let found = directory.user(UserId(id)).filter(|user| user.tenant == tenant);
        let Some(user) = found else {
            let whom = Whom {
                unreachable: Some(DropReason::RecipientGone),
                group_ms: 0,
                max_per_hour: 0,
                time_zone: TimeZone::UTC,
                quiet: Vec::new(),
            };
            let (name, address) = (String::new(), String::new());
            let (language, time_zone) = (Language::default(), "UTC".to_owned());
            return Self { whom, name, language, time_zone, address };
        };
        let contact = user.contact(channel);
        let unreachable = match &contact {
            _ if !user.enabled => Some(DropReason::RecipientDisabled),
            None => Some(DropReason::NoAddress),
            Some(_) => None,
        };
        let address = match contact {
            Some(Contact::Email(address) | Contact::Phone(address)) => address,
            Some(Contact::Webhook(webhook)) => webhook.url,
            None => String::new(),
        };
        let quiet = user.quiet_hours.iter();
        let quiet = quiet.filter_map(|quiet| Some((quiet.hours()?, quiet.severity_from))).collect();
        let limits = user.limits.of(channel);
        let whom = Whom {
            unreachable,
            group_ms: i64::from(limits.group_s) * 1_000,
            max_per_hour: limits.max_per_hour as usize,
            time_zone: zone(&user.time_zone),
            quiet,
        };
        Self {
            whom,
            name: user.name.clone(),
            language: user.language,
            time_zone: user.time_zone.clone(),
            address,
        }
    }
}

/// What happened, from the kind of the transition's event.
pub(crate) fn moment(notice: &DueNotice) -> Moment {
    match notice.event.kind.as_str() {
        "alarm_severity_changed" => Moment::SeverityChanged,
        "alarm_acknowledged" => Moment::Acknowledged,
        "alarm_cleared" => Moment::Cleared,
        // The alarm worker writes notices of these four kinds only.
        _ => Moment::Raised,
    }
}

pub(crate) fn candidate(notice: &DueNotice, source: &Source) -> Candidate {
    let moment = moment(notice);
    let follows_raise = match moment {
        Moment::Raised => false,
        // It rises to where an escalation begins, and waited for that.
        Moment::SeverityChanged => source.is_escalation && notice.purpose == Purpose::Told,
        Moment::Acknowledged | Moment::Cleared => source.asks_for_raises,
    };
    let state = &notice.state;
    Candidate {
        moment,
        purpose: notice.purpose,
        severity: match notice.purpose {
            Purpose::Told => notice.event.severity,
            Purpose::Escalated | Purpose::Reminder(_) => state.severity,
        },
        made_at: notice.made_at,
        delayed: notice.delay_ms > 0,
        waited: HoldReason::ALL.into_iter().find(|reason| reason.as_str() == notice.reason),
        is_asked: source.is_asked,
        follows_raise,
        told_before: notice.told_before,
        active: state.active,
        acknowledged: state.acknowledged,
        shelved_until: state.shelved_until,
    }
}

/// The time by the wall clock.
pub(crate) fn now() -> TimestampMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    TimestampMs(i64::try_from(ms).unwrap_or(i64::MAX))
}
