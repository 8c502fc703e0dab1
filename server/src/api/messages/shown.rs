//! Messages as the API shows them.

use notifier::channel::Content;
use schema::Recipient;
use serde::Serialize;
use store::alarms::{MessageLogEntry, MessageRow, MessageState};
use utoipa::ToSchema;

/// A message to somebody.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub(super) struct Shown {
    id: String,
    tenant: u64,
    /// The user; absent for a bare address.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<u64>,
    channel: String,
    /// Where it went.
    address: String,
    /// What it is about, such as `raised` or `digest`.
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<String>,
    /// How many notices it tells.
    notices: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    subject: String,
    /// Milliseconds since 1970.
    made_at: i64,
    state: String,
    /// When it is handed over again, while it is queued; milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<i64>,
    attempts: u32,
    /// How often the server ended while it was on its way: so many times it may
    /// have been handed over twice, under the same id.
    interrupted: u32,
    changed_at: i64,
    /// The provider's last word.
    answer: String,
    /// The provider's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// The message that somebody sent again with this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_of: Option<String>,
}

impl Shown {
    pub(super) fn of(message: MessageRow) -> Self {
        let content: Content = serde_json::from_str(&message.content).unwrap_or_default();
        let user = match &message.recipient {
            Recipient::User(id) => Some(id.0),
            Recipient::Address(_) => None,
        };
        let is_queued = message.state == MessageState::Queued;
        Self {
            id: message.id.to_string(),
            tenant: message.tenant.0,
            user,
            channel: message.channel.to_string(),
            address: message.address,
            kind: message.kind,
            severity: message.severity.map(|severity| severity.to_string()),
            notices: message.notices,
            subject: content.subject,
            made_at: message.made_at.0,
            state: message.state.as_str().to_owned(),
            next_at: is_queued.then_some(message.next_at.0),
            attempts: message.attempts,
            interrupted: message.interrupted,
            changed_at: message.changed_at.0,
            answer: message.answer,
            reference: message.reference,
            copy_of: message.copy_of.map(|id| id.to_string()),
        }
    }
}

/// A line of a message's log.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = MessageLogLine)]
struct LogLine {
    /// Milliseconds since 1970.
    at: i64,
    /// What came of it, such as `sent`, `later`, `refused` or `delivered`.
    outcome: String,
    answer: String,
    /// Who did it, where a person did.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
}

impl LogLine {
    fn of(entry: MessageLogEntry) -> Self {
        let MessageLogEntry { at, outcome, answer, actor } = entry;
        Self { at: at.0, outcome, answer, actor }
    }
}

/// A message with its text and its log.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = MessageStory)]
pub(super) struct Story {
    #[serde(flatten)]
    message: Shown,
    /// The text as it was written. Links in it are left out: they act in the
    /// name of the recipient.
    text: String,
    /// The oldest line first.
    log: Vec<LogLine>,
}

impl Story {
    pub(super) fn of(message: MessageRow, log: Vec<MessageLogEntry>) -> Self {
        let content: Content = serde_json::from_str(&message.content).unwrap_or_default();
        let text = match content.data {
            Some(data) => data.to_string(),
            None => content.text,
        };
        Self {
            message: Shown::of(message),
            text: without_links(&text),
            log: log.into_iter().map(LogLine::of).collect(),
        }
    }
}

/// What a signed link begins with, behind the installation's address.
const LINKS: &str = "/links/";

fn without_links(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(found) = rest.find(LINKS) {
        let (before, token) = rest.split_at(found + LINKS.len());
        shown.push_str(before);
        shown.push('…');
        let is_token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        rest = token.trim_start_matches(is_token);
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_act_for_others_are_not_shown() {
        let text =
            "Acknowledge: https://b.example/links/AbC-d_9\nStop: <https://b.example/links/x>";
        assert_eq!(
            without_links(text),
            "Acknowledge: https://b.example/links/…\nStop: <https://b.example/links/…>"
        );
    }
}
