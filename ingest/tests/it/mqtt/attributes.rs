//! Attributes up, asked for, and brought to a router that was away.

use schema::RecordKind;
use serde_json::{Value, json};
use store::{AttributeChange, Scope};

use super::client::{Client, Hello};
use super::*;

const DOWN: &str = "v1/devices/me/attributes";

/// Sets a shared attribute as the platform does: by the journal, and then the
/// connections are told.
async fn set_shared(node: &Node, device: DeviceId, key: &str, value: Option<Value>) {
    let change = AttributeChange {
        device,
        scope: Scope::Shared,
        key: key.to_owned(),
        value,
        at: schema::TimestampMs(1_700_000_000_000),
    };
    let _ = RecordKind::SharedAttributes;
    let device = node.store.directory().device(device).unwrap();
    let partition = schema::partition_of(device.tenant, device.location, 2);
    let next = node.store.attributes().position(partition).next();
    node.store.attributes().apply(partition, next, vec![change]).await.unwrap();
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn own_attributes_are_answered_with_what_was_just_published() {
    let node = Node::start().await;
    node.token_router("r1").await;
    for hello in [Hello::token("r1"), Hello::token("r1").v5()] {
        let mut client = Client::connected(node.address(), &hello).await;
        assert_eq!(client.subscribe("v1/devices/me/attributes/response/+", 1).await, 1);
        client.publish(DOWN, 0, r#"{"serial":"abc","n":5}"#).await;
        client
            .publish("v1/devices/me/attributes/request/3", 0, r#"{"clientKeys":"serial,x"}"#)
            .await;
        let (topic, id, payload) = client.message().await;
        assert_eq!((&*topic, id), ("v1/devices/me/attributes/response/3", 1));
        assert_eq!(value(&payload), json!({"client": {"serial": "abc"}}));
    }
}

#[tokio::test]
async fn a_gateway_asks_for_its_devices_attributes() {
    let node = Node::start().await;
    node.token_router("gw").await;
    let mut client = Client::connected(node.address(), &Hello::token("gw")).await;
    assert_eq!(client.subscribe("v1/gateway/attributes/response", 0).await, 0);
    client.publish("v1/gateway/attributes", 0, r#"{"P":{"a":1,"b":2}}"#).await;
    let request = r#"{"id":8,"device":"P","client":true,"key":"a"}"#;
    client.publish("v1/gateway/attributes/request", 0, request).await;
    let (topic, _, payload) = client.message().await;
    assert_eq!(topic, "v1/gateway/attributes/response");
    assert_eq!(value(&payload), json!({"id": 8, "device": "P", "value": 1}));
    let request = r#"{"id":9,"device":"P","client":true,"keys":["a","b"]}"#;
    client.publish("v1/gateway/attributes/request", 0, request).await;
    let (_, _, payload) = client.message().await;
    assert_eq!(value(&payload), json!({"id": 9, "device": "P", "values": {"a": 1, "b": 2}}));
}

#[tokio::test]
async fn a_change_reaches_a_router_that_is_there_and_one_that_was_away_once() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let device = node.device("r1");
    set_shared(&node, device, "before", Some(json!(1))).await;
    let mut client = Client::connected(node.address(), &Hello::token("r1")).await;
    assert_eq!(client.subscribe(DOWN, 1).await, 1);
    let (topic, id, payload) = client.message().await;
    assert_eq!((&*topic, value(&payload)), (DOWN, json!({"before": 1})));
    client.puback(id).await;
    let undelivered = async || node.store.attributes().undelivered(device).await.unwrap();
    wait_delivered(&node, device).await;

    set_shared(&node, device, "now", Some(json!("x"))).await;
    node.broker.connections().push_shared(device).await;
    let (_, _, payload) = client.message().await;
    assert_eq!(value(&payload), json!({"now": "x"}));
    // It goes away without its PUBACK, so it gets it once more.
    drop(client);
    until("it is gone", || node.counter("baken_broker_connections", "") == 0).await;
    assert!(undelivered().await.is_some());
    set_shared(&node, device, "before", None).await;
    let mut client = Client::connected(node.address(), &Hello::token("r1")).await;
    client.subscribe(DOWN, 1).await;
    let (_, id, payload) = client.message().await;
    assert_eq!(value(&payload), json!({"now": "x", "deleted": ["before"]}));
    client.puback(id).await;
    wait_delivered(&node, device).await;
    client.subscribe(DOWN, 1).await;
    client.ping().await;
}

async fn wait_delivered(node: &Node, device: DeviceId) {
    let begun = Instant::now();
    while node.store.attributes().undelivered(device).await.unwrap().is_some() {
        assert!(begun.elapsed() < DEADLINE, "it is never noted as delivered");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_device_behind_the_router_gets_its_own() {
    let node = Node::start().await;
    node.token_router("gw").await;
    let mut client = Client::connected(node.address(), &Hello::token("gw").v5()).await;
    assert_eq!(client.subscribe("v1/gateway/attributes", 1).await, 1);
    assert_eq!(client.acknowledged("v1/gateway/connect", r#"{"device":"P"}"#).await, 0);
    let device = node.device("P");
    set_shared(&node, device, "a", Some(json!(1))).await;
    node.broker.connections().push_shared(device).await;
    let (topic, id, payload) = client.message().await;
    assert_eq!(topic, "v1/gateway/attributes");
    assert_eq!(value(&payload), json!({"device": "P", "data": {"a": 1}}));
    client.puback(id).await;
    wait_delivered(&node, device).await;
}
