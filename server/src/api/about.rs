//! What runs here. The smallest module of the API, and the pattern of all:
//! a `routes()` and handlers with `#[utoipa::path]`.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::Json;
use super::problem::{ApiResult, Problem};
use super::state::AppState;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(about))
}

/// What runs here.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct About {
    /// Always `baken`.
    name: &'static str,
    version: &'static str,
    /// Partitions of the journal.
    partitions: u16,
}

/// What runs here.
#[utoipa::path(
    get,
    path = "/about",
    tag = "about",
    responses(
        (status = 200, body = About),
        (status = 401, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn about(State(state): State<AppState>, _: Access) -> ApiResult<Json<About>> {
    Ok(Json(About {
        name: "baken",
        version: env!("CARGO_PKG_VERSION"),
        partitions: state.journal.partitions(),
    }))
}
