//! What enters the alarm core besides readings: what people do, and what
//! changes which alarms are raised. All of it goes through the journal.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AlarmId, AlarmProfile, ProfileId, RuleId, Severity};
use crate::{DeviceId, LocationId, Provenance, TenantId, TimestampMs};

/// The longest key of a system alarm of a tenant as a whole.
pub const MAX_TENANT_ALARM_KEY_BYTES: usize = 128;

/// One command with its place in time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub at: TimestampMs,
    pub tenant: TenantId,
    pub body: CommandBody,
}

/// What is asked for. The names are part of the journal's format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CommandBody {
    /// Something that a person does to one alarm. What the alarm is of comes
    /// along, because the core forgets an alarm that is cleared.
    Alarm {
        alarm: AlarmId,
        /// The device that the alarm is of; none for a system alarm of the tenant.
        device: Option<DeviceId>,
        location: Option<LocationId>,
        rule: RuleId,
        severity: Severity,
        by: Arc<str>,
        /// By which token and from where, where a person did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provenance: Option<Arc<Provenance>>,
        action: AlarmAction,
    },
    /// A system alarm of the tenant as a whole is raised or goes on, or is over.
    /// It comes to the tenant's home partition and to no other.
    TenantAlarm {
        /// Of the alarm's rule under [`ProfileId::SYSTEM`]: what is wrong, and of
        /// what, as in `forwarder_failing/17`; 1 to [`MAX_TENANT_ALARM_KEY_BYTES`].
        key: Arc<str>,
        active: bool,
        severity: Severity,
        description: String,
        /// JSON scalars, in the order in which they are shown.
        values: Vec<(Arc<str>, serde_json::Value)>,
    },
    /// How many active alarms of a rule the tenant's other partitions have, which
    /// count against its `max_active` too. It comes to one partition.
    ActiveElsewhere {
        rule: RuleId,
        active: u32,
    },
    /// A new or a changed profile; an older version than the one in force is ignored.
    ProfileSaved {
        profile: ProfileId,
        version: u64,
        body: Arc<AlarmProfile>,
    },
    ProfileDeleted {
        profile: ProfileId,
        version: u64,
    },
    /// An attribute of a location, or of the whole tenant where there is none;
    /// no value deletes it.
    Attribute {
        location: Option<LocationId>,
        key: String,
        value: Option<serde_json::Value>,
    },
    /// A device's document as it is now. One that the engine has not met is
    /// ignored: it will be met as the directory has it then.
    DeviceChanged {
        device: DeviceId,
        /// Of the document.
        version: u64,
        name: String,
        device_type: Option<String>,
    },
    /// The device is gone from the directory; its alarms end.
    DeviceDeleted {
        device: DeviceId,
    },
    /// A location's document as it is now; an older one than the engine has is
    /// ignored.
    LocationChanged {
        location: LocationId,
        /// Of the document.
        version: u64,
        name: String,
        time_zone: String,
        /// The location groups that it is in.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        groups: Vec<String>,
    },
}

/// What a person does to an alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum AlarmAction {
    Acknowledge,
    Unacknowledge,
    Clear,
    Shelve { until: TimestampMs },
    Unshelve,
    Comment { text: String },
    Assign { to: Option<String> },
}

impl CommandBody {
    /// The stable name that stands in the record's `kind` column.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Alarm { .. } => "alarm",
            Self::TenantAlarm { .. } => "tenant_alarm",
            Self::ActiveElsewhere { .. } => "active_elsewhere",
            Self::ProfileSaved { .. } => "profile_saved",
            Self::ProfileDeleted { .. } => "profile_deleted",
            Self::Attribute { .. } => "attribute",
            Self::DeviceChanged { .. } => "device_changed",
            Self::DeviceDeleted { .. } => "device_deleted",
            Self::LocationChanged { .. } => "location_changed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_from_before_provenance_was_told_still_reads() {
        let text = r#"{"kind":"alarm","alarm":"00000000000000000000000000000007","device":8,"location":2,"rule":{"profile":3,"key":"hot"},"severity":"major","by":"eva","action":{"action":"acknowledge"}}"#;
        let body: CommandBody = serde_json::from_str(text).unwrap();
        let CommandBody::Alarm { by, provenance, .. } = &body else { panic!("a deed") };
        assert_eq!((&**by, provenance), ("eva", &None));
        assert_eq!(serde_json::to_string(&body).unwrap(), text);
    }

    #[test]
    fn the_json_of_a_tenants_alarm_is_stable() {
        let text = r#"{"kind":"tenant_alarm","key":"forwarder_failing/17","active":true,"severity":"minor","description":"It fails","values":[["since","10:00"],["tries",3]]}"#;
        let body: CommandBody = serde_json::from_str(text).unwrap();
        let CommandBody::TenantAlarm { values, .. } = &body else { panic!("a tenant's alarm") };
        assert_eq!((&*values[1].0, &values[1].1), ("tries", &3.into()));
        assert_eq!(serde_json::to_string(&body).unwrap(), text);
    }

    #[test]
    fn the_json_of_what_is_active_elsewhere_is_stable() {
        let text = r#"{"kind":"active_elsewhere","rule":{"profile":3,"key":"hot"},"active":12}"#;
        let body: CommandBody = serde_json::from_str(text).unwrap();
        assert!(matches!(body, CommandBody::ActiveElsewhere { active: 12, .. }));
        assert_eq!(serde_json::to_string(&body).unwrap(), text);
    }

    #[test]
    fn a_location_from_before_there_were_groups_still_reads() {
        let text = r#"{"kind":"location_changed","location":2,"version":3,"name":"North","time_zone":"UTC"}"#;
        let body: CommandBody = serde_json::from_str(text).unwrap();
        let CommandBody::LocationChanged { groups, .. } = &body else { panic!("a location") };
        assert!(groups.is_empty());
        assert_eq!(serde_json::to_string(&body).unwrap(), text);
    }
}
