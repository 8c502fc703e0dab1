//! Alarms of a tenant as a whole: durable when the caller goes on, listed and
//! acted on as all others, and the same through a kill.

use alarms::{AlarmOptions, CommandError};
use journal::Journal;
use schema::{
    AlarmAction, PartitionId, Position, ProfileId, Severity, TenantId, home_partition_of,
};
use serde_json::json;
use store::alarms::{AlarmQuery, AlarmRow, EventQuery};

use crate::node::{Node, PARTITIONS};

const KEY: &str = "notification_undeliverable/email";

async fn say(node: &Node, tenant: TenantId, active: bool, severity: Severity, text: &str) {
    let values = vec![("tries".into(), json!(3))];
    let commands = node.workers.commands();
    commands.tenant_alarm(tenant, KEY, active, severity, text.to_owned(), values).await.unwrap();
    node.settle().await;
}

async fn alarms(node: &Node, tenant: TenantId) -> Vec<AlarmRow> {
    let query = AlarmQuery { tenant: Some(tenant), limit: 100, ..AlarmQuery::default() };
    node.store.alarms().alarms(query).await.unwrap()
}

fn next(journal: &Journal, partition: PartitionId) -> Position {
    journal.bounds(partition).next
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_listed_acted_on_and_goes_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let tenant = node.place(1).await.tenant;
    node.settle().await;
    let home = home_partition_of(tenant, PARTITIONS);
    let before = next(&node.journal, home);
    say(&node, tenant, true, Severity::Minor, "No mail server answers").await;
    assert_eq!(next(&node.journal, home), before.next(), "it is in the home partition");
    let listed = alarms(&node, tenant).await;
    let [alarm] = &*listed else { panic!("{listed:#?}") };
    assert_eq!((alarm.device, alarm.location), (None, None));
    assert_eq!((&*alarm.rule.key, alarm.rule.profile), (KEY, ProfileId::SYSTEM));
    assert_eq!(alarm.raised.details["description"], "No mail server answers");
    assert_eq!(alarm.raised.details["values"]["tries"], 3);
    let id = alarm.id;

    let commands = node.workers.commands();
    commands.act(id, AlarmAction::Acknowledge, "eva").await.unwrap();
    let all = AlarmQuery { tenant: Some(tenant), limit: 100, ..AlarmQuery::default() };
    let until = schema::TimestampMs(i64::MAX);
    let shelved = commands.act_on_many(all, AlarmAction::Shelve { until }, "eva").await.unwrap();
    assert_eq!((shelved.done, shelved.failed), (1, 0), "{shelved:?}");
    say(&node, tenant, true, Severity::Minor, "Still none").await;
    node.kill().await;

    let node = Node::open(dir.path(), &AlarmOptions::default());
    say(&node, tenant, true, Severity::Major, "Two days without").await;
    let alarm = alarms(&node, tenant).await.remove(0);
    assert_eq!((alarm.id, alarm.severity, alarm.updates), (id, Severity::Major, 1));
    assert!(alarm.status.acknowledged && alarm.status.active && alarm.shelved_until.is_some());
    say(&node, tenant, false, Severity::Major, "").await;
    let alarm = alarms(&node, tenant).await.remove(0);
    assert_eq!(alarm.cleared_reason.as_deref(), Some("condition"));

    say(&node, tenant, true, Severity::Minor, "Again").await;
    let again = alarms(&node, tenant).await.into_iter().find(|alarm| alarm.status.active).unwrap();
    assert_ne!(again.id, id);
    node.workers.commands().act(again.id, AlarmAction::Clear, "eva").await.unwrap();
    say(&node, tenant, true, Severity::Minor, "And again").await;
    let active = |alarm: &AlarmRow| (alarm.status.active, alarm.cleared_reason.clone());
    let mut rows = alarms(&node, tenant).await;
    rows.sort_by_key(|alarm| alarm.sequence);
    let states: Vec<_> = rows.iter().map(active).collect();
    let ended = |reason: &str| (false, Some(reason.to_owned()));
    assert_eq!(states, [ended("condition"), ended("person"), (true, None)]);

    let query = EventQuery { tenant: Some(tenant), limit: 100, ..EventQuery::default() };
    let mut events = node.store.alarms().events(query).await.unwrap();
    events.retain(|event| event.alarm.is_some());
    events.sort_by_key(|event| event.sequence);
    assert!(events.iter().all(|event| event.device.is_none() && event.location.is_none()));
    let kinds: Vec<&str> = events.iter().map(|event| &*event.kind).collect();
    assert_eq!(
        kinds,
        [
            "alarm_raised",
            "alarm_acknowledged",
            "alarm_shelved",
            "alarm_severity_changed",
            "alarm_cleared",
            "alarm_raised",
            "alarm_cleared",
            "alarm_raised"
        ]
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let commands = node.workers.commands();
    for (key, taken) in [
        (String::new(), false),
        ("k".repeat(129), false),
        ("alarm_limit/3/hot".to_owned(), false),
        ("k".repeat(128), true),
    ] {
        let values = Vec::new();
        let said = commands
            .tenant_alarm(TenantId(1), &*key, true, Severity::Minor, "It fails".to_owned(), values)
            .await;
        let refused = matches!(&said, Err(CommandError::TenantAlarmKey(it)) if **it == key);
        assert_eq!((said.is_ok(), refused), (taken, !taken), "{key}: {said:?}");
    }
    node.stop().await;
}
