//! What happened: alarms' transitions and changes of profiles, for ever.

use axum::extract::State;
use schema::{AlarmId, DeviceId, LocationId, TenantId, TimestampMs};
use serde::{Deserialize, Serialize};
use store::alarms::{EventQuery, EventRow};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{Json, Query};
use super::paging::{Page, Paging};
use super::problem::{ApiResult, Problem};
use super::state::AppState;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which events a list holds.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Items of a page, 1 to 1000; 100 when not given.
    limit: Option<u32>,
    /// What `next` of the page before said.
    after: Option<String>,
    tenant: Option<u64>,
    location: Option<u64>,
    device: Option<u64>,
    alarm: Option<String>,
    /// Such as `alarm_raised`, `alarm_cleared` or `profile_changed`.
    kind: Option<String>,
    /// Happened at or after, in milliseconds since 1970.
    from: Option<i64>,
    /// Happened before, in milliseconds since 1970.
    to: Option<i64>,
    /// `asc` for the oldest first; the newest first when not given.
    order: Option<Order>,
}

/// Which end of a list comes first.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = EventOrder)]
enum Order {
    Asc,
    Desc,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct EventShown {
    /// Follows from what caused it; for an event of an alarm it is the
    /// transition's id.
    id: String,
    tenant: u64,
    /// Milliseconds since 1970; of a device's alarm, in the device's own time.
    at: i64,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<String>,
    /// Who did it, where a person did.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    /// What the kind has beside: rule, description, values, before and after.
    #[schema(value_type = Object)]
    body: serde_json::Value,
}

impl EventShown {
    pub fn of(event: EventRow) -> Self {
        Self {
            id: event.id.to_string(),
            tenant: event.tenant.0,
            at: event.at.0,
            kind: event.kind,
            location: event.location.map(|id| id.0),
            device: event.device.map(|id| id.0),
            alarm: event.alarm.map(|id| id.to_string()),
            severity: event.severity.map(|severity| severity.to_string()),
            actor: event.actor,
            body: event.body,
        }
    }
}

/// Events, the newest first.
#[utoipa::path(
    get,
    operation_id = "list_events",
    path = "/events",
    tag = "events",
    params(Filter),
    responses(
        (status = 200, body = Page<EventShown>),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<Filter>,
) -> ApiResult<Json<Page<EventShown>>> {
    let paging = Paging::by_id(filter.limit, filter.after.as_deref())?;
    let alarm = match &filter.alarm {
        None => None,
        Some(id) => Some(
            id.parse::<AlarmId>()
                .map_err(|error| Problem::invalid("alarm", format!("{error}.")))?,
        ),
    };
    let query = EventQuery {
        tenant: access.filter(filter.tenant.map(TenantId))?,
        location: filter.location.map(LocationId),
        device: filter.device.map(DeviceId),
        alarm,
        kind: filter.kind,
        from: filter.from.map(TimestampMs),
        to: filter.to.map(TimestampMs),
        after: paging.after,
        oldest_first: matches!(filter.order, Some(Order::Asc)),
        limit: paging.fetch_limit(),
    };
    let rows = state.store.alarms().events(query).await?;
    Ok(Json(Page::of(rows, paging, |row| row.sequence.to_string()).map(EventShown::of)))
}
