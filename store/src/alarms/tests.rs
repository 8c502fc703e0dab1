mod limits;
mod lists;
mod published;
mod told;
mod upgrade;

use std::sync::Arc;

use schema::{
    AlarmId, Cause, ClearReason, Command, CommandBody, DeviceId, LocationId, Originator, ProfileId,
    RuleId, Severity, TenantId, TransitionId, TransitionKind,
};

use super::*;
use crate::place::{Place, on_both};

fn open(place: &Place) -> AlarmStore {
    let registry = Registry::new();
    place.open(
        |dir| AlarmStore::open(dir, &registry).unwrap(),
        |url| AlarmStore::open_postgres(&PostgresOptions::parse(url).unwrap(), &registry).unwrap(),
    )
}

fn transition(id: u128, alarm: u128, at: i64, kind: TransitionKind) -> Transition {
    Transition {
        id: TransitionId(id),
        alarm: AlarmId(alarm),
        tenant: TenantId(1),
        location: Some(LocationId(2)),
        originator: Originator::Device(DeviceId(3)),
        rule: RuleId { profile: ProfileId(4), key: "too_warm".into() },
        kind,
        at: TimestampMs(at),
        received_at: TimestampMs(at),
        severity: Severity::Major,
        cause: Cause::Deadline,
        by: None,
        provenance: None,
        description: "Too warm".to_owned(),
        values: vec![("temperature".into(), serde_json::json!(at))],
    }
}

fn stretch(claim: &Claim, from: u64, to: u64, transitions: Vec<Transition>) -> Commit {
    Commit {
        partition: PartitionId(0),
        epoch: claim.epoch,
        expected: Position(from),
        next: Position(to),
        transitions,
        notices: Vec::new(),
        ticks: Vec::new(),
        met: Vec::new(),
        snapshot: None,
        at: TimestampMs(0),
    }
}

on_both!(updates_of_alarms_in_turns_are_counted_each_for_its_own);

async fn updates_of_alarms_in_turns_are_counted_each_for_its_own(place: Place) {
    let store = open(&place);
    let claim = store.claim(PartitionId(0)).await.unwrap();
    let of = |id: u128, alarm: u128, kind: TransitionKind| {
        let mut transition = transition(id, alarm, 10 * i64::try_from(id).unwrap(), kind);
        transition.rule.key = format!("rule {alarm}").into();
        transition
    };
    let rise = TransitionKind::SeverityChanged { from: Severity::Minor };
    let end = TransitionKind::Cleared { reason: ClearReason::Condition };
    let all = vec![
        of(1, 8, TransitionKind::Raised),
        of(2, 9, TransitionKind::Raised),
        of(3, 8, TransitionKind::Updated { times: 1 }),
        of(4, 9, TransitionKind::Updated { times: 1 }),
        of(5, 8, TransitionKind::Updated { times: 1 }),
        of(6, 8, rise),
        of(7, 8, TransitionKind::Updated { times: 1 }),
        of(8, 9, TransitionKind::Updated { times: 1 }),
        of(9, 9, end),
    ];
    store.commit(Arc::new(stretch(&claim, 0, 5, all))).await.unwrap();
    let first = store.alarm(AlarmId(8)).await.unwrap().unwrap();
    assert_eq!((first.updates, first.updated_at), (3, TimestampMs(70)));
    assert_eq!(first.last_details["values"]["temperature"], 70);
    let second = store.alarm(AlarmId(9)).await.unwrap().unwrap();
    assert_eq!((second.updates, second.updated_at), (2, TimestampMs(80)));
    assert_eq!(second.cleared_details.unwrap()["values"]["temperature"], 90);
}

on_both!(an_alarm_keeps_its_raise_its_peak_and_its_end);

