//! What a message says: facts in, text out, in the language of the recipient.
//!
//! The last step before a message is handed to its channel. [`render`] turns
//! [`MessageFacts`] into the subject, text and HTML of an e-mail, the text of an
//! SMS, or the JSON of a webhook. The texts are templates (Baken's own or a
//! tenant's) in a small part of Jinja; what a template may use is checked before
//! it is run, so that one that a tenant wrote can neither read anything but the
//! facts nor take more than a bounded time and memory.
//!
//! Nothing here reads a clock or a file: the same facts give the same message.

mod context;
mod data;
mod engine;
mod error;
mod language;
mod limits;
mod own;
mod reference;
mod render;
mod sample;
mod syntax;
mod text;
mod time;
mod variables;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use schema::{
    AlarmId, ClearReason, Language, MessageId, Moment, Severity, TemplateKind, TimestampMs,
    TransitionId,
};
use serde_json::Value;

pub use data::DATA_VERSION;
pub use error::{RenderError, TemplateError, TemplateFault, TemplateField};
pub use limits::{
    MAX_DATA_BYTES, MAX_HTML_BYTES, MAX_LISTED, MAX_SMS_CHARS, MAX_SUBJECT_CHARS,
    MAX_TEMPLATE_BYTES, MAX_TEXT_BYTES,
};
pub use own::own_template;
pub use reference::reference;
pub use render::{Rendered, check_template, preview, preview_own, render};

/// All that a message may say of one notice. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct NoticeFacts {
    pub transition: TransitionId,
    pub alarm: AlarmId,
    pub moment: Moment,
    /// The rule's key.
    pub rule: String,
    /// Whether the rule is one of Baken's own (of [`schema::ProfileId::SYSTEM`]), whose
    /// descriptions are written in the language of the recipient.
    pub system: bool,
    /// The rule's description with its values, as it stood at the transition.
    pub description: String,
    /// At the transition.
    pub severity: Severity,
    /// Before it, where the severity changed.
    pub severity_before: Option<Severity>,
    /// The highest that the alarm has had.
    pub highest: Severity,
    /// When it happened, in the device's own time.
    pub at: TimestampMs,
    /// When Baken came to know of it: well after `at` for readings that the
    /// router had kept while it was away.
    pub learned_at: TimestampMs,
    /// When the alarm was raised.
    pub raised_at: TimestampMs,
    /// When it was cleared, if it is over by now.
    pub cleared_at: Option<TimestampMs>,
    pub clear_reason: Option<ClearReason>,
    /// By now.
    pub acknowledged: bool,
    /// Who acknowledged it, if it is acknowledged by now.
    pub acknowledged_by: Option<String>,
    /// Who made the transition, where a person did.
    pub by: Option<String>,
    /// By name; none for an alarm of the tenant as a whole.
    pub location: Option<String>,
    pub device: Option<String>,
    /// The values of the rule's keys, in its order; JSON scalars.
    pub values: Vec<(String, Value)>,
    /// A signed link that acknowledges the alarm.
    pub acknowledge: Option<String>,
}

/// All that a message may say.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageFacts {
    /// Stands in the body of a webhook, whose signature it comes under there.
    pub id: MessageId,
    pub kind: TemplateKind,
    pub tenant: String,
    /// The recipient's name; the address where they have none.
    pub recipient: String,
    pub language: Language,
    /// An IANA name.
    pub time_zone: String,
    /// When it is written.
    pub now: TimestampMs,
    /// At least one but for [`TemplateKind::Test`]; in the order in which they
    /// happened, the newest last, at most [`MAX_LISTED`].
    pub notices: Vec<NoticeFacts>,
    /// All that the message is about, whether they are listed or not.
    pub total: usize,
    /// Of all of them, how many of each severity, the worst first; without zeros.
    pub by_severity: Vec<(Severity, usize)>,
    /// How many of the alarms are over by now.
    pub over: usize,
    /// Ends the subscription.
    pub unsubscribe: Option<String>,
}

impl MessageFacts {
    /// The facts of a message by which somebody tries whether they are reached.
    #[must_use]
    pub fn test(
        tenant: &str,
        recipient: &str,
        language: Language,
        time_zone: &str,
        now: TimestampMs,
    ) -> Self {
        Self {
            id: MessageId(0),
            kind: TemplateKind::Test,
            tenant: tenant.to_owned(),
            recipient: recipient.to_owned(),
            language,
            time_zone: time_zone.to_owned(),
            now,
            notices: Vec::new(),
            total: 0,
            by_severity: Vec::new(),
            over: 0,
            unsubscribe: None,
        }
    }
}
