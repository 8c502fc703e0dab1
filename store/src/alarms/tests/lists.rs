//! Lists that people page through and filter while alarms change.

use std::collections::HashSet;

use schema::SuppressReason;

use super::*;

/// An alarm of its own device.
fn raised(number: u64) -> Transition {
    Transition {
        originator: Originator::Device(DeviceId(1_000 + number)),
        location: Some(LocationId(1 + number % 3)),
        severity: Severity::WORST_FIRST[usize::try_from(number % 5).unwrap()],
        description: format!("Press {number} is hot"),
        ..transition(u128::from(number), u128::from(number), 10, TransitionKind::Raised)
    }
}

/// Something that happens to it.
fn happens(id: u128, number: u64, kind: TransitionKind) -> Transition {
    Transition { id: TransitionId(id), kind, ..raised(number) }
}

async fn filled(place: &Place, alarms: u64) -> (AlarmStore, Claim) {
    let store = open(place);
    let claim = store.claim(PartitionId(0)).await.unwrap();
    let all = (1..=alarms).map(raised).collect();
    store.commit(Arc::new(stretch(&claim, 0, 1, all))).await.unwrap();
    (store, claim)
}

async fn ids(store: &AlarmStore, query: AlarmQuery) -> Vec<u128> {
    let query = AlarmQuery { limit: 1_000, ..query };
    store.alarms(query).await.unwrap().into_iter().map(|alarm| alarm.id.0).collect()
}

on_both!(every_filter_leaves_what_it_says);

async fn every_filter_leaves_what_it_says(place: Place) {
    let (store, claim) = filled(&place, 30).await;
    let until = TimestampMs(1 << 50);
    let cleared = TransitionKind::Cleared { reason: ClearReason::Person };
    let deeds = vec![
        happens(101, 1, TransitionKind::Acknowledged),
        happens(102, 2, TransitionKind::Shelved { until }),
        happens(103, 3, cleared),
        happens(104, 4, TransitionKind::Assigned { to: Some("bob".to_owned()) }),
    ];
    store.commit(Arc::new(stretch(&claim, 1, 2, deeds))).await.unwrap();
    let some = |query: AlarmQuery| ids(&store, query);
    let all = AlarmQuery::default;
    assert_eq!(some(AlarmQuery { acknowledged: Some(true), ..all() }).await, [1]);
    assert_eq!(some(AlarmQuery { shelved: Some(true), ..all() }).await, [2]);
    assert_eq!(some(AlarmQuery { active: Some(false), ..all() }).await, [3]);
    assert_eq!(some(AlarmQuery { assigned_to: Some("bob".to_owned()), ..all() }).await, [4]);
    assert_eq!(some(AlarmQuery { assigned_to: Some(String::new()), ..all() }).await.len(), 29);
    let locations = vec![LocationId(1), LocationId(3)];
    assert_eq!(some(AlarmQuery { locations, ..all() }).await.len(), 20);
    let severities = vec![Severity::Critical, Severity::Warning];
    assert_eq!(some(AlarmQuery { severities, ..all() }).await.len(), 12);
    let severity_from = Some(Severity::Major);
    assert_eq!(some(AlarmQuery { severity_from, ..all() }).await.len(), 12);
    let text = Some("PRESS 7 ".to_owned());
    assert_eq!(some(AlarmQuery { text, ..all() }).await, [7]);
    for (text, found) in [("%", 0), ("_", 30), ("too_w", 30), ("tooow", 0), ("\\", 0)] {
        let text = Some(text.to_owned());
        assert_eq!(some(AlarmQuery { text: text.clone(), ..all() }).await.len(), found, "{text:?}");
    }
    assert_eq!(some(AlarmQuery { profile: Some(ProfileId(5)), ..all() }).await, []);
    let targets = store.alarm_targets(all(), 7).await.unwrap();
    let newest: Vec<u128> = targets.iter().map(|target| target.id.0).collect();
    assert_eq!(newest, (24..=30).rev().collect::<Vec<u128>>());
    let sequence = targets.last().unwrap().sequence;
    let after = Some(AlarmPlace { sequence, severity: Severity::Indeterminate });
    let targets = store.alarm_targets(AlarmQuery { after, ..all() }, 7).await.unwrap();
    let next: Vec<u128> = targets.iter().map(|target| target.id.0).collect();
    assert_eq!(next, (17..=23).rev().collect::<Vec<u128>>());
}

