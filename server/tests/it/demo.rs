//! The demo, from its first reading to its alarm's end.

use std::net::TcpListener;

use serde_json::Value;

use super::harness::{baken, text};

#[tokio::test]
async fn the_demo_reads_back_a_reading_an_alarm_and_its_events() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let report = dir.path().join("report.json");
    // Held, here or by whoever has them, so that free ports must be found.
    let _held = [TcpListener::bind("127.0.0.1:1883"), TcpListener::bind("127.0.0.1:8080")];
    let output = baken()
        .args(["demo", "--until-alarm", "--timeout-s", "180", "--data"])
        .arg(&data)
        .arg("--json")
        .arg(&report)
        .output()
        .await
        .unwrap();
    let (told, complaints) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{told}\n{complaints}");
    assert!(told.contains("taking a free port"), "{told}");
    assert!(told.contains("ALARM RAISED") && told.contains("ALARM CLEARED"), "{told}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["complete"], true);
    assert_eq!(report["missing"].as_array().map(Vec::len), Some(0));
    assert!(report["reading"]["value"].is_number());
    assert_eq!(report["raised"]["severity"], "major");
    let (raised, cleared) = (&report["raised"]["at"], &report["cleared"]["at"]);
    assert!(raised.as_i64() < cleared.as_i64(), "{report}");
    assert_eq!(report["alarm"]["active"], false);
    let admin_token = std::fs::read_to_string(data.join("admin-token")).unwrap();
    assert!(!told.contains(admin_token.trim()), "the admin token stays in its file");
}

#[tokio::test]
async fn what_did_not_come_in_time_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let output = baken()
        .args(["demo", "--until-alarm", "--timeout-s", "1"])
        .args(["--mqtt-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--data"])
        .arg(dir.path().join("data"))
        .arg("--json")
        .arg(&report)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaints = text(&output.stderr);
    assert!(complaints.contains("did not come within 1 s: "), "{complaints}");
    assert!(complaints.contains("the event of the alarm cleared"), "{complaints}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["complete"], false);
}
