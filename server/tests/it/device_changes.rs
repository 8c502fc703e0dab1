//! What is changed by the API of devices, routers and locations reaches the
//! alarms.

use serde_json::{Value, json};
use server::client::ApiClient;
use tokio::time::Instant;

use super::harness::{Baken, DEADLINE, until};
use super::mqtt::Mqtt;

const PROFILE: &str = r#"
    name = "Presses"
    applies_to = { device_types = ["press"] }
    [[rules]]
    key = "hot"
    description = "${device} at ${location} is at ${t}"
    raise.major = { when = { key = "t", operator = ">", value = 80 } }
    clear = { when = { key = "t", operator = "<", value = 70 } }
"#;

/// The newest alarm, once it is as wanted.
async fn newest(client: &ApiClient, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, async || {
        let alarms = client.get("/alarms?limit=1").await.unwrap();
        alarms["items"].get(0).filter(|alarm| is_so(alarm)).cloned()
    })
    .await
}

/// Sends until an alarm says what is wanted: a change takes a moment to reach it.
async fn raised(client: &ApiClient, mqtt: &mut Mqtt, description: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        mqtt.telemetry(r#"{"t":60}"#).await;
        mqtt.telemetry(r#"{"t":85}"#).await;
        let alarms = client.get("/alarms?limit=1").await.unwrap();
        let alarm = &alarms["items"][0];
        if alarm["raised"]["details"]["description"] == description && alarm["active"] == true {
            return;
        }
        assert!(Instant::now() < deadline, "{description} did not come: {alarm}");
    }
}

#[tokio::test]
async fn new_names_and_types_reach_the_alarms_and_a_deletion_ends_them() {
    let baken = Baken::start().await;
    let client = baken.client();
    let router = baken.router().await;
    let path = format!("/alarm-profiles?tenant={}", router["tenant"]);
    client.post_text(&path, "application/toml", PROFILE.to_owned()).await.unwrap();
    let device = format!("/devices/{}", router["device"]);
    let mut mqtt =
        Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), router["token"].as_str().unwrap()).await;
    mqtt.telemetry(r#"{"t":85}"#).await;

    client.put(&device, &json!({ "name": "router", "device_type": "press" })).await.unwrap();
    raised(&client, &mut mqtt, "router at North is at 85").await;
    let location = format!("/locations/{}", router["location"]);
    client.put(&location, &json!({ "name": "South" })).await.unwrap();
    let path = format!("/routers/{}", router["id"]);
    client.put(&path, &json!({ "name": "press 7" })).await.unwrap();
    raised(&client, &mut mqtt, "press 7 at South is at 85").await;

    client.put(&device, &json!({ "name": "press 7", "device_type": "fan" })).await.unwrap();
    let ended = newest(&client, "another type", |alarm| alarm["active"] == false).await;
    assert_eq!(ended["cleared_reason"], "rule_removed", "{ended}");
    client.put(&device, &json!({ "name": "press 7", "device_type": "press" })).await.unwrap();
    raised(&client, &mut mqtt, "press 7 at South is at 85").await;

    client.delete(&path).await.unwrap();
    let ended = newest(&client, "the deletion", |alarm| alarm["active"] == false).await;
    assert_eq!(ended["cleared_reason"], "device_removed", "{ended}");
}
