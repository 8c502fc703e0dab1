//! The shape of alarms: profiles as they are written, transitions as they come
//! out of the core, and the commands that enter it through the journal.

mod command;
mod duration;
mod profile;
mod severity;
mod transition;

pub use command::{AlarmAction, Command, CommandBody, MAX_TENANT_ALARM_KEY_BYTES};
pub use duration::{DurationMs, ParseDurationError};
pub use profile::{
    AlarmProfile, AlarmRule, AppliesTo, Condition, Filter, Flapping, Operand, Reference, Schedule,
};
pub use severity::{ParseSeverityError, Severity};
pub use transition::{
    AlarmId, Cause, ClearReason, Originator, ProfileId, RuleId, SuppressReason, Transition,
    TransitionId, TransitionKind,
};
