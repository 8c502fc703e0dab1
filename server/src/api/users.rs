//! Users: people, and tools behind webhooks, that are told of alarms. A secret of a
//! webhook is shown once, when it is made here, and never again.

mod webhook;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use schema::{
    Channel, ChannelLimits, Delivery, Document, DocumentBody, Language, QuietHours, Severity, User,
    UserId,
};
use serde::{Deserialize, Serialize};
use store::Entry;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{IfMatch, Json, Path, Query, etag, given};
use super::listing::{Filter, page};
use super::locations::checked_zone;
use super::paging::Page;
use super::problem::{ApiResult, Problem};
use super::state::AppState;
use super::{sight, told};

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, update, delete))
}

/// A user, as it is made.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserInput)]
struct Input {
    /// Never changes. A token of one tenant may leave it out.
    tenant: Option<u64>,
    /// Unique in the tenant; 1 to 255 bytes without control characters.
    name: String,
    email: Option<String>,
    /// In the form of E.164, such as `+31612345678`.
    phone: Option<String>,
    /// Where a tool takes messages.
    webhook: Option<webhook::Input>,
    /// `nl` or `en`, which it is when not given.
    #[schema(value_type = Option<String>)]
    language: Option<Language>,
    /// An IANA time zone, such as `Europe/Amsterdam`; `UTC` when not given. In it
    /// times are written and quiet hours are meant.
    time_zone: Option<String>,
    /// Hours in which little is told; none when not given, and at most 20.
    quiet_hours: Option<Vec<QuietHoursShown>>,
    limits: Option<LimitsInput>,
    /// One that is not enabled is told nothing; true when not given.
    enabled: Option<bool>,
}

/// What is to change of a user; what is not given stays, and `null` takes an
/// address away.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserUpdate)]
struct Update {
    /// Taken only if it is the user's tenant: that never changes.
    tenant: Option<u64>,
    name: Option<String>,
    /// Refused as long as a subscription or an offline profile needs an address that
    /// is taken away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    email: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    phone: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<webhook::Input>)]
    webhook: Option<Option<webhook::Input>>,
    #[schema(value_type = Option<String>)]
    language: Option<Language>,
    time_zone: Option<String>,
    quiet_hours: Option<Vec<QuietHoursShown>>,
    limits: Option<LimitsInput>,
    enabled: Option<bool>,
}

/// Hours in which nothing is told but what is bad enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QuietHours)]
struct QuietHoursShown {
    /// `mon` to `sun`; all where empty. Hours that wrap over midnight belong to the
    /// day on which they start.
    #[serde(default)]
    days: Vec<String>,
    /// `HH:MM`, inclusive, in the user's own time zone.
    from: String,
    /// `HH:MM`, exclusive; at or before `from` it is the next day's.
    to: String,
    /// Alarms from this severity up come through all the same; `critical` when not
    /// given.
    #[serde(default = "critical")]
    #[schema(value_type = String)]
    severity_from: Severity,
}

fn critical() -> Severity {
    Severity::Critical
}

/// How often somebody is told by each channel. What is not given takes its default
/// when the user is made, and stays as it is when the user is changed.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChannelLimitsInput)]
struct LimitsInput {
    email: Option<DeliveryInput>,
    sms: Option<DeliveryInput>,
    webhook: Option<DeliveryInput>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeliveryInput)]
struct DeliveryInput {
    /// Seconds, at most 86,400.
    group_s: Option<u32>,
    /// 1 to 3,600.
    max_per_hour: Option<u32>,
}

/// How often somebody is told by each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ChannelLimits)]
struct LimitsShown {
    email: DeliveryShown,
    sms: DeliveryShown,
    webhook: DeliveryShown,
}

/// How often somebody is told by one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Delivery)]
struct DeliveryShown {
    /// What comes within this time, in seconds, behind a message is told together at
    /// its end; 0 tells all at once. What is worse than all that was told within it
    /// doesn't wait.
    group_s: u32,
    /// The most messages within an hour; what comes past it waits and is told
    /// together.
    max_per_hour: u32,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = User)]
struct Shown {
    id: u64,
    /// 1 when made, then one more at each change.
    version: u64,
    /// Milliseconds since 1970, UTC.
    changed_at: i64,
    tenant: u64,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// In the form of E.164.
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<webhook::Shown>,
    #[schema(value_type = String)]
    language: Language,
    time_zone: String,
    quiet_hours: Vec<QuietHoursShown>,
    limits: LimitsShown,
    enabled: bool,
}

impl DeliveryInput {
    fn over(self, was: Delivery) -> Delivery {
        Delivery {
            group_s: self.group_s.unwrap_or(was.group_s),
            max_per_hour: self.max_per_hour.unwrap_or(was.max_per_hour),
        }
    }
}

impl LimitsInput {
    fn over(self, was: ChannelLimits) -> ChannelLimits {
        ChannelLimits {
            email: self.email.unwrap_or_default().over(was.email),
            sms: self.sms.unwrap_or_default().over(was.sms),
            webhook: self.webhook.unwrap_or_default().over(was.webhook),
        }
    }
}

impl LimitsShown {
    fn of(limits: ChannelLimits) -> Self {
        let of = |channel| {
            let Delivery { group_s, max_per_hour } = limits.of(channel);
            DeliveryShown { group_s, max_per_hour }
        };
        Self { email: of(Channel::Email), sms: of(Channel::Sms), webhook: of(Channel::Webhook) }
    }
}

impl From<QuietHoursShown> for QuietHours {
    fn from(shown: QuietHoursShown) -> Self {
        let QuietHoursShown { days, from, to, severity_from } = shown;
        Self { days, from, to, severity_from }
    }
}

