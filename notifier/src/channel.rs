//! What a channel is given to hand over, and what it says came of it.

use std::fmt;
use std::time::Duration;

use schema::{AlarmId, Channel, MessageId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A secret in plain text, for as long as it is used. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain(pub String);

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain(hidden)")
    }
}

/// A message as it was written, in the form of its channel. Its JSON is what the
/// store keeps, so that what is handed over again is the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// Of an e-mail.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The whole of an SMS, the plain part of an e-mail.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Of an e-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// The body of a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Where one request ends the subscription (RFC 8058), of an e-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsubscribe: Option<String>,
    /// The one alarm that it is about: messages of one alarm to one recipient
    /// are a thread. None for a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<AlarmId>,
}

/// A message on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub id: MessageId,
    pub channel: Channel,
    /// An e-mail address, a number (E.164) or a URL.
    pub to: String,
    /// Signs a webhook's request.
    pub secret: Option<Plain>,
    pub content: Content,
    /// Whether it may have been handed over before, because a process ended
    /// between handing over and noting it.
    pub maybe_repeated: bool,
}

/// What came of handing a message over. `answer` is the provider's, for people,
/// without any secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has taken it. `reference` is the provider's name for it, by
    /// which a delivery report names it.
    Sent { answer: String, reference: Option<String> },
    /// It will never be taken, such as an address that does not exist.
    Refused { answer: String },
    /// It may be taken later. `whole_provider` says that the trouble is the
    /// provider's (it can't be reached, refuses our password, is over its
    /// limit) and not this message's.
    Later { answer: String, after: Option<Duration>, whole_provider: bool },
    /// Nobody knows whether it was taken, and a second copy would do harm.
    Unknown { answer: String },
}
