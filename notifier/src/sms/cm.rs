//! CM.com: JSON to its Business Messaging gateway, and its status reports.
//!
//! <https://developers.cm.com/messaging/docs/responses-errors-json>,
//! <https://developers.cm.com/messaging/docs/incoming-status-report>.
//!
//! CM takes one address for the reports of an account, set by hand in its Channels
//! app, and signs nothing. [`Cm::callback_url`] gives that address, with our own
//! signature; a report names its message by the `reference` that we sent. CM may
//! post the reports as its JSON, or request the address with
//! `&reference=[REFERENCE]&status=[STATUS]&errorCode=[STATUSDESCRIPTION]&errorDescription=[STANDARDERRORTEXT]`
//! behind it.

use std::time::SystemTime;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::callback::{CallbackKey, callback_url, is_signed};
use super::outcome::{message_later, provider_later, refused_by, unanswered};
use super::segments::segments;
use super::{
    Answering, CallbackError, CallbackRequest, ClientError, DEFAULT_TIMEOUT_MS, DeliveryReport,
    DeliveryStatus, Reported, Sender, SmsOptionsError, SmsProvider, SmsRequest, base_url, value,
};
use crate::channel::{Outcome, Plain};
use crate::request::{Answer, answer_text, client, exchange, retry_after, shown, with_status};

/// Where CM is.
pub const BASE_URL: &str = "https://gw.messaging.cm.com";

/// Its name in the address of callbacks.
pub const NAME: &str = "cm";

/// The most SMS that CM makes of one text.
const MAX_PARTS: usize = 8;

/// An account with CM.
#[derive(Clone, Debug)]
pub struct CmOptions {
    pub product_token: Plain,
    pub sender: Sender,
    /// Signs the address for CM's reports.
    pub callback_key: CallbackKey,
    pub base_url: String,
    pub timeout_ms: u64,
}

impl CmOptions {
    #[must_use]
    pub fn new(product_token: Plain, sender: Sender, callback_key: CallbackKey) -> Self {
        let base_url = BASE_URL.to_owned();
        Self { product_token, sender, callback_key, base_url, timeout_ms: DEFAULT_TIMEOUT_MS }
    }
}

/// Sends by CM.
#[derive(Debug)]
pub struct Cm {
    options: CmOptions,
    url: String,
    /// Marked as sensitive.
    token: HeaderValue,
    client: reqwest::Client,
}

impl Cm {
    /// # Errors
    /// Where a setting can't be right; the error names it.
    pub fn new(options: CmOptions) -> Result<Self, SmsOptionsError> {
        let wrong = |why| SmsOptionsError::Value { field: "product_token", why };
        if options.product_token.0.is_empty() {
            return Err(wrong("it is empty"));
        }
        let token = HeaderValue::from_str(&options.product_token.0);
        let mut token = token.map_err(|_| wrong("it has characters that no header takes"))?;
        token.set_sensitive(true);
        let url = format!("{}/v1.0/message", base_url("base_url", &options.base_url)?);
        // A connection of its own for each message, as with Twilio.
        let client = client(options.timeout_ms).pool_max_idle_per_host(0);
        let client = client.build().map_err(ClientError)?;
        Ok(Self { options, url, token, client })
    }

    /// The address for the reports of all messages, to be set in CM's Channels app.
    #[must_use]
    pub fn callback_url(&self, public_url: &str) -> String {
        callback_url(&self.options.callback_key, public_url, NAME, None)
    }

    /// The text goes in as many SMS as it takes; without the parts CM would refuse
    /// what takes more than one. `reference` is at most 32 letters and digits, which
    /// a message's id is.
    fn body(&self, request: &SmsRequest) -> Value {
        let parts = segments(&request.text).count.min(MAX_PARTS);
        json!({ "messages": { "msg": [{
            "allowedChannels": ["SMS"],
            "from": international(self.options.sender.as_str()),
            "to": [{ "number": international(&request.to) }],
            "body": { "type": "auto", "content": request.text },
            "minimumNumberOfMessageParts": 1,
            "maximumNumberOfMessageParts": parts,
            "reference": request.id.to_string(),
        }] } })
    }

