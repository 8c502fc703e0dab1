//! Whether routers are there, as readings of their own devices.

use std::sync::Arc;
use std::time::Duration;

use ingest::broker::{Presence, PresenceOptions, Reach};
use schema::{DocumentBody, RouterId, TenantSettings};

use super::client::{Client, Hello};
use super::{Node, Setup, until};

fn options() -> PresenceOptions {
    PresenceOptions {
        start_grace_ms: 0,
        check_interval_ms: 20,
        refused_interval_ms: 200,
        retry_ms: 20,
        ..PresenceOptions::default()
    }
}

fn watch(node: &Node, options: PresenceOptions) -> Presence {
    let registry = prometheus::Registry::new();
    let recorder = Arc::clone(&node.recorder);
    let history = node.store.history().clone();
    Presence::start(&node.broker, recorder, history, options, &registry).unwrap()
}

async fn connect(node: &Node, token: &str) -> Client {
    Client::connected(node.address(), &Hello::token(token)).await
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

impl Node {
    /// What was said last of a router, by key.
    async fn said(&self, name: &str, key: &str) -> Option<String> {
        let latest = self.latest(self.device(name)).await;
        latest.into_iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    async fn until_said(&self, name: &str, key: &str, value: &str) {
        let begun = std::time::Instant::now();
        loop {
            let said = self.said(name, key).await;
            if said.as_deref() == Some(value) {
                return;
            }
            assert!(begun.elapsed() < super::DEADLINE, "{key} is {said:?}, not {value}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn rows(&self) -> u64 {
        self.counter("baken_batch_rows_total", "")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_comes_and_goes_is_said_to_and_a_takeover_is_nothing() {
    let node = Node::start().await;
    let router = node.token_router("pump-house").await;
    let presence = watch(&node, options());
    let first = connect(&node, "pump-house").await;
    node.until_said("pump-house", "$baken.connected", "Boolean(true)").await;
    assert_eq!(node.said("pump-house", "$baken.enabled").await.as_deref(), Some("Boolean(true)"));
    assert_eq!(presence.of(router).reach, Reach::Active);

    let rows = node.rows();
    let second = connect(&node, "pump-house").await;
    until("the first has ended", || {
        node.counter("baken_broker_disconnects_total", "taken_over") == 1
    })
    .await;
    drop(first);
    node.until_said("pump-house", "$baken.connected", "Boolean(true)").await;
    assert_eq!(node.rows(), rows, "a takeover is not told");

    drop(second);
    node.until_said("pump-house", "$baken.connected", "Boolean(false)").await;
    let cause = node.said("pump-house", "$baken.disconnect_cause").await;
    assert_eq!(cause.as_deref(), Some("Text(\"socket\")"));
    assert!(node.said("pump-house", "$baken.disconnected_since").await.is_some());
    let presence_now = presence.of(router);
    assert_eq!(presence_now.reach, Reach::Offline);
    assert!(presence_now.since.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_without_telemetry_is_silent_until_it_sends() {
    let mut setup = Setup::new();
    setup.settings = TenantSettings { send_interval_s: 1, silent_factor: 1, ..setup.settings };
    let node = setup.start().await;
    let router = node.token_router("quiet").await;
    let presence = watch(&node, options());
    let mut client = connect(&node, "quiet").await;
    node.until_said("quiet", "$baken.silent", "Boolean(true)").await;
    assert_eq!(presence.of(router).reach, Reach::Silent);
    // Nothing to be silent about from now on.
    let entry = node.store.directory().router(router).unwrap();
    let mut document = entry.body.clone();
    document.send_interval_s = Some(0);
    node.store.directory().update(router.0, None, DocumentBody::Router(document)).await.unwrap();
    client.acknowledged("v1/devices/me/telemetry", r#"{"t":1}"#).await;
    node.until_said("quiet", "$baken.silent", "Boolean(false)").await;
    assert_eq!(presence.of(router).reach, Reach::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_said_with_its_reasons_and_its_end() {
    let node = Node::start().await;
    node.token_router("wrong").await;
    let _presence = watch(&node, options());
    let mut client = connect(&node, "wrong").await;
    client.acknowledged("v1/devices/me/telemetry", "{").await;
    client.acknowledged("v1/devices/me/telemetry", r#"{"ts":1000,"values":{"t":1}}"#).await;
    client.acknowledged("v1/devices/me/telemetry", r#"{"$baken.connected":false,"t":2}"#).await;
    node.until_said("wrong", "$baken.refused", "Integer(0)").await;
    let reasons = node.said("wrong", "$baken.refused_reasons").await.unwrap();
    assert!(reasons.contains("too_old: 1") || reasons.contains("reserved_key: 1"), "{reasons}");
    assert_eq!(node.said("wrong", "$baken.clock_offset_ms").await.as_deref(), Some("Integer(0)"));
    assert_eq!(node.said("wrong", "t").await.as_deref(), Some("Integer(2)"));
    node.until_said("wrong", "$baken.connected", "Boolean(true)").await;
    assert_eq!(node.counter("baken_broker_refused_total", "reserved_key"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_grace_only_who_stays_away_is_said_to_have_gone() {
    let node = Node::start().await;
    for name in ["back", "away", "never"] {
        node.token_router(name).await;
    }
    let presence = watch(&node, options());
    let (back, away) = (connect(&node, "back").await, connect(&node, "away").await);
    for name in ["back", "away"] {
        node.until_said(name, "$baken.connected", "Boolean(true)").await;
    }
    // As at a crash: nobody notes that they go.
    presence.stop().await;
    drop((back, away));
    until("both have gone", || node.counter("baken_broker_disconnects_total", "") == 2).await;
    drop(presence);
    let rows = node.rows();

    let back = connect(&node, "back").await;
    let patient = watch(&node, PresenceOptions { start_grace_ms: u64::MAX / 2, ..options() });
    let away = RouterId(node.store.directory().device(node.device("away")).unwrap().router.0);
    let never = RouterId(node.store.directory().device(node.device("never")).unwrap().router.0);
    assert_eq!(patient.of(never).reach, Reach::Unknown);
    assert_eq!(patient.of(away).reach, Reach::Unknown);
    drop(patient);
    let earliest = now_ms();
    let presence = watch(&node, PresenceOptions { start_grace_ms: 50, ..options() });
    let latest = now_ms();
    node.until_said("away", "$baken.connected", "Boolean(false)").await;
    let since = presence.of(away).since.unwrap().0;
    assert!((earliest..=latest).contains(&since), "at the start: {earliest} {since} {latest}");
    assert_eq!(node.rows(), rows + 4, "one statement of the one that stayed away");
    assert_eq!(node.said("back", "$baken.connected").await.as_deref(), Some("Boolean(true)"));
    until("it is settled", || presence.of(never).reach == Reach::Offline).await;
    assert_eq!(presence.of(never).since, None);
    drop(back);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_come_at_once_share_a_few_records() {
    const ROUTERS: u64 = 500;
    let node = Node::start().await;
    let mut clients = Vec::new();
    for number in 0..ROUTERS {
        let name = format!("r{number}");
        node.token_router(&name).await;
        clients.push(connect(&node, &name).await);
    }
    let (rows, records) = (node.rows(), node.counter("baken_batch_records_total", ""));
    let _presence = watch(&node, options());
    until("all are said to be there", || node.rows() == rows + 2 * ROUTERS).await;
    let records = node.counter("baken_batch_records_total", "") - records;
    assert!(records <= ROUTERS / 10, "{ROUTERS} routers took {records} records");
}
