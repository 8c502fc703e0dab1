//! Routers: what holds credentials and connects by MQTT. One that is changed,
//! disabled or deleted is told by the directory's feed to the broker, which
//! ends its connections where it must.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use schema::{DeviceId, Document, DocumentBody, LocationId, Router, RouterId};
use serde::{Deserialize, Serialize};
use store::directory::MAX_ROUTERS_AT_ONCE;
use store::{Entry, ListQuery, NewRouter};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::credentials::{self, Prepared};
use super::extract::{IfMatch, Json, Path, Query, etag, given};
use super::listing::{RouterFilter, page};
use super::paging::Page;
use super::problem::{ApiResult, Problem};
use super::refused::within;
use super::state::AppState;
use super::{attributes, sight};

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(import))
        .routes(routes!(read, update, delete))
}

/// A router to be made; its own device is made with it under the same name.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouterInput)]
struct Input {
    /// Never changes: a moved router is a new one.
    location: u64,
    /// Unique among the tenant's routers and devices; 1 to 255 bytes without
    /// control characters.
    name: String,
    credentials: credentials::Input,
    /// Whether it may connect; true when not given.
    enabled: Option<bool>,
    /// The cloud that it is configured to send to, by host name, where known.
    cloud_host: Option<String>,
    /// How often it sends telemetry, in seconds; 0 for a router that sends at no
    /// interval. The tenant's setting when not given.
    send_interval_s: Option<u32>,
}

/// Routers to be made together.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouterImport)]
struct Import {
    /// At most 1,000.
    routers: Vec<Input>,
}

/// The routers that were made, in the order given.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ImportedRouters)]
struct Imported {
    routers: Vec<Shown>,
}

/// What is to change of a router; what is not given stays.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouterUpdate)]
struct Update {
    /// Renames its own device with it.
    name: Option<String>,
    enabled: Option<bool>,
    /// Empty to forget it.
    cloud_host: Option<String>,
    /// Seconds; `null` to take the tenant's setting again.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    send_interval_s: Option<Option<u32>>,
    /// The connections by the former ones are ended.
    credentials: Option<credentials::Input>,
    /// Taken only if it is the router's location: that never changes.
    location: Option<u64>,
}

/// A router.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Router)]
struct Shown {
    id: u64,
    /// 1 when made, then one more at each change.
    version: u64,
    /// Milliseconds since 1970, UTC.
    changed_at: i64,
    tenant: u64,
    location: u64,
    name: String,
    /// The device that the router itself is.
    device: u64,
    /// Whether it may connect.
    enabled: bool,
    /// Whether it is connected now.
    connected: bool,
    /// The cloud that it is configured to send to, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_host: Option<String>,
    /// How often it sends telemetry, in seconds, where it is not the tenant's
    /// setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    send_interval_s: Option<u32>,
    credentials: credentials::Shown,
    /// Its access token, in the answer to the request that generated it and
    /// never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Shown {
    fn of(id: u64, version: u64, changed_at: i64, router: &Router) -> Self {
        Self {
            id,
            version,
            changed_at,
            tenant: router.tenant.0,
            location: router.location.0,
            name: router.name.clone(),
            device: router.device.0,
            enabled: router.enabled,
            connected: false,
            cloud_host: router.cloud_host.clone(),
            send_interval_s: router.send_interval_s,
            credentials: credentials::Shown::of(&router.credentials),
            token: None,
        }
    }

    fn entry(state: &AppState, entry: &Entry<Router>) -> Self {
        Self::of(entry.id, entry.version, entry.changed_at.0, entry).now(state)
    }

    /// With what changes without the directory.
    fn now(self, state: &AppState) -> Self {
        let connected = state.connections.is_connected(RouterId(self.id));
        Self { connected, ..self }
    }

    fn made(document: &Document, token: Option<String>) -> Self {
        let DocumentBody::Router(router) = &document.body else {
            unreachable!("the directory answers with the kind that it was given")
        };
        let shown = Self::of(document.id, document.version, document.changed_at.0, router);
        Self { token, ..shown }
    }
}

/// Makes routers, all or none. An error comes with the place of the first that
/// is wrong, where that is known before the directory is asked.
async fn make(
    state: &AppState,
    access: &Access,
    inputs: Vec<Input>,
) -> Result<Vec<Shown>, (Option<usize>, Problem)> {
    let directory = state.store.directory();
    for (index, input) in inputs.iter().enumerate() {
        sight::location(directory, access, LocationId(input.location))
            .map_err(|problem| (Some(index), problem.with_field("location")))?;
    }
    let mut wanted = Vec::with_capacity(inputs.len());
    let mut proofs = Vec::with_capacity(inputs.len());
    for input in inputs {
        let Input { location, name, credentials, enabled, cloud_host, send_interval_s } = input;
        proofs.push(credentials);
        let (location, enabled) = (LocationId(location), enabled.unwrap_or(true));
        wanted.push((location, name, enabled, cloud_host, send_interval_s));
    }
    let prepared = credentials::prepare(directory, &state.secret, proofs)
        .await
        .map_err(|(index, problem)| (Some(index), problem))?;
    let mut new = Vec::with_capacity(wanted.len());
    let mut tokens = Vec::with_capacity(wanted.len());
    for (wanted, Prepared { credentials, token }) in wanted.into_iter().zip(prepared) {
        let (location, name, enabled, cloud_host, send_interval_s) = wanted;
        let router =
            NewRouter { location, name, credentials, enabled, cloud_host, send_interval_s };
        new.push(router);
        tokens.push(token);
    }
    let made = directory
        .by(access.author())
        .create_routers(new)
        .await
        .map_err(|error| (None, error.into()))?;
    Ok(made.iter().zip(tokens).map(|(document, token)| Shown::made(document, token)).collect())
}

