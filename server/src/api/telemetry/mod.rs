//! Readings of devices: the newest values, a span of time, and a span reduced
//! to buckets, as JSON, CSV or an Arrow stream.
//!
//! A page is bounded in readings and bytes by the history. It is encoded piece
//! by piece away from the runtime's threads, only as fast as the client takes
//! it, so that a slow client costs the page and a few pieces.

mod arrow;
mod csv;
mod json;
pub(super) mod media;
mod stream;

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use schema::{DeviceId, SYSTEM_KEY_PREFIX, TimestampMs};
use serde::{Deserialize, Serialize};
use store::history::{AggregateQuery, Bucket, Buckets, HistoryError, Order, RangeQuery};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{Json, Path, Query};
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;
use media::{Accepted, Media};

/// Readings of a page when `limit` is not given.
const DEFAULT_READINGS: usize = 1_000;
/// The most readings of a page.
const MAX_READINGS: usize = 100_000;
/// The most keys that one question for newest values names.
const MAX_KEYS: usize = 1_000;

/// Where the next page begins, for media types that have no place for it.
const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(latest)).routes(routes!(read))
}

/// Which newest values are asked for.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LatestFilter {
    /// Keys with commas between them; all when not given.
    keys: Option<String>,
}

/// The newest value of each key.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = LatestReadings)]
struct Latest {
    readings: BTreeMap<String, Reading>,
}

/// A reading.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Reading {
    /// The device's time, in milliseconds since 1970, UTC.
    ts: i64,
    /// A number, a boolean, a text, an object or an array.
    #[schema(value_type = Value)]
    value: json::Shown,
}

/// The newest value of each key, or of those that are named. A key without
/// readings is left out, and so are the platform's own (`$baken.…`, which say
/// whether a router is there) unless they are named.
#[utoipa::path(
    get,
    operation_id = "read_latest_telemetry",
    path = "/devices/{id}/telemetry/latest",
    tag = "telemetry",
    params(("id" = u64, Path), LatestFilter),
    responses(
        (status = 200, body = Latest),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn latest(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<DeviceId>,
    Query(filter): Query<LatestFilter>,
) -> ApiResult<Json<Latest>> {
    sight::device(state.store.directory(), &access, id)?;
    let keys: Option<Vec<String>> =
        filter.keys.map(|keys| keys.split(',').map(str::to_owned).collect());
    if keys.as_ref().is_some_and(|keys| keys.len() > MAX_KEYS) {
        return Err(Problem::invalid("keys", format!("At most {MAX_KEYS} keys at once.")));
    }
    let are_named = keys.is_some();
    let found = state.store.history().latest(id, keys).await?;
    let readings = found
        .into_iter()
        .filter(|one| are_named || !one.key.starts_with(SYSTEM_KEY_PREFIX))
        .map(|one| (one.key, Reading { ts: one.observed_at.0, value: json::Shown(one.value) }))
        .collect();
    Ok(Json(Latest { readings }))
}

/// Oldest or newest first.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ReadingOrder)]
enum OrderName {
    /// Oldest first.
    #[default]
    Asc,
    /// Newest first.
    Desc,
}

/// What is asked of a key.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    key: String,
    /// Milliseconds since 1970, inclusive; all when not given. Buckets need it.
    from: Option<i64>,
    /// Milliseconds since 1970, exclusive; all when not given. Buckets need it.
    to: Option<i64>,
    #[serde(default)]
    #[param(inline)]
    order: OrderName,
    /// Readings of a page: 1 to 100,000, and 1,000 when not given. A page of
    /// long texts may have fewer and still not be the last.
    limit: Option<usize>,
    /// `next` of the page before, with all else as it was.
    cursor: Option<String>,
    /// Reduces the span to so many buckets of equal width.
    points: Option<usize>,
    /// Reduces the span to buckets of so many milliseconds, the first at `from`.
    bucket_ms: Option<i64>,
}

/// Readings, or the buckets that they were reduced to.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Telemetry {
    key: String,
    readings: Option<Vec<Reading>>,
    /// Give this as `cursor` to get the next page; absent on the last one.
    next: Option<String>,
    buckets: Option<Vec<ShownBucket>>,
}

/// What a bucket's readings come to. Buckets without readings are left out.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Bucket)]
struct ShownBucket {
    /// Milliseconds since 1970, inclusive.
    from: i64,
    /// Milliseconds since 1970, exclusive.
    to: i64,
    /// Over numbers and booleans (0 and 1); null if there are none.
    min: Option<f64>,
    max: Option<f64>,
    avg: Option<f64>,
    #[schema(value_type = Value)]
    first: json::Shown,
    #[schema(value_type = Value)]
    last: json::Shown,
    /// Readings of any type.
    count: u64,
}

