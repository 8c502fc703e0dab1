//! How far a backtest is, and the way to end it early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use schema::TimestampMs;

use super::BacktestError;

/// What is seen of a running backtest from outside; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    cancelled: AtomicBool,
    readings: AtomicU64,
    alarms: AtomicU64,
    /// Parts of the work that are done, in thousandths of a series.
    done: AtomicU64,
    /// Series of all units.
    series: AtomicU64,
}

/// How far a backtest is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// From 0 to 1, about.
    pub share: f64,
    pub readings: u64,
    pub alarms: u64,
}

impl Control {
    /// Ends the backtest soon; its result is an error.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Work that takes long asks at each step.
    pub(super) fn go_on(&self) -> Result<(), BacktestError> {
        if self.is_cancelled() { Err(BacktestError::Cancelled) } else { Ok(()) }
    }

    #[must_use]
    pub fn progress(&self) -> Progress {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let all = read(&self.0.series).saturating_mul(1_000);
        #[allow(clippy::cast_precision_loss, reason = "a share is shown with two digits")]
        let share = if all == 0 { 0.0 } else { read(&self.0.done) as f64 / all as f64 };
        Progress {
            share: share.min(1.0),
            readings: read(&self.0.readings),
            alarms: read(&self.0.alarms),
        }
    }

    pub(super) fn set_series(&self, series: u64) {
        self.0.series.store(series, Ordering::Relaxed);
    }
}

/// One unit's part of the progress.
#[derive(Debug)]
pub(super) struct Share<'a> {
    counters: &'a Counters,
    series: u64,
    span: (TimestampMs, TimestampMs),
    told: (u64, u64, u64),
}

impl<'a> Share<'a> {
    pub fn new(control: &'a Control, series: u64, span: (TimestampMs, TimestampMs)) -> Self {
        Self { counters: &control.0, series, span, told: (0, 0, 0) }
    }

    /// The unit is at this time, with so many readings and alarms in all.
    pub fn at(&mut self, at: TimestampMs, readings: u64, alarms: u64) {
        let (from, to) = self.span;
        let whole = i128::from(to.0) - i128::from(from.0);
        let part = (i128::from(at.0) - i128::from(from.0)).clamp(0, whole.max(1));
        let thousandths = u64::try_from(part * 1_000 / whole.max(1)).unwrap_or(0);
        let done = thousandths.saturating_mul(self.series);
        let add = |counter: &AtomicU64, now: u64, before: u64| {
            counter.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        };
        add(&self.counters.done, done, self.told.0);
        add(&self.counters.readings, readings, self.told.1);
        add(&self.counters.alarms, alarms, self.told.2);
        self.told = (done, readings, alarms);
    }
}
