//! Alarm profiles: versioned documents in TOML, checked before they are saved.
//! A save is answered once every partition evaluates by the new version.

mod keys;
mod nearest;

use alarms::{Report, SavedProfile};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use schema::{ProfileId, TenantId};
use serde::{Deserialize, Serialize};
use store::alarms::ProfileVersion;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::nearest::{Asking, Suggestions};
use super::auth::{Access, Reader};
use super::extract::{IfMatch, Json, Path, Query, etag};
use super::paging::{Page, Paging};
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;

/// The media type of a profile's text.
const TOML: &str = "application/toml";

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(check))
        .routes(routes!(read, update, delete))
        .routes(routes!(export))
        .routes(routes!(versions))
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Items of a page, 1 to 1000; 100 when not given.
    limit: Option<u32>,
    /// What `next` of the page before said.
    after: Option<String>,
    tenant: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Owner {
    /// Whose the profile is; a tenant's own token may leave it out.
    tenant: Option<u64>,
}

/// Something wrong or doubtful in a profile.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ProfileProblem)]
struct ProblemShown {
    /// Its path, such as `rules[0].raise.critical.when.operator`.
    field: String,
    /// As it was written.
    value: String,
    message: String,
}

/// What was found in a profile.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ProfileReport)]
struct ReportShown {
    errors: Vec<ProblemShown>,
    warnings: Vec<ProblemShown>,
}

/// A version of an alarm profile.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AlarmProfile)]
struct Shown {
    id: u64,
    tenant: u64,
    name: String,
    /// 1 when made, then one more at each change.
    version: u64,
    /// Milliseconds since 1970.
    changed_at: i64,
    changed_by: String,
    /// TOML text as it was written; empty for the version that deleted it.
    source: String,
    /// Baken itself writes it, from the tenant's settings; it can be neither
    /// changed nor deleted here.
    system: bool,
    /// What is doubtful, after a save.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<ProblemShown>,
}

fn problems(problems: Vec<alarms::Problem>) -> Vec<ProblemShown> {
    let show = |problem: alarms::Problem| ProblemShown {
        field: problem.field,
        value: problem.value,
        message: problem.message,
    };
    problems.into_iter().map(show).collect()
}

impl Shown {
    fn of(profile: ProfileVersion) -> Self {
        Self {
            id: profile.id.0,
            tenant: profile.tenant.0,
            name: profile.name,
            version: profile.version,
            changed_at: profile.changed_at.0,
            changed_by: profile.changed_by,
            source: profile.source,
            system: profile.system,
            warnings: Vec::new(),
        }
    }

    fn saved(saved: SavedProfile) -> Self {
        Self { warnings: problems(saved.report.warnings), ..Self::of(saved.profile) }
    }
}

/// All that there is to say of a profile's text: what the core says, and where
/// that is no error and it is known whose it would be, what history and
/// directory say. It ends soon after its caller has gone.
async fn examine(
    state: &AppState,
    access: &Access,
    tenant: Option<TenantId>,
    source: String,
) -> ApiResult<Report> {
    let turn = state.work.checks.take(tenant.or(access.tenant())).await?;
    let (directory, history) = (state.store.directory().clone(), state.store.history().clone());
    let asking = Asking::default();
    let gone = asking.gone();
    let look = move || {
        let _turn = turn;
        let profile = match alarms::parse_toml(&source) {
            Ok(profile) => profile,
            Err(report) => return report,
        };
        let mut report = alarms::check(&profile);
        if let (Some(tenant), true) = (tenant, report.errors.is_empty()) {
            let mut near = Suggestions::new(gone);
            let groups = keys::empty_groups(&directory, tenant, &profile, &mut near);
            let keys = keys::unknown(&directory, &history, tenant, &profile, &mut near);
            report.warnings.extend(groups.into_iter().chain(keys));
        }
        report
    };
    let report = tokio::task::spawn_blocking(look).await;
    drop(asking);
    report.map_err(|error| Problem::internal(&error))
}

async fn find(state: &AppState, access: &Access, id: ProfileId) -> ApiResult<ProfileVersion> {
    let found = state.store.alarms().profile(id).await?;
    let seen = found.filter(|profile| access.sees(profile.tenant));
    seen.ok_or_else(|| Problem::not_found("alarm profile", id))
}

/// Alarm profiles in the order of their ids.
#[utoipa::path(
    get,
    operation_id = "list_alarm_profiles",
    path = "/alarm-profiles",
    tag = "alarm profiles",
    params(Filter),
    responses(
        (status = 200, body = Page<Shown>),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<Filter>,
) -> ApiResult<Json<Page<Shown>>> {
    let paging = Paging::by_id(filter.limit, filter.after.as_deref())?;
    let tenant = access.filter(filter.tenant.map(TenantId))?;
    let after = ProfileId(paging.after.unwrap_or(0));
    let found = state.store.alarms().profiles(tenant, after, paging.fetch_limit()).await?;
    Ok(Json(Page::of(found, paging, |profile| profile.id.to_string()).map(Shown::of)))
}

