//! Who is told of alarms, by what means and when: the documents that people
//! write, and the names of what comes of them.

mod contact;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use contact::{Contact, is_email, is_phone};

use crate::derived::derived_id;
use crate::{
    LocationId, ProfileId, Sealed, Severity, TenantId, UserId, WeeklyHours, parse_day, parse_time,
};

derived_id!(
    /// One thing that one recipient is to be told by one channel; it follows
    /// from the transition, the recipient, the channel and the purpose.
    NoticeId
);
derived_id!(
    /// What is handed to a provider as a whole; it follows from its notices.
    MessageId
);

/// By what means somebody is told. The names and numbers are part of stored
/// formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Channel {
    Email = 0,
    Sms = 1,
    /// An HTTP request to a tool of the user's, such as a chat or an on-call service.
    Webhook = 2,
}

impl Channel {
    pub const ALL: [Self; 3] = [Self::Email, Self::Sms, Self::Webhook];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Webhook => "webhook",
        }
    }

    /// The channel of a stored number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| *channel as u8 == number)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The language in which somebody is told.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    Nl,
    #[default]
    En,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::Nl, Self::En];

    /// The code of ISO 639-1.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nl => "nl",
            Self::En => "en",
        }
    }
}

/// What happened to an alarm, as far as somebody can ask to be told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    Raised,
    SeverityChanged,
    Acknowledged,
    Cleared,
}

impl Moment {
    pub const ALL: [Self; 4] =
        [Self::Raised, Self::SeverityChanged, Self::Acknowledged, Self::Cleared];
}

/// A person, or a tool behind a webhook, that is told of alarms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub tenant: TenantId,
    /// Unique in the tenant.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// In the form of E.164, such as `+31612345678`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    #[serde(default)]
    pub language: Language,
    /// An IANA time zone, in which times are written and quiet hours are meant.
    #[serde(default = "utc")]
    pub time_zone: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quiet_hours: Vec<QuietHours>,
    #[serde(default)]
    pub limits: ChannelLimits,
    /// One that is not enabled is told nothing.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn yes() -> bool {
    true
}

/// Where a tool takes messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Webhook {
    /// `https`, or `http` where the installation allows it.
    pub url: String,
    /// Signs each request (HMAC-SHA-256).
    pub secret: Sealed,
}

/// Hours in which nothing is told but what is bad enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// `mon` to `sun`; all where empty. Hours that wrap over midnight belong to
    /// the day on which they start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<String>,
    /// `HH:MM`, inclusive, in the user's own time zone.
    pub from: String,
    /// `HH:MM`, exclusive; at or before `from` it is the next day's.
    pub to: String,
    /// Alarms from this severity up come through all the same.
    #[serde(default = "critical")]
    pub severity_from: Severity,
}

impl QuietHours {
    /// As they can be looked up; none where a day or a time is no such thing.
    #[must_use]
    pub fn hours(&self) -> Option<WeeklyHours> {
        let mut days = [self.days.is_empty(); 7];
        for day in &self.days {
            days[parse_day(day)?] = true;
        }
        Some(WeeklyHours { days, from: parse_time(&self.from)?, to: parse_time(&self.to)? })
    }
}

fn critical() -> Severity {
    Severity::Critical
}

/// How often somebody is told by each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelLimits {
    pub email: Delivery,
    pub sms: Delivery,
    pub webhook: Delivery,
}

/// How often somebody is told by one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// What comes within this time behind a message is told together at its end;
    /// 0 tells all at once. What is worse than all that was told within it
    /// doesn't wait.
    pub group_s: u32,
    /// The most messages within an hour; what comes past it waits and is told
    /// together.
    pub max_per_hour: u32,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self {
            email: Delivery { group_s: 300, max_per_hour: 20 },
            sms: Delivery { group_s: 300, max_per_hour: 6 },
            webhook: Delivery { group_s: 0, max_per_hour: 3_600 },
        }
    }
}

impl ChannelLimits {
    #[must_use]
    pub fn of(&self, channel: Channel) -> Delivery {
        match channel {
            Channel::Email => self.email,
            Channel::Sms => self.sms,
            Channel::Webhook => self.webhook,
        }
    }
}

/// Of which locations somebody is told; all of the tenant where both are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<LocationId>,
    /// Location groups by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

impl Scope {
    /// Whether a location with these groups is meant. An alarm of the tenant as
    /// a whole is of no location, and meant only where all are.
    #[must_use]
    pub fn covers(&self, location: Option<(LocationId, &[String])>) -> bool {
        if self.locations.is_empty() && self.groups.is_empty() {
            return true;
        }
        let Some((id, groups)) = location else { return false };
        self.locations.contains(&id) || self.groups.iter().any(|group| groups.contains(group))
    }
}

