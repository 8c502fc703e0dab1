//! Profiles compiled to what the engine runs.
//!
//! [`check`] names all that is wrong with a profile at once; the engine itself
//! only ever takes profiles that have none of it.

mod check;
mod contradictions;
mod filter;
mod history;
mod operands;
mod operators;
mod pattern;
mod schedule;
mod template;
mod text;

use std::sync::Arc;

use schema::{AlarmProfile, AlarmRule, ProfileId, RuleId, Severity, TenantId};

pub use check::{Problem, Report, check};
pub(crate) use filter::{Context, Holds, KeyRef, Shift, Tree};
pub(crate) use history::{Delta, History, HistoryKind, HistorySpec, Touch};
pub(crate) use schedule::{Schedule, Zones};
pub(crate) use schema::Window;
pub(crate) use template::{Template, cut_description};
pub use text::parse_toml;

use crate::engine::Keys;

/// The temporal kind of a condition; times in milliseconds. Inactivity is a
/// simple condition over the age of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Simple,
    Duration(i64),
    Repeating { times: u32, within: Option<i64> },
}

#[derive(Debug)]
pub(crate) struct Condition {
    pub tree: Tree,
    pub kind: Kind,
    pub schedule: Option<Box<Schedule>>,
    /// The place of its timer or counter in the rule's state; a simple
    /// condition has neither.
    pub slot: Option<usize>,
}

impl Condition {
    /// The slot and the length of a condition that must hold for a time.
    fn duration(&self) -> Option<(usize, i64)> {
        match (self.slot, self.kind) {
            (Some(slot), Kind::Duration(length)) => Some((slot, length)),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Switches {
    pub deadband: f64,
    pub off_delay: i64,
    pub min_on: i64,
    pub re_alarm_after: i64,
    pub flapping: Option<(f64, f64)>,
    pub latch: bool,
    pub de_escalate: bool,
    pub auto_clear_after: Option<i64>,
    pub gap_breaks_duration: bool,
    pub max_active: u32,
    pub reacknowledge_on_escalation: bool,
}

/// One rule, ready to run.
#[derive(Debug)]
pub(crate) struct Rule {
    pub tenant: TenantId,
    pub id: RuleId,
    /// As it was written; an edit that leaves it alone leaves its state alone.
    pub source: Arc<AlarmRule>,
    pub description: Template,
    /// The worst first.
    pub raises: Vec<(Severity, Condition)>,
    pub clear: Option<Condition>,
    pub clear_by_severity: Vec<(Severity, Condition)>,
    pub histories: Vec<HistorySpec>,
    /// All keys of its conditions, each once.
    pub keys: Vec<KeyRef>,
    /// Attributes that its limits are taken from.
    pub attributes: Vec<u32>,
    pub switches: Switches,
    /// Timers and counters of its state.
    pub slots: usize,
    /// Conditions that must hold for a time: their slots and lengths.
    pub durations: Vec<(usize, i64)>,
    /// True when an idle device needs no state for it: nothing to remember
    /// between readings.
    pub stateless_when_idle: bool,
    /// The length of the one duration that is all that it ever has to remember
    /// before it raises, if it is such a rule.
    pub waits: Option<i64>,
    /// A rule whose raise conditions look at other devices only belongs to the
    /// first of them.
    pub anchor: Option<Arc<str>>,
    /// All its keys are the platform's, so that it has the server's time and
    /// not its device's.
    pub of_system: bool,
}

impl Rule {
    /// Whether a location's time zone decides when it is on.
    pub fn is_on_local_time(&self) -> bool {
        let all = self.raises.iter().chain(&self.clear_by_severity);
        let mut all = all.map(|(_, condition)| condition).chain(&self.clear);
        all.any(|it| it.schedule.as_ref().is_some_and(|schedule| schedule.zone.is_none()))
    }

    /// The clear condition that counts at a severity.
    pub fn clear_for(&self, severity: Severity) -> Option<&Condition> {
        let own = self.clear_by_severity.iter().find(|(s, _)| *s == severity);
        own.map(|(_, condition)| condition).or(self.clear.as_ref())
    }
}

/// Compiles a profile in which [`check`] finds no error.
///
/// # Errors
/// The report of what is wrong.
pub(crate) fn compile(
    tenant: TenantId,
    profile: ProfileId,
    document: &AlarmProfile,
    keys: &mut Keys,
    zones: &mut Zones,
) -> Result<Vec<Rule>, Report> {
    let mut compiler = check::Compiler::new(keys, zones);
    let rules = compiler.profile(tenant, profile, document);
    let report = compiler.into_report();
    if report.errors.is_empty() { Ok(rules) } else { Err(report) }
}
