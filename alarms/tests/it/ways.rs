//! The ways in: profiles, attributes and deeds, each once and in order.

use alarms::{AlarmOptions, CommandError};
use schema::{AlarmAction, ProfileId, Severity};
use store::alarms::{AlarmQuery, AlarmRow, AlarmStoreError};

use crate::node::{FAR_MS, Node};

fn profile(limit: u32) -> String {
    format!(
        r#"
        # A comment that survives.
        name = "Machines"
        [[rules]]
        key = "hot"
        raise.major = {{ when = {{ key = "temperature", operator = ">", value = {limit} }} }}
        clear = {{ when = {{ key = "temperature", operator = "<=", value = {limit} }} }}
        "#
    )
}

async fn alarms(node: &Node) -> Vec<AlarmRow> {
    let query = AlarmQuery { limit: 100, ..AlarmQuery::default() };
    node.store.alarms().alarms(query).await.unwrap()
}

async fn kinds(node: &Node) -> Vec<String> {
    node.events().await.into_iter().map(|event| event.kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_profile_is_in_force_when_the_answer_comes() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let place = node.place(2).await;
    let commands = node.workers.commands();
    let saved =
        commands.save_profile(place.tenant, None, None, profile(80), "eva").await.unwrap().profile;
    assert_eq!(saved.version, 1);
    assert!(saved.source.contains("# A comment that survives."));
    node.append(&place, place.record(&[(0, FAR_MS, 85.0), (1, FAR_MS, 75.0)])).await;
    node.settle().await;
    let raised = alarms(&node).await;
    assert_eq!((raised.len(), raised[0].severity), (1, Severity::Major));
    assert_eq!(raised[0].raised.details["values"]["temperature"], 85.0);

    let changed = commands
        .save_profile(place.tenant, Some(saved.id), Some(1), profile(90), "eva")
        .await
        .unwrap()
        .profile;
    assert_eq!(changed.version, 2);
    assert_eq!(kinds(&node).await, ["alarm_raised", "alarm_cleared"]);
    let stale =
        commands.save_profile(place.tenant, Some(saved.id), Some(1), profile(70), "eva").await;
    assert!(matches!(
        stale,
        Err(CommandError::Store(AlarmStoreError::VersionConflict { expected: 1, found: 2 }))
    ));
    node.append(&place, place.record(&[(1, FAR_MS + 1_000, 95.0)])).await;
    node.settle().await;
    commands.delete_profile(place.tenant, saved.id, None, "eva").await.unwrap();
    let last = alarms(&node).await.remove(0);
    assert_eq!(last.cleared_reason.as_deref(), Some("rule_removed"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_profile_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let place = node.place(1).await;
    let commands = node.workers.commands();
    let wrong = profile(80).replace("clear =", "clear_by_severity.minor =");
    let refused = commands.save_profile(place.tenant, None, None, wrong, "eva").await;
    let Err(CommandError::Invalid(report)) = refused else { panic!("{refused:?}") };
    assert_eq!(report.errors[0].field, "rules[0].clear");
    let mut all = node.store.alarms().profiles(None, ProfileId(0), 10).await.unwrap();
    all.retain(|profile| !profile.system);
    assert_eq!(all, []);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deeds_take_effect_before_they_are_answered_and_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let options = AlarmOptions::default();
    let node = Node::open(dir.path(), &options);
    let place = node.place(1).await;
    let commands = node.workers.commands();
    commands.save_profile(place.tenant, None, None, profile(80), "eva").await.unwrap();
    node.append(&place, place.record(&[(0, FAR_MS, 85.0)])).await;
    node.settle().await;
    let id = alarms(&node).await[0].id;
    commands.act(id, AlarmAction::Acknowledge, "eva").await.unwrap();
    let alarm = alarms(&node).await.remove(0);
    assert!(alarm.status.active && alarm.status.acknowledged);
    assert_eq!(alarm.acknowledged_by.as_deref(), Some("eva"));
    let again = commands.act(id, AlarmAction::Acknowledge, "bob").await;
    assert!(matches!(again, Err(CommandError::Already("acknowledged"))), "{again:?}");
    node.kill().await;

    let node = Node::open(dir.path(), &options);
    let commands = node.workers.commands();
    commands.act(id, AlarmAction::Clear, "bob").await.unwrap();
    commands
        .act(id, AlarmAction::Comment { text: "fuse replaced".to_owned() }, "bob")
        .await
        .unwrap();
    node.append(&place, place.record(&[(0, FAR_MS + 1_000, 86.0)])).await;
    node.settle().await;
    assert_eq!(
        kinds(&node).await,
        ["alarm_raised", "alarm_acknowledged", "alarm_cleared", "alarm_commented", "alarm_raised"]
    );
    node.stop().await;
}
