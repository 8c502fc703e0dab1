//! Location groups: the names that locations bear, and how many bear each.

use axum::extract::State;
use schema::TenantId;
use serde::{Deserialize, Serialize};
use store::{GroupQuery, LocationGroup};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{Json, Query};
use super::paging::{Page, checked_limit};
use super::problem::{ApiResult, Problem};
use super::state::AppState;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which groups a list holds.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Items of a page, 1 to 1000; 100 when not given.
    limit: Option<u32>,
    /// What `next` of the page before said.
    after: Option<String>,
    /// Only those of this tenant.
    tenant: Option<u64>,
    /// Only names that begin so.
    name: Option<String>,
}

/// A location group. It is there as long as a location is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LocationGroup)]
struct Shown {
    tenant: u64,
    /// What `location_groups` of a profile, and `group` of a list, name it by.
    name: String,
    /// How many locations are in it.
    locations: u64,
}

/// The group behind which a page begins, as `next` writes it.
fn cursor(text: &str) -> ApiResult<(TenantId, String)> {
    let parts = text.split_once('/');
    let parts = parts.and_then(|(tenant, name)| Some((tenant.parse().ok()?, name)));
    let (tenant, name) = parts.ok_or_else(|| {
        let text: String = text.chars().take(64).collect();
        let detail = format!("{text:?} is no cursor: give what `next` of the page before said.");
        Problem::invalid("after", detail)
    })?;
    Ok((TenantId(tenant), name.to_owned()))
}

/// Location groups by tenant and name.
#[utoipa::path(
    get,
    operation_id = "list_location_groups",
    path = "/location-groups",
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
    let limit = checked_limit(filter.limit)? as usize;
    let query = GroupQuery {
        tenant: access.filter(filter.tenant.map(TenantId))?,
        name: filter.name,
        after: filter.after.as_deref().map(cursor).transpose()?,
        // One more than is shown says whether others follow.
        limit: limit + 1,
    };
    let mut found = state.store.directory().location_groups(&query);
    let is_more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| is_more);
    let next = last.map(|group| format!("{}/{}", group.tenant, group.name));
    let show = |group: LocationGroup| Shown {
        tenant: group.tenant.0,
        name: group.name,
        locations: group.locations as u64,
    };
    Ok(Json(Page { items: found.into_iter().map(show).collect(), next }))
}
