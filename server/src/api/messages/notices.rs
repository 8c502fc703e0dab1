//! Notices: what somebody is to be told, or is not, and why; and their totals.

use axum::extract::State;
use schema::{AlarmId, Channel, MessageId, Recipient, TenantId, TimestampMs, UserId};
use serde::{Deserialize, Serialize};
use store::alarms::{NoticeQuery, NoticeRow, NoticeState, NoticeTotal};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::auth::Access;
use super::super::extract::{Json, Query};
use super::super::paging::{Page, Paging};
use super::super::problem::{ApiResult, Problem};
use super::super::state::AppState;
use super::{hexadecimal, unknown_state};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(notices)).routes(routes!(totals))
}

/// Which notices a list holds.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct NoticeFilter {
    /// Items of a page, 1 to 1000; 100 when not given.
    limit: Option<u32>,
    /// What `next` of the page before said.
    after: Option<String>,
    tenant: Option<u64>,
    alarm: Option<String>,
    message: Option<String>,
    user: Option<u64>,
    /// `email`, `sms` or `webhook`.
    #[param(value_type = Option<String>)]
    channel: Option<Channel>,
    /// `waits`, `told` or `dropped`.
    state: Option<String>,
}

/// Of which time totals are asked for.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TotalsFilter {
    /// A tenant's own token may leave it out.
    tenant: Option<u64>,
    /// Made at or after, in milliseconds since 1970; all from the first when not
    /// given.
    from: Option<i64>,
    /// Made before, in milliseconds since 1970; all to the last when not given.
    to: Option<i64>,
}

/// Something that somebody is to be told, or is not, and why.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Notice)]
struct NoticeShown {
    id: String,
    tenant: u64,
    alarm: String,
    /// The event of what happened.
    transition: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<u64>,
    /// A bare address, of no user.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    channel: String,
    /// `told`, `escalated` or `reminder:N`.
    purpose: String,
    /// The subscription or offline profile that asks for it.
    source: u64,
    made_at: i64,
    /// When it is looked at next, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<i64>,
    state: String,
    /// Why it waits, was told or was dropped.
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl NoticeShown {
    fn of(notice: NoticeRow) -> Self {
        let (user, address) = match notice.recipient {
            Recipient::User(id) => (Some(id.0), None),
            Recipient::Address(address) => (None, Some(address)),
        };
        Self {
            id: notice.id.to_string(),
            tenant: notice.tenant.0,
            alarm: notice.alarm.to_string(),
            transition: notice.transition.to_string(),
            user,
            address,
            channel: notice.channel.to_string(),
            purpose: notice.purpose.to_string(),
            source: notice.source,
            made_at: notice.made_at.0,
            due_at: (notice.state == NoticeState::Waits).then_some(notice.due_at.0),
            state: notice.state.as_str().to_owned(),
            reason: notice.reason,
            decided_at: notice.decided_at.map(|at| at.0),
            message: notice.message.map(|id| id.to_string()),
        }
    }
}

/// How many notices stand so, for one reason.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = NoticeTotal)]
struct Total {
    channel: String,
    state: String,
    reason: String,
    count: u64,
}

impl Total {
    fn of(total: NoticeTotal) -> Self {
        Self {
            channel: total.channel.to_string(),
            state: total.state.as_str().to_owned(),
            reason: total.reason,
            count: total.count,
        }
    }
}

fn notice_state(text: &str) -> ApiResult<NoticeState> {
    let known = NoticeState::ALL.into_iter().find(|state| state.as_str() == text);
    known.ok_or_else(|| unknown_state(text, &NoticeState::ALL.map(NoticeState::as_str)))
}

/// Notices, the last written first: each says whom it is for, and why it waits,
/// was told or was dropped.
#[utoipa::path(
    get,
    operation_id = "list_notices",
    path = "/notices",
    tag = "notifications",
    params(NoticeFilter),
    responses(
        (status = 200, body = Page<NoticeShown>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn notices(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<NoticeFilter>,
) -> ApiResult<Json<Page<NoticeShown>>> {
    let paging = Paging::by_id(filter.limit, filter.after.as_deref())?;
    let query = NoticeQuery {
        tenant: access.filter(filter.tenant.map(TenantId))?,
        alarm: hexadecimal::<AlarmId>("alarm", filter.alarm.as_deref())?,
        message: hexadecimal::<MessageId>("message", filter.message.as_deref())?,
        recipient: filter.user.map(|id| Recipient::User(UserId(id))),
        channel: filter.channel,
        state: filter.state.as_deref().map(notice_state).transpose()?,
        after: paging.after,
        limit: paging.fetch_limit(),
    };
    let found = state.store.alarms().notices(query).await?;
    let page = Page::of(found, paging, |notice: &NoticeRow| notice.sequence.to_string());
    Ok(Json(page.map(NoticeShown::of)))
}

/// What became of all that was to be told in a stretch of time; the counts add
/// up to all of it.
#[utoipa::path(
    get,
    operation_id = "notice_totals",
    path = "/notices/totals",
    tag = "notifications",
    params(TotalsFilter),
    responses(
        (status = 200, body = Vec<Total>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn totals(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<TotalsFilter>,
) -> ApiResult<Json<Vec<Total>>> {
    let Some(tenant) = access.filter(filter.tenant.map(TenantId))? else {
        return Err(Problem::invalid("tenant", "Say whose notices are to be counted."));
    };
    let from = TimestampMs(filter.from.unwrap_or(i64::MIN));
    let to = TimestampMs(filter.to.unwrap_or(i64::MAX));
    let totals = state.store.alarms().notice_totals(tenant, from, to).await?;
    Ok(Json(totals.into_iter().map(Total::of).collect()))
}
