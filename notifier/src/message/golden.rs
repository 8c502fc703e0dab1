//! Every message in both languages, as files that people read. `BLESS=1` rewrites
//! them; the difference is then in the diff of the change that made it.

use std::fs;
use std::path::{Path, PathBuf};

use schema::{Channel, ClearReason, Language, Severity, TemplateKind, TimestampMs};

use super::sample::{offline, usual};
use super::{MessageFacts, NoticeFacts, reference, render};
use crate::channel::Content;

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn is_blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|value| value == "1")
}

/// The first line that differs, between its neighbours.
fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let same = expected.iter().zip(&found).take_while(|(one, other)| one == other).count();
    let part = |lines: &[&str], sign: char| {
        let lines = lines.iter().skip(same).take(5);
        lines.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    let before = expected[same.saturating_sub(2)..same].iter();
    let before: String = before.map(|line| format!("  {line}\n")).collect();
    format!("line {}:\n{before}{}{}", same + 1, part(&expected, '-'), part(&found, '+'))
}

/// Compares, or writes where that is asked for.
fn compare(path: &Path, found: &str) -> Option<String> {
    if is_blessing() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, found).unwrap();
        return None;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    let differs = expected != found;
    differs.then(|| format!("{}: {}", path.display(), difference(&expected, found)))
}

/// Each file of a message, by its ending.
fn files(facts: &MessageFacts) -> Vec<(&'static str, String)> {
    let written = |channel| -> Content {
        let rendered = render(channel, facts, None).unwrap();
        assert_eq!(rendered.own_failed, None);
        rendered.content
    };
    let email = written(Channel::Email);
    let sms = written(Channel::Sms).text;
    let mut data = serde_json::to_string_pretty(&written(Channel::Webhook).data).unwrap();
    data.push('\n');
    vec![
        ("txt", format!("Subject: {}\n\n{}\n", email.subject, email.text)),
        ("html", email.html.unwrap()),
        ("sms", format!("{sms}\n")),
        ("json", data),
    ]
}

/// What isn't usual and happens all the same.
fn further(language: Language) -> Vec<(&'static str, MessageFacts)> {
    let raised = usual(language, TemplateKind::Raised);
    let hour = |hours: i64, at: TimestampMs| TimestampMs(at.0 + hours * 3_600_000);
    let one = |notice: NoticeFacts| MessageFacts {
        now: hour(3, raised.now),
        over: usize::from(notice.cleared_at.is_some()),
        notices: vec![notice],
        ..raised.clone()
    };
    let notice = raised.notices[0].clone();
    let buffered = NoticeFacts {
        learned_at: hour(3, notice.at),
        cleared_at: Some(hour(1, notice.at)),
        clear_reason: Some(ClearReason::Condition),
        ..notice.clone()
    };
    let by_hand = usual(language, TemplateKind::Cleared);
    let by_hand = MessageFacts {
        notices: vec![NoticeFacts {
            clear_reason: Some(ClearReason::Person),
            by: Some("Jan Smit".to_owned()),
            highest: Severity::Critical,
            ..by_hand.notices[0].clone()
        }],
        ..by_hand
    };
    let digest = usual(language, TemplateKind::Digest);
    let severities = [Severity::Critical, Severity::Major, Severity::Warning];
    let by_severity = severities.into_iter().zip([14, 60, 140]).collect();
    let many = MessageFacts { total: 214, over: 180, by_severity, ..digest };
    vec![
        ("raised-buffered", one(buffered)),
        ("raised-offline", MessageFacts { notices: vec![offline()], ..raised.clone() }),
        ("cleared-by-hand", by_hand),
        ("digest-many", many),
    ]
}

#[test]
fn every_message_is_as_people_have_read_it() {
    let mut differences = Vec::new();
    for language in Language::ALL {
        let usual =
            TemplateKind::ALL.into_iter().map(|kind| (kind.as_str(), usual(language, kind)));
        for (name, facts) in usual.chain(further(language)) {
            for (ending, found) in files(&facts) {
                let path = format!("src/message/golden/{}/{name}.{ending}", language.as_str());
                let path = folder(&path);
                // The order of an object's fields follows from other crates' features.
                if ending == "json" && !is_blessing() {
                    let expected = fs::read_to_string(&path).unwrap_or_default();
                    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
                    if value(&expected) == value(&found) {
                        continue;
                    }
                }
                differences.extend(compare(&path, &found));
            }
        }
    }
    assert!(differences.is_empty(), "{}\nBLESS=1 takes them over", differences.join("\n"));
}

#[test]
fn the_reference_of_templates_is_what_the_renderer_offers() {
    let path = folder("../docs/reference/templates.md");
    assert_eq!(compare(&path, &reference()), None, "BLESS=1 takes it over");
}

#[test]
fn the_example_of_the_webhook_reference_is_what_is_sent() {
    let text = fs::read_to_string(folder("../docs/reference/webhooks.md")).unwrap();
    let (_, rest) = text.split_once("```json\n").expect("the reference has an example");
    let (example, _) = rest.split_once("\n```").expect("the example ends");
    let example: serde_json::Value = serde_json::from_str(example).unwrap();
    let facts = usual(Language::En, TemplateKind::Raised);
    let sent = render(Channel::Webhook, &facts, None).unwrap().content.data.unwrap();
    assert_eq!(example, sent, "it is {}", serde_json::to_string_pretty(&sent).unwrap());
    // Each field has its row.
    let fields = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    for field in fields(&sent).into_iter().chain(fields(&sent["notices"][0])) {
        assert!(text.contains(&format!("| `{field}` |")), "{field} has no row");
    }
}
