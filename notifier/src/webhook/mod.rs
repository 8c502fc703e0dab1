//! Webhooks: a message as JSON to an address that a user chose.
//!
//! The request is a POST whose headers are
//! - `Baken-Message-Id`: names the message, and is the same when it is handed over
//!   again; `Idempotency-Key` says the same in the words of an IETF draft that
//!   some receivers know;
//! - `Baken-Timestamp`: when it was made, in seconds since 1970;
//! - `Baken-Signature`: `v1=` and in hexadecimal digits the HMAC-SHA-256, under the
//!   webhook's secret, of the timestamp, a full stop and the body as it came.
//!
//! **A receiver** makes the signature again from the timestamp and the bytes of the
//! body, before it parses them, and compares it in constant time; refuses a
//! timestamp that is more than five minutes from its own clock, so that what
//! somebody recorded can't be played back later; and remembers for some days which
//! messages it has seen, by the id in the body, for a message whose answer got lost
//! comes again, with the same id and body.
//!
//! An address is a user's own choice, and Baken may stand where the user can't
//! reach. So an address inside is refused ([`check_url`]), when it is saved and
//! again with each request, by what its name resolves to at that moment. Redirects
//! are not followed, for each would have to be checked anew and turns a POST into a
//! GET.

mod check;
mod resolver;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use sha2::Sha256;
use url::Position;

pub use self::check::{MAX_URL_BYTES, WebhookUrlError, check_url};
pub use crate::request::ClientError;

use crate::channel::{Outcome, Outgoing};
use crate::request::{
    Answer, Failure, answer_text, client, exchange, retry_after, shown, with_status,
};

/// How long a request takes at most, unless set otherwise.
pub const DEFAULT_TIMEOUT_MS: u64 = 10_000;

/// The most connections to one host that are kept for the next message.
const MAX_IDLE_PER_HOST: usize = 2;

/// How long one is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The shortest path that is taken for one that may hold a key.
const MIN_SECRET_BYTES: usize = 8;

/// What an installation allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookOptions {
    pub timeout_ms: u64,
    /// Allows receivers in private networks and on this machine.
    pub allow_private_addresses: bool,
    /// Allows `http://`.
    pub allow_http: bool,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self { timeout_ms: DEFAULT_TIMEOUT_MS, allow_private_addresses: false, allow_http: false }
    }
}

/// Hands messages to webhooks.
#[derive(Debug)]
pub struct WebhookSender {
    options: WebhookOptions,
    client: reqwest::Client,
}

impl WebhookSender {
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(options: WebhookOptions) -> Result<Self, ClientError> {
        // A proxy would resolve the names itself, past our check of what they
        // resolve to.
        let client = client(options.timeout_ms)
            .no_proxy()
            .dns_resolver(resolver::Resolver::new(options.allow_private_addresses))
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build();
        Ok(Self { options, client: client.map_err(ClientError)? })
    }

    /// Posts the message's data. What goes wrong concerns this receiver alone, never
    /// the channel as a whole.
    pub async fn send(&self, message: &Outgoing) -> Outcome {
        let refused = |answer: &str| Outcome::Refused { answer: answer.to_owned() };
        // The literal address of a host is never resolved, so this check is needed
        // here too.
        let url = match check::checked(&message.to, &self.options) {
            Ok(url) => url,
            Err(error) => return Outcome::Refused { answer: error.to_string() },
        };
        let Some(secret) = &message.secret else { return refused("the webhook has no secret") };
        let Some(data) = &message.content.data else { return refused("the message has no data") };
        // Services put a key into the path, and servers repeat it ("Cannot POST /…").
        let path = url[Position::BeforePath..].to_owned();
        let path = if path.len() < MIN_SECRET_BYTES { "" } else { &path };
        let (body, id) = (data.to_string(), message.id.to_string());
        let timestamp_s = unix_seconds(SystemTime::now());
        let post = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("Baken-Message-Id", &id)
            .header("Idempotency-Key", &id)
            .header("Baken-Timestamp", timestamp_s)
            .header("Baken-Signature", signature(&secret.0, timestamp_s, &body))
            .body(body);
        match exchange(post).await {
            Err(Failure::NotConnected(answer) | Failure::NoAnswer(answer)) => later(answer, None),
            Ok(answer) => outcome(&answer, &[&secret.0, &message.to, path]),
        }
    }
}

fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The value of `Baken-Signature`. Its form is stable: receivers check it.
fn signature(secret: &str, timestamp_s: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key");
    mac.update(format!("{timestamp_s}.").as_bytes());
    mac.update(body.as_bytes());
    format!("v1={}", hex::encode(mac.finalize().into_bytes()))
}

fn later(answer: String, after: Option<Duration>) -> Outcome {
    Outcome::Later { answer, after, whole_provider: false }
}

fn outcome(answer: &Answer, secrets: &[&str]) -> Outcome {
    let text = answer_text(answer, secrets);
    let after = retry_after(&answer.headers, SystemTime::now());
    match answer.status.as_u16() {
        200..=299 => Outcome::Sent { answer: text, reference: None },
        // Maintenance and login pages come as redirects and pass; an address that has
        // moved for good is for a person to change, and until then nothing is lost.
        300..=399 => later(redirect(answer, secrets), after),
        // A receiver's keys (401, 403) and routes (404) are now and then wrong while
        // something is put in place; 409 says that the same message is just being
        // worked on; 408, 425 and 429 pass by their meaning.
        401 | 403 | 404 | 408 | 409 | 425 | 429 => later(text, after),
        // Gone (410), or a body or a method that it will never like: the next time
        // it would be the same.
        400..=499 => Outcome::Refused { answer: text },
        _ => later(text, after),
    }
}

/// Names where a redirect points, without its query, which may hold a secret.
fn redirect(answer: &Answer, secrets: &[&str]) -> String {
    let to = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
    let to = to.split(['?', '#']).next().unwrap_or_default();
    let text = match (answer.status, to) {
        (StatusCode::NOT_MODIFIED, _) | (_, "") => "redirects are not followed".to_owned(),
        (_, to) => format!("redirects are not followed; this one points to {to}"),
    };
    with_status(answer.status, &shown(&text, secrets))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use super::*;

    fn answered(status: u16) -> Outcome {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        let status = StatusCode::from_u16(status).unwrap();
        outcome(&Answer { status, headers, body: Vec::new() }, &[])
    }

    #[test]
    fn a_status_decides_whether_it_comes_again() {
        for status in [200, 202, 204] {
            assert!(matches!(answered(status), Outcome::Sent { .. }), "{status}");
        }
        for status in [400, 405, 410, 413, 415, 422] {
            assert!(matches!(answered(status), Outcome::Refused { .. }), "{status}");
        }
        let passing = [301, 302, 304, 308, 401, 403, 404, 408, 409, 425, 429, 500, 502, 503, 504];
        for status in passing {
            let Outcome::Later { after, whole_provider, .. } = answered(status) else {
                panic!("{status}")
            };
            assert_eq!((after, whole_provider), (Some(Duration::from_secs(7)), false));
        }
    }

    #[test]
    fn the_signature_is_over_the_time_and_the_body() {
        const EXPECTED: &str =
            "v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
        // By `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret`.
        assert_eq!(signature("secret", 1_700_000_000, r#"{"a":1}"#), EXPECTED);
    }

    #[tokio::test]
    async fn a_connection_goes_only_where_the_resolver_allows() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let inside = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/", inside.local_addr().unwrap().port());
        let sender = WebhookSender::new(WebhookOptions::default()).unwrap();
        // Without the check of the URL, which knows this name.
        let failure = exchange(sender.client.post(url)).await.unwrap_err();
        let Failure::NotConnected(why) = failure else { panic!("{failure:?}") };
        assert!(why.contains("the host's name resolves to "), "{why}");
    }

    #[test]
    fn a_redirect_is_named_without_what_may_be_secret_in_it() {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static("https://x.nl/login?token=s3cret#a"));
        let answer = Answer { status: StatusCode::FOUND, headers, body: Vec::new() };
        let expected =
            "302 Found: redirects are not followed; this one points to https://x.nl/login";
        assert_eq!(redirect(&answer, &[]), expected);
    }
}
