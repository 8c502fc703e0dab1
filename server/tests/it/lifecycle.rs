//! One process a folder, an orderly end, and nothing forgotten in between.

use rustix::process::Signal;
use serde_json::json;

use super::harness::{Baken, recent_ms, serve, text, until};
use super::mqtt::Mqtt;

#[tokio::test]
async fn a_second_process_on_the_folder_is_refused() {
    let baken = Baken::start().await;
    let second = serve(&baken.dir).output().await.unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = text(&second.stderr);
    let pid = baken.run.pid;
    assert!(error.contains(&format!("is in use by another baken (process {pid})")), "{error}");
    // The first is none the worse for it.
    assert_eq!(baken.client().get("/health/ready").await.unwrap()["status"], "ready");
}

#[tokio::test]
async fn sigterm_and_sigint_end_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let baken = Baken::start().await;
        let dir = baken.dir.clone();
        let run_file = dir.join("run.json");
        assert!(run_file.exists());
        let (status, log) = baken.stop_by(signal).await;
        assert!(status.success(), "{status}:\n{log}");
        assert!(log.contains("stopped"), "{log}");
        assert!(!run_file.exists(), "nobody is to look for a process that has ended");
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill_and_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let baken = Baken::start_in(dir.path(), &[]).await;
    let router = baken.router().await;
    let token = router["token"].as_str().unwrap().to_owned();
    let path = format!("/devices/{}/telemetry/latest", router["device"]);
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), &token).await;
    let ts = recent_ms();
    mqtt.telemetry(&format!(r#"{{"ts":{ts},"values":{{"a":1.5}}}}"#)).await;
    baken.kill().await;

    let baken = Baken::start_in(dir.path(), &[]).await;
    expect(&baken, &path, "a", json!({ "ts": ts, "value": 1.5 })).await;
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), &token).await;
    mqtt.telemetry(&format!(r#"{{"ts":{ts},"values":{{"b":"on"}}}}"#)).await;
    let (status, log) = baken.stop().await;
    assert!(status.success(), "{status}:\n{log}");

    let baken = Baken::start_in(dir.path(), &[]).await;
    expect(&baken, &path, "a", json!({ "ts": ts, "value": 1.5 })).await;
    expect(&baken, &path, "b", json!({ "ts": ts, "value": "on" })).await;
}

async fn expect(baken: &Baken, path: &str, key: &str, reading: serde_json::Value) {
    let client = baken.client();
    until(&format!("{key} at {path}"), async || {
        let latest = client.get(path).await.unwrap();
        (latest["readings"][key] == reading).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_token_and_no_secret_is_ever_logged() {
    let baken = Baken::start_with(&["--log-level", "trace", "--set", "log.format=json"]).await;
    let router = baken.router().await;
    let router_token = router["token"].as_str().unwrap().to_owned();
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), &router_token).await;
    mqtt.telemetry(r#"{"a":1}"#).await;
    let wrong = server::client::ApiClient::new(&baken.run.api, "a-wrong-token-0123456789").unwrap();
    assert_eq!(wrong.get("/about").await.unwrap_err().status(), Some(401));
    let admin_token = baken.token();
    let secret = std::fs::read_to_string(baken.dir.join("secret")).unwrap();
    let (_, log) = baken.stop().await;
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    assert!(log.contains("/api/v1/about"), "the log is told of requests at this level");
    for text in [&router_token, &admin_token, secret.trim(), "a-wrong-token-0123456789"] {
        assert!(!log.contains(text), "a secret stands in the log");
    }
}

#[tokio::test]
async fn the_ready_file_names_the_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ready.json");
    let baken = Baken::start_with(&["--ready-file", file.to_str().unwrap()]).await;
    let run = until("the ready file", async || {
        std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok())
    })
    .await;
    assert_eq!(baken.run, run);
}
