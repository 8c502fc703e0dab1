//! Tenants: made, changed and deleted with a token of the whole installation;
//! a tenant's own token reads its own.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use schema::{
    Document, DocumentBody, Severity, SystemAlarm, SystemAlarms, Tenant, TenantId, TenantSettings,
};
use serde::{Deserialize, Serialize};
use store::{DirectoryPage, Entry};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{IfMatch, Json, Path, Query, etag};
use super::listing::{Filter, page};
use super::paging::Page;
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, update, delete))
}

/// A tenant, as it is written.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TenantInput)]
struct Input {
    /// Unique in the installation; 1 to 255 bytes without control characters.
    name: String,
    settings: Option<SettingsInput>,
}

/// How a tenant's readings are treated. What is not given takes its default
/// when the tenant is made, and stays as it is when the tenant is changed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TenantSettingsInput)]
struct SettingsInput {
    numbers_from_text: Option<bool>,
    close_on_malformed: Option<bool>,
    retention_days: Option<u32>,
    max_devices: Option<u32>,
    max_keys: Option<u32>,
    max_readings_per_s: Option<u32>,
    send_interval_s: Option<u32>,
    silent_factor: Option<u32>,
    system_alarms: Option<SystemAlarmsInput>,
}

/// The alarms that the tenant has about its routers. What is not given stays.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SystemAlarmsInput)]
struct SystemAlarmsInput {
    offline: Option<SystemAlarmInput>,
    silent: Option<SystemAlarmInput>,
    refused: Option<SystemAlarmInput>,
    clock_wrong: Option<SystemAlarmInput>,
    /// Notifications can't be delivered.
    undeliverable: Option<SystemAlarmInput>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SystemAlarmInput)]
struct SystemAlarmInput {
    enabled: Option<bool>,
    /// `critical`, `major`, `minor`, `warning` or `indeterminate`.
    #[schema(value_type = Option<String>)]
    severity: Option<Severity>,
    /// Seconds, at most 30 days.
    delay_s: Option<u32>,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Tenant)]
struct Shown {
    id: u64,
    /// 1 when made, then one more at each change.
    version: u64,
    /// Milliseconds since 1970, UTC.
    changed_at: i64,
    name: String,
    settings: SettingsShown,
}

/// How a tenant's readings are treated.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = TenantSettings)]
struct SettingsShown {
    /// Text that is a number becomes one (`"21.5"` is 21.5).
    numbers_from_text: bool,
    /// A malformed payload closes the connection instead of being counted.
    close_on_malformed: bool,
    /// Days that history is kept; 0 keeps it for ever.
    retention_days: u32,
    /// The most devices behind all routers of the tenant together.
    max_devices: u32,
    /// The most distinct telemetry keys of the tenant.
    max_keys: u32,
    /// The most readings a second on average, over all routers; 0 sets no limit.
    max_readings_per_s: u32,
    /// How often a router sends telemetry, in seconds, where its own document
    /// says nothing; 0 for routers that send at no interval.
    send_interval_s: u32,
    /// A router is silent after so many send intervals without telemetry.
    silent_factor: u32,
    system_alarms: SystemAlarmsShown,
}

/// The alarms that the tenant has about its routers.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = SystemAlarms)]
struct SystemAlarmsShown {
    /// Rule `router_offline`: a router that was connected has had no MQTT
    /// connection for the delay.
    offline: SystemAlarmShown,
    /// Rule `router_silent`: connected, but silent for its limit and the delay.
    silent: SystemAlarmShown,
    /// Rule `readings_refused`: messages or parts of them are refused; over when
    /// none was for the delay, and at least for the time after which refusals
    /// that go on are told of again: 63 s unless `mqtt.presence` is set otherwise.
    refused: SystemAlarmShown,
    /// Rule `clock_wrong`: times are refused; over likewise.
    clock_wrong: SystemAlarmShown,
    /// Rules `notification_undeliverable/…`: a provider takes none for the delay,
    /// or a recipient can't be reached.
    undeliverable: SystemAlarmShown,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = SystemAlarm)]
struct SystemAlarmShown {
    enabled: bool,
    #[schema(value_type = String)]
    severity: Severity,
    delay_s: u32,
}

impl SystemAlarmInput {
    fn over(self, was: SystemAlarm) -> SystemAlarm {
        SystemAlarm {
            enabled: self.enabled.unwrap_or(was.enabled),
            severity: self.severity.unwrap_or(was.severity),
            delay_s: self.delay_s.unwrap_or(was.delay_s),
        }
    }
}

impl SystemAlarmsInput {
    fn over(self, was: SystemAlarms) -> SystemAlarms {
        SystemAlarms {
            offline: self.offline.unwrap_or_default().over(was.offline),
            silent: self.silent.unwrap_or_default().over(was.silent),
            refused: self.refused.unwrap_or_default().over(was.refused),
            clock_wrong: self.clock_wrong.unwrap_or_default().over(was.clock_wrong),
            undeliverable: self.undeliverable.unwrap_or_default().over(was.undeliverable),
        }
    }
}

impl From<SystemAlarm> for SystemAlarmShown {
    fn from(alarm: SystemAlarm) -> Self {
        let SystemAlarm { enabled, severity, delay_s } = alarm;
        Self { enabled, severity, delay_s }
    }
}

