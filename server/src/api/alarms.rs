//! Alarms as they stand, with their stories, and what people do to them.

use alarms::CommandError;
use axum::extract::State;
use axum::http::StatusCode;
use schema::{AlarmAction, AlarmId, DeviceId, LocationId, Severity, TenantId, TimestampMs};
use serde::{Deserialize, Serialize};
use store::alarms::{AlarmMoment, AlarmQuery, AlarmRow, AlarmStoreError, EventQuery};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::events::EventShown;
use super::extract::{Json, Path, Query};
use super::paging::{MAX_PAGE_ITEMS, Page, Paging};
use super::problem::{ApiResult, Problem};
use super::state::AppState;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read)).routes(routes!(act))
}

/// Which alarms a list holds.
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
    /// The key of a rule.
    rule: Option<String>,
    active: Option<bool>,
    acknowledged: Option<bool>,
    /// This severity or a worse one.
    severity: Option<String>,
    /// Raised at or after, in milliseconds since 1970.
    from: Option<i64>,
    /// Raised before, in milliseconds since 1970.
    to: Option<i64>,
}

/// An alarm at one moment.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AlarmMoment)]
struct MomentShown {
    /// Milliseconds since 1970, in the device's own time.
    at: i64,
    severity: String,
    /// The rule's description with its values filled in, and the values.
    #[schema(value_type = Object)]
    details: serde_json::Value,
}

/// An alarm as it stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Alarm)]
struct Shown {
    id: String,
    tenant: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<u64>,
    /// None for an alarm of the tenant as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<u64>,
    profile: u64,
    rule: String,
    severity: String,
    active: bool,
    acknowledged: bool,
    raised: MomentShown,
    /// When its severity was highest.
    peak: MomentShown,
    /// How often it was true again.
    updates: u64,
    updated_at: i64,
    #[schema(value_type = Object)]
    last_details: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared_at: Option<i64>,
    /// `condition`, `time`, `person` or `rule_removed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    cleared_details: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shelved_until: Option<i64>,
}

/// An alarm with its whole story.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AlarmStory)]
struct Story {
    #[serde(flatten)]
    alarm: Shown,
    /// All that happened to it, the first 1000, oldest first.
    events: Vec<EventShown>,
}

/// A page of alarms.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AlarmPage)]
struct AlarmPage {
    items: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// How many alarms the filters leave, over all pages.
    total: u64,
}

/// What somebody does to an alarm.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = AlarmAction)]
enum ActionInput {
    Acknowledge,
    Unacknowledge,
    Clear,
    /// `until` in milliseconds since 1970.
    Shelve {
        until: i64,
    },
    Unshelve,
    Comment {
        text: String,
    },
    Assign {
        to: Option<String>,
    },
}

/// The longest comment or assignee, in bytes.
const MAX_TEXT_BYTES: usize = 4_096;

impl From<AlarmStoreError> for Problem {
    fn from(error: AlarmStoreError) -> Self {
        match &error {
            AlarmStoreError::NoSuchProfile => Self::not_found("alarm profile", "with this id"),
            AlarmStoreError::VersionConflict { expected, found } => {
                Self::version_mismatch(*expected, *found)
            }
            AlarmStoreError::NameTaken { .. } => {
                Self::conflict(format!("{error}.")).with_field("name")
            }
            AlarmStoreError::Closed => Self::unavailable("The server is stopping."),
            _ if error.is_retryable() => {
                tracing::error!(%error, "the alarm store refused");
                Self::unavailable(
                    "The alarms cannot be read or written now; the server's log says why.",
                )
            }
            _ => Self::internal(&error),
        }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Store(error) => error.into(),
            CommandError::Invalid(report) => {
                let field = report.errors.first().map(|problem| problem.field.clone());
                let said: Vec<String> = report
                    .errors
                    .iter()
                    .map(|problem| {
                        format!("{} ({:?}): {}", problem.field, problem.value, problem.message)
                    })
                    .collect();
                Self::invalid(field.unwrap_or_default(), said.join("; "))
            }
            CommandError::NoSuchAlarm => Self::not_found("alarm", "with this id"),
            CommandError::Already(_) => Self::conflict(format!("{error}.")),
            CommandError::Append(_) | CommandError::NotYet { .. } => {
                tracing::warn!(%error, "an alarm command has not taken effect");
                Self::unavailable(format!("{error}."))
            }
        }
    }
}

impl MomentShown {
    fn of(moment: AlarmMoment) -> Self {
        let severity = moment.severity.to_string();
        Self { at: moment.at.0, severity, details: moment.details }
    }
}

