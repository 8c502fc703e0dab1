//! What alarms must have come of a load, and how that compares with what the
//! server says.
//!
//! The judge of alarms: stored readings and events in, verdict out. The
//! expectation is worked out reading by reading, from the values and the
//! profile's limits alone, and shares nothing with the server's engine. It never
//! performs IO.

use std::collections::{HashMap, HashSet};

use schema::{Severity, TimestampMs};
use serde::Serialize;

use crate::audit::SeriesName;
use crate::swing::severity_of;
use crate::values::Sample;

/// How many faults are described in words; all are counted.
const MAX_EXAMPLES: usize = 20;

/// What became of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Raised,
    SeverityChanged,
    Cleared,
}

/// A transition that must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub at: TimestampMs,
    pub kind: Kind,
    /// The alarm's, after it.
    pub severity: Severity,
}

/// A transition that the server told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub id: u128,
    pub alarm: u128,
    pub device: u64,
    pub rule: String,
    pub at: TimestampMs,
    pub kind: Kind,
    pub severity: Severity,
}

/// What the alarms of one series must be, worked out reading by reading.
#[derive(Debug, Default)]
pub struct Expectation {
    last: Option<TimestampMs>,
    active: Option<Severity>,
    transitions: Vec<Expected>,
}

impl Expectation {
    /// Takes the next reading in the order in which they came. One that is not
    /// later than the last is stored, and changes no alarm.
    pub fn reading(&mut self, key: u32, at: TimestampMs, sample: Sample) {
        if self.last.is_some_and(|last| at <= last) {
            return;
        }
        self.last = Some(at);
        let (kind, severity) = match (self.active, severity_of(key, sample)) {
            (None, Some(now)) => (Kind::Raised, now),
            (Some(was), Some(now)) if now > was => (Kind::SeverityChanged, now),
            (Some(was), None) => (Kind::Cleared, was),
            (None, None) | (Some(_), Some(_)) => return,
        };
        self.active = (kind != Kind::Cleared).then_some(severity);
        self.transitions.push(Expected { at, kind, severity });
    }

    /// All that must be there, in the order of time.
    #[must_use]
    pub fn finish(self) -> Vec<Expected> {
        self.transitions
    }
}

/// How the alarms compare, in transitions: raised, severity changed, cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Transitions {
    /// That must be there, by the stored readings.
    pub expected: u64,
    /// That the server told.
    pub found: u64,
    /// Expected, and told neither so nor otherwise.
    pub missing: u64,
    /// Told more than once.
    pub doubled: u64,
    /// Told with another time, kind, severity, order or alarm; or not expected.
    pub wrong: u64,
    /// The first faults, in words.
    pub examples: Vec<String>,
}

impl Transitions {
    /// Whether nothing is at fault.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missing + self.doubled + self.wrong == 0
    }

    fn example(&mut self, what: impl FnOnce() -> String) {
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(what());
        }
    }

    /// Compares one series. `found` is in the order of the server's events, and
    /// `alarms` are those of all series so far.
    fn compare(
        &mut self,
        name: SeriesName,
        expected: &[Expected],
        found: &[&Found],
        alarms: &mut HashSet<u128>,
    ) {
        self.expected += expected.len() as u64;
        self.found += found.len() as u64;
        let mut taken = vec![false; expected.len()];
        let (mut strays, mut next, mut alarm) = (Vec::new(), 0, None);
        for &told in found {
            let Ok(place) = expected.binary_search_by_key(&told.at, |expected| expected.at) else {
                strays.push(told);
                continue;
            };
            let due = expected[place];
            let same = (told.kind, told.severity) == (due.kind, due.severity);
            if taken[place] && same {
                self.doubled += 1;
                self.example(|| format!("{name}: {told:?} was told twice"));
                continue;
            }
            // An alarm has one beginning, and what follows belongs to it.
            let belongs = match told.kind {
                Kind::Raised => alarms.insert(told.alarm),
                Kind::SeverityChanged | Kind::Cleared => alarm == Some(told.alarm),
            };
            if told.kind == Kind::Raised {
                alarm = Some(told.alarm);
            }
            if taken[place] || !same || place < next || !belongs {
                self.wrong += 1;
                self.example(|| format!("{name}: {due:?} was told as {told:?}"));
            }
            taken[place] = true;
            next = next.max(place + 1);
        }
        let mut gaps: Vec<Expected> = expected
            .iter()
            .zip(&taken)
            .filter(|(_, taken)| !**taken)
            .map(|(due, _)| *due)
            .collect();
        for stray in strays {
            let instead = gaps
                .iter()
                .position(|due| (due.kind, due.severity) == (stray.kind, stray.severity))
                .map(|place| gaps.remove(place));
            self.wrong += 1;
            self.example(|| match instead {
                Some(due) => format!("{name}: {due:?} was told at another time: {stray:?}"),
                None => format!("{name}: nothing was due for {stray:?}"),
            });
        }
        self.missing += gaps.len() as u64;
        for due in gaps {
            self.example(|| format!("{name}: {due:?} is missing"));
        }
    }
}

