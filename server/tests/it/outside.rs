//! A node whose journal is in Kafka or whose store is in PostgreSQL, real ones.

use std::path::Path;

use serde_json::{Value, json};

use super::brokers::shared;
use super::harness::{Baken, recent_ms, until};
use super::mqtt::Mqtt;
use super::postgres;

pub const PROFILE: &str = r#"
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

pub fn kafka() -> String {
    let options = shared().options();
    format!(
        "kafka://{}/{}?partitions=3&replication_factor=1&min_insync_replicas=1",
        options.brokers, options.topic
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_in_kafka_carries_a_node_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    over_a_kill(&["--journal", &kafka()], folder.path(), folder.path()).await;
    assert!(!folder.path().join("journal").exists(), "nothing of the journal is in the folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_postgres_carries_a_node_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let url = postgres::shared().database().await;
    over_a_kill(&["--store", &url], folder.path(), folder.path()).await;
    let left = std::fs::read_dir(folder.path().join("store")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing of the store is in the folder");
}

/// Another node, with a folder of its own and the same secret, goes on where the
/// first was killed.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_goes_on_where_journal_and_store_are_outside() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = two.path().join("shared-secret");
    std::fs::write(&secret, "5a".repeat(32)).unwrap();
    let (journal, store) = (kafka(), postgres::shared().database().await);
    let secret = format!("server.secret_file={}", secret.display());
    let flags = ["--journal", &journal, "--store", &store, "--set", &secret];
    over_a_kill(&flags, one.path(), two.path()).await;
}

/// What was acknowledged is read and judged again after a kill, and what was told
/// already is not told twice. It is started again in the folder `again`.
async fn over_a_kill(flags: &[&str], folder: &Path, again: &Path) {
    let baken = Baken::start_in(folder, flags).await;
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
    if folder != again {
        // The first start's token is the installation's.
        std::fs::copy(folder.join("admin-token"), again.join("admin-token")).unwrap();
    }

    let baken = Baken::start_in(again, flags).await;
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
}
