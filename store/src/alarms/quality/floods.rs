//! Floods, followed from one period of ten minutes to the next.

use schema::TimestampMs;

use super::{FLOOD_BEGINS_OVER, FLOOD_ENDS_BELOW, PERIOD_MS, QualityQuery};

/// Floods: from the first period over the bound up to the first below the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floods {
    pub count: u64,
    pub total_ms: i64,
    pub longest_ms: i64,
    pub longest_at: Option<TimestampMs>,
    /// Alarms that were raised in floods.
    pub raised: u64,
}

/// Follows floods from period to period.
pub(super) struct FloodMeter {
    from: i64,
    to: i64,
    /// The next period that is expected.
    next: i64,
    /// The period with which the flood of now began.
    since: Option<i64>,
    floods: Floods,
}

impl FloodMeter {
    pub fn new(query: &QualityQuery) -> Self {
        let (from, to) = (query.from.0, query.to.0);
        Self { from, to, next: 0, since: None, floods: Floods::default() }
    }

    pub fn period(&mut self, period: i64, count: u64) {
        if period > self.next {
            // Those in between were empty.
            self.end(self.next);
        }
        if count < FLOOD_ENDS_BELOW {
            self.end(period);
        } else if count > FLOOD_BEGINS_OVER && self.since.is_none() {
            self.since = Some(period);
        }
        if self.since.is_some() {
            self.floods.raised += count;
        }
        self.next = period + 1;
    }

    fn end(&mut self, period: i64) {
        let Some(since) = self.since.take() else { return };
        let begin = self.from + since * PERIOD_MS;
        let ms = (self.from + period * PERIOD_MS).min(self.to) - begin;
        self.floods.count += 1;
        self.floods.total_ms += ms;
        if ms > self.floods.longest_ms {
            self.floods.longest_ms = ms;
            self.floods.longest_at = Some(TimestampMs(begin));
        }
    }

    pub fn finish(mut self) -> Floods {
        self.end(self.next);
        self.floods
    }
}
