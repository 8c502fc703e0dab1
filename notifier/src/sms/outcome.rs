//! What a provider's HTTP status, or the want of one, makes of a message.

use std::time::Duration;

use reqwest::StatusCode;

use crate::channel::Outcome;
use crate::request::Failure;

/// Tried later, as trouble of the provider or of our account with it.
pub(super) fn provider_later(answer: String, after: Option<Duration>) -> Outcome {
    Outcome::Later { answer, after, whole_provider: true }
}

/// Tried later, as trouble of this message as far as anybody knows.
pub(super) fn message_later(answer: String, after: Option<Duration>) -> Outcome {
    Outcome::Later { answer, after, whole_provider: false }
}

/// A request that was not answered. Only where there was no connection is it sure
/// that there is no SMS on its way.
pub(super) fn unanswered(failure: Failure) -> Outcome {
    match failure {
        Failure::NotConnected(answer) => provider_later(answer, None),
        Failure::NoAnswer(answer) => Outcome::Unknown { answer },
    }
}

/// What follows from a status that is no success, where the body says no more.
pub(super) fn refused_by(status: StatusCode, answer: String, after: Option<Duration>) -> Outcome {
    match status.as_u16() {
        // A gateway before the provider gave up waiting for it: the same as an
        // answer that never came.
        504 => Outcome::Unknown { answer },
        // It may well be this one message on which it fails.
        500 => message_later(answer, after),
        501.. => provider_later(answer, after),
        // Our account, its balance, the address or the method is wrong, or there is
        // too much of everything; none of it is this message's doing.
        401..=405 | 407 | 408 | 425 | 429 => provider_later(answer, after),
        400..=499 => Outcome::Refused { answer },
        // Followed, a redirect would carry our credentials to wherever it points.
        300..=399 => provider_later(answer, after),
        // Something was taken, but not as a success.
        _ => Outcome::Unknown { answer },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16) -> &'static str {
        match refused_by(StatusCode::from_u16(status).unwrap(), String::new(), None) {
            Outcome::Sent { .. } => "sent",
            Outcome::Refused { .. } => "refused",
            Outcome::Later { whole_provider: true, .. } => "provider",
            Outcome::Later { .. } => "message",
            Outcome::Unknown { .. } => "unknown",
        }
    }

    #[test]
    fn a_status_says_whose_trouble_it_is() {
        let table = [
            ("unknown", [200, 202, 504].as_slice()),
            ("provider", &[301, 302, 307, 401, 402, 403, 404, 408, 429, 502, 503]),
            ("refused", &[400, 406, 409, 410, 413, 422]),
            ("message", &[500]),
        ];
        for (expected, statuses) in table {
            for status in statuses {
                assert_eq!(kind(*status), expected, "{status}");
            }
        }
    }
}
