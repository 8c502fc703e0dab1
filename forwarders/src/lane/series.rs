//! Suppression: whether a reading is sent, from what was sent last of its
//! series and how long ago by the readings' own times. A pure function, so that
//! a journal that is read again gives the same answer.

use serde::{Deserialize, Serialize};

use super::DropReason;
use crate::value::Fingerprint;

/// How a forwarder treats all its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Only changes are sent, and the same value once this long has passed
    /// since it was sent last; 0 never sends the same value twice in a row.
    /// None sends all.
    pub smart_ms: Option<u64>,
    /// The platform takes a reading only if it is newer than the newest of its
    /// series.
    pub newer_only: bool,
}

impl Policy {
    /// Whether the last value of each series is of any use.
    #[must_use]
    pub fn remembers(self) -> bool {
        self.smart_ms.is_some() || self.newer_only
    }
}

/// How far a number may be from the one that was sent last and still count as
/// the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    Absolute(f64),
    /// A share of the value that was sent last: 0.01 is one percent.
    Relative(f64),
}

/// Why a reading is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendReason {
    /// The forwarder sends all.
    Always,
    First,
    Changed,
    IntervalPassed,
}

/// Why it is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressReason {
    Same,
    WithinTolerance,
}

/// What becomes of a reading that is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Send(SendReason),
    Suppress(SuppressReason),
    Drop(DropReason),
}

/// A value that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Last {
    /// When the device says that it was.
    pub at_ms: i64,
    pub value: Fingerprint,
}

/// What is known of one series.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Series {
    /// The newest value that the platform acknowledged.
    acknowledged: Option<Last>,
    /// The newest one that is queued or in flight, by its ticket.
    queued: Option<(u64, Last)>,
}

impl Series {
    pub(super) fn of(acknowledged: Last) -> Self {
        Self { acknowledged: Some(acknowledged), queued: None }
    }

    pub(super) fn acknowledged(&self) -> Option<Last> {
        self.acknowledged
    }

    fn last(&self) -> Option<Last> {
        self.queued.map(|(_, last)| last).or(self.acknowledged)
    }

    pub(super) fn queued(&mut self, ticket: u64, last: Last) {
        self.queued = Some((ticket, last));
    }

    /// Tickets are resolved in order, so that an older one never comes later.
    pub(super) fn sent(&mut self, ticket: u64, last: Last) {
        self.acknowledged = Some(last);
        self.failed(ticket);
    }

    /// The next value is compared with what was acknowledged, so that a change
    /// which the platform did not take is no change that it knows.
    pub(super) fn failed(&mut self, ticket: u64) {
        if self.queued.is_some_and(|(queued, _)| queued == ticket) {
            self.queued = None;
        }
    }
}

pub(super) fn decide(
    policy: Policy,
    tolerance: Option<Tolerance>,
    series: Option<&Series>,
    at_ms: i64,
    value: Fingerprint,
) -> Decision {
    if !policy.remembers() {
        return Decision::Send(SendReason::Always);
    }
    let Some(last) = series.and_then(Series::last) else {
        return Decision::Send(SendReason::First);
    };
    if policy.newer_only && at_ms <= last.at_ms {
        return Decision::Drop(DropReason::OutOfOrder);
    }
    let Some(interval_ms) = policy.smart_ms else {
        return Decision::Send(SendReason::Always);
    };
    let Some(reason) = sameness(last.value, value, tolerance) else {
        return Decision::Send(SendReason::Changed);
    };
    // A clock that was set back by more than the interval begins anew, or a
    // series with one reading from the future would be silent until then.
    if interval_ms > 0 && at_ms.abs_diff(last.at_ms) >= interval_ms {
        return Decision::Send(SendReason::IntervalPassed);
    }
    Decision::Suppress(reason)
}

/// Why two values count as one; none if they don't.
fn sameness(
    last: Fingerprint,
    value: Fingerprint,
    tolerance: Option<Tolerance>,
) -> Option<SuppressReason> {
    if last == value {
        return Some(SuppressReason::Same);
    }
    let (last, value) = (last.number()?, value.number()?);
    let width = match tolerance? {
        Tolerance::Absolute(width) => width,
        Tolerance::Relative(share) => share * last.abs(),
    };
    ((value - last).abs() <= width).then_some(SuppressReason::WithinTolerance)
}
