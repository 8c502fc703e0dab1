//! An installation moves from its folder to Kafka and PostgreSQL, real ones.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use super::brokers::shared;
use super::directory::Api;
use super::harness::{Baken, DEADLINE, baken, recent_ms, run, text, until};
use super::mqtt::Mqtt;
use super::postgres;

const PROFILE: &str = r#"
    name = "Machines"
    [[rules]]
    key = "hot"
    raise.major = { when = { key = "t", operator = ">", value = 80 } }
    clear = { when = { key = "t", operator = "<", value = 70 } }
    [[rules]]
    key = "wet"
    raise.minor = { when = { key = "w", operator = ">", value = 1 } }
    clear = { when = { key = "w", operator = "<", value = 0 } }
    [[rules]]
    key = "shaky"
    raise.minor = { times = 3, when = { key = "s", operator = ">", value = 1 } }
    clear = { when = { key = "s", operator = "<", value = 0 } }
    [[rules]]
    key = "slow"
    raise.minor = { for = "2h", when = { key = "v", operator = ">", value = 1 } }
    clear = { when = { key = "v", operator = "<", value = 0 } }
"#;

const HOUR_MS: i64 = 3_600_000;

fn topic(partitions: u16) -> String {
    let options = shared().options();
    format!(
        "kafka://{}/{}?partitions={partitions}&replication_factor=1&min_insync_replicas=1",
        options.brokers, options.topic
    )
}

/// What people see of an installation, all of it that is to be the same.
async fn seen(baken: &Baken, device: &Value) -> Vec<(String, Value)> {
    let client = baken.client();
    let paths = [
        "/tenants".to_owned(),
        "/locations".to_owned(),
        "/routers".to_owned(),
        "/devices".to_owned(),
        "/alarm-profiles".to_owned(),
        "/tokens".to_owned(),
        "/alarms".to_owned(),
        "/events".to_owned(),
        format!("/devices/{device}/attributes/shared"),
        format!("/devices/{device}/attributes/client"),
        format!("/devices/{device}/telemetry/latest?keys=t,w,s,v,name,ok"),
    ];
    let readings = ["t", "w", "s", "v", "name", "ok"]
        .map(|key| format!("/devices/{device}/telemetry?key={key}&limit=1000"));
    let stories = alarms(baken).await.into_iter().map(|alarm| {
        let id = alarm["id"].as_str().unwrap().to_owned();
        [format!("/alarms/{id}"), format!("/events?alarm={id}")]
    });
    let paths = paths.into_iter().chain(readings).chain(stories.flatten());
    let mut answers = Vec::new();
    for path in paths {
        let asked = client.get(&path).await;
        let mut answer = asked.unwrap_or_else(|error| panic!("{path}: {error}"));
        // That the API is asked leaves an event itself.
        if path == "/events" {
            let events = answer["items"].as_array_mut().unwrap();
            events.retain(|event| event["kind"] != "api_login");
            assert!(events.len() > 8, "{answer}");
        }
        answers.push((path, answer));
    }
    answers
}

async fn alarms(baken: &Baken) -> Vec<Value> {
    let page = baken.client().get("/alarms").await.unwrap();
    page["items"].as_array().unwrap().clone()
}

async fn alarm(baken: &Baken, rule: &str, active: bool) -> Value {
    until(&format!("alarm {rule}, active: {active}"), async || {
        let all = alarms(baken).await;
        let of_rule: Vec<_> = all.into_iter().filter(|alarm| alarm["rule"] == rule).collect();
        assert!(of_rule.len() <= 1, "raised once: {of_rule:#?}");
        of_rule.into_iter().next().filter(|alarm| alarm["active"] == json!(active))
    })
    .await
}

