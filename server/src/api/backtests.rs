//! Backtests: an alarm profile over stored history, before it is saved or after.
//! One is started, asked after until it has its result, and forgotten by and by.
//!
//! It changes nothing, so a token that only reads may start one.

mod shown;

use std::sync::Arc;

use alarms::backtest::{
    BacktestError, BacktestQuery, DRAFT, Job, JobId, JobStatus, Render, StartError,
};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use schema::{AlarmProfile, LocationId, ProfileId, TenantId, TimestampMs};
use serde::{Deserialize, Serialize};
use store::Directory;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Access, Reader};
use super::extract::{Json, Path};
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;
use crate::clock::now;

pub use shown::{
    AlarmShown, ChangeShown, DifferenceShown, ProgressShown, ResultShown, RuleShown, SeverityCount,
    SpanShown, TotalsShown, TransitionShown,
};

/// The most locations that one backtest names.
const MAX_LOCATIONS: usize = 1_000;

/// Seconds after which a place for a backtest may be free.
const RETRY_AFTER_S: u32 = 5;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(read, remove))
}

/// What is to be tried.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BacktestInput)]
struct Input {
    /// Whose history; a tenant's own token may leave it out.
    tenant: Option<u64>,
    profile: ProfileInput,
    /// Milliseconds since 1970, inclusive.
    from: i64,
    /// Milliseconds since 1970, exclusive; now where it is later than that.
    to: i64,
    /// All of the tenant's where there are none, 1,000 at most.
    locations: Option<Vec<u64>>,
    /// How long before `from` readings are evaluated; by default the longest
    /// time in the profile and at least an hour, 14 days at most.
    warm_up_ms: Option<i64>,
}

/// Either `toml`, with or without `compare_with`, or `id`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = BacktestProfile)]
struct ProfileInput {
    /// The text of a profile that need not be saved.
    toml: Option<String>,
    /// The saved profile whose alarms a text is compared with; without it, the
    /// tenant's profile of the same name, if there is one.
    compare_with: Option<u64>,
    /// A saved profile.
    id: Option<u64>,
    /// With `id`: another version than the one in force.
    version: Option<u64>,
}

/// A backtest as it stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Backtest)]
pub struct Shown {
    pub id: u64,
    pub tenant: u64,
    /// `running`, `done`, `failed` or `cancelled`.
    pub status: String,
    /// Milliseconds since 1970.
    pub started_at: i64,
    pub progress: ProgressShown,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultShown>,
}

impl Shown {
    fn of(job: &Job, status: &str) -> Self {
        Self {
            id: job.id.0,
            tenant: job.tenant.0,
            status: status.to_owned(),
            started_at: job.started_at.0,
            progress: job.progress.into(),
            error: None,
            result: None,
        }
    }
}

/// Makes the answer of a backtest that is done, which each who asks is given.
pub(crate) fn render(directory: Directory) -> Render {
    Arc::new(move |job, outcome| {
        let result = Some(ResultShown::of(outcome, &directory));
        let shown = Shown { result, ..Shown::of(job, "done") };
        let answer = serde_json::to_vec(&shown);
        answer.expect("a result is text keys and plain values").into()
    })
}

fn answer(job: &Job) -> Response {
    let shown = match &job.status {
        JobStatus::Done(answer) => {
            let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            return (headers, answer.clone()).into_response();
        }
        JobStatus::Running => Shown::of(job, "running"),
        JobStatus::Failed(error) => Shown { error: Some(told(error)), ..Shown::of(job, "failed") },
        JobStatus::Cancelled => Shown::of(job, "cancelled"),
    };
    Json(shown).into_response()
}

/// What a client is told: files and statements stay in the log.
fn told(error: &BacktestError) -> String {
    match error {
        BacktestError::History(_) | BacktestError::Attributes(_) | BacktestError::Alarms(_) => {
            "The stored readings or alarms could not be read; the server's log says why.".to_owned()
        }
        other => format!("{other}."),
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        Self::too_many(format!("{error}."), RETRY_AFTER_S)
    }
}

/// A job in the sight of who asks.
fn find(state: &AppState, access: &Access, id: u64) -> ApiResult<Job> {
    let found = state.backtests.job(JobId(id)).filter(|job| access.sees(job.tenant));
    found.ok_or_else(|| Problem::not_found("backtest", id))
}

/// Starts a backtest. It changes nothing, and a token that only reads may start
/// one. At most 2 of a tenant run at once; the last 8 of a tenant are kept, for
/// an hour and up to 64 MiB of results.
#[utoipa::path(
    post,
    operation_id = "start_backtest",
    path = "/alarm-profiles/backtest",
    tag = "alarm profiles",
    request_body = Input,
    responses(
        (status = 202, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn start(
    State(state): State<AppState>,
    Reader(access): Reader,
    Json(input): Json<Input>,
) -> ApiResult<(StatusCode, Json<Shown>)> {
    let query = query(&state, &access, input).await?;
    let job = state.backtests.start(query, now())?;
    Ok((StatusCode::ACCEPTED, Json(Shown::of(&job, "running"))))
}

/// How a backtest stands, with its result once it is done.
#[utoipa::path(
    get,
    operation_id = "read_backtest",
    path = "/alarm-profiles/backtests/{id}",
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
    Path(id): Path<u64>,
) -> ApiResult<Response> {
    Ok(answer(&find(&state, &access, id)?))
}

/// Cancels a backtest that runs; forgets one that has ended.
#[utoipa::path(
    delete,
    operation_id = "cancel_backtest",
    path = "/alarm-profiles/backtests/{id}",
    tag = "alarm profiles",
    params(("id" = u64, Path)),
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn remove(
    State(state): State<AppState>,
    Reader(access): Reader,
    Path(id): Path<u64>,
) -> ApiResult<StatusCode> {
    find(&state, &access, id)?;
    match state.backtests.remove(JobId(id)) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found("backtest", id)),
    }
}