on_both!(open_alarms_are_counted_by_place_and_severity);

async fn open_alarms_are_counted_by_place_and_severity(place: Place) {
    let (store, claim) = filled(&place, 30).await;
    let cleared = TransitionKind::Cleared { reason: ClearReason::Person };
    let deeds = vec![
        // 5, 15 and 30 are critical; 15 and 30 stand at location 1, 5 at 3.
        happens(101, 15, TransitionKind::Acknowledged),
        happens(102, 30, TransitionKind::Shelved { until: TimestampMs(1 << 50) }),
        happens(103, 5, cleared.clone()),
        happens(104, 20, cleared),
        happens(105, 20, TransitionKind::Acknowledged),
    ];
    store.commit(Arc::new(stretch(&claim, 1, 2, deeds))).await.unwrap();
    let found = store.open_alarms(Some(TenantId(1)), Vec::new()).await.unwrap();
    let at = |location: u64| found[&Some(LocationId(location))][&Severity::Critical];
    let count = |active, unacknowledged, active_unacknowledged, shelved| OpenCount {
        active,
        unacknowledged,
        active_unacknowledged,
        shelved,
    };
    assert_eq!(at(1), count(2, 1, 1, 1));
    // 10 and 25 at location 2; 5 is cleared and not acknowledged, 20 is neither.
    assert_eq!(at(2), count(2, 2, 2, 0));
    assert_eq!(at(3), count(0, 1, 0, 0));
    let one = store.open_alarms(None, vec![LocationId(2)]).await.unwrap();
    assert_eq!(one.len(), 1);
    assert_eq!(store.open_alarms(Some(TenantId(2)), Vec::new()).await.unwrap().len(), 0);
}

on_both!(pages_stay_where_they_are_while_alarms_are_raised_change_and_end);

async fn pages_stay_where_they_are_while_alarms_are_raised_change_and_end(place: Place) {
    let (store, claim) = filled(&place, 200).await;
    let (mut seen, mut after, mut step) = (Vec::new(), None, 0);
    loop {
        let query = AlarmQuery { after, limit: 7, ..AlarmQuery::default() };
        let page = store.alarms(query).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.place());
        seen.extend(page.iter().map(|alarm| alarm.id.0));
        // Meanwhile new ones come, and old ones change and end.
        let reason = ClearReason::Condition;
        let changes = vec![
            raised(1_000 + step),
            happens(u128::from(5_000 + step), 1 + step * 3, TransitionKind::Acknowledged),
            happens(u128::from(6_000 + step), 2 + step * 5, TransitionKind::Cleared { reason }),
        ];
        store.commit(Arc::new(stretch(&claim, 1 + step, 2 + step, changes))).await.unwrap();
        step += 1;
    }
    assert_eq!(seen, (1..=200).rev().collect::<Vec<u128>>());
}

on_both!(the_worst_come_first_and_pages_join_without_gaps);

async fn the_worst_come_first_and_pages_join_without_gaps(place: Place) {
    let (store, _) = filled(&place, 40).await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let order = AlarmOrder::Severity;
        let page = AlarmQuery { after, order, limit: 3, ..AlarmQuery::default() };
        let page = store.alarms(page).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.place());
        seen.extend(page.iter().map(|alarm| (alarm.severity, alarm.sequence)));
    }
    assert_eq!(seen.len(), 40);
    assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
}

on_both!(events_of_rare_kinds_are_found_in_one_order_with_the_others);

