//! Deeds on many alarms at once: each alarm once, with who did it.

use std::collections::HashSet;
use std::sync::Arc;

use alarms::{AlarmOptions, MAX_ACTED_ALARMS};
use schema::{AlarmAction, Author, Provenance, TimestampMs};
use store::alarms::{AlarmQuery, EventQuery};

use crate::node::{FAR_MS, Node};

const PROFILE: &str = r#"
    name = "Machines"
    [[rules]]
    key = "hot"
    raise.major = { when = { key = "temperature", operator = ">", value = 80 } }
    clear = { when = { key = "temperature", operator = "<=", value = 80 } }
"#;

fn eva() -> Author {
    let provenance = Provenance { token: Some(7), from: Some("192.0.2.7".to_owned()) };
    Author { by: "eva".into(), provenance: Some(Arc::new(provenance)) }
}

fn all() -> AlarmQuery {
    AlarmQuery::default()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_match_are_acted_on_once_and_the_others_are_left() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let place = node.place(40).await;
    let commands = node.workers.commands();
    let author = "bob";
    commands.save_profile(place.tenant, None, None, PROFILE.to_owned(), author).await.unwrap();
    let hot: Vec<(usize, i64, f64)> = (0..30).map(|device| (device, FAR_MS, 85.0)).collect();
    node.append(&place, place.record(&hot)).await;
    node.settle().await;

    let some = AlarmQuery { device: Some(place.devices[3]), ..all() };
    let one = commands.act_on_many(some, AlarmAction::Acknowledge, eva()).await.unwrap();
    assert_eq!((one.matched, one.done, one.already, one.failed), (1, 1, 0, 0));
    let rest = commands.act_on_many(all(), AlarmAction::Acknowledge, eva()).await.unwrap();
    assert_eq!((rest.matched, rest.done, rest.already, rest.failed), (29, 29, 0, 0));
    assert!(rest.next.is_none() && rest.reason.is_none());
    let again = commands.act_on_many(all(), AlarmAction::Acknowledge, eva()).await.unwrap();
    assert_eq!(again, alarms::ManyOutcome::default());
    let none = AlarmQuery { acknowledged: Some(false), ..all() };
    let none = commands.act_on_many(none, AlarmAction::Clear, eva()).await.unwrap();
    assert_eq!(none, alarms::ManyOutcome::default());
    let text = "x".repeat(4_000);
    let comments = commands.act_on_many(all(), AlarmAction::Comment { text }, eva()).await.unwrap();
    assert_eq!((comments.done, comments.failed), (30, 0));
    let until = TimestampMs(FAR_MS + 1_000_000);
    let shelved = commands.act_on_many(all(), AlarmAction::Shelve { until }, eva()).await.unwrap();
    assert_eq!(shelved.done, 30);
    let cleared = commands.act_on_many(all(), AlarmAction::Clear, eva()).await.unwrap();
    assert_eq!((cleared.done, cleared.already), (30, 0));

    for kind in ["alarm_acknowledged", "alarm_commented", "alarm_shelved", "alarm_cleared"] {
        let kinds = vec![kind.to_owned()];
        let query = EventQuery { kinds, limit: 1_000, ..EventQuery::default() };
        let events = node.store.alarms().events(query).await.unwrap();
        let of: HashSet<_> = events.iter().filter_map(|event| event.alarm).collect();
        assert_eq!((events.len(), of.len()), (30, 30), "{kind}");
        for event in events {
            assert_eq!(event.actor.as_deref(), Some("eva"));
            assert_eq!(event.provenance, *eva().provenance.unwrap());
        }
    }
    node.stop().await;
}

/// All is acted on by calls that say nothing of what is done, each alarm once.
#[tokio::test(flavor = "multi_thread")]
async fn repeated_calls_come_to_all_however_many_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let place = node.place(1).await;
    let commands = node.workers.commands();
    // A cleared alarm may be unacknowledged, so that one device has many.
    let profile = PROFILE.to_owned();
    commands.save_profile(place.tenant, None, None, profile, "bob").await.unwrap();
    let swings = i64::try_from(MAX_ACTED_ALARMS + 5).unwrap();
    for first in (0..swings).step_by(1_000) {
        let rows: Vec<(usize, i64, f64)> = (first..(first + 1_000).min(swings))
            .flat_map(|n| [(0, FAR_MS + 2 * n, 85.0), (0, FAR_MS + 2 * n + 1, 75.0)])
            .collect();
        node.append(&place, place.record(&rows)).await;
    }
    node.settle().await;
    // The same call again finds what is left.
    let first = commands.act_on_many(all(), AlarmAction::Acknowledge, eva()).await.unwrap();
    assert_eq!((first.matched, first.done, first.failed), (MAX_ACTED_ALARMS, MAX_ACTED_ALARMS, 0));
    assert!(first.next.is_some());
    let second = commands.act_on_many(all(), AlarmAction::Acknowledge, eva()).await.unwrap();
    assert_eq!((second.matched, second.done, second.next), (5, 5, None));
    // What a comment leaves is like what it has not come to, so calls go on
    // behind one another.
    let comment = || AlarmAction::Comment { text: "seen".to_owned() };
    let first = commands.act_on_many(all(), comment(), eva()).await.unwrap();
    assert_eq!((first.done, first.next.is_some()), (MAX_ACTED_ALARMS, true));
    let rest = AlarmQuery { after: first.next, ..all() };
    let second = commands.act_on_many(rest, comment(), eva()).await.unwrap();
    assert_eq!((second.matched, second.done, second.next), (5, 5, None));
    for kind in ["alarm_acknowledged", "alarm_commented"] {
        let (mut seen, mut count, mut after) = (HashSet::new(), 0, None);
        loop {
            let kinds = vec![kind.to_owned()];
            let query = EventQuery { kinds, after, limit: 1_000, ..EventQuery::default() };
            let page = node.store.alarms().events(query).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.sequence);
            count += page.len();
            seen.extend(page.iter().filter_map(|event| event.alarm));
        }
        assert_eq!((count, seen.len()), (MAX_ACTED_ALARMS + 5, MAX_ACTED_ALARMS + 5), "{kind}");
    }
    node.stop().await;
}
