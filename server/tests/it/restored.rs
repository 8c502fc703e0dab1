//! An installation over Kafka and PostgreSQL, real ones, whose database is restored
//! to an earlier moment by PostgreSQL's own tools, or whose topic is lost.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::backup::{Load, numbers, save};
use super::directory::Api;
use super::harness::{Baken, recent_ms, serve, text, until};
use super::mqtt::Mqtt;
use super::nodes::Installation;
use super::outside::{PROFILE, kafka};
use super::postgres;

const ROUTERS: usize = 6;

/// The statements of docs/operations.md that begin with this comment.
fn documented(comment: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let document = std::fs::read_to_string(path).unwrap();
    let blocks = document.split("```sql\n").skip(1);
    let found = blocks.filter_map(|block| block.split_once("```")).map(|(sql, _)| sql);
    let mut found = found.filter(|sql| sql.starts_with(&format!("-- {comment}")));
    found.next().unwrap_or_else(|| panic!("no statements {comment:?}")).to_owned()
}

async fn execute(url: &str, sql: &str) {
    let (client, link) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let link = tokio::spawn(link);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    link.await.unwrap().unwrap();
}

async fn tool(name: &str, args: &[&str]) {
    let output = tokio::process::Command::new(name).args(args).stdin(Stdio::null()).output().await;
    let output = output.unwrap();
    assert!(output.status.success(), "{name}: {}", text(&output.stderr));
}

fn store(installation: &Installation) -> String {
    let place = installation.flags.iter().position(|flag| flag == "--store").unwrap();
    installation.flags[place + 1].clone()
}

/// Routers at locations of their own, with the alarms of the profile; the profile's id.
async fn furnish(baken: &Baken) -> (Vec<Value>, Value) {
    let api = Api::new(baken, &baken.token());
    let (tenant, _) = api.site("Acme").await;
    let profiles = format!("/alarm-profiles?tenant={}", tenant["id"]);
    let saved = baken.client().post_text(&profiles, "application/toml", PROFILE.to_owned()).await;
    let mut routers = Vec::new();
    for number in 0..ROUTERS {
        let location = json!({ "tenant": tenant["id"], "name": format!("Site {number}") });
        let location = api.made("/locations", location).await;
        routers.push(router(&api, &location["id"], &format!("router {number}")).await);
    }
    (routers, saved.unwrap()["id"].clone())
}

async fn router(api: &Api, location: &Value, name: &str) -> Value {
    let credentials = json!({ "type": "access_token" });
    api.made("/routers", json!({ "location": location, "name": name, "credentials": credentials }))
        .await
}

async fn publish(baken: &Baken, router: &Value, values: Value, ts: i64) {
    let token = router["token"].as_str().unwrap();
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    mqtt.telemetry(&json!({ "ts": ts, "values": values }).to_string()).await;
}

/// Each alarm of the rule with its story: what there is to be the same.
async fn stories(baken: &Baken, rule: &str) -> Vec<Value> {
    let client = baken.client();
    let page = client.get("/alarms?limit=1000").await.unwrap();
    let mut all = Vec::new();
    for alarm in page["items"].as_array().unwrap().iter().filter(|alarm| alarm["rule"] == rule) {
        let id = alarm["id"].as_str().unwrap();
        let events = client.get(&format!("/events?alarm={id}&limit=1000")).await.unwrap();
        let mut events: Vec<Value> = events["items"].as_array().unwrap().clone();
        // Their place among the events of all partitions may be another.
        events.iter_mut().for_each(|event| event["sequence"] = Value::Null);
        events.sort_by_key(|event| event["id"].to_string());
        all.push(json!({
            "id": id, "active": alarm["active"], "acknowledged": alarm["acknowledged"],
            "raised": alarm["raised"], "events": events,
        }));
    }
    all.sort_by_key(|alarm| alarm["id"].to_string());
    all
}

async fn settled(baken: &Baken, alarms: usize, active: usize) -> Vec<Value> {
    until(&format!("{alarms} alarms, {active} of them active"), async || {
        let all = stories(baken, "hot").await;
        let now = all.iter().filter(|alarm| alarm["active"] == json!(true)).count();
        (all.len() == alarms && now == active).then_some(all)
    })
    .await
}

async fn acknowledge(baken: &Baken, alarm: &Value) {
    let actions = format!("/alarms/{}/actions", alarm["id"].as_str().unwrap());
    baken.client().post(&actions, &json!({ "action": "acknowledge" })).await.unwrap();
}

