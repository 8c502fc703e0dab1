//! Alarms as they are shown.

use serde::Serialize;
use store::alarms::{AlarmMoment, AlarmRow};
use utoipa::ToSchema;

/// An alarm at one moment.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AlarmMoment)]
pub struct MomentShown {
    /// Milliseconds since 1970, in the device's own time.
    at: i64,
    severity: String,
    /// The rule's description with its values filled in, and the values.
    #[schema(value_type = Object)]
    details: serde_json::Value,
}

/// An alarm as it stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Alarm)]
pub struct Shown {
    id: String,
    tenant: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<u64>,
    /// None for an alarm of the tenant as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<u64>,
    profile: u64,
    rule: String,
    severity: String,
    active: bool,
    acknowledged: bool,
    raised: MomentShown,
    /// When its severity was highest.
    peak: MomentShown,
    /// How often it was true again.
    updates: u64,
    updated_at: i64,
    #[schema(value_type = Object)]
    last_details: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared_at: Option<i64>,
    /// `condition`, `time`, `person` or `rule_removed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    cleared_details: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shelved_until: Option<i64>,
}

impl MomentShown {
    fn of(moment: AlarmMoment) -> Self {
        let severity = moment.severity.to_string();
        Self { at: moment.at.0, severity, details: moment.details }
    }
}

impl Shown {
    pub fn of(alarm: AlarmRow) -> Self {
        Self {
            id: alarm.id.to_string(),
            tenant: alarm.tenant.0,
            location: alarm.location.map(|id| id.0),
            device: alarm.device.map(|id| id.0),
            profile: alarm.rule.profile.0,
            rule: alarm.rule.key.to_string(),
            severity: alarm.severity.to_string(),
            active: alarm.status.active,
            acknowledged: alarm.status.acknowledged,
            raised: MomentShown::of(alarm.raised),
            peak: MomentShown::of(alarm.peak),
            updates: alarm.updates,
            updated_at: alarm.updated_at.0,
            last_details: alarm.last_details,
            cleared_at: alarm.cleared_at.map(|at| at.0),
            cleared_reason: alarm.cleared_reason,
            cleared_details: alarm.cleared_details,
            acknowledged_at: alarm.acknowledged_at.map(|at| at.0),
            acknowledged_by: alarm.acknowledged_by,
            assigned_to: alarm.assigned_to,
            shelved_until: alarm.shelved_until.map(|at| at.0),
        }
    }
}
