//! What happened to an alarm.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Severity;
use crate::derived::derived_id;
use crate::{DeviceId, LocationId, Position, Provenance, TenantId, TimestampMs};

derived_id!(
    /// An alarm's identity; it follows from the transition that raised it.
    AlarmId
);
derived_id!(
    /// A transition's identity; it follows from its cause, so that a replay
    /// gives the same one.
    TransitionId
);

/// A profile's identity; assigned by the store, never used again.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ProfileId(pub u64);

impl ProfileId {
    /// The profile of the system alarms, which every tenant has.
    pub const SYSTEM: Self = Self(0);
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ProfileId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A rule's identity: its key within its profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleId {
    pub profile: ProfileId,
    pub key: Arc<str>,
}

/// What an alarm is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Originator {
    Device(DeviceId),
    /// A system alarm of the tenant as a whole.
    Tenant(TenantId),
}

/// What made a transition happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A row of a journal record: a reading, an attribute or a command.
    Record { position: Position, row: u32 },
    /// A time that came without any input.
    Deadline,
}

/// Why an alarm was cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClearReason {
    /// The clear condition came true.
    Condition,
    /// `auto_clear_after` passed.
    Time,
    /// Somebody cleared it.
    Person,
    /// The rule is no longer in its profile, or the profile is gone.
    RuleRemoved,
    /// The device is gone from the directory.
    DeviceRemoved,
}

/// Why an alarm's transitions are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuppressReason {
    Flapping,
}

/// The kind of a transition. The names are part of stored formats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TransitionKind {
    Raised,
    SeverityChanged {
        from: Severity,
    },
    /// True again while active: so many times in a row, of which this tells the
    /// last. Its id is that of the first.
    Updated {
        times: u32,
    },
    Acknowledged,
    Unacknowledged,
    Cleared {
        reason: ClearReason,
    },
    Shelved {
        until: TimestampMs,
    },
    /// By a person, or by the time that the shelving was for.
    Unshelved {
        by_time: bool,
    },
    Suppressed {
        reason: SuppressReason,
    },
    Commented {
        text: String,
    },
    /// To nobody when there is no name.
    Assigned {
        to: Option<String>,
    },
}

impl TransitionKind {
    /// The stable name of the kind.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::SeverityChanged { .. } => "severity_changed",
            Self::Updated { .. } => "updated",
            Self::Acknowledged => "acknowledged",
            Self::Unacknowledged => "unacknowledged",
            Self::Cleared { .. } => "cleared",
            Self::Shelved { .. } => "shelved",
            Self::Unshelved { .. } => "unshelved",
            Self::Suppressed { .. } => "suppressed",
            Self::Commented { .. } => "commented",
            Self::Assigned { .. } => "assigned",
        }
    }
}

/// One thing that happened to one alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    pub id: TransitionId,
    pub alarm: AlarmId,
    pub tenant: TenantId,
    /// The device's location; none for an alarm of the tenant as a whole.
    pub location: Option<LocationId>,
    pub originator: Originator,
    pub rule: RuleId,
    pub kind: TransitionKind,
    /// When it happened, in the device's own time.
    pub at: TimestampMs,
    /// When its cause reached us; the deadline itself for a timer.
    pub received_at: TimestampMs,
    /// The alarm's severity from now on.
    pub severity: Severity,
    pub cause: Cause,
    /// Who did it, where a person did.
    pub by: Option<Arc<str>>,
    /// By which token and from where they did it.
    pub provenance: Option<Arc<Provenance>>,
    /// The rule's description with its values filled in.
    pub description: String,
    /// The values of the rule's keys as they stood, in the rule's order; JSON scalars.
    pub values: Vec<(Arc<str>, serde_json::Value)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParseIdError;

    #[test]
    fn ids_read_back_from_their_text() {
        let id = TransitionId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "0123456789abcdef0123456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "12", "+123456789abcdef0123456789abcdef0", "zz"] {
            assert_eq!(wrong.parse::<AlarmId>(), Err(ParseIdError), "{wrong}");
        }
    }

    #[test]
    fn the_json_of_a_kind_is_stable() {
        let kind = TransitionKind::Cleared { reason: ClearReason::RuleRemoved };
        let text = serde_json::to_string(&kind).unwrap();
        assert_eq!(text, r#"{"kind":"cleared","reason":"rule_removed"}"#);
        assert_eq!(serde_json::from_str::<TransitionKind>(&text).unwrap(), kind);
    }
}
