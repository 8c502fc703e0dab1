//! What people do to alarms, singly or to all that a filter leaves. It goes
//! through the journal, and is answered once it has taken effect.

use std::time::{SystemTime, UNIX_EPOCH};

use alarms::{MAX_ACTED_ALARMS, ManyOutcome};
use axum::extract::State;
use axum::http::StatusCode;
use schema::{AlarmAction, AlarmId, TimestampMs};
use serde::{Deserialize, Serialize};
use store::alarms::AlarmOrder;
use utoipa::ToSchema;

use super::filter::{Filter, cursor};
use super::find;
use crate::api::auth::Access;
use crate::api::extract::{Json, Path};
use crate::api::problem::{ApiResult, Problem};
use crate::api::state::AppState;

/// The longest comment or assignee, in bytes.
const MAX_TEXT_BYTES: usize = 4_096;

/// The longest time that an alarm is shelved for; a longer one is a rule that
/// should be changed.
const MAX_SHELVE_MS: i64 = 366 * 24 * 60 * 60 * 1_000;

/// The name of a deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AlarmActionName)]
enum Name {
    Acknowledge,
    Unacknowledge,
    Clear,
    Shelve,
    Unshelve,
    Comment,
    Assign,
}

/// What somebody does to an alarm.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AlarmAction)]
pub struct Input {
    #[schema(inline)]
    action: Name,
    /// With `shelve`, and needed there: milliseconds since 1970, within a year.
    until: Option<i64>,
    /// With `comment`, and needed there: 1 to 4096 bytes.
    text: Option<String>,
    /// With `assign`: whom to, at most 4096 bytes; nobody when not given.
    to: Option<String>,
}

/// A deed on all alarms that the filter leaves and for which there is something
/// to do.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AlarmActionOnMany)]
pub struct ManyInput {
    /// As the query of the list, without its pages; `{}` means all alarms.
    filter: Filter,
    /// What `next` of the call before said, with the same filter and deed; not
    /// given for the first.
    after: Option<String>,
    #[schema(inline)]
    action: Name,
    /// With `shelve`, and needed there: milliseconds since 1970, within a year.
    until: Option<i64>,
    /// With `comment`, and needed there: 1 to 4096 bytes.
    text: Option<String>,
    /// With `assign`: whom to, at most 4096 bytes; nobody when not given.
    to: Option<String>,
}

