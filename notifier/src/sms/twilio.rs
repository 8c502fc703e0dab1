//! Twilio: a form to its Messages resource, and its signed status callbacks.
//!
//! <https://www.twilio.com/docs/messaging/api/message-resource>,
//! <https://www.twilio.com/docs/usage/webhooks/webhooks-security>.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use sha1::Sha1;
use url::form_urlencoded::Serializer;

use super::outcome::{provider_later, refused_by, unanswered};
use super::{
    Answering, CallbackError, CallbackRequest, ClientError, DEFAULT_TIMEOUT_MS, DeliveryReport,
    DeliveryStatus, Reported, Sender, SmsOptionsError, SmsProvider, SmsRequest, base_url, value,
};
use crate::channel::{Outcome, Plain};
use crate::request::{Answer, answer_text, client, exchange, retry_after, shown, with_status};

/// Where Twilio is.
pub const BASE_URL: &str = "https://api.twilio.com";

/// Its name in the addresses of callbacks.
pub const NAME: &str = "twilio";

/// As whom Twilio sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendAs {
    Sender(Sender),
    /// The SID of a messaging service, which chooses among its senders.
    MessagingService(String),
}

/// An account with Twilio.
#[derive(Clone, Debug)]
pub struct TwilioOptions {
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// Authenticates our requests and signs Twilio's.
    pub auth_token: Plain,
    pub send_as: SendAs,
    pub base_url: String,
    pub timeout_ms: u64,
}

impl TwilioOptions {
    #[must_use]
    pub fn new(account_sid: String, auth_token: Plain, send_as: SendAs) -> Self {
        let base_url = BASE_URL.to_owned();
        Self { account_sid, auth_token, send_as, base_url, timeout_ms: DEFAULT_TIMEOUT_MS }
    }
}

/// Sends by Twilio.
#[derive(Debug)]
pub struct Twilio {
    options: TwilioOptions,
    url: String,
    client: reqwest::Client,
}

/// A SID: two letters that say of what, and 32 hexadecimal digits.
fn is_sid(text: &str, of: &str) -> bool {
    let digits = text.strip_prefix(of);
    digits.is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl Twilio {
    /// # Errors
    /// Where a setting can't be right; the error names it.
    pub fn new(options: TwilioOptions) -> Result<Self, SmsOptionsError> {
        let wrong = |field, why| Err(SmsOptionsError::Value { field, why });
        if !is_sid(&options.account_sid, "AC") {
            return wrong("account_sid", "it is not AC and 32 hexadecimal digits");
        }
        if options.auth_token.0.is_empty() {
            return wrong("auth_token", "it is empty");
        }
        if let SendAs::MessagingService(sid) = &options.send_as
            && !is_sid(sid, "MG")
        {
            return wrong("messaging_service_sid", "it is not MG and 32 hexadecimal digits");
        }
        let base = base_url("base_url", &options.base_url)?;
        let url = format!("{base}/2010-04-01/Accounts/{}/Messages.json", options.account_sid);
        // A connection of its own for each message: one that was kept may be closed
        // by Twilio just when we write to it, and then nobody knows whether the
        // message was taken.
        let client = client(options.timeout_ms).pool_max_idle_per_host(0);
        let client = client.build().map_err(ClientError)?;
        Ok(Self { options, url, client })
    }

    fn form(&self, request: &SmsRequest) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("To", &request.to);
        match &self.options.send_as {
            SendAs::Sender(sender) => form.append_pair("From", sender.as_str()),
            SendAs::MessagingService(sid) => form.append_pair("MessagingServiceSid", sid),
        };
        form.append_pair("Body", &request.text);
        if let Some(callback) = &request.callback {
            form.append_pair("StatusCallback", callback);
        }
        form.finish()
    }

    async fn hand_over(&self, request: &SmsRequest) -> Outcome {
        let token = &self.options.auth_token.0;
        let post = self
            .client
            .post(&self.url)
            .basic_auth(&self.options.account_sid, Some(token))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(self.form(request));
        match exchange(post).await {
            Err(failure) => unanswered(failure),
            Ok(answer) if answer.status.is_success() => taken(&answer, token),
            Ok(answer) => refused(&answer, token),
        }
    }

    /// Whether Twilio has signed the request: HMAC-SHA-1 under the auth token of the
    /// address with all fields of the form behind it, sorted and each once. Twilio
    /// may or may not have had the port in the address.
    fn is_signed(&self, request: &CallbackRequest) -> bool {
        let Some(given) = request.header("X-Twilio-Signature") else { return false };
        let Ok(given) = STANDARD.decode(given) else { return false };
        let mut fields = request.form();
        fields.sort();
        fields.dedup();
        let signs = |url: &str| {
            let key = self.options.auth_token.0.as_bytes();
            let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes any key");
            mac.update(url.as_bytes());
            for (name, value) in &fields {
                mac.update(name.as_bytes());
                mac.update(value.as_bytes());
            }
            mac.verify_slice(&given).is_ok()
        };
        with_and_without_port(&request.url).iter().any(|url| signs(url))
    }
}

