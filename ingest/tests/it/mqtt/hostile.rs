//! Those who mean no good, or speak something else.

use ingest::broker::ListenerLimits;

use super::client::{Client, Hello};
use super::*;

#[tokio::test]
async fn garbage_on_the_port_is_closed_and_counted() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let mut other = Client::connected(node.address(), &Hello::token("r1")).await;
    let long = [b'A'; 100_000];
    let inputs: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x30\x0b\x00\x05topicdata",
        b"\x10\xff\xff\xff\xff\x01",
        b"\x10\x04\x00\x04MQ",
        &long,
    ];
    for input in inputs {
        let mut client = Client::open(node.address()).await;
        client.try_send(input).await;
        assert_eq!(client.next().await, None, "{:02x?}", &input[..6]);
    }
    assert_eq!(node.counter("baken_broker_connects_total", "not_mqtt"), 6);
    other.ping().await;
}

#[tokio::test]
async fn a_length_of_gigabytes_reserves_nothing() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let mut client = Client::open(node.address()).await;
    client.try_send(b"\x10\xff\xff\xff\x7f\x00\x04MQTT").await;
    assert_eq!(client.next().await, None);
    let mut client = Client::connected(node.address(), &Hello::token("r1").v5()).await;
    client.try_send(b"\x30\xff\xff\xff\x7f").await;
    assert_eq!(client.ended().await, Some(0x95));
    // A text that claims to be longer than its packet, in the topic's length.
    let mut client = Client::connected(node.address(), &Hello::token("r1").v5()).await;
    client.try_send(b"\x30\x04\xff\xffab").await;
    assert_eq!(client.ended().await, Some(0x81));
}

#[tokio::test]
async fn an_unknown_version_is_told_so() {
    let node = Node::start().await;
    let mut client = Client::open(node.address()).await;
    client.send(b"\x10\x0f\x00\x04MQTT\x09\x02\x00\x3c\x00\x03abc").await;
    assert_eq!(client.next().await, Some((0x20, vec![0, 1])));
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn who_says_nothing_is_closed() {
    let mut setup = Setup::new();
    setup.options.listener = ListenerLimits { connect_timeout_ms: 50, ..ListenerLimits::default() };
    let node = setup.start().await;
    let mut client = Client::open(node.address()).await;
    client.send(b"\x10").await;
    assert_eq!(client.next().await, None);
    assert_eq!(node.counter("baken_broker_connects_total", "silent"), 1);
}

#[tokio::test]
async fn the_silent_make_room_for_those_who_speak() {
    let mut setup = Setup::new();
    setup.options.listener =
        ListenerLimits { max_unauthenticated: 10, ..ListenerLimits::default() };
    let node = setup.start().await;
    node.token_router("r1").await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(Client::open(node.address()).await);
    }
    until("the oldest are closed", || node.counter("baken_broker_connects_total", "silent") == 40)
        .await;
    let mut client = Client::connected(node.address(), &Hello::token("r1")).await;
    client.ping().await;
}

#[tokio::test]
async fn connections_are_limited() {
    let mut setup = Setup::new();
    setup.options.listener = ListenerLimits { max_connections: 2, ..ListenerLimits::default() };
    let node = setup.start().await;
    node.token_router("r1").await;
    let hello = |id| Hello { id, ..Hello::token("r1") };
    let mut first = Client::connected(node.address(), &hello("a")).await;
    let second = Client::connected(node.address(), &hello("b")).await;
    let mut third = Client::open(node.address()).await;
    third.try_send(&hello("c").bytes()).await;
    assert_eq!(third.next().await, None);
    drop(second);
    until("there is room", || node.counter("baken_broker_connections", "") == 1).await;
    first.ping().await;
    assert_eq!(node.counter("baken_broker_connects_total", "connection_limit"), 1);
}
