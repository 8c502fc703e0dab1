//! What `/health/ready` says when something is wrong.

use std::path::{Path, PathBuf};

use serde_json::Value;
use server::client::ApiClient;

use super::harness::{Baken, DEADLINE, until};
use super::mqtt::Mqtt;

async fn ready(baken: &Baken) -> (u16, Value) {
    server::install_crypto();
    let url = format!("{}/health/ready", baken.run.api);
    let response = reqwest::Client::new().get(url).timeout(DEADLINE).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// The journal's only segment.
fn segment(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("journal")).unwrap().map(|file| file.unwrap().path());
    let mut segments = files.filter(|path| path.extension().is_some_and(|ext| ext == "segment"));
    segments.next().expect("a segment was written")
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
    assert_eq!(ready(&baken).await.0, 200);
    baken.kill().await;

    // A byte in the middle of the first record, an Arrow stream that begins
    // with this mark; four good records stand behind it.
    let path = segment(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let record = bytes.windows(4).position(|window| window == [0xff; 4]).unwrap();
    bytes[record + 100] ^= 0x40;
    std::fs::write(&path, bytes).unwrap();

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