/// An address as it is, and as it is with the port left out or put in.
fn with_and_without_port(url: &str) -> Vec<String> {
    let mut all = vec![url.to_owned()];
    let Some((scheme, rest)) = url.split_once("://") else { return all };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let port = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    all.push(match port {
        Some((host, _)) => format!("{scheme}://{host}{path}"),
        None => {
            let port = if scheme == "https" { 443 } else { 80 };
            format!("{scheme}://{authority}:{port}{path}")
        }
    });
    all
}

impl SmsProvider for Twilio {
    fn name(&self) -> &str {
        NAME
    }

    fn send<'a>(&'a self, request: &'a SmsRequest) -> Answering<'a> {
        Box::pin(self.hand_over(request))
    }

    fn report(&self, request: &CallbackRequest) -> Result<Vec<DeliveryReport>, CallbackError> {
        if !self.is_signed(request) {
            return Err(CallbackError::Signature);
        }
        let form = request.form();
        let status = value(&form, "MessageStatus").or_else(|| value(&form, "SmsStatus"));
        let status = status.ok_or(CallbackError::Malformed("it has no MessageStatus"))?;
        let message = match (request.message, value(&form, "MessageSid")) {
            (Some(id), _) => Reported::Message(id),
            (None, Some(sid)) => Reported::Reference(sid.to_owned()),
            (None, None) => return Err(CallbackError::Malformed("it has no MessageSid")),
        };
        let code = value(&form, "ErrorCode").and_then(|code| code.parse().ok());
        let answer = match code {
            None | Some(0) => status.to_owned(),
            Some(code) => format!("{status}: error {code}{}", meaning(code)),
        };
        let answer = shown(&answer, &[&self.options.auth_token.0]);
        Ok(vec![DeliveryReport { message, status: delivery(status), answer }])
    }
}

fn delivery(status: &str) -> DeliveryStatus {
    match status {
        "accepted" | "scheduled" | "queued" | "sending" => DeliveryStatus::Queued,
        "sent" => DeliveryStatus::Sent,
        "delivered" | "read" => DeliveryStatus::Delivered,
        "undelivered" => DeliveryStatus::Undelivered,
        "failed" | "canceled" => DeliveryStatus::Failed,
        _ => DeliveryStatus::Unknown,
    }
}

/// What an error code of a report means, where it is a frequent one.
fn meaning(code: u32) -> &'static str {
    match code {
        30001 => " (the queue is full)",
        30002 => " (the account is suspended)",
        30003 => " (the telephone can't be reached)",
        30004 => " (the recipient has blocked it)",
        30005 => " (the number is unknown)",
        30006 => " (a landline, or a network that can't be reached)",
        30007 => " (the network has filtered it)",
        30008 => " (an unknown error of the network)",
        30034 => " (the sender is not registered)",
        _ => "",
    }
}

/// What Twilio says of a message that it took.
#[derive(Deserialize)]
struct Taken {
    sid: String,
    #[serde(default)]
    status: String,
}

/// What it says of one that it did not.
#[derive(Deserialize)]
struct Refusal {
    code: u32,
    #[serde(default)]
    message: String,
}

fn taken(answer: &Answer, token: &str) -> Outcome {
    let status = answer.status;
    match serde_json::from_slice::<Taken>(&answer.body) {
        Ok(taken) => Outcome::Sent {
            answer: with_status(
                status,
                &shown(&format!("{} {}", taken.status, taken.sid), &[token]),
            ),
            reference: Some(taken.sid),
        },
        // The status alone says that it was taken.
        Err(_) => Outcome::Sent { answer: answer_text(answer, &[token]), reference: None },
    }
}