async fn events_of_rare_kinds_are_found_in_one_order_with_the_others(place: Place) {
    let (store, claim) = filled(&place, 50).await;
    let deeds = (1..=20)
        .map(|number| match number % 2 {
            0 => happens(u128::from(100 + number), number, TransitionKind::Acknowledged),
            _ => {
                let text = format!("seen {number}");
                happens(u128::from(100 + number), number, TransitionKind::Commented { text })
            }
        })
        .collect();
    store.commit(Arc::new(stretch(&claim, 1, 2, deeds))).await.unwrap();
    let kinds = vec!["alarm_acknowledged".to_owned(), "alarm_commented".to_owned()];
    for oldest_first in [true, false] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let kinds = kinds.clone();
            let query =
                EventQuery { kinds, after, oldest_first, limit: 3, ..EventQuery::default() };
            let page = store.events(query).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.sequence);
            seen.extend(page.iter().map(|event| event.sequence));
        }
        let mut expected: Vec<u64> = (51..=70).collect();
        if !oldest_first {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
    let newest = *store.latest_event().borrow();
    assert_eq!(newest, 70);
    let up_to = EventQuery { up_to: Some(60), limit: 1_000, ..EventQuery::default() };
    assert_eq!(store.events(up_to).await.unwrap()[0].sequence, 60);
}

on_both!(the_kinds_of_an_alarm_s_events_are_those_that_are_written);

/// What is offered as a kind is written, and what is written is offered.
async fn the_kinds_of_an_alarm_s_events_are_those_that_are_written(place: Place) {
    let (store, claim) = filled(&place, 1).await;
    let until = TimestampMs(1 << 50);
    let deeds = [
        TransitionKind::Updated { times: 1 },
        TransitionKind::SeverityChanged { from: Severity::Minor },
        TransitionKind::Acknowledged,
        TransitionKind::Unacknowledged,
        TransitionKind::Shelved { until },
        TransitionKind::Unshelved { by_time: false },
        TransitionKind::Suppressed { reason: SuppressReason::Flapping },
        TransitionKind::Commented { text: "seen".to_owned() },
        TransitionKind::Assigned { to: Some("bob".to_owned()) },
        TransitionKind::Cleared { reason: ClearReason::Person },
    ];
    let deeds = deeds.into_iter().zip(101..).map(|(kind, id)| happens(id, 1, kind)).collect();
    store.commit(Arc::new(stretch(&claim, 1, 2, deeds))).await.unwrap();
    let events = EventQuery { limit: 1_000, ..EventQuery::default() };
    let events = store.events(events).await.unwrap();
    let written: HashSet<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let offered = EVENT_KINDS.into_iter().filter(|kind| kind.starts_with("alarm_"));
    assert_eq!(written, offered.collect());
}

on_both!(a_stretch_of_time_is_found_the_same_whether_it_is_short_or_long);

async fn a_stretch_of_time_is_found_the_same_whether_it_is_short_or_long(place: Place) {
    let store = open(&place);
    let claim = store.claim(PartitionId(0)).await.unwrap();
    // Times in another order than the one in which they are written, and more
    // than are found by time.
    let count: u64 = 25_000;
    for first in (0..count).step_by(5_000) {
        let all = (first..first + 5_000)
            .map(|number| Transition {
                at: TimestampMs(i64::try_from(number * 7_919 % count).unwrap()),
                ..raised(number + 1)
            })
            .collect();
        store.commit(Arc::new(stretch(&claim, first, first + 5_000, all))).await.unwrap();
    }
    for (from, to) in [(100, 350), (0, 24_000), (20_000, 90_000)] {
        for kinds in [Vec::new(), vec!["alarm_raised".to_owned()], vec!["alarm_cleared".to_owned()]]
        {
            let expected = if kinds.first().is_some_and(|kind| kind == "alarm_cleared") {
                0
            } else {
                usize::try_from(to.min(25_000) - from).unwrap()
            };
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let query = EventQuery {
                    tenant: Some(TenantId(1)),
                    from: Some(TimestampMs(from)),
                    to: Some(TimestampMs(to)),
                    kinds: kinds.clone(),
                    after,
                    limit: 1_000,
                    ..EventQuery::default()
                };
                let page = store.events(query).await.unwrap();
                let Some(last) = page.last() else { break };
                after = Some(last.sequence);
                assert!(page.iter().all(|event| (from..to).contains(&event.at.0)));
                seen.extend(page.iter().map(|event| event.sequence));
            }
            assert_eq!(seen.len(), expected, "{from} to {to}, {kinds:?}");
            assert!(seen.is_sorted_by(|a, b| a > b));
        }
    }
}