/// Makes an alarm profile from TOML text. Answered once it is in force. It is for
/// all devices of the tenant, or for those that are within all lists of its
/// `applies_to`: `locations` (ids), `location_groups` (names, at most 256),
/// `device_types` (names) and `devices` (ids). A rule's `max_active` holds for the
/// tenant. A profile has at most 1,000 rules and 64 patterns of `matches`, which
/// may take 256 KiB each and 2 MiB together when compiled; a tenant has at most
/// 200 profiles with 10,000 rules in all.
#[utoipa::path(
    post,
    operation_id = "create_alarm_profile",
    path = "/alarm-profiles",
    tag = "alarm profiles",
    params(Owner),
    request_body(content = String, content_type = "application/toml"),
    responses(
        (status = 201, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn create(
    State(state): State<AppState>,
    access: Access,
    Query(owner): Query<Owner>,
    source: String,
) -> ApiResult<impl IntoResponse> {
    let tenant = access
        .filter(owner.tenant.map(TenantId))?
        .ok_or_else(|| Problem::invalid("tenant", "Say whose the profile is."))?;
    sight::tenant(state.store.directory(), &access, tenant)?;
    let by = access.author();
    let report = examine(&state, &access, Some(tenant), source.clone()).await?;
    let commands = state.alarms.commands();
    let mut saved = commands.save_profile(tenant, None, None, source, &by).await?;
    saved.report = report;
    Ok((StatusCode::CREATED, etag(saved.profile.version), Json(Shown::saved(saved))))
}

/// Checks a profile's TOML text without saving it; where it is known whose it
/// would be, also against the keys that the tenant's devices have sent and the
/// groups that its locations are in, unless it has errors. It changes nothing,
/// and a token that only reads may ask. For 20 unknown names the nearest known
/// one is told.
#[utoipa::path(
    post,
    operation_id = "check_alarm_profile",
    path = "/alarm-profiles/check",
    tag = "alarm profiles",
    params(Owner),
    request_body(content = String, content_type = "application/toml"),
    responses(
        (status = 200, body = ReportShown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json",
            description = "8 checks of the tenant, or 64 in all, run or wait"),
    )
)]
async fn check(
    State(state): State<AppState>,
    Reader(access): Reader,
    Query(owner): Query<Owner>,
    source: String,
) -> ApiResult<Json<ReportShown>> {
    let tenant = access.filter(owner.tenant.map(TenantId))?;
    if let Some(tenant) = tenant {
        sight::tenant(state.store.directory(), &access, tenant)?;
    }
    let Report { errors, warnings } = examine(&state, &access, tenant, source).await?;
    Ok(Json(ReportShown { errors: problems(errors), warnings: problems(warnings) }))
}

/// The version of a profile that is in force.
#[utoipa::path(
    get,
    operation_id = "read_alarm_profile",
    path = "/alarm-profiles/{id}",
    tag = "alarm profiles",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<ProfileId>,
) -> ApiResult<impl IntoResponse> {
    let found = find(&state, &access, id).await?;
    Ok((etag(found.version), Json(Shown::of(found))))
}

/// Changes a profile. Alarms of rules that are gone are cleared; those of
/// changed rules are evaluated again. Answered once it is in force.
#[utoipa::path(
    put,
    operation_id = "update_alarm_profile",
    path = "/alarm-profiles/{id}",
    tag = "alarm profiles",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    request_body(content = String, content_type = "application/toml"),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn update(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<ProfileId>,
    IfMatch(version): IfMatch,
    source: String,
) -> ApiResult<impl IntoResponse> {
    let was = find(&state, &access, id).await?;
    let by = access.author();
    let report = examine(&state, &access, Some(was.tenant), source.clone()).await?;
    let commands = state.alarms.commands();
    let mut saved = commands.save_profile(was.tenant, Some(id), version, source, &by).await?;
    saved.report = report;
    Ok((etag(saved.profile.version), Json(Shown::saved(saved))))
}

/// Deletes a profile; its alarms are cleared.
#[utoipa::path(
    delete,
    operation_id = "delete_alarm_profile",
    path = "/alarm-profiles/{id}",
    tag = "alarm profiles",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn delete(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<ProfileId>,
    IfMatch(version): IfMatch,
) -> ApiResult<StatusCode> {
    let was = find(&state, &access, id).await?;
    let by = access.author();
    state.alarms.commands().delete_profile(was.tenant, id, version, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The TOML text of a profile, as it was written.
#[utoipa::path(
    get,
    operation_id = "export_alarm_profile",
    path = "/alarm-profiles/{id}/toml",
    tag = "alarm profiles",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = String, content_type = "application/toml"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn export(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<ProfileId>,
) -> ApiResult<impl IntoResponse> {
    let found = find(&state, &access, id).await?;
    Ok((etag(found.version), [(header::CONTENT_TYPE, TOML)], found.source))
}

/// All versions of a profile, the newest first; of a deleted one too.
#[utoipa::path(
    get,
    operation_id = "list_alarm_profile_versions",
    path = "/alarm-profiles/{id}/versions",
    tag = "alarm profiles",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Page<Shown>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn versions(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<ProfileId>,
) -> ApiResult<Json<Page<Shown>>> {
    let mut found = state.store.alarms().profile_versions(id).await?;
    found.retain(|version| access.sees(version.tenant));
    if found.is_empty() {
        return Err(Problem::not_found("alarm profile", id));
    }
    Ok(Json(Page { items: found.into_iter().map(Shown::of).collect(), next: None }))
}
