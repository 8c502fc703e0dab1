//! What is offered comes out at a subscriber, each message once and as planned.

use std::collections::BTreeMap;

use loadtest::fleet::Fleet;
use loadtest::packets::{QoS, Version};
use loadtest::publisher::Load;
use loadtest::shared::counted;

use crate::mosquitto::{DEADLINE, Mosquitto, Subscriber, logins, plan};

const CONNECTIONS: u32 = 20;
const MESSAGES: u64 = 300;

async fn every_reading_comes_through_once(version: Version, qos: QoS, tls: bool, rate: bool) {
    let broker = Mosquitto::start(tls).await;
    let count = u64::from(CONNECTIONS) * MESSAGES;
    let subscriber = Subscriber::start(&broker, count).await;
    let load = Load {
        plan: plan(),
        version,
        qos,
        window: 10,
        interval_us: if rate { 500.0 } else { 0.0 },
        messages_per_connection: Some(MESSAGES),
    };
    let fleet = Fleet::start(load, broker.target(), logins(CONNECTIONS, version));
    fleet.connected(DEADLINE).await.unwrap();
    fleet.begin();
    let payloads = subscriber.payloads().await;
    let shared = std::sync::Arc::clone(fleet.shared());
    let outcome = fleet.drain(DEADLINE).await.unwrap();

    assert_eq!(counted(&shared.counters.breaks), 0, "{:?}", shared.reasons());
    assert_eq!(counted(&shared.counters.acknowledged_out_of_order), 0);
    assert_eq!(outcome.unanswered, 0);
    let (mut offered, mut acknowledged) = (0, 0);
    for ledger in &outcome.ledgers {
        offered += ledger.offered();
        acknowledged += ledger.acknowledged();
    }
    assert_eq!(offered, count);
    assert_eq!(acknowledged, if qos == QoS::AtLeastOnce { count } else { 0 });
    assert_eq!(readings(&payloads), planned());
}

/// How often each device's time was in a message.
fn readings(payloads: &[Vec<u8>]) -> BTreeMap<(String, i64), u32> {
    let mut readings = BTreeMap::new();
    for payload in payloads {
        let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
        for (device, times) in json.as_object().unwrap() {
            for time in times.as_array().unwrap() {
                let values = time["values"].as_object().unwrap();
                assert_eq!(values.len(), 5, "{time}");
                *readings.entry((device.clone(), time["ts"].as_i64().unwrap())).or_default() += 1;
            }
        }
    }
    readings
}

fn planned() -> BTreeMap<(String, i64), u32> {
    let plan = plan();
    let mut readings = BTreeMap::new();
    for connection in 0..CONNECTIONS {
        for message in (0..MESSAGES).map(|m| plan.message(m)) {
            for number in message.first..message.first + u64::from(message.times) {
                let device = loadtest::template::device_name(connection, message.device);
                readings.insert((device, plan.time_of(message.lane, number).0), 1);
            }
        }
    }
    readings
}

#[tokio::test]
async fn at_qos_1_by_mqtt_3() {
    every_reading_comes_through_once(Version::V311, QoS::AtLeastOnce, false, false).await;
}

#[tokio::test]
async fn at_qos_1_by_mqtt_5_and_tls() {
    every_reading_comes_through_once(Version::V5, QoS::AtLeastOnce, true, false).await;
}

#[tokio::test]
async fn at_qos_1_by_a_schedule() {
    every_reading_comes_through_once(Version::V5, QoS::AtLeastOnce, false, true).await;
}

#[tokio::test]
async fn at_qos_0_by_a_schedule() {
    every_reading_comes_through_once(Version::V311, QoS::AtMostOnce, false, true).await;
}
