//! How good a tenant's or a location's alarms are, by the measures of ISA-18.2,
//! IEC 62682 and EEMUA 191, each with what they recommend and a verdict.

mod judge;

use axum::extract::State;
use schema::{LocationId, TenantId, TimestampMs};
use serde::{Deserialize, Serialize};
use store::alarms::quality::{Offender, QualityFigures, QualityQuery, StaleAlarm};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::judge::{Measure, measures};
use super::auth::Access;
use super::extract::{Json, Query};
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;
use crate::clock::now;

/// Days of the period when `from` is not given; the standards ask for at least
/// as many.
const DEFAULT_DAYS: i64 = 30;

/// The longest period, in days.
const MAX_DAYS: i64 = 366;

/// The most operators among whom alarms are shared.
const MAX_OPERATORS: u32 = 1_000;

const DAY_MS: i64 = 24 * 3_600_000;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read))
}

/// Which alarms are judged.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    tenant: Option<u64>,
    location: Option<u64>,
    /// Raised at or after, in milliseconds since 1970; 30 days before `to` when
    /// not given.
    from: Option<i64>,
    /// Raised before, in milliseconds since 1970; now when not given. At most
    /// 366 days after `from`.
    to: Option<i64>,
    /// Among how many operators the alarms are shared, 1 to 1000; 1 when not
    /// given.
    operators: Option<u32>,
}

/// An alarm (a device and a rule) with its raises.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = QualityOffender)]
struct OffenderShown {
    tenant: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<u64>,
    /// None for an alarm of the tenant as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<u64>,
    profile: u64,
    rule: String,
    raised: u64,
    /// Of all alarms of the period, 0 to 1.
    share: f64,
}

/// A rule with the raises of all its alarms.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = QualityRule)]
struct RuleShown {
    tenant: u64,
    profile: u64,
    rule: String,
    raised: u64,
    /// Of all alarms of the period, 0 to 1.
    share: f64,
}

/// A location with the raises of its alarms.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = QualityLocation)]
struct LocationShown {
    /// None for alarms of a tenant as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<u64>,
    raised: u64,
    /// Of all alarms of the period, 0 to 1.
    share: f64,
}

/// An alarm that is active for more than 24 hours and not shelved.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = QualityStaleAlarm)]
struct StaleShown {
    id: String,
    tenant: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<u64>,
    profile: u64,
    rule: String,
    severity: String,
    raised_at: i64,
}

/// Floods: a flood begins with a period of ten minutes with more than 10 alarms
/// and ends with one of fewer than 5.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = QualityFloods)]
struct FloodsShown {
    count: u64,
    total_ms: i64,
    longest_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    longest_at: Option<i64>,
    /// Alarms that were raised in floods.
    raised: u64,
}

/// Alarms of one severity.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = QualitySeverity)]
struct SeverityShown {
    severity: String,
    /// `high`, `medium` or `low`, as the recommended split counts it.
    priority: &'static str,
    raised: u64,
    /// Of all alarms of the period, 0 to 1.
    share: f64,
}

/// The quality of the alarms of a period. An alarm counts when it is raised; a
/// flapping one that is held back counts once, and a shelved one is not stale.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AlarmQuality)]
struct Shown {
    from: i64,
    to: i64,
    operators: u32,
    /// Alarms raised in the period.
    raised: u64,
    /// The figures, each with its recommended bounds and a verdict.
    measures: Vec<Measure>,
    floods: FloodsShown,
    /// Where the busiest ten minutes begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_at: Option<i64>,
    /// The worst first.
    severities: Vec<SeverityShown>,
    /// The ten that are raised most often.
    top_alarms: Vec<OffenderShown>,
    /// The ten that raise most often.
    top_rules: Vec<RuleShown>,
    /// The ten with the most alarms.
    top_locations: Vec<LocationShown>,
    /// Raised three times or more within a minute; the most raised, at most 20.
    chattering: Vec<OffenderShown>,
    /// Over within a minute and not chattering; `raised` counts those, the most
    /// frequent first, at most 20.
    fleeting: Vec<OffenderShown>,
    /// At the end of the period; the oldest first, at most 20.
    stale: Vec<StaleShown>,
    /// Times that a flapping alarm was held back.
    suppressed: u64,
    /// Active alarms that are shelved now.
    shelved_now: u64,
}

/// 0 where there is nothing.
#[allow(clippy::cast_precision_loss, reason = "counts of alarms are far below 2^53")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl OffenderShown {
    fn of(offender: &Offender, all: u64) -> Self {
        Self {
            tenant: offender.tenant.0,
            location: offender.location.map(|id| id.0),
            device: offender.device.map(|id| id.0),
            profile: offender.rule.profile.0,
            rule: offender.rule.key.to_string(),
            share: share(offender.raised, all),
            raised: offender.raised,
        }
    }

    fn all(offenders: &[Offender], all: u64) -> Vec<Self> {
        offenders.iter().map(|offender| Self::of(offender, all)).collect()
    }
}

