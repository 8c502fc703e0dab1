//! The delivery log: what people are told, what is held back and why, and what
//! became of it. A message can be sent again by hand, and one by which somebody
//! tries whether an address is reached.

mod notices;
mod shown;
mod trial;

use axum::extract::State;
use axum::http::StatusCode;
use notifier::TestError;
use notifier::sms::callback::callback_url;
use schema::{AlarmId, Channel, MessageId, Recipient, TenantId, TimestampMs, UserId};
use serde::{Deserialize, Serialize};
use store::alarms::{MessageLogEntry, MessageQuery, MessageRow, MessageState};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::shown::{Shown, Story};
use super::auth::Access;
use super::extract::{Json, Path, Query};
use super::paging::{Page, Paging};
use super::problem::{ApiResult, Problem};
use super::state::AppState;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .merge(trial::routes())
        .routes(routes!(read))
        .routes(routes!(send_again))
        .merge(notices::routes())
        .routes(routes!(callback))
}

/// Which messages a list holds.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Items of a page, 1 to 1000; 100 when not given.
    limit: Option<u32>,
    /// What `next` of the page before said.
    after: Option<String>,
    tenant: Option<u64>,
    /// Only those to this user.
    user: Option<u64>,
    /// `email`, `sms` or `webhook`.
    #[param(value_type = Option<String>)]
    channel: Option<Channel>,
    /// `queued`, `on_its_way`, `sent`, `delivered`, `failed` or `unknown`.
    state: Option<String>,
    /// Only those that tell of this alarm.
    alarm: Option<String>,
    /// Written at or after, in milliseconds since 1970.
    from: Option<i64>,
    /// Written before, in milliseconds since 1970.
    to: Option<i64>,
}

fn message_state(text: &str) -> ApiResult<MessageState> {
    let known = MessageState::ALL.into_iter().find(|state| state.as_str() == text);
    known.ok_or_else(|| unknown_state(text, &MessageState::ALL.map(MessageState::as_str)))
}

fn unknown_state(text: &str, known: &[&str]) -> Problem {
    Problem::invalid("state", format!("{text:?} is no state; known are {}.", known.join(", ")))
}

fn hexadecimal<T: std::str::FromStr>(
    field: &'static str,
    text: Option<&str>,
) -> ApiResult<Option<T>>
where
    T::Err: std::fmt::Display,
{
    let parse = |text: &str| {
        text.parse().map_err(|error| Problem::invalid(field, format!("{text:?}: {error}.")))
    };
    text.map(parse).transpose()
}

/// Messages, the last written first.
#[utoipa::path(
    get,
    operation_id = "list_messages",
    path = "/messages",
    tag = "notifications",
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
    let paging = Paging::by_id(filter.limit, filter.after.as_deref())?;
    let query = MessageQuery {
        tenant: access.filter(filter.tenant.map(TenantId))?,
        recipient: filter.user.map(|id| Recipient::User(UserId(id))),
        channel: filter.channel,
        state: filter.state.as_deref().map(message_state).transpose()?,
        alarm: hexadecimal::<AlarmId>("alarm", filter.alarm.as_deref())?,
        from: filter.from.map(TimestampMs),
        to: filter.to.map(TimestampMs),
        after: paging.after,
        limit: paging.fetch_limit(),
    };
    let found = state.store.alarms().messages(query).await?;
    let page = Page::of(found, paging, |message: &MessageRow| message.sequence.to_string());
    Ok(Json(page.map(Shown::of)))
}

async fn seen(
    state: &AppState,
    access: &Access,
    id: &str,
) -> ApiResult<(MessageRow, Vec<MessageLogEntry>)> {
    let missing = || Problem::not_found("message", id);
    let parsed: MessageId = id.parse().map_err(|_| missing())?;
    let found = state.store.alarms().message(parsed).await?;
    found.filter(|(message, _)| access.sees(message.tenant)).ok_or_else(missing)
}

/// A message with its text and all that its provider said of it.
#[utoipa::path(
    get,
    operation_id = "read_message",
    path = "/messages/{id}",
    tag = "notifications",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = Story),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<String>,
) -> ApiResult<Json<Story>> {
    let (message, log) = seen(&state, &access, &id).await?;
    Ok(Json(Story::of(message, log)))
}

/// Sends a message again, to the same address and with the same text. It is a
/// message of its own, so that its receiver doesn't take it for a repetition.
#[utoipa::path(
    post,
    operation_id = "send_message_again",
    path = "/messages/{id}/send-again",
    tag = "notifications",
    params(("id" = String, Path)),
    responses(
        (status = 202, body = Story),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn send_again(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<Story>)> {
    let (message, _) = seen(&state, &access, &id).await?;
    if matches!(message.state, MessageState::Queued | MessageState::OnItsWay) {
        return Err(Problem::conflict("It is still being handed over; it is not lost."));
    }
    let by = access.author().by.to_string();
    let copy = state.notifier.send_again(&message, by).await.map_err(refused)?;
    let (message, log) = seen(&state, &access, &copy.to_string()).await?;
    Ok((StatusCode::ACCEPTED, Json(Story::of(message, log))))
}

fn refused(error: TestError) -> Problem {
    match error {
        TestError::Store(error) => error.into(),
        TestError::Render(_) | TestError::Random(_) => Problem::internal(&error),
    }
}

/// Where an SMS provider is to report what became of messages.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SmsCallback)]
struct Callback {
    provider: String,
    /// One address for all messages, to be entered at a provider that is not told
    /// one with each. It is signed: whoever knows it can report.
    url: String,
}

/// The one address for all reports of the SMS provider; only for a token of the
/// whole installation.
#[utoipa::path(
    get,
    operation_id = "read_sms_callback",
    path = "/sms-callback",
    tag = "notifications",
    responses(
        (status = 200, body = Callback),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn callback(State(state): State<AppState>, access: Access) -> ApiResult<Json<Callback>> {
    access.require_installation()?;
    let providers = state.notifier.providers();
    let (Some(sms), Some((key, public_url))) = (&providers.sms, &providers.reports) else {
        return Err(Problem::conflict(
            "Set `notifications.sms.provider` and `notifications.public_url` first.",
        ));
    };
    let url = callback_url(key, public_url, sms.name(), None);
    Ok(Json(Callback { provider: sms.name().to_owned(), url }))
}
