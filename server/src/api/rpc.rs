//! Calls to devices: the caller waits while the router answers over MQTT.

use std::time::Duration;

use axum::extract::State;
use schema::{DeviceId, MAX_NAME_BYTES};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{Json, Path};
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;

/// How long a call waits for its answer when the caller does not say.
const DEFAULT_TIMEOUT_MS: u64 = 10_000;

/// The longest that a call may wait. It lies below the time that a request has,
/// so that the caller is told what happened.
const MAX_TIMEOUT_MS: u64 = 25_000;

/// Parameters that the events tell whole, in bytes; of longer ones the beginning.
const MAX_TOLD_BYTES: usize = 4_096;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(call))
}

/// A call.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RpcCall)]
struct Call {
    /// 1 to 255 bytes without control characters.
    method: String,
    /// Any JSON; null when not given.
    #[serde(default)]
    params: Value,
    /// 1 to 25,000; 10,000 when not given.
    timeout_ms: Option<u64>,
}

/// The parameters as the events tell them.
fn shortened(params: &Value) -> Value {
    let text = params.to_string();
    if text.len() <= MAX_TOLD_BYTES {
        return params.clone();
    }
    let end = text.floor_char_boundary(MAX_TOLD_BYTES);
    json!({ "shortened": &text[..end], "bytes": text.len() })
}

/// What the device answered.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RpcAnswer)]
struct Answer {
    /// Any JSON, as the device sent it.
    result: Value,
}

/// Calls a device and waits for its answer. After a 504 the device may still
/// have done what it was asked.
#[utoipa::path(
    post,
    operation_id = "call_device",
    path = "/devices/{id}/rpc",
    tag = "devices",
    params(("id" = u64, Path)),
    request_body = Call,
    responses(
        (status = 200, body = Answer),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "The router is not connected, or has not subscribed to calls"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 504, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn call(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<DeviceId>,
    Json(call): Json<Call>,
) -> ApiResult<Json<Answer>> {
    let device = sight::device(state.store.directory(), &access, id)?;
    let Call { method, params, timeout_ms } = call;
    if !(1..=MAX_NAME_BYTES).contains(&method.len()) || method.chars().any(char::is_control) {
        let detail = format!(
            "It has {} bytes, and must have 1 to {MAX_NAME_BYTES} without control characters.",
            method.len()
        );
        return Err(Problem::invalid("method", detail));
    }
    let timeout_ms = timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
    if !(1..=MAX_TIMEOUT_MS).contains(&timeout_ms) {
        let detail = format!("It is {timeout_ms}, and must be 1 to {MAX_TIMEOUT_MS}.");
        return Err(Problem::invalid("timeout_ms", detail));
    }
    let timeout = Duration::from_millis(timeout_ms);
    let told = json!({ "method": method, "params": shortened(&params) });
    state.audit.deed("rpc_called", &access.author(), id, &device, told).await?;
    let result = state.connections.rpc(id, &method, &params, timeout).await?;
    Ok(Json(Answer { result }))
}
