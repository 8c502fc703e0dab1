//! Subscriptions: which alarms a user is told of.

mod rules;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use schema::{Channel, Document, DocumentBody, Moment, Scope, Severity, Subscription, UserId};
use serde::{Deserialize, Serialize};
use store::Entry;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::rules::{RuleShown, checked_rules};
use super::auth::Access;
use super::extract::{IfMatch, Json, Path, Query, etag};
use super::listing::{SubscriptionFilter, page};
use super::paging::Page;
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;
use super::told::ScopeShown;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, update, delete))
}

/// A subscription, as it is made. Its tenant is the user's.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SubscriptionInput)]
struct Input {
    /// Never changes.
    user: u64,
    /// All of the tenant when not given.
    scope: Option<ScopeShown>,
    /// `email`, `sms` and `webhook`, at least one and each once; the user has an
    /// address for each.
    #[schema(value_type = Vec<String>)]
    channels: Vec<Channel>,
    /// All alarms when not given or empty; at most 1,000.
    rules: Option<Vec<RuleShown>>,
    /// `critical`, `major`, `minor`, `warning` or `indeterminate`, which stands for
    /// all and is taken when not given.
    #[schema(value_type = Option<String>)]
    severity_from: Option<Severity>,
    /// `raised`, `severity_changed`, `acknowledged` and `cleared`, at least one and
    /// each once.
    #[schema(value_type = Vec<String>)]
    on: Vec<Moment>,
    /// Seconds, 60 to 2,592,000 (30 days), that an alarm must be active and
    /// unacknowledged before the user is told that it was raised: an escalation,
    /// for which `raised` must be in `on`. 0, which it is when not given, tells at
    /// once.
    unacknowledged_for_s: Option<u32>,
    /// Tells again at this interval, 60 to 2,592,000 seconds, while the alarm is
    /// active and unacknowledged. 0, which it is when not given, doesn't.
    repeat_s: Option<u32>,
    /// True when not given.
    enabled: Option<bool>,
}

/// What is to change of a subscription; what is not given stays.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SubscriptionUpdate)]
struct Update {
    /// Taken only if it is the subscription's user: that never changes.
    user: Option<u64>,
    scope: Option<ScopeShown>,
    #[schema(value_type = Option<Vec<String>>)]
    channels: Option<Vec<Channel>>,
    rules: Option<Vec<RuleShown>>,
    #[schema(value_type = Option<String>)]
    severity_from: Option<Severity>,
    #[schema(value_type = Option<Vec<String>>)]
    on: Option<Vec<Moment>>,
    unacknowledged_for_s: Option<u32>,
    repeat_s: Option<u32>,
    enabled: Option<bool>,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Subscription)]
struct Shown {
    id: u64,
    /// 1 when made, then one more at each change.
    version: u64,
    /// Milliseconds since 1970, UTC.
    changed_at: i64,
    tenant: u64,
    user: u64,
    scope: ScopeShown,
    #[schema(value_type = Vec<String>)]
    channels: Vec<Channel>,
    /// All alarms where it is empty.
    rules: Vec<RuleShown>,
    #[schema(value_type = String)]
    severity_from: Severity,
    #[schema(value_type = Vec<String>)]
    on: Vec<Moment>,
    unacknowledged_for_s: u32,
    repeat_s: u32,
    enabled: bool,
}

impl Shown {
    fn of(id: u64, version: u64, changed_at: i64, subscription: &Subscription) -> Self {
        Self {
            id,
            version,
            changed_at,
            tenant: subscription.tenant.0,
            user: subscription.user.0,
            scope: (&subscription.scope).into(),
            channels: subscription.channels.clone(),
            rules: subscription.rules.iter().map(RuleShown::from).collect(),
            severity_from: subscription.severity_from,
            on: subscription.on.clone(),
            unacknowledged_for_s: subscription.unacknowledged_for_s,
            repeat_s: subscription.repeat_s,
            enabled: subscription.enabled,
        }
    }

    fn entry(entry: &Entry<Subscription>) -> Self {
        Self::of(entry.id, entry.version, entry.changed_at.0, entry)
    }

