//! How a forwarder stands.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::time::now_ms;

/// How a forwarder stands, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing has been acknowledged since it began.
    Connecting,
    Connected,
    /// The platform asks to be spared.
    Throttled,
    /// Nothing is sent until a person has changed something; the data is kept.
    Paused,
    /// The platform can't be reached or fails; it is tried again.
    Failing,
    /// Switched off; nothing is kept for it.
    Disabled,
}

/// All of them.
pub const STATES: [State; 6] = [
    State::Connecting,
    State::Connected,
    State::Throttled,
    State::Paused,
    State::Failing,
    State::Disabled,
];

impl State {
    /// The stable name in answers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Throttled => "throttled",
            Self::Paused => "paused",
            Self::Failing => "failing",
            Self::Disabled => "disabled",
        }
    }
}

/// How it stands, since when, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub state: State,
    /// For people; bears no secret.
    pub detail: Option<String>,
    pub since_ms: i64,
    /// When the platform last acknowledged anything.
    pub last_sent_at_ms: Option<i64>,
}

/// Written by a forwarder's sender, read by all.
#[derive(Debug)]
pub(super) struct Status {
    standing: Mutex<(State, Option<String>, i64)>,
    last_sent_at_ms: AtomicI64,
    in_flight: AtomicUsize,
}

const NEVER: i64 = i64::MIN;

impl Status {
    pub fn new(state: State, detail: Option<String>) -> Self {
        Self {
            standing: Mutex::new((state, detail, now_ms())),
            last_sent_at_ms: AtomicI64::new(NEVER),
            in_flight: AtomicUsize::new(0),
        }
    }

    pub fn set(&self, state: State, detail: Option<&str>) {
        let mut standing = self.lock();
        if standing.0 != state {
            standing.2 = now_ms();
        }
        if standing.0 != state || standing.1.as_deref() != detail {
            *standing = (state, detail.map(str::to_owned), standing.2);
        }
    }

    pub fn sent_now(&self) {
        self.last_sent_at_ms.store(now_ms(), Ordering::Relaxed);
    }

    pub fn set_in_flight(&self, values: usize) {
        self.in_flight.store(values, Ordering::Relaxed);
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn standing(&self) -> Standing {
        let (state, detail, since_ms) = self.lock().clone();
        let last = self.last_sent_at_ms.load(Ordering::Relaxed);
        let last_sent_at_ms = (last != NEVER).then_some(last);
        Standing { state, detail, since_ms, last_sent_at_ms }
    }

    fn lock(&self) -> MutexGuard<'_, (State, Option<String>, i64)> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
