//! Backtests from outside: by the API, by the command, and of real readings
//! beside what the same profile raised when they came in.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::harness::{Baken, recent_ms, run, text, until};
use super::mqtt::Mqtt;

const PROFILE: &str = r#"
    name = "Machines"
    [[rules]]
    key = "hot"
    description = "${device} is at ${t}"
    raise.critical = { when = { key = "t", operator = ">", value = 90 } }
    raise.major = { when = { key = "t", operator = ">", value = 80 } }
    clear = { when = { key = "t", operator = "<", value = 70 } }
"#;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Starts one and waits for its end.
async fn backtest(baken: &Baken, input: &Value) -> Value {
    let client = baken.client();
    let job = client.post("/alarm-profiles/backtest", input).await.unwrap();
    ended(baken, &job).await
}

async fn ended(baken: &Baken, job: &Value) -> Value {
    let client = baken.client();
    let path = format!("/alarm-profiles/backtests/{}", job["id"]);
    until("the end of the backtest", async || {
        let job = client.get(&path).await.unwrap();
        (job["status"] != "running").then_some(job)
    })
    .await
}

/// Waits until the history has the newest reading of the device.
async fn recorded(baken: &Baken, device: &Value, key: &str, at: i64) {
    let path = format!("/devices/{device}/telemetry/latest?keys={key}");
    until("the newest reading", async || {
        let latest = baken.client().get(&path).await.unwrap();
        latest.to_string().contains(&at.to_string()).then_some(())
    })
    .await;
}

