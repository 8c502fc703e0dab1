//! Dead letters: values that a platform refused. A person reads them, sends
//! them again, or drops them.

use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::forwarders::DeadLetter;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::auth::Access;
use super::super::extract::{Json, Path, Query};
use super::super::paging::{Page, Paging};
use super::super::problem::{ApiResult, Problem};
use super::super::sight;
use super::super::state::AppState;

/// Dead letters that are sent again or dropped in one request.
const MAX_AT_ONCE: usize = 1_000;

/// How long a platform's answers are waited for.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(resend)).routes(routes!(drop_letters))
}

/// Which page.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Items of a page, 1 to 1000; 100 when not given.
    limit: Option<u32>,
    /// What `next` of the page before said.
    after: Option<String>,
}

/// A value that the platform refused.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
struct Shown {
    id: u64,
    /// When it was refused, in milliseconds since 1970.
    at: i64,
    reason: String,
    /// What was refused: device, location, key, time and value.
    #[schema(value_type = Object)]
    value: Value,
}

/// Which dead letters a deed is done to.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeadLetterChoice)]
struct Choice {
    /// At most 1,000; without it the oldest 1,000 are meant.
    ids: Option<Vec<u64>>,
}

/// What came of sending again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ResentDeadLetters)]
struct Resent {
    /// Taken by the platform, and dead letters no more.
    sent: u64,
    refused: u64,
    /// Why the first that was refused was.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What came of dropping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = DroppedDeadLetters)]
struct Dropped {
    dropped: u64,
}

impl Shown {
    fn of(letter: DeadLetter) -> Self {
        let value = serde_json::from_str(&letter.value).unwrap_or(Value::String(letter.value));
        Self { id: letter.sequence, at: letter.at.0, reason: letter.reason, value }
    }
}

/// The chosen dead letters that are there.
async fn chosen(state: &AppState, forwarder: u64, choice: Choice) -> ApiResult<Vec<DeadLetter>> {
    let Some(mut ids) = choice.ids else {
        return Ok(state.forwarders.dead_letters(forwarder, 0, MAX_AT_ONCE).await?);
    };
    if ids.len() > MAX_AT_ONCE {
        let detail = format!("It has {}, and may have at most {MAX_AT_ONCE}.", ids.len());
        return Err(Problem::invalid("ids", detail));
    }
    ids.sort_unstable();
    let mut letters = Vec::with_capacity(ids.len());
    for id in ids {
        let found = state.forwarders.dead_letters(forwarder, id.saturating_sub(1), 1).await?;
        letters.extend(found.into_iter().filter(|letter| letter.sequence == id));
    }
    Ok(letters)
}

/// Dead letters of a forwarder, oldest first.
#[utoipa::path(
    get,
    operation_id = "list_dead_letters",
    path = "/forwarders/{id}/dead-letters",
    tag = "forwarders",
    params(("id" = u64, Path), Filter),
    responses(
        (status = 200, body = Page<Shown>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<u64>,
    Query(filter): Query<Filter>,
) -> ApiResult<Json<Page<Shown>>> {
    sight::forwarder(state.store.directory(), &access, id)?;
    let paging = Paging::by_id(filter.limit, filter.after.as_deref())?;
    let after = paging.after.unwrap_or(0);
    let letters = state.forwarders.dead_letters(id, after, paging.fetch_limit()).await?;
    let page = Page::of(letters, paging, |letter| letter.sequence.to_string());
    Ok(Json(page.map(Shown::of)))
}

/// Sends dead letters again. Those that the platform takes are no dead letters
/// any more; the others stay.
#[utoipa::path(
    post,
    operation_id = "resend_dead_letters",
    path = "/forwarders/{id}/dead-letters/resend",
    tag = "forwarders",
    params(("id" = u64, Path)),
    request_body = Choice,
    responses(
        (status = 200, body = Resent),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 504, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn resend(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<u64>,
    Json(choice): Json<Choice>,
) -> ApiResult<Json<Resent>> {
    let found = sight::forwarder(state.store.directory(), &access, id)?;
    let letters = chosen(&state, id, choice).await?;
    let resent = state.forwarders.resend(&found, &letters, PATIENCE).await?;
    let forwarders::engine::Resent { sent, refused, reason } = resent;
    Ok(Json(Resent { sent, refused, reason }))
}

/// Drops dead letters for good; they are counted as dropped.
#[utoipa::path(
    post,
    operation_id = "drop_dead_letters",
    path = "/forwarders/{id}/dead-letters/drop",
    tag = "forwarders",
    params(("id" = u64, Path)),
    request_body = Choice,
    responses(
        (status = 200, body = Dropped),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn drop_letters(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<u64>,
    Json(choice): Json<Choice>,
) -> ApiResult<Json<Dropped>> {
    sight::forwarder(state.store.directory(), &access, id)?;
    let letters = chosen(&state, id, choice).await?;
    let sequences = letters.into_iter().map(|letter| letter.sequence).collect();
    Ok(Json(Dropped { dropped: state.forwarders.discard(id, sequences).await? }))
}
