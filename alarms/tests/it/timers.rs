//! What the wall clock fires in an idle partition is fired once, at its own
//! time, also through a kill.

use std::time::{SystemTime, UNIX_EPOCH};

use alarms::AlarmOptions;

use crate::node::Node;

const PROFILE: &str = r#"
    name = "Machines"
    [[rules]]
    key = "hot"
    raise.major = { for = "200ms", when = { key = "temperature", operator = ">", value = 80 } }
    clear = { when = { key = "temperature", operator = "<", value = 70 } }
"#;

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duration_is_raised_by_the_clock_and_not_again_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    // No snapshot, so that everything is replayed.
    let options = AlarmOptions {
        grace_ms: 20,
        snapshot_rows: u64::MAX,
        snapshot_interval_ms: u64::MAX,
        ..AlarmOptions::default()
    };
    let node = Node::open(dir.path(), &options);
    let place = node.place(1).await;
    let commands = node.workers.commands();
    commands.save_profile(place.tenant, None, None, PROFILE.to_owned(), "eva").await.unwrap();
    let at = now_ms();
    node.append(&place, place.record(&[(0, at, 90.0)])).await;
    let raised = loop {
        let events = node.events().await;
        if !events.is_empty() {
            break events;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!((raised.len(), raised[0].at.0), (1, at + 200));
    node.kill().await;

    let node = Node::open(dir.path(), &options);
    // Before the deadline in the device's time, but behind what the clock fired.
    node.append(&place, place.record(&[(0, at + 100, 60.0)])).await;
    node.settle().await;
    let events = node.events().await;
    let seen: Vec<(&str, i64)> =
        events.iter().map(|event| (event.kind.as_str(), event.at.0 - at)).collect();
    assert_eq!(seen, [("alarm_raised", 200), ("alarm_cleared", 200)]);
    assert_eq!(events[0].id, raised[0].id);
    node.stop().await;
}
