//! Devices: a router's own, and machines behind it. They are made by a router's
//! data and by the making of routers; here they are read, renamed and deleted.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use schema::{Device, DeviceId, Document, DocumentBody};
use serde::{Deserialize, Serialize};
use store::Entry;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{IfMatch, Json, Path, Query, etag};
use super::listing::{DeviceFilter, page};
use super::paging::Page;
use super::problem::{ApiResult, Problem};
use super::state::AppState;
use super::{attributes, sight};

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read, update, delete))
}

/// What is to change of a device; what is not given stays.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeviceUpdate)]
struct Update {
    /// Unique in the tenant; 1 to 255 bytes without control characters. A
    /// router that goes on with the former name makes a new device of it.
    name: Option<String>,
    device_type: Option<String>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Device)]
struct Shown {
    id: u64,
    /// 1 when made, then one more at each change.
    version: u64,
    /// Milliseconds since 1970, UTC.
    changed_at: i64,
    tenant: u64,
    location: u64,
    router: u64,
    name: String,
    /// The profile that the gateway named for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_type: Option<String>,
    /// False for the router's own device.
    behind_router: bool,
}

impl Shown {
    fn of(id: u64, version: u64, changed_at: i64, device: &Device) -> Self {
        Self {
            id,
            version,
            changed_at,
            tenant: device.tenant.0,
            location: device.location.0,
            router: device.router.0,
            name: device.name.clone(),
            device_type: device.device_type.clone(),
            behind_router: device.behind_router,
        }
    }

    fn entry(entry: &Entry<Device>) -> Self {
        Self::of(entry.id, entry.version, entry.changed_at.0, entry)
    }

    fn document(document: &Document) -> Self {
        let DocumentBody::Device(device) = &document.body else {
            unreachable!("the directory answers with the kind that it was given")
        };
        Self::of(document.id, document.version, document.changed_at.0, device)
    }
}

/// Devices in the order of their ids.
#[utoipa::path(
    get,
    operation_id = "list_devices",
    path = "/devices",
    tag = "devices",
    params(DeviceFilter),
    responses(
        (status = 200, body = Page<Shown>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<DeviceFilter>,
) -> ApiResult<Json<Page<Shown>>> {
    let query = filter.query(&access)?;
    Ok(Json(page(state.store.directory().devices(&query), Shown::entry)))
}

/// A device.
#[utoipa::path(
    get,
    operation_id = "read_device",
    path = "/devices/{id}",
    tag = "devices",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<DeviceId>,
) -> ApiResult<impl IntoResponse> {
    let found = sight::device(state.store.directory(), &access, id)?;
    Ok((etag(found.version), Json(Shown::entry(&found))))
}

/// Renames a device or gives it another type. A router's own device is renamed
/// with its router.
#[utoipa::path(
    put,
    operation_id = "update_device",
    path = "/devices/{id}",
    tag = "devices",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    request_body = Update,
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn update(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<DeviceId>,
    IfMatch(version): IfMatch,
    Json(input): Json<Update>,
) -> ApiResult<impl IntoResponse> {
    let directory = state.store.directory();
    let was = sight::device(directory, &access, id)?;
    let mut device = was.body.clone();
    if let Some(name) = input.name {
        device.name = name;
    }
    if input.device_type.is_some() {
        device.device_type = input.device_type;
    }
    // What was not given is taken from what was read: nothing may come between.
    let expected = version.unwrap_or(was.version);
    let changed = directory
        .by(access.author())
        .update(id.0, Some(expected), DocumentBody::Device(device))
        .await?;
    Ok((etag(changed.version), Json(Shown::document(&changed))))
}

/// Deletes a device behind a router and its attributes. Its readings stay until
/// their retention is over. A router that still sends data of this name makes a
/// new device.
#[utoipa::path(
    delete,
    operation_id = "delete_device",
    path = "/devices/{id}",
    tag = "devices",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn delete(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<DeviceId>,
    IfMatch(version): IfMatch,
) -> ApiResult<StatusCode> {
    let directory = state.store.directory();
    sight::device(directory, &access, id)?;
    directory.by(access.author()).delete(id.0, version).await?;
    attributes::forget(&state, vec![id]).await;
    Ok(StatusCode::NO_CONTENT)
}