    async fn hand_over(&self, request: &SmsRequest) -> Outcome {
        let post = self
            .client
            .post(&self.url)
            .header("X-CM-PRODUCTTOKEN", self.token.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(self.body(request).to_string());
        match exchange(post).await {
            Err(failure) => unanswered(failure),
            Ok(answer) => outcome(&answer, request, &self.options.product_token.0),
        }
    }
}

/// CM writes numbers with the international prefix of Europe: `0031…` for `+31…`.
fn international(number: &str) -> String {
    match number.strip_prefix('+') {
        Some(digits) => format!("00{digits}"),
        None => number.to_owned(),
    }
}

/// What CM says of a request, and of each message in it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CmAnswer {
    #[serde(default)]
    details: Option<String>,
    error_code: i64,
    #[serde(default)]
    messages: Vec<CmMessage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CmMessage {
    #[serde(default)]
    message_details: Option<String>,
    #[serde(default)]
    message_error_code: i64,
}

fn outcome(answer: &Answer, request: &SmsRequest, token: &str) -> Outcome {
    let sent = |answer| Outcome::Sent { answer, reference: Some(request.id.to_string()) };
    let after = retry_after(&answer.headers, SystemTime::now());
    let Ok(said) = serde_json::from_slice::<CmAnswer>(&answer.body) else {
        let text = answer_text(answer, &[token]);
        let success = answer.status.is_success();
        return if success { sent(text) } else { refused_by(answer.status, text, after) };
    };
    // The message's own code says more than the one for the whole request, which is
    // 201 ("has errors in its messages") then.
    let message = said.messages.into_iter().find(|message| message.message_error_code != 0);
    let (code, details) = match message {
        Some(message) => (message.message_error_code, message.message_details),
        None => (said.error_code, said.details),
    };
    let details = details.unwrap_or_default();
    if code == 0 && answer.status.is_success() {
        return sent(with_status(answer.status, &shown(&details, &[token])));
    }
    let text = shown(&format!("error {code}: {details}"), &[token]);
    let text = with_status(answer.status, &text);
    match code {
        // The number, the text or another field of the message is wrong; or it was
        // taken for spam, the number is on a blacklist, or it was rejected.
        302..=305 | 401..=403 => Outcome::Refused { answer: text },
        // The account, its balance, its token, the form of our requests or our
        // sender: all hold for every message.
        101..=103 | 202 | 203 | 301 => provider_later(text, after),
        // An internal error and an unknown one.
        500 | 999 => message_later(text, after),
        _ => refused_by(answer.status, text, after),
    }
}

impl SmsProvider for Cm {
    fn name(&self) -> &str {
        NAME
    }

    fn send<'a>(&'a self, request: &'a SmsRequest) -> Answering<'a> {
        Box::pin(self.hand_over(request))
    }

