//! Alarms as they stand, how many are open, and each with its whole story.

mod actions;
mod filter;
mod shown;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use axum::extract::State;
use schema::{AlarmId, LocationId, Severity, TenantId};
use serde::{Deserialize, Serialize};
use store::alarms::{AlarmRow, EventQuery, OpenBySeverity, OpenCount};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::filter::{Filter, cursor};
use self::shown::Shown;
use super::auth::Access;
use super::events::EventShown;
use super::extract::{Json, Path, Query};
use super::paging::MAX_PAGE_ITEMS;
use super::problem::{ApiResult, Problem};
use super::several::Several;
use super::state::AppState;

/// Locations of one answer with counts.
const MAX_COUNTED_LOCATIONS: usize = 1_000;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(counts))
        .routes(routes!(actions::act_on_many))
        .routes(routes!(read))
        .routes(routes!(actions::act))
}

/// Something that a person wrote about an alarm.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AlarmComment)]
struct Comment {
    /// Milliseconds since 1970.
    at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    text: String,
}

/// An alarm with its whole story.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AlarmStory)]
struct Story {
    #[serde(flatten)]
    alarm: Shown,
    /// Those among the events below, oldest first.
    comments: Vec<Comment>,
    /// All that happened to it with the values of that moment, the first 1000,
    /// oldest first.
    events: Vec<EventShown>,
    /// Where there are more: give this as `after` to the events of this alarm
    /// with `order=asc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    events_next: Option<String>,
}

/// A page of alarms.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AlarmPage)]
struct AlarmPage {
    items: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// How many alarms the filters leave over all pages, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

/// Whose open alarms are counted.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CountFilter {
    tenant: Option<u64>,
    /// One location, or several with commas between them.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    location: Several<u64>,
}

/// Open alarms: active, or not acknowledged. One may count in several.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = AlarmCount)]
struct CountShown {
    active: u64,
    /// Not acknowledged, active or not.
    unacknowledged: u64,
    active_unacknowledged: u64,
    /// Active and shelved.
    shelved: u64,
}

/// Open alarms of one location.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = LocationAlarmCounts)]
struct LocationCounts {
    /// None for alarms of a tenant as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<u64>,
    total: CountShown,
    /// By severity; those without any are left out.
    severities: BTreeMap<String, CountShown>,
}

/// Open alarms by severity and location.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AlarmCounts)]
struct Counts {
    total: CountShown,
    /// By severity; those without any are left out.
    severities: BTreeMap<String, CountShown>,
    /// Those with the most active alarms first, at most 1000.
    locations: Vec<LocationCounts>,
    /// There are more locations with open alarms than are shown.
    more_locations: bool,
}

impl CountShown {
    fn of(count: OpenCount) -> Self {
        let OpenCount { active, unacknowledged, active_unacknowledged, shelved } = count;
        Self { active, unacknowledged, active_unacknowledged, shelved }
    }
}

fn by_name(counts: &OpenBySeverity) -> BTreeMap<String, CountShown> {
    let shown =
        |(severity, count): (&Severity, &OpenCount)| (severity.to_string(), CountShown::of(*count));
    counts.iter().map(shown).collect()
}

fn total(counts: &OpenBySeverity) -> OpenCount {
    let mut total = OpenCount::default();
    counts.values().for_each(|count| total.add(*count));
    total
}

async fn find(state: &AppState, access: &Access, id: AlarmId) -> ApiResult<AlarmRow> {
    let found = state.store.alarms().alarm(id).await?;
    let seen = found.filter(|alarm| access.sees(alarm.tenant));
    seen.ok_or_else(|| Problem::not_found("alarm", id))
}

/// Alarms, the last raised or the worst first.
#[utoipa::path(
    get,
    operation_id = "list_alarms",
    path = "/alarms",
    tag = "alarms",
    params(Filter),
    responses(
        (status = 200, body = AlarmPage),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<Filter>,
) -> ApiResult<Json<AlarmPage>> {
    let count_all = filter.total == Some(true);
    let query = filter.page(&access)?;
    let (order, limit) = (query.order, query.limit - 1);
    let total = match count_all {
        true => Some(state.store.alarms().count_alarms(query.clone()).await?),
        false => None,
    };
    let mut rows = state.store.alarms().alarms(query).await?;
    let next = (rows.len() > limit).then(|| cursor(order, rows[limit - 1].place()));
    rows.truncate(limit);
    Ok(Json(AlarmPage { items: rows.into_iter().map(Shown::of).collect(), next, total }))
}

/// How many alarms are open, by severity and by location. Alarms that are
/// cleared and acknowledged are not counted, and cost nothing.
#[utoipa::path(
    get,
    operation_id = "count_alarms",
    path = "/alarms/counts",
    tag = "alarms",
    params(CountFilter),
    responses(
        (status = 200, body = Counts),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn counts(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<CountFilter>,
) -> ApiResult<Json<Counts>> {
    let tenant = access.filter(filter.tenant.map(TenantId))?;
    let locations = filter.location.0.into_iter().map(LocationId).collect();
    let found = state.store.alarms().open_alarms(tenant, locations).await?;
    let mut all = OpenBySeverity::new();
    for (severity, count) in found.values().flatten() {
        all.entry(*severity).or_default().add(*count);
    }
    let mut ordered: Vec<_> =
        found.iter().map(|(location, counts)| (location, total(counts), counts)).collect();
    ordered.sort_by_key(|(location, total, _)| (Reverse(total.active), **location));
    let more_locations = ordered.len() > MAX_COUNTED_LOCATIONS;
    let shown = |(location, total, counts): (&Option<LocationId>, OpenCount, &OpenBySeverity)| {
        let location = location.map(|id| id.0);
        LocationCounts { location, total: CountShown::of(total), severities: by_name(counts) }
    };
    Ok(Json(Counts {
        total: CountShown::of(total(&all)),
        severities: by_name(&all),
        locations: ordered.into_iter().take(MAX_COUNTED_LOCATIONS).map(shown).collect(),
        more_locations,
    }))
}

/// One alarm with all that happened to it.
#[utoipa::path(
    get,
    operation_id = "read_alarm",
    path = "/alarms/{id}",
    tag = "alarms",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = Story),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<AlarmId>,
) -> ApiResult<Json<Story>> {
    let alarm = find(&state, &access, id).await?;
    let limit = MAX_PAGE_ITEMS as usize;
    let query = EventQuery {
        alarm: Some(id),
        oldest_first: true,
        limit: limit + 1,
        ..EventQuery::default()
    };
    let mut events = state.store.alarms().events(query).await?;
    let events_next = (events.len() > limit).then(|| events[limit - 1].sequence.to_string());
    events.truncate(limit);
    let comments = events
        .iter()
        .filter_map(|event| {
            let text = (event.kind == "alarm_commented").then(|| event.body["text"].as_str())??;
            Some(Comment { at: event.at.0, by: event.actor.clone(), text: text.to_owned() })
        })
        .collect();
    let events = events.into_iter().map(EventShown::of).collect();
    Ok(Json(Story { alarm: Shown::of(alarm), comments, events, events_next }))
}