async fn query(state: &AppState, access: &Access, input: Input) -> ApiResult<BacktestQuery> {
    let directory = state.store.directory();
    let tenant = access
        .filter(input.tenant.map(TenantId))?
        .ok_or_else(|| Problem::invalid("tenant", "Say whose history is meant."))?;
    sight::tenant(directory, access, tenant)?;
    let to = TimestampMs(input.to.min(now().0));
    if input.from >= to.0 {
        let detail =
            format!("Must be before `to` and before now, {}, and is {}.", to.0, input.from);
        return Err(Problem::invalid("from", detail));
    }
    if let Some(warm_up) = input.warm_up_ms
        && !(0..=alarms::backtest::MAX_WARM_UP_MS).contains(&warm_up)
    {
        let most = alarms::backtest::MAX_WARM_UP_MS;
        let detail = format!("Must be from 0 to {most}, and is {warm_up}.");
        return Err(Problem::invalid("warm_up_ms", detail));
    }
    let locations = input.locations.map(|ids| ids.into_iter().map(LocationId).collect::<Vec<_>>());
    for (place, location) in locations.iter().flatten().enumerate() {
        if place >= MAX_LOCATIONS {
            let detail = format!("At most {MAX_LOCATIONS}; leave it out for all.");
            return Err(Problem::invalid("locations", detail));
        }
        let found = sight::location(directory, access, *location)?;
        if found.tenant != tenant {
            return Err(Problem::not_found("location", location));
        }
    }
    let (id, document, compare_with) = profile(state, tenant, input.profile).await?;
    Ok(BacktestQuery {
        tenant,
        profiles: vec![(id, document)],
        from: TimestampMs(input.from),
        to,
        locations: locations.filter(|locations| !locations.is_empty()),
        warm_up_ms: input.warm_up_ms,
        compare_with,
    })
}

/// The profile to try, with the id under which it runs and that of the profile
/// to compare it with.
async fn profile(
    state: &AppState,
    tenant: TenantId,
    input: ProfileInput,
) -> ApiResult<(ProfileId, AlarmProfile, Option<ProfileId>)> {
    let ProfileInput { toml, compare_with, id, version } = input;
    let alarms = state.store.alarms();
    match (toml, id) {
        (Some(text), None) if version.is_none() => {
            let document = parse(&text)?;
            let compare_with = match compare_with {
                Some(id) => {
                    let found = alarms.profile(ProfileId(id)).await?;
                    let seen = found.filter(|profile| profile.tenant == tenant);
                    Some(seen.ok_or_else(|| Problem::not_found("alarm profile", id))?.id)
                }
                None => named(state, tenant, &document.name).await?,
            };
            Ok((compare_with.unwrap_or(DRAFT), document, compare_with))
        }
        (None, Some(id)) if compare_with.is_none() => {
            let versions = alarms.profile_versions(ProfileId(id)).await?;
            let newest = versions.iter().map(|version| version.version).max();
            let wanted = version.or(newest);
            let found = versions
                .into_iter()
                .find(|found| Some(found.version) == wanted && found.tenant == tenant);
            let found = found.ok_or_else(|| match version {
                Some(version) => {
                    Problem::not_found("alarm profile", format!("{id} with version {version}"))
                }
                None => Problem::not_found("alarm profile", id),
            })?;
            Ok((found.id, parse(&found.source)?, Some(found.id)))
        }
        _ => Err(Problem::invalid(
            "profile",
            "Either `toml`, with `compare_with` where wanted, or `id`, with `version` where wanted.",
        )),
    }
}

fn parse(text: &str) -> ApiResult<AlarmProfile> {
    let refused = |report| Problem::from(alarms::CommandError::Invalid(report));
    let document = alarms::parse_toml(text).map_err(refused)?;
    let report = alarms::check(&document);
    if report.errors.is_empty() { Ok(document) } else { Err(refused(report)) }
}

/// The tenant's profile of this name.
async fn named(state: &AppState, tenant: TenantId, name: &str) -> ApiResult<Option<ProfileId>> {
    const PAGE: usize = 1_000;
    let mut after = ProfileId(0);
    loop {
        let page = state.store.alarms().profiles(Some(tenant), after, PAGE).await?;
        if let Some(found) = page.iter().find(|profile| profile.name == name) {
            return Ok(Some(found.id));
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.id,
            _ => return Ok(None),
        }
    }
}
