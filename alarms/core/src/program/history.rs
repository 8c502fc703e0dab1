//! What a rule remembers of a key between readings: a delta over a window, the
//! rate, or whether the value changed.

use std::collections::VecDeque;

use schema::Value;
use serde::{Deserialize, Serialize};

use super::filter::KeyRef;
use crate::limits::DELTA_PARTS;

#[derive(Clone, Debug)]
pub(crate) struct HistorySpec {
    pub key: KeyRef,
    pub kind: HistoryKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistoryKind {
    /// Over a window in milliseconds.
    Delta(i64),
    Rate,
    Changed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum History {
    Delta(Delta),
    Rate {
        /// The reading before the last one; no time where there is none.
        before: (i64, f64),
        /// The change a second since; not a number where there is none.
        rate: f64,
    },
    Changed(bool),
}

/// No reading.
pub(crate) const NEVER: i64 = i64::MIN;

/// What a reading did to its key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    pub key: u32,
    /// The rules that mention the key, in the device's class.
    pub list: u32,
    pub at: i64,
    pub number: Option<f64>,
    pub old_at: Option<i64>,
    pub old_number: Option<f64>,
    pub changed: bool,
}

impl Touch {
    /// Of a key that had no reading before.
    pub fn first(key: u32, list: u32, at: i64, value: Value<'_>) -> Self {
        let number = match value {
            Value::Number(_) | Value::Integer(_) => value.as_f64(),
            _ => None,
        };
        Self { key, list, at, number, old_at: None, old_number: None, changed: false }
    }
}

/// The first number of each part of the window. The oldest stands here and the
/// others apart, because most readings look at no other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Delta {
    oldest: (i64, f64),
    /// The time of the last one that is remembered.
    last: i64,
    /// Where its part ends; found again after a restore.
    #[serde(skip, default = "never")]
    part_until: i64,
    #[allow(clippy::box_collection, reason = "most readings do not look there")]
    later: Option<Box<VecDeque<(i64, f64)>>>,
}

fn never() -> i64 {
    NEVER
}

impl Delta {
    pub const fn new() -> Self {
        Self { oldest: (NEVER, 0.0), last: NEVER, part_until: NEVER, later: None }
    }

    /// Of what is remembered, the oldest first.
    pub fn of(mut parts: VecDeque<(i64, f64)>) -> Self {
        let Some(oldest) = parts.pop_front() else { return Self::new() };
        let last = parts.back().map_or(oldest.0, |(at, _)| *at);
        let later = (!parts.is_empty()).then(|| Box::new(parts));
        Self { oldest, last, part_until: NEVER, later }
    }

    fn touch(&mut self, window: i64, at: i64, number: f64) {
        while self.oldest.0 != NEVER && self.oldest.0 < at - window {
            let next = self.later.as_mut().and_then(|later| later.pop_front());
            self.oldest = next.unwrap_or((NEVER, 0.0));
        }
        if self.oldest.0 == NEVER {
            self.oldest = (at, number);
            self.begin_part(window, at);
        } else if at == self.last {
            // A correction of the last reading.
            match self.later.as_mut().and_then(|later| later.back_mut()) {
                Some(last) => last.1 = number,
                None => self.oldest.1 = number,
            }
        } else {
            if self.part_until == NEVER {
                self.begin_part(window, self.last);
            }
            if at >= self.part_until {
                self.later.get_or_insert_default().push_back((at, number));
                self.begin_part(window, at);
            }
        }
    }

    /// What was said at `at` was corrected to no number.
    fn withdraw(&mut self, at: i64) {
        if at != self.last {
            return;
        }
        let later = self.later.as_mut();
        if later.and_then(|later| later.pop_back()).is_none() {
            self.oldest = (NEVER, 0.0);
        }
        let newest = self.later.as_ref().and_then(|later| later.back());
        self.last = newest.map_or(self.oldest.0, |(at, _)| *at);
        self.part_until = NEVER;
    }

    fn begin_part(&mut self, window: i64, at: i64) {
        let length = (window / DELTA_PARTS).max(1);
        self.last = at;
        self.part_until = (at.div_euclid(length) + 1).saturating_mul(length);
    }

    /// The first number at or after `from`.
    pub fn first_since(&self, from: i64) -> Option<f64> {
        if self.oldest.0 >= from && self.oldest.0 != NEVER {
            return Some(self.oldest.1);
        }
        let later = self.later.as_ref()?;
        later.iter().find(|(at, _)| *at >= from).map(|(_, number)| *number)
    }
}

impl History {
    pub fn new(kind: HistoryKind) -> Self {
        match kind {
            HistoryKind::Delta(_) => Self::Delta(Delta::new()),
            HistoryKind::Rate => Self::rate(None, None),
            HistoryKind::Changed => Self::Changed(false),
        }
    }

    pub fn rate(before: Option<(i64, f64)>, rate: Option<f64>) -> Self {
        Self::Rate { before: before.unwrap_or((NEVER, 0.0)), rate: rate.unwrap_or(f64::NAN) }
    }

    /// Takes a reading in.
    #[allow(clippy::cast_precision_loss, reason = "milliseconds between readings fit a float")]
    pub fn touch(&mut self, kind: HistoryKind, touch: &Touch) {
        match (self, kind) {
            (Self::Delta(delta), HistoryKind::Delta(window)) => match touch.number {
                Some(number) => delta.touch(window, touch.at, number),
                None => delta.withdraw(touch.at),
            },
            (Self::Rate { before, rate }, _) => {
                // A correction of the last reading leaves the one before it.
                if touch.old_at != Some(touch.at) {
                    *before = touch.old_at.zip(touch.old_number).unwrap_or((NEVER, 0.0));
                }
                *rate = match touch.number {
                    Some(new) if before.0 != NEVER => {
                        (new - before.1) * 1_000.0 / (touch.at - before.0) as f64
                    }
                    _ => f64::NAN,
                };
            }
            (Self::Changed(changed), _) => *changed = touch.changed,
            (Self::Delta(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_keeps_the_first_of_each_part_and_corrects_the_last() {
        let mut delta = Delta::new();
        let window = 640;
        for (at, number) in [(3, 1.0), (5, 2.0), (12, 3.0), (19, 4.0), (20, 5.0), (20, 6.0)] {
            delta.touch(window, at, number);
        }
        for (from, first) in [(0, 1.0), (3, 1.0), (4, 3.0), (12, 3.0), (13, 6.0), (20, 6.0)] {
            assert_eq!(delta.first_since(from), Some(first), "from {from}");
        }
        assert_eq!(delta.first_since(21), None);
        delta.touch(window, 650, 7.0);
        assert_eq!(delta.first_since(0), Some(3.0));
        delta.touch(window, 2_000, 8.0);
        assert_eq!((delta.first_since(0), delta.first_since(2_001)), (Some(8.0), None));
        delta.touch(window, 2_000, 9.0);
        assert_eq!(delta.first_since(0), Some(9.0));
    }

    #[test]
    fn a_delta_that_was_restored_goes_on_in_its_part() {
        let mut delta = Delta::new();
        delta.touch(640, 12, 1.0);
        let bytes = postcard::to_stdvec(&delta).unwrap();
        let mut restored: Delta = postcard::from_bytes(&bytes).unwrap();
        for at in [15, 19, 20, 31] {
            delta.touch(640, at, 2.0);
            restored.touch(640, at, 2.0);
            assert_eq!(delta.first_since(13), restored.first_since(13), "at {at}");
        }
    }
}
