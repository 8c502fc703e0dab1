//! What the answer to a write means.

use std::time::Duration;

use serde_json::Value;

use super::super::{Class, Failure, Refused, Sent, http};

/// What became of `lines` lines that were answered so.
pub(super) fn sent(status: u16, retry_after: Option<Duration>, body: &str, lines: usize) -> Sent {
    if (200..300).contains(&status) {
        return Sent::all(lines);
    }
    if let Some(refused) = partial(status, body, lines) {
        return Sent { done: lines, refused, failure: None };
    }
    let told = http::told(body);
    let (class, what) = match status {
        400 | 422 => (Class::Refuse, "the platform refused the data"),
        401 | 403 => (Class::Pause, "the token is not valid or may not write to the bucket"),
        404 => (Class::Pause, "there is no such bucket, organisation or address"),
        413 => (Class::Split, "the request is too large"),
        429 => (Class::Throttle, "the platform takes no more for now"),
        408 | 502..=504 => (Class::Retry, "the platform is not available"),
        500..=599 => (Class::Bounded, "the platform failed"),
        _ => (Class::Pause, "this is no InfluxDB write address"),
    };
    let message = match told.is_empty() {
        true => format!("{what} (HTTP {status})"),
        false => format!("{what} (HTTP {status}): {told}"),
    };
    Sent::failed(Failure { class, retry_after, message })
}

/// The lines that version 3 names when it took all others:
/// `{"error": "partial write …", "data": [{"line_number": 2, "error_message": "…"}]}`.
fn partial(status: u16, body: &str, lines: usize) -> Option<Vec<Refused>> {
    if status != 400 {
        return None;
    }
    let answer: Value = serde_json::from_str(body).ok()?;
    if !answer["error"].as_str()?.starts_with("partial write") {
        return None;
    }
    let mut refused = Vec::new();
    for line in answer["data"].as_array()? {
        let number = usize::try_from(line["line_number"].as_u64()?).ok()?;
        let index = number.checked_sub(1).filter(|index| *index < lines)?;
        let reason = line["error_message"].as_str().unwrap_or("refused");
        refused.push(Refused { index, reason: http::told(reason) });
    }
    refused.sort_unstable_by_key(|refused| refused.index);
    refused.dedup_by_key(|refused| refused.index);
    (!refused.is_empty()).then_some(refused)
}
