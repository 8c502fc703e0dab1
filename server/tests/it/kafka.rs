//! A node whose journal is in Kafka, a real one.

use serde_json::{Value, json};

use super::brokers::shared;
use super::harness::{Baken, recent_ms, until};
use super::mqtt::Mqtt;

const PROFILE: &str = r#"
    name = "Machines"
    [[rules]]
    key = "hot"
    raise.major = { when = { key = "t", operator = ">", value = 80 } }
    clear = { when = { key = "t", operator = "<", value = 70 } }
"#;

async fn latest(baken: &Baken, device: &Value, key: &str, value: Value) {
    let (client, path) = (baken.client(), format!("/devices/{device}/telemetry/latest"));
    until(&format!("{key} of device {device}"), async || {
        let latest = client.get(&path).await.unwrap();
        (latest["readings"][key]["value"] == value).then_some(())
    })
    .await;
}

async fn alarms(baken: &Baken) -> Vec<Value> {
    let page = baken.client().get("/alarms").await.unwrap();
    page["items"].as_array().unwrap().clone()
}

/// What was acknowledged is read and judged again from Kafka after a kill, and
/// what was told already is not told twice.
#[tokio::test(flavor = "multi_thread")]
async fn readings_and_alarms_come_from_it_and_survive_a_kill() {
    let options = shared().options();
    let url = format!(
        "kafka://{}/{}?partitions=3&replication_factor=1&min_insync_replicas=1",
        options.brokers, options.topic
    );
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--journal", &url];
    let baken = Baken::start_in(dir.path(), &flags).await;
    let router = baken.router().await;
    let (device, token) = (&router["device"], router["token"].as_str().unwrap());
    let profiles = format!("/alarm-profiles?tenant={}", router["tenant"]);
    let saved = baken.client().post_text(&profiles, "application/toml", PROFILE.to_owned()).await;
    saved.unwrap();
    let ts = recent_ms();
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    mqtt.telemetry(&format!(r#"{{"ts":{ts},"values":{{"t":91.5}}}}"#)).await;
    latest(&baken, device, "t", json!(91.5)).await;
    let raised = until("the alarm", async || alarms(&baken).await.pop()).await;
    assert_eq!((&raised["rule"], &raised["active"]), (&json!("hot"), &json!(true)), "{raised}");
    mqtt.telemetry(&format!(r#"{{"ts":{},"values":{{"u":1}}}}"#, ts + 1)).await;
    baken.kill().await;

    let baken = Baken::start_in(dir.path(), &flags).await;
    latest(&baken, device, "u", json!(1)).await;
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    mqtt.telemetry(&format!(r#"{{"ts":{},"values":{{"t":60.5}}}}"#, ts + 2)).await;
    let cleared = until("the alarm's end", async || {
        let mut all = alarms(&baken).await;
        assert_eq!(all.len(), 1, "raised once: {all:#?}");
        all.pop().filter(|alarm| alarm["active"] == json!(false))
    })
    .await;
    assert_eq!(cleared["id"], raised["id"]);
    let ready = baken.client().get("/health/ready").await.unwrap();
    assert_eq!(ready["status"], "ready", "{ready}");
    let (status, log) = baken.stop().await;
    assert!(status.success(), "{status}:\n{log}");
    assert!(!dir.path().join("journal").exists(), "nothing of the journal is in the folder");
}
