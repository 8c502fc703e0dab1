//! What an answer of the provider means for the message, and for all others.
//!
//! Pure. The one question beside taken, refused or later is *whose* trouble it
//! is: what is said before the recipient is named is the provider's, and pauses
//! all mail; what is said after is this message's, unless its code is of the
//! system as a whole. So no recipient and no text can hold up everybody's mail.

use std::time::Duration;

use crate::channel::Outcome;

/// How far the handing over has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Name, TCP, greeting, EHLO, TLS.
    Connect,
    Authenticate,
    /// MAIL: the provider knows who we are, and nothing of the message.
    Sender,
    /// RCPT.
    Recipient,
    /// DATA, before the first byte of content.
    Data,
    /// From the content's first byte to the last answer. Without that answer
    /// nobody knows whether the message was taken.
    Content,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Authenticate => "authentication",
            Self::Sender => "the sender (MAIL)",
            Self::Recipient => "the recipient (RCPT)",
            Self::Data => "DATA",
            Self::Content => "the content",
        }
    }
}

/// Why there is no way forward from a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The provider has said no.
    Answer(Answer),
    /// The provider has said nothing that could be understood: unreachable, cut,
    /// out of step, too late.
    Silence(String),
}

/// A whole answer; the text without its code, lines joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub code: u16,
    pub text: String,
}

/// Longer texts of a provider are cut, in characters.
const MAX_ANSWER_CHARS: usize = 500;

/// How long a greylisted message waits: most servers want 5 minutes.
const GREYLISTED: Duration = Duration::from_secs(300);

impl Answer {
    /// As people read it, in one line.
    pub fn shown(&self) -> String {
        tidy(&format!("{} {}", self.code, self.text))
    }

    /// The enhanced status (RFC 3463) at the beginning of the text, where its
    /// class is the code's.
    fn status(&self) -> Option<(u16, u16, u16)> {
        let word = self.text.split_whitespace().next()?;
        let mut numbers = word.split('.').map(|part| {
            let digits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten()
        });
        let status = (numbers.next()??, numbers.next()??, numbers.next()??);
        (numbers.next().is_none() && status.0 == self.code / 100).then_some(status)
    }
}

fn tidy(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect();
    words.join(" ").chars().take(MAX_ANSWER_CHARS).collect()
}

/// What the answer to the content means.
pub(super) fn taken(answer: &Answer) -> Outcome {
    // The name in the provider's queue is in the text, in a form of its own with
    // each provider, and no report names it later.
    Outcome::Sent { answer: answer.shown(), reference: None }
}

/// What a trouble at a stage means.
pub(super) fn outcome(stage: Stage, trouble: &Trouble) -> Outcome {
    match trouble {
        Trouble::Answer(answer) => of_answer(stage, answer),
        Trouble::Silence(why) => of_silence(stage, why),
    }
}

fn of_silence(stage: Stage, why: &str) -> Outcome {
    let unknown = if stage == Stage::Content { "; it may have been taken" } else { "" };
    Outcome::Later {
        answer: tidy(&format!("at {}: {why}{unknown}", stage.name())),
        after: None,
        whole_provider: stage < Stage::Recipient,
    }
}

fn of_answer(stage: Stage, answer: &Answer) -> Outcome {
    let status = answer.status();
    let whole_provider = is_of_provider(stage, answer.code, status);
    let shown = answer.shown();
    match answer.code {
        500..=599 if !whole_provider && !is_of_somebody(stage, status) => {
            Outcome::Refused { answer: shown }
        }
        _ => {
            let after =
                (!whole_provider && is_greylisting(answer.code, status)).then_some(GREYLISTED);
            Outcome::Later { answer: shown, after, whole_provider }
        }
    }
}

