//! What `/health/ready` says when something is wrong.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::Value;
use server::client::ApiClient;

use tokio::time::Instant;

use super::harness::{Baken, DEADLINE, until};
use super::mqtt::Mqtt;

async fn ready(baken: &Baken) -> (u16, Value) {
    server::install_crypto();
    let url = format!("{}/health/ready", baken.run.api);
    let response = reqwest::Client::new().get(url).timeout(DEADLINE).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn assert_ready(baken: &Baken) {
    let (status, body) = ready(baken).await;
    assert_eq!(status, 200, "{body}");
}

fn has(body: &Value, code: &str) -> bool {
    body["reasons"].as_array().unwrap().iter().any(|reason| reason["code"] == code)
}

async fn connect(baken: &Baken, router: &Value) -> Mqtt {
    let address = baken.run.mqtt.as_deref().unwrap();
    Mqtt::connect(address, router["token"].as_str().unwrap()).await
}

/// Keeps all others from writing to a database until it is dropped.
fn lock(dir: &Path, name: &str) -> Connection {
    let connection = Connection::open(dir.join("store").join(name)).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

/// The journal's only segment.
fn segment(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("journal")).unwrap().map(|file| file.unwrap().path());
    let mut segments = files.filter(|path| path.extension().is_some_and(|ext| ext == "segment"));
    segments.next().expect("a segment was written")
}

/// Changes a byte in the middle of the first record, an Arrow stream that begins
/// with this mark; good records stand behind it.
pub fn damage(dir: &Path) {
    let path = segment(dir);
    let mut bytes = std::fs::read(&path).unwrap();
    let record = bytes.windows(4).position(|window| window == [0xff; 4]).unwrap();
    bytes[record + 100] ^= 0x40;
    std::fs::write(&path, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_partition_is_told_and_the_node_still_answers() {
    let dir = tempfile::tempdir().unwrap();
    let one_partition = ["--set", "journal.partitions=1"];
    let baken = Baken::start_in(dir.path(), &one_partition).await;
    let router = baken.router().await;
    let token = router["token"].as_str().unwrap();
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    for number in 0..5 {
        mqtt.telemetry(&format!(r#"{{"a":{number}}}"#)).await;
    }
    assert_ready(&baken).await;
    baken.kill().await;

    damage(dir.path());

    let baken = Baken::start_in(dir.path(), &one_partition).await;
    let body = until("the reason", async || {
        let (status, body) = ready(&baken).await;
        let reasons = body["reasons"].as_array()?;
        let told = reasons.iter().any(|reason| reason["code"] == "partition_stopped");
        (status == 503 && told).then_some(body)
    })
    .await;
    assert!(body.to_string().contains("Partition 0 is stopped: "), "{body}");
    let anybody = ApiClient::new(&baken.run.api, "").unwrap();
    assert_eq!(anybody.get("/health/live").await.unwrap()["status"], "live");
    baken.client().get("/tenants").await.unwrap();
}

#[tokio::test]
async fn a_journal_without_room_is_told_and_recovers_with_room() {
    let dir = tempfile::tempdir().unwrap();
    // No disk has so much free, so that this one is as good as full.
    let full = ["--set", "journal.reserve_bytes=1152921504606846976"];
    let baken = Baken::start_in(dir.path(), &full).await;
    assert_ready(&baken).await;
    let router = baken.router().await;
    let mut mqtt = connect(&baken, &router).await;
    mqtt.send_telemetry(r#"{"a":1}"#).await;
    let body = until("the reason", async || {
        let (status, body) = ready(&baken).await;
        (status == 503 && has(&body, "journal_stalled")).then_some(body)
    })
    .await;
    assert!(body.to_string().contains("nothing is lost"), "{body}");
    baken.client().get("/tenants").await.unwrap();
    baken.kill().await;

    let baken = Baken::start_in(dir.path(), &["--set", "journal.reserve_bytes=0"]).await;
    connect(&baken, &router).await.telemetry(r#"{"a":1}"#).await;
    assert_ready(&baken).await;
}

#[tokio::test]
async fn readers_that_fall_behind_are_told_until_they_have_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        ["journal.partitions=1", "history.max_lag_records=1", "alarms.max_lag_records=1"];
    let args: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    let baken = Baken::start_in(dir.path(), &args).await;
    let router = baken.router().await;
    let mut mqtt = connect(&baken, &router).await;
    let locks = [lock(dir.path(), "attributes.db"), lock(dir.path(), "alarms.db")];
    let deadline = Instant::now() + DEADLINE;
    let body = loop {
        mqtt.telemetry(r#"{"a":1}"#).await;
        let (status, body) = ready(&baken).await;
        if has(&body, "recorder_lag") && has(&body, "alarms_lag") {
            assert_eq!(status, 503);
            break body;
        }
        assert!(Instant::now() < deadline, "{body}");
    };
    assert!(body.to_string().contains("up to 1 is taken as ready"), "{body}");
    drop(locks);
    until("readiness", async || (ready(&baken).await.0 == 200).then_some(())).await;
}
