//! How a batch is worked through: what is done is done, what is too large is
//! sent in halves, what is refused is found by halves. Without IO.

use std::ops::Range;

use crate::destinations::{Class, Failure, Sent};
use crate::limits::BOUNDED_ATTEMPTS;

/// How to wait before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Retry,
    Throttle,
    /// As [`Wait::Retry`]; others of the account are not concerned.
    Displaced,
    /// Until a person has seen to it.
    Person,
}

/// A batch that is being worked through.
#[derive(Debug)]
pub(super) struct Delivery {
    values: usize,
    outcomes: Vec<Result<(), String>>,
    /// Lengths of the pieces that are left; the last is next.
    pieces: Vec<usize>,
    /// How often the next piece has failed by the platform's own fault.
    attempts: u32,
}

impl Delivery {
    pub fn new(values: usize) -> Self {
        Self { values, outcomes: Vec::with_capacity(values), pieces: vec![values], attempts: 0 }
    }

    /// What is to be sent next; none when all is known.
    pub fn next(&self) -> Option<Range<usize>> {
        let begin = self.outcomes.len();
        let length = *self.pieces.last().filter(|_| begin < self.values)?;
        Some(begin..begin + length)
    }

    /// Takes in what became of [`Delivery::next`]; how to wait before it is
    /// asked again, if it is.
    pub fn note(&mut self, sent: Sent) -> Option<Wait> {
        let Sent { done, refused, failure } = sent;
        let begin = self.outcomes.len();
        self.outcomes.extend((0..done).map(|_| Ok(())));
        for refused in refused {
            if let Some(outcome) = self.outcomes.get_mut(begin + refused.index) {
                *outcome = Err(refused.reason);
            }
        }
        if done > 0 {
            self.attempts = 0;
            self.shorten(done);
        }
        let Failure { class, message, .. } = failure?;
        match class {
            Class::Retry => Some(Wait::Retry),
            Class::Throttle => Some(Wait::Throttle),
            Class::Displaced => Some(Wait::Displaced),
            Class::Pause => Some(Wait::Person),
            Class::Split | Class::Refuse => {
                self.divide(message);
                None
            }
            Class::Bounded => {
                self.attempts += 1;
                if self.attempts < BOUNDED_ATTEMPTS {
                    return Some(Wait::Retry);
                }
                self.divide(message);
                None
            }
        }
    }

    /// What is left is answered with this.
    pub fn give_up(&mut self, message: &str) {
        self.outcomes.resize(self.values, Err(message.to_owned()));
    }

    pub fn outcomes(self) -> Vec<Result<(), String>> {
        self.outcomes
    }

    fn shorten(&mut self, done: usize) {
        let Some(piece) = self.pieces.last_mut() else { return };
        *piece = piece.saturating_sub(done);
        if *piece == 0 {
            self.pieces.pop();
        }
    }

    /// Halves the next piece, or gives its one value up.
    fn divide(&mut self, message: String) {
        self.attempts = 0;
        let Some(length) = self.pieces.pop() else { return };
        if length == 1 {
            self.outcomes.push(Err(message));
            return;
        }
        self.pieces.push(length - length / 2);
        self.pieces.push(length / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destinations::Refused;

    fn failed(class: Class) -> Sent {
        Sent::failed(Failure { class, retry_after: None, message: "no".to_owned() })
    }

    /// A platform that refuses any request with one of these values in it.
    fn run(values: usize, bad: &[usize], class: Class) -> (Vec<bool>, usize) {
        let mut delivery = Delivery::new(values);
        let mut requests = 0;
        while let Some(range) = delivery.next() {
            requests += 1;
            let is_bad = bad.iter().any(|value| range.contains(value));
            delivery.note(if is_bad { failed(class) } else { Sent::all(range.len()) });
        }
        (delivery.outcomes().iter().map(Result::is_ok).collect(), requests)
    }

    #[test]
    fn a_refused_value_is_found_by_halves_and_all_others_are_sent() {
        let (outcomes, requests) = run(5_000, &[17, 4_999], Class::Refuse);
        let bad: Vec<usize> = (0..5_000).filter(|value| !outcomes[*value]).collect();
        assert_eq!(bad, [17, 4_999]);
        assert!(requests < 60, "{requests}");
        assert_eq!(run(3, &[0, 1, 2], Class::Split).0, [false; 3]);
    }

    #[test]
    fn a_platform_that_fails_of_itself_is_tried_so_often_only() {
        let mut delivery = Delivery::new(1);
        for _ in 1..BOUNDED_ATTEMPTS {
            assert_eq!(delivery.note(failed(Class::Bounded)), Some(Wait::Retry));
        }
        assert_eq!(delivery.note(failed(Class::Bounded)), None);
        assert_eq!(delivery.next(), None);
        assert_eq!(delivery.outcomes(), [Err("no".to_owned())]);
    }

    #[test]
    fn what_was_taken_before_a_failure_is_not_sent_again() {
        let mut delivery = Delivery::new(4);
        let refused = vec![Refused { index: 1, reason: "late".to_owned() }];
        let failure = Failure { class: Class::Retry, retry_after: None, message: String::new() };
        let sent = Sent { done: 2, refused, failure: Some(failure) };
        assert_eq!(delivery.note(sent), Some(Wait::Retry));
        assert_eq!(delivery.next(), Some(2..4));
        assert_eq!(delivery.note(failed(Class::Pause)), Some(Wait::Person));
        delivery.note(Sent::all(2));
        let outcomes = delivery.outcomes();
        assert_eq!(outcomes, [Ok(()), Err("late".to_owned()), Ok(()), Ok(())]);
    }
}
