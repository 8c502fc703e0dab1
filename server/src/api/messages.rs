//! The delivery log: what people are told, what is held back and why, and what
//! became of it. A message can be sent again by hand, and one by which somebody
//! tries whether an address is reached.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use notifier::channel::{Content, Outcome};
use notifier::sms::callback::callback_url;
use notifier::{TestError, TestMessage};
use schema::{
    AlarmId, Channel, Language, MessageId, Recipient, TenantId, TimestampMs, User, UserId,
    is_email, is_phone,
};
use serde::{Deserialize, Serialize};
use store::alarms::{
    MessageLogEntry, MessageQuery, MessageRow, MessageState, NoticeQuery, NoticeRow, NoticeState,
    NoticeTotal,
};
use store::{Directory, Entry, ListQuery};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{Json, Path, Query};
use super::paging::{Page, Paging};
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(test))
        .routes(routes!(read))
        .routes(routes!(send_again))
        .routes(routes!(notices))
        .routes(routes!(totals))
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

/// A message to somebody.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Message)]
struct Shown {
    id: String,
    tenant: u64,
    /// The user; absent for a bare address.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<u64>,
    channel: String,
    /// Where it went.
    address: String,
    /// What it is about, such as `raised` or `digest`.
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<String>,
    /// How many notices it tells.
    notices: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    subject: String,
    /// Milliseconds since 1970.
    made_at: i64,
    state: String,
    /// When it is handed over again, while it is queued; milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<i64>,
    attempts: u32,
    /// How often the server ended while it was on its way: so many times it may
    /// have been handed over twice, under the same id.
    interrupted: u32,
    changed_at: i64,
    /// The provider's last word.
    answer: String,
    /// The provider's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// The message that somebody sent again with this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_of: Option<String>,
}

impl Shown {
    fn of(message: MessageRow) -> Self {
        let content: Content = serde_json::from_str(&message.content).unwrap_or_default();
        let user = match &message.recipient {
            Recipient::User(id) => Some(id.0),
            Recipient::Address(_) => None,
        };
        let is_queued = message.state == MessageState::Queued;
        Self {
            id: message.id.to_string(),
            tenant: message.tenant.0,
            user,
            channel: message.channel.to_string(),
            address: message.address,
            kind: message.kind,
            severity: message.severity.map(|severity| severity.to_string()),
            notices: message.notices,
            subject: content.subject,
            made_at: message.made_at.0,
            state: message.state.as_str().to_owned(),
            next_at: is_queued.then_some(message.next_at.0),
            attempts: message.attempts,
            interrupted: message.interrupted,
            changed_at: message.changed_at.0,
            answer: message.answer,
            reference: message.reference,
            copy_of: message.copy_of.map(|id| id.to_string()),
        }
    }
}

/// A line of a message's log.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = MessageLogLine)]
struct LogLine {
    /// Milliseconds since 1970.
    at: i64,
    /// What came of it, such as `sent`, `later`, `refused` or `delivered`.
    outcome: String,
    answer: String,
    /// Who did it, where a person did.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
}

impl LogLine {
    fn of(entry: MessageLogEntry) -> Self {
        let MessageLogEntry { at, outcome, answer, actor } = entry;
        Self { at: at.0, outcome, answer, actor }
    }
}

/// A message with its text and its log.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = MessageStory)]
struct Story {
    #[serde(flatten)]
    message: Shown,
    /// The text as it was written. Links in it are left out: they act in the
    /// name of the recipient.
    text: String,
    /// The oldest line first.
    log: Vec<LogLine>,
}

