//! What a line expects, and a transition in the same words.
//!
//! Both are brought to one text form, so that comparing and showing what
//! differs is the same thing.

use std::fmt::Write as _;

use schema::{ClearReason, Severity, Transition, TransitionKind};

use super::setup::Setup;
use super::words::{Word, quote, show};

/// What is expected of a line.
#[derive(Clone, Debug)]
pub(super) enum Expectation {
    /// These, in this order.
    Exactly(Vec<Expected>),
    /// Whatever comes.
    Anything,
}

/// One expected transition.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// None stands for the line's own device.
    pub device: Option<String>,
    /// `raised major too_warm`, without what may stand behind it.
    pub what: String,
    /// None stands for the line's own time.
    pub at: Option<i64>,
    pub details: Details,
}

/// What is compared only where a line asks for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Details {
    /// The description; of a comment its text.
    pub text: Option<String>,
    /// Who it is assigned to; `-` is nobody.
    pub to: Option<String>,
    pub until: Option<i64>,
}

const SHAPES: &str = "expected is `raised SEVERITY RULE`, `SEVERITY to SEVERITY RULE`, \
    `updated RULE`, `cleared RULE by rule|by time|by person|rule removed|\
    device removed`, `acknowledged RULE`, \
    `unacknowledged RULE`, `shelved RULE`, `unshelved RULE by time|by person`, `suppressed RULE`, \
    `commented RULE`, `assigned RULE`, with a device before it where it is another, or `nothing` \
    or `anything`";

const VERBS: [&str; 10] = [
    "raised",
    "updated",
    "cleared",
    "acknowledged",
    "unacknowledged",
    "shelved",
    "unshelved",
    "suppressed",
    "commented",
    "assigned",
];

/// Reads what stands behind the arrow.
pub(super) fn parse(words: &[Word], setup: &Setup) -> Result<Expectation, String> {
    match words {
        [only] if only.is("nothing") => return Ok(Expectation::Exactly(Vec::new())),
        [only] if only.is("anything") => return Ok(Expectation::Anything),
        _ => {}
    }
    let parts = words.split(|word| word.is(";")).filter(|part| !part.is_empty());
    let expected: Vec<Expected> = parts.map(|part| one(part, setup)).collect::<Result<_, _>>()?;
    match expected.is_empty() {
        true => Err(format!("nothing stands behind the arrow; {SHAPES}")),
        false => Ok(Expectation::Exactly(expected)),
    }
}

fn starts(words: &[Word]) -> bool {
    let Some(first) = words.first() else { return false };
    let severity = || first.text.parse::<Severity>().is_ok();
    !first.quoted
        && (VERBS.contains(&&*first.text)
            || (severity() && words.get(1).is_some_and(|word| word.is("to"))))
}

fn severity(word: &Word) -> Result<Severity, String> {
    word.text.parse().map_err(|error: schema::ParseSeverityError| error.to_string())
}

fn one(words: &[Word], setup: &Setup) -> Result<Expected, String> {
    let (device, words) = match words {
        [device, rest @ ..] if !starts(words) && starts(rest) => (Some(device.text.clone()), rest),
        words => (None, words),
    };
    let (what, tail) = match words {
        [verb, level, rule, tail @ ..] if verb.is("raised") => {
            (raised(severity(level)?, &rule.text), tail)
        }
        [from, to, level, rule, tail @ ..] if to.is("to") => {
            (changed(severity(from)?, severity(level)?, &rule.text), tail)
        }
        [verb, rule, rest @ ..] if verb.is("cleared") => {
            let (reason, tail) = clear_reason(rest).ok_or(SHAPES)?;
            (cleared(reason, &rule.text), tail)
        }
        [verb, rule, by, whom, tail @ ..] if verb.is("unshelved") && by.is("by") => {
            let by_time = match whom.text.as_str() {
                "time" => true,
                "person" => false,
                _ => return Err(SHAPES.to_owned()),
            };
            (unshelved(by_time, &rule.text), tail)
        }
        [verb, rule, tail @ ..]
            if !verb.quoted && !matches!(&*verb.text, "raised" | "unshelved") && starts(words) =>
        {
            (format!("{} {}", verb.text, show(&rule.text)), tail)
        }
        _ => return Err(format!("`{}` is not understood; {SHAPES}", shown(words))),
    };
    let mut expected = Expected { device, what, at: None, details: Details::default() };
    expected.tail(tail, setup)?;
    Ok(expected)
}

fn shown(words: &[Word]) -> String {
    let words: Vec<&str> = words.iter().map(|word| &*word.text).collect();
    words.join(" ")
}

