//! Takeover, keep alive, revocation, shutdown, what a session is told.

use ingest::broker::SessionLimits;

use super::client::{Client, Hello};
use super::*;

async fn update_router(node: &Node, router: RouterId, change: impl FnOnce(&mut schema::Router)) {
    let mut body = node.store.directory().router(router).unwrap().body.clone();
    change(&mut body);
    node.store.directory().update(router.0, None, DocumentBody::Router(body)).await.unwrap();
}

#[tokio::test]
async fn mqtt_5_is_told_its_limits_and_an_assigned_client_id() {
    let mut setup = Setup::new();
    setup.options.session.max_keep_alive_s = 30;
    let node = setup.start().await;
    node.token_router("r1").await;
    let mut client = Client::open(node.address()).await;
    let ack = client.hello(&Hello { id: "", ..Hello::token("r1").v5() }).await;
    assert_eq!(ack[..2], [0, 0]);
    let has = |property: &[u8]| ack.windows(property.len()).any(|window| window == property);
    assert!(has(&[0x11, 0, 0, 0, 0]), "session expiry 0");
    assert!(has(&[0x21, 0, 100]), "receive maximum");
    assert!(has(&[0x24, 1]), "maximum QoS");
    assert!(has(&[0x25, 0]), "no retain");
    assert!(has(&[0x27, 0, 1, 4, 0]), "maximum packet size");
    assert!(has(&[0x22, 0, 16]), "topic alias maximum");
    assert!(has(&[0x2a, 0]) && has(&[0x29, 0]), "no shared subscriptions, no identifiers");
    assert!(has(&[0x13, 0, 30]), "server keep alive");
    assert!(has(b"baken-"), "assigned client id");
}

#[tokio::test]
async fn a_second_session_of_the_same_router_and_client_id_takes_over() {
    let node = Node::start().await;
    let router = node.token_router("r1").await;
    node.token_router("r2").await;
    let hello = Hello { id: "same", ..Hello::token("r1").v5() };
    let mut first = Client::connected(node.address(), &hello).await;
    let other = Hello { id: "same", ..Hello::token("r2").v5() };
    let mut other = Client::connected(node.address(), &other).await;
    let mut second = Client::connected(node.address(), &hello).await;
    let (first_byte, said) = first.next().await.unwrap();
    assert_eq!((first_byte, said[0]), (0xe0, 0x8e));
    assert!(said.ends_with(b"another session of this client took over"), "{said:02x?}");
    assert_eq!(first.next().await, None);
    second.ping().await;
    other.ping().await;
    let sessions = node.broker.connections().sessions(router);
    assert_eq!((sessions.len(), &*sessions[0].client_id, sessions[0].is_mqtt5), (1, "same", true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_stays() {
    let node = Node::start().await;
    let router = node.token_router("r1").await;
    let address = node.address();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        tasks.spawn(async move {
            let mut client = Client::open(address).await;
            client.hello(&Hello::token("r1")).await;
            // All but one see the end of theirs.
            client.next().await.is_none()
        });
    }
    for _ in 0..49 {
        assert!(tasks.join_next().await.unwrap().unwrap());
    }
    until("one is left", || node.broker.connections().sessions(router).len() == 1).await;
    node.broker.connections().disconnect(router);
    assert!(tasks.join_next().await.unwrap().unwrap());
    until("none is left", || node.counter("baken_broker_connections", "") == 0).await;
    assert!(node.broker.connections().sessions(router).is_empty());
}

#[tokio::test]
async fn a_silent_client_is_disconnected() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let hello = Hello { keep_alive_s: 1, ..Hello::token("r1").v5() };
    let mut client = Client::connected(node.address(), &hello).await;
    assert_eq!(client.ended().await, Some(0x8d));
    assert_eq!(node.counter("baken_broker_disconnects_total", "keep_alive"), 1);
}

#[tokio::test]
async fn a_router_that_is_disabled_changed_or_deleted_is_disconnected() {
    let node = Node::start().await;
    for (name, is_renamed) in
        [("disabled", false), ("changed", false), ("deleted", false), ("renamed", true)]
    {
        let router = node.token_router(name).await;
        let mut client = Client::connected(node.address(), &Hello::token(name).v5()).await;
        match name {
            "disabled" => update_router(&node, router, |router| router.enabled = false).await,
            "changed" => {
                let hash = ingest::auth::token_hash(SECRET, "another");
                let credentials = Credentials::AccessToken { hash };
                update_router(&node, router, |router| router.credentials = credentials).await;
            }
            "renamed" => update_router(&node, router, |router| router.name = "x".to_owned()).await,
            _ => node.store.directory().delete(router.0, None).await.map(drop).unwrap(),
        }
        if is_renamed {
            client.ping().await;
        } else {
            assert_eq!(client.ended().await, Some(0x98), "{name}");
            let mut client = Client::open(node.address()).await;
            assert_ne!(client.hello(&Hello::token(name)).await[1], 0, "{name}");
        }
    }
}

#[tokio::test]
async fn a_shutdown_answers_what_is_owed_and_says_goodbye() {
    let node = Node::start().await;
    node.token_router("r1").await;
    let mut client = Client::connected(node.address(), &Hello::token("r1").v5()).await;
    client.ping().await;
    client.publish("v2/t", 3, r#"{"a":1}"#).await;
    until("it is read", || node.counter("baken_broker_readings_total", "") == 1).await;
    node.broker.shutdown().await;
    assert_eq!(client.next().await, Some((0x40, vec![0, 3])));
    assert_eq!(client.ended().await, Some(0x8b));
    assert!(tokio::net::TcpStream::connect(node.address()).await.is_err());
}

#[tokio::test]
async fn a_client_that_never_reads_is_bounded_and_others_go_on() {
    let mut setup = Setup::new();
    let session =
        SessionLimits { max_output_bytes: 4_096, write_stall_ms: 300, ..SessionLimits::default() };
    setup.options.session = session;
    let node = setup.start().await;
    node.token_router("slow").await;
    node.token_router("r1").await;
    let mut slow = Client::connected(node.address(), &Hello::token("slow")).await;
    let mut other = Client::connected(node.address(), &Hello::token("r1")).await;
    let writer = tokio::spawn(async move {
        // Each asks for an answer of 300 bytes and none is ever read.
        let call = super::client::publish(
            false,
            "v1/devices/me/rpc/request/1",
            1,
            r#"{"method":"getSessionLimits"}"#,
        )
        .repeat(1_000);
        while slow.could_send(&call).await {}
        slow
    });
    until("it is ended", || node.counter("baken_broker_disconnects_total", "write_stall") == 1)
        .await;
    assert_eq!(other.acknowledged("v2/t", r#"{"a":1}"#).await, 0);
    writer.await.unwrap();
}
