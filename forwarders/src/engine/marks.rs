//! When the journal's records were taken in, remembered for some of them: what a
//! lag in time and an age are told by without reading the journal again.

use std::collections::VecDeque;

use schema::Position;

/// The youngest records are told apart by a tenth of a second, so that a lag of a
/// forwarder that keeps up is that of the forwarder and not of the marks.
const RECENT_EVERY_MS: i64 = 100;
const RECENT: usize = 1_200;

/// All that is kept for a platform is covered by so many.
const KEPT: usize = 8_640;

/// Positions with the times at which their records were taken in.
#[derive(Debug)]
pub(super) struct Marks {
    recent: Ring,
    kept: Ring,
}

/// Marks at least so far apart, the oldest first.
#[derive(Debug)]
struct Ring {
    every_ms: i64,
    most: usize,
    marks: VecDeque<(i64, Position)>,
}

impl Marks {
    /// No record yet; so long data is kept.
    pub fn new(keep_ms: u64) -> Self {
        let every_ms = i64::try_from(keep_ms / KEPT as u64).unwrap_or(i64::MAX);
        Self { recent: Ring::new(RECENT_EVERY_MS, RECENT), kept: Ring::new(every_ms, KEPT) }
    }

    /// The record at a position was taken in at this time.
    pub fn note(&mut self, at_ms: i64, position: Position) {
        self.recent.note(at_ms, position);
        self.kept.note(at_ms, position);
    }

    /// About when the record at a position was taken in: not later.
    pub fn time_of(&self, position: Position) -> Option<i64> {
        let is_recent = self.recent.marks.front().is_some_and(|(_, first)| *first <= position);
        let ring = if is_recent { &self.recent } else { &self.kept };
        let behind = ring.marks.partition_point(|(_, marked)| *marked <= position);
        ring.marks.get(behind.saturating_sub(1)).map(|(at_ms, _)| *at_ms)
    }

    /// The last marked position that was taken in before this time.
    pub fn before(&self, time_ms: i64) -> Option<Position> {
        let behind = self.kept.marks.partition_point(|(at_ms, _)| *at_ms < time_ms);
        behind.checked_sub(1).map(|mark| self.kept.marks[mark].1)
    }
}

impl Ring {
    fn new(every_ms: i64, most: usize) -> Self {
        Self { every_ms, most, marks: VecDeque::new() }
    }

    fn note(&mut self, at_ms: i64, position: Position) {
        let is_due = |(last, _): &(i64, Position)| at_ms >= last.saturating_add(self.every_ms);
        if self.marks.back().is_none_or(is_due) {
            if self.marks.len() == self.most {
                self.marks.pop_front();
            }
            self.marks.push_back((at_ms, position));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    /// A record each 40 ms for so many seconds, its position its number.
    fn filled(seconds: u64) -> Marks {
        let mut marks = Marks::new(DAY_MS);
        for number in 0..seconds * 25 {
            marks.note(i64::try_from(number).unwrap() * 40, Position(number));
        }
        marks
    }

    #[test]
    fn the_time_of_a_young_record_is_known_to_a_tenth_of_a_second() {
        let marks = filled(600);
        for number in 600 * 25 - 100..600 * 25 {
            let (told, true_ms) = (marks.time_of(Position(number)).unwrap(), number * 40);
            let early_ms = i64::try_from(true_ms).unwrap() - told;
            assert!((0..120).contains(&early_ms), "{early_ms} ms early");
        }
    }

    #[test]
    fn an_old_record_s_time_is_known_as_well_as_is_needed() {
        let marks = filled(3_600);
        let told = marks.time_of(Position(25 * 100 + 10)).unwrap();
        assert!((90_000..=100_400).contains(&told), "{told}");
        assert_eq!(marks.before(95_000), Some(Position(90_000 / 40)));
        assert_eq!(marks.before(0), None);
        assert_eq!(Marks::new(DAY_MS).time_of(Position(7)), None);
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let mut marks = Marks::new(0);
        for number in 0..20_000 {
            marks.note(i64::try_from(number).unwrap() * 1_000, Position(number));
        }
        assert_eq!((marks.recent.marks.len(), marks.kept.marks.len()), (RECENT, KEPT));
    }
}