impl From<&QuietHours> for QuietHoursShown {
    fn from(hours: &QuietHours) -> Self {
        let QuietHours { days, from, to, severity_from } = hours.clone();
        Self { days, from, to, severity_from }
    }
}

fn quiet_hours(shown: Vec<QuietHoursShown>) -> Vec<QuietHours> {
    shown.into_iter().map(QuietHours::from).collect()
}

impl Shown {
    fn of(id: u64, version: u64, changed_at: i64, user: &User) -> Self {
        Self {
            id,
            version,
            changed_at,
            tenant: user.tenant.0,
            name: user.name.clone(),
            email: user.email.clone(),
            phone: user.phone.clone(),
            webhook: user.webhook.as_ref().map(webhook::Shown::of),
            language: user.language,
            time_zone: user.time_zone.clone(),
            quiet_hours: user.quiet_hours.iter().map(QuietHoursShown::from).collect(),
            limits: LimitsShown::of(user.limits),
            enabled: user.enabled,
        }
    }

    fn entry(entry: &Entry<User>) -> Self {
        Self::of(entry.id, entry.version, entry.changed_at.0, entry)
    }

    /// With the secret of the webhook, where it was made here.
    fn made(document: &Document, secret: Option<String>) -> Self {
        let DocumentBody::User(user) = &document.body else {
            unreachable!("the directory answers with the kind that it was given")
        };
        let mut shown = Self::of(document.id, document.version, document.changed_at.0, user);
        if let Some(webhook) = &mut shown.webhook {
            webhook.secret = secret;
        }
        shown
    }
}

/// Users in the order of their ids.
#[utoipa::path(
    get,
    operation_id = "list_users",
    path = "/users",
    tag = "users",
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
    let query = filter.query(&access)?;
    Ok(Json(page(state.store.directory().users(&query), Shown::entry)))
}

/// Makes a user; a tenant has at most 1,000. The secret of a webhook that is not
/// given is made here and shown in this answer only.
#[utoipa::path(
    post,
    operation_id = "create_user",
    path = "/users",
    tag = "users",
    request_body = Input,
    responses(
        (status = 201, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn create(
    State(state): State<AppState>,
    access: Access,
    Json(input): Json<Input>,
) -> ApiResult<impl IntoResponse> {
    let tenant = told::owner(&state, &access, input.tenant)?;
    let (webhook, secret) = webhook::taken(&state, tenant, None, input.webhook)?;
    let user = User {
        tenant,
        name: input.name,
        email: input.email,
        phone: input.phone,
        webhook,
        language: input.language.unwrap_or_default(),
        time_zone: checked_zone(input.time_zone.as_deref().unwrap_or("UTC"))?,
        quiet_hours: quiet_hours(input.quiet_hours.unwrap_or_default()),
        limits: input.limits.unwrap_or_default().over(ChannelLimits::default()),
        enabled: input.enabled.unwrap_or(true),
    };
    let directory = state.store.directory();
    let made = directory.by(access.author()).create(DocumentBody::User(user)).await?;
    Ok((StatusCode::CREATED, etag(made.version), Json(Shown::made(&made, secret))))
}

/// A user.
#[utoipa::path(
    get,
    operation_id = "read_user",
    path = "/users/{id}",
    tag = "users",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<UserId>,
) -> ApiResult<impl IntoResponse> {
    let found = sight::user(state.store.directory(), &access, id)?;
    Ok((etag(found.version), Json(Shown::entry(&found))))
}

/// Changes a user.
#[utoipa::path(
    put,
    operation_id = "update_user",
    path = "/users/{id}",
    tag = "users",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    request_body = Update,
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn update(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<UserId>,
    IfMatch(version): IfMatch,
    Json(input): Json<Update>,
) -> ApiResult<impl IntoResponse> {
    let directory = state.store.directory();
    let was = sight::user(directory, &access, id)?;
    let (webhook, secret) = match input.webhook {
        Some(input) => webhook::taken(&state, was.tenant, was.webhook.as_ref(), input)?,
        None => (was.webhook.clone(), None),
    };
    let user = User {
        tenant: input.tenant.map_or(was.tenant, schema::TenantId),
        name: input.name.unwrap_or_else(|| was.name.clone()),
        email: input.email.unwrap_or_else(|| was.email.clone()),
        phone: input.phone.unwrap_or_else(|| was.phone.clone()),
        webhook,
        language: input.language.unwrap_or(was.language),
        time_zone: match &input.time_zone {
            Some(name) => checked_zone(name)?,
            None => was.time_zone.clone(),
        },
        quiet_hours: input.quiet_hours.map_or_else(|| was.quiet_hours.clone(), quiet_hours),
        limits: input.limits.unwrap_or_default().over(was.limits),
        enabled: input.enabled.unwrap_or(was.enabled),
    };
    // What was not given is taken from what was read: nothing may come between.
    let expected = version.unwrap_or(was.version);
    let body = DocumentBody::User(user);
    let changed = directory.by(access.author()).update(id.0, Some(expected), body).await?;
    Ok((etag(changed.version), Json(Shown::made(&changed, secret))))
}

/// Deletes a user and their subscriptions, and takes them out of offline profiles.
/// Refused as long as they are the last recipient of one.
#[utoipa::path(
    delete,
    operation_id = "delete_user",
    path = "/users/{id}",
    tag = "users",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn delete(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<UserId>,
    IfMatch(version): IfMatch,
) -> ApiResult<StatusCode> {
    sight::user(state.store.directory(), &access, id)?;
    state.store.directory().by(access.author()).delete(id.0, version).await?;
    Ok(StatusCode::NO_CONTENT)
}
