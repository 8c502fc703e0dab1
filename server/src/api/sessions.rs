//! A router's connections of now. They are the broker's; here they are shown.

use axum::extract::State;
use ingest::broker::SessionInfo;
use schema::RouterId;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{Json, Path};
use super::paging::Page;
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A connection of a router.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Session)]
struct Shown {
    client_id: String,
    /// Address and port that it comes from.
    peer: String,
    /// MQTT 5; otherwise 3.1.1.
    mqtt5: bool,
    tls: bool,
    /// Milliseconds since 1970, UTC.
    connected_at: i64,
    /// Publishes since then, refused ones included; absent where another node has
    /// the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    publishes: Option<u64>,
    /// Bytes that it has sent since then, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// The node that has the connection; absent where it is the one that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
}

impl From<SessionInfo> for Shown {
    fn from(session: SessionInfo) -> Self {
        Self {
            client_id: session.client_id,
            peer: session.peer.to_string(),
            mqtt5: session.is_mqtt5,
            tls: session.is_tls,
            connected_at: session.connected_at.0,
            publishes: session.publishes,
            bytes: session.bytes,
            node: session.node,
        }
    }
}

/// The router's connections of now; none when it is away.
#[utoipa::path(
    get,
    operation_id = "list_sessions",
    path = "/routers/{id}/sessions",
    tag = "routers",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Page<Shown>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<RouterId>,
) -> ApiResult<Json<Page<Shown>>> {
    sight::router(state.store.directory(), &access, id)?;
    let items = state.connections.sessions(id).into_iter().map(Shown::from).collect();
    Ok(Json(Page { items, next: None }))
}