async fn all_numbers(baken: &Baken, router: &Value, count: i64) {
    let found = until("the readings", async || {
        let found = numbers(baken, &router["device"]).await;
        (i64::try_from(found.len()).unwrap() >= count).then_some(found)
    })
    .await;
    assert_eq!(found, (0..count).collect::<Vec<_>>(), "each acknowledged reading once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_to_an_earlier_moment_is_brought_on_by_kafka() {
    let mut installation = Installation::new().await;
    let ts = recent_ms();
    let (one, two) = (installation.node("one", &[]).await, installation.node("two", &[]).await);
    let (routers, profile) = furnish(&one).await;
    for router in &routers[..3] {
        publish(&one, router, json!({ "t": 91.5 }), ts).await;
    }
    let raised = settled(&one, 3, 3).await;
    acknowledge(&one, &raised[0]).await;
    let mut loads = Vec::new();
    for router in &routers {
        loads.push(Load::begin(&one, router, ts + 1_000).await);
    }
    let some = |least: i64| loads.iter().all(|load| load.acknowledged() >= least);
    until("some load", async || some(20).then_some(())).await;

    // While all goes on.
    let dump = installation.folder.path().join("baken.dump");
    let url = store(&installation);
    tool("pg_dump", &["--format=custom", "--file", dump.to_str().unwrap(), &url]).await;

    let passed = loads.iter().map(Load::acknowledged).max().unwrap();
    until("more load", async || some(passed + 20).then_some(())).await;
    let mut counts = Vec::new();
    for load in loads {
        counts.push(load.end().await);
    }
    for router in &routers[3..] {
        publish(&one, router, json!({ "t": 92.5 }), ts + 500).await;
    }
    publish(&one, &routers[0], json!({ "t": 60.5 }), ts + 600).await;
    let all = settled(&one, ROUTERS, ROUTERS - 1).await;
    let fresh = all.iter().find(|alarm| raised.iter().all(|old| old["id"] != alarm["id"]));
    acknowledge(&one, fresh.unwrap()).await;
    // The directory's changes since are lost, and what such a router sent is nobody's.
    let api = Api::new(&one, &one.token());
    let lost = router(&api, &routers[0]["location"], "lost").await;
    publish(&one, &lost, json!({ "secret": 7 }), ts).await;
    save(&one.run.api, &one.token(), &profile, PROFILE.to_owned()).await;
    let before = settled(&one, ROUTERS, ROUTERS - 1).await;
    for (router, count) in routers.iter().zip(&counts) {
        all_numbers(&one, router, *count).await;
    }
    one.kill().await;
    two.kill().await;

    let url = postgres::shared().database().await;
    tool(
        "pg_restore",
        &["--exit-on-error", "--no-owner", "--dbname", &url, dump.to_str().unwrap()],
    )
    .await;
    execute(&url, &documented("after a dump was restored")).await;
    installation.set("--store", url);
    let (one, two) = (installation.node("one", &[]).await, installation.node("two", &[]).await);
    settled(&two, ROUTERS, ROUTERS - 1).await;
    // Whatever was committed last may still be on its way.
    until("the alarms as they were", async || (stories(&two, "hot").await == before).then_some(()))
        .await;
    for (router, count) in routers.iter().zip(&counts) {
        all_numbers(&one, router, *count).await;
    }
    goes_on(&one, &two, (&routers, &profile, &lost), ts + 10_000_000).await;
    let (status, log) = one.stop().await;
    assert!(status.success() && !log.contains("ERROR"), "{status}:\n{log}");
}

/// What is done from now on takes effect, and nothing of a lost router comes back.
async fn goes_on(
    one: &Baken,
    two: &Baken,
    (routers, profile, lost): (&[Value], &Value, &Value),
    ts: i64,
) {
    let api = Api::new(one, &one.token());
    Mqtt::refused(one.run.mqtt.as_deref().unwrap(), "it", lost["token"].as_str().unwrap()).await;
    let made = router(&api, &routers[0]["location"], "made again").await;
    assert!(made["device"].as_u64() > lost["device"].as_u64(), "{made}");
    let path = format!("/devices/{}/telemetry/latest", made["device"]);
    let latest = one.client().get(&path).await.unwrap();
    assert!(latest["readings"]["secret"].is_null(), "{latest}");
    // A version that the engines know from before must not be taken for this one.
    let text = PROFILE.replace("hot", "warm").replace("80", "50");
    save(&one.run.api, &one.token(), profile, format!("{PROFILE}{}", rules(&text))).await;
    publish(one, &routers[1], json!({ "t": 75.5 }), ts).await;
    until("an alarm of the saved profile", async || {
        let all = stories(two, "warm").await;
        all.iter().any(|alarm| alarm["active"] == json!(true)).then_some(())
    })
    .await;
}

/// The profile's text without its name.
fn rules(profile: &str) -> &str {
    &profile[profile.find("[[rules]]").unwrap()..]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_topic_is_told_and_not_passed_over() {
    let mut installation = Installation::new().await;
    let ts = recent_ms();
    let node = installation.node("one", &[]).await;
    let (routers, _) = furnish(&node).await;
    for router in &routers {
        publish(&node, router, json!({ "t": 91.5 }), ts).await;
    }
    let before = settled(&node, ROUTERS, ROUTERS).await;
    let (status, log) = node.stop().await;
    assert!(status.success(), "{log}");

    installation.set("--journal", kafka());
    let mut command = serve(&installation.folder.path().join("one"));
    let ended = tokio::time::timeout(
        2 * super::harness::DEADLINE,
        command.args(&installation.flags).output(),
    );
    let ended = ended.await.unwrap().unwrap();
    let log = text(&ended.stderr);
    assert!(!ended.status.success(), "{log}");
    assert!(log.contains("the journal was lost, replaced or restored without the store"), "{log}");
    assert!(log.contains("ends at 0, but "), "{log}");

    execute(&store(&installation), &documented("the topic was lost")).await;
    let node = installation.node("one", &[]).await;
    for router in &routers {
        publish(&node, router, json!({ "t": 60.5 }), ts + 1_000).await;
    }
    let after = settled(&node, ROUTERS, 0).await;
    let ids = |all: &[Value]| all.iter().map(|it| it["id"].to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&after), "they clear under their ids");
    let (status, log) = node.stop().await;
    assert!(status.success(), "{status}:\n{log}");
}
