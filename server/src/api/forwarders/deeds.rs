//! What is done to a forwarder that is no change of its settings, and how far
//! it is.

use axum::extract::State;
use axum::response::IntoResponse;
use schema::{DocumentBody, Forwarder};
use serde::Serialize;
use store::Entry;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::auth::Access;
use super::super::extract::{Json, Path, etag};
use super::super::problem::{ApiResult, Problem};
use super::super::sight;
use super::super::state::AppState;
use super::made;
use super::shown::{Shown, ShownAccounting};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(test))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(accounting))
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ForwarderTest)]
struct Tested {
    /// Whether the platform would take values.
    ok: bool,
    /// What is wrong, or what was found right, in words.
    message: String,
}

/// Tries whether the platform would take values. With Azure the device's
/// connection is taken over for a moment; with AWS a message of a test is sent.
#[utoipa::path(
    post,
    operation_id = "test_forwarder",
    path = "/forwarders/{id}/test",
    tag = "forwarders",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Tested),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn test(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<u64>,
) -> ApiResult<Json<Tested>> {
    let found = sight::forwarder(state.store.directory(), &access, id)?;
    let tested = state.forwarders.test(&found).await;
    let ok = tested.is_ok();
    let message = tested.unwrap_or_else(|message| message);
    Ok(Json(Tested { ok, message }))
}

/// Gives a forwarder's document this state of being paused.
async fn set_paused(
    state: &AppState,
    access: &Access,
    found: &Entry<Forwarder>,
    paused: bool,
) -> ApiResult<Shown> {
    let mut forwarder = found.body.clone();
    forwarder.paused = paused;
    let directory = state.store.directory().by(access.author());
    let body = DocumentBody::Forwarder(forwarder);
    let document = directory.update(found.id, Some(found.version), body).await?;
    Ok(made(state, document).await)
}

/// Pauses a forwarder: nothing is sent, and its data is kept.
#[utoipa::path(
    post,
    operation_id = "pause_forwarder",
    path = "/forwarders/{id}/pause",
    tag = "forwarders",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn pause(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<u64>,
) -> ApiResult<impl IntoResponse> {
    let found = sight::forwarder(state.store.directory(), &access, id)?;
    let shown = match found.paused {
        true => Shown::entry(&state, &found),
        false => set_paused(&state, &access, &found, true).await?,
    };
    Ok((etag(shown.version), Json(shown)))
}

/// Lets a forwarder go on that a person, or an answer of its platform, has
/// paused. One that waits before another attempt makes it at once.
#[utoipa::path(
    post,
    operation_id = "resume_forwarder",
    path = "/forwarders/{id}/resume",
    tag = "forwarders",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn resume(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<u64>,
) -> ApiResult<impl IntoResponse> {
    let found = sight::forwarder(state.store.directory(), &access, id)?;
    let shown = if found.paused {
        set_paused(&state, &access, &found, false).await?
    } else {
        state.forwarders.resume(id);
        Shown::entry(&state, &found)
    };
    Ok((etag(shown.version), Json(shown)))
}

/// What became of a forwarder's readings, and how far behind it is.
#[utoipa::path(
    get,
    operation_id = "read_forwarder_accounting",
    path = "/forwarders/{id}/accounting",
    tag = "forwarders",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = ShownAccounting),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn accounting(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<u64>,
) -> ApiResult<Json<ShownAccounting>> {
    sight::forwarder(state.store.directory(), &access, id)?;
    Ok(Json(ShownAccounting::of(state.forwarders.accounting(id).await?)))
}
