//! Made-up facts: what a preview shows, and what a template is tried with when it
//! is saved.

use std::collections::HashSet;

use schema::{
    AlarmId, ClearReason, Language, MessageId, Moment, Severity, TemplateKind, TimestampMs,
    TransitionId,
};
use serde_json::{Value, json};

use super::limits::MAX_LISTED;
use super::{MessageFacts, NoticeFacts};

/// 14 January 2026, 03:14:05 in Amsterdam.
const RAISED_AT: TimestampMs = TimestampMs(1_768_356_845_000);

const MINUTE_MS: i64 = 60_000;

fn after(minutes: i64) -> TimestampMs {
    TimestampMs(RAISED_AT.0 + minutes * MINUTE_MS)
}

/// Facts as they usually are.
pub(super) fn usual(language: Language, kind: TemplateKind) -> MessageFacts {
    let notices = match kind {
        TemplateKind::Test => Vec::new(),
        TemplateKind::Digest => digest(language),
        _ => vec![of_kind(language, kind)],
    };
    let now = notices.iter().map(|notice| notice.learned_at).max().unwrap_or(RAISED_AT);
    let now = TimestampMs(match kind {
        TemplateKind::Escalated => after(10).0,
        TemplateKind::Reminder => after(125).0,
        _ => now.0 + 2_000,
    });
    let facts = MessageFacts::test("Waterschap Noord", "Eva de Vries", language, ZONE, now);
    let unsubscribe = Some("https://baken.example/links/AbCdEf".to_owned());
    let id = MessageId(0x51);
    counted(MessageFacts { id, kind, notices, unsubscribe, ..facts })
}

const ZONE: &str = "Europe/Amsterdam";

/// With the counts that follow from its notices.
fn counted(facts: MessageFacts) -> MessageFacts {
    let count = |of| facts.notices.iter().filter(|notice| notice.severity == of).count();
    let by_severity = Severity::WORST_FIRST.into_iter().map(|severity| (severity, count(severity)));
    let over = facts.notices.iter().filter(|notice| notice.cleared_at.is_some());
    let over: HashSet<AlarmId> = over.map(|notice| notice.alarm).collect();
    MessageFacts {
        by_severity: by_severity.filter(|(_, count)| *count > 0).collect(),
        over: over.len(),
        total: facts.notices.len(),
        ..facts
    }
}

fn pressure(language: Language) -> NoticeFacts {
    NoticeFacts {
        transition: TransitionId(0x11),
        alarm: AlarmId(0xa1),
        moment: Moment::Raised,
        rule: "pressure_low".to_owned(),
        system: false,
        description: match language {
            Language::Nl => "Druk persleiding te laag (1,8 bar)".to_owned(),
            Language::En => "Pressure of the main too low (1.8 bar)".to_owned(),
        },
        severity: Severity::Critical,
        severity_before: None,
        highest: Severity::Critical,
        at: RAISED_AT,
        learned_at: TimestampMs(RAISED_AT.0 + 1_500),
        raised_at: RAISED_AT,
        cleared_at: None,
        clear_reason: None,
        acknowledged: false,
        acknowledged_by: None,
        by: None,
        location: Some("Gemaal Noord".to_owned()),
        device: Some("pomp-3".to_owned()),
        values: vec![("pressure".to_owned(), json!(1.8)), ("pump_running".to_owned(), json!(true))],
        acknowledge: Some("https://baken.example/links/AQB1c2Vy".to_owned()),
    }
}

fn of_kind(language: Language, kind: TemplateKind) -> NoticeFacts {
    let notice = pressure(language);
    let eva = Some("Eva de Vries".to_owned());
    match kind {
        TemplateKind::SeverityChanged => NoticeFacts {
            moment: Moment::SeverityChanged,
            severity_before: Some(Severity::Major),
            at: after(7),
            learned_at: after(7),
            ..notice
        },
        TemplateKind::Acknowledged => NoticeFacts {
            moment: Moment::Acknowledged,
            at: after(4),
            learned_at: after(4),
            acknowledged: true,
            acknowledged_by: eva.clone(),
            by: eva,
            ..notice
        },
        TemplateKind::Cleared => NoticeFacts {
            moment: Moment::Cleared,
            severity: Severity::Major,
            at: after(125),
            learned_at: after(125),
            cleared_at: Some(after(125)),
            clear_reason: Some(ClearReason::Condition),
            acknowledged: true,
            acknowledged_by: eva,
            values: vec![("pressure".to_owned(), json!(2.6))],
            ..notice
        },
        _ => notice,
    }
}

