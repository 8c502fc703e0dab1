//! Calls both ways.

use ingest::broker::RpcError;
use serde_json::{Value, json};

use super::client::{Client, Hello};
use super::*;

const CALLS: &str = "v1/devices/me/rpc/request/+";

#[tokio::test]
async fn a_router_asks_for_its_session_limits() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let mut client = Client::connected(node.address(), &Hello::token("r1").v5()).await;
    assert_eq!(client.subscribe("v1/devices/me/rpc/response/+", 1).await, 1);
    let call = r#"{"method":"getSessionLimits","params":{}}"#;
    client.publish("v1/devices/me/rpc/request/1", 0, call).await;
    let (topic, _, payload) = client.message().await;
    assert_eq!(topic, "v1/devices/me/rpc/response/1");
    let limits: Value = serde_json::from_str(&payload).unwrap();
    assert_eq!(limits["maxPayloadSize"], 65_536);
    assert_eq!(limits["rateLimits"], limits["gatewayRateLimits"]);
}

#[tokio::test]
async fn a_device_answers_a_call() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let device = node.device("r1");
    let connections = node.broker.connections();
    let call = |timeout: Duration| {
        let connections = connections.clone();
        tokio::spawn(
            async move { connections.rpc(device, "set", &json!({"on": true}), timeout).await },
        )
    };
    assert_eq!(call(DEADLINE).await.unwrap(), Err(RpcError::Offline));
    let unknown = connections.rpc(DeviceId(u64::MAX), "set", &Value::Null, DEADLINE).await;
    assert_eq!(unknown, Err(RpcError::UnknownDevice));
    let mut client = Client::connected(node.address(), &Hello::token("r1")).await;
    assert_eq!(call(DEADLINE).await.unwrap(), Err(RpcError::NotSubscribed));
    assert_eq!(client.subscribe(CALLS, 1).await, 1);
    let answer = call(DEADLINE);
    let (topic, id, payload) = client.message().await;
    assert_eq!(payload, r#"{"method":"set","params":{"on":true}}"#);
    client.puback(id).await;
    let number = topic.strip_prefix("v1/devices/me/rpc/request/").unwrap();
    client.publish(&format!("v1/devices/me/rpc/response/{number}"), 0, r#"{"is":"on"}"#).await;
    assert_eq!(answer.await.unwrap(), Ok(json!({"is": "on"})));

    let late = call(Duration::from_millis(50));
    client.message().await;
    assert_eq!(late.await.unwrap(), Err(RpcError::Timeout));
    let lost = call(DEADLINE);
    client.message().await;
    drop(client);
    assert_eq!(lost.await.unwrap(), Err(RpcError::Disconnected));
}

#[tokio::test]
async fn a_device_behind_a_gateway_answers_a_call() {
    let node = Node::start().await;
    node.token_router("gw").await;
    let mut client = Client::connected(node.address(), &Hello::token("gw").v5()).await;
    assert_eq!(client.subscribe("v1/gateway/rpc", 1).await, 1);
    assert_eq!(client.acknowledged("v1/gateway/connect", r#"{"device":"P"}"#).await, 0);
    let device = node.device("P");
    let connections = node.broker.connections();
    let answer =
        tokio::spawn(async move { connections.rpc(device, "reset", &json!(1), DEADLINE).await });
    let (topic, id, payload) = client.message().await;
    assert_eq!(topic, "v1/gateway/rpc");
    let call: Value = serde_json::from_str(&payload).unwrap();
    assert_eq!(call["device"], "P");
    assert_eq!(call["data"]["method"], "reset");
    client.puback(id).await;
    let body = json!({"device": "P", "id": call["data"]["id"], "data": {"ok": true}});
    client.publish("v1/gateway/rpc", 0, &body.to_string()).await;
    assert_eq!(answer.await.unwrap(), Ok(json!({"ok": true})));
}
