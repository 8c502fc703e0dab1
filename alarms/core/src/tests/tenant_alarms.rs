//! Alarms of a tenant as a whole: what commands and people make of them, and
//! that every snapshot goes on the same.

use std::sync::Arc;

use schema::{
    AlarmAction, AlarmId, Cause, Command, CommandBody, Originator, Position, ProfileId, RuleId,
    Severity, TenantId, TimestampMs, Transition, TransitionKind,
};
use serde_json::json;

use crate::limits::{MAX_FILLED_BYTES, MAX_TEXT_BYTES, MAX_VALUES_BYTES};
use crate::{Engine, EngineOptions};

const TENANT: TenantId = TenantId(7);

/// One input at its time.
enum Input {
    Say(&'static str, Severity, &'static str),
    Over(&'static str, &'static str),
    Do(&'static str, AlarmAction),
    Clock,
}

use AlarmAction::{Acknowledge, Clear, Shelve, Unacknowledge, Unshelve};
use Input::{Clock, Do, Over, Say};
use Severity::{Critical, Major, Minor, Warning};

fn command(tenant: TenantId, at: i64, body: CommandBody) -> Command {
    Command { at: TimestampMs(at), tenant, body }
}

fn said(
    key: &str,
    active: bool,
    severity: Severity,
    description: &str,
    values: Vec<(Arc<str>, serde_json::Value)>,
) -> CommandBody {
    let description = description.to_owned();
    CommandBody::TenantAlarm { key: key.into(), active, severity, description, values }
}

fn deed(key: &str, alarm: AlarmId, action: AlarmAction) -> CommandBody {
    CommandBody::Alarm {
        alarm,
        device: None,
        location: None,
        rule: RuleId { profile: ProfileId::SYSTEM, key: key.into() },
        severity: Major,
        by: "eva".into(),
        provenance: None,
        action,
    }
}

/// Puts one input in; `before` has all transitions so far.
fn apply(
    engine: &mut Engine,
    position: u64,
    (at, input): &(i64, Input),
    before: &[Transition],
) -> Vec<Transition> {
    let mut out = Vec::new();
    let body = match input {
        Clock => {
            engine.advance(TimestampMs(*at), &mut out);
            return out;
        }
        Say(key, severity, text) => {
            said(key, true, *severity, text, vec![("at".into(), json!(at))])
        }
        Over(key, text) => said(key, false, Warning, text, vec![]),
        Do(key, action) => {
            let mut raised = before.iter().rev();
            let raised = raised.find(|t| &*t.rule.key == *key && t.kind == TransitionKind::Raised);
            deed(key, raised.unwrap().alarm, action.clone())
        }
    };
    let cause = Cause::Record { position: Position(position), row: 0 };
    engine.command(&command(TENANT, *at, body), cause, &mut out).unwrap();
    out
}

/// All inputs from one on, through one engine.
fn run(engine: &mut Engine, script: &[(i64, Input)], from: usize, all: &mut Vec<Transition>) {
    for (position, step) in (from as u64..).zip(&script[from..]) {
        let out = apply(engine, position, step, all);
        all.extend(out);
    }
}

fn told(transition: &Transition) -> String {
    let Transition { at, rule, kind, severity, description, .. } = transition;
    let what = match kind {
        TransitionKind::Cleared { reason } => format!("cleared by {reason:?}"),
        TransitionKind::Unshelved { by_time: true } => "unshelved by time".to_owned(),
        kind => kind.as_str().to_owned(),
    };
    format!("{} {} {what} {severity}: {description}", at.0, rule.key)
}

/// That a script comes to these transitions, also from every snapshot within it.
#[track_caller]
fn check(script: &[(i64, Input)], expected: &[&str]) -> Vec<Transition> {
    let mut straight = Engine::new(EngineOptions::default());
    let mut whole = Vec::new();
    run(&mut straight, script, 0, &mut whole);
    assert_eq!(whole.iter().map(told).collect::<Vec<_>>(), expected);
    for cut in 0..=script.len() {
        let mut engine = Engine::new(EngineOptions::default());
        let mut seen = Vec::new();
        run(&mut engine, &script[..cut], 0, &mut seen);
        let bytes = engine.snapshot();
        let mut engine = Engine::restore(EngineOptions::default(), &bytes).unwrap();
        assert_eq!(engine.snapshot(), bytes, "cut at {cut}");
        run(&mut engine, script, cut, &mut seen);
        assert_eq!(seen, whole, "cut at {cut}");
        assert_eq!(engine.snapshot(), straight.snapshot(), "cut at {cut}");
    }
    whole
}

#[test]
fn it_is_raised_once_follows_the_severity_and_ends() {
    let whole = check(
        &[
            (1, Over("mail", "never was")),
            (2, Say("mail", Minor, "slow")),
            (3, Say("mail", Minor, "slower")),
            (4, Say("mail", Critical, "dead")),
            (5, Say("sms", Warning, "slow")),
            (6, Say("mail", Warning, "nearly well")),
            (7, Over("mail", "")),
            (8, Over("mail", "again")),
            (9, Say("mail", Minor, "slow again")),
            (10, Over("mail", "well")),
        ],
        &[
            "2 mail raised minor: slow",
            "3 mail updated minor: slower",
            "4 mail severity_changed critical: dead",
            "5 sms raised warning: slow",
            "6 mail severity_changed warning: nearly well",
            "7 mail cleared by Condition warning: nearly well",
            "9 mail raised minor: slow again",
            "10 mail cleared by Condition minor: well",
        ],
    );
    assert_eq!(whole[2].kind, TransitionKind::SeverityChanged { from: Minor });
    assert_eq!(whole[4].kind, TransitionKind::SeverityChanged { from: Critical });
    let alarms: Vec<AlarmId> = whole.iter().map(|t| t.alarm).collect();
    assert!(alarms[..3].iter().chain(&alarms[4..6]).all(|alarm| *alarm == alarms[0]));
    assert!(alarms[0] != alarms[3] && alarms[6] != alarms[0] && alarms[6] == alarms[7]);
    let first = &whole[0];
    assert_eq!((first.originator, first.location), (Originator::Tenant(TENANT), None));
    assert_eq!((first.tenant, first.rule.profile), (TENANT, ProfileId::SYSTEM));
    assert_eq!(first.values, [("at".into(), json!(2))]);
    let ids: std::collections::BTreeSet<_> = whole.iter().map(|t| t.id).collect();
    assert_eq!(ids.len(), whole.len());
}

#[test]
fn people_do_to_it_what_they_do_to_any() {
    let comment = || AlarmAction::Comment { text: "seen".to_owned() };
    let assign = || AlarmAction::Assign { to: Some("bob".to_owned()) };
    let whole = check(
        &[
            (1, Say("mail", Minor, "slow")),
            (2, Do("mail", Acknowledge)),
            (3, Do("mail", Acknowledge)),
            (4, Say("mail", Major, "slower")),
            (5, Do("mail", Unacknowledge)),
            (6, Do("mail", Unacknowledge)),
            (7, Do("mail", Unshelve)),
            (8, Do("mail", Shelve { until: TimestampMs(50) })),
            (9, Do("mail", Shelve { until: TimestampMs(9) })),
            (10, Do("mail", Unshelve)),
            (11, Do("mail", comment())),
            (12, Do("mail", assign())),
            (13, Do("mail", Clear)),
            (14, Do("mail", Acknowledge)),
            (15, Do("mail", Clear)),
            (60, Say("mail", Minor, "slow")),
        ],
        &[
            "1 mail raised minor: slow",
            "2 mail acknowledged minor: slow",
            "4 mail severity_changed major: slower",
            "5 mail unacknowledged major: slower",
            "8 mail shelved major: slower",
            "10 mail unshelved major: slower",
            "11 mail commented major: slower",
            "12 mail assigned major: slower",
            "13 mail cleared by Person major: slower",
            "14 mail acknowledged major: ",
            "60 mail raised minor: slow",
        ],
    );
    assert!(whole[1..10].iter().filter(|t| t.by.as_deref() == Some("eva")).count() == 8);
    assert_ne!(whole[10].alarm, whole[0].alarm);
}

#[test]
fn shelving_ends_at_its_own_time_when_the_clock_comes_to_it() {
    check(
        &[
            (1, Say("b", Minor, "b")),
            (2, Say("a", Minor, "a")),
            (3, Do("a", Shelve { until: TimestampMs(30) })),
            (4, Do("b", Shelve { until: TimestampMs(20) })),
            (19, Clock),
            (40, Say("a", Minor, "still")),
            (41, Do("a", Shelve { until: TimestampMs(60) })),
            (42, Over("a", "")),
            (70, Clock),
        ],
        &[
            "1 b raised minor: b",
            "2 a raised minor: a",
            "3 a shelved minor: a",
            "4 b shelved minor: b",
            "20 b unshelved by time minor: b",
            "30 a unshelved by time minor: a",
            "40 a updated minor: still",
            "41 a shelved minor: still",
            "42 a cleared by Condition minor: still",
        ],
    );
    let mut engine = Engine::new(EngineOptions::default());
    raise_and_shelve(&mut engine);
    assert_eq!(engine.next_deadline(), Some(TimestampMs(9_000_000_000_000)));
    assert_eq!(engine.active_alarms(), 2);
}

#[test]
fn its_time_never_runs_backwards() {
    check(
        &[(10, Say("a", Minor, "a")), (8, Say("a", Major, "b")), (9, Over("a", ""))],
        &[
            "10 a raised minor: a",
            "10 a severity_changed major: b",
            "10 a cleared by Condition major: b",
        ],
    );
}

#[test]
fn each_tenant_has_its_own() {
    let mut engine = Engine::new(EngineOptions::default());
    let mut out = Vec::new();
    for tenant in [1, 2] {
        let cause = Cause::Record { position: Position(tenant), row: 0 };
        let body = said("mail", true, Minor, "slow", vec![]);
        engine.command(&command(TenantId(tenant), 5, body), cause, &mut out).unwrap();
    }
    let cause = Cause::Record { position: Position(3), row: 0 };
    let body = deed("mail", out[0].alarm, Clear);
    engine.command(&command(TenantId(2), 6, body), cause, &mut out).unwrap();
    assert_eq!(out.len(), 2, "the other tenant's alarm is not touched: {out:#?}");
    assert_ne!(out[0].alarm, out[1].alarm);
}

#[test]
fn it_tells_as_much_as_has_room() {
    let mut engine = Engine::new(EngineOptions::default());
    let long = "x".repeat(MAX_FILLED_BYTES + 1);
    let values = (0..40).map(|n| (Arc::from(format!("k{n}")), json!(long))).collect();
    let mut out = Vec::new();
    let cause = Cause::Record { position: Position(1), row: 0 };
    let body = said("mail", true, Minor, &long, values);
    engine.command(&command(TENANT, 5, body), cause, &mut out).unwrap();
    assert_eq!(out[0].description.len(), MAX_FILLED_BYTES);
    assert_eq!(out[0].values.len(), MAX_VALUES_BYTES / MAX_TEXT_BYTES - 1);
}

/// Two alarms, of which one is shelved, in any engine; for the golden bytes.
pub fn raise_and_shelve(engine: &mut Engine) {
    let mut out = Vec::new();
    for (position, key) in [(901, "notification_undeliverable/email"), (902, "forwarder/17")] {
        let values = vec![("tries".into(), json!(3)), ("why".into(), json!("refused"))];
        let body = said(key, true, Minor, "It fails", values);
        let cause = Cause::Record { position: Position(position), row: 0 };
        engine.command(&command(TENANT, 1_000, body), cause, &mut out).unwrap();
    }
    let until = TimestampMs(9_000_000_000_000);
    let body = deed("forwarder/17", out.last().unwrap().alarm, Shelve { until });
    let cause = Cause::Record { position: Position(903), row: 0 };
    engine.command(&command(TENANT, 2_000, body), cause, &mut out).unwrap();
}
