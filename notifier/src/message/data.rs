//! The body of a webhook: the facts themselves, in a form that tools can rely on.
//! `docs/reference/webhooks.md` describes it.

use schema::{ClearReason, Moment, Severity, TimestampMs};
use serde::Serialize;
use serde_json::{Map, Value};

use super::context::listed;
use super::limits::{
    MAX_DESCRIPTION_CHARS, MAX_LINK_CHARS, MAX_NAME_CHARS, MAX_VALUE_CHARS, MAX_VALUES,
};
use super::text::line;
use super::time::rfc3339;
use super::{MessageFacts, NoticeFacts};

/// Of the form. Fields may be added within a version; what is there keeps its name
/// and meaning.
pub const DATA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Data<'a> {
    version: u32,
    id: String,
    kind: &'static str,
    /// One line for people, in the language of the user.
    message: &'a str,
    tenant: String,
    recipient: String,
    written_at: String,
    total: usize,
    over: usize,
    by_severity: Map<String, Value>,
    notices: Vec<Notice<'a>>,
}

#[derive(Serialize)]
struct Notice<'a> {
    transition: String,
    alarm: String,
    moment: Moment,
    rule: String,
    description: String,
    severity: &'static str,
    severity_before: Option<&'static str>,
    highest: &'static str,
    at: String,
    learned_at: String,
    raised_at: String,
    cleared_at: Option<String>,
    clear_reason: Option<ClearReason>,
    acknowledged: bool,
    acknowledged_by: Option<String>,
    by: Option<String>,
    location: Option<String>,
    device: Option<String>,
    values: Map<String, Value>,
    acknowledge: Option<&'a str>,
}

/// The body; `message` is its line for people.
pub(super) fn data(facts: &MessageFacts, message: &str) -> Value {
    let counts = facts.by_severity.iter();
    let data = Data {
        version: DATA_VERSION,
        id: facts.id.to_string(),
        kind: facts.kind.as_str(),
        message,
        tenant: line(&facts.tenant, MAX_NAME_CHARS),
        recipient: line(&facts.recipient, MAX_NAME_CHARS),
        written_at: rfc3339(facts.now),
        total: facts.total.max(facts.notices.len()),
        over: facts.over,
        by_severity: counts
            .map(|(severity, count)| (severity.as_str().to_owned(), Value::from(*count)))
            .collect(),
        notices: listed(facts).iter().map(notice).collect(),
    };
    serde_json::to_value(data).expect("names of fields are texts")
}

fn notice(notice: &NoticeFacts) -> Notice<'_> {
    let name = |name: &Option<String>| name.as_ref().map(|name| line(name, MAX_NAME_CHARS));
    let time = |at: TimestampMs| rfc3339(at);
    Notice {
        transition: notice.transition.to_string(),
        alarm: notice.alarm.to_string(),
        moment: notice.moment,
        rule: line(&notice.rule, MAX_NAME_CHARS),
        description: line(&notice.description, MAX_DESCRIPTION_CHARS),
        severity: notice.severity.as_str(),
        severity_before: notice.severity_before.map(Severity::as_str),
        highest: notice.highest.as_str(),
        at: time(notice.at),
        learned_at: time(notice.learned_at),
        raised_at: time(notice.raised_at),
        cleared_at: notice.cleared_at.map(time),
        clear_reason: notice.clear_reason,
        acknowledged: notice.acknowledged,
        acknowledged_by: name(&notice.acknowledged_by),
        by: name(&notice.by),
        location: name(&notice.location),
        device: name(&notice.device),
        values: notice
            .values
            .iter()
            .take(MAX_VALUES)
            .map(|(key, value)| (line(key, MAX_NAME_CHARS), bounded(value)))
            .collect(),
        acknowledge: notice.acknowledge.as_deref().filter(|link| link.len() <= MAX_LINK_CHARS),
    }
}

/// Numbers and booleans as they are, texts cut.
fn bounded(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(text) => Value::String(line(text, MAX_VALUE_CHARS)),
        Value::Array(_) | Value::Object(_) => line(&value.to_string(), MAX_VALUE_CHARS).into(),
    }
}