fn refused(answer: &Answer, token: &str) -> Outcome {
    let after = retry_after(&answer.headers, SystemTime::now());
    let Ok(error) = serde_json::from_slice::<Refusal>(&answer.body) else {
        return refused_by(answer.status, answer_text(answer, &[token]), after);
    };
    let text = shown(&format!("error {}: {}", error.code, error.message), &[token]);
    let text = with_status(answer.status, &text);
    match error.code {
        // The number is none, is no mobile one, can't be reached from here, is in a
        // country to which the account doesn't send, or has asked for no more; or
        // the text is too long or empty.
        21211 | 21214 | 21217 | 21219 | 21408 | 21602 | 21604 | 21608 | 21610 | 21612 | 21614
        | 21617 | 21635 => Outcome::Refused { answer: text },
        // The account, its token or its right: 20003, 20005, 20403, 20404; too much at
        // once: 20429, 21611 and 63038; our sender can't send: the others. All of it
        // holds for every message.
        20003..=20006
        | 20403
        | 20404
        | 20429
        | 21212
        | 21603
        | 21606
        | 21607
        | 21611
        | 21659
        | 21660
        | 21701
        | 21703
        | 21704
        | 21705
        | 63038 => provider_later(text, after),
        _ => refused_by(answer.status, text, after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twilio(token: &str) -> Twilio {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sid = format!("AC{}", "0".repeat(32));
        let send_as = SendAs::Sender(Sender::parse("from", "Baken").unwrap());
        Twilio::new(TwilioOptions::new(sid, Plain(token.to_owned()), send_as)).unwrap()
    }

    fn callback(url: &str, body: &str, signature: &str) -> CallbackRequest {
        CallbackRequest {
            url: url.to_owned(),
            message: None,
            headers: vec![("x-twilio-signature".to_owned(), signature.to_owned())],
            body: body.as_bytes().to_vec(),
        }
    }

    /// The example of Twilio's documentation and of its own libraries' tests.
    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
    const BODY: &str = "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234\
                        &From=%2B14158675309&To=%2B18005551212";
    const SIGNATURE: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";

    #[test]
    fn the_signature_is_that_of_twilios_own_example() {
        let twilio = twilio("12345");
        assert!(twilio.is_signed(&callback(URL, BODY, SIGNATURE)));
        // From Twilio's tests too: a name with two values, one of them twice.
        let repeated = "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234";
        assert!(twilio.is_signed(&callback(URL, repeated, "IK+Dwps556ElfBT0I3Rgjkr1wJU=")));
        // Signed without the port that the address has.
        let port = "https://mycompany.com:443/myapp.php?foo=1&bar=2";
        assert!(twilio.is_signed(&callback(port, BODY, SIGNATURE)));
    }

    #[test]
    fn a_changed_request_is_not_signed() {
        assert!(!twilio("12346").is_signed(&callback(URL, BODY, SIGNATURE)));
        let twilio = twilio("12345");
        let changed = BODY.replace("1234&", "1235&");
        for (url, body, signature) in [
            (URL, &*changed, SIGNATURE),
            ("https://mycompany.com/myapp.php?foo=1&bar=3", BODY, SIGNATURE),
            (URL, BODY, "RSOYDt4T1cUTdK1PDd93/VVr8B9="),
            (URL, BODY, "RSOYDt4T1cU="),
            (URL, BODY, "not base64"),
            (URL, BODY, ""),
        ] {
            let error = twilio.report(&callback(url, body, signature)).unwrap_err();
            assert_eq!(error, CallbackError::Signature, "{url} {body} {signature}");
        }
        let unsigned = CallbackRequest { headers: Vec::new(), ..callback(URL, BODY, "") };
        assert_eq!(twilio.report(&unsigned), Err(CallbackError::Signature));
    }

    #[test]
    fn an_address_is_tried_with_and_without_its_port() {
        let other = |url: &str| with_and_without_port(url).remove(1);
        assert_eq!(other("https://a.nl/x?y=1:2"), "https://a.nl:443/x?y=1:2");
        assert_eq!(other("http://a.nl:8080?y"), "http://a.nl?y");
        assert_eq!(other("http://[::1]/"), "http://[::1]:80/");
        assert_eq!(other("http://[::1]:8080/"), "http://[::1]/");
    }

    #[test]
    fn settings_that_cannot_be_right_are_named() {
        let good = twilio("token").options;
        let broken = |change: &dyn Fn(&mut TwilioOptions)| {
            let mut options = good.clone();
            change(&mut options);
            Twilio::new(options).unwrap_err().to_string()
        };
        let error = broken(&|o| o.account_sid = "AC/../x".to_owned());
        assert!(error.starts_with("account_sid: "), "{error}");
        let error = broken(&|o| o.auth_token = Plain(String::new()));
        assert!(error.starts_with("auth_token: "), "{error}");
        let error = broken(&|o| o.send_as = SendAs::MessagingService("MG1".to_owned()));
        assert!(error.starts_with("messaging_service_sid: "), "{error}");
        let error = broken(&|o| o.base_url = "ftp://api.twilio.com".to_owned());
        assert!(error.starts_with("base_url: "), "{error}");
        assert!(!format!("{:?}", twilio("s3cret")).contains("s3cret"));
    }
}
