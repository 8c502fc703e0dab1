//! Offline profiles: who is told that a router is offline, and how long after.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use schema::{Channel, Document, DocumentBody, Language, OfflineProfile, Scope, TenantId, UserId};
use serde::{Deserialize, Serialize};
use store::Entry;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{IfMatch, Json, Path, Query, etag};
use super::listing::{Filter, page};
use super::locations::checked_zone;
use super::paging::Page;
use super::problem::{ApiResult, Problem};
use super::state::AppState;
use super::told::ScopeShown;
use super::{sight, told};

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, update, delete))
}

/// An offline profile, as it is made. It has at least one recipient.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OfflineProfileInput)]
struct Input {
    /// Never changes. A token of one tenant may leave it out.
    tenant: Option<u64>,
    /// Unique in the tenant; 1 to 255 bytes without control characters.
    name: String,
    /// All of the tenant when not given.
    scope: Option<ScopeShown>,
    /// Seconds since the router was last connected: at least the delay of the
    /// tenant's own alarm (`settings.system_alarms.offline.delay_s`) and at most
    /// 2,592,000 (30 days).
    after_s: u32,
    /// Tells again at this interval, 60 to 2,592,000 seconds, while the router is
    /// offline. 0, which it is when not given, doesn't.
    repeat_s: Option<u32>,
    /// Ids of users of the tenant, each once.
    users: Option<Vec<u64>>,
    /// By which the users are told: `email`, `sms` and `webhook`, each once, at least
    /// one where there are users. Each user has an address for each.
    #[schema(value_type = Option<Vec<String>>)]
    channels: Option<Vec<Channel>>,
    /// Further addresses, which belong to no user; with `phones` at most 50.
    emails: Option<Vec<String>>,
    /// Further numbers in the form of E.164, such as `+31612345678`.
    phones: Option<Vec<String>>,
    /// In which the further addresses are told: `nl` or `en`, which it is when not
    /// given.
    #[schema(value_type = Option<String>)]
    language: Option<Language>,
    /// An IANA time zone in which they read times; `UTC` when not given.
    time_zone: Option<String>,
    /// Whether they are told too when the router is back; true when not given.
    when_back: Option<bool>,
    /// True when not given.
    enabled: Option<bool>,
}

/// What is to change of an offline profile; what is not given stays.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OfflineProfileUpdate)]
struct Update {
    /// Taken only if it is the profile's tenant: that never changes.
    tenant: Option<u64>,
    name: Option<String>,
    scope: Option<ScopeShown>,
    after_s: Option<u32>,
    repeat_s: Option<u32>,
    users: Option<Vec<u64>>,
    #[schema(value_type = Option<Vec<String>>)]
    channels: Option<Vec<Channel>>,
    emails: Option<Vec<String>>,
    phones: Option<Vec<String>>,
    #[schema(value_type = Option<String>)]
    language: Option<Language>,
    time_zone: Option<String>,
    when_back: Option<bool>,
    enabled: Option<bool>,
}

/// An offline profile.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = OfflineProfile)]
struct Shown {
    id: u64,
    /// 1 when made, then one more at each change.
    version: u64,
    /// Milliseconds since 1970, UTC.
    changed_at: i64,
    tenant: u64,
    name: String,
    scope: ScopeShown,
    after_s: u32,
    repeat_s: u32,
    users: Vec<u64>,
    #[schema(value_type = Vec<String>)]
    channels: Vec<Channel>,
    emails: Vec<String>,
    phones: Vec<String>,
    #[schema(value_type = String)]
    language: Language,
    time_zone: String,
    when_back: bool,
    enabled: bool,
}

impl Shown {
    fn of(id: u64, version: u64, changed_at: i64, profile: &OfflineProfile) -> Self {
        Self {
            id,
            version,
            changed_at,
            tenant: profile.tenant.0,
            name: profile.name.clone(),
            scope: (&profile.scope).into(),
            after_s: profile.after_s,
            repeat_s: profile.repeat_s,
            users: profile.users.iter().map(|user| user.0).collect(),
            channels: profile.channels.clone(),
            emails: profile.emails.clone(),
            phones: profile.phones.clone(),
            language: profile.language,
            time_zone: profile.time_zone.clone(),
            when_back: profile.when_back,
            enabled: profile.enabled,
        }
    }

    fn entry(entry: &Entry<OfflineProfile>) -> Self {
        Self::of(entry.id, entry.version, entry.changed_at.0, entry)
    }