impl Story {
    fn of(message: MessageRow, log: Vec<MessageLogEntry>) -> Self {
        let content: Content = serde_json::from_str(&message.content).unwrap_or_default();
        let text = match content.data {
            Some(data) => data.to_string(),
            None => content.text,
        };
        Self {
            message: Shown::of(message),
            text: without_links(&text),
            log: log.into_iter().map(LogLine::of).collect(),
        }
    }
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

/// Whom a test message is for: a user, or a bare address.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TestMessageInput)]
struct TestInput {
    /// Whose the message is; a tenant's own token may leave it out.
    tenant: Option<u64>,
    /// `email`, `sms` or `webhook`.
    #[schema(value_type = String)]
    channel: Channel,
    /// A user, who is reached as the channel has it.
    user: Option<u64>,
    /// An e-mail address, a number (E.164) or the URL of a user's webhook instead.
    to: Option<String>,
    /// `nl` or `en`, for a bare address; `en` when not given.
    #[schema(value_type = Option<String>)]
    language: Option<Language>,
}

/// What came of a test message.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = TestMessageOutcome)]
struct TestShown {
    message: String,
    address: String,
    /// `sent`, `refused`, `later` (not taken now) or `unknown`.
    outcome: &'static str,
    /// The provider's own words.
    answer: String,
}

fn message_state(text: &str) -> ApiResult<MessageState> {
    let known = MessageState::ALL.into_iter().find(|state| state.as_str() == text);
    known.ok_or_else(|| unknown_state(text, &MessageState::ALL.map(MessageState::as_str)))
}

fn notice_state(text: &str) -> ApiResult<NoticeState> {
    let known = NoticeState::ALL.into_iter().find(|state| state.as_str() == text);
    known.ok_or_else(|| unknown_state(text, &NoticeState::ALL.map(NoticeState::as_str)))
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

/// What a signed link begins with, behind the installation's address.
const LINKS: &str = "/links/";

fn without_links(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(found) = rest.find(LINKS) {
        let (before, token) = rest.split_at(found + LINKS.len());
        shown.push_str(before);
        shown.push('…');
        let is_token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        rest = token.trim_start_matches(is_token);
    }
    shown.push_str(rest);
    shown
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

/// Sends a message by which somebody tries whether an address is reached, at
/// once, and answers with the provider's own words.
#[utoipa::path(
    post,
    operation_id = "send_test_message",
    path = "/messages/test",
    tag = "notifications",
    request_body = TestInput,
    responses(
        (status = 200, body = TestShown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn test(
    State(state): State<AppState>,
    access: Access,
    Json(input): Json<TestInput>,
) -> ApiResult<Json<TestShown>> {
    let directory = state.store.directory();
    let user = match input.user {
        Some(id) => Some(sight::user(directory, &access, UserId(id))?),
        None => webhook_user(directory, &access, &input),
    };
    let of_user = user.as_ref().map(|user| user.tenant);
    let asked = input.tenant.map(TenantId).or(of_user).or(access.tenant());
    let tenant = asked.or_else(|| only_tenant(directory));
    let Some(tenant) = tenant else {
        return Err(Problem::invalid("tenant", "Say whose message it is."));
    };
    sight::tenant(directory, &access, tenant)
        .map_err(|problem: Problem| problem.with_field("tenant"))?;
    if of_user.is_some_and(|own| own != tenant) {
        return Err(Problem::not_found("user", input.user.unwrap_or_default()).with_field("user"));
    }
    if !state.notifier.is_there(input.channel) {
        return Err(Problem::conflict(format!(
            "This installation has no way to send {}: set `notifications.{}` in its configuration.",
            input.channel, input.channel
        ))
        .with_field("channel"));
    }
    let (recipient, address, language, time_zone) = match (&user, &input.to) {
        (Some(_), Some(_)) if input.user.is_some() => {
            return Err(Problem::invalid("to", "Give either `user` or `to`."));
        }
        (Some(user), _) => {
            let address = match user.contact(input.channel) {
                Some(schema::Contact::Email(to) | schema::Contact::Phone(to)) => to,
                Some(schema::Contact::Webhook(webhook)) => webhook.url,
                None => {
                    let said = format!("The user has no address for {}.", input.channel);
                    return Err(Problem::invalid("user", said));
                }
            };
            let recipient = Recipient::User(UserId(user.id));
            (recipient, address, user.language, user.time_zone.clone())
        }
        (None, Some(to)) => {
            check_address(input.channel, to)?;
            let recipient = Recipient::Address(to.to_owned());
            (recipient, to.to_owned(), input.language.unwrap_or_default(), "UTC".to_owned())
        }
        (None, None) => return Err(Problem::invalid("to", "Give either `user` or `to`.")),
    };
    let by = access.author().by.to_string();
    let test =
        TestMessage { tenant, recipient, channel: input.channel, address, language, time_zone, by };
    let (message, outcome) = state.notifier.test(test).await.map_err(refused)?;
    let (outcome, answer) = match outcome {
        Outcome::Sent { answer, .. } => ("sent", answer),
        Outcome::Refused { answer } => ("refused", answer),
        Outcome::Later { answer, .. } => ("later", answer),
        Outcome::Unknown { answer } => ("unknown", answer),
    };
    let (message, address) = (message.id.to_string(), message.address);
    Ok(Json(TestShown { message, address, outcome, answer }))
}

/// The user whose webhook has the URL that a message is to be sent to.
fn webhook_user(
    directory: &Directory,
    access: &Access,
    input: &TestInput,
) -> Option<Arc<Entry<User>>> {
    let url = input.to.as_deref().filter(|_| input.channel == Channel::Webhook)?;
    let tenant = access.tenant().or(input.tenant.map(TenantId));
    let mut query = ListQuery { tenant, ..ListQuery::default() };
    loop {
        let page = directory.users(&query);
        let is_meant = |user: &Arc<Entry<User>>| {
            user.webhook.as_ref().is_some_and(|webhook| webhook.url == url)
        };
        if let Some(found) = page.items.into_iter().find(is_meant) {
            return Some(found);
        }
        query.after = Some(page.next?);
    }
}

/// Where there is one tenant only, nobody needs to say which.
fn only_tenant(directory: &Directory) -> Option<TenantId> {
    let query = ListQuery { limit: 2, ..ListQuery::default() };
    match directory.tenants(&query).items.as_slice() {
        [one] => Some(TenantId(one.id)),
        _ => None,
    }
}

fn check_address(channel: Channel, to: &str) -> ApiResult<()> {
    match channel {
        Channel::Email if is_email(to) => Ok(()),
        Channel::Sms if is_phone(to) => Ok(()),
        Channel::Email => Err(Problem::invalid("to", format!("{to:?} is no e-mail address."))),
        Channel::Sms => Err(Problem::invalid(
            "to",
            format!("{to:?} is no number in the form of E.164, such as +31612345678."),
        )),
        Channel::Webhook => Err(Problem::invalid(
            "to",
            "No user has this webhook, and its user's secret signs the request.",
        )),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_act_for_others_are_not_shown() {
        let text =
            "Acknowledge: https://b.example/links/AbC-d_9\nStop: <https://b.example/links/x>";
        assert_eq!(
            without_links(text),
            "Acknowledge: https://b.example/links/…\nStop: <https://b.example/links/…>"
        );
    }
}
