//! An alarm from end to end: a profile by the API, readings by MQTT, the alarm
//! and its events by the API, each once through SIGKILL.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::harness::{Baken, until};
use super::mqtt::Mqtt;

const PROFILE: &str = r#"
    # Set by the plant's engineer.
    name = "Machines"
    [[rules]]
    key = "hot"
    description = "${device} is at ${t}"
    raise.critical = { when = { key = "t", operator = ">", value = 90 } }
    raise.major = { when = { key = "t", operator = ">", value = 80 } }
    clear = { when = { key = "t", operator = "<", value = 70 } }
"#;

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Kind and time after `start` of all events of alarms, the oldest first.
async fn story(baken: &Baken, start: u64) -> Vec<(String, u64)> {
    let events = baken.client().get("/events?order=asc&limit=1000").await.unwrap();
    let of_alarms = events["items"].as_array().unwrap().iter().filter(|e| e["alarm"].is_string());
    of_alarms
        .map(|event| {
            let kind = event["kind"].as_str().unwrap().to_owned();
            (kind, event["at"].as_u64().unwrap() - start)
        })
        .collect()
}

async fn expect(baken: &Baken, start: u64, expected: &[(&str, u64)]) {
    until(&format!("{expected:?}"), async || {
        (story(baken, start).await.len() >= expected.len()).then_some(())
    })
    .await;
    let expected: Vec<(String, u64)> =
        expected.iter().map(|(kind, at)| ((*kind).to_owned(), *at)).collect();
    assert_eq!(story(baken, start).await, expected);
}

#[tokio::test]
async fn readings_raise_and_clear_an_alarm_once_through_kills() {
    let dir = tempfile::tempdir().unwrap();
    let start = now_ms() - 3_600_000;
    let reading =
        |at: u64, value: f64| format!(r#"{{"ts":{},"values":{{"t":{value}}}}}"#, start + at);
    let baken = Baken::start_in(dir.path(), &[]).await;
    let router = baken.router().await;
    let token = router["token"].as_str().unwrap().to_owned();
    let path = format!("/alarm-profiles?tenant={}", router["tenant"]);
    let saved = baken.client().post_text(&path, "application/toml", PROFILE.to_owned()).await;
    let saved = saved.unwrap();
    assert_eq!((&saved["version"], &saved["name"]), (&json!(1), &json!("Machines")));

    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), &token).await;
    for (at, value) in [(1_000, 60.0), (2_000, 85.0), (3_000, 95.0)] {
        mqtt.telemetry(&reading(at, value)).await;
    }
    // Acknowledged, so it is kept; whether it is evaluated by now is open.
    baken.kill().await;

    let baken = Baken::start_in(dir.path(), &[]).await;
    let so_far = [("alarm_raised", 2_000), ("alarm_severity_changed", 3_000)];
    expect(&baken, start, &so_far).await;
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), &token).await;
    // The last one again, as a publisher does that got no PUBACK.
    for (at, value) in [(3_000, 95.0), (4_000, 65.0), (5_000, 85.0)] {
        mqtt.telemetry(&reading(at, value)).await;
    }
    baken.kill().await;

    let baken = Baken::start_in(dir.path(), &[]).await;
    let all = [so_far[0], so_far[1], ("alarm_cleared", 4_000), ("alarm_raised", 5_000)];
    expect(&baken, start, &all).await;
    let client = baken.client();
    let alarms = client.get("/alarms?total=true").await.unwrap();
    assert_eq!(alarms["total"], 2);
    let active = client.get("/alarms?active=true&total=true").await.unwrap();
    assert_eq!(active["total"], 1);
    assert_eq!(active["items"][0]["raised"]["details"]["values"], json!({ "t": 85 }));
    let first = alarms["items"][1]["id"].as_str().unwrap();
    let first = client.get(&format!("/alarms/{first}")).await.unwrap();
    assert_eq!((&first["active"], &first["severity"]), (&json!(false), &json!("critical")));
    let moments = (&first["raised"]["at"], &first["peak"]["at"], &first["cleared_at"]);
    assert_eq!(moments, (&json!(start + 2_000), &json!(start + 3_000), &json!(start + 4_000)));
    assert_eq!(first["events"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn an_alarm_is_acknowledged_and_a_wrong_profile_is_refused_by_its_field() {
    let baken = Baken::start().await;
    let client = baken.client();
    let router = baken.router().await;
    let token = router["token"].as_str().unwrap().to_owned();
    let path = format!("/alarm-profiles?tenant={}", router["tenant"]);
    let wrong = PROFILE.replace("operator = \"<\"", "operator = \"lower\"");
    let refused = client.post_text(&path, "application/toml", wrong.clone()).await.unwrap_err();
    assert_eq!(refused.status(), Some(422));
    assert!(refused.to_string().contains("rules[0].clear.when.operator"), "{refused}");
    let checked = client.post_text("/alarm-profiles/check", "application/toml", wrong).await;
    assert_eq!(checked.unwrap()["errors"][0]["value"], "lower");

    let text = PROFILE.to_owned();
    let saved = client.post_text(&path, "application/toml", text.clone()).await.unwrap();
    let same = client.post_text(&path, "application/toml", text.clone()).await.unwrap_err();
    assert_eq!(same.status(), Some(409));
    let exported = client.text(&format!("/alarm-profiles/{}/toml", saved["id"])).await;
    assert_eq!(exported.unwrap(), text);

    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), &token).await;
    mqtt.telemetry(r#"{"t":85}"#).await;
    let alarm: Value = until("the alarm", async || {
        let alarms = client.get("/alarms?severity=major").await.unwrap();
        alarms["items"].get(0).cloned()
    })
    .await;
    let path = format!("/alarms/{}", alarm["id"].as_str().unwrap());
    let actions = format!("{path}/actions");
    client.post(&actions, &json!({ "action": "acknowledge" })).await.unwrap();
    let again = client.post(&actions, &json!({ "action": "acknowledge" })).await.unwrap_err();
    assert_eq!(again.status(), Some(409));
    let alarm = client.get(&path).await.unwrap();
    assert_eq!(
        (&alarm["acknowledged"], &alarm["acknowledged_by"]),
        (&json!(true), &json!("admin"))
    );
    client.delete(&format!("/alarm-profiles/{}", saved["id"])).await.unwrap();
    let alarm = client.get(&path).await.unwrap();
    assert_eq!(alarm["cleared_reason"], "rule_removed");
}