    fn report(&self, request: &CallbackRequest) -> Result<Vec<DeliveryReport>, CallbackError> {
        if !is_signed(&self.options.callback_key, NAME, request) {
            return Err(CallbackError::Signature);
        }
        let found = if request.body.is_empty() {
            vec![from_query(&request.query())]
        } else {
            from_json(&request.body)?
        };
        found.into_iter().map(|found| found.report(&self.options.product_token.0)).collect()
    }
}

/// The fields of a report in either form.
#[derive(Default)]
struct Found {
    reference: Option<String>,
    status: Option<String>,
    code: Option<String>,
    description: Option<String>,
}

impl Found {
    fn report(self, token: &str) -> Result<DeliveryReport, CallbackError> {
        let reference = self.reference.filter(|reference| !reference.is_empty());
        let reference = reference.ok_or(CallbackError::Malformed("it has no reference"))?;
        let status = self.status.ok_or(CallbackError::Malformed("it has no status"))?;
        let (status, word) = match &*status {
            "0" => (DeliveryStatus::Sent, "accepted by the network"),
            "1" => (DeliveryStatus::Failed, "rejected"),
            "2" => (DeliveryStatus::Delivered, "delivered"),
            "3" => (DeliveryStatus::Undelivered, "not delivered"),
            "4" => (DeliveryStatus::Delivered, "read"),
            other => (DeliveryStatus::Unknown, other),
        };
        let said = |text: &Option<String>| {
            text.as_deref().filter(|text| !text.is_empty() && *text != "0").map(str::to_owned)
        };
        let mut answer = word.to_owned();
        if let Some(code) = said(&self.code) {
            answer.push_str(&format!(": error {code}"));
        }
        if let Some(description) = said(&self.description) {
            answer.push_str(&format!(" ({description})"));
        }
        let message = match reference.parse() {
            Ok(id) => Reported::Message(id),
            Err(_) => Reported::Reference(reference),
        };
        Ok(DeliveryReport { message, status, answer: shown(&answer, &[token]) })
    }
}

fn from_query(query: &[(String, String)]) -> Found {
    let text = |name| value(query, name).map(str::to_owned);
    Found {
        reference: text("reference"),
        status: text("status"),
        code: text("errorCode"),
        description: text("errorDescription"),
    }
}

/// `messages.msg` is one report or a list of them; what is a number may be in
/// quotes.
fn from_json(body: &[u8]) -> Result<Vec<Found>, CallbackError> {
    let body: Value =
        serde_json::from_slice(body).map_err(|_| CallbackError::Malformed("it is no JSON"))?;
    let reports = match body.pointer("/messages/msg") {
        Some(Value::Array(many)) => many.iter().collect(),
        Some(one) => vec![one],
        None => return Err(CallbackError::Malformed("it has no messages.msg")),
    };
    let text = |report: &Value, pointer| match report.pointer(pointer) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let found = reports.into_iter().map(|report| Found {
        reference: text(report, "/reference"),
        status: text(report, "/status/code"),
        code: text(report, "/status/errorCode"),
        description: text(report, "/status/errorDescription"),
    });
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use schema::MessageId;

    use super::*;

    fn cm() -> Cm {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sender = Sender::parse("sender", "+31612345678").unwrap();
        let token = Plain("s3cret-token".to_owned());
        Cm::new(CmOptions::new(token, sender, CallbackKey::new(b"key"))).unwrap()
    }

    fn callback(query: &str, body: &str) -> CallbackRequest {
        CallbackRequest {
            url: cm().callback_url("https://baken.example.nl") + query,
            message: None,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        }
    }

    fn report(id: u128, status: DeliveryStatus, answer: &str) -> DeliveryReport {
        let message = Reported::Message(MessageId(id));
        DeliveryReport { message, status, answer: answer.to_owned() }
    }

    #[test]
    fn the_body_is_that_of_cms_documentation() {
        let request = SmsRequest {
            id: MessageId(7),
            to: "+31687654321".to_owned(),
            text: "ë".repeat(71),
            callback: None,
        };
        let expected = json!({ "messages": { "msg": [{
            "allowedChannels": ["SMS"],
            "from": "0031612345678",
            "to": [{ "number": "0031687654321" }],
            "body": { "type": "auto", "content": "ë".repeat(71) },
            "minimumNumberOfMessageParts": 1,
            "maximumNumberOfMessageParts": 2,
            "reference": "00000000000000000000000000000007",
        }] } });
        assert_eq!(cm().body(&request), expected);
    }

    #[test]
    fn a_report_comes_as_json_or_in_the_query() {
        // The form of CM's documentation, with its numbers in quotes.
        let body = r#"{"messages":{"msg":{"received":"2026-11-25T12:00:00","to":"0031687654321",
            "reference":"0000000000000000000000000000000a",
            "status":{"code":"3","errorCode":"5","errorDescription":"Expired"},
            "operator":"20408"}}}"#;
        let undelivered =
            report(10, DeliveryStatus::Undelivered, "not delivered: error 5 (Expired)");
        assert_eq!(cm().report(&callback("", body)), Ok(vec![undelivered.clone()]));
        let query = "&reference=0000000000000000000000000000000a&status=3&errorCode=5\
                     &errorDescription=Expired";
        assert_eq!(cm().report(&callback(query, "")), Ok(vec![undelivered]));
        let many = r#"{"messages":{"msg":[
            {"reference":"0000000000000000000000000000000b","status":{"code":2,"errorCode":0}},
            {"reference":"of another system","status":{"code":7}}]}}"#;
        let other = DeliveryReport {
            message: Reported::Reference("of another system".to_owned()),
            status: DeliveryStatus::Unknown,
            answer: "7".to_owned(),
        };
        let delivered = report(11, DeliveryStatus::Delivered, "delivered");
        assert_eq!(cm().report(&callback("", many)), Ok(vec![delivered, other]));
    }

    #[test]
    fn a_report_without_our_signature_is_refused() {
        let mut unsigned = callback("", "{}");
        unsigned.url = "https://baken.example.nl/callbacks/sms/cm".to_owned();
        assert_eq!(cm().report(&unsigned), Err(CallbackError::Signature));
        unsigned.url = "https://baken.example.nl/callbacks/sms/cm?signature=AAAA".to_owned();
        assert_eq!(cm().report(&unsigned), Err(CallbackError::Signature));
        for broken in ["{}", "[]", "nothing", r#"{"messages":{"msg":{"status":{"code":2}}}}"#] {
            let error = cm().report(&callback("", broken)).unwrap_err();
            assert!(matches!(error, CallbackError::Malformed(_)), "{broken}: {error}");
        }
    }

    #[test]
    fn settings_that_cannot_be_right_are_named() {
        let good = cm().options;
        let token =
            |token: &str| CmOptions { product_token: Plain(token.to_owned()), ..good.clone() };
        for bad in ["", "a\nb"] {
            let error = Cm::new(token(bad)).unwrap_err().to_string();
            assert!(error.starts_with("product_token: "), "{error}");
        }
        assert!(!format!("{:?}", cm()).contains("s3cret"));
    }
}
