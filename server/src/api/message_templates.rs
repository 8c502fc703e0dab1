//! Message templates: a tenant's own texts in the place of Baken's. What is saved
//! has been rendered once.

mod preview;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use schema::{Channel, Document, DocumentBody, Language, MessageTemplate, TemplateKind, TenantId};
use serde::{Deserialize, Serialize};
use store::Entry;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{IfMatch, Json, Path, Query, etag, given};
use super::listing::{TemplateFilter, page};
use super::paging::Page;
use super::problem::{ApiResult, Problem};
use super::state::AppState;
use super::{sight, told};

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(preview::preview))
        .routes(routes!(read, update, delete))
}

/// A message template, as it is made. A tenant has one at most of a channel, a
/// language and a kind.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MessageTemplateInput)]
struct Input {
    /// Never changes. A token of one tenant may leave it out.
    tenant: Option<u64>,
    /// `email` or `sms`; the body of a webhook has a fixed form.
    #[schema(value_type = String)]
    channel: Channel,
    /// `nl` or `en`.
    #[schema(value_type = String)]
    language: Language,
    /// What the message is about: `raised`, `severity_changed`, `acknowledged`,
    /// `cleared`, `escalated`, `reminder`, `digest` or `test`.
    #[schema(value_type = String)]
    kind: TemplateKind,
    /// Of e-mail only, on one line; at most 1,024 bytes.
    subject: Option<String>,
    /// The whole text of an SMS, the plain part of an e-mail; at most 32,768 bytes.
    text: String,
    /// Of e-mail only; without it the message has its plain part only. At most 32,768
    /// bytes.
    html: Option<String>,
}

/// What is to change of a message template; what is not given stays, and `null` takes
/// the subject or the HTML away.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MessageTemplateUpdate)]
struct Update {
    /// Taken only if it is the template's tenant: that never changes.
    tenant: Option<u64>,
    #[schema(value_type = Option<String>)]
    channel: Option<Channel>,
    #[schema(value_type = Option<String>)]
    language: Option<Language>,
    #[schema(value_type = Option<String>)]
    kind: Option<TemplateKind>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    subject: Option<Option<String>>,
    text: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    html: Option<Option<String>>,
}

/// A message template.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = MessageTemplate)]
struct Shown {
    id: u64,
    /// 1 when made, then one more at each change.
    version: u64,
    /// Milliseconds since 1970, UTC.
    changed_at: i64,
    tenant: u64,
    #[schema(value_type = String)]
    channel: Channel,
    #[schema(value_type = String)]
    language: Language,
    #[schema(value_type = String)]
    kind: TemplateKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
}

impl Shown {
    fn of(id: u64, version: u64, changed_at: i64, template: &MessageTemplate) -> Self {
        let MessageTemplate { tenant, channel, language, kind, subject, text, html } =
            template.clone();
        let tenant = tenant.0;
        Self { id, version, changed_at, tenant, channel, language, kind, subject, text, html }
    }

    fn entry(entry: &Entry<MessageTemplate>) -> Self {
        Self::of(entry.id, entry.version, entry.changed_at.0, entry)
    }

    fn document(document: &Document) -> Self {
        let DocumentBody::MessageTemplate(template) = &document.body else {
            unreachable!("the directory answers with the kind that it was given")
        };
        Self::of(document.id, document.version, document.changed_at.0, template)
    }
}

/// Message templates in the order of their ids.
#[utoipa::path(
    get,
    operation_id = "list_message_templates",
    path = "/message-templates",
    tag = "message templates",
    params(TemplateFilter),
    responses(
        (status = 200, body = Page<Shown>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<TemplateFilter>,
) -> ApiResult<Json<Page<Shown>>> {
    let query = filter.query(&access)?;
    Ok(Json(page(state.store.directory().message_templates(&query), Shown::entry)))
}

/// Makes a message template, which is used from the next message on. It is a Jinja
/// template of a few filters and of what the message can say, which
/// `docs/reference/templates.md` lists; it is saved if it renders usual,
/// bare and very long facts.
#[utoipa::path(
    post,
    operation_id = "create_message_template",
    path = "/message-templates",
    tag = "message templates",
    request_body = Input,
    responses(
        (status = 201, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn create(
    State(state): State<AppState>,
    access: Access,
    Json(input): Json<Input>,
) -> ApiResult<impl IntoResponse> {
    let template = MessageTemplate {
        tenant: told::owner(&state, &access, input.tenant)?,
        channel: input.channel,
        language: input.language,
        kind: input.kind,
        subject: input.subject,
        text: input.text,
        html: input.html,
    };
    let body = DocumentBody::MessageTemplate(preview::checked(&state, template).await?);
    let made = state.store.directory().by(access.author()).create(body).await?;
    Ok((StatusCode::CREATED, etag(made.version), Json(Shown::document(&made))))
}

/// A message template.
#[utoipa::path(
    get,
    operation_id = "read_message_template",
    path = "/message-templates/{id}",
    tag = "message templates",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<u64>,
) -> ApiResult<impl IntoResponse> {
    let found = sight::message_template(state.store.directory(), &access, id)?;
    Ok((etag(found.version), Json(Shown::entry(&found))))
}

/// Changes a message template.
#[utoipa::path(
    put,
    operation_id = "update_message_template",
    path = "/message-templates/{id}",
    tag = "message templates",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    request_body = Update,
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn update(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<u64>,
    IfMatch(version): IfMatch,
    Json(input): Json<Update>,
) -> ApiResult<impl IntoResponse> {
    let directory = state.store.directory();
    let was = sight::message_template(directory, &access, id)?;
    let template = MessageTemplate {
        tenant: input.tenant.map_or(was.tenant, TenantId),
        channel: input.channel.unwrap_or(was.channel),
        language: input.language.unwrap_or(was.language),
        kind: input.kind.unwrap_or(was.kind),
        subject: input.subject.unwrap_or_else(|| was.subject.clone()),
        text: input.text.unwrap_or_else(|| was.text.clone()),
        html: input.html.unwrap_or_else(|| was.html.clone()),
    };
    // What was not given is taken from what was read: nothing may come between.
    let expected = version.unwrap_or(was.version);
    let body = DocumentBody::MessageTemplate(preview::checked(&state, template).await?);
    let changed = directory.by(access.author()).update(id, Some(expected), body).await?;
    Ok((etag(changed.version), Json(Shown::document(&changed))))
}

/// Deletes a message template; Baken's own is used again.
#[utoipa::path(
    delete,
    operation_id = "delete_message_template",
    path = "/message-templates/{id}",
    tag = "message templates",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn delete(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<u64>,
    IfMatch(version): IfMatch,
) -> ApiResult<StatusCode> {
    sight::message_template(state.store.directory(), &access, id)?;
    state.store.directory().by(access.author()).delete(id, version).await?;
    Ok(StatusCode::NO_CONTENT)
}