async fn send(baken: &Baken, router: &Value, start: i64, readings: &[(i64, f64)]) {
    let token = router["token"].as_str().unwrap();
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    for (after, value) in readings {
        let payload = format!(r#"{{"ts":{},"values":{{"t":{value}}}}}"#, start + after);
        mqtt.telemetry(&payload).await;
    }
    let (last, _) = readings.last().unwrap();
    recorded(baken, &router["device"], "t", start + last).await;
}

#[tokio::test]
async fn a_draft_is_tried_and_its_saved_version_differs_in_nothing() {
    let baken = Baken::start().await;
    let router = baken.router().await;
    let start = recent_ms();
    let early = [(0, 60.0), (1_000, 85.0), (2_000, 95.0), (3_000, 65.0)];
    send(&baken, &router, start, &early).await;
    let input = json!({
        "tenant": router["tenant"],
        "profile": { "toml": PROFILE },
        "from": start,
        "to": start + 60_000,
    });
    let job = backtest(&baken, &input).await;
    let result = &job["result"];
    assert_eq!((&job["status"], &job["progress"]["readings"]), (&json!("done"), &json!(4)));
    assert_eq!((&result["totals"]["alarms"], &result["difference"]), (&json!(1), &Value::Null));
    let alarm = &result["alarms"][0];
    assert_eq!((&alarm["severity"], &alarm["peak"]), (&json!("major"), &json!("critical")));
    assert_eq!(
        (&alarm["raised_at"], &alarm["cleared_at"]),
        (&json!(start + 1_000), &json!(start + 3_000))
    );
    assert_eq!(
        (&alarm["device_name"], &alarm["location_name"]),
        (&json!("router"), &json!("North"))
    );
    let kinds: Vec<&str> = alarm["transitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["raised", "severity_changed", "cleared"]);
    let client = baken.client();
    let raised = client.get("/alarms").await.unwrap();
    assert_eq!(raised["items"], json!([]), "nothing was raised by it");

    // Saved, it raises the same; of what came before, only the backtest knows.
    let path = format!("/alarm-profiles?tenant={}", router["tenant"]);
    let saved = client.post_text(&path, "application/toml", PROFILE.to_owned()).await.unwrap();
    let late = [(100_000, 60.0), (101_000, 85.0), (102_000, 95.0), (103_000, 65.0)];
    send(&baken, &router, start, &late).await;
    until("the alarm is cleared", async || {
        let alarms = client.get("/alarms?active=false").await.unwrap();
        (alarms["items"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    let input = json!({
        "tenant": router["tenant"],
        "profile": { "id": saved["id"] },
        "from": start,
        "to": start + 200_000,
    });
    let result = backtest(&baken, &input).await["result"].take();
    let difference = &result["difference"];
    assert_eq!((&difference["same"], &difference["only_in_backtest"]), (&json!(1), &json!(1)));
    assert_eq!((&difference["only_in_reality"], &difference["changed"]), (&json!(0), &json!(0)));
    assert_eq!(difference["backtest_only"][0]["raised_at"], json!(start + 1_000));
    let version = json!({ "profile": { "id": saved["id"], "version": 2 }, "tenant": router["tenant"], "from": 0, "to": start });
    let refused = client.post("/alarm-profiles/backtest", &version).await.unwrap_err();
    assert_eq!(refused.status(), Some(404));
}

#[tokio::test]
async fn a_tenant_sees_its_own_and_wrong_input_is_named() {
    let baken = Baken::start().await;
    let router = baken.router().await;
    let client = baken.client();
    let other = client.post("/tenants", &json!({ "name": "Other" })).await.unwrap();
    let reader = async |tenant: &Value, name: &str| {
        let input = json!({ "name": name, "tenant": tenant, "read_only": true });
        let token = client.post("/tokens", &input).await.unwrap();
        server::client::ApiClient::new(&baken.run.api, token["token"].as_str().unwrap()).unwrap()
    };
    let own = reader(&router["tenant"], "own").await;
    let foreign = reader(&other["id"], "foreign").await;
    let now = recent_ms();
    let input = |change: Value| {
        let mut input = json!({ "profile": { "toml": PROFILE }, "from": now - 1_000, "to": now });
        input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        input
    };
    // A token that only reads may start, read and cancel one.
    let job = own.post("/alarm-profiles/backtest", &input(json!({}))).await.unwrap();
    assert_eq!(job["tenant"], router["tenant"]);
    let path = format!("/alarm-profiles/backtests/{}", job["id"]);
    ended(&baken, &job).await;
    assert_eq!(foreign.get(&path).await.unwrap_err().status(), Some(404));
    assert_eq!(foreign.delete(&path).await.unwrap_err().status(), Some(404));
    own.delete(&path).await.unwrap();
    assert_eq!(own.get(&path).await.unwrap_err().status(), Some(404));

    let location = router["location"].clone();
    let wrong = [
        (json!({ "tenant": other["id"] }), 404, ""),
        (json!({ "profile": {} }), 422, "profile"),
        (json!({ "profile": { "toml": PROFILE, "id": 1 } }), 422, "profile"),
        (json!({ "profile": { "id": 77 } }), 404, ""),
        (
            json!({ "profile": { "toml": PROFILE.replace("\">\"", "\"over\"") } }),
            422,
            "rules[0].raise",
        ),
        (json!({ "from": now }), 422, "from"),
        (json!({ "warm_up_ms": -1 }), 422, "warm_up_ms"),
        (json!({ "locations": [77] }), 404, ""),
        (json!({ "period": 1 }), 422, ""),
    ];
    for (change, status, field) in wrong {
        let refused =
            own.post("/alarm-profiles/backtest", &input(change.clone())).await.unwrap_err();
        assert_eq!(refused.status(), Some(status), "{change}: {refused}");
        assert!(refused.to_string().contains(field), "{change}: {refused}");
    }
    let theirs = input(json!({ "locations": [location] }));
    let refused = foreign.post("/alarm-profiles/backtest", &theirs).await.unwrap_err();
    assert_eq!(refused.status(), Some(404));
    let nobodys = client.post("/alarm-profiles/backtest", &input(json!({}))).await.unwrap_err();
    assert!(nobodys.to_string().contains("tenant"), "{nobodys}");
}

#[tokio::test]
async fn as_many_run_as_may_and_one_that_runs_is_cancelled() {
    let baken = Baken::start().await;
    let router = baken.router().await;
    let client = baken.client();
    let start = recent_ms() - 30_000_000;
    let mut mqtt =
        Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), router["token"].as_str().unwrap()).await;
    let reading = |number: i64| {
        let value = if number % 7 == 0 { 95 } else { 60 };
        json!({ "ts": start + number * 1_000, "values": { "t": value } })
    };
    for first in (0..30_000).step_by(500) {
        let part: Vec<Value> = (first..first + 500).map(reading).collect();
        mqtt.telemetry(&Value::Array(part).to_string()).await;
    }
    recorded(&baken, &router["device"], "t", start + 29_999_000).await;
    let input = json!({
        "tenant": router["tenant"],
        "profile": { "toml": PROFILE },
        "from": start,
        "to": start + 30_000_000,
    });
    let begin = || client.post("/alarm-profiles/backtest", &input);
    let refused = until("one too many is refused", async || {
        let (a, b, c, d) = tokio::join!(begin(), begin(), begin(), begin());
        [a, b, c, d].into_iter().find_map(Result::err)
    })
    .await;
    assert_eq!(refused.status(), Some(429));
    assert!(refused.to_string().contains("at most 2 may"), "{refused}");
    until("one is cancelled", async || {
        let job = begin().await.ok()?;
        let path = format!("/alarm-profiles/backtests/{}", job["id"]);
        client.delete(&path).await.unwrap();
        // One that had ended by then is forgotten: once more.
        let job = client.get(&path).await.ok()?;
        let job = ended(&baken, &job).await;
        assert!(job["status"] == "done" || job["result"].is_null(), "{job}");
        (job["status"] == "cancelled").then_some(())
    })
    .await;
    let metrics = client.text("/metrics").await.unwrap();
    assert!(!metrics.contains("baken_backtest_refused_total 0"), "refusals are counted");
    let job = backtest_when_free(&baken, &input).await;
    assert_eq!(job["result"]["totals"]["alarms"], 4_286);
    assert_eq!(
        (&job["result"]["truncated"], &job["result"]["readings"]),
        (&json!(false), &json!(30_000))
    );
}

/// Starts one as soon as one may, and waits for its end.
async fn backtest_when_free(baken: &Baken, input: &Value) -> Value {
    let client = baken.client();
    let job =
        until("a free place", async || client.post("/alarm-profiles/backtest", input).await.ok())
            .await;
    ended(baken, &job).await
}

/// The labelled windows of the series: 2013-12-10 06:25 to 12-12 05:35, 12-15
/// 17:50 to 12-17 17:00, 2014-01-27 14:20 to 01-29 13:30, 02-07 14:55 to 02-09 14:05.
const WINDOWS: [(&str, &str); 4] = [
    ("2013-12-10T06:25:00Z", "2013-12-12T05:35:00Z"),
    ("2013-12-15T17:50:00Z", "2013-12-17T17:00:00Z"),
    ("2014-01-27T14:20:00Z", "2014-01-29T13:30:00Z"),
    ("2014-02-07T14:55:00Z", "2014-02-09T14:05:00Z"),
];

fn ms(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// The series as (milliseconds since 1970, degrees). Its times are taken as UTC.
/// For an hour on 2014-01-07 the logger's clock stood back by 55 minutes.
fn machine() -> Vec<(i64, f64)> {
    let path = file("tests/data/nab/machine_temperature_system_failure.csv");
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let (time, value) = line.split_once(',').unwrap();
        (ms(&format!("{}Z", time.replace(' ', "T"))), value.parse().unwrap())
    };
    text.lines().skip(1).map(row).collect()
}

/// A row of the table in the docs.
fn row(alarm: &Value) -> String {
    let time = |ms: &Value| {
        let time = ms.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        time.map_or_else(|| "active".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M").to_string())
    };
    let (from, to) = (alarm["raised_at"].as_i64().unwrap(), alarm["cleared_at"].as_i64());
    let hit = WINDOWS
        .iter()
        .position(|(start, end)| from < ms(end) && to.is_none_or(|cleared| cleared > ms(start)));
    let hit = hit.map_or_else(|| "–".to_owned(), |place| (place + 1).to_string());
    let rule = alarm["rule"].as_str().unwrap();
    let peak = alarm["peak"].as_str().unwrap();
    let (raised, cleared) = (time(&alarm["raised_at"]), time(&alarm["cleared_at"]));
    format!("| {rule} | {raised} | {cleared} | {peak} | {hit} |")
}

#[tokio::test]
async fn real_readings_raise_the_same_in_a_backtest_as_when_they_came() {
    let dir = tempfile::tempdir().unwrap();
    // So patient that no deadline fires because the sending is slow.
    let patient = ["--set", "alarms.grace_ms=3600000"];
    let baken = Baken::start_in(dir.path(), &patient).await;
    let client = baken.client();
    let settings = json!({ "name": "Plant", "settings": { "retention_days": 0 } });
    let tenant = client.post("/tenants", &settings).await.unwrap();
    let location = json!({ "tenant": tenant["id"], "name": "Hall", "time_zone": "UTC" });
    let location = client.post("/locations", &location).await.unwrap();
    let router = json!({ "location": location["id"], "name": "router", "credentials": { "type": "access_token" } });
    let router = client.post("/routers", &router).await.unwrap();
    let profile = file("../docs/examples/machine-temperature.toml");
    let source = std::fs::read_to_string(&profile).unwrap();
    let path = format!("/alarm-profiles?tenant={}", tenant["id"]);
    client.post_text(&path, "application/toml", source.clone()).await.unwrap();

    let readings = machine();
    let mut mqtt =
        Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), router["token"].as_str().unwrap()).await;
    for part in readings.chunks(250) {
        let part: Vec<Value> = part
            .iter()
            .map(|(ts, value)| json!({ "ts": ts, "values": { "temperature": value } }))
            .collect();
        // What the server notes of the router meanwhile bears the time of now,
        // years ahead of these, and moves nothing of theirs.
        mqtt.publish("v1/devices/me/telemetry", &Value::Array(part).to_string()).await;
    }
    let (first, last) = (readings[0].0, readings.last().unwrap().0);
    recorded(&baken, &router["device"], "temperature", last).await;
    let input = json!({
        "tenant": tenant["id"],
        "profile": { "toml": source },
        "from": first,
        "to": last + 1,
    });
    // The worker may still be behind the history.
    let result =
        until("the worker has raised all", async || {
            let result = backtest(&baken, &input).await["result"].take();
            let behind =
                client.text("/metrics").await.unwrap().lines().any(|line| {
                    line.starts_with("baken_alarms_lag_records{") && !line.ends_with(" 0")
                });
            (!behind && result["difference"]["only_in_backtest"] == 0).then_some(result)
        })
        .await;
    let difference = &result["difference"];
    assert_eq!(difference["same"], result["totals"]["alarms"], "{difference}");
    let others = ["only_in_backtest", "only_in_reality", "changed"];
    assert!(others.iter().all(|name| difference[name] == 0), "{difference}");
    // Twelve readings bear the times of others.
    assert_eq!(result["readings"], readings.len() - 12);

    let table: Vec<String> = result["alarms"].as_array().unwrap().iter().map(row).collect();
    let docs = std::fs::read_to_string(file("../docs/measurements.md")).unwrap();
    let table = table.join("\n");
    assert!(docs.contains(&table), "the table in docs/measurements.md is not:\n{table}");

    let times = [first.to_string(), (last + 1).to_string()];
    let profile = profile.to_str().unwrap();
    let common = ["--profile", profile, "--from", &times[0], "--to", &times[1]];
    let folder = dir.path().to_str().unwrap().to_owned();
    let used = run(&[&["backtest", "--data", &folder][..], &common].concat()).await;
    assert_eq!(used.status.code(), Some(1));
    assert!(text(&used.stderr).contains("is in use by another baken"), "{}", text(&used.stderr));
    let json_file = dir.path().join("by-server.json");
    let (api, token) = (baken.run.api.clone(), baken.token());
    let by_server =
        ["backtest", "--server", &api, "--token", &token, "--json", json_file.to_str().unwrap()];
    let shown = run(&[&by_server[..], &common].concat()).await;
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    let lines = text(&shown.stdout);
    assert!(lines.contains("too_cold") && lines.contains("0 only in the backtest"), "{lines}");
    let written: Value = serde_json::from_slice(&std::fs::read(&json_file).unwrap()).unwrap();
    assert_eq!(written, result);

    // Killed, so that the newest readings are in the journal only.
    baken.kill().await;
    let json_file = dir.path().join("on-folder.json");
    let on_folder = ["backtest", "--data", &folder, "--json", json_file.to_str().unwrap()];
    let shown = run(&[&on_folder[..], &common].concat()).await;
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    assert_eq!(text(&shown.stdout), lines);
    let written: Value = serde_json::from_slice(&std::fs::read(&json_file).unwrap()).unwrap();
    assert_eq!(written, result);

    let nowhere = dir.path().join("nowhere");
    let wrong = ["backtest", "--data", nowhere.to_str().unwrap()];
    let wrong = run(&[&wrong[..], &common].concat()).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("is no folder of baken"), "{}", text(&wrong.stderr));
    assert!(!nowhere.exists());
}
