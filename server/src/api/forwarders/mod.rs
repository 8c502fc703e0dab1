//! Forwarders: what sends readings to a customer's own platform. Their secrets
//! come in and never go out again.

mod deeds;
mod input;
mod letters;
mod shown;

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use forwarders::engine::secret_context;
use schema::{Document, DocumentBody, Forwarder, TenantId};
use store::DirectoryError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{IfMatch, Json, Path, Query, etag};
use super::listing::{RouterFilter, page};
use super::paging::Page;
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;
use input::{Input, Update};
use shown::Shown;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read, update, delete))
        .merge(deeds::routes())
        .merge(letters::routes())
}

/// Checks what the platform asks, and says who the forwarder is to it. The
/// answer is the field that would have to differ from another's.
fn check(state: &AppState, forwarder: &mut Forwarder) -> ApiResult<Option<&'static str>> {
    let identity = state.forwarders.opened(forwarder)?.checked.identity;
    forwarder.identity = identity.as_ref().map(|identity| identity.name.clone());
    Ok(identity.map(|identity| identity.field))
}

/// Seals secrets for a forwarder; an empty one takes the secret away.
fn seal(
    state: &AppState,
    forwarder: &mut Forwarder,
    secrets: std::collections::BTreeMap<String, String>,
) -> ApiResult<()> {
    for (name, secret) in secrets {
        if secret.is_empty() {
            forwarder.secrets.remove(&name);
            continue;
        }
        let context = secret_context(forwarder, &name);
        let sealed = state.secret.seal(&context, &secret);
        let sealed = sealed.map_err(|error| Problem::internal(&error))?;
        forwarder.secrets.insert(name, sealed);
    }
    Ok(())
}

/// What the directory refused, with the field of a forwarder that is taken.
fn refused(error: DirectoryError, identity_field: Option<&'static str>) -> Problem {
    let is_taken = matches!(error, DirectoryError::IdentityInUse);
    let problem = Problem::from(error);
    match identity_field.filter(|_| is_taken) {
        Some(field) => problem.with_field(field),
        None => problem,
    }
}

/// A scope's location must be in sight, as the tenant is.
fn check_sight(state: &AppState, access: &Access, forwarder: &Forwarder) -> ApiResult<()> {
    let directory = state.store.directory();
    sight::tenant(directory, access, forwarder.tenant).map_err(|it| it.with_field("tenant"))?;
    if let schema::ForwarderScope::Location(location) = forwarder.scope {
        sight::location(directory, access, location)
            .map_err(|problem| problem.with_field("scope.location"))?;
    }
    Ok(())
}

/// How long an answer waits for a forwarder to run as it was asked.
const BEGIN_PATIENCE: Duration = Duration::from_secs(5);

/// The forwarder as it runs now: what comes in after the answer is sent.
async fn made(state: &AppState, document: Document) -> Shown {
    state.forwarders.begun(document.id, document.version, BEGIN_PATIENCE).await;
    let DocumentBody::Forwarder(forwarder) = document.body else {
        unreachable!("the directory answers with the kind that it was given")
    };
    let (id, version, changed_at) = (document.id, document.version, document.changed_at);
    Shown::of(state, id, version, changed_at.0, &forwarder)
}

/// Forwarders in the order of their ids.
#[utoipa::path(
    get,
    operation_id = "list_forwarders",
    path = "/forwarders",
    tag = "forwarders",
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
    let found = state.store.directory().forwarders(&query);
    Ok(Json(page(found, |entry| Shown::entry(&state, entry))))
}

/// Makes a forwarder. It sends what comes in from now on.
#[utoipa::path(
    post,
    operation_id = "create_forwarder",
    path = "/forwarders",
    tag = "forwarders",
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
    let tenant = input.tenant.map(TenantId).or(access.tenant());
    let tenant = tenant.ok_or_else(|| {
        Problem::invalid("tenant", "Say whose readings are sent: your token opens all tenants.")
    })?;
    let (mut forwarder, secrets) = input.forwarder(tenant);
    check_sight(&state, &access, &forwarder)?;
    seal(&state, &mut forwarder, secrets)?;
    let field = check(&state, &mut forwarder)?;
    let directory = state.store.directory().by(access.author());
    let document = directory.create(DocumentBody::Forwarder(forwarder)).await;
    let shown = made(&state, document.map_err(|error| refused(error, field))?).await;
    Ok((StatusCode::CREATED, etag(shown.version), Json(shown)))
}

/// A forwarder, without its secrets.
#[utoipa::path(
    get,
    operation_id = "read_forwarder",
    path = "/forwarders/{id}",
    tag = "forwarders",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<u64>,
) -> ApiResult<impl IntoResponse> {
    let found = sight::forwarder(state.store.directory(), &access, id)?;
    Ok((etag(found.version), Json(Shown::entry(&state, &found))))
}

/// Changes a forwarder; it goes on from where it stands. One that is switched
/// off keeps no place: switched on again, it sends what comes in from then on.
#[utoipa::path(
    put,
    operation_id = "update_forwarder",
    path = "/forwarders/{id}",
    tag = "forwarders",
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
    Path(id): Path<u64>,
    IfMatch(version): IfMatch,
    Json(input): Json<Update>,
) -> ApiResult<impl IntoResponse> {
    let was = sight::forwarder(state.store.directory(), &access, id)?;
    let mut forwarder = was.body.clone();
    let secrets = input.change(&mut forwarder);
    check_sight(&state, &access, &forwarder)?;
    seal(&state, &mut forwarder, secrets)?;
    let field = check(&state, &mut forwarder)?;
    // What was not given is taken from what was read: nothing may come between.
    let expected = version.unwrap_or(was.version);
    let directory = state.store.directory().by(access.author());
    let document = directory.update(id, Some(expected), DocumentBody::Forwarder(forwarder)).await;
    let shown = made(&state, document.map_err(|error| refused(error, field))?).await;
    Ok((etag(shown.version), Json(shown)))
}

/// Deletes a forwarder with its place and its dead letters.
#[utoipa::path(
    delete,
    operation_id = "delete_forwarder",
    path = "/forwarders/{id}",
    tag = "forwarders",
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
    Path(id): Path<u64>,
    IfMatch(version): IfMatch,
) -> ApiResult<StatusCode> {
    let directory = state.store.directory();
    sight::forwarder(directory, &access, id)?;
    directory.by(access.author()).delete(id, version).await?;
    Ok(StatusCode::NO_CONTENT)
}