    fn document(document: &Document) -> Self {
        let DocumentBody::OfflineProfile(profile) = &document.body else {
            unreachable!("the directory answers with the kind that it was given")
        };
        Self::of(document.id, document.version, document.changed_at.0, profile)
    }
}

fn ids(users: Vec<u64>) -> Vec<UserId> {
    users.into_iter().map(UserId).collect()
}

/// Offline profiles in the order of their ids.
#[utoipa::path(
    get,
    operation_id = "list_offline_profiles",
    path = "/offline-profiles",
    tag = "offline profiles",
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
    Ok(Json(page(state.store.directory().offline_profiles(&query), Shown::entry)))
}

/// Makes an offline profile; a tenant has at most 200. One whose scope names a
/// single location goes with it when that is deleted.
#[utoipa::path(
    post,
    operation_id = "create_offline_profile",
    path = "/offline-profiles",
    tag = "offline profiles",
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
    let profile = OfflineProfile {
        tenant: told::owner(&state, &access, input.tenant)?,
        name: input.name,
        scope: input.scope.map(Scope::from).unwrap_or_default(),
        after_s: input.after_s,
        repeat_s: input.repeat_s.unwrap_or(0),
        users: ids(input.users.unwrap_or_default()),
        channels: input.channels.unwrap_or_default(),
        emails: input.emails.unwrap_or_default(),
        phones: input.phones.unwrap_or_default(),
        language: input.language.unwrap_or_default(),
        time_zone: checked_zone(input.time_zone.as_deref().unwrap_or("UTC"))?,
        when_back: input.when_back.unwrap_or(true),
        enabled: input.enabled.unwrap_or(true),
    };
    let body = DocumentBody::OfflineProfile(profile);
    let made = state.store.directory().by(access.author()).create(body).await?;
    Ok((StatusCode::CREATED, etag(made.version), Json(Shown::document(&made))))
}

/// An offline profile.
#[utoipa::path(
    get,
    operation_id = "read_offline_profile",
    path = "/offline-profiles/{id}",
    tag = "offline profiles",
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
    let found = sight::offline_profile(state.store.directory(), &access, id)?;
    Ok((etag(found.version), Json(Shown::entry(&found))))
}

/// Changes an offline profile.
#[utoipa::path(
    put,
    operation_id = "update_offline_profile",
    path = "/offline-profiles/{id}",
    tag = "offline profiles",
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
    Path(id): Path<u64>,
    IfMatch(version): IfMatch,
    Json(input): Json<Update>,
) -> ApiResult<impl IntoResponse> {
    let directory = state.store.directory();
    let was = sight::offline_profile(directory, &access, id)?;
    let profile = OfflineProfile {
        tenant: input.tenant.map_or(was.tenant, TenantId),
        name: input.name.unwrap_or_else(|| was.name.clone()),
        scope: input.scope.map_or_else(|| was.scope.clone(), Scope::from),
        after_s: input.after_s.unwrap_or(was.after_s),
        repeat_s: input.repeat_s.unwrap_or(was.repeat_s),
        users: input.users.map_or_else(|| was.users.clone(), ids),
        channels: input.channels.unwrap_or_else(|| was.channels.clone()),
        emails: input.emails.unwrap_or_else(|| was.emails.clone()),
        phones: input.phones.unwrap_or_else(|| was.phones.clone()),
        language: input.language.unwrap_or(was.language),
        time_zone: match &input.time_zone {
            Some(name) => checked_zone(name)?,
            None => was.time_zone.clone(),
        },
        when_back: input.when_back.unwrap_or(was.when_back),
        enabled: input.enabled.unwrap_or(was.enabled),
    };
    // What was not given is taken from what was read: nothing may come between.
    let expected = version.unwrap_or(was.version);
    let body = DocumentBody::OfflineProfile(profile);
    let changed = directory.by(access.author()).update(id, Some(expected), body).await?;
    Ok((etag(changed.version), Json(Shown::document(&changed))))
}

/// Deletes an offline profile.
#[utoipa::path(
    delete,
    operation_id = "delete_offline_profile",
    path = "/offline-profiles/{id}",
    tag = "offline profiles",
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
    sight::offline_profile(state.store.directory(), &access, id)?;
    state.store.directory().by(access.author()).delete(id, version).await?;
    Ok(StatusCode::NO_CONTENT)
}
