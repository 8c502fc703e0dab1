//! What is published is stored, acknowledged when durable, or refused with its
//! reason.

use super::client::{Client, Hello, packet, publish};
use super::*;

const TELEMETRY: &str = "v1/devices/me/telemetry";

#[tokio::test]
async fn readings_of_every_kind_are_read_back() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let mut client = Client::connected(node.address(), &Hello::token("r1")).await;
    let payload = r#"{"n":1.5,"i":7,"b":true,"t":"word","j":{"x":[1]},"z":null,"s":"21.5"}"#;
    assert_eq!(client.acknowledged(TELEMETRY, payload).await, 0);
    let mut latest = node.latest(node.device("r1")).await;
    latest.sort();
    let keys: Vec<_> = latest.iter().map(|(key, _)| &**key).collect();
    assert_eq!(keys, ["b", "i", "j", "n", "s", "t"]);
    assert!(latest[4].1.contains("21.5") && latest[4].1.contains("Number"), "{:?}", latest[4]);
}

#[tokio::test]
async fn short_topics_and_mqtt_5_go_the_same_way() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let mut client = Client::connected(node.address(), &Hello::token("r1").v5()).await;
    for (topic, payload) in [("v2/t", r#"{"a":1}"#), ("v2/t/j", r#"[{"b":2}]"#)] {
        assert_eq!(client.acknowledged(topic, payload).await, 0);
    }
    assert_eq!(node.latest(node.device("r1")).await.len(), 2);
}

#[tokio::test]
async fn a_gateways_devices_are_made_and_kept_apart() {
    let node = Node::start().await;
    node.token_router("gw").await;
    let mut client = Client::connected(node.address(), &Hello::token("gw")).await;
    let connect = r#"{"device":"P1","type":"plc"}"#;
    assert_eq!(client.acknowledged("v1/gateway/connect", connect).await, 0);
    let payload = r#"{"P1":[{"a":1}],"P2":[{"ts":1700000000000,"values":{"a":2}}]}"#;
    assert_eq!(client.acknowledged("v1/gateway/telemetry", payload).await, 0);
    let one = node.store.directory().device(node.device("P1")).unwrap();
    assert_eq!(one.device_type.as_deref(), Some("plc"));
    assert!(node.latest(node.device("P1")).await[0].1.contains('1'));
    // The other's time is before the tenant's retention.
    let rejections = node.broker.rejections(node.tenant);
    assert!(rejections.iter().any(|rejection| rejection.reason.contains("P2")), "{rejections:?}");
}

