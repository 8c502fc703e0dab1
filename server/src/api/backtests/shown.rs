//! A backtest's result as the API and the command line show it.

use std::sync::Arc;

use alarms::backtest as core;
use schema::{ClearReason, DeviceId, LocationId, Severity};
use serde::{Deserialize, Serialize};
use store::Directory;
use utoipa::ToSchema;

/// How far a backtest is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BacktestProgress)]
pub struct ProgressShown {
    /// From 0 to 1, about.
    pub share: f64,
    /// Readings evaluated so far.
    pub readings: u64,
    /// Alarms found so far.
    pub alarms: u64,
}

/// What a backtest came to. All times are milliseconds since 1970, and the
/// devices' own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BacktestResult)]
pub struct ResultShown {
    pub from: i64,
    pub to: i64,
    /// From where on readings were evaluated; alarms before `from` don't count.
    pub warm_up_from: i64,
    /// Readings evaluated.
    pub readings: u64,
    /// Devices that the profile applies to or looks at.
    pub devices: u64,
    pub locations: u64,
    /// In the order of raising, 5,000 at most; fewer where they have more than
    /// 50,000 transitions or take more than 16 MiB.
    pub alarms: Vec<AlarmShown>,
    /// There are more alarms than are listed; the totals are of all.
    pub truncated: bool,
    pub totals: TotalsShown,
    /// None where there is no profile to compare with.
    pub difference: Option<DifferenceShown>,
    /// What a person should know of how it was made, a sentence each.
    pub assumptions: Vec<String>,
}

/// An alarm that would have been raised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BacktestAlarm)]
pub struct AlarmShown {
    pub device: u64,
    pub device_name: Option<String>,
    pub location: Option<u64>,
    pub location_name: Option<String>,
    pub rule: String,
    /// At the raise.
    pub severity: String,
    /// The highest.
    pub peak: String,
    pub raised_at: i64,
    /// None while it is active at the end.
    pub cleared_at: Option<i64>,
    /// `condition` or `time`.
    pub cleared_reason: Option<String>,
    /// How often it was true again.
    pub updates: u64,
    pub description: String,
    /// All but the updates, 200 at most.
    pub transitions: Vec<TransitionShown>,
}

/// What happened to an alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BacktestTransition)]
pub struct TransitionShown {
    /// As in the alarm's events, without `alarm_`.
    pub kind: String,
    pub at: i64,
    pub severity: String,
    pub description: String,
    /// The values of the rule's keys.
    #[schema(value_type = Object)]
    pub values: serde_json::Map<String, serde_json::Value>,
}

/// Alarms of one severity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BacktestSeverityCount)]
pub struct SeverityCount {
    pub severity: String,
    pub alarms: u64,
}

/// Sums over all alarms, listed or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BacktestTotals)]
pub struct TotalsShown {
    pub alarms: u64,
    /// By the highest severity, the worst first.
    pub by_severity: Vec<SeverityCount>,
    /// Time active; alarms at the same time count each.
    pub active_ms: u64,
    pub active_at_end: u64,
    /// Raised before the period and active at its start; in no other figure.
    pub active_at_start: u64,
    pub rules: Vec<RuleShown>,
}

/// Sums over the alarms of one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BacktestRule)]
pub struct RuleShown {
    pub rule: String,
    pub alarms: u64,
    pub by_severity: Vec<SeverityCount>,
    pub active_ms: u64,
    pub active_at_end: u64,
    /// Devices with three or more raises within a minute (ISA-18.2).
    pub chattering_devices: u64,
    /// How often its `flapping` switch began to hold transitions back.
    pub suppressions: u64,
}

/// The life of one alarm, in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BacktestSpan)]
pub struct SpanShown {
    pub device: u64,
    pub location: Option<u64>,
    pub rule: String,
    pub raised_at: i64,
    /// None where it is active at the end of the period.
    pub cleared_at: Option<i64>,
    /// The highest.
    pub severity: String,
}

/// An alarm with another time or severity than in reality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BacktestChange)]
pub struct ChangeShown {
    pub backtest: SpanShown,
    pub reality: SpanShown,
}

/// What differs from the alarms that the profile really raised in the period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BacktestDifference)]
pub struct DifferenceShown {
    /// The same device, rule, times and highest severity in both.
    pub same: u64,
    pub only_in_backtest: u64,
    pub only_in_reality: u64,
    /// In both, with another time or severity.
    pub changed: u64,
    /// The first of each, 500 at most.
    pub backtest_only: Vec<SpanShown>,
    pub reality_only: Vec<SpanShown>,
    pub changes: Vec<ChangeShown>,
}

