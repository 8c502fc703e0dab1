//! Who may connect, and how often one may be wrong.

use argon2::password_hash::PasswordHasher as _;
use argon2::{Algorithm, Argon2, Params, Version};
use ingest::auth::AuthLimits;
use ingest::broker::{AddressLimits, Allowance};

use super::client::{Client, Hello};
use super::*;

/// Quick on purpose: what is tested is who is asked, not how hard it is.
fn password_hash(password: &str) -> String {
    let params = Params::new(64, 1, 1, None).unwrap();
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    hasher.hash_password_with_salt(password.as_bytes(), b"salt salt").unwrap().to_string()
}

fn user<'a>(user: &'a str, password: &'a str, id: &'a str) -> Hello<'a> {
    Hello { id, user: Some(user), password: Some(password), ..Hello::token("") }
}

async fn answer(node: &Node, hello: &Hello<'_>) -> u8 {
    Client::open(node.address()).await.hello(hello).await[1]
}

#[tokio::test]
async fn tokens_and_passwords_open_and_all_else_does_not() {
    let node = Node::start().await;
    node.token_router("token").await;
    let credentials = |user: &str, client_id: Option<&str>| Credentials::Password {
        user: user.to_owned(),
        client_id: client_id.map(str::to_owned),
        password_hash: password_hash("right"),
    };
    node.router("any", credentials("any", None)).await;
    node.router("bound", credentials("bound", Some("mine"))).await;
    let none = || Hello { user: None, ..Hello::token("x") };
    for (hello, v3_code, v5_code) in [
        (Hello::token("token"), 0, 0),
        (user("token", "", "x"), 0, 0),
        (user("any", "right", "x"), 0, 0),
        (user("bound", "right", "mine"), 0, 0),
        (Hello::token("wrong"), 5, 0x86),
        (user("any", "wrong", "x"), 5, 0x86),
        (user("token", "extra", "x"), 5, 0x86),
        (user("bound", "right", "yours"), 5, 0x86),
        (none(), 5, 0x87),
    ] {
        assert_eq!(answer(&node, &hello).await, v3_code, "{:?} {:?}", hello.user, hello.password);
        let hello = hello.v5();
        assert_eq!(answer(&node, &hello).await, v5_code, "{:?} {:?}", hello.user, hello.password);
    }
    assert_eq!(node.counter("baken_broker_connects_total", "bad_credentials"), 10);
    assert_eq!(node.counter("baken_broker_connects_total", "accepted"), 8);
    assert_eq!(node.counter("baken_broker_verified_passwords", ""), 2, "each was hashed once");
}

#[tokio::test]
async fn who_is_wrong_too_often_is_refused_for_a_while() {
    let mut setup = Setup::new();
    setup.options.address =
        AddressLimits { failures: Allowance { burst: 3, per_s: 1 }, ..AddressLimits::default() };
    let node = setup.start().await;
    node.token_router("right").await;
    // The allowance may come back while this runs, so it is asked until it does not.
    let mut wrong = 0;
    loop {
        let mut client = Client::open(node.address()).await;
        client.try_send(&Hello::token("wrong").bytes()).await;
        match client.next().await {
            Some((0x20, body)) if body == [0, 5] => wrong += 1,
            Some((0x20, body)) => assert_eq!(body, [0, 3]),
            None => break,
            other => panic!("{other:?}"),
        }
        assert!(wrong < 1_000, "the address is never limited");
    }
    assert!(wrong >= 3);
    assert!(node.counter("baken_broker_connects_total", "address_limit") > 0);
    // And then it may again.
    let begun = Instant::now();
    loop {
        let mut client = Client::open(node.address()).await;
        client.try_send(&Hello::token("right").bytes()).await;
        match client.next().await {
            Some((0x20, body)) if body == [0, 0] => break,
            _ => assert!(begun.elapsed() < DEADLINE),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_changed_password_holds_at_once() {
    let node = Node::start().await;
    let credentials = |password: &str| Credentials::Password {
        user: "u".to_owned(),
        client_id: None,
        password_hash: password_hash(password),
    };
    let router = node.router("r", credentials("old")).await;
    assert_eq!(answer(&node, &user("u", "old", "x")).await, 0);
    let mut body = node.store.directory().router(router).unwrap().body.clone();
    body.credentials = credentials("new");
    node.store.directory().update(router.0, None, DocumentBody::Router(body)).await.unwrap();
    assert_eq!(answer(&node, &user("u", "old", "x")).await, 5);
    assert_eq!(answer(&node, &user("u", "new", "x")).await, 0);
}

/// As many as a small machine can do in a test; the bar of 10,000 is for a load test.
const RECONNECTING: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_reconnects_costs_one_hash_each_at_most_once() {
    let mut setup = Setup::new();
    setup.options.auth = AuthLimits { password_waiters: RECONNECTING, ..AuthLimits::default() };
    let node = setup.start().await;
    let password_hash = password_hash("pw");
    let routers: Vec<_> = (0..RECONNECTING)
        .map(|number| NewRouter {
            location: node.location,
            name: format!("r{number}"),
            credentials: Credentials::Password {
                user: format!("u{number}"),
                client_id: None,
                password_hash: password_hash.clone(),
            },
            enabled: true,
            cloud_host: None,
            send_interval_s: None,
        })
        .collect();
    for some in routers.chunks(1_000) {
        node.store.directory().create_routers(some.to_vec()).await.unwrap();
    }
    for round in 1..=2 {
        let address = node.address();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..RECONNECTING {
            tasks.spawn(async move {
                let name = format!("u{number}");
                let mut client = Client::connected(address, &user(&name, "pw", "c")).await;
                assert_eq!(client.acknowledged("v2/t", r#"{"a":1}"#).await, 0);
                client
            });
        }
        let clients = tasks.join_all().await;
        assert_eq!(clients.len(), RECONNECTING);
        let hashed = node.counter("baken_broker_verified_passwords", "");
        assert_eq!(hashed, RECONNECTING as u64, "round {round}");
        drop(clients);
        until("all are gone", || node.counter("baken_broker_connections", "") == 0).await;
    }
}