/// Whether every other message would be told the same.
fn is_of_provider(stage: Stage, code: u16, status: Option<(u16, u16, u16)>) -> bool {
    if stage < Stage::Recipient {
        return true;
    }
    match code {
        // It closes, takes no mail at all, or wants another authentication or
        // encryption. Many servers say what they think of us at RCPT only.
        421 | 521 | 530 | 534 | 535 | 538 => return true,
        // It doesn't know our commands: we have lost step.
        500 | 502 | 503 => return true,
        _ => (),
    }
    match status {
        // Our own address: its syntax, its domain.
        Some((_, 1, 7 | 8)) => true,
        // The system is full, takes nothing now, is configured wrongly.
        Some((_, 3, 1 | 2 | 5)) => true,
        // Our credentials, or how they were encrypted.
        Some((_, 7, 8..=11)) => true,
        _ => false,
    }
}

/// Whether it is a policy that doesn't say whom it is against. By 5.7.1 at RCPT
/// one server means its recipient's own rules, and another that it relays nothing
/// for us, knows no login of ours or doesn't let us use our sender's address. The
/// latter a person must mend. Nothing is lost by waiting, and nobody else waits.
fn is_of_somebody(stage: Stage, status: Option<(u16, u16, u16)>) -> bool {
    stage == Stage::Recipient && status == Some((5, 7, 1))
}

/// Greylisting has no code of its own: it is a local reason, told by the policy
/// (4.7.x), by "other mailbox status" (4.2.0) or without a status.
fn is_greylisting(code: u16, status: Option<(u16, u16, u16)>) -> bool {
    matches!(code, 450 | 451) && matches!(status, None | Some((4, 7, _) | (4, 2, 0)))
}

#[cfg(test)]
mod tests {
    use super::Stage::{Authenticate, Connect, Content, Data, Recipient, Sender};
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Means {
        Refused,
        /// This message only, at the caller's pace.
        Later,
        /// This message only, after [`GREYLISTED`].
        Greylisted,
        Provider,
    }
    use Means::{Greylisted, Later, Provider, Refused};

