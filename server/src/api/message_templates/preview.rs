//! What a message looks like, of made-up facts.

use axum::extract::State;
use notifier::channel::Content;
use notifier::message::{TemplateError, check_template, preview as rendered, preview_own};
use schema::{Channel, Language, MessageTemplate, TemplateKind, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::auth::Reader;
use crate::api::extract::Json;
use crate::api::problem::{ApiResult, Problem};
use crate::api::state::AppState;

/// A message to be shown: by the texts given, or by Baken's own where there are none.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MessagePreviewInput)]
pub struct Input {
    /// `email`, `sms` or `webhook`.
    #[schema(value_type = String)]
    channel: Channel,
    /// `nl` or `en`.
    #[schema(value_type = String)]
    language: Language,
    /// What the message is about, as of a message template.
    #[schema(value_type = String)]
    kind: TemplateKind,
    subject: Option<String>,
    text: Option<String>,
    html: Option<String>,
}

/// A message as its recipient gets it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = MessagePreview)]
pub struct Shown {
    /// Of an e-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// The whole of an SMS, the plain part of an e-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Of an e-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
    /// The JSON of a webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    data: Option<serde_json::Value>,
}

impl From<Content> for Shown {
    fn from(content: Content) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let Content { subject, text, html, data, .. } = content;
        Self { subject: given(subject), text: given(text), html, data }
    }
}

fn problem(error: &TemplateError) -> Problem {
    Problem::invalid(error.field.as_str(), format!("{error}."))
}

/// Shows a message of made-up facts. It changes nothing, and a token that only reads
/// may ask.
#[utoipa::path(
    post,
    operation_id = "preview_message_template",
    path = "/message-templates/preview",
    tag = "message templates",
    request_body = Input,
    responses(
        (status = 200, body = Shown),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json",
            description = "8 checks of the tenant, or 64 in all, run or wait"),
    )
)]
pub async fn preview(
    State(state): State<AppState>,
    Reader(access): Reader,
    Json(input): Json<Input>,
) -> ApiResult<Json<Shown>> {
    let Input { channel, language, kind, subject, text, html } = input;
    let Some(text) = text else {
        if subject.is_some() || html.is_some() {
            return Err(Problem::invalid("text", "It is missing; a template has a text."));
        }
        let shown = move || preview_own(channel, language, kind);
        let shown = in_turn(&state, access.tenant(), shown).await?;
        return Ok(Json(shown.map_err(|error| Problem::internal(&error))?.into()));
    };
    let tenant = access.tenant().unwrap_or_default();
    let template = MessageTemplate { tenant, channel, language, kind, subject, text, html };
    let shown = in_turn(&state, access.tenant(), move || rendered(&template)).await?;
    Ok(Json(shown.map_err(|error| problem(&error))?.into()))
}

/// The template where it renders.
pub async fn checked(state: &AppState, template: MessageTemplate) -> ApiResult<MessageTemplate> {
    let tenant = template.tenant;
    let check = move || check_template(&template).map(|()| template);
    let found = in_turn(state, Some(tenant), check).await?;
    found.map_err(|error| problem(&error))
}

/// Does work that a tenant asked for in its turn, which it keeps to the end.
async fn in_turn<T: Send + 'static>(
    state: &AppState,
    tenant: Option<TenantId>,
    work: impl FnOnce() -> T + Send + 'static,
) -> ApiResult<T> {
    let turn = state.work.templates.take(tenant).await?;
    let work = move || {
        let _turn = turn;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::internal(&error))
}
