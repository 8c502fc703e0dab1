//! What a message says: facts in, text out, in the language of the recipient.

use schema::{
    AlarmId, ClearReason, Language, Moment, Severity, TemplateKind, TimestampMs, TransitionId,
};
use serde_json::Value;

/// All that a message may say of one notice. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct NoticeFacts {
    pub transition: TransitionId,
    pub alarm: AlarmId,
    pub moment: Moment,
    /// The rule's key.
    pub rule: String,
    /// The rule's description with its values, as it stood at the transition.
    pub description: String,
    /// At the transition.
    pub severity: Severity,
    /// Before it, where the severity changed.
    pub severity_before: Option<Severity>,
    /// When it happened, in the device's own time.
    pub at: TimestampMs,
    /// When the alarm was raised.
    pub raised_at: TimestampMs,
    /// When it was cleared, if it is over by now.
    pub cleared_at: Option<TimestampMs>,
    pub clear_reason: Option<ClearReason>,
    /// By now.
    pub acknowledged: bool,
    /// Who did it, where a person did.
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

/// The most notices that one message lists; of the others it says how many.
pub const MAX_LISTED: usize = 50;