impl Shown {
    fn of(alarm: AlarmRow) -> Self {
        Self {
            id: alarm.id.to_string(),
            tenant: alarm.tenant.0,
            location: alarm.location.map(|id| id.0),
            device: alarm.device.map(|id| id.0),
            profile: alarm.rule.profile.0,
            rule: alarm.rule.key.to_string(),
            severity: alarm.severity.to_string(),
            active: alarm.status.active,
            acknowledged: alarm.status.acknowledged,
            raised: MomentShown::of(alarm.raised),
            peak: MomentShown::of(alarm.peak),
            updates: alarm.updates,
            updated_at: alarm.updated_at.0,
            last_details: alarm.last_details,
            cleared_at: alarm.cleared_at.map(|at| at.0),
            cleared_reason: alarm.cleared_reason,
            cleared_details: alarm.cleared_details,
            acknowledged_at: alarm.acknowledged_at.map(|at| at.0),
            acknowledged_by: alarm.acknowledged_by,
            assigned_to: alarm.assigned_to,
            shelved_until: alarm.shelved_until.map(|at| at.0),
        }
    }
}

async fn find(state: &AppState, access: &Access, id: AlarmId) -> ApiResult<AlarmRow> {
    let found = state.store.alarms().alarm(id).await?;
    let seen = found.filter(|alarm| access.sees(alarm.tenant));
    seen.ok_or_else(|| Problem::not_found("alarm", id))
}

/// Who a token's deeds are told of.
pub(super) fn actor(state: &AppState, access: &Access) -> String {
    let token = state.store.directory().api_token(access.token_id());
    token.map_or_else(|| format!("token {}", access.token_id()), |token| token.name.clone())
}

/// Alarms, the last raised first; pages stay where they are while alarms change.
#[utoipa::path(
    get,
    operation_id = "list_alarms",
    path = "/alarms",
    tag = "alarms",
    params(Filter),
    responses(
        (status = 200, body = AlarmPage),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<Filter>,
) -> ApiResult<Json<AlarmPage>> {
    let paging = Paging::by_id(filter.limit, filter.after.as_deref())?;
    let severity_from = match &filter.severity {
        None => None,
        Some(name) => Some(
            name.parse::<Severity>()
                .map_err(|error| Problem::invalid("severity", format!("{error}.")))?,
        ),
    };
    let query = AlarmQuery {
        tenant: access.filter(filter.tenant.map(TenantId))?,
        location: filter.location.map(LocationId),
        device: filter.device.map(DeviceId),
        rule: filter.rule,
        active: filter.active,
        acknowledged: filter.acknowledged,
        severity_from,
        from: filter.from.map(TimestampMs),
        to: filter.to.map(TimestampMs),
        after: paging.after,
        limit: paging.fetch_limit(),
    };
    let total = state.store.alarms().count_alarms(query.clone()).await?;
    let rows = state.store.alarms().alarms(query).await?;
    let page = Page::of(rows, paging, |row| row.sequence.to_string()).map(Shown::of);
    Ok(Json(AlarmPage { items: page.items, next: page.next, total }))
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
    let query = EventQuery {
        alarm: Some(id),
        oldest_first: true,
        limit: MAX_PAGE_ITEMS as usize,
        ..EventQuery::default()
    };
    let events = state.store.alarms().events(query).await?;
    let events = events.into_iter().map(EventShown::of).collect();
    Ok(Json(Story { alarm: Shown::of(alarm), events }))
}

/// Does something to an alarm. It goes through the journal, and is answered
/// once it has taken effect.
#[utoipa::path(
    post,
    operation_id = "act_on_alarm",
    path = "/alarms/{id}/actions",
    tag = "alarms",
    params(("id" = String, Path)),
    request_body = ActionInput,
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn act(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<AlarmId>,
    Json(input): Json<ActionInput>,
) -> ApiResult<StatusCode> {
    find(&state, &access, id).await?;
    let text = |field: &str, text: String| {
        if text.len() > MAX_TEXT_BYTES {
            let detail = format!("At most {MAX_TEXT_BYTES} bytes.");
            return Err(Problem::invalid(field, detail));
        }
        Ok(text)
    };
    let action = match input {
        ActionInput::Acknowledge => AlarmAction::Acknowledge,
        ActionInput::Unacknowledge => AlarmAction::Unacknowledge,
        ActionInput::Clear => AlarmAction::Clear,
        ActionInput::Shelve { until } => AlarmAction::Shelve { until: TimestampMs(until) },
        ActionInput::Unshelve => AlarmAction::Unshelve,
        ActionInput::Comment { text: comment } => {
            AlarmAction::Comment { text: text("text", comment)? }
        }
        ActionInput::Assign { to: None } => AlarmAction::Assign { to: None },
        ActionInput::Assign { to: Some(to) } => AlarmAction::Assign { to: Some(text("to", to)?) },
    };
    let by = actor(&state, &access);
    state.alarms.commands().act(id, action, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}
