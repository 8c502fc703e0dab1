//! Locations: places of a tenant where routers and machines stand.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use schema::{Document, DocumentBody, Location, LocationId, TenantId};
use serde::{Deserialize, Serialize};
use store::Entry;
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

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, update, delete))
}

/// A location, as it is written.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LocationInput)]
struct Input {
    /// Never changes. A token of one tenant may leave it out.
    tenant: Option<u64>,
    /// Unique in the tenant; 1 to 255 bytes without control characters.
    name: String,
    /// An IANA time zone, such as `Europe/Amsterdam`; `UTC` when not given.
    time_zone: Option<String>,
}

/// A location.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Location)]
struct Shown {
    id: u64,
    /// 1 when made, then one more at each change.
    version: u64,
    /// Milliseconds since 1970, UTC.
    changed_at: i64,
    tenant: u64,
    name: String,
    time_zone: String,
}

impl Shown {
    fn of(id: u64, version: u64, changed_at: i64, location: &Location) -> Self {
        Self {
            id,
            version,
            changed_at,
            tenant: location.tenant.0,
            name: location.name.clone(),
            time_zone: location.time_zone.clone(),
        }
    }

    fn entry(entry: &Entry<Location>) -> Self {
        Self::of(entry.id, entry.version, entry.changed_at.0, entry)
    }

    fn document(document: &Document) -> Self {
        let DocumentBody::Location(location) = &document.body else {
            unreachable!("the directory answers with the kind that it was given")
        };
        Self::of(document.id, document.version, document.changed_at.0, location)
    }
}

/// The zone's name as the database writes it.
fn checked_zone(name: &str) -> ApiResult<String> {
    let zone = jiff::tz::TimeZone::get(name).ok();
    let known = zone.as_ref().and_then(jiff::tz::TimeZone::iana_name);
    known.map(str::to_owned).ok_or_else(|| {
        let name: String = name.chars().take(64).collect();
        let detail = format!(
            "It is {name:?}, and must be a time zone of the IANA database, such as \
             \"Europe/Amsterdam\" or \"UTC\"."
        );
        Problem::invalid("time_zone", detail)
    })
}

/// Locations in the order of their ids.
#[utoipa::path(
    get,
    operation_id = "list_locations",
    path = "/locations",
    tag = "locations",
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
    Ok(Json(page(state.store.directory().locations(&query), Shown::entry)))
}

/// Makes a location.
#[utoipa::path(
    post,
    operation_id = "create_location",
    path = "/locations",
    tag = "locations",
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
    let directory = state.store.directory();
    let tenant = input.tenant.map(TenantId).or(access.tenant()).ok_or_else(|| {
        Problem::invalid("tenant", "It is missing; give the id of the location's tenant.")
    })?;
    let named = |problem: Problem| problem.with_field("tenant");
    sight::tenant(directory, &access, tenant).map_err(named)?;
    let time_zone = checked_zone(input.time_zone.as_deref().unwrap_or("UTC"))?;
    let location = Location { tenant, name: input.name, time_zone };
    let made = directory.by(access.author()).create(DocumentBody::Location(location)).await?;
    Ok((StatusCode::CREATED, etag(made.version), Json(Shown::document(&made))))
}

/// A location.
#[utoipa::path(
    get,
    operation_id = "read_location",
    path = "/locations/{id}",
    tag = "locations",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<LocationId>,
) -> ApiResult<impl IntoResponse> {
    let found = sight::location(state.store.directory(), &access, id)?;
    Ok((etag(found.version), Json(Shown::entry(&found))))
}

/// Changes a location. Its tenant never changes; a time zone that is not given
/// stays.
#[utoipa::path(
    put,
    operation_id = "update_location",
    path = "/locations/{id}",
    tag = "locations",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    request_body = Input,
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
    Path(id): Path<LocationId>,
    IfMatch(version): IfMatch,
    Json(input): Json<Input>,
) -> ApiResult<impl IntoResponse> {
    let directory = state.store.directory();
    let was = sight::location(directory, &access, id)?;
    let tenant = input.tenant.map_or(was.tenant, TenantId);
    let time_zone = match &input.time_zone {
        Some(name) => checked_zone(name)?,
        None => was.time_zone.clone(),
    };
    let location = Location { tenant, name: input.name, time_zone };
    // What was not given is taken from what was read: nothing may come between.
    let expected = version.unwrap_or(was.version);
    let body = DocumentBody::Location(location);
    let changed = directory.by(access.author()).update(id.0, Some(expected), body).await?;
    Ok((etag(changed.version), Json(Shown::document(&changed))))
}

/// Deletes a location that has no routers any more.
#[utoipa::path(
    delete,
    operation_id = "delete_location",
    path = "/locations/{id}",
    tag = "locations",
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
    Path(id): Path<LocationId>,
    IfMatch(version): IfMatch,
) -> ApiResult<StatusCode> {
    sight::location(state.store.directory(), &access, id)?;
    state.store.directory().by(access.author()).delete(id.0, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_zone_must_be_known_and_takes_its_own_spelling() {
        assert_eq!(checked_zone("Europe/Amsterdam").unwrap(), "Europe/Amsterdam");
        assert_eq!(checked_zone("utc").unwrap(), "UTC");
        for name in ["", "Europe/Amsterdm", "+02:00", "../../etc/passwd"] {
            let problem = checked_zone(name).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("time_zone"), "{name}");
            assert!(problem.detail.contains(&format!("{name:?}")), "{}", problem.detail);
        }
    }
}
