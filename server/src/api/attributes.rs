//! Attributes of devices: read from the store; shared ones are changed through
//! the journal, as all that a device is told, and reach its router from there.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use ingest::batch::{Rows, Submission};
use schema::{Device, DeviceId, RecordKind, Value as RowValue, partition_of};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::Scope;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{Json, Path, Query};
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;
use crate::clock::now;

/// The most attributes of one change.
const MAX_CHANGES: usize = 1_000;

/// The deepest nesting of a value; a flat object or array counts 1.
const MAX_NESTING: usize = 16;

/// Bytes of values before and after that the events tell; of larger changes
/// they tell the keys.
const MAX_TOLD_BYTES: usize = 65_536;

/// How long a change waits until it can be read back. It is durable before, so
/// a recorder that lags delays the answer only so much.
const READ_BACK_WAIT: Duration = Duration::from_secs(2);

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read, change))
}

/// Who set an attribute.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AttributeScope)]
enum ScopeName {
    /// The device.
    Client,
    /// The platform.
    Shared,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Client => Self::Client,
            ScopeName::Shared => Self::Shared,
        }
    }
}

/// Which attributes are asked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Keys {
    /// Keys with commas between them; all when not given.
    keys: Option<String>,
}

/// Attributes of one scope by their keys.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Attributes)]
struct Shown {
    attributes: BTreeMap<String, Attribute>,
}

/// An attribute.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Attribute {
    /// Any JSON but null.
    value: Value,
    /// Milliseconds since 1970, UTC.
    updated_at: i64,
}

/// Attributes that the device (`client`) or the platform (`shared`) has set.
#[utoipa::path(
    get,
    operation_id = "read_attributes",
    path = "/devices/{id}/attributes/{scope}",
    tag = "devices",
    params(("id" = u64, Path), ("scope" = ScopeName, Path), Keys),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Path((id, scope)): Path<(DeviceId, ScopeName)>,
    Query(Keys { keys }): Query<Keys>,
) -> ApiResult<Json<Shown>> {
    sight::device(state.store.directory(), &access, id)?;
    let keys = keys.map(|keys| keys.split(',').map(str::to_owned).collect());
    let found = state.store.attributes().get(id, scope.into(), keys).await?;
    let attributes = found
        .into_iter()
        .map(|one| (one.key, Attribute { value: one.value, updated_at: one.updated_at.0 }))
        .collect();
    Ok(Json(Shown { attributes }))
}

