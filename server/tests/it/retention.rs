//! How long a tenant's readings are kept follows its settings.

use reqwest::Method;
use serde_json::{Value, json};

use super::directory::Api;
use super::harness::{Baken, recent_ms, until};
use super::mqtt::Mqtt;

const DAY_MS: i64 = 86_400_000;

/// The times of all that is answered of the key `t`.
async fn times(api: &Api, path: &str) -> Vec<i64> {
    let answer = api.get(&format!("{path}?key=t")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let readings = answer.body["readings"].as_array().unwrap();
    readings.iter().map(|reading| reading["ts"].as_i64().unwrap()).collect()
}

async fn set_days(api: &Api, router: &Value, days: u32) {
    let path = format!("/tenants/{}", router["tenant"]);
    let change = json!({ "name": "Acme", "settings": { "retention_days": days } });
    assert_eq!(api.ask(Method::PUT, &path, Some(change)).await.status, 200);
}

#[tokio::test]
async fn a_shorter_retention_holds_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let baken = Baken::start_in(dir.path(), &[]).await;
    let router = baken.router().await;
    let api = Api::new(&baken, &baken.token());
    let path = format!("/devices/{}/telemetry", router["device"]);
    let (old, new) = (recent_ms() - 10 * DAY_MS, recent_ms());
    let mut mqtt =
        Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), router["token"].as_str().unwrap()).await;
    for ts in [old, new] {
        mqtt.telemetry(&format!(r#"{{"ts":{ts},"values":{{"t":1}}}}"#)).await;
    }
    until("both readings", async || (times(&api, &path).await == [old, new]).then_some(())).await;

    set_days(&api, &router, 20).await;
    set_days(&api, &router, 5).await;
    until("the shorter retention", async || (times(&api, &path).await == [new]).then_some(()))
        .await;

    baken.stop().await;
    let baken = Baken::start_in(dir.path(), &[]).await;
    let api = Api::new(&baken, &baken.token());
    assert_eq!(times(&api, &path).await, [new], "in force before the first request");
}
