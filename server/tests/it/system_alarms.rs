//! The alarms that Baken raises about routers: offline, silent, refused, a wrong
//! clock. Each once, at its own time, also through SIGKILL.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use server::client::ApiClient;

use super::harness::{Baken, until};
use super::mqtt::Mqtt;

const QUICK: [&str; 6] = [
    "--set",
    "mqtt.presence.start_grace_ms=500",
    "--set",
    "mqtt.presence.check_interval_ms=20",
    "--set",
    "mqtt.presence.refused_interval_ms=200",
];

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Gives the router's tenant these settings.
async fn settings(client: &ApiClient, router: &Value, settings: Value) {
    let path = format!("/tenants/{}", router["tenant"]);
    client.put(&path, &json!({ "name": "Acme", "settings": settings })).await.unwrap();
    let wanted = format!("/alarm-profiles?tenant={}", router["tenant"]);
    let version = client.get(&wanted).await.unwrap();
    assert!(!version["items"].is_null());
}

/// Waits until the system alarms are as the settings say.
async fn in_force(client: &ApiClient, text: &str) {
    until(text, async || {
        let profiles = client.get("/alarm-profiles").await.unwrap();
        let system = profiles["items"].as_array()?.iter().find(|p| p["system"] == true)?;
        system["source"].as_str()?.contains(text).then_some(())
    })
    .await;
}

async fn alarm(client: &ApiClient, rule: &str, active: bool) -> Value {
    until(&format!("{rule}, active: {active}"), async || {
        let alarms = client.get("/alarms?limit=1000").await.unwrap();
        let found = alarms["items"].as_array()?.iter();
        found.clone().find(|it| it["rule"] == rule && it["active"] == active).cloned()
    })
    .await
}

async fn said(client: &ApiClient, device: &Value, key: &str, value: Value) {
    until(&format!("{key} is {value}"), async || {
        let latest =
            client.get(&format!("/devices/{device}/telemetry/latest?keys={key}")).await.unwrap();
        (latest["readings"][key]["value"] == value).then_some(())
    })
    .await;
}

/// A second router beside the first, and its token.
async fn second(client: &ApiClient, first: &Value, name: &str) -> Value {
    let credentials = json!({ "type": "access_token" });
    let router = json!({ "location": first["location"], "name": name, "credentials": credentials });
    client.post("/routers", &router).await.unwrap()
}

async fn connect(baken: &Baken, router: &Value) -> Mqtt {
    Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), router["token"].as_str().unwrap()).await
}

#[tokio::test]
async fn after_a_kill_only_who_stays_away_raises_an_alarm_once_at_its_own_time() {
    const DELAY_MS: i64 = 8_000;
    let dir = tempfile::tempdir().unwrap();
    let baken = Baken::start_in(dir.path(), &QUICK).await;
    let client = baken.client();
    let back = baken.router().await;
    let away = second(&client, &back, "away").await;
    settings(&client, &back, json!({ "system_alarms": { "offline": { "delay_s": 8 } } })).await;
    in_force(&client, "\"8s\"").await;
    let (one, two) = (connect(&baken, &back).await, connect(&baken, &away).await);
    for router in [&back, &away] {
        said(&client, &router["device"], "$baken.connected", json!(true)).await;
    }
    baken.kill().await;
    drop((one, two));

    let earliest = now_ms();
    let baken = Baken::start_in(dir.path(), &QUICK).await;
    let latest = now_ms();
    let client = baken.client();
    let _one = connect(&baken, &back).await;
    let raised = alarm(&client, "router_offline", true).await;
    assert_eq!(raised["device"], away["device"], "{raised}");
    let at = raised["raised"]["at"].as_i64().unwrap();
    assert!((earliest + DELAY_MS..=latest + DELAY_MS).contains(&at), "{earliest} {at} {latest}");
    let said_so = raised["raised"]["details"]["description"].as_str().unwrap();
    assert!(said_so.starts_with("Router away has had no MQTT connection since 20"), "{said_so}");

    let _two = connect(&baken, &away).await;
    let cleared = alarm(&client, "router_offline", false).await;
    assert_eq!(cleared["id"], raised["id"]);
    let alarms = client.get("/alarms").await.unwrap();
    assert_eq!(alarms["items"].as_array().map(Vec::len), Some(1), "{alarms}");
    assert!(cleared["cleared_at"].as_i64().unwrap() >= at);
}