/// A series that is watched: whose it is at the server, by which rule, and what
/// must have come of it.
#[derive(Clone, Debug)]
pub struct Watched {
    pub name: SeriesName,
    pub device: u64,
    pub rule: String,
    pub expected: Vec<Expected>,
}

/// Compares all of a load. `found` is in the order of the server's events.
#[must_use]
pub fn compare(watched: &[Watched], found: &[Found]) -> Transitions {
    let mut told: HashMap<(u64, &str), Vec<&Found>> = HashMap::new();
    for found in found {
        told.entry((found.device, &found.rule)).or_default().push(found);
    }
    let (mut transitions, mut alarms) = (Transitions::default(), HashSet::new());
    for series in watched {
        let found = told.remove(&(series.device, series.rule.as_str())).unwrap_or_default();
        transitions.compare(series.name, &series.expected, &found, &mut alarms);
    }
    for found in told.into_values().flatten() {
        transitions.found += 1;
        transitions.wrong += 1;
        transitions.example(|| format!("nobody's: {found:?}"));
    }
    transitions
}

/// How the alarms of the same journal compare that were raised through kills and
/// in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// Of the run in one go.
    pub transitions: u64,
    /// Told in one go, but not through the kills.
    pub missing: u64,
    /// Told through the kills, but not in one go, or twice.
    pub added: u64,
    /// Of the same id, with another alarm, device, rule, kind, time or severity.
    pub different: u64,
    /// The first faults, in words.
    pub examples: Vec<String>,
}

impl Replay {
    /// Compares what was told through the kills with what was told in one go.
    #[must_use]
    pub fn compare(killed: &[Found], whole: &[Found]) -> Self {
        let mut replay = Self { transitions: whole.len() as u64, ..Self::default() };
        let mut left: HashMap<u128, &Found> = whole.iter().map(|told| (told.id, told)).collect();
        // The same id twice in one go would be hidden by the map.
        replay.different += (whole.len() - left.len()) as u64;
        for told in killed {
            match left.remove(&told.id) {
                None => {
                    replay.added += 1;
                    replay.example(|| format!("only through the kills: {told:?}"));
                }
                Some(same) if same == told => {}
                Some(other) => {
                    replay.different += 1;
                    replay.example(|| format!("through the kills {told:?}, in one go {other:?}"));
                }
            }
        }
        replay.missing = left.len() as u64;
        for told in left.into_values() {
            replay.example(|| format!("not through the kills: {told:?}"));
        }
        replay
    }

    /// Whether nothing is at fault.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missing + self.added + self.different == 0
    }

    fn example(&mut self, what: impl FnOnce() -> String) {
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(what());
        }
    }
}

#[cfg(test)]
mod tests;
