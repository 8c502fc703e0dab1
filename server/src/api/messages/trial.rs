//! A message by which somebody tries whether an address is reached.

use std::sync::Arc;

use axum::extract::State;
use notifier::TestMessage;
use notifier::channel::Outcome;
use schema::{Channel, Language, Recipient, TenantId, User, UserId, is_email, is_phone};
use serde::{Deserialize, Serialize};
use store::{Directory, Entry, ListQuery};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::auth::Access;
use super::super::extract::Json;
use super::super::problem::{ApiResult, Problem};
use super::super::sight;
use super::super::state::AppState;
use super::refused;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(test))
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
