//! One HTTP request to somebody else's server: bounded in time and in what is
//! read of the answer, and told in words that hold no secret.
//!
//! What matters most of a request that failed is whether the other side can have
//! seen it, so that is what a [`Failure`] says.

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{ClientBuilder, RequestBuilder, StatusCode};

/// The most that is read of an answer's body; the rest is left unread.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The longest wait that an answer may ask for. A server that asks for more is
/// tried again after an hour all the same, for an alarm is of no use tomorrow.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// The most of an answer's text that people are shown.
pub const MAX_SHOWN_CHARS: usize = 300;

/// The HTTP client of a channel could not be made, such as for want of TLS roots.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client can't be made: {0}")]
pub struct ClientError(pub(crate) reqwest::Error);

/// What both channels need of a client. Half of the time at most goes to
/// connecting, so that an end of the whole time always means that the request
/// was under way: only then is a connection that could not be made told for sure
/// from an answer that never came.
pub(crate) fn client(timeout_ms: u64) -> ClientBuilder {
    reqwest::Client::builder()
        .timeout(Duration::from_millis(timeout_ms))
        .connect_timeout(Duration::from_millis(timeout_ms.div_ceil(2)))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .user_agent(concat!("Baken/", env!("CARGO_PKG_VERSION")))
}

/// An answer, with as much of its body as came and as is kept.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There was no connection: the other side has seen nothing of the request.
    NotConnected(String),
    /// The request was under way, in part or as a whole.
    NoAnswer(String),
}

/// Makes the request and reads its answer. An answer whose body breaks off or is
/// too long counts with what came of it, for its status says what was decided.
pub(crate) async fn exchange(request: RequestBuilder) -> Result<Answer, Failure> {
    let mut response = request.send().await.map_err(failure)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_ANSWER_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(Answer { status, headers, body })
}

/// The address is taken out of the error, for it may hold a secret.
fn failure(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let cause = innermost(&error);
    if error.is_connect() || error.is_builder() {
        let what = if error.is_timeout() { "it took too long".to_owned() } else { cause };
        return Failure::NotConnected(format!("could not connect: {what}"));
    }
    if error.is_timeout() {
        return Failure::NoAnswer("no answer came in time".to_owned());
    }
    Failure::NoAnswer(format!("the connection broke before an answer came: {cause}"))
}

/// The last of an error's causes, which says the most.
fn innermost(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}

/// How long an answer asks to wait, at most [`MAX_RETRY_AFTER`]: as seconds or as
/// the date of RFC 9110, 5.6.7. None where it doesn't say, or names a moment that
/// is over.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that are no number of 64 bits are more than an hour.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let at = DateTimeParser::new().parse_timestamp(text).ok()?;
        let now = Timestamp::try_from(now).ok()?;
        Duration::try_from(at.duration_since(now)).ok()?
    };
    (!wait.is_zero()).then_some(wait.min(MAX_RETRY_AFTER))
}

/// What people are shown of a text that came from outside: one line, bounded, and
/// without `secrets`, since a server may repeat what it was sent.
pub(crate) fn shown(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "[hidden]");
    }
    let blank = |c: char| c.is_control() || c.is_whitespace();
    let words = text.split(blank).filter(|word| !word.is_empty());
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(MAX_SHOWN_CHARS) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// An answer in one line: its status and what its body says.
pub(crate) fn answer_text(answer: &Answer, secrets: &[&str]) -> String {
    with_status(answer.status, &shown(&String::from_utf8_lossy(&answer.body), secrets))
}

/// The status and what is said of it.
pub(crate) fn with_status(status: StatusCode, text: &str) -> String {
    match text {
        "" => status.to_string(),
        text => format!("{status}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn asked(value: &str) -> Option<Duration> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 90);
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        retry_after(&headers, now)
    }

    #[test]
    fn a_wait_is_seconds_or_a_date_and_an_hour_at_most() {
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked("86400"), Some(MAX_RETRY_AFTER));
        assert_eq!(asked("99999999999999999999999"), Some(MAX_RETRY_AFTER));
        // The example of RFC 9110; the clock stands 90 s before it.
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(asked("Mon, 07 Nov 1994 08:49:37 GMT"), Some(MAX_RETRY_AFTER));
        for none in ["0", "", "soon", "-5", "1.5", "Sun, 06 Nov 1994 08:00:00 GMT"] {
            assert_eq!(asked(none), None, "{none}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), SystemTime::now()), None);
    }

    #[test]
    fn what_people_see_is_one_short_line_without_secrets() {
        assert_eq!(shown("a\r\n\tb  c\u{0}", &[""]), "a b c");
        assert_eq!(shown("key=s3cret; again s3cret", &["s3cret"]), "key=[hidden]; again [hidden]");
        let long = shown(&"ë".repeat(1_000), &[]);
        assert_eq!(long.chars().count(), MAX_SHOWN_CHARS + 1);
        assert_eq!(with_status(StatusCode::CREATED, ""), "201 Created");
    }
}