fn clear_reason(words: &[Word]) -> Option<(ClearReason, &[Word])> {
    let [first, second, tail @ ..] = words else { return None };
    let reason = match (&*first.text, &*second.text) {
        ("by", "rule") => ClearReason::Condition,
        ("by", "time") => ClearReason::Time,
        ("by", "person") => ClearReason::Person,
        ("rule", "removed") => ClearReason::RuleRemoved,
        ("device", "removed") => ClearReason::DeviceRemoved,
        _ => return None,
    };
    Some((reason, tail))
}

impl Expected {
    fn tail(&mut self, mut words: &[Word], setup: &Setup) -> Result<(), String> {
        while let [first, rest @ ..] = words {
            words = match rest {
                rest if first.quoted => {
                    self.details.text = Some(first.text.clone());
                    rest
                }
                rest if first.text.starts_with('@') => {
                    self.at = Some(setup.time(&first.text[1..])?);
                    rest
                }
                [to, rest @ ..] if first.is("to") && self.what.starts_with("assigned ") => {
                    self.details.to = Some(to.text.clone());
                    rest
                }
                [until, rest @ ..] if first.is("until") && self.what.starts_with("shelved ") => {
                    self.details.until = Some(setup.time(&until.text)?);
                    rest
                }
                _ => {
                    let message = "behind a transition may stand `@TIME`, a quoted description, \
                                   `to NAME` of an assignment and `until TIME` of a shelving";
                    return Err(format!("`{}` is not understood; {message}", first.text));
                }
            };
        }
        Ok(())
    }

    /// In the one text form. `device` and `at` are the line's own.
    pub fn show(&self, device: Option<&str>, at: i64, setup: &Setup) -> String {
        let own = self.device.as_deref().or(device);
        let device = own.filter(|own| Some(*own) != device);
        form(device, &self.what, self.at.filter(|own| *own != at), &self.details, setup)
    }
}

/// A transition in the one text form, with the details that `like` asks for.
pub(super) fn show_transition(
    transition: &Transition,
    originator: &str,
    (device, at): (Option<&str>, i64),
    like: Option<&Expected>,
    setup: &Setup,
) -> String {
    let rule = &transition.rule.key;
    let what = match &transition.kind {
        TransitionKind::Raised => raised(transition.severity, rule),
        TransitionKind::SeverityChanged { from } => changed(*from, transition.severity, rule),
        TransitionKind::Cleared { reason } => cleared(*reason, rule),
        TransitionKind::Unshelved { by_time } => unshelved(*by_time, rule),
        other => format!("{} {}", other.as_str(), show(rule)),
    };
    let mut details = Details::default();
    if let Some(asked) = like.map(|like| &like.details) {
        let text = match &transition.kind {
            TransitionKind::Commented { text } => text,
            _ => &transition.description,
        };
        details.text = asked.text.as_ref().map(|_| text.clone());
        if let TransitionKind::Assigned { to } = &transition.kind {
            details.to = asked.to.as_ref().map(|_| to.clone().unwrap_or_else(|| "-".to_owned()));
        }
        if let TransitionKind::Shelved { until } = &transition.kind {
            details.until = asked.until.map(|_| until.0);
        }
    }
    let device = Some(originator).filter(|own| Some(*own) != device);
    form(device, &what, Some(transition.at.0).filter(|own| *own != at), &details, setup)
}

fn form(
    device: Option<&str>,
    what: &str,
    at: Option<i64>,
    details: &Details,
    setup: &Setup,
) -> String {
    let mut text = device.map_or_else(String::new, |device| format!("{} ", show(device)));
    text.push_str(what);
    let mut add = |part: String| {
        let _ = write!(text, " {part}");
    };
    if let Some(to) = &details.to {
        add(format!("to {}", show(to)));
    }
    if let Some(until) = details.until {
        add(format!("until {}", setup.show_time(until)));
    }
    if let Some(description) = &details.text {
        add(quote(description));
    }
    if let Some(at) = at {
        add(format!("@{}", setup.show_time(at)));
    }
    text
}

fn raised(severity: Severity, rule: &str) -> String {
    format!("raised {severity} {}", show(rule))
}

fn changed(from: Severity, to: Severity, rule: &str) -> String {
    format!("{from} to {to} {}", show(rule))
}

fn cleared(reason: ClearReason, rule: &str) -> String {
    let reason = match reason {
        ClearReason::Condition => "by rule",
        ClearReason::Time => "by time",
        ClearReason::Person => "by person",
        ClearReason::RuleRemoved => "rule removed",
        ClearReason::DeviceRemoved => "device removed",
    };
    format!("cleared {} {reason}", show(rule))
}

fn unshelved(by_time: bool, rule: &str) -> String {
    format!("unshelved {} by {}", show(rule), if by_time { "time" } else { "person" })
}
