//! What the answer to a request means.

use std::time::Duration;

use serde_json::Value;

use super::super::{Class, Failure, Refused, Sent, http};
use super::encoder::Body;

/// Added to the time that the platform names, as its vendor advises.
const RESET_MARGIN: Duration = Duration::from_secs(1);

/// What became of a batch of `count` values that was answered so. `reset` is
/// the header `X-RateLimit-Reset`, in seconds or as a time since 1970.
pub(super) fn sent(
    status: u16,
    reset: Option<u64>,
    now_s: u64,
    answer: &str,
    body: &Body,
    count: usize,
) -> Sent {
    if (200..300).contains(&status) {
        return Sent { done: count, refused: refused(answer, body), failure: None };
    }
    let (class, what) = match status {
        400 | 409 | 422 => (Class::Refuse, "the platform refused the data"),
        401 => (Class::Pause, "the access token is not valid"),
        403 => (Class::Pause, "the access token may not write measurements"),
        404 => (Class::Pause, "there is no such project or inbound connector"),
        413 => (Class::Split, "the request is too large"),
        429 => (Class::Throttle, "the platform takes no more for now"),
        408 | 502..=504 => (Class::Retry, "the platform is not available"),
        500..=599 => (Class::Bounded, "the platform failed"),
        _ => (Class::Pause, "this is no address of Blockbax"),
    };
    let told = http::told(answer);
    let message = match told.is_empty() {
        true => format!("{what} (HTTP {status})"),
        false => format!("{what} (HTTP {status}): {told}"),
    };
    let retry_after = reset.filter(|_| status == 429).map(|reset| {
        // A number of seconds is far below any time since 1970.
        let wait_s = if reset > now_s / 2 { reset.saturating_sub(now_s) } else { reset };
        Duration::from_secs(wait_s) + RESET_MARGIN
    });
    Sent::failed(Failure { class, retry_after, message })
}

/// The values of those series that an answer names although it took the rest.
fn refused(answer: &str, body: &Body) -> Vec<Refused> {
    let Ok(answer) = serde_json::from_str::<Value>(answer) else { return Vec::new() };
    let mut named = std::collections::HashSet::new();
    name_all(&answer, &mut named);
    let reason = http::told(&answer.to_string());
    let mut refused = Vec::new();
    for series in body.series.iter().filter(|series| named.contains(series.ingestion_id.as_str())) {
        for index in &series.values {
            refused.push(Refused { index: *index, reason: reason.clone() });
        }
    }
    refused.sort_unstable_by_key(|refused| refused.index);
    refused
}

/// All texts and names in an answer, since where in it the ids stand differs
/// between kinds of refusals.
fn name_all<'a>(value: &'a Value, named: &mut std::collections::HashSet<&'a str>) {
    match value {
        Value::String(text) => {
            named.insert(text);
        }
        Value::Array(items) => items.iter().for_each(|item| name_all(item, named)),
        Value::Object(fields) => {
            for (name, value) in fields {
                named.insert(name);
                name_all(value, named);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