async fn an_alarm_keeps_its_raise_its_peak_and_its_end(place: Place) {
    let store = open(&place);
    let claim = store.claim(PartitionId(0)).await.unwrap();
    let rise = TransitionKind::SeverityChanged { from: Severity::Major };
    let mut peak = transition(2, 9, 20, rise);
    peak.severity = Severity::Critical;
    let end = TransitionKind::Cleared { reason: ClearReason::Condition };
    let all = vec![
        transition(1, 9, 10, TransitionKind::Raised),
        peak,
        transition(3, 9, 30, TransitionKind::Updated { times: 1 }),
        transition(4, 9, 31, TransitionKind::Updated { times: 1 }),
        transition(5, 9, 40, end),
        transition(6, 9, 50, TransitionKind::Acknowledged),
        transition(7, 9, 51, TransitionKind::Acknowledged),
    ];
    store.commit(Arc::new(stretch(&claim, 0, 5, all))).await.unwrap();
    let alarm = store.alarm(AlarmId(9)).await.unwrap().unwrap();
    assert_eq!(alarm.status, AlarmStatus { active: false, acknowledged: true });
    assert_eq!((alarm.raised.at, alarm.raised.severity), (TimestampMs(10), Severity::Major));
    assert_eq!((alarm.peak.at, alarm.peak.severity), (TimestampMs(20), Severity::Critical));
    assert_eq!((alarm.updates, alarm.updated_at), (2, TimestampMs(31)));
    assert_eq!(alarm.cleared_at, Some(TimestampMs(40)));
    assert_eq!(alarm.cleared_details.unwrap()["values"]["temperature"], 40);
    let query = EventQuery { oldest_first: true, limit: 10, ..EventQuery::default() };
    let events = store.events(query).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["alarm_raised", "alarm_severity_changed", "alarm_cleared", "alarm_acknowledged"]
    );
    assert_eq!(events[2].body["reason"], "condition");
    store.close().await;
}

on_both!(a_worker_that_lost_its_partition_or_its_place_writes_nothing);

async fn a_worker_that_lost_its_partition_or_its_place_writes_nothing(place: Place) {
    let store = open(&place);
    let first = store.claim(PartitionId(0)).await.unwrap();
    store.commit(Arc::new(stretch(&first, 0, 3, Vec::new()))).await.unwrap();
    let raised = || vec![transition(1, 9, 10, TransitionKind::Raised)];
    let replayed = store.commit(Arc::new(stretch(&first, 0, 3, raised()))).await.unwrap_err();
    assert!(matches!(replayed, AlarmStoreError::Fenced { .. }), "{replayed}");
    let second = store.claim(PartitionId(0)).await.unwrap();
    assert_eq!((second.epoch, second.position), (first.epoch + 1, Position(3)));
    let lost = store.commit(Arc::new(stretch(&first, 3, 4, raised()))).await.unwrap_err();
    assert!(matches!(lost, AlarmStoreError::Fenced { .. }), "{lost}");
    assert_eq!(store.alarm(AlarmId(9)).await.unwrap(), None);
    store.commit(Arc::new(stretch(&second, 3, 4, raised()))).await.unwrap();
    assert!(store.alarm(AlarmId(9)).await.unwrap().is_some());
}

on_both!(ticks_and_devices_last_until_the_next_snapshot);

async fn ticks_and_devices_last_until_the_next_snapshot(place: Place) {
    let store = open(&place);
    let claim = store.claim(PartitionId(0)).await.unwrap();
    let tick = Tick { position: Position(2), clock: TimestampMs(77) };
    let met = MetDevice { device: DeviceId(5), position: Position(1), body: "{}".to_owned() };
    let mut commit = stretch(&claim, 0, 2, Vec::new());
    commit.ticks = vec![tick];
    commit.met = vec![met.clone()];
    store.commit(Arc::new(commit)).await.unwrap();
    store.close().await;
    let store = open(&place);
    let claim = store.claim(PartitionId(0)).await.unwrap();
    assert_eq!((&claim.ticks, &claim.met), (&vec![tick], &vec![met]));
    let mut commit = stretch(&claim, 2, 6, Vec::new());
    commit.snapshot = Some(vec![1, 2]);
    store.commit(Arc::new(commit)).await.unwrap();
    let claim = store.claim(PartitionId(0)).await.unwrap();
    assert!(claim.ticks.is_empty() && claim.met.is_empty());
    assert_eq!(claim.snapshot, Some(Snapshot { position: Position(6), bytes: vec![1, 2] }));
}

on_both!(the_database_itself_refuses_a_second_uncleared_alarm_and_a_changed_event);

async fn the_database_itself_refuses_a_second_uncleared_alarm_and_a_changed_event(place: Place) {
    let store = open(&place);
    let claim = store.claim(PartitionId(0)).await.unwrap();
    let twice = vec![
        transition(1, 8, 10, TransitionKind::Raised),
        transition(2, 9, 11, TransitionKind::Raised),
    ];
    let refused = store.commit(Arc::new(stretch(&claim, 0, 1, twice))).await;
    assert!(matches!(refused, Err(AlarmStoreError::Sql(_))), "{refused:?}");
    let once = vec![transition(1, 8, 10, TransitionKind::Raised)];
    store.commit(Arc::new(stretch(&claim, 0, 1, once))).await.unwrap();
    store.close().await;
    for statement in ["DELETE FROM events", "UPDATE events SET at = 0"] {
        let error = place.run("alarms.db", "baken_alarms", statement).unwrap_err();
        assert!(error.contains("events are never"), "{error}");
    }
}