    fn meant(outcome: &Outcome) -> Means {
        match outcome {
            Outcome::Refused { .. } => Refused,
            Outcome::Later { after: None, whole_provider: true, .. } => Provider,
            Outcome::Later { after: None, whole_provider: false, .. } => Later,
            Outcome::Later { after: Some(GREYLISTED), whole_provider: false, .. } => Greylisted,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_are_told_apart_by_stage_code_and_status() {
        for (stage, text, means) in [
            // At the door.
            (Connect, "421 4.3.2 too busy", Provider),
            (Connect, "554 5.7.1 your address is listed", Provider),
            (Connect, "454 4.7.0 TLS not available", Provider),
            (Authenticate, "454 4.7.0 Temporary authentication failure", Provider),
            (Authenticate, "535 5.7.8 authentication failed", Provider),
            (Authenticate, "534 5.7.9 mechanism too weak", Provider),
            (Authenticate, "538 5.7.11 encryption required", Provider),
            (Authenticate, "432 4.7.12 a password transition is needed", Provider),
            // Who we are.
            (Sender, "550 5.7.1 you may not send as this", Provider),
            (Sender, "530 5.7.0 authentication required", Provider),
            (Sender, "553 5.1.8 domain of sender does not exist", Provider),
            (Sender, "450 4.7.1 too much mail from you", Provider),
            (Sender, "452 4.3.1 insufficient system storage", Provider),
            // Who it is for.
            (Recipient, "550 5.1.1 unknown user", Refused),
            (Recipient, "550 no such user", Refused),
            (Recipient, "501 5.1.3 bad address syntax", Refused),
            (Recipient, "504 5.5.2 need fully-qualified address", Refused),
            (Recipient, "556 5.1.10 the domain takes no mail", Refused),
            (Recipient, "554 no relaying", Refused),
            (Recipient, "552 5.2.2 over quota", Refused),
            (Recipient, "454 4.7.1 relay access denied", Later),
            (Recipient, "452 4.2.2 over quota", Later),
            (Recipient, "451 4.3.0 temporary lookup failure", Later),
            (Recipient, "450 4.1.2 domain not found", Later),
            (Recipient, "450 4.7.1 greylisted", Greylisted),
            (Recipient, "450 4.2.0 greylisted, see a page", Greylisted),
            (Recipient, "451 4.7.1 try again in 5 minutes", Greylisted),
            (Recipient, "451 greylisted", Greylisted),
            // Who is meant it doesn't say.
            (Recipient, "554 5.7.1 relay access denied", Later),
            (Recipient, "554 5.7.1 client host rejected", Later),
            (Recipient, "553 5.7.1 sender address not owned by user", Later),
            (Recipient, "550 5.7.1 not allowed to write to this group", Later),
            // What many servers think of us they say at RCPT.
            (Recipient, "550 5.1.8 domain of sender not found", Provider),
            (Recipient, "450 4.1.8 domain of sender not found", Provider),
            (Recipient, "530 5.7.0 must issue STARTTLS first", Provider),
            (Recipient, "451 4.3.5 server configuration error", Provider),
            (Recipient, "421 4.7.0 too many errors", Provider),
            (Recipient, "503 5.5.1 need MAIL", Provider),
            // What it says.
            (Data, "451 4.3.0 try later", Later),
            (Data, "503 5.5.1 need RCPT", Provider),
            (Content, "550 5.7.1 looks like spam", Refused),
            (Content, "552 5.3.4 too big", Refused),
            (Content, "554 5.6.0 malformed", Refused),
            (Content, "451 4.7.1 service unavailable, try again", Greylisted),
            (Content, "452 4.3.1 insufficient system storage", Provider),
            (Content, "421 4.3.2 shutting down", Provider),
            // A status of another class than the code's is no status.
            (Recipient, "550 4.1.8 confused", Refused),
            // What is no answer to anything is kept and tried again.
            (Recipient, "354 go on", Later),
        ] {
            let (code, rest) = text.split_once(' ').unwrap();
            let answer = Answer { code: code.parse().unwrap(), text: rest.to_owned() };
            let outcome = outcome(stage, &Trouble::Answer(answer));
            assert_eq!(meant(&outcome), means, "{stage:?} {text}");
            let (Outcome::Refused { answer } | Outcome::Later { answer, .. }) = outcome else {
                panic!("{text}")
            };
            assert_eq!(answer, text);
        }
    }

    #[test]
    fn silence_is_the_providers_until_the_recipient_is_named() {
        for (stage, means) in [
            (Connect, Provider),
            (Authenticate, Provider),
            (Sender, Provider),
            (Recipient, Later),
            (Data, Later),
            (Content, Later),
        ] {
            let outcome = outcome(stage, &Trouble::Silence("cut".to_owned()));
            assert_eq!(meant(&outcome), means, "{stage:?}");
            let Outcome::Later { answer, .. } = outcome else { panic!() };
            assert!(answer.contains(stage.name()) && answer.contains("cut"), "{answer}");
            assert_eq!(answer.contains("may have been taken"), stage == Content, "{answer}");
        }
    }

    #[test]
    fn what_was_taken_keeps_the_name_in_the_queue() {
        let answer = Answer { code: 250, text: "2.0.0 Ok:\n queued as\t4Xq7".to_owned() };
        let answer = taken(&answer);
        let text = "250 2.0.0 Ok: queued as 4Xq7".to_owned();
        assert_eq!(answer, Outcome::Sent { answer: text, reference: None });
    }

    #[test]
    fn a_long_answer_is_cut() {
        let answer = Answer { code: 550, text: "é".repeat(10_000) };
        assert_eq!(answer.shown().chars().count(), MAX_ANSWER_CHARS);
    }

    #[test]
    fn only_three_numbers_are_a_status() {
        let status = |text: &str| Answer { code: 550, text: text.to_owned() }.status();
        assert_eq!(status("5.1.1 no"), Some((5, 1, 1)));
        assert_eq!(status("5.7.133 no"), Some((5, 7, 133)));
        for text in ["", "no", "5.1", "5.1.1.1", "5.1.1111", "5.+1.1", "5.1.x", "4.1.1"] {
            assert_eq!(status(text), None, "{text}");
        }
    }
}
