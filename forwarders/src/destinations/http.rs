//! What the destinations that speak HTTP share: the client, `Retry-After`, and
//! errors in words.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Url, redirect};

use super::{Class, Failure, Fault};
use crate::limits::SEND_TIMEOUT_MS;
use crate::reach::{Reach, is_not_allowed};
use crate::tls;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(60);

/// The most of an answer's body that is read.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The most of an answer's body that is told to people.
const MAX_TOLD_CHARS: usize = 300;

/// A client that trusts the usual authorities, or only `ca` where one is given.
/// Redirects are not followed, because a token would go along, and no proxy is
/// asked, because it would look names up itself.
pub(crate) fn client(ca: Option<&str>, reach: &Reach) -> Result<Client, Fault> {
    let config = tls::client_config(ca, None, &[])
        .map_err(|error| Fault::new("settings.ca", format!("{error}.")))?;
    Client::builder()
        .tls_backend_preconfigured(config)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(reach.clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(Duration::from_millis(SEND_TIMEOUT_MS))
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(2)
        .user_agent(concat!("baken/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Fault::new("settings", format!("No HTTP client: {error}.")))
}

/// An address with `http` or `https` and nothing that belongs elsewhere.
pub(super) fn base_url(field: &str, text: &str) -> Result<Url, Fault> {
    let wrong = |message: &str| Fault::new(field, message);
    let url = Url::parse(text).map_err(|error| Fault::new(field, format!("{error}.")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("It must begin with https:// or http:// and name a host."));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("User and password do not belong into the address."));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("It must end before any ? or #."));
    }
    Ok(url)
}

/// The address of a path below `base`.
pub(super) fn join(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// `Retry-After` in seconds or as a date, from `now`.
pub(super) fn retry_after(headers: &HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

/// No answer at all, in words.
pub(super) fn unreachable(error: reqwest::Error) -> Failure {
    // The address may bear what is not to be seen by all.
    let error = error.without_url();
    let mut text = if error.is_timeout() {
        "the platform did not answer in time".to_owned()
    } else if error.is_connect() {
        "the platform cannot be reached".to_owned()
    } else {
        "the connection to the platform broke".to_owned()
    };
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    let class = if is_not_allowed(&error) { Class::Pause } else { Class::Retry };
    Failure::new(class, text)
}

/// The body of an answer as text, as far as it is looked at.
pub(super) async fn body(mut response: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        bytes.extend_from_slice(&piece);
        if bytes.len() >= MAX_ANSWER_BYTES {
            bytes.truncate(MAX_ANSWER_BYTES);
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What an answer says, short enough for a person: the message of a JSON body,
/// or the body's beginning.
pub(super) fn told(body: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let message = json.as_ref().and_then(|json| {
        ["message", "error", "detail", "title"].iter().find_map(|name| json[name].as_str())
    });
    let text: String = message
        .unwrap_or(body)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_TOLD_CHARS)
        .collect();
    text.trim().to_owned()
}
