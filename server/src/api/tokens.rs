//! Tokens of this API: made, listed and revoked. A token itself is shown once,
//! when it is made.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use schema::{ApiToken, DocumentBody, TenantId};
use serde::{Deserialize, Serialize};
use store::{Directory, Entry, ListQuery};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{IfMatch, Json, Path, Query, etag};
use super::listing::{Filter, page};
use super::paging::Page;
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;
use crate::secret::generate_token;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, revoke))
}

/// A token to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TokenInput)]
struct Input {
    /// For people; 1 to 255 bytes without control characters.
    name: String,
    /// The one tenant that it opens. Without it, the token opens as much as
    /// the one that it is made with.
    tenant: Option<u64>,
    /// Whether it may change nothing; false when not given.
    #[serde(default)]
    read_only: bool,
}

/// A token, without the token itself.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Token)]
struct Shown {
    id: u64,
    version: u64,
    /// Milliseconds since 1970, UTC.
    changed_at: i64,
    name: String,
    /// The one tenant that it opens; absent if it opens the whole installation.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<u64>,
    read_only: bool,
    /// The token itself, in the answer to the request that made it and never
    /// again.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Shown {
    fn of(id: u64, version: u64, changed_at: i64, token: &ApiToken) -> Self {
        Self {
            id,
            version,
            changed_at,
            name: token.name.clone(),
            tenant: token.tenant.map(|tenant| tenant.0),
            read_only: token.read_only,
            token: None,
        }
    }

    fn entry(entry: &Entry<ApiToken>) -> Self {
        Self::of(entry.id, entry.version, entry.changed_at.0, entry)
    }
}

/// Tokens in the order of their ids: those of one tenant, or all.
#[utoipa::path(
    get,
    operation_id = "list_tokens",
    path = "/tokens",
    tag = "tokens",
    params(Filter),
    responses(
        (status = 200, body = Page<Shown>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<Filter>,
) -> ApiResult<Json<Page<Shown>>> {
    let query = filter.query(&access)?;
    Ok(Json(page(state.store.directory().api_tokens(&query), Shown::entry)))
}

/// Makes a token. It is shown in this answer only.
#[utoipa::path(
    post,
    operation_id = "create_token",
    path = "/tokens",
    tag = "tokens",
    request_body = Input,
    responses(
        (status = 201, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn create(
    State(state): State<AppState>,
    access: Access,
    Json(input): Json<Input>,
) -> ApiResult<impl IntoResponse> {
    let directory = state.store.directory();
    let tenant = input.tenant.map(TenantId).or(access.tenant());
    if let Some(tenant) = tenant {
        let named = |problem: Problem| problem.with_field("tenant");
        sight::tenant(directory, &access, tenant).map_err(named)?;
    }
    let token = generate_token().map_err(|error| Problem::internal(&error))?;
    let hash = state.secret.token_hash(&token);
    let body = ApiToken { tenant, name: input.name, hash, read_only: input.read_only };
    let made = directory.by(access.author()).create(DocumentBody::ApiToken(body.clone())).await?;
    let shown = Shown::of(made.id, made.version, made.changed_at.0, &body);
    let shown = Shown { token: Some(token), ..shown };
    Ok((StatusCode::CREATED, etag(made.version), Json(shown)))
}

/// A token.
#[utoipa::path(
    get,
    operation_id = "read_token",
    path = "/tokens/{id}",
    tag = "tokens",
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
    let found = sight::token(state.store.directory(), &access, id)?;
    Ok((etag(found.version), Json(Shown::entry(&found))))
}

/// Revokes a token, at once. The last one that may change the whole
/// installation stays, because nobody could make another.
#[utoipa::path(
    delete,
    operation_id = "revoke_token",
    path = "/tokens/{id}",
    tag = "tokens",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn revoke(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<u64>,
    IfMatch(version): IfMatch,
) -> ApiResult<StatusCode> {
    let directory = state.store.directory();
    let found = sight::token(directory, &access, id)?;
    if opens_all(&found) && !another_opens_all(directory, id) {
        return Err(Problem::conflict(
            "It is the last token that may change the whole installation; make another first.",
        ));
    }
    directory.by(access.author()).delete(id, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn opens_all(token: &ApiToken) -> bool {
    token.tenant.is_none() && !token.read_only
}

fn another_opens_all(directory: &Directory, id: u64) -> bool {
    let mut query = ListQuery::default();
    loop {
        let found = directory.api_tokens(&query);
        if found.items.iter().any(|entry| entry.id != id && opens_all(entry)) {
            return true;
        }
        match found.next {
            Some(next) => query.after = Some(next),
            None => return false,
        }
    }
}
