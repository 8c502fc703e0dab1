//! What an operator does with many alarms: finds them, counts them, acts on
//! them all at once, and sees how good they are; by the API and the commands.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use server::client::ApiClient;

use super::harness::{Baken, run, text, until};
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

const MACHINES: usize = 12;

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// A node with as many active alarms, a third of them critical; the router.
async fn hot_node() -> (Baken, Value) {
    let baken = Baken::start().await;
    let client = baken.client();
    let router = baken.router().await;
    let path = format!("/alarm-profiles?tenant={}", router["tenant"]);
    client.post_text(&path, "application/toml", PROFILE.to_owned()).await.unwrap();
    let token = router["token"].as_str().unwrap();
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    let at = now_ms() - 60_000;
    for machine in 0..MACHINES {
        let value = if machine % 3 == 0 { 95 } else { 85 };
        let body = format!(r#"{{"m{machine}":[{{"ts":{at},"values":{{"t":{value}}}}}]}}"#);
        mqtt.publish("v1/gateway/telemetry", &body).await;
    }
    until("all alarms", async || {
        let found = client.get("/alarms?active=true&total=true&rule=hot").await.unwrap();
        (found["total"] == MACHINES).then_some(())
    })
    .await;
    (baken, router)
}

async fn actions(client: &ApiClient, body: Value) -> Value {
    client.post("/alarms/actions", &body).await.unwrap()
}

#[tokio::test]
async fn alarms_are_found_counted_and_acted_on_together() {
    let (baken, router) = hot_node().await;
    let client = baken.client();
    let rule = json!({ "rule": "hot" });
    let critical = client.get("/alarms?severity=critical&text=IS%20AT").await.unwrap();
    assert_eq!(critical["items"].as_array().map(Vec::len), Some(4));
    assert!(critical.get("total").is_none(), "only where it is asked");
    let worst = client.get("/alarms?order=severity&limit=5&rule=hot").await.unwrap();
    let severities: Vec<&str> = worst["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alarm| alarm["severity"].as_str().unwrap())
        .collect();
    assert_eq!(severities, ["critical", "critical", "critical", "critical", "major"]);
    let next = worst["next"].as_str().unwrap();
    let rest = client.get(&format!("/alarms?order=severity&rule=hot&after={next}")).await.unwrap();
    assert_eq!(rest["items"].as_array().map(Vec::len), Some(MACHINES - 5));

    let until_ms = now_ms() + 3_600_000;
    let shelved = json!({ "filter": { "severity": ["critical"], "rule": "hot" }, "action": "shelve", "until": until_ms });
    assert_eq!(actions(&client, shelved).await["done"], 4);
    let outcome = actions(&client, json!({ "filter": rule, "action": "acknowledge" })).await;
    assert_eq!(
        outcome,
        json!({ "matched": 12, "done": 12, "already": 0, "failed": 0, "more_remain": false })
    );
    let again = actions(&client, json!({ "filter": rule, "action": "acknowledge" })).await;
    assert_eq!((&again["matched"], &again["done"]), (&json!(0), &json!(0)));
    let counts =
        client.get(&format!("/alarms/counts?location={}", router["location"])).await.unwrap();
    let of = |active: u64, shelved: u64| json!({ "active": active, "unacknowledged": 0, "active_unacknowledged": 0, "shelved": shelved });
    assert_eq!(counts["severities"], json!({ "critical": of(4, 4), "major": of(8, 0) }));
    assert_eq!(counts["locations"][0]["location"], router["location"]);

    for (wrong, field) in [
        (json!({ "filter": { "limit": 5 }, "action": "clear" }), "filter.limit"),
        (json!({ "filter": { "severity": "worst" }, "action": "clear" }), "filter.severity"),
        (json!({ "filter": {}, "action": "shelve" }), "until"),
        (json!({ "filter": {}, "action": "explode" }), "action"),
        (json!({ "filter": {}, "action": "clear", "after": "major:7" }), "after"),
    ] {
        let refused = client.post("/alarms/actions", &wrong).await.unwrap_err();
        assert_eq!(refused.status(), Some(422));
        assert!(refused.to_string().contains(field), "{refused}");
    }
    // Another tenant's token acts on nothing of ours.
    let other = client.post("/tenants", &json!({ "name": "Other" })).await.unwrap();
    let other = json!({ "name": "other", "tenant": other["id"] });
    let other = client.post("/tokens", &other).await.unwrap();
    let other = ApiClient::new(&baken.run.api, other["token"].as_str().unwrap()).unwrap();
    let nothing = actions(&other, json!({ "filter": rule, "action": "clear" })).await;
    assert_eq!(nothing["matched"], 0);
    let hidden = json!({ "filter": { "tenant": router["tenant"] }, "action": "clear" });
    assert_eq!(other.post("/alarms/actions", &hidden).await.unwrap_err().status(), Some(404));
    assert_eq!(other.get("/alarms/counts").await.unwrap()["total"]["active"], 0);

    let id = critical["items"][0]["id"].as_str().unwrap();
    let comment = json!({ "action": "comment", "text": "fan replaced" });
    client.post(&format!("/alarms/{id}/actions"), &comment).await.unwrap();
    assert_eq!(actions(&client, json!({ "filter": rule, "action": "clear" })).await["done"], 12);
    let story = client.get(&format!("/alarms/{id}")).await.unwrap();
    let kinds: Vec<&str> = story["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["alarm_raised", "alarm_shelved", "alarm_acknowledged", "alarm_commented", "alarm_cleared"]
    );
    assert_eq!(
        (&story["comments"][0]["text"], &story["comments"][0]["by"]),
        (&json!("fan replaced"), &json!("admin"))
    );
    assert_eq!(story["events"][0]["body"]["values"], json!({ "t": 95 }));
    assert_eq!(story["events"][4]["peer"], "127.0.0.1");
    assert_eq!(story["raised"]["details"]["values"], json!({ "t": 95 }));
}

#[tokio::test]
async fn the_quality_of_alarms_is_shown_with_bounds_and_verdicts() {
    let (baken, router) = hot_node().await;
    let client = baken.client();
    let to = now_ms();
    let (from, location) = (to - 600_000, &router["location"]);
    let path = format!("/alarm-quality?location={location}&from={from}&to={to}");
    let quality = client.get(&path).await.unwrap();
    assert_eq!(quality["raised"], MACHINES);
    let measure = |name: &str| {
        let measures = quality["measures"].as_array().unwrap();
        measures.iter().find(|one| one["name"] == name).unwrap().clone()
    };
    let peak = measure("alarms_per_10_minutes_peak");
    assert_eq!((&peak["value"], &peak["verdict"]), (&json!(12.0), &json!("over")));
    assert_eq!(measure("share_of_time_in_flood")["value"], 1.0);
    assert_eq!(measure("chattering_alarms")["verdict"], "good");
    assert_eq!(measure("high_priority")["verdict"], "over");
    assert_eq!(measure("time_to_acknowledge_median")["value"], json!(null));
    assert_eq!(quality["floods"]["count"], 1);
    assert_eq!(quality["top_rules"][0]["share"], 1.0);
    for wrong in ["from=5&to=5", "operators=0", "from=0"] {
        let refused = client.get(&format!("/alarm-quality?{wrong}")).await.unwrap_err();
        assert_eq!(refused.status(), Some(422), "{wrong}");
    }
    let missing = client.get("/alarm-quality?location=999999").await.unwrap_err();
    assert_eq!(missing.status(), Some(404));
}

#[tokio::test]
async fn the_commands_show_alarms_act_on_them_and_export_events() {
    let (baken, _) = hot_node().await;
    let data = baken.dir.to_str().unwrap();
    let ask = async |args: &[&str]| {
        let output = run(&[args, &["--data", data]].concat()).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let table = ask(&["alarms", "list", "--severity", "critical", "--worst-first"]).await;
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(table.contains("m0 is at 95"), "{table}");
    let id = table.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert_eq!(ask(&["alarms", "acknowledge", &id]).await, "done\n");
    let shown = ask(&["alarms", "show", &id]).await;
    assert!(shown.contains("acknowledged_by: admin"), "{shown}");
    let cleared = ask(&["alarms", "clear", "--all", "--severity", "critical,major"]).await;
    assert!(cleared.contains("done: 12"), "{cleared}");
    let quality = ask(&["alarms", "quality"]).await;
    assert!(quality.contains("share_of_time_in_flood"), "{quality}");
    let csv = ask(&["events", "list", "--csv", "--kind", "alarm_cleared"]).await;
    assert_eq!(csv.lines().count(), 13, "{csv}");
    assert!(csv.starts_with("sequence,id,at,time,kind"), "{csv}");
    let listed = ask(&["events", "list", "--kind", "alarm_acknowledged"]).await;
    assert!(listed.contains("alarm_acknowledged") && listed.contains("admin"), "{listed}");
}
