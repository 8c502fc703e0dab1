//! Compares what is stored with what was offered and acknowledged.
//!
//! The judge of a run: rows in, verdict out. It never performs IO, and it takes
//! nothing on trust: a row twice, a row that nobody offered, a value or a type
//! that isn't the offered one, each has a count of its own.

use std::fmt;

use schema::TimestampMs;
use serde::Serialize;

use crate::ledger::{Bits, Ledger};
use crate::plan::{Lane, Plan};
use crate::transitions::{Expectation, Expected};
use crate::values::{self, Stored};

/// How many faults are described in words; all are counted.
const MAX_EXAMPLES: usize = 20;

/// The result, in readings: one value of one key of one device at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Rows that the server gave back.
    pub stored: u64,
    /// Acknowledged, but not stored.
    pub missing: u64,
    /// Stored more than once for one device, key and time: the rows too many.
    pub doubled: u64,
    /// Stored with another value or type than was offered.
    pub wrong: u64,
    /// Stored, but never offered.
    pub unexpected: u64,
    /// Rows of a range that came before an earlier time.
    pub out_of_order: u64,
    /// Stored without an acknowledgement: a crash took it, which is allowed.
    pub stored_unacknowledged: u64,
    /// The first faults, in words.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Adds another part of the run.
    pub fn add(&mut self, other: Self) {
        self.stored += other.stored;
        self.missing += other.missing;
        self.doubled += other.doubled;
        self.wrong += other.wrong;
        self.unexpected += other.unexpected;
        self.out_of_order += other.out_of_order;
        self.stored_unacknowledged += other.stored_unacknowledged;
        let room = MAX_EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }

    /// Takes in how many readings the server counts in the series, which it
    /// computes in another way: more are doubled, fewer are missing.
    pub fn compare_count(&mut self, name: SeriesName, count: u64) {
        let stored = self.stored;
        self.doubled += count.saturating_sub(stored);
        self.missing += stored.saturating_sub(count);
        if count != stored {
            self.example(|| format!("{name}: {stored} rows, but an aggregate counts {count}"));
        }
    }

    /// Whether nothing is at fault.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let Self { missing, doubled, wrong, unexpected, out_of_order, .. } = self;
        missing + doubled + wrong + unexpected + out_of_order == 0
    }

    fn example(&mut self, what: impl FnOnce() -> String) {
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(what());
        }
    }
}

/// One series under audit: rows go in oldest first.
#[derive(Debug)]
pub struct SeriesAudit<'a> {
    plan: &'a Plan,
    ledger: &'a Ledger,
    name: SeriesName,
    live: LaneAudit,
    buffered: LaneAudit,
    last: Option<TimestampMs>,
    verdict: Verdict,
}

/// Which series it is: by connection, device behind it, and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesName {
    pub connection: u32,
    pub device: u32,
    pub key: u32,
}

impl fmt::Display for SeriesName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, device, key } = self;
        write!(f, "connection {connection}, device {device}, key {key}")
    }
}

#[derive(Debug)]
struct LaneAudit {
    lane: Lane,
    seed: u64,
    offered: u64,
    seen: Bits,
}

impl<'a> SeriesAudit<'a> {
    #[must_use]
    pub fn new(plan: &'a Plan, ledger: &'a Ledger, name: SeriesName) -> Self {
        let lane = |lane| LaneAudit {
            lane,
            seed: values::series(name.connection, name.device, lane == Lane::Buffered),
            offered: plan.readings_offered(lane, name.device, ledger.offered()),
            seen: Bits::default(),
        };
        Self {
            plan,
            ledger,
            name,
            live: lane(Lane::Live),
            buffered: lane(Lane::Buffered),
            last: None,
            verdict: Verdict::default(),
        }
    }

    /// Takes the next row of the series.
    pub fn row(&mut self, time: TimestampMs, stored: Stored<'_>) {
        let Self { plan, ledger, name, verdict, .. } = self;
        verdict.stored += 1;
        if self.last.is_some_and(|last| time < last) {
            verdict.out_of_order += 1;
            verdict.example(|| format!("{name}: {time} came after {:?}", self.last));
        }
        self.last = Some(time);
        let found = plan.at(time).and_then(|(lane, number)| {
            let audit = match lane {
                Lane::Live => &mut self.live,
                Lane::Buffered => &mut self.buffered,
            };
            (number < audit.offered).then_some((audit, number))
        });
        let Some((audit, number)) = found else {
            verdict.unexpected += 1;
            verdict.example(|| format!("{name}: nothing was offered at {time}, found {stored:?}"));
            return;
        };
        if !audit.seen.set(number) {
            verdict.doubled += 1;
            verdict.example(|| format!("{name}: {time} is stored twice"));
            return;
        }
        let offered = plan.sample(audit.seed, name.key, number);
        if !offered.is(stored) {
            verdict.wrong += 1;
            verdict.example(|| format!("{name}: {offered:?} at {time} became {stored:?}"));
        }
        if !ledger.is_acknowledged(plan.message_of(audit.lane, name.device, number)) {
            verdict.stored_unacknowledged += 1;
        }
    }

    /// What must have come of the series' alarms, by the rows so far. Readings
    /// came to the server in the order of their messages.
    #[must_use]
    pub fn expected(&self) -> Vec<Expected> {
        let device = self.name.device;
        let mut stored = Vec::new();
        for audit in [&self.live, &self.buffered] {
            let seen = (0..audit.offered).filter(|&number| audit.seen.get(number));
            stored.extend(
                seen.map(|number| {
                    (self.plan.message_of(audit.lane, device, number), number, audit)
                }),
            );
        }
        stored.sort_unstable_by_key(|&(message, number, _)| (message, number));
        let mut expectation = Expectation::default();
        for (_, number, LaneAudit { lane, seed, .. }) in stored {
            let sample = self.plan.sample(*seed, self.name.key, number);
            expectation.reading(self.name.key, self.plan.time_of(*lane, number), sample);
        }
        expectation.finish()
    }

    /// All rows are in: finds what isn't there.
    #[must_use]
    pub fn finish(mut self) -> Verdict {
        for audit in [&self.live, &self.buffered] {
            for number in 0..audit.offered {
                let message = self.plan.message_of(audit.lane, self.name.device, number);
                if !audit.seen.get(number) && self.ledger.is_acknowledged(message) {
                    self.verdict.missing += 1;
                    let (name, time) = (self.name, self.plan.time_of(audit.lane, number));
                    self.verdict.example(|| {
                        format!("{name}: {time} of message {message} was acknowledged, not stored")
                    });
                }
            }
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests;
