//! What happened, for ever: what became of alarms, what people and routers
//! changed, who came in and who was refused. In pages, as CSV, or live.

mod csv;
mod live;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use schema::{AlarmId, DeviceId, LocationId, Severity, TenantId, TimestampMs};
use serde::{Deserialize, Serialize};
use store::alarms::{EVENT_KINDS, EventQuery, EventRow};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{Json, Query};
use super::outflow::outflow;
use super::paging::{Page, Paging};
use super::problem::{ApiResult, Problem};
use super::several::Several;
use super::state::AppState;
use super::telemetry::media::Media;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(live::stream))
}

/// Which events a list holds.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Items of a page, 1 to 1000; 100 when not given. CSV has no pages.
    limit: Option<u32>,
    /// What `next` of the page before said.
    after: Option<String>,
    tenant: Option<u64>,
    location: Option<u64>,
    device: Option<u64>,
    alarm: Option<String>,
    /// The id of the tenant, location, router, device or token that was
    /// changed, came in or was refused.
    document: Option<u64>,
    /// One kind, such as `alarm_raised`, `router_changed` or `api_refused`, or
    /// several with commas between them.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    kind: Several<String>,
    /// The name of who did it.
    actor: Option<String>,
    /// This severity or a worse one: events of alarms only.
    #[param(value_type = Option<String>)]
    severity_from: Option<Severity>,
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
pub(crate) struct EventShown {
    /// Its place in the one order of all events.
    sequence: u64,
    /// Follows from what caused it; for an event of an alarm it is the
    /// transition's id.
    id: String,
    /// None for one of the installation as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<u64>,
    /// Milliseconds since 1970; of a device's alarm, in the device's own time.
    at: i64,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm: Option<String>,
    /// The tenant, location, router, device or token that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<String>,
    /// Who did it: the name of a token, or a router.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    /// The id of the token by which they did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_token: Option<u64>,
    /// The address that they did it from.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    /// What the kind has beside: rule, description, values, before and after.
    #[schema(value_type = Object)]
    body: serde_json::Value,
}

impl EventShown {
    pub fn of(event: EventRow) -> Self {
        Self {
            sequence: event.sequence,
            id: event.id.to_string(),
            tenant: event.tenant.map(|id| id.0),
            at: event.at.0,
            kind: event.kind,
            location: event.location.map(|id| id.0),
            device: event.device.map(|id| id.0),
            alarm: event.alarm.map(|id| id.to_string()),
            document: event.document,
            severity: event.severity.map(|severity| severity.to_string()),
            actor: event.actor,
            actor_token: event.provenance.token,
            peer: event.provenance.from,
            body: event.body,
        }
    }
}

/// The kinds that are asked for, each once.
fn kinds(asked: Several<String>) -> ApiResult<Vec<String>> {
    let mut kinds = asked.0;
    kinds.sort_unstable();
    kinds.dedup();
    if let Some(unknown) = kinds.iter().find(|kind| !EVENT_KINDS.contains(&kind.as_str())) {
        let detail = format!("{unknown:?} is no kind of event: {}.", EVENT_KINDS.join(", "));
        return Err(Problem::invalid("kind", detail));
    }
    Ok(kinds)
}

/// Events, the newest first; with `Accept: text/csv` all of them as a file
/// with one line each.
#[utoipa::path(
    get,
    operation_id = "list_events",
    path = "/events",
    tag = "events",
    params(Filter),
    responses(
        (status = 200, content(
            (Page<EventShown> = "application/json"),
            (String = "text/csv"),
        )),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 406, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json",
            description = "The tenant has 4 exports as CSV"),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The server has 16 exports as CSV, or stops"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    headers: HeaderMap,
    Query(filter): Query<Filter>,
) -> ApiResult<Response> {
    let media = match Media::accepted(&headers) {
        Some(media @ (Media::Json | Media::Csv)) => media,
        Some(Media::Arrow) | None => {
            let detail = "Events come as application/json or text/csv.";
            return Err(Problem::not_acceptable(detail));
        }
    };
    let is_limited = filter.limit.is_some();
    let paging = Paging::by_id(filter.limit, filter.after.as_deref())?;
    let alarm = match &filter.alarm {
        None => None,
        Some(id) => Some(
            id.parse::<AlarmId>()
                .map_err(|error| Problem::invalid("alarm", format!("It is {id:?}: {error}.")))?,
        ),
    };
    let query = EventQuery {
        tenant: access.filter(filter.tenant.map(TenantId))?,
        location: filter.location.map(LocationId),
        device: filter.device.map(DeviceId),
        alarm,
        document: filter.document,
        kinds: kinds(filter.kind)?,
        actor: filter.actor,
        severity_from: filter.severity_from,
        from: filter.from.map(TimestampMs),
        to: filter.to.map(TimestampMs),
        after: paging.after,
        up_to: None,
        oldest_first: matches!(filter.order, Some(Order::Asc)),
        limit: paging.fetch_limit(),
    };
    if media == Media::Csv {
        if is_limited {
            let detail = "CSV has no pages: leave `limit` out, and narrow it by `from` and `to`.";
            return Err(Problem::invalid("limit", detail));
        }
        return export(&state, &access, query);
    }
    let rows = state.store.alarms().events(query).await?;
    let page = Page::of(rows, paging, |row| row.sequence.to_string()).map(EventShown::of);
    Ok(Json(page).into_response())
}

/// An export ends with its token and with the node; a part is never taken for
/// the whole, because the connection is cut off.
fn export(state: &AppState, access: &Access, query: EventQuery) -> ApiResult<Response> {
    let place = state.streams.enter_export(access.tenant())?;
    let ended = state.streams.ended(state.store.directory(), access.token_id());
    let (out, body) = outflow(state.write_stall);
    let work = csv::export(state.store.alarms().clone(), query, out);
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            biased;
            () = ended => {}
            () = work => {}
        }
    });
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Media::Csv.name()));
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"events.csv\""),
    );
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use axum::body::to_bytes;

    use super::*;
    use crate::api::streams::MAX_EXPORTS_PER_TENANT;
    use crate::config::{Config, Listen};
    use crate::node::Node;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_export_whose_token_is_gone_is_cut_off_and_exports_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = Config::default();
        config.server.data_dir = dir.path().to_owned();
        config.mqtt.listen = Listen(Some(free));
        config.api.listen = free;
        let node = Node::start(config).await.unwrap();
        // No token stands behind this access.
        let access = Access::of_installation();
        let ask = || export(node.state(), &access, EventQuery::default());
        let body = ask().unwrap().into_body();
        assert!(to_bytes(body, 1_000_000).await.is_err(), "a part is not the whole");

        let streams = &node.state().streams;
        // The one that was cut off leaves a moment after its body has ended.
        let mut places = Vec::new();
        let all_entered = async {
            while places.len() < MAX_EXPORTS_PER_TENANT {
                match streams.enter_export(None) {
                    Ok(place) => places.push(place),
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        };
        let entered = tokio::time::timeout(Duration::from_secs(60), all_entered).await;
        assert!(entered.is_ok(), "the one that was cut off has not left");
        assert_eq!(ask().unwrap_err().status, 429);
        node.stop().await;
    }
}