/// Sets shared attributes, and deletes those that are given as null. The answer
/// comes when the change is durable; a router that is away is given it when it
/// subscribes again. A whole number beyond 64 bits is kept as text.
#[utoipa::path(
    patch,
    operation_id = "change_attributes",
    path = "/devices/{id}/attributes/{scope}",
    tag = "devices",
    params(("id" = u64, Path), ("scope" = ScopeName, Path)),
    request_body(content = Object, description = "Values by their keys; null deletes"),
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 405, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn change(
    State(state): State<AppState>,
    access: Access,
    Path((id, scope)): Path<(DeviceId, ScopeName)>,
    Json(values): Json<Map<String, Value>>,
) -> ApiResult<StatusCode> {
    let device = sight::device(state.store.directory(), &access, id)?;
    if let ScopeName::Client = scope {
        return Err(Problem::of_status(
            StatusCode::METHOD_NOT_ALLOWED,
            "Client attributes are set by the device; the platform sets shared ones.",
        ));
    }
    if values.len() > MAX_CHANGES {
        let detail = format!("{} attributes, and at most {MAX_CHANGES} at once.", values.len());
        return Err(Problem::invalid("attributes", detail));
    }
    if values.is_empty() {
        return Ok(StatusCode::NO_CONTENT);
    }
    for (key, value) in &values {
        if nesting(value) > MAX_NESTING {
            let detail = format!("It is nested deeper than {MAX_NESTING} levels.");
            return Err(Problem::invalid(key.clone(), detail));
        }
    }
    let changes: Vec<(String, Option<Value>)> =
        values.into_iter().map(|(key, value)| (key, (!value.is_null()).then_some(value))).collect();
    state.store.attributes().admit(id, Scope::Shared, &changes).await?;
    let partition = partition_of(device.tenant, device.location, state.journal.partitions());
    let submission = submission(&state, id, &device, &changes)?;
    tell(&state, &access, id, &device, &changes).await?;
    state.submitter.submit(partition, submission).await?.await?;
    let next = state.journal.bounds(partition).next;
    let applied = state.store.attributes().wait_applied(partition, next);
    if tokio::time::timeout(READ_BACK_WAIT, applied).await.is_err() {
        tracing::debug!(%partition, "a change of attributes is durable and not yet recorded");
    }
    state.connections.push_shared(id).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Tells who sets what, with the values before, ahead of the change itself.
async fn tell(
    state: &AppState,
    access: &Access,
    id: DeviceId,
    device: &Device,
    changes: &[(String, Option<Value>)],
) -> ApiResult<()> {
    let keys: Vec<String> = changes.iter().map(|(key, _)| key.clone()).collect();
    let before = state.store.attributes().get(id, Scope::Shared, Some(keys)).await?;
    let before: Map<String, Value> = before.into_iter().map(|one| (one.key, one.value)).collect();
    let after: Map<String, Value> = changes
        .iter()
        .map(|(key, value)| (key.clone(), value.clone().unwrap_or_default()))
        .collect();
    let mut body = json!({ "scope": "shared", "before": before, "after": after });
    if body.to_string().len() > MAX_TOLD_BYTES {
        let keys: Vec<&String> = changes.iter().map(|(key, _)| key).collect();
        body = json!({ "scope": "shared", "keys": keys, "shortened": true });
    }
    state.audit.deed("attributes_changed", &access.author(), id, device, body).await?;
    Ok(())
}

fn submission(
    state: &AppState,
    id: DeviceId,
    device: &Device,
    changes: &[(String, Option<Value>)],
) -> ApiResult<Submission> {
    let tenant = device.tenant;
    let settings = state.store.directory().tenant(tenant);
    let settings = settings.ok_or_else(|| Problem::not_found("device", id))?;
    let mut keys = state.submitter.keys().cache(tenant, changes.len());
    let mut rows = Rows::with_capacity(changes.len());
    let now = now();
    for (name, value) in changes {
        let key = keys
            .resolve(name, settings.settings.max_keys)
            .map_err(|quota| Problem::conflict(format!("{quota}.")).with_field(name.clone()))?;
        let text = match value {
            Some(value @ (Value::Object(_) | Value::Array(_) | Value::Number(_))) => {
                value.to_string()
            }
            _ => String::new(),
        };
        rows.push(id, key, now, value.as_ref().and_then(|value| row_value(value, &text)));
    }
    Ok(Submission {
        tenant,
        router: device.router,
        received_at: now,
        kind: RecordKind::SharedAttributes,
        rows,
    })
}

/// The value as a row holds it; `text` is its JSON. Null is none: a deletion.
fn row_value<'a>(value: &'a Value, text: &'a str) -> Option<RowValue<'a>> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(boolean) => RowValue::Boolean(*boolean),
        Value::Number(number) => match (number.as_i64(), number.is_f64(), number.as_f64()) {
            (Some(integer), ..) => RowValue::Integer(integer),
            (None, true, Some(float)) => RowValue::Number(float),
            _ => RowValue::Text(text),
        },
        Value::String(text) => RowValue::Text(text),
        Value::Array(_) | Value::Object(_) => RowValue::Json(text),
    })
}

fn nesting(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nesting).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(nesting).max().unwrap_or(0),
        _ => 0,
    }
}

/// Forgets the attributes of devices that were deleted. If it fails, they take
/// room and nothing else, because a device's id is never used again.
pub(super) async fn forget(state: &AppState, devices: Vec<DeviceId>) {
    if let Err(error) = state.store.attributes().forget(devices).await {
        tracing::warn!(%error, "attributes of deleted devices stay in the store");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_type() {
        let kinds: Vec<Option<schema::ValueKind>> =
            ["1", "1.5", "true", "\"1\"", "[1]", "{}", "null", "18446744073709551615"]
                .into_iter()
                .map(|text| {
                    let value: Value = serde_json::from_str(text).unwrap();
                    row_value(&value, text).map(|value| value.kind())
                })
                .collect();
        use schema::ValueKind::{Boolean, Integer, Json, Number, Text};
        let expected = [
            Some(Integer),
            Some(Number),
            Some(Boolean),
            Some(Text),
            Some(Json),
            Some(Json),
            None,
            Some(Text),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn nesting_is_counted_as_the_broker_does() {
        let depth = |text| nesting(&serde_json::from_str(text).unwrap());
        assert_eq!([depth("1"), depth("[]"), depth(r#"{"a":[{"b":1}],"c":2}"#)], [0, 1, 3]);
    }
}