    fn document(document: &Document) -> Self {
        let DocumentBody::Subscription(subscription) = &document.body else {
            unreachable!("the directory answers with the kind that it was given")
        };
        Self::of(document.id, document.version, document.changed_at.0, subscription)
    }
}

/// Subscriptions in the order of their ids.
#[utoipa::path(
    get,
    operation_id = "list_subscriptions",
    path = "/subscriptions",
    tag = "subscriptions",
    params(SubscriptionFilter),
    responses(
        (status = 200, body = Page<Shown>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<SubscriptionFilter>,
) -> ApiResult<Json<Page<Shown>>> {
    let query = filter.query(&access)?;
    Ok(Json(page(state.store.directory().subscriptions(&query), Shown::entry)))
}

/// Makes a subscription of a user; a tenant has at most 5,000. One whose scope names
/// a single location goes with it when that is deleted.
#[utoipa::path(
    post,
    operation_id = "create_subscription",
    path = "/subscriptions",
    tag = "subscriptions",
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
    let directory = state.store.directory();
    let named = |problem: Problem| problem.with_field("user");
    let user = UserId(input.user);
    let tenant = sight::user(directory, &access, user).map_err(named)?.tenant;
    let subscription = Subscription {
        tenant,
        user,
        scope: input.scope.map(Scope::from).unwrap_or_default(),
        channels: input.channels,
        rules: checked_rules(&state, tenant, input.rules.unwrap_or_default()).await?,
        severity_from: input.severity_from.unwrap_or(Severity::Indeterminate),
        on: input.on,
        unacknowledged_for_s: input.unacknowledged_for_s.unwrap_or(0),
        repeat_s: input.repeat_s.unwrap_or(0),
        enabled: input.enabled.unwrap_or(true),
    };
    let body = DocumentBody::Subscription(subscription);
    let made = directory.by(access.author()).create(body).await?;
    Ok((StatusCode::CREATED, etag(made.version), Json(Shown::document(&made))))
}

/// A subscription.
#[utoipa::path(
    get,
    operation_id = "read_subscription",
    path = "/subscriptions/{id}",
    tag = "subscriptions",
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
    let found = sight::subscription(state.store.directory(), &access, id)?;
    Ok((etag(found.version), Json(Shown::entry(&found))))
}

/// Changes a subscription. What was to be told already is told as it was.
#[utoipa::path(
    put,
    operation_id = "update_subscription",
    path = "/subscriptions/{id}",
    tag = "subscriptions",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    request_body = Update,
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
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
    let was = sight::subscription(directory, &access, id)?;
    let subscription = Subscription {
        tenant: was.tenant,
        user: input.user.map_or(was.user, UserId),
        scope: input.scope.map_or_else(|| was.scope.clone(), Scope::from),
        channels: input.channels.unwrap_or_else(|| was.channels.clone()),
        rules: match input.rules {
            Some(rules) => checked_rules(&state, was.tenant, rules).await?,
            None => was.rules.clone(),
        },
        severity_from: input.severity_from.unwrap_or(was.severity_from),
        on: input.on.unwrap_or_else(|| was.on.clone()),
        unacknowledged_for_s: input.unacknowledged_for_s.unwrap_or(was.unacknowledged_for_s),
        repeat_s: input.repeat_s.unwrap_or(was.repeat_s),
        enabled: input.enabled.unwrap_or(was.enabled),
    };
    // What was not given is taken from what was read: nothing may come between.
    let expected = version.unwrap_or(was.version);
    let body = DocumentBody::Subscription(subscription);
    let changed = directory.by(access.author()).update(id, Some(expected), body).await?;
    Ok((etag(changed.version), Json(Shown::document(&changed))))
}

/// Deletes a subscription.
#[utoipa::path(
    delete,
    operation_id = "delete_subscription",
    path = "/subscriptions/{id}",
    tag = "subscriptions",
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
    sight::subscription(state.store.directory(), &access, id)?;
    state.store.directory().by(access.author()).delete(id, version).await?;
    Ok(StatusCode::NO_CONTENT)
}