#[tokio::test]
async fn what_is_refused_is_answered_counted_and_kept_to_be_seen() {
    let node = Node::start().await;
    let router = node.token_router("r1").await;
    let mut v5 = Client::connected(node.address(), &Hello::token("r1").v5()).await;
    let mut v3 = Client::connected(node.address(), &Hello { id: "b", ..Hello::token("r1") }).await;
    for (topic, payload, code) in [
        (TELEMETRY, "{", 0x99),
        (TELEMETRY, r#"{"ts":99999999999999,"values":{"a":1}}"#, 0x99),
        ("v1/devices/me/elsewhere", "{}", 0x87),
        ("v1/devices/+/telemetry", "{}", 0x90),
    ] {
        assert_eq!(v5.acknowledged(topic, payload).await, code, "{topic} {payload}");
        assert_eq!(v3.acknowledged(topic, payload).await, 0, "{topic} {payload}");
    }
    let rejections = node.broker.rejections(node.tenant);
    assert_eq!(rejections.len(), 8);
    assert_eq!((rejections[0].router, &*rejections[0].payload), (router, &b"{"[..]));
    for (reason, count) in [("malformed", 2), ("future", 2), ("topic_not_allowed", 4)] {
        assert_eq!(node.counter("baken_broker_refused_total", reason), count, "{reason}");
    }
}

#[tokio::test]
async fn a_device_quota_is_answered_with_0x97() {
    let mut setup = Setup::new();
    setup.settings.max_devices = 1;
    let node = setup.start().await;
    node.token_router("gw").await;
    let mut client = Client::connected(node.address(), &Hello::token("gw").v5()).await;
    let connect = |name: &str| format!(r#"{{"device":"{name}"}}"#);
    assert_eq!(client.acknowledged("v1/gateway/connect", &connect("P1")).await, 0);
    assert_eq!(client.acknowledged("v1/gateway/connect", &connect("P2")).await, 0x97);
    let part = r#"{"P1":[{"a":1}],"P2":[{"a":1}]}"#;
    assert_eq!(client.acknowledged("v1/gateway/telemetry", part).await, 0);
    assert_eq!(client.acknowledged("v1/gateway/telemetry", r#"{"P2":[{"a":1}]}"#).await, 0x97);
}

#[tokio::test]
async fn too_large_and_qos_2_end_the_connection() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(65_536));
    let qos_2 = |is_v5: bool| {
        // MQTT 5 has an empty list of properties behind the packet id.
        let properties: &[u8] = if is_v5 { &[0] } else { &[] };
        packet(0x34, &[b"\x00\x04v2/t\x00\x01", properties].concat())
    };
    for hello in [Hello::token("r1"), Hello::token("r1").v5()] {
        for (bytes, code) in
            [(publish(hello.is_v5, TELEMETRY, 1, &large), 0x95), (qos_2(hello.is_v5), 0x9b)]
        {
            let mut client = Client::connected(node.address(), &hello).await;
            client.try_send(&bytes).await;
            let expected = hello.is_v5.then_some(code);
            let ended = client.ended().await;
            // What was still on its way may cost the client its last packet.
            assert!(ended == expected || (code == 0x95 && ended.is_none()), "{ended:?}");
        }
    }
    until("both are counted", || {
        node.counter("baken_broker_disconnects_total", "too_large") == 2
            && node.counter("baken_broker_disconnects_total", "qos_not_supported") == 2
    })
    .await;
}

#[tokio::test]
async fn a_deep_payload_is_refused_and_nothing_else_suffers() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let mut client = Client::connected(node.address(), &Hello::token("r1").v5()).await;
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    assert_eq!(client.acknowledged(TELEMETRY, &deep).await, 0x99);
    assert_eq!(client.acknowledged("v1/gateway/attributes", &deep).await, 0x99);
    assert_eq!(client.acknowledged("v1/gateway/rpc", &deep).await, 0x99);
    assert_eq!(client.acknowledged(TELEMETRY, r#"{"a":1}"#).await, 0);
}

#[tokio::test]
async fn a_packet_a_byte_at_a_time_is_a_packet() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let mut client = Client::open(node.address()).await;
    let hello = Hello::token("r1");
    let all = [hello.bytes(), publish(false, TELEMETRY, 5, r#"{"a":1}"#)].concat();
    for byte in all {
        client.send(&[byte]).await;
    }
    assert_eq!(client.next().await, Some((0x20, vec![0, 0])));
    assert_eq!(client.next().await, Some((0x40, vec![0, 5])));
}

#[tokio::test]
async fn packets_right_behind_connect_are_taken() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let mut client = Client::open(node.address()).await;
    let many = publish(false, TELEMETRY, 5, r#"{"a":1}"#).repeat(3);
    client.send(&[Hello::token("r1").bytes(), many].concat()).await;
    assert_eq!(client.next().await, Some((0x20, vec![0, 0])));
    for _ in 0..3 {
        assert_eq!(client.next().await, Some((0x40, vec![0, 5])));
    }
}

#[tokio::test]
async fn many_publishes_are_answered_in_their_order() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let mut client = Client::connected(node.address(), &Hello::token("r1")).await;
    let mut all = Vec::new();
    for id in 1..=5_000u16 {
        let payload = if id % 7 == 0 { "bad".to_owned() } else { format!(r#"{{"a":{id}}}"#) };
        all.extend(publish(false, TELEMETRY, id, &payload));
    }
    client.send(&all).await;
    for id in 1..=5_000u16 {
        assert_eq!(client.next().await, Some((0x40, id.to_be_bytes().to_vec())));
    }
    assert_eq!(node.counter("baken_broker_refused_total", "malformed"), 5_000 / 7);
    let in_flight = || node.counter("baken_broker_submissions_in_flight", "");
    until("nothing is in flight", || in_flight() == 0).await;
}

#[tokio::test]
async fn a_will_is_stored_when_the_connection_is_lost() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let will = Some((TELEMETRY, r#"{"gone":true}"#));
    let client = Client::connected(node.address(), &Hello { will, ..Hello::token("r1") }).await;
    drop(client);
    let begun = Instant::now();
    let device = node.device("r1");
    while node.latest(device).await.is_empty() {
        assert!(begun.elapsed() < DEADLINE, "the will is never stored");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(node.latest(device).await[0].0, "gone");
    let mut client = Client::open(node.address()).await;
    let hello = Hello { will: Some(("elsewhere", "{}")), ..Hello::token("r1").v5() };
    assert_eq!(client.hello(&hello).await[1], 0x90, "a topic that may not be published to");
}
