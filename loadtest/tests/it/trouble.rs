//! Connections that break: what was not acknowledged is sent again.

use std::sync::Arc;
use std::time::Duration;

use loadtest::fleet::Fleet;
use loadtest::packets::{QoS, Version};
use loadtest::publisher::Load;
use loadtest::shared::{Shared, counted};

use crate::mosquitto::{DEADLINE, Mosquitto, logins, plan};

fn load(window: u16) -> Load {
    Load {
        plan: plan(),
        version: Version::V311,
        qos: QoS::AtLeastOnce,
        window,
        interval_us: 0.0,
        messages_per_connection: None,
    }
}

async fn until(shared: &Shared, what: &str, condition: impl Fn(&Shared) -> bool) {
    let reached = async {
        while !condition(shared) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reached = tokio::time::timeout(DEADLINE, reached).await;
    assert!(reached.is_ok(), "never came: {what}; {shared:?}");
}

#[tokio::test]
async fn after_the_brokers_death_all_that_waited_is_acknowledged() {
    let mut broker = Mosquitto::start(false).await;
    let fleet = Fleet::start(load(50), broker.target(), logins(10, Version::V311));
    fleet.connected(DEADLINE).await.unwrap();
    fleet.begin();
    let shared = Arc::clone(fleet.shared());
    for life in 1..=3u64 {
        let before = counted(&shared.counters.acknowledged);
        until(&shared, "load", |shared| counted(&shared.counters.acknowledged) > before + 1_000)
            .await;
        broker.kill().await;
        until(&shared, "breaks", |shared| counted(&shared.counters.connected) == 0).await;
        broker.start_again().await;
        until(&shared, "reconnects", |shared| {
            counted(&shared.counters.connects) >= 10 * (life + 1)
                && counted(&shared.counters.connected) == 10
        })
        .await;
    }
    let outcome = fleet.drain(DEADLINE).await.unwrap();
    assert!(counted(&shared.counters.sent_again) > 0, "nothing was under way at a kill");
    assert_eq!(outcome.unanswered, 0);
    for ledger in &outcome.ledgers {
        assert_eq!(ledger.acknowledged(), ledger.offered());
        assert!((0..ledger.offered()).all(|message| ledger.is_acknowledged(message)));
    }
}

#[tokio::test]
async fn a_storm_breaks_every_connection_and_loses_nothing() {
    let broker = Mosquitto::start(false).await;
    let fleet = Fleet::start(load(20), broker.target(), logins(30, Version::V311));
    fleet.connected(DEADLINE).await.unwrap();
    fleet.begin();
    let shared = Arc::clone(fleet.shared());
    for storm in 1..=3u64 {
        let before = counted(&shared.counters.acknowledged);
        until(&shared, "load", |shared| counted(&shared.counters.acknowledged) > before + 100)
            .await;
        fleet.storm();
        until(&shared, "reconnects", |shared| {
            counted(&shared.counters.connects) == 30 * (storm + 1)
                && counted(&shared.counters.connected) == 30
        })
        .await;
    }
    let outcome = fleet.drain(DEADLINE).await.unwrap();
    assert_eq!(outcome.unanswered, 0);
    assert!(outcome.ledgers.iter().all(|ledger| ledger.acknowledged() == ledger.offered()));
}

#[tokio::test]
async fn a_broker_that_never_comes_back_leaves_messages_unanswered() {
    let mut broker = Mosquitto::start(false).await;
    let fleet = Fleet::start(load(50), broker.target(), logins(2, Version::V311));
    fleet.connected(DEADLINE).await.unwrap();
    fleet.begin();
    let shared = Arc::clone(fleet.shared());
    until(&shared, "load", |shared| counted(&shared.counters.acknowledged) > 1_000).await;
    broker.kill().await;
    until(&shared, "breaks", |shared| counted(&shared.counters.connected) == 0).await;
    let outcome = fleet.drain(Duration::from_millis(200)).await.unwrap();
    let waiting: u64 = outcome.ledgers.iter().map(|l| l.offered() - l.acknowledged()).sum();
    assert_eq!(outcome.unanswered, waiting);
    assert!(waiting > 0, "the fleet noticed that nobody answered");
}
