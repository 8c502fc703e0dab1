//! SMS: a text to a number, through a provider.
//!
//! Providers are an open set, so there is a trait, [`SmsProvider`]: [`twilio`] and
//! [`cm`] speak to those two, and [`http`] to any gateway that takes an HTTP
//! request, by templates.
//!
//! An SMS costs money and wakes people, so a second copy does harm, and no gateway
//! tells copies apart. What decides is therefore whether the provider can have
//! taken the message: a connection that could not be made is tried later; a
//! request whose answer never came is [`Outcome::Unknown`] and is not sent again.

pub mod callback;
pub mod cm;
pub mod http;
mod outcome;
pub mod segments;
mod sender;
pub mod twilio;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use schema::MessageId;

pub use crate::request::ClientError;
pub use sender::Sender;

use crate::channel::Outcome;

/// How long a request to a provider takes at most, unless set otherwise.
pub const DEFAULT_TIMEOUT_MS: u64 = 20_000;

/// What a provider is given to send.
#[derive(Clone, Debug)]
pub struct SmsRequest {
    pub id: MessageId,
    /// In the form of E.164, such as `+31612345678`.
    pub to: String,
    pub text: String,
    /// Where the provider reports what became of it ([`callback::callback_url`]);
    /// without it there are no reports.
    pub callback: Option<String>,
}

/// A report as it came in: a request to an address that Baken gave the provider.
#[derive(Clone, Debug)]
pub struct CallbackRequest {
    /// The whole address as the provider knows it, with its query: the
    /// installation's public address and not what a proxy made of it.
    pub url: String,
    /// The message that its path names; none where the address is the provider's
    /// one address for all.
    pub message: Option<MessageId>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl CallbackRequest {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The fields of the address' query.
    fn query(&self) -> Vec<(String, String)> {
        let (_, query) = self.url.split_once('?').unwrap_or_default();
        let query = query.split_once('#').map_or(query, |(query, _)| query);
        pairs(query.as_bytes())
    }

    /// The fields of a form in the body.
    fn form(&self) -> Vec<(String, String)> {
        pairs(&self.body)
    }
}

fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(encoded).into_owned().collect()
}

/// The first value of a name.
fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
}

/// What became of a message that a provider has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// The provider has it.
    Queued,
    /// The network has it.
    Sent,
    /// The telephone has it.
    Delivered,
    /// The network could not bring it to the telephone.
    Undelivered,
    /// The provider did not send it.
    Failed,
    /// The provider said something that we don't know.
    Unknown,
}

impl DeliveryStatus {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Undelivered => "undelivered",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for DeliveryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a report names its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reported {
    Message(MessageId),
    /// The provider's own name, as in [`Outcome::Sent`].
    Reference(String),
}

/// What a provider says of one message. Reports come in any order and more than
/// once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReport {
    pub message: Reported,
    pub status: DeliveryStatus,
    /// The provider's words, for people.
    pub answer: String,
}

/// Why a report is not believed or not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    #[error("the delivery report is not signed, or not by whom it should be")]
    Signature,
    #[error("no delivery reports are set up for this provider")]
    NotSetUp,
    #[error("the delivery report can't be read: {0}")]
    Malformed(&'static str),
}

/// A setting with which a provider can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SmsOptionsError {
    #[error(
        "{field}: {text:?} is no sender, which is at most 11 letters and digits, a number such as \
         +31612345678 or a short code of 3 to 8 digits"
    )]
    Sender { field: &'static str, text: String },
    #[error("{field}: {why}")]
    Value { field: &'static str, why: &'static str },
    #[error("{field}: the template can't be used: {why}")]
    Template { field: &'static str, why: String },
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The future of an answer, so that providers of any kind fit behind one pointer.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// Somebody who sends SMS for us.
pub trait SmsProvider: Send + Sync + fmt::Debug {
    /// As it stands in the addresses of its callbacks.
    fn name(&self) -> &str;

    /// Hands a message over, once, within the provider's timeout.
    fn send<'a>(&'a self, request: &'a SmsRequest) -> Answering<'a>;

    /// What a report says, once it is sure who made it.
    ///
    /// # Errors
    /// Where the signature is missing or wrong, or the report has another form.
    fn report(&self, request: &CallbackRequest) -> Result<Vec<DeliveryReport>, CallbackError>;
}

/// The base address of a provider, without its last slash.
fn base_url(field: &'static str, text: &str) -> Result<String, SmsOptionsError> {
    let wrong = |why| SmsOptionsError::Value { field, why };
    let url = url::Url::parse(text).map_err(|_| wrong("it is no URL"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(wrong("it begins with neither https:// nor http://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has a query or a fragment"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}
