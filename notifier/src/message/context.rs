//! Facts as a template sees them: cleaned, cut, and in the recipient's language
//! and time zone. Its fields are those of `variables`; a test compares them.

use schema::{
    KEY_CLOCK_OFFSET, KEY_DISCONNECTED_SINCE, KEY_REFUSED, KEY_REFUSED_REASONS, KEY_SILENT_SINCE,
    Language, Moment, SYSTEM_KEY_PREFIX, Severity,
};
use serde::Serialize;
use serde_json::Value;

use super::language;
use super::limits::{
    LATE_MS, MAX_DESCRIPTION_CHARS, MAX_LINK_CHARS, MAX_LISTED, MAX_LISTED_DESCRIPTION_CHARS,
    MAX_LISTED_VALUE_CHARS, MAX_LISTED_VALUES, MAX_NAME_CHARS, MAX_VALUE_CHARS, MAX_VALUES,
};
use super::text::{cut, line};
use super::time::WallClock;
use super::variables::is_about_one_alarm;
use super::{MessageFacts, NoticeFacts};

#[derive(Serialize)]
pub(super) struct Context {
    kind: &'static str,
    language: &'static str,
    tenant: String,
    recipient: String,
    now: String,
    color: &'static str,
    pub(super) notices: Vec<Notice>,
    locations: Vec<LocationNotices>,
    by_severity: Vec<Count>,
    total: usize,
    more: usize,
    over: usize,
    unsubscribe: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm: Option<Notice>,
}

#[derive(Clone, Serialize)]
pub(super) struct Notice {
    moment: Moment,
    event: String,
    pub(super) description: String,
    rule: String,
    severity: &'static str,
    severity_name: &'static str,
    severity_before: &'static str,
    highest: &'static str,
    was_higher: bool,
    color: &'static str,
    at: String,
    at_short: String,
    learned_at: String,
    raised_at: String,
    raised_at_short: String,
    cleared: bool,
    cleared_at: String,
    cleared_at_short: String,
    clear_reason: String,
    duration: String,
    acknowledged: bool,
    acknowledged_by: String,
    by: String,
    status: String,
    location: String,
    device: String,
    place: String,
    values: Vec<NamedValue>,
    acknowledge: String,
    alarm_id: String,
    transition_id: String,
}

#[derive(Clone, Serialize)]
struct NamedValue {
    key: String,
    value: String,
}

#[derive(Serialize)]
struct LocationNotices {
    name: String,
    notices: Vec<Notice>,
}

#[derive(Serialize)]
struct Count {
    severity: &'static str,
    count: usize,
    counted: String,
    color: &'static str,
}

/// The notices that are listed: the newest, where there are too many.
pub(super) fn listed(facts: &MessageFacts) -> &[NoticeFacts] {
    &facts.notices[facts.notices.len().saturating_sub(MAX_LISTED)..]
}

impl Context {
    pub(super) fn new(facts: &MessageFacts) -> Self {
        let listed = listed(facts);
        let writer = Writer {
            language: facts.language,
            clock: WallClock::new(&facts.time_zone, facts.language, facts.now),
            facts,
            is_list: listed.len() > 1,
        };
        let notices: Vec<Notice> = listed.iter().map(|notice| writer.notice(notice)).collect();
        let total = facts.total.max(facts.notices.len());
        let worst = facts.by_severity.iter().map(|(severity, _)| *severity);
        let worst = worst.chain(listed.iter().map(|notice| notice.severity)).max();
        Self {
            kind: facts.kind.as_str(),
            language: facts.language.as_str(),
            tenant: line(&facts.tenant, MAX_NAME_CHARS),
            recipient: line(&facts.recipient, MAX_NAME_CHARS),
            now: writer.clock.full(facts.now),
            color: language::color(worst.unwrap_or(Severity::Indeterminate)),
            locations: by_location(&notices),
            alarm: notices.last().filter(|_| is_about_one_alarm(facts.kind)).cloned(),
            by_severity: writer.counts(),
            total,
            more: total - listed.len(),
            over: facts.over,
            unsubscribe: link(facts.unsubscribe.as_deref()),
            notices,
        }
    }
}

/// By location, in the order in which each was first told of.
fn by_location(notices: &[Notice]) -> Vec<LocationNotices> {
    let mut locations: Vec<LocationNotices> = Vec::new();
    for notice in notices {
        match locations.iter_mut().find(|location| location.name == notice.location) {
            Some(location) => location.notices.push(notice.clone()),
            None => locations.push(LocationNotices {
                name: notice.location.clone(),
                notices: vec![notice.clone()],
            }),
        }
    }
    locations
}

fn name(name: Option<&String>) -> String {
    name.map(|name| line(name, MAX_NAME_CHARS)).unwrap_or_default()
}