/// What came of a deed on many alarms.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AlarmActionOutcome)]
pub struct Outcome {
    /// Alarms that the filter left and for which there was something to do, up to
    /// the limit of a call: 10,000, those that were raised last.
    matched: usize,
    /// That the deed has changed.
    done: usize,
    /// For which there was nothing to do any more when it came to them.
    already: usize,
    /// For which it has not taken effect, though it may yet.
    failed: usize,
    /// Why the first of those failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// There are more than a call may act on: call again, with `next`.
    more_remain: bool,
    /// Where there are more: give this as `after` to come to those behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Outcome {
    fn of(outcome: ManyOutcome) -> Self {
        let ManyOutcome { matched, done, already, failed, reason, next } = outcome;
        let next = next.map(|place| cursor(AlarmOrder::Newest, place));
        Self { matched, done, already, failed, reason, more_remain: next.is_some(), next }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn checked_text(field: &str, text: String, min: usize) -> ApiResult<String> {
    if (min..=MAX_TEXT_BYTES).contains(&text.len()) {
        return Ok(text);
    }
    let detail = format!("It has {} bytes, and must have {min} to {MAX_TEXT_BYTES}.", text.len());
    Err(Problem::invalid(field, detail))
}

/// The deed, checked: each field where it belongs and within its bounds.
fn checked(input: Input, now_ms: i64) -> ApiResult<AlarmAction> {
    let Input { action, until, text, to } = input;
    let given = [
        ("until", until.is_some(), Name::Shelve, "shelve"),
        ("text", text.is_some(), Name::Comment, "comment"),
        ("to", to.is_some(), Name::Assign, "assign"),
    ];
    for (field, is_given, of, name) in given {
        if is_given && action != of {
            return Err(Problem::invalid(
                field,
                format!("It belongs to the action `{name}` only."),
            ));
        }
    }
    Ok(match action {
        Name::Acknowledge => AlarmAction::Acknowledge,
        Name::Unacknowledge => AlarmAction::Unacknowledge,
        Name::Clear => AlarmAction::Clear,
        Name::Unshelve => AlarmAction::Unshelve,
        Name::Shelve => {
            let last = now_ms.saturating_add(MAX_SHELVE_MS);
            match until {
                Some(until) if until > now_ms && until <= last => {
                    AlarmAction::Shelve { until: TimestampMs(until) }
                }
                other => {
                    let shown = other.map_or("missing".to_owned(), |until| until.to_string());
                    let detail = format!(
                        "It is {shown}, and must be after now ({now_ms}) and at most {last}, in \
                         milliseconds since 1970."
                    );
                    return Err(Problem::invalid("until", detail));
                }
            }
        }
        Name::Comment => {
            AlarmAction::Comment { text: checked_text("text", text.unwrap_or_default(), 1)? }
        }
        Name::Assign => {
            AlarmAction::Assign { to: to.map(|to| checked_text("to", to, 1)).transpose()? }
        }
    })
}

/// Does something to an alarm. It goes through the journal, and is answered
/// once it has taken effect.
#[utoipa::path(
    post,
    operation_id = "act_on_alarm",
    path = "/alarms/{id}/actions",
    tag = "alarms",
    params(("id" = String, Path)),
    request_body = Input,
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn act(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<AlarmId>,
    Json(input): Json<Input>,
) -> ApiResult<StatusCode> {
    find(&state, &access, id).await?;
    let action = checked(input, now_ms())?;
    state.alarms.commands().act(id, action, access.author()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Does something to all alarms that the filter leaves at this moment and for
/// which there is something to do, up to 10,000, each with its own transition
/// and event. Past that the answer has a `next`: calls that give it on as `after`
/// come to all of them, each once, the last raised first.
#[utoipa::path(
    post,
    operation_id = "act_on_alarms",
    path = "/alarms/actions",
    tag = "alarms",
    request_body = ManyInput,
    responses(
        (status = 200, body = Outcome),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn act_on_many(
    State(state): State<AppState>,
    access: Access,
    Json(input): Json<ManyInput>,
) -> ApiResult<Json<Outcome>> {
    const { assert!(MAX_ACTED_ALARMS == 10_000, "the documentation says so") };
    let ManyInput { filter, after, action, until, text, to } = input;
    let action = checked(Input { action, until, text, to }, now_ms())?;
    let query = filter.for_deed(after.as_deref(), &access)?;
    let outcome = state.alarms.commands().act_on_many(query, action, access.author()).await?;
    Ok(Json(Outcome::of(outcome)))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn refused(input: serde_json::Value) -> Problem {
        checked(from_value(input).unwrap(), 1_000).unwrap_err()
    }

    #[test]
    fn a_field_out_of_place_or_bounds_is_named_with_what_is_allowed() {
        for (input, field, said) in [
            (json!({ "action": "shelve" }), "until", "missing"),
            (json!({ "action": "shelve", "until": 1_000 }), "until", "after now (1000)"),
            (json!({ "action": "shelve", "until": 1i64 << 60 }), "until", "at most"),
            (json!({ "action": "comment" }), "text", "0 bytes"),
            (json!({ "action": "comment", "text": "x".repeat(5_000) }), "text", "1 to 4096"),
            (json!({ "action": "assign", "to": "" }), "to", "1 to 4096"),
            (json!({ "action": "clear", "text": "why" }), "text", "`comment` only"),
        ] {
            let problem = refused(input);
            assert_eq!((problem.status, problem.field.as_deref()), (422, Some(field)));
            assert!(problem.detail.contains(said), "{}", problem.detail);
        }
        let unknown = from_value::<Input>(json!({ "action": "explode" })).unwrap_err();
        assert!(unknown.to_string().contains("expected one of `acknowledge`"), "{unknown}");
        let shelve = from_value(json!({ "action": "shelve", "until": 1_001 })).unwrap();
        let until = TimestampMs(1_001);
        assert_eq!(checked(shelve, 1_000).unwrap(), AlarmAction::Shelve { until });
    }
}