impl From<core::Progress> for ProgressShown {
    fn from(progress: core::Progress) -> Self {
        let core::Progress { share, readings, alarms } = progress;
        Self { share, readings, alarms }
    }
}

impl ResultShown {
    pub fn of(outcome: &core::Outcome, directory: &Directory) -> Self {
        Self {
            from: outcome.from.0,
            to: outcome.to.0,
            warm_up_from: outcome.warm_up_from.0,
            readings: outcome.readings,
            devices: outcome.devices,
            locations: outcome.locations,
            alarms: outcome.alarms.iter().map(|alarm| shown(alarm, directory)).collect(),
            truncated: outcome.truncated,
            totals: totals(&outcome.totals),
            difference: outcome.difference.as_ref().map(difference),
            assumptions: outcome.assumptions.clone(),
        }
    }
}

fn shown(alarm: &core::BacktestAlarm, directory: &Directory) -> AlarmShown {
    let place = alarm.location.and_then(|location| directory.location(location));
    AlarmShown {
        device: alarm.device.0,
        device_name: directory.device(alarm.device).map(|device| device.name.clone()),
        location: alarm.location.map(|location| location.0),
        location_name: place.map(|location| location.name.clone()),
        rule: alarm.rule.key.to_string(),
        severity: alarm.severity.to_string(),
        peak: alarm.peak.to_string(),
        raised_at: alarm.raised_at.0,
        cleared_at: alarm.cleared_at.map(|at| at.0),
        cleared_reason: alarm.cleared_reason.map(|reason| reason_name(reason).to_owned()),
        updates: alarm.updates,
        description: alarm.description.clone(),
        transitions: alarm.transitions.iter().map(transition).collect(),
    }
}

fn reason_name(reason: ClearReason) -> &'static str {
    match reason {
        ClearReason::Condition => "condition",
        ClearReason::Time => "time",
        ClearReason::Person => "person",
        ClearReason::RuleRemoved => "rule_removed",
        ClearReason::DeviceRemoved => "device_removed",
    }
}

fn transition(transition: &core::BacktestTransition) -> TransitionShown {
    let named = |(name, value): &(Arc<str>, serde_json::Value)| (name.to_string(), value.clone());
    TransitionShown {
        kind: transition.kind.as_str().to_owned(),
        at: transition.at.0,
        severity: transition.severity.to_string(),
        description: transition.description.clone(),
        values: transition.values.iter().map(named).collect(),
    }
}

fn counts(counts: &std::collections::BTreeMap<Severity, u64>) -> Vec<SeverityCount> {
    let count = |(severity, alarms): (&Severity, &u64)| SeverityCount {
        severity: severity.to_string(),
        alarms: *alarms,
    };
    counts.iter().rev().map(count).collect()
}

fn totals(totals: &core::Totals) -> TotalsShown {
    let rule = |(rule, of): (&schema::RuleId, &core::RuleTotals)| RuleShown {
        rule: rule.key.to_string(),
        alarms: of.alarms,
        by_severity: counts(&of.by_severity),
        active_ms: of.active_ms,
        active_at_end: of.active_at_end,
        chattering_devices: of.chattering_devices,
        suppressions: of.suppressions,
    };
    TotalsShown {
        alarms: totals.alarms,
        by_severity: counts(&totals.by_severity),
        active_ms: totals.active_ms,
        active_at_end: totals.active_at_end,
        active_at_start: totals.active_at_start,
        rules: totals.rules.iter().map(rule).collect(),
    }
}

fn span(span: &core::Span) -> SpanShown {
    let id = |location: LocationId| location.0;
    let DeviceId(device) = span.device;
    SpanShown {
        device,
        location: span.location.map(id),
        rule: span.rule.to_string(),
        raised_at: span.raised_at.0,
        cleared_at: span.cleared_at.map(|at| at.0),
        severity: span.severity.to_string(),
    }
}

fn difference(difference: &core::Difference) -> DifferenceShown {
    let change = |(backtest, reality): &(core::Span, core::Span)| ChangeShown {
        backtest: span(backtest),
        reality: span(reality),
    };
    DifferenceShown {
        same: difference.same,
        only_in_backtest: difference.only_in_backtest,
        only_in_reality: difference.only_in_reality,
        changed: difference.changed,
        backtest_only: difference.backtest_only.iter().map(span).collect(),
        reality_only: difference.reality_only.iter().map(span).collect(),
        changes: difference.pairs.iter().map(change).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_the_name_that_events_have() {
        let reasons = [
            ClearReason::Condition,
            ClearReason::Time,
            ClearReason::Person,
            ClearReason::RuleRemoved,
            ClearReason::DeviceRemoved,
        ];
        for reason in reasons {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason_name(reason));
        }
    }
}