/// One rule, or all of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleChoice {
    /// 0 stands for the tenant's system alarms.
    pub profile: ProfileId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Which alarms one user is told of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    pub tenant: TenantId,
    pub user: UserId,
    #[serde(default)]
    pub scope: Scope,
    /// Each once; the user has an address for each.
    pub channels: Vec<Channel>,
    /// All alarms where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleChoice>,
    pub severity_from: Severity,
    /// Each once.
    pub on: Vec<Moment>,
    /// 0 tells at once. Otherwise it is an escalation: the user is told when the
    /// alarm is still active and nobody has acknowledged it so long after.
    #[serde(default)]
    pub unacknowledged_for_s: u32,
    /// Tells again at this interval while the alarm is active and unacknowledged;
    /// 0 doesn't.
    #[serde(default)]
    pub repeat_s: u32,
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// Who is told that a router is offline, and how long after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfflineProfile {
    pub tenant: TenantId,
    /// Unique in the tenant.
    pub name: String,
    #[serde(default)]
    pub scope: Scope,
    /// Since it was last connected; at least the delay of the tenant's own alarm.
    pub after_s: u32,
    /// Tells again at this interval while it is offline; 0 doesn't.
    #[serde(default)]
    pub repeat_s: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
    /// By which the users are told, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Channel>,
    /// Further addresses, which belong to no user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<String>,
    /// Further numbers (E.164), which belong to no user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phones: Vec<String>,
    /// In which the further addresses are told.
    #[serde(default)]
    pub language: Language,
    /// An IANA time zone, in which they read times.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Whether they are told too when it is back.
    #[serde(default = "yes")]
    pub when_back: bool,
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// What a message is about; each kind has a template of its own. The names are
/// part of stored formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateKind {
    Raised,
    SeverityChanged,
    Acknowledged,
    Cleared,
    /// Nobody has acknowledged it.
    Escalated,
    /// It is still active.
    Reminder,
    /// More than one thing together.
    Digest,
    Test,
}

impl TemplateKind {
    pub const ALL: [Self; 8] = [
        Self::Raised,
        Self::SeverityChanged,
        Self::Acknowledged,
        Self::Cleared,
        Self::Escalated,
        Self::Reminder,
        Self::Digest,
        Self::Test,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::SeverityChanged => "severity_changed",
            Self::Acknowledged => "acknowledged",
            Self::Cleared => "cleared",
            Self::Escalated => "escalated",
            Self::Reminder => "reminder",
            Self::Digest => "digest",
            Self::Test => "test",
        }
    }
}

/// A tenant's own text in the place of Baken's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageTemplate {
    pub tenant: TenantId,
    /// Unique in the tenant together with `language` and `kind`. A webhook's
    /// body has a fixed form and no template.
    pub channel: Channel,
    pub language: Language,
    pub kind: TemplateKind,
    /// Of e-mail only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The whole text of an SMS; the plain part of an e-mail.
    pub text: String,
    /// Of e-mail only; without it the message has its plain part only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

/// Whom a notice is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recipient {
    User(UserId),
    /// A bare address of an offline profile.
    Address(String),
}

impl fmt::Display for Recipient {
    /// The stored form: `user:17` or `address:…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Address(address) => write!(f, "address:{address}"),
        }
    }
}

/// A text that names no recipient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no recipient: it is `user:ID` or `address:ADDRESS`")]
pub struct ParseRecipientError(String);

impl FromStr for Recipient {
    type Err = ParseRecipientError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseRecipientError(text.to_owned());
        match text.split_once(':').ok_or_else(wrong)? {
            ("user", id) => id.parse().map(Self::User).map_err(|_| wrong()),
            ("address", address) => Ok(Self::Address(address.to_owned())),
            _ => Err(wrong()),
        }
    }
}

/// Why there is a notice. The names are part of stored formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The transition itself is told.
    Told,
    /// Nobody has acknowledged the alarm that the transition raised.
    Escalated,
    /// The alarm that the transition raised is still active; counted from 1.
    Reminder(u32),
}

impl fmt::Display for Purpose {
    /// The stored form: `told`, `escalated` or `reminder:N`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told => f.write_str("told"),
            Self::Escalated => f.write_str("escalated"),
            Self::Reminder(number) => write!(f, "reminder:{number}"),
        }
    }
}

impl FromStr for Purpose {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once(':') {
            None if text == "told" => Ok(Self::Told),
            None if text == "escalated" => Ok(Self::Escalated),
            Some(("reminder", number)) => number.parse().map(Self::Reminder).map_err(|_| ()),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_without_places_is_the_whole_tenant() {
        let groups = ["Coast".to_owned()];
        let here = Some((LocationId(3), groups.as_slice()));
        assert!(Scope::default().covers(here) && Scope::default().covers(None));
        let by_id = Scope { locations: vec![LocationId(3)], groups: Vec::new() };
        let by_group = Scope { locations: Vec::new(), groups: groups.to_vec() };
        let elsewhere = Scope { locations: vec![LocationId(4)], groups: vec!["Inland".to_owned()] };
        assert!(by_id.covers(here) && by_group.covers(here) && !elsewhere.covers(here));
        assert!(!by_id.covers(None) && !by_group.covers(None));
    }

    #[test]
    fn stored_names_read_back() {
        for recipient in [Recipient::User(UserId(17)), Recipient::Address("a:b@c.nl".to_owned())] {
            assert_eq!(recipient.to_string().parse(), Ok(recipient));
        }
        for purpose in [Purpose::Told, Purpose::Escalated, Purpose::Reminder(12)] {
            assert_eq!(purpose.to_string().parse(), Ok(purpose));
        }
        assert!("user:x".parse::<Recipient>().is_err() && "reminder".parse::<Purpose>().is_err());
        for channel in Channel::ALL {
            assert_eq!(Channel::from_u8(channel as u8), Some(channel));
        }
    }

    #[test]
    fn what_a_user_leaves_out_takes_its_default() {
        let user: User = serde_json::from_str(r#"{"tenant":1,"name":"Eva"}"#).unwrap();
        assert_eq!((user.language, user.enabled, &*user.time_zone), (Language::En, true, "UTC"));
        assert_eq!(user.limits, ChannelLimits::default());
        let text = r#"{"days":["mon"],"from":"22:00","to":"07:00"}"#;
        let quiet: QuietHours = serde_json::from_str(text).unwrap();
        assert_eq!(quiet.severity_from, Severity::Critical);
        assert!(quiet.hours().is_some_and(|hours| hours.days[0] && !hours.days[1]));
        assert_eq!(QuietHours { from: "22".to_owned(), ..quiet }.hours(), None);
    }
}