/// Alarms of two locations and of a router, one of them over.
fn digest(language: Language) -> Vec<NoticeFacts> {
    let first = pressure(language);
    let level = NoticeFacts {
        transition: TransitionId(0x12),
        alarm: AlarmId(0xa2),
        rule: "level_high".to_owned(),
        description: match language {
            Language::Nl => "Waterstand hoog (+0,42 m NAP)".to_owned(),
            Language::En => "Water level high (+0.42 m)".to_owned(),
        },
        severity: Severity::Warning,
        highest: Severity::Warning,
        at: after(2),
        learned_at: after(2),
        raised_at: after(2),
        cleared_at: Some(after(8)),
        clear_reason: Some(ClearReason::Condition),
        location: Some("Gemaal Zuid".to_owned()),
        device: Some("niveau-1".to_owned()),
        acknowledge: Some("https://baken.example/links/BQB1c2Vy".to_owned()),
        ..pressure(language)
    };
    let offline = NoticeFacts {
        transition: TransitionId(0x13),
        alarm: AlarmId(0xa3),
        severity: Severity::Major,
        highest: Severity::Major,
        at: after(3),
        learned_at: after(3),
        raised_at: after(3),
        acknowledged: true,
        acknowledged_by: Some("Jan Smit".to_owned()),
        acknowledge: None,
        ..offline()
    };
    let over = NoticeFacts {
        transition: TransitionId(0x14),
        moment: Moment::Cleared,
        at: after(8),
        learned_at: after(8),
        ..level.clone()
    };
    vec![first, level, offline, over]
}

/// An alarm of Baken's own, whose description is English as it is stored.
pub(super) fn offline() -> NoticeFacts {
    NoticeFacts {
        rule: "router_offline".to_owned(),
        system: true,
        description: "Router noord-01 has had no MQTT connection since 2026-01-14 03:07:05 CET"
            .to_owned(),
        device: Some("noord-01".to_owned()),
        values: vec![
            ("$baken.disconnected_since".to_owned(), json!("2026-01-14 03:07:05 CET")),
            ("$baken.connected".to_owned(), json!(false)),
        ],
        ..pressure(Language::En)
    }
}

/// As few facts as there can be: no location, no device, no values, no links.
pub(super) fn bare(language: Language, kind: TemplateKind) -> MessageFacts {
    let notice = NoticeFacts {
        description: String::new(),
        severity_before: None,
        cleared_at: None,
        clear_reason: None,
        by: None,
        acknowledged_by: None,
        location: None,
        device: None,
        values: Vec::new(),
        acknowledge: None,
        ..of_kind(language, kind)
    };
    let notices = if kind == TemplateKind::Test { Vec::new() } else { vec![notice] };
    let facts = MessageFacts::test("W", "e@example.com", language, "UTC", RAISED_AT);
    counted(MessageFacts { kind, notices, ..facts })
}

/// Many more notices than are listed, with names that are long and hostile.
pub(super) fn extreme(language: Language, kind: TemplateKind) -> MessageFacts {
    let count = match kind {
        TemplateKind::Test => 0,
        TemplateKind::Digest => 1_000,
        _ => 1,
    };
    let long = "<script>alert(\"'&\")</script>\r\nBcc: all@example.com \u{202e}".repeat(10);
    let notice = |number: usize| NoticeFacts {
        description: long.repeat(4),
        rule: long.clone(),
        severity: Severity::WORST_FIRST[number % 5],
        severity_before: Some(Severity::Indeterminate),
        cleared_at: Some(after(9)),
        clear_reason: Some(ClearReason::Person),
        acknowledged: number.is_multiple_of(2),
        acknowledged_by: Some(long.clone()),
        by: Some(long.clone()),
        location: Some(format!("{number} {long}")),
        device: Some(long.clone()),
        values: (0..25).map(|key| (format!("{key} {long}"), Value::from(long.clone()))).collect(),
        acknowledge: Some(format!("https://baken.example/links/{}", "A".repeat(400))),
        ..of_kind(language, kind)
    };
    let facts = MessageFacts::test(&long, &long, language, ZONE, after(10));
    // No more are looked at, and a template is tried often.
    let notices: Vec<NoticeFacts> = (0..count.min(MAX_LISTED + 5)).map(notice).collect();
    let facts = counted(MessageFacts { kind, notices, ..facts });
    let unsubscribe = Some(format!("https://baken.example/links/{}", "B".repeat(400)));
    MessageFacts { total: count, unsubscribe, ..facts }
}
