//! A forwarder that fails or is paused, told to whoever makes an alarm of it.

use schema::TenantId;

use super::status::{Standing, State};
use crate::limits::TROUBLE_AFTER_MS;

/// A forwarder's trouble has begun or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub tenant: TenantId,
    pub forwarder: u64,
    pub name: String,
    /// None where all is well again.
    pub reason: Option<String>,
    pub at_ms: i64,
}

/// Whether a forwarder that stands so is in trouble: paused, or failing for
/// longer than a platform's restart takes.
pub(super) fn is_trouble(standing: &Standing, was: bool, now_ms: i64) -> bool {
    match standing.state {
        State::Paused => true,
        State::Failing => was || now_ms.abs_diff(standing.since_ms) >= TROUBLE_AFTER_MS,
        // Being tried again after a failure is no end of it.
        State::Connecting => was,
        State::Connected | State::Throttled | State::Disabled => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_becomes_trouble_when_it_lasts_and_ends_when_something_is_sent() {
        let standing =
            |state| Standing { state, detail: None, since_ms: 1_000, last_sent_at_ms: None };
        let after = 1_000 + i64::try_from(TROUBLE_AFTER_MS).unwrap();
        assert!(!is_trouble(&standing(State::Failing), false, after - 1));
        assert!(is_trouble(&standing(State::Failing), false, after));
        assert!(is_trouble(&standing(State::Paused), false, 1_000));
        assert!(is_trouble(&standing(State::Connecting), true, after));
        assert!(!is_trouble(&standing(State::Connected), true, after));
    }
}
