//! How locations stand: the six statuses, in lists, counts and the metric.

use serde_json::{Value, json};
use server::client::ApiClient;

use super::harness::{Baken, until};
use super::mqtt::Mqtt;
use super::readiness::damage;

const HOUR_OF_GRACE: [&str; 2] = ["--set", "mqtt.presence.start_grace_ms=3600000"];
const QUICK: [&str; 6] = [
    "--set",
    "mqtt.presence.start_grace_ms=0",
    "--set",
    "mqtt.presence.check_interval_ms=20",
    "--set",
    "mqtt.public_hosts=here.example,also.example",
];

/// Waits until the location stands so; its answer then.
async fn stands(client: &ApiClient, location: &Value, status: &str) -> Value {
    let path = format!("/locations/{location}");
    until(status, async || {
        let shown = client.get(&path).await.unwrap();
        (shown["status"] == status).then_some(shown)
    })
    .await
}

async fn counts(client: &ApiClient, status: &str, count: u64) {
    until(&format!("{count} {status}"), async || {
        let counts = client.get("/locations/status-counts").await.unwrap();
        (counts[status] == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_location_goes_through_all_statuses() {
    let baken = Baken::start_with(&QUICK).await;
    let client = baken.client();
    let router = baken.router().await;
    let location = &router["location"];
    let path = format!("/routers/{}", router["id"]);

    let shown = stands(&client, location, "no_connection").await;
    assert_eq!(shown["status_since"], Value::Null, "it was never connected: {shown}");
    assert_eq!(shown["routers"][0]["status"], "no_connection");
    let reason = shown["status_reason"].as_str().unwrap();
    assert_eq!(reason, "1 of 1 enabled routers is without MQTT connection: router.");
    counts(&client, "no_connection", 1).await;

    client.put(&path, &json!({ "cloud_host": "elsewhere.example" })).await.unwrap();
    stands(&client, location, "other_cloud_host").await;
    let address = baken.run.mqtt.as_deref().unwrap();
    let token = router["token"].as_str().unwrap();
    let mqtt = Mqtt::connect(address, token).await;
    let shown = stands(&client, location, "active").await;
    assert!(shown["status_since"].is_i64(), "what is connected here is here: {shown}");
    drop(mqtt);
    stands(&client, location, "other_cloud_host").await;
    client.put(&path, &json!({ "cloud_host": "HERE.example" })).await.unwrap();
    stands(&client, location, "no_connection").await;
    until("since when, as it was connected before", async || {
        let shown = client.get(&format!("/locations/{location}")).await.unwrap();
        (shown["status"] == "no_connection" && shown["status_since"].is_i64()).then_some(())
    })
    .await;

    client.put(&path, &json!({ "cloud_host": "", "send_interval_s": 1 })).await.unwrap();
    let mut mqtt = Mqtt::connect(address, token).await;
    stands(&client, location, "no_telemetry").await;
    mqtt.telemetry(r#"{"t":1}"#).await;
    client.put(&path, &json!({ "send_interval_s": null })).await.unwrap();
    stands(&client, location, "active").await;
    counts(&client, "active", 1).await;
    counts(&client, "no_connection", 0).await;

    client.put(&path, &json!({ "enabled": false })).await.unwrap();
    let shown = stands(&client, location, "no_configuration").await;
    assert_eq!(shown["status_reason"], "None of its 1 routers is enabled.");
    assert_eq!(shown["routers"][0]["status"], "disabled");
    let metrics = until("the metric", async || {
        let metrics = client.text("/metrics").await.unwrap_or_default();
        metrics.contains("baken_locations{status=\"no_configuration\"} 1").then_some(metrics)
    })
    .await;
    assert!(metrics.contains("baken_locations{status=\"active\"} 0"));
}

#[tokio::test]
async fn lists_are_filtered_by_status_and_tenants_see_their_own() {
    let baken = Baken::start_with(&QUICK).await;
    let client = baken.client();
    let router = baken.router().await;
    let mut empty = Vec::new();
    for name in ["East", "South", "West"] {
        let location = json!({ "tenant": router["tenant"], "name": name });
        empty.push(client.post("/locations", &location).await.unwrap()["id"].clone());
    }
    stands(&client, &router["location"], "no_connection").await;
    counts(&client, "no_configuration", 3).await;
    let mut seen = Vec::new();
    let mut path = "/locations?status=no_configuration&limit=2".to_owned();
    loop {
        let page = client.get(&path).await.unwrap();
        seen.extend(page["items"].as_array().unwrap().iter().map(|it| it["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/locations?status=no_configuration&limit=2&after={next}");
    }
    assert_eq!(seen, empty);
    let all = client.get("/locations").await.unwrap();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(4));
    let wrong = client.get("/locations?status=fine").await.unwrap_err();
    assert!(matches!(wrong.status(), Some(400 | 422)), "{wrong}");

    let other = client.post("/tenants", &json!({ "name": "Other" })).await.unwrap();
    let token = json!({ "tenant": other["id"], "name": "other" });
    let token = client.post("/tokens", &token).await.unwrap();
    let theirs = ApiClient::new(&baken.run.api, token["token"].as_str().unwrap()).unwrap();
    let page = theirs.get("/locations?status=no_configuration").await.unwrap();
    assert_eq!(page["items"], json!([]));
    let counts = theirs.get("/locations/status-counts").await.unwrap();
    assert_eq!((&counts["no_configuration"], &counts["no_connection"]), (&json!(0), &json!(0)));
    let path = format!("/locations/status-counts?tenant={}", router["tenant"]);
    assert_eq!(theirs.get(&path).await.unwrap_err().status(), Some(404));
}

#[tokio::test]
async fn while_the_node_has_just_started_nobody_is_said_to_be_away() {
    let baken = Baken::start_with(&HOUR_OF_GRACE).await;
    let client = baken.client();
    let router = baken.router().await;
    let shown = stands(&client, &router["location"], "unknown").await;
    let reason = shown["status_reason"].as_str().unwrap();
    assert!(reason.contains("not connected yet since this node started"), "{reason}");
    let address = baken.run.mqtt.as_deref().unwrap();
    let _mqtt = Mqtt::connect(address, router["token"].as_str().unwrap()).await;
    stands(&client, &router["location"], "active").await;
}

#[tokio::test]
async fn of_a_stopped_partition_nobody_knows_how_its_locations_stand() {
    let dir = tempfile::tempdir().unwrap();
    let args = [&QUICK[..], &["--set", "journal.partitions=1"]].concat();
    let baken = Baken::start_in(dir.path(), &args).await;
    let router = baken.router().await;
    let address = baken.run.mqtt.as_deref().unwrap();
    let mut mqtt = Mqtt::connect(address, router["token"].as_str().unwrap()).await;
    for number in 0..5 {
        mqtt.telemetry(&format!(r#"{{"a":{number}}}"#)).await;
    }
    stands(&baken.client(), &router["location"], "active").await;
    baken.kill().await;
    damage(dir.path());

    let baken = Baken::start_in(dir.path(), &args).await;
    let shown = stands(&baken.client(), &router["location"], "unknown").await;
    assert_eq!(shown["status_reason"], "Partition 0 of this node is stopped.");
    counts(&baken.client(), "unknown", 1).await;
}