impl SettingsInput {
    /// `was` with what is given put in.
    fn over(self, was: &TenantSettings) -> TenantSettings {
        TenantSettings {
            numbers_from_text: self.numbers_from_text.unwrap_or(was.numbers_from_text),
            close_on_malformed: self.close_on_malformed.unwrap_or(was.close_on_malformed),
            retention_days: self.retention_days.unwrap_or(was.retention_days),
            max_devices: self.max_devices.unwrap_or(was.max_devices),
            max_keys: self.max_keys.unwrap_or(was.max_keys),
            max_readings_per_s: self.max_readings_per_s.unwrap_or(was.max_readings_per_s),
            send_interval_s: self.send_interval_s.unwrap_or(was.send_interval_s),
            silent_factor: self.silent_factor.unwrap_or(was.silent_factor),
            system_alarms: self.system_alarms.unwrap_or_default().over(was.system_alarms),
        }
    }
}

impl Shown {
    fn of(id: u64, version: u64, changed_at: i64, tenant: &Tenant) -> Self {
        let settings = &tenant.settings;
        Self {
            id,
            version,
            changed_at,
            name: tenant.name.clone(),
            settings: SettingsShown {
                numbers_from_text: settings.numbers_from_text,
                close_on_malformed: settings.close_on_malformed,
                retention_days: settings.retention_days,
                max_devices: settings.max_devices,
                max_keys: settings.max_keys,
                max_readings_per_s: settings.max_readings_per_s,
                send_interval_s: settings.send_interval_s,
                silent_factor: settings.silent_factor,
                system_alarms: SystemAlarmsShown {
                    offline: settings.system_alarms.offline.into(),
                    silent: settings.system_alarms.silent.into(),
                    refused: settings.system_alarms.refused.into(),
                    clock_wrong: settings.system_alarms.clock_wrong.into(),
                    undeliverable: settings.system_alarms.undeliverable.into(),
                },
            },
        }
    }

    fn entry(entry: &Entry<Tenant>) -> Self {
        Self::of(entry.id, entry.version, entry.changed_at.0, entry)
    }

    fn document(document: &Document) -> Self {
        let DocumentBody::Tenant(tenant) = &document.body else {
            unreachable!("the directory answers with the kind that it was given")
        };
        Self::of(document.id, document.version, document.changed_at.0, tenant)
    }
}

/// Tenants in the order of their ids.
#[utoipa::path(
    get,
    operation_id = "list_tenants",
    path = "/tenants",
    tag = "tenants",
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
    let directory = state.store.directory();
    let query = filter.query(&access)?;
    let found = match query.tenant {
        // At most one, which may be behind the page or not named so.
        Some(id) => {
            let named = |name: &str| query.name.as_deref().is_none_or(|n| name.starts_with(n));
            let behind = query.after.is_none_or(|after| after < id.0);
            let own = directory.tenant(id).filter(|tenant| behind && named(&tenant.name));
            DirectoryPage { items: own.into_iter().collect(), next: None }
        }
        None => directory.tenants(&query),
    };
    Ok(Json(page(found, Shown::entry)))
}

/// Makes a tenant. Needs a token of the whole installation.
#[utoipa::path(
    post,
    operation_id = "create_tenant",
    path = "/tenants",
    tag = "tenants",
    request_body = Input,
    responses(
        (status = 201, body = Shown),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn create(
    State(state): State<AppState>,
    access: Access,
    Json(input): Json<Input>,
) -> ApiResult<impl IntoResponse> {
    access.require_installation()?;
    let settings = input.settings.unwrap_or_default().over(&TenantSettings::default());
    let tenant = Tenant { name: input.name, settings };
    let made =
        state.store.directory().by(access.author()).create(DocumentBody::Tenant(tenant)).await?;
    Ok((StatusCode::CREATED, etag(made.version), Json(Shown::document(&made))))
}

/// A tenant.
#[utoipa::path(
    get,
    operation_id = "read_tenant",
    path = "/tenants/{id}",
    tag = "tenants",
    params(("id" = u64, Path)),
    responses(
        (status = 200, body = Shown),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<TenantId>,
) -> ApiResult<impl IntoResponse> {
    let found = sight::tenant(state.store.directory(), &access, id)?;
    Ok((etag(found.version), Json(Shown::entry(&found))))
}

/// Changes a tenant. Needs a token of the whole installation, because the
/// settings hold the tenant's quotas.
#[utoipa::path(
    put,
    operation_id = "update_tenant",
    path = "/tenants/{id}",
    tag = "tenants",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    request_body = Input,
    responses(
        (status = 200, body = Shown),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn update(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<TenantId>,
    IfMatch(version): IfMatch,
    Json(input): Json<Input>,
) -> ApiResult<impl IntoResponse> {
    let directory = state.store.directory();
    let was = sight::tenant(directory, &access, id)?;
    access.require_installation()?;
    let settings = input.settings.unwrap_or_default().over(&was.settings);
    let tenant = Tenant { name: input.name, settings };
    // What was not given is taken from what was read: nothing may come between.
    let expected = version.unwrap_or(was.version);
    let body = DocumentBody::Tenant(tenant);
    let changed = directory.by(access.author()).update(id.0, Some(expected), body).await?;
    Ok((etag(changed.version), Json(Shown::document(&changed))))
}

/// Deletes a tenant that has no locations any more, and its API tokens, users,
/// subscriptions, offline profiles and message templates. Needs a token of the whole
/// installation.
#[utoipa::path(
    delete,
    operation_id = "delete_tenant",
    path = "/tenants/{id}",
    tag = "tenants",
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn delete(
    State(state): State<AppState>,
    access: Access,
    Path(id): Path<TenantId>,
    IfMatch(version): IfMatch,
) -> ApiResult<StatusCode> {
    sight::tenant(state.store.directory(), &access, id)?;
    access.require_installation()?;
    state.store.directory().by(access.author()).delete(id.0, version).await?;
    Ok(StatusCode::NO_CONTENT)
}
