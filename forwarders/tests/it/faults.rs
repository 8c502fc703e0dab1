//! Platforms that are down, slow, or break in the middle, and nodes that end
//! without a word: nobody else is held up, nothing is lost or reordered.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use forwarders::{ForwarderOptions, State};
use serde_json::json;

use super::double::{Answer, Double};
use super::node::{DEADLINE, Node, influxdb, options, until};
use super::sending::points;

#[tokio::test]
async fn a_dead_platform_holds_up_nobody_and_gets_all_when_it_is_back() {
    let (dir, dead, well) =
        (tempfile::tempdir().unwrap(), Double::start().await, Double::start().await);
    dead.answer(|_| Answer::of(503));
    let options = ForwarderOptions { queue_values: 64, ..options() };
    let node = Node::start_with(dir.path(), &options).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    let to_dead = node.forwarder(influxdb(device, &dead.url())).await;
    let mut document = influxdb(device, &well.url());
    document["name"] = json!("well");
    let to_well = node.forwarder(document).await;
    let values: Vec<f64> = (0..5_000).map(f64::from).collect();
    node.append(device, "t", 0, &values).await;
    node.settled(to_well, 5_000).await;
    assert_eq!(well.lines().len(), 5_000);
    let accounting = node.accounting(to_dead).await;
    assert!(accounting.queued + accounting.in_flight <= 64, "{accounting:?}");
    assert!(accounting.lag_records > 0);
    node.stands(to_dead, State::Failing).await;
    dead.answer(|_| Answer::of(204));
    node.forwarders.resume(to_dead);
    node.settled(to_dead, 5_000).await;
    let times: Vec<i64> = points(&dead.lines()).iter().map(|(at, _)| *at).collect();
    assert_eq!(times, (0..5_000).collect::<Vec<i64>>());
    // It takes part again as the others do.
    node.append(device, "t", 5_000, &[1.0]).await;
    node.settled(to_dead, 5_001).await;
    assert_eq!(node.accounting(to_dead).await.lag_records, 0);
    node.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_lost_is_no_value_lost_and_no_order_changed() {
    let (dir, double) = (tempfile::tempdir().unwrap(), Double::start().await);
    let count = AtomicUsize::new(0);
    // Every third request is taken, and then the platform breaks.
    double.answer(move |_| match count.fetch_add(1, Ordering::Relaxed) % 3 {
        1 => Answer { pause: Duration::from_millis(20), ..Answer::of(502) },
        _ => Answer::of(204),
    });
    let node = Node::start(dir.path()).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    let id = node.forwarder(influxdb(device, &double.url())).await;
    for step in 0..6 {
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        node.append(device, "t", step * 50, &values).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    node.settled(id, 300).await;
    let times: Vec<i64> = points(&double.lines()).iter().map(|(at, _)| *at).collect();
    assert_eq!(times, (0..300).collect::<Vec<i64>>());
    node.stop().await;
}

/// A node's end without a word, as far as that goes within a process: nothing
/// is closed, and what was not stored is gone.
#[tokio::test]
async fn a_node_that_ends_without_a_word_sends_all_at_least_once_and_in_order() {
    let (dir, double) = (tempfile::tempdir().unwrap(), Double::start().await);
    let mut node = Node::start(dir.path()).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    let id = node.forwarder(influxdb(device, &double.url())).await;
    let mut sent = 0;
    for round in 0..6 {
        let values: Vec<f64> = (0..200).map(|value| f64::from(value % 7)).collect();
        node.append(device, "t", sent, &values).await;
        sent += 200;
        tokio::time::sleep(Duration::from_millis(40 * round)).await;
        let Node { journal, store, forwarders, .. } = node;
        drop(forwarders);
        journal.close().await;
        store.close().await;
        drop((journal, store));
        node = Node::start(dir.path()).await;
    }
    node.settled(id, 1_200).await;
    let times: Vec<i64> = points(&double.lines()).iter().map(|(at, _)| *at).collect();
    let mut seen = HashSet::new();
    let first: Vec<i64> = times.iter().copied().filter(|at| seen.insert(*at)).collect();
    assert_eq!(first, (0..1_200).collect::<Vec<i64>>(), "each, and first in order");
    node.stop().await;
}

#[tokio::test]
async fn what_retention_deletes_before_it_is_sent_is_counted_and_told() {
    let (dir, double) = (tempfile::tempdir().unwrap(), Double::start().await);
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    double.answer(move |_| Answer::of(if up.load(Ordering::Relaxed) { 204 } else { 503 }));
    // Nothing is kept for it but what the journal itself keeps.
    let options = ForwarderOptions { queue_values: 4_096, keep_ms: 0, ..options() };
    let node = Node::start_with(dir.path(), &options).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    let id = node.forwarder(influxdb(device, &double.url())).await;
    let partition = node.partition(device);
    let mut sent: i64 = 0;
    node.stop().await;

    // The journal keeps little in this run.
    let node = Node::start_keeping(dir.path(), &options, 200 << 10).await;
    let begun = std::time::Instant::now();
    while node.journal.bounds(partition).oldest.0 <= 20 {
        assert!(begun.elapsed() < DEADLINE, "the journal deletes nothing");
        let values: Vec<f64> = (0..500).map(|value| f64::from(value) * 1.1).collect();
        node.append(device, "t", sent, &values).await;
        sent += 500;
    }
    is_up.store(true, Ordering::Relaxed);
    node.forwarders.resume(id);
    let accounting = until("it has caught up", async || {
        let accounting = node.accounting(id).await;
        (accounting.lag_records == 0).then_some(accounting)
    })
    .await;
    assert!(accounting.expired_records > 0, "{accounting:?}");
    assert!(accounting.counts.sent > 0 && accounting.counts.sent < sent.unsigned_abs());
    let times: Vec<i64> = points(&double.lines()).iter().map(|(at, _)| *at).collect();
    assert!(times.is_sorted() && times.last() == Some(&(sent - 1)), "{:?}", times.last());
    node.stop().await;
}

#[tokio::test]
async fn a_platform_that_cannot_be_reached_is_told_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    // A port that nobody listens at.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let id = node.forwarder(influxdb(device, &url)).await;
    let entry = node.store.directory().forwarder(id).unwrap();
    let told = tokio::time::timeout(DEADLINE, node.forwarders.test(&entry)).await.unwrap();
    let told = told.unwrap_err();
    assert!(told.starts_with("the platform cannot be reached"), "{told}");
    assert!(!told.contains("secret-token"));
    node.append(device, "t", 0, &[1.0]).await;
    let standing = node.stands(id, State::Failing).await;
    assert!(standing.detail.unwrap().contains("cannot be reached"));
    node.stop().await;
}