impl From<Bucket> for ShownBucket {
    fn from(bucket: Bucket) -> Self {
        let Bucket { from, to, min, max, avg, first, last, count } = bucket;
        let (first, last) = (json::Shown(first), json::Shown(last));
        Self { from: from.0, to: to.0, min, max, avg, first, last, count }
    }
}

/// Readings of a key in order of time; with `points` or `bucket_ms` reduced to
/// buckets, oldest first. `Accept` picks JSON, CSV or an Arrow stream; for the
/// latter two the cursor of the next page is in the header `X-Next-Cursor`.
#[utoipa::path(
    get,
    operation_id = "read_telemetry",
    path = "/devices/{id}/telemetry",
    tag = "telemetry",
    params(("id" = u64, Path), Filter),
    responses(
        (
            status = 200,
            content(
                (Telemetry = "application/json"),
                (String = "text/csv"),
                (Vec<u8> = "application/vnd.apache.arrow.stream"),
            ),
            headers(("X-Next-Cursor" = String, description = "`cursor` of the next page"))
        ),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 406, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Accepted(media): Accepted,
    Path(id): Path<DeviceId>,
    Query(filter): Query<Filter>,
) -> ApiResult<Response> {
    sight::device(state.store.directory(), &access, id)?;
    let history = state.store.history();
    if let Some(query) = aggregation(id, &filter)? {
        let buckets = history.aggregate(query).await.map_err(|error| match error {
            HistoryError::Buckets { .. } | HistoryError::BucketWidth => {
                let field = if filter.points.is_some() { "points" } else { "bucket_ms" };
                Problem::invalid(field, error.to_string())
            }
            other => other.into(),
        })?;
        return Ok(answer(&state, media, None, move |out| match media {
            Media::Json => json::buckets(&filter.key, buckets, out),
            Media::Csv => csv::buckets(&buckets, out),
            Media::Arrow => arrow::buckets(&buckets, out),
        }));
    }
    let page = history.range(range(id, &filter)?).await?;
    let next = page.next.clone();
    Ok(answer(&state, media, next.as_deref(), move |out| match media {
        Media::Json => json::readings(&filter.key, page, out),
        Media::Csv => csv::readings(&page.samples, out),
        Media::Arrow => arrow::readings(&page.samples, out),
    }))
}

fn range(device: DeviceId, filter: &Filter) -> ApiResult<RangeQuery> {
    let limit = match filter.limit {
        None => DEFAULT_READINGS,
        Some(limit) if (1..=MAX_READINGS).contains(&limit) => limit,
        Some(limit) => {
            let detail = format!("Must be 1 to {MAX_READINGS}, and is {limit}.");
            return Err(Problem::invalid("limit", detail));
        }
    };
    Ok(RangeQuery {
        device,
        key: filter.key.clone(),
        from: TimestampMs(filter.from.unwrap_or(i64::MIN)),
        to: TimestampMs(filter.to.unwrap_or(i64::MAX)),
        order: match filter.order {
            OrderName::Asc => Order::Ascending,
            OrderName::Desc => Order::Descending,
        },
        limit,
        cursor: filter.cursor.clone(),
    })
}

/// The question for buckets, if it is one.
fn aggregation(device: DeviceId, filter: &Filter) -> ApiResult<Option<AggregateQuery>> {
    let buckets = match (filter.points, filter.bucket_ms) {
        (None, None) => return Ok(None),
        (Some(points), None) => Buckets::Points(points),
        (None, Some(width_ms)) => Buckets::WidthMs(width_ms),
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("points", "Give `points` or `bucket_ms`, not both."));
        }
    };
    for (name, given) in [("limit", filter.limit.is_some()), ("cursor", filter.cursor.is_some())] {
        if given {
            return Err(Problem::invalid(name, "Buckets come in one answer, without pages."));
        }
    }
    let need = |name: &str, time: Option<i64>| {
        let missing = || Problem::invalid(name, "Buckets need `from` and `to`.");
        time.map(TimestampMs).ok_or_else(missing)
    };
    let (from, to) = (need("from", filter.from)?, need("to", filter.to)?);
    Ok(Some(AggregateQuery { device, key: filter.key.clone(), from, to, buckets }))
}

fn answer(
    state: &AppState,
    media: Media,
    next: Option<&str>,
    encode: impl FnOnce(&mut stream::Pieces) -> std::io::Result<()> + Send + 'static,
) -> Response {
    let mut response = stream::body(state.write_stall, encode).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media.name()));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    if let Some(next) = next {
        let next = HeaderValue::try_from(next).expect("a cursor is letters and digits");
        headers.insert(NEXT_CURSOR, next);
    }
    response
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Cursor => {
                Self::invalid("cursor", "Give what `next` of the page before said.")
            }
            HistoryError::Closed => Self::unavailable("The history is closing."),
            error if error.is_bad_request() => Self::bad_request(error.to_string()),
            error => Self::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests;