/// Routers in the order of their ids.
#[utoipa::path(
    get,
    operation_id = "list_routers",
    path = "/routers",
    tag = "routers",
    params(RouterFilter),
    responses(
        (status = 200, body = Page<Shown>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<RouterFilter>,
) -> ApiResult<Json<Page<Shown>>> {
    let query = filter.query(&access)?;
    Ok(Json(page(state.store.directory().routers(&query), |entry| Shown::entry(&state, entry))))
}

/// Makes a router and its own device. An access token that is not given is
/// generated, and shown in this answer only.
#[utoipa::path(
    post,
    operation_id = "create_router",
    path = "/routers",
    tag = "routers",
    request_body = Input,
    responses(
        (status = 201, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn create(
    State(state): State<AppState>,
    access: Access,
    Json(input): Json<Input>,
) -> ApiResult<impl IntoResponse> {
    let mut made = make(&state, &access, vec![input]).await.map_err(|(_, problem)| problem)?;
    let shown = made.pop().expect("one was asked for and all were made");
    Ok((StatusCode::CREATED, etag(shown.version), Json(shown)))
}

/// Makes up to 1,000 routers in one transaction: all or none.
#[utoipa::path(
    post,
    operation_id = "import_routers",
    path = "/routers/import",
    tag = "routers",
    request_body = Import,
    responses(
        (status = 201, body = Imported),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn import(
    State(state): State<AppState>,
    access: Access,
    Json(Import { routers }): Json<Import>,
) -> ApiResult<impl IntoResponse> {
    if routers.len() > MAX_ROUTERS_AT_ONCE {
        let detail =
            format!("It has {}, and may have at most {MAX_ROUTERS_AT_ONCE}.", routers.len());
        return Err(Problem::invalid("routers", detail));
    }
    let alone = routers.len() == 1;
    let routers = make(&state, &access, routers).await.map_err(|(index, problem)| match index {
        Some(index) => within(problem, index),
        // Of several the directory says which; of one there is no need to.
        None if alone => within(problem, 0),
        None => problem,
    })?;
    Ok((StatusCode::CREATED, Json(Imported { routers })))
}

/// A router.
#[utoipa::path(
    get,
    operation_id = "read_router",
    path = "/routers/{id}",
    tag = "routers",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<RouterId>,
) -> ApiResult<impl IntoResponse> {
    let found = sight::router(state.store.directory(), &access, id)?;
    Ok((etag(found.version), Json(Shown::entry(&state, &found))))
}

/// Changes a router. One that is disabled, or has new credentials, is
/// disconnected.
#[utoipa::path(
    put,
    operation_id = "update_router",
    path = "/routers/{id}",
    tag = "routers",
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
    Path(id): Path<RouterId>,
    IfMatch(version): IfMatch,
    Json(input): Json<Update>,
) -> ApiResult<impl IntoResponse> {
    let directory = state.store.directory();
    let was = sight::router(directory, &access, id)?;
    let mut router = was.body.clone();
    let mut token = None;
    if let Some(location) = input.location {
        router.location = LocationId(location);
    }
    if let Some(name) = input.name {
        router.name = name;
    }
    if let Some(enabled) = input.enabled {
        router.enabled = enabled;
    }
    if let Some(host) = input.cloud_host {
        router.cloud_host = Some(host).filter(|host| !host.is_empty());
    }
    if let Some(send_interval_s) = input.send_interval_s {
        router.send_interval_s = send_interval_s;
    }
    if let Some(input) = input.credentials {
        let mut prepared = credentials::renew(&state.secret, input).await?;
        token = prepared.token.take();
        router.credentials = prepared.credentials;
    }
    // What was not given is taken from what was read: nothing may come between.
    let expected = version.unwrap_or(was.version);
    let changed = directory
        .by(access.author())
        .update(id.0, Some(expected), DocumentBody::Router(router))
        .await?;
    Ok((etag(changed.version), Json(Shown::made(&changed, token).now(&state))))
}

/// Deletes a router, its own device and those behind it; it is disconnected.
#[utoipa::path(
    delete,
    operation_id = "delete_router",
    path = "/routers/{id}",
    tag = "routers",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn delete(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<RouterId>,
    IfMatch(version): IfMatch,
) -> ApiResult<StatusCode> {
    let directory = state.store.directory();
    sight::router(directory, &access, id)?;
    let mut query = ListQuery { router: Some(id), ..ListQuery::default() };
    let mut devices = Vec::new();
    loop {
        let found = directory.devices(&query);
        devices.extend(found.items.iter().map(|device| DeviceId(device.id)));
        match found.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    directory.by(access.author()).delete(id.0, version).await?;
    attributes::forget(&state, devices).await;
    Ok(StatusCode::NO_CONTENT)
}