/// A node with something of everything; the router's token and its device.
async fn furnish(baken: &Baken, ts: i64) -> (String, Value) {
    let client = baken.client();
    let router = baken.router().await;
    let (device, token) = (router["device"].clone(), router["token"].as_str().unwrap().to_owned());
    let profiles = format!("/alarm-profiles?tenant={}", router["tenant"]);
    client.post_text(&profiles, "application/toml", PROFILE.to_owned()).await.unwrap();
    let shared = format!("/devices/{device}/attributes/shared");
    let api = Api::new(baken, &baken.token());
    let set = api.ask(Method::PATCH, &shared, Some(json!({ "rate": 10 }))).await;
    assert_eq!(set.status, 204, "{}", set.body);
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), &token).await;
    mqtt.publish("v1/devices/me/attributes", r#"{"serial":"A-7"}"#).await;
    for minute in 0..30 {
        let ts = ts + minute * 1_000;
        let values = r#"{"t":91.5,"v":5,"name":"n","ok":true}"#;
        mqtt.telemetry(&format!(r#"{{"ts":{ts},"values":{values}}}"#)).await;
    }
    for step in 0..2 {
        mqtt.telemetry(&format!(r#"{{"ts":{},"values":{{"s":5}}}}"#, ts + step)).await;
    }
    mqtt.telemetry(&format!(r#"{{"ts":{ts},"values":{{"w":5}}}}"#)).await;
    let wet = alarm(baken, "wet", true).await;
    let actions = format!("/alarms/{}/actions", wet["id"].as_str().unwrap());
    client.post(&actions, &json!({ "action": "acknowledge" })).await.unwrap();
    alarm(baken, "hot", true).await;
    (token, device)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_moves_to_kafka_and_postgres_and_goes_on() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ts = recent_ms();
    let node = Baken::start_in(one.path(), &["--set", "journal.partitions=3"]).await;
    let (token, device) = furnish(&node, ts).await;
    let (journal, store) = (topic(3), postgres::shared().database().await);
    let data = one.path().to_str().unwrap();
    let migrate = ["migrate", "--data", data, "--store", &store, "--journal", &journal];
    // A folder that a node has open is nobody else's.
    let refused = run(&migrate).await;
    let log = text(&refused.stderr);
    assert!(!refused.status.success() && log.contains("in use by another baken"), "{log}");
    // A restart, so that what presence says of the stop is there on both sides.
    node.stop().await;
    let node = Baken::start_in(one.path(), &["--set", "journal.partitions=3"]).await;
    let before = seen(&node, &device).await;
    node.stop().await;

    refuses_another_number_of_partitions(data, &store).await;
    break_off_and_finish(&migrate, one.path()).await;
    let again = run(&migrate).await;
    assert!(text(&again.stdout).contains("nothing was done"), "{}", text(&again.stderr));
    // The folder alone would go on apart from the rest.
    let alone = run(&["serve", "--data", data, "--api-listen", "127.0.0.1:0"]).await;
    assert!(text(&alone.stderr).contains("migrated.json"), "{}", text(&alone.stderr));

    std::fs::copy(one.path().join("admin-token"), two.path().join("admin-token")).unwrap();
    let secret = format!("server.secret_file={}/secret", one.path().display());
    let node = ["--journal", &journal, "--store", &store, "--set", &secret];
    let node = Baken::start_in(two.path(), &node).await;
    let after = seen(&node, &device).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    assert_eq!(before.len(), after.len());
    goes_on(&node, &token, ts).await;
    let (status, log) = node.stop().await;
    assert!(status.success(), "{status}:\n{log}");
}

async fn refuses_another_number_of_partitions(data: &str, store: &str) {
    let refused = run(&["migrate", "--data", data, "--store", store, "--journal", &topic(4)]).await;
    let log = text(&refused.stderr);
    assert!(!refused.status.success() && log.contains("asks for 4 partitions"), "{log}");
    assert!(log.contains("partitions=3"), "{log}");
}

/// Kills it several times in the middle; the last run is left to its end.
async fn break_off_and_finish(args: &[&str], folder: &Path) {
    for step in 1..6 {
        let mut child = baken().args(args).stdout(std::process::Stdio::null()).spawn().unwrap();
        let _ =
            tokio::time::timeout(std::time::Duration::from_millis(150 * step), child.wait()).await;
        let _ = child.kill().await;
    }
    let summary = folder.join("summary.json");
    let args: Vec<&str> =
        args.iter().copied().chain(["--json", summary.to_str().unwrap()]).collect();
    let done =
        tokio::time::timeout(2 * DEADLINE, baken().args(&args).output()).await.unwrap().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    let summary: Value = serde_json::from_slice(&std::fs::read(summary).unwrap()).unwrap();
    assert_eq!((&summary["journal"], &summary["partitions"]), (&json!("new"), &json!(3)));
    assert!(summary["readings"].as_u64().unwrap() > 120, "{summary:#}");
}

/// What was active ends, what was pending comes, and nothing comes twice.
async fn goes_on(node: &Baken, token: &str, ts: i64) {
    let hot = alarm(node, "hot", true).await;
    alarm(node, "wet", true).await;
    let mut mqtt = Mqtt::connect(node.run.mqtt.as_deref().unwrap(), token).await;
    mqtt.telemetry(&format!(r#"{{"ts":{},"values":{{"t":60.5,"s":5}}}}"#, ts + 60_000)).await;
    let cleared = alarm(node, "hot", false).await;
    assert_eq!(cleared["id"], hot["id"]);
    // The third time in a row, of which two were before.
    alarm(node, "shaky", true).await;
    mqtt.telemetry(&format!(r#"{{"ts":{},"values":{{"v":5}}}}"#, ts + 90 * 60_000)).await;
    mqtt.telemetry(&format!(r#"{{"ts":{},"values":{{"v":5}}}}"#, ts + 2 * HOUR_MS + 40_000)).await;
    let slow = alarm(node, "slow", true).await;
    // Two hours behind the first reading, which the folder took.
    assert_eq!(slow["raised"]["at"], json!(ts + 2 * HOUR_MS), "{slow:#}");
    let all = alarms(node).await;
    assert_eq!(all.len(), 4, "{all:#?}");
}
