//! What a platform said of a batch, in the engine's terms.

use std::time::Duration;

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try again, for as long as the journal keeps the data.
    Retry,
    /// As [`Class::Retry`]: the platform asks to be spared.
    Throttle,
    /// As [`Class::Retry`], but the forwarder's own trouble and none of its
    /// platform: something else takes its place there.
    Displaced,
    /// Try again a few times, then treat it as refused: the platform may fail
    /// because of what it was sent.
    Bounded,
    /// Too large: send it in halves.
    Split,
    /// Something in it is refused: find it by halves, and keep it as a dead
    /// letter.
    Refuse,
    /// Nothing will be taken until a person has changed something. The data is
    /// kept.
    Pause,
}

/// Why a batch, or the rest of one, was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub class: Class,
    /// How long the platform asks to be left alone.
    pub retry_after: Option<Duration>,
    /// For people; bears no secret.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, retry_after: None, message: message.into() }
    }

    /// The platform took longer than an attempt may take.
    pub(crate) fn timed_out() -> Self {
        Self::new(Class::Retry, "the platform did not answer in time")
    }
}

/// A value that the platform refused although it took the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the batch.
    pub index: usize,
    pub reason: String,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// So many from the front are dealt with: acknowledged but for `refused`.
    pub done: usize,
    /// In the order of their places, all below `done`.
    pub refused: Vec<Refused>,
    /// Why the rest is not.
    pub failure: Option<Failure>,
}

impl Sent {
    #[must_use]
    pub fn all(batch: usize) -> Self {
        Self { done: batch, ..Self::default() }
    }

    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }
}