/// A cut link leads nowhere, so a longer one is left out.
fn link(link: Option<&str>) -> String {
    link.filter(|link| link.len() <= MAX_LINK_CHARS)
        .map(|link| line(link, MAX_LINK_CHARS))
        .unwrap_or_default()
}

struct Writer<'a> {
    language: Language,
    clock: WallClock,
    facts: &'a MessageFacts,
    /// In which each has less room.
    is_list: bool,
}

impl Writer<'_> {
    fn counts(&self) -> Vec<Count> {
        let count = |&(severity, count): &(Severity, usize)| Count {
            severity: severity.as_str(),
            count,
            counted: language::counted(self.language, severity, count),
            color: language::color(severity),
        };
        self.facts.by_severity.iter().map(count).collect()
    }

    fn notice(&self, notice: &NoticeFacts) -> Notice {
        let severity_name = |severity| language::severity(self.language, severity);
        let location = name(notice.location.as_ref());
        let device = name(notice.device.as_ref());
        let by = name(notice.by.as_ref());
        let clearer = (notice.moment == Moment::Cleared).then_some(by.as_str());
        let clear_reason = notice.clear_reason.map(|reason| {
            let by = clearer.filter(|by| !by.is_empty());
            language::clear_reason(self.language, reason, by)
        });
        let short = |at| self.clock.short(at);
        let full = |at| self.clock.full(at);
        let is_late = notice.learned_at.0.saturating_sub(notice.at.0) > LATE_MS;
        Notice {
            moment: notice.moment,
            event: self.event(notice),
            description: self.description(notice),
            rule: line(&notice.rule, MAX_NAME_CHARS),
            severity: notice.severity.as_str(),
            severity_name: severity_name(notice.severity),
            severity_before: notice.severity_before.map(severity_name).unwrap_or_default(),
            highest: severity_name(notice.highest),
            was_higher: notice.highest > notice.severity,
            color: language::color(notice.severity),
            at: full(notice.at),
            at_short: short(notice.at),
            learned_at: if is_late { full(notice.learned_at) } else { String::new() },
            raised_at: full(notice.raised_at),
            raised_at_short: short(notice.raised_at),
            cleared: notice.cleared_at.is_some(),
            cleared_at: notice.cleared_at.map(full).unwrap_or_default(),
            cleared_at_short: notice.cleared_at.map(short).unwrap_or_default(),
            clear_reason: clear_reason.unwrap_or_default(),
            duration: self.duration(notice),
            acknowledged: notice.acknowledged,
            acknowledged_by: name(notice.acknowledged_by.as_ref()),
            by,
            status: self.status(notice),
            place: place(&device, &location),
            location,
            device,
            values: self.values(notice),
            acknowledge: link(notice.acknowledge.as_deref()),
            alarm_id: notice.alarm.to_string(),
            transition_id: notice.transition.to_string(),
        }
    }

    fn duration(&self, notice: &NoticeFacts) -> String {
        let end = notice.cleared_at.unwrap_or(self.facts.now);
        language::duration(self.language, end.0.saturating_sub(notice.raised_at.0))
    }

    /// What happened, in a few words that can stand before a description.
    fn event(&self, notice: &NoticeFacts) -> String {
        let severity = language::severity(self.language, notice.severity);
        let before = notice.severity_before;
        let before = before.map(|before| language::severity(self.language, before).to_lowercase());
        let by = name(notice.by.as_ref());
        match (self.language, notice.moment) {
            (_, Moment::Raised) => severity.to_owned(),
            (Language::Nl, Moment::SeverityChanged) => match before {
                Some(before) => format!("{severity} (was {before})"),
                None => format!("Nu {}", severity.to_lowercase()),
            },
            (Language::En, Moment::SeverityChanged) => match before {
                Some(before) => format!("{severity} (was {before})"),
                None => format!("Now {}", severity.to_lowercase()),
            },
            (Language::Nl, Moment::Acknowledged) if by.is_empty() => "Bevestigd".to_owned(),
            (Language::En, Moment::Acknowledged) if by.is_empty() => "Acknowledged".to_owned(),
            (Language::Nl, Moment::Acknowledged) => format!("Bevestigd door {by}"),
            (Language::En, Moment::Acknowledged) => format!("Acknowledged by {by}"),
            (Language::Nl, Moment::Cleared) => format!("Voorbij na {}", self.duration(notice)),
            (Language::En, Moment::Cleared) => format!("Cleared after {}", self.duration(notice)),
        }
    }

    /// How the alarm stands by now.
    fn status(&self, notice: &NoticeFacts) -> String {
        let by = name(notice.acknowledged_by.as_ref());
        let acknowledged = match (self.language, notice.acknowledged) {
            (Language::Nl, false) => "niet bevestigd".to_owned(),
            (Language::En, false) => "not acknowledged".to_owned(),
            (Language::Nl, true) if by.is_empty() => "bevestigd".to_owned(),
            (Language::En, true) if by.is_empty() => "acknowledged".to_owned(),
            (Language::Nl, true) => format!("bevestigd door {by}"),
            (Language::En, true) => format!("acknowledged by {by}"),
        };
        let active = match (self.language, notice.cleared_at) {
            (Language::Nl, None) => "nog actief".to_owned(),
            (Language::En, None) => "still active".to_owned(),
            (Language::Nl, Some(at)) => format!("voorbij sinds {}", self.clock.short(at)),
            (Language::En, Some(at)) => format!("cleared at {}", self.clock.short(at)),
        };
        format!("{active}, {acknowledged}")
    }

    fn values(&self, notice: &NoticeFacts) -> Vec<NamedValue> {
        let (max_values, key_chars, value_chars) = if self.is_list {
            (MAX_LISTED_VALUES, MAX_LISTED_VALUE_CHARS, MAX_LISTED_VALUE_CHARS)
        } else {
            (MAX_VALUES, MAX_NAME_CHARS, MAX_VALUE_CHARS)
        };
        // The description of a system alarm has them in words.
        let is_told = |key: &str| notice.system && key.starts_with(SYSTEM_KEY_PREFIX);
        let values = notice.values.iter().filter(|(key, _)| !is_told(key));
        let named = |(key, value): &(String, Value)| NamedValue {
            key: line(key, key_chars),
            value: cut(&language::value(self.language, value), value_chars),
        };
        values.take(max_values).map(named).collect()
    }

    fn description(&self, notice: &NoticeFacts) -> String {
        let own = if notice.system { self.system_description(notice) } else { None };
        let text = own.unwrap_or_else(|| notice.description.clone());
        let max_chars =
            if self.is_list { MAX_LISTED_DESCRIPTION_CHARS } else { MAX_DESCRIPTION_CHARS };
        let text = line(&text, max_chars);
        if text.is_empty() { line(&notice.rule, MAX_NAME_CHARS) } else { text }
    }

    /// The description of one of Baken's own rules in the recipient's language;
    /// none of a rule that isn't known here. Its times are texts already, in the
    /// time zone of the location.
    fn system_description(&self, notice: &NoticeFacts) -> Option<String> {
        let value =
            |key: &str| notice.values.iter().find(|(name, _)| name == key).map(|(_, value)| value);
        let written = |key| value(key).map(|value| language::value(self.language, value));
        let router = notice.device.as_deref()?;
        Some(match (self.language, notice.rule.as_str()) {
            (Language::Nl, "router_offline") => {
                let since = written(KEY_DISCONNECTED_SINCE)?;
                format!("Router {router} heeft sinds {since} geen verbinding")
            }
            (Language::En, "router_offline") => {
                let since = written(KEY_DISCONNECTED_SINCE)?;
                format!("Router {router} has had no connection since {since}")
            }
            (Language::Nl, "router_silent") => {
                let since = written(KEY_SILENT_SINCE)?;
                format!("Router {router} is verbonden, maar stuurt sinds {since} geen gegevens")
            }
            (Language::En, "router_silent") => {
                let since = written(KEY_SILENT_SINCE)?;
                format!("Router {router} is connected but has sent no data since {since}")
            }
            (Language::Nl, "readings_refused") => {
                let (count, why) = (written(KEY_REFUSED)?, written(KEY_REFUSED_REASONS)?);
                format!(
                    "Van router {router} zijn {count} berichten geheel of deels geweigerd ({why})"
                )
            }
            (Language::En, "readings_refused") => {
                let (count, why) = (written(KEY_REFUSED)?, written(KEY_REFUSED_REASONS)?);
                format!("Of router {router} {count} messages were refused whole or in part ({why})")
            }
            (_, "clock_wrong") => self.clock_wrong(router, value(KEY_CLOCK_OFFSET)?)?,
            _ => return None,
        })
    }

    fn clock_wrong(&self, router: &str, offset_ms: &Value) -> Option<String> {
        let offset_ms = offset_ms.as_f64()?;
        // Saturates, which is far enough for any clock.
        #[allow(clippy::cast_possible_truncation)]
        let by = language::duration(self.language, offset_ms.abs() as i64);
        Some(match (self.language, offset_ms > 0.0) {
            (Language::Nl, true) => format!("De klok van router {router} loopt {by} voor"),
            (Language::Nl, false) => format!("De klok van router {router} loopt {by} achter"),
            (Language::En, true) => format!("The clock of router {router} is {by} fast"),
            (Language::En, false) => format!("The clock of router {router} is {by} slow"),
        })
    }
}

fn place(device: &str, location: &str) -> String {
    match (device.is_empty(), location.is_empty()) {
        (false, false) => format!("{device}, {location}"),
        _ => format!("{device}{location}"),
    }
}