#[tokio::test]
async fn refused_messages_and_a_wrong_clock_are_alarms_that_end_by_themselves() {
    let baken = Baken::start_with(&QUICK).await;
    let client = baken.client();
    let router = baken.router().await;
    let short = json!({ "delay_s": 1 });
    let alarms = json!({ "refused": short, "clock_wrong": short });
    settings(&client, &router, json!({ "system_alarms": alarms })).await;
    in_force(&client, "auto_clear_after = \"1s\"").await;
    let mut mqtt = connect(&baken, &router).await;
    mqtt.telemetry(r#"{"ts":1000,"values":{"t":1}}"#).await;
    mqtt.telemetry(r#"{"$baken.connected":false}"#).await;
    for rule in ["readings_refused", "clock_wrong"] {
        let alarm = until(rule, async || {
            let alarms = client.get("/alarms").await.unwrap();
            alarms["items"].as_array()?.iter().find(|it| it["rule"] == rule).cloned()
        })
        .await;
        assert_eq!((&alarm["severity"], &alarm["device"]), (&json!("warning"), &router["device"]));
    }
    for rule in ["readings_refused", "clock_wrong"] {
        let over = alarm(&client, rule, false).await;
        assert!(over["cleared_reason"] == "time" || over["cleared_reason"] == "condition");
    }
    let path = format!("/devices/{}/telemetry", router["device"]);
    let chart = client.get(&format!("{path}?key=$baken.refused")).await.unwrap();
    let told = chart["readings"].as_array().unwrap();
    assert!(told.iter().any(|it| it["value"] != 0), "it can be charted: {chart}");
    let latest = client.get(&format!("{path}/latest")).await.unwrap();
    assert_eq!(latest["readings"], json!({}), "unless it is asked for it is no telemetry");
}

#[tokio::test]
async fn silence_is_an_alarm_and_a_disabled_or_deleted_router_has_none() {
    let baken = Baken::start_with(&QUICK).await;
    let client = baken.client();
    let router = baken.router().await;
    let alarms = json!({ "offline": { "delay_s": 0, "severity": "critical" } });
    let quick = json!({ "send_interval_s": 1, "silent_factor": 1, "system_alarms": alarms });
    settings(&client, &router, quick).await;
    in_force(&client, "raise.critical").await;
    let mut mqtt = connect(&baken, &router).await;
    let silent = alarm(&client, "router_silent", true).await;
    assert_eq!(silent["severity"], "minor");
    mqtt.telemetry(r#"{"t":1}"#).await;
    let path = format!("/routers/{}", router["id"]);
    client.put(&path, &json!({ "send_interval_s": 0 })).await.unwrap();
    let over = alarm(&client, "router_silent", false).await;
    assert_eq!(over["cleared_reason"], "condition");

    client.put(&path, &json!({ "enabled": false })).await.unwrap();
    said(&client, &router["device"], "$baken.enabled", json!(false)).await;
    said(&client, &router["device"], "$baken.connected", json!(false)).await;
    client.put(&path, &json!({ "enabled": true })).await.unwrap();
    let offline = alarm(&client, "router_offline", true).await;
    assert_eq!(offline["severity"], "critical");
    let events = client.get("/events?order=asc&limit=1000").await.unwrap();
    let raised = events["items"].as_array().unwrap().iter();
    let raised = raised.filter(|it| it["kind"] == "alarm_raised" && it["alarm"] == offline["id"]);
    assert_eq!(raised.count(), 1, "only once it was enabled again: {events}");

    client.delete(&path).await.unwrap();
    let over = alarm(&client, "router_offline", false).await;
    assert_eq!(over["cleared_reason"], "device_removed");
}

#[tokio::test]
async fn the_system_profile_is_shown_and_follows_the_settings_only() {
    let baken = Baken::start().await;
    let client = baken.client();
    let router = baken.router().await;
    in_force(&client, "router_offline").await;
    let listed = client.get("/alarm-profiles").await.unwrap();
    let system = listed["items"].as_array().unwrap().iter().find(|p| p["system"] == true).unwrap();
    assert_eq!((&system["tenant"], &system["changed_by"]), (&router["tenant"], &json!("baken")));
    let path = format!("/alarm-profiles/{}", system["id"]);
    let refused = client.delete(&path).await.unwrap_err();
    assert_eq!(refused.status(), Some(409), "{refused}");
    assert!(refused.to_string().contains("settings.system_alarms"), "{refused}");

    let off = json!({ "enabled": false });
    let off = json!({ "offline": off, "silent": off, "refused": off, "clock_wrong": off });
    settings(&client, &router, json!({ "system_alarms": off })).await;
    until("no rules", async || {
        let system = client.get(&path).await.unwrap();
        (!system["source"].as_str()?.contains("[[rules]]")).then_some(())
    })
    .await;
    let path = format!("/tenants/{}", router["tenant"]);
    let too_long = json!({ "offline": { "delay_s": 10_000_000 } });
    let too_long = json!({ "name": "Acme", "settings": { "system_alarms": too_long } });
    let refused = client.put(&path, &too_long).await.unwrap_err();
    assert_eq!(refused.status(), Some(422));
    assert!(refused.to_string().contains("settings.system_alarms.offline.delay_s"), "{refused}");
}

#[tokio::test]
async fn a_stop_in_order_says_of_nobody_that_they_have_gone() {
    let dir = tempfile::tempdir().unwrap();
    let baken = Baken::start_in(dir.path(), &QUICK).await;
    let client = baken.client();
    let router = baken.router().await;
    let place = json!({ "tenant": router["tenant"], "name": "South" });
    let place = client.post("/locations", &place).await.unwrap();
    let never = json!({ "location": place["id"] });
    second(&client, &never, "never").await;
    let mqtt = connect(&baken, &router).await;
    said(&client, &router["device"], "$baken.connected", json!(true)).await;
    let (status, log) = baken.stop().await;
    assert!(status.success(), "{log}");
    drop(mqtt);

    // Long enough for this router to come back on any machine.
    let patient = ["--set", "mqtt.presence.start_grace_ms=8000"];
    let baken = Baken::start_in(dir.path(), &patient).await;
    let _mqtt = connect(&baken, &router).await;
    let client = baken.client();
    until("the start's grace is over", async || {
        let shown = client.get(&format!("/locations/{}", place["id"])).await.unwrap();
        (shown["status"] == "no_connection").then_some(())
    })
    .await;
    let path = format!("/devices/{}/telemetry?key=$baken.connected", router["device"]);
    let told = client.get(&path).await.unwrap();
    let told: Vec<&Value> =
        told["readings"].as_array().unwrap().iter().map(|reading| &reading["value"]).collect();
    assert_eq!(told, [&json!(true)], "it was back within the grace");
}