impl StaleShown {
    fn of(alarm: &StaleAlarm) -> Self {
        Self {
            id: alarm.id.to_string(),
            tenant: alarm.tenant.0,
            location: alarm.location.map(|id| id.0),
            device: alarm.device.map(|id| id.0),
            profile: alarm.rule.profile.0,
            rule: alarm.rule.key.to_string(),
            severity: alarm.severity.to_string(),
            raised_at: alarm.raised_at.0,
        }
    }
}

impl Shown {
    fn of(query: &QualityQuery, operators: u32, figures: &QualityFigures) -> Self {
        let all = figures.raised;
        let measures = measures(query, operators, figures);
        let severities = figures.by_severity.iter().rev().map(|(severity, raised)| SeverityShown {
            severity: severity.to_string(),
            priority: judge::priority(*severity).name(),
            raised: *raised,
            share: share(*raised, all),
        });
        let rules = figures.top_rules.iter().map(|(tenant, rule, raised)| RuleShown {
            tenant: tenant.0,
            profile: rule.profile.0,
            rule: rule.key.to_string(),
            raised: *raised,
            share: share(*raised, all),
        });
        let locations = figures.top_locations.iter().map(|(location, raised)| LocationShown {
            location: location.map(|id| id.0),
            raised: *raised,
            share: share(*raised, all),
        });
        Self {
            from: query.from.0,
            to: query.to.0,
            operators,
            raised: all,
            measures,
            floods: FloodsShown {
                count: figures.floods.count,
                total_ms: figures.floods.total_ms,
                longest_ms: figures.floods.longest_ms,
                longest_at: figures.floods.longest_at.map(|at| at.0),
                raised: figures.floods.raised,
            },
            peak_at: figures.peak_at.map(|at| at.0),
            severities: severities.collect(),
            top_rules: rules.collect(),
            top_locations: locations.collect(),
            top_alarms: OffenderShown::all(&figures.top_alarms, all),
            chattering: OffenderShown::all(&figures.chattering_listed, all),
            fleeting: OffenderShown::all(&figures.fleeting_listed, all),
            stale: figures.stale_listed.iter().map(StaleShown::of).collect(),
            suppressed: figures.suppressed,
            shelved_now: figures.shelved_now,
        }
    }
}

/// The period within its bounds.
fn period(filter: &Filter, now: TimestampMs) -> ApiResult<(TimestampMs, TimestampMs)> {
    let to = filter.to.unwrap_or(now.0);
    let from = filter.from.unwrap_or_else(|| to.saturating_sub(DEFAULT_DAYS * DAY_MS));
    let span = to.saturating_sub(from);
    if !(1..=MAX_DAYS * DAY_MS).contains(&span) {
        let detail = format!(
            "It is {to}, and must be after `from` ({from}) and at most {MAX_DAYS} days later."
        );
        return Err(Problem::invalid("to", detail));
    }
    Ok((TimestampMs(from), TimestampMs(to)))
}

/// Alarm quality of a period: rates, floods, chattering, fleeting and stale
/// alarms, the most frequent, the split by severity, the time to acknowledge.
#[utoipa::path(
    get,
    operation_id = "read_alarm_quality",
    path = "/alarm-quality",
    tag = "alarms",
    params(Filter),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json",
            description = "4 of the tenant, or 32 in all, run or wait"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<Filter>,
) -> ApiResult<Json<Shown>> {
    let now = now();
    let (from, to) = period(&filter, now)?;
    let operators = filter.operators.unwrap_or(1);
    if !(1..=MAX_OPERATORS).contains(&operators) {
        let detail = format!("It is {operators}, and must be 1 to {MAX_OPERATORS}.");
        return Err(Problem::invalid("operators", detail));
    }
    if let Some(location) = filter.location {
        sight::location(state.store.directory(), &access, LocationId(location))?;
    }
    let query = QualityQuery {
        tenant: access.filter(filter.tenant.map(TenantId))?,
        location: filter.location.map(LocationId),
        from,
        to,
        now,
    };
    let alarms = state.store.alarms().clone();
    let turn = state.work.quality.take(access.tenant()).await?;
    // In a task of its own, so that who hangs up does not make room for one
    // more while the database still works.
    let work = tokio::spawn(async move {
        let _turn = turn;
        alarms.quality(query).await
    });
    let figures = work.await.map_err(|error| Problem::internal(&error))??;
    Ok(Json(Shown::of(&query, operators, &figures)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_thirty_days_unless_it_is_given_and_has_its_bounds() {
        let now = TimestampMs(100 * DAY_MS);
        let (from, to) = period(&Filter::default(), now).unwrap();
        assert_eq!((from.0, to.0), (70 * DAY_MS, 100 * DAY_MS));
        for (from, to) in [(5, 5), (6, 5), (0, 367 * DAY_MS), (i64::MIN, i64::MAX)] {
            let filter = Filter { from: Some(from), to: Some(to), ..Filter::default() };
            let problem = period(&filter, now).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("to"));
            assert!(problem.detail.contains("366 days"), "{}", problem.detail);
        }
    }
}
