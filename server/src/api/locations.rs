//! Locations: places of a tenant where routers and machines stand.

use std::ops::Bound;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use schema::{Document, DocumentBody, Location, LocationId, TenantId, TimestampMs};
use serde::{Deserialize, Serialize};
use store::{DirectoryPage, Entry, ListQuery};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{IfMatch, Json, Path, Query, etag};
use super::listing::LocationFilter;
use super::paging::Page;
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;
use crate::standing::{LocationStatus, RouterStanding, Standing};

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(status_counts))
        .routes(routes!(read, update, delete))
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
    /// The location groups that it is in, at most 32, each once, in any order; in
    /// none when not given. A name has 1 to 64 bytes without control characters or
    /// white space around them. A group is there as long as a location is in it.
    groups: Option<Vec<String>>,
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
    /// The location groups that it is in, sorted.
    groups: Vec<String>,
    /// How it stands; of several routers the one that is worst off counts.
    ///
    /// - `no_configuration`: no enabled router stands here;
    /// - `other_cloud_host`: all enabled routers are configured for a host that is
    ///   none of the server's `mqtt.public_hosts`, and none is connected here;
    /// - `no_connection`: an enabled router has no MQTT connection;
    /// - `no_telemetry`: all are connected, and one has sent no telemetry for
    ///   longer than its send interval times the tenant's `silent_factor`;
    /// - `active`: all are connected and send;
    /// - `unknown`: the server has just started and waits for a router, or the
    ///   location's partition is stopped.
    status: LocationStatus,
    /// Since when, in milliseconds since 1970; absent where it isn't known, as of
    /// a router that was never connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_since: Option<i64>,
    /// Why, for people.
    status_reason: String,
    /// How its routers stand, at most the first 100.
    routers: Vec<RouterStanding>,
}

/// How many locations stand how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LocationStatusCounts)]
struct StatusCounts {
    active: u64,
    no_telemetry: u64,
    no_configuration: u64,
    other_cloud_host: u64,
    no_connection: u64,
    unknown: u64,
    /// When they were counted, in milliseconds since 1970: at most a second ago.
    counted_at: i64,
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Owner {
    /// Only those of this tenant.
    tenant: Option<u64>,
}

impl Shown {
    fn of(
        (id, version, changed_at): (u64, u64, TimestampMs),
        location: &Location,
        standing: Standing,
    ) -> Self {
        let changed_at = changed_at.0;
        Self {
            id,
            version,
            changed_at,
            tenant: location.tenant.0,
            name: location.name.clone(),
            time_zone: location.time_zone.clone(),
            groups: location.groups.clone(),
            status: standing.status,
            status_since: standing.since.map(|since| since.0),
            status_reason: standing.reason,
            routers: standing.routers,
        }
    }

    fn entries(state: &AppState, entries: &[Arc<Entry<Location>>]) -> Vec<Self> {
        let standings = state.standings.of(entries);
        let show = |(entry, standing): (&Arc<Entry<Location>>, Standing)| {
            Self::of((entry.id, entry.version, entry.changed_at), entry, standing)
        };
        entries.iter().zip(standings).map(show).collect()
    }

