//! What a backtest comes to. All times are the devices' own.

use std::collections::BTreeMap;
use std::sync::Arc;

use schema::{
    ClearReason, DeviceId, LocationId, RuleId, Severity, TimestampMs, Transition, TransitionKind,
};

/// The result of a backtest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Inclusive; alarms raised before it are not counted.
    pub from: TimestampMs,
    /// Exclusive.
    pub to: TimestampMs,
    /// From where on readings were evaluated.
    pub warm_up_from: TimestampMs,
    /// Readings that were evaluated.
    pub readings: u64,
    /// Devices that the profile applies to or looks at.
    pub devices: u64,
    pub locations: u64,
    /// In the order of raising; the first [`super::MAX_LISTED_ALARMS`], and fewer
    /// where they have more than [`super::MAX_LISTED_TRANSITIONS_IN_ALL`] or take
    /// more than [`super::MAX_LISTED_BYTES`].
    pub alarms: Vec<BacktestAlarm>,
    /// There are more than are listed; the totals are of all.
    pub truncated: bool,
    pub totals: Totals,
    /// None where there is nothing to compare with.
    pub difference: Option<Difference>,
    /// What the result rests on and a person should know, a sentence each.
    pub assumptions: Vec<String>,
}

/// An alarm that would have been raised.
#[derive(Clone, Debug, PartialEq)]
pub struct BacktestAlarm {
    pub device: DeviceId,
    pub location: Option<LocationId>,
    pub rule: RuleId,
    /// At the raise.
    pub severity: Severity,
    /// The highest.
    pub peak: Severity,
    pub raised_at: TimestampMs,
    pub cleared_at: Option<TimestampMs>,
    pub cleared_reason: Option<ClearReason>,
    /// How often it was true again.
    pub updates: u64,
    /// At the raise.
    pub description: String,
    /// All but the updates, which are counted only; at most
    /// [`super::MAX_LISTED_TRANSITIONS`].
    pub transitions: Vec<BacktestTransition>,
    /// What it takes in memory, about.
    pub(super) bytes: usize,
}

/// What happened to an alarm, and the values that its rule saw.
#[derive(Clone, Debug, PartialEq)]
pub struct BacktestTransition {
    pub kind: TransitionKind,
    pub at: TimestampMs,
    pub severity: Severity,
    pub description: String,
    pub values: Vec<(Arc<str>, serde_json::Value)>,
}

impl BacktestTransition {
    pub(super) fn of(transition: &Transition) -> Self {
        Self {
            kind: transition.kind.clone(),
            at: transition.at,
            severity: transition.severity,
            description: transition.description.clone(),
            values: transition.values.clone(),
        }
    }

    /// What it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        let value = |(name, value): &(Arc<str>, serde_json::Value)| {
            let text = value.as_str().map_or(0, str::len);
            size_of::<(Arc<str>, serde_json::Value)>() + name.len() + text
        };
        let values: usize = self.values.iter().map(value).sum();
        size_of::<Self>() + self.description.len() + values
    }
}

/// Sums over all alarms, listed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub alarms: u64,
    /// By the highest severity of each alarm.
    pub by_severity: BTreeMap<Severity, u64>,
    /// Within the period; alarms at the same time count each.
    pub active_ms: u64,
    /// Active at the end of the period.
    pub active_at_end: u64,
    /// Raised before the period and active at its start; in no other figure.
    pub active_at_start: u64,
    pub rules: BTreeMap<RuleId, RuleTotals>,
}

/// Sums over the alarms of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleTotals {
    pub alarms: u64,
    pub by_severity: BTreeMap<Severity, u64>,
    pub active_ms: u64,
    pub active_at_end: u64,
    /// Devices on which it chatters by ISA-18.2's measure: three or more raises
    /// within a minute.
    pub chattering_devices: u64,
    /// How often its `flapping` switch began to hold transitions back.
    pub suppressions: u64,
}

impl RuleTotals {
    fn add(&mut self, other: &Self) {
        self.alarms += other.alarms;
        self.active_ms += other.active_ms;
        self.active_at_end += other.active_at_end;
        self.chattering_devices += other.chattering_devices;
        self.suppressions += other.suppressions;
        add_counts(&mut self.by_severity, &other.by_severity);
    }
}

impl Totals {
    pub(super) fn add(&mut self, other: &Self) {
        self.alarms += other.alarms;
        self.active_ms += other.active_ms;
        self.active_at_end += other.active_at_end;
        self.active_at_start += other.active_at_start;
        add_counts(&mut self.by_severity, &other.by_severity);
        for (rule, totals) in &other.rules {
            self.rules.entry(rule.clone()).or_default().add(totals);
        }
    }
}

fn add_counts(to: &mut BTreeMap<Severity, u64>, from: &BTreeMap<Severity, u64>) {
    for (severity, count) in from {
        *to.entry(*severity).or_default() += count;
    }
}

/// The life of one alarm, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub device: DeviceId,
    pub location: Option<LocationId>,
    pub rule: Arc<str>,
    pub raised_at: TimestampMs,
    /// None while active, or where it is cleared after the period.
    pub cleared_at: Option<TimestampMs>,
    /// The highest.
    pub severity: Severity,
}

/// What the backtest has otherwise than what was raised in the period by the
/// profile that it is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Alarms that are the same in both: device, rule, times and severity.
    pub same: u64,
    pub only_in_backtest: u64,
    pub only_in_reality: u64,
    pub changed: u64,
    /// The first of each, up to [`super::MAX_LISTED_DIFFERENCES`].
    pub backtest_only: Vec<Span>,
    pub reality_only: Vec<Span>,
    /// (in the backtest, in reality): of one device and rule and active at the
    /// same time, with another time or severity.
    pub pairs: Vec<(Span, Span)>,
}