fn command(profile: &ProfileVersion, _: &[u8]) -> Result<Command, String> {
    let body = CommandBody::ProfileDeleted { profile: profile.id, version: profile.version };
    Ok(Command { at: profile.changed_at, tenant: profile.tenant, body })
}

fn change(id: Option<ProfileId>, expected: Option<u64>, name: Option<&str>) -> ProfileChange {
    ProfileChange {
        tenant: TenantId(1),
        id,
        expected_version: expected,
        document: name.map(|name| (name.to_owned(), format!("# kept\nname = \"{name}\""))),
        at: TimestampMs(5),
        author: "eva".into(),
        command,
        rules: 1,
        body: Vec::new(),
        partitions: 2,
        system: false,
    }
}

on_both!(a_profile_has_versions_and_each_is_delivered_to_every_partition);

async fn a_profile_has_versions_and_each_is_delivered_to_every_partition(place: Place) {
    let store = open(&place);
    let first = store.change_profile(change(None, None, Some("Cold"))).await.unwrap();
    assert_eq!(first.version, 1);
    let taken = store.change_profile(change(None, None, Some("Cold"))).await.unwrap_err();
    assert!(matches!(taken, AlarmStoreError::NameTaken { .. }), "{taken}");
    let stale = store.change_profile(change(Some(first.id), Some(7), Some("Cold"))).await;
    let conflict = AlarmStoreError::VersionConflict { expected: 7, found: 1 };
    assert_eq!(stale.unwrap_err().to_string(), conflict.to_string());
    let second =
        store.change_profile(change(Some(first.id), Some(1), Some("Cold room"))).await.unwrap();
    assert_eq!((second.id, second.version), (first.id, 2));
    assert!(second.source.starts_with("# kept"));
    let deliveries = store.deliveries().await.unwrap();
    let partitions: Vec<u16> = deliveries.iter().map(|d| d.partition.0).collect();
    assert_eq!(partitions, [0, 1, 0, 1]);
    for delivery in deliveries {
        store.delivered(delivery.sequence).await.unwrap();
    }
    assert_eq!(store.deliveries().await.unwrap(), []);
    store.change_profile(change(Some(first.id), None, None)).await.unwrap();
    assert_eq!(store.profile(first.id).await.unwrap(), None);
    assert_eq!(store.profile_versions(first.id).await.unwrap().len(), 3);
    let all = store.profiles(Some(TenantId(1)), ProfileId(0), 10).await.unwrap();
    assert_eq!(all, []);
    let events = store.events(EventQuery { limit: 9, ..EventQuery::default() }).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["profile_deleted", "profile_changed", "profile_created"]);
}

on_both!(a_tenant_has_one_system_profile_that_only_baken_touches);

async fn a_tenant_has_one_system_profile_that_only_baken_touches(place: Place) {
    let store = open(&place);
    let system = |id, name| ProfileChange { system: true, ..change(id, None, name) };
    let own = store.change_profile(change(None, None, Some("System alarms"))).await.unwrap();
    let made = store.change_profile(system(None, Some("System alarms"))).await.unwrap();
    assert!(made.system && made.id != own.id, "its name keeps nobody from it: {made:?}");
    let again = store.change_profile(system(None, Some("Others"))).await.unwrap_err();
    assert!(matches!(again, AlarmStoreError::NameTaken { .. }), "there is one: {again}");
    for wrong in [change(Some(made.id), None, None), system(Some(own.id), None)] {
        let error = store.change_profile(wrong).await.unwrap_err();
        assert!(matches!(error, AlarmStoreError::SystemProfile), "{error}");
    }
    assert_eq!(store.system_profile(TenantId(1)).await.unwrap(), Some(made.clone()));
    store.change_profile(system(Some(made.id), None)).await.unwrap();
    assert_eq!(store.system_profile(TenantId(1)).await.unwrap(), None);
    store.change_profile(system(None, Some("System alarms"))).await.unwrap();
}

on_both!(a_follower_s_place_only_moves_on);

async fn a_follower_s_place_only_moves_on(place: Place) {
    let store = open(&place);
    assert_eq!(store.followed("it").await.unwrap(), 0);
    for sequence in [7, 9, 8] {
        store.set_followed("it", sequence).await.unwrap();
    }
    store.close().await;
    assert_eq!(open(&place).followed("it").await.unwrap(), 9);
}
