//! That each part of a backtest ends when it is cancelled, and that a result
//! has its bounds.

use prometheus::Registry;
use schema::{
    AlarmId, Cause, DeviceId, Originator, RuleId, Severity, Transition, TransitionId,
    TransitionKind,
};
use store::{HistoryOptions, StoreOptions};

use super::*;

fn store(dir: &std::path::Path) -> Store {
    let dir = dir.to_owned();
    let options = StoreOptions { dir, partitions: 1, history: HistoryOptions::default() };
    Store::open_embedded(options, &Registry::new()).unwrap()
}

#[tokio::test]
async fn a_cancelled_one_ends_in_planning_and_in_comparing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let control = Control::default();
    control.cancel();
    let text = r#"
        name = "p"
        [[rules]]
        key = "hot"
        raise.major = { when = { key = "t", operator = ">", value = 1 } }
        clear = { when = { key = "t", operator = "<", value = 0 } }
    "#;
    let query = BacktestQuery {
        tenant: TenantId(1),
        profiles: vec![(DRAFT, alarm_core::parse_toml(text).unwrap())],
        from: TimestampMs(0),
        to: TimestampMs(1),
        locations: None,
        warm_up_ms: None,
        compare_with: Some(ProfileId(1)),
    };
    let looks: Arc<[Looks]> = looks(&query).unwrap().into();
    let course = course(&query, &looks, BacktestOptions::default());
    let engine = course.engine(&mut Vec::new()).unwrap();
    let planned = plan::plan(&store, query.tenant, None, looks, engine, &control).await;
    assert!(matches!(planned, Err(BacktestError::Cancelled)));
    let gathered = Gather::new(query.from, query.to);
    let compared = compare(&store, &query, &gathered, &control).await;
    assert!(matches!(compared, Err(BacktestError::Cancelled)));
    let whole = backtest(&store, query, BacktestOptions::default(), &control).await;
    assert!(matches!(whole, Err(BacktestError::Cancelled)));
    store.close().await;
}

fn transition(alarm: u64, at: i64, kind: TransitionKind, description: String) -> Transition {
    Transition {
        id: TransitionId(u128::from(alarm)),
        alarm: AlarmId(u128::from(alarm)),
        tenant: TenantId(1),
        location: None,
        originator: Originator::Device(DeviceId(alarm)),
        rule: RuleId { profile: DRAFT, key: "hot".into() },
        kind,
        at: TimestampMs(at),
        received_at: TimestampMs(at),
        severity: Severity::Major,
        cause: Cause::Deadline,
        by: None,
        provenance: None,
        description,
        values: Vec::new(),
    }
}

/// Behind all alarms of these tests.
const END_MS: i64 = 10_000_000;

/// What comes of alarms of two units, with so many changes of severity each.
fn gathered(units: [std::ops::Range<u64>; 2], changes: i64, description: &str) -> Gather {
    let mut all = Gather::new(TimestampMs(0), TimestampMs(END_MS));
    for alarms in units {
        let mut unit = Gather::new(TimestampMs(0), TimestampMs(END_MS));
        for alarm in alarms {
            let raised_at = i64::try_from(alarm).unwrap() * 1_000;
            let mut out =
                vec![transition(alarm, raised_at, TransitionKind::Raised, description.to_owned())];
            let changed = TransitionKind::SeverityChanged { from: Severity::Minor };
            out.extend((1..=changes).map(|n| {
                transition(alarm, raised_at + n, changed.clone(), description.to_owned())
            }));
            unit.take(&mut out);
        }
        unit.finish();
        all.add(unit);
    }
    all
}

#[test]
fn a_result_lists_as_many_transitions_as_it_may_and_counts_all() {
    let per_alarm = MAX_LISTED_TRANSITIONS as u64;
    let fitting = MAX_LISTED_TRANSITIONS_IN_ALL as u64 / per_alarm;
    let changes = i64::try_from(per_alarm).unwrap() - 1;
    for units in [[0..300, 300..500], [300..500, 0..300]] {
        let gathered = gathered(units, changes, "");
        assert_eq!(gathered.alarms.len() as u64, fitting);
        assert_eq!((gathered.totals.alarms, gathered.spans.len()), (500, 500));
        // The first by time, in whatever order the units came.
        assert_eq!(gathered.alarms.last().unwrap().device, DeviceId(fitting - 1));
        let whole = gathered.alarms.iter().all(|a| a.transitions.len() as u64 == per_alarm);
        assert!(whole, "what is listed is listed whole");
    }
}

#[test]
fn a_result_takes_as_many_bytes_as_it_may_and_counts_all() {
    let long = "x".repeat(4_096);
    let gathered = gathered([0..2_000, 2_000..4_000], 3, &long);
    let bytes: usize = gathered
        .alarms
        .iter()
        .flat_map(|alarm| alarm.transitions.iter().map(|t| t.description.len()))
        .sum();
    assert!((MAX_LISTED_BYTES / 2..=MAX_LISTED_BYTES).contains(&bytes), "{bytes}");
    assert_eq!(gathered.totals.alarms, 4_000);
}