    fn document(state: &AppState, document: Document) -> Self {
        let DocumentBody::Location(body) = document.body else {
            unreachable!("the directory answers with the kind that it was given")
        };
        let Document { id, version, changed_at, .. } = document;
        let entry = Arc::new(Entry { id, version, changed_at, body });
        Self::entries(state, &[entry]).remove(0)
    }
}

/// A page of the locations that stand so.
async fn with_status(state: &AppState, query: &ListQuery, status: LocationStatus) -> Page<Shown> {
    let directory = state.store.directory();
    let board = state.standings.board().await;
    let behind = query.after.map_or(Bound::Unbounded, |id| Bound::Excluded(LocationId(id)));
    let so = board.statuses.range((behind, Bound::Unbounded)).filter(|(_, (tenant, is))| {
        *is == status && query.tenant.is_none_or(|wanted| wanted == *tenant)
    });
    let named = |name: &str| query.name.as_deref().is_none_or(|prefix| name.starts_with(prefix));
    let mut found: Vec<_> = so
        .filter_map(|(id, _)| directory.location(*id))
        .filter(|location| named(&location.name))
        .filter(|location| query.group.as_ref().is_none_or(|group| location.groups.contains(group)))
        .take(query.limit + 1)
        .collect();
    let next = (found.len() > query.limit).then(|| found[query.limit - 1].id.to_string());
    found.truncate(query.limit);
    let mut items = Shown::entries(state, &found);
    // What has changed since the board was made is on no page of this filter.
    items.retain(|shown| shown.status == status);
    Page { items, next }
}

/// The zone's name as the database writes it.
pub(super) fn checked_zone(name: &str) -> ApiResult<String> {
    let zone = schema::time_zone(name);
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

/// Groups in the order in which they are kept.
fn sorted(mut groups: Vec<String>) -> Vec<String> {
    groups.sort_unstable();
    groups
}

/// Locations in the order of their ids.
#[utoipa::path(
    get,
    operation_id = "list_locations",
    path = "/locations",
    tag = "locations",
    params(LocationFilter),
    responses(
        (status = 200, body = Page<Shown>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<LocationFilter>,
) -> ApiResult<Json<Page<Shown>>> {
    let (query, status) = filter.query(&access)?;
    if let Some(status) = status {
        return Ok(Json(with_status(&state, &query, status).await));
    }
    let DirectoryPage { items, next } = state.store.directory().locations(&query);
    let items = Shown::entries(&state, &items);
    Ok(Json(Page { items, next: next.map(|id| id.to_string()) }))
}

/// How many locations stand how, counted at most a second ago.
#[utoipa::path(
    get,
    operation_id = "count_location_statuses",
    path = "/locations/status-counts",
    tag = "locations",
    params(Owner),
    responses(
        (status = 200, body = StatusCounts),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn status_counts(
    State(state): State<AppState>,
    access: Access,
    Query(owner): Query<Owner>,
) -> ApiResult<Json<StatusCounts>> {
    let tenant = access.filter(owner.tenant.map(TenantId))?;
    let board = state.standings.board().await;
    // In the order of LocationStatus::ALL.
    let [active, no_telemetry, no_configuration, other_cloud_host, no_connection, unknown] =
        board.counts(tenant);
    Ok(Json(StatusCounts {
        active,
        no_telemetry,
        no_configuration,
        other_cloud_host,
        no_connection,
        unknown,
        counted_at: board.at.0,
    }))
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
    let groups = sorted(input.groups.unwrap_or_default());
    let location = Location { tenant, name: input.name, time_zone, groups };
    let made = directory.by(access.author()).create(DocumentBody::Location(location)).await?;
    let version = made.version;
    Ok((StatusCode::CREATED, etag(version), Json(Shown::document(&state, made))))
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
    let version = found.version;
    Ok((etag(version), Json(Shown::entries(&state, &[found]).remove(0))))
}

/// Changes a location. Its tenant never changes; a time zone or groups that are
/// not given stay. Alarms of profiles that are not applied to its groups any more
/// are cleared; rules of others begin with the next reading.
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
    let groups = input.groups.map_or_else(|| was.groups.clone(), sorted);
    let location = Location { tenant, name: input.name, time_zone, groups };
    // What was not given is taken from what was read: nothing may come between.
    let expected = version.unwrap_or(was.version);
    let body = DocumentBody::Location(location);
    let changed = directory.by(access.author()).update(id.0, Some(expected), body).await?;
    let version = changed.version;
    Ok((etag(version), Json(Shown::document(&state, changed))))
}

/// Deletes a location that has no routers any more. It is taken out of the scopes of
/// subscriptions and offline profiles; one whose scope names nothing else is deleted
/// with it, because without any scope it would be for the whole tenant.
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
