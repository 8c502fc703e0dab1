//! Nodes that share a journal in Kafka and a store in PostgreSQL, real ones, and
//! divide the work.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::directory::Api;
use super::harness::{Baken, recent_ms, run, text, until};
use super::mqtt::Mqtt;
use super::outside::{PROFILE, kafka};
use super::postgres;
use super::wire::Wire;

/// More than partitions, so that each node has the alarms of some.
pub const ROUTERS: i64 = 8;

/// An installation that several nodes serve.
pub struct Installation {
    pub folder: TempDir,
    pub flags: Vec<String>,
}

impl Installation {
    pub async fn new() -> Self {
        Self::with(&kafka()).await
    }

    /// Over a journal of the caller's.
    pub async fn with(journal: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "5a".repeat(32)).unwrap();
        let store = postgres::shared().database().await;
        let secret = format!("server.secret_file={}", secret.display());
        let flags = ["--journal", journal, "--store", &store, "--set", &secret];
        Self { folder, flags: flags.map(str::to_owned).to_vec() }
    }

    /// Another address of the journal or the store: `flag` is `--journal` or `--store`.
    pub fn set(&mut self, flag: &str, url: String) {
        let place = self.flags.iter().position(|it| it == flag).unwrap();
        self.flags[place + 1] = url;
    }

    pub async fn node(&self, name: &str, more: &[&str]) -> Baken {
        let dir = self.folder.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let node = format!("server.node={name}");
        let mut flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        flags.extend(["--set", node.as_str()]);
        flags.extend(more);
        let baken = Baken::start_in(&dir, &flags).await;
        self.share_token(&dir);
        baken
    }

    /// The first start's token is the installation's.
    fn share_token(&self, dir: &Path) {
        let (own, first) = (dir.join("admin-token"), self.folder.path().join("admin-token"));
        match own.exists() {
            true => std::fs::copy(own, first).unwrap(),
            false => std::fs::copy(first, own).unwrap(),
        };
    }
}

#[allow(clippy::print_stdout, reason = "the figures that the measurements are written from")]
fn say(line: &str) {
    println!("{line}");
}

/// A metric's value with exactly these labels; none where it is not told.
pub async fn metric(baken: &Baken, named: &str) -> Option<f64> {
    let metrics = baken.client().text("/metrics").await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(named)).map(str::to_owned);
    line.and_then(|value| value.trim().parse().ok())
}

/// Partitions of which a node tells how far a reader is behind.
async fn read(baken: &Baken, reader: &str) -> usize {
    let metrics = baken.client().text("/metrics").await.unwrap();
    let lines = metrics.lines().filter(|line| line.starts_with("baken_journal_reader_lag_records"));
    lines.filter(|line| line.contains(&format!("reader=\"{reader}\""))).count()
}

pub async fn owned(baken: &Baken, role: &str) -> f64 {
    metric(baken, &format!("baken_partitions_owned{{role=\"{role}\"}}")).await.unwrap_or_default()
}

/// Routers of one tenant at locations of their own, with the alarm of the profile.
pub async fn routers(baken: &Baken) -> Vec<Value> {
    let client = baken.client();
    let tenant = client.post("/tenants", &json!({ "name": "Acme" })).await.unwrap();
    let profiles = format!("/alarm-profiles?tenant={}", tenant["id"]);
    client.post_text(&profiles, "application/toml", PROFILE.to_owned()).await.unwrap();
    let mut routers = Vec::new();
    for number in 0..ROUTERS {
        let location = json!({ "tenant": tenant["id"], "name": format!("Site {number}") });
        let location = client.post("/locations", &location).await.unwrap();
        let router = json!({
            "location": location["id"],
            "name": format!("router {number}"),
            "credentials": { "type": "access_token" },
        });
        routers.push(client.post("/routers", &router).await.unwrap());
    }
    routers
}

pub async fn publish(connections: &mut [Mqtt], at: i64, value: f64) {
    for mqtt in connections {
        mqtt.telemetry(&format!(r#"{{"ts":{at},"values":{{"t":{value}}}}}"#)).await;
    }
}

/// Waits until so many alarms are active; there is one of each router at most.
async fn active(baken: &Baken, wanted: i64) -> Vec<Value> {
    until(&format!("{wanted} active alarms"), async || {
        let page = baken.client().get("/alarms?limit=100").await.unwrap();
        let items = page["items"].as_array().unwrap().clone();
        let own: Vec<Value> = items.into_iter().filter(|it| it["rule"] == json!("hot")).collect();
        let active = own.iter().filter(|alarm| alarm["active"] == json!(true)).count();
        (i64::try_from(active) == Ok(wanted)).then_some(own)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_divide_the_partitions_and_go_on_for_one_that_is_killed() {
    let installation = Installation::new().await;
    let one = installation.node("one", &[]).await;
    let two =
        installation.node("two", &["--roles", "recorder,alarms,notifier,forwarders,api"]).await;
    for role in ["alarms", "recorder"] {
        until("both have partitions", async || {
            let both = (owned(&one, role).await, owned(&two, role).await);
            (both.0 >= 1.0 && both.1 >= 1.0 && both.0 + both.1 == 3.0).then_some(())
        })
        .await;
    }
    for (reader, all) in [("recorder", 3), ("forwarders", 3)] {
        until("each partition is one node's to read", async || {
            (read(&one, reader).await + read(&two, reader).await == all).then_some(())
        })
        .await;
    }
    for role in ["notifier", "forwarders"] {
        let all = owned(&one, role).await + owned(&two, role).await;
        assert!(all <= 3.0, "{role}: {all}");
    }
    assert_eq!(two.run.mqtt, None, "a node without the role takes no routers in");
    let info = "baken_node_info{node=\"two\",roles=\"recorder,alarms,notifier,forwarders,api\"";
    assert!(two.client().text("/metrics").await.unwrap().contains(info));

    let routers = routers(&two).await;
    let mut connections = Vec::new();
    for router in &routers {
        let (path, token) =
            (format!("/routers/{}", router["id"]), router["token"].as_str().unwrap());
        // The other node has made it, and this one hears of it.
        until("the router", async || one.client().get(&path).await.ok()).await;
        connections.push(Mqtt::connect(one.run.mqtt.as_deref().unwrap(), token).await);
    }
    let ts = recent_ms();
    publish(&mut connections, ts, 91.5).await;
    let raised = active(&two, ROUTERS).await;
    // What is done to an alarm takes effect wherever its partition is.
    for alarm in &raised {
        let actions = format!("/alarms/{}/actions", alarm["id"].as_str().unwrap());
        two.client().post(&actions, &json!({ "action": "acknowledge" })).await.unwrap();
    }

    two.kill().await;
    let killed = Instant::now();
    publish(&mut connections, ts + 1_000, 60.5).await;
    let cleared = active(&one, 0).await;
    let took = killed.elapsed();
    assert_eq!(cleared.len(), raised.len(), "each was raised once");
    assert!(cleared.iter().all(|alarm| alarm["acknowledged"] == json!(true)), "{cleared:#?}");
    assert_eq!(owned(&one, "alarms").await, 3.0);
    say(&format!("partitions of a killed node were caught up after {took:?}"));
    for router in &routers {
        let path = format!("/devices/{}/telemetry/latest", router["device"]);
        until("the last reading", async || {
            let latest = one.client().get(&path).await.unwrap();
            (latest["readings"]["t"]["value"] == json!(60.5)).then_some(())
        })
        .await;
    }

    let again = installation.node("two", &["--roles", "recorder,alarms,api"]).await;
    until("it has partitions again", async || (owned(&again, "alarms").await >= 1.0).then_some(()))
        .await;
    publish(&mut connections, ts + 2_000, 92.5).await;
    let all = active(&one, ROUTERS).await;
    assert_eq!(all.len(), 2 * raised.len(), "raised anew, once");
    let (status, log) = again.stop().await;
    assert!(status.success(), "{status}:\n{log}");
    until("all are the first's", async || (owned(&one, "alarms").await == 3.0).then_some(())).await;
    let (status, log) = one.stop().await;
    assert!(status.success(), "{status}:\n{log}");
}

/// Short times, so that a test need not wait for long.
const QUICK: [&str; 4] =
    ["--set", "mqtt.presence.start_grace_ms=500", "--set", "mqtt.presence.node_dead_ms=5000"];

fn mqtt(baken: &Baken) -> &str {
    baken.run.mqtt.as_deref().unwrap()
}

/// Two nodes that take routers, and one that both know.
async fn pair() -> (Installation, Baken, Baken, Value) {
    let installation = Installation::new().await;
    let one = installation.node("one", &QUICK).await;
    let two = installation.node("two", &QUICK).await;
    let router = routers(&one).await.remove(0);
    let path = format!("/routers/{}", router["id"]);
    until("the router", async || two.client().get(&path).await.ok()).await;
    (installation, one, two, router)
}

/// Waits until a node knows that another one, or none, holds the router.
async fn held_by(baken: &Baken, router: &Value, holder: Option<&str>) -> Value {
    let path = format!("/routers/{}/sessions", router["id"]);
    until(&format!("held by {holder:?}"), async || {
        let page = baken.client().get(&path).await.ok()?;
        let items = page["items"].as_array().unwrap();
        let names: Vec<Option<&str>> = items.iter().map(|it| it["node"].as_str()).collect();
        let expected: Vec<Option<&str>> = holder.into_iter().map(Some).collect();
        (names == expected).then(|| page["items"].clone())
    })
    .await
}

/// What was ever said of whether the router is there, oldest first.
async fn said(baken: &Baken, router: &Value) -> Vec<(i64, bool)> {
    let key = "telemetry?key=$baken.connected&limit=1000&order=asc";
    let path = format!("/devices/{}/{key}", router["device"]);
    let page = baken.client().get(&path).await.unwrap();
    let said = page["readings"].as_array().unwrap().iter();
    said.map(|it| (it["ts"].as_i64().unwrap(), it["value"].as_bool().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_is_with_the_node_to_which_it_came_last_and_reached_there() {
    let (_installation, one, two, router) = pair().await;
    let token = router["token"].as_str().unwrap();
    let device = format!("/devices/{}", router["device"]);

    let mut first = Wire::connect(mqtt(&one), token, None).await.unwrap();
    let sessions = held_by(&two, &router, Some("one")).await;
    assert_eq!(sessions[0]["client_id"], "wire");
    assert_eq!(sessions[0].get("publishes"), None, "only the other knows");
    let shown = two.client().get(&format!("/routers/{}", router["id"])).await.unwrap();
    assert_eq!(shown["connected"], true);

    // What goes down reaches it by the other node.
    first.subscribe("v1/devices/me/rpc/request/+").await;
    let (path, call) = (format!("{device}/rpc"), json!({ "method": "reset", "params": 7 }));
    let client = two.client();
    let answered = async {
        let (topic, payload) = first.published().await;
        let call: Value = serde_json::from_str(&payload).unwrap();
        assert_eq!((&call["method"], &call["params"]), (&json!("reset"), &json!(7)));
        first.publish(&topic.replace("request", "response"), r#"{"done":true}"#).await;
    };
    let (answer, ()) = tokio::join!(client.post(&path, &call), answered);
    assert_eq!(answer.unwrap(), json!({ "result": { "done": true } }));
    first.subscribe("v1/devices/me/attributes").await;
    let shared = format!("{device}/attributes/shared");
    let api = Api::new(&two, &two.token());
    assert_eq!(api.ask(Method::PATCH, &shared, Some(json!({ "rate": 5 }))).await.status, 204);
    assert_eq!(first.published().await.1, r#"{"rate":5}"#);

    // It comes to the other node, and is told to go by the first.
    let mut second = Wire::connect(mqtt(&two), token, None).await.unwrap();
    first.ended().await;
    held_by(&one, &router, Some("two")).await;
    let yielded = metric(&one, "baken_cluster_yielded_connections_total").await;
    assert_eq!(yielded, Some(1.0));
    until("both said that it is there", async || {
        (said(&one, &router).await.len() >= 2).then_some(())
    })
    .await;
    assert!(said(&one, &router).await.iter().all(|(_, connected)| *connected), "never gone");

    // Its node dies: it has gone when that node was heard last, said once.
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let killed_at = i64::try_from(since_1970.as_millis()).unwrap();
    two.kill().await;
    second.ended().await;
    let gone = until("it is said to have gone", async || {
        let said = said(&one, &router).await;
        said.last().is_some_and(|(_, connected)| !connected).then_some(said)
    })
    .await;
    let (at, _) = gone.last().unwrap();
    assert!((killed_at - 10_000..=killed_at + 5_000).contains(at), "{at}, killed at {killed_at}");
    held_by(&one, &router, None).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let times_gone = said(&one, &router).await.iter().filter(|(_, connected)| !connected).count();
    assert_eq!(times_gone, 1);
    let (status, log) = one.stop().await;
    assert!(status.success(), "{status}:\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_are_asked_to_go_elsewhere_before_a_node_stops() {
    let (_installation, one, two, router) = pair().await;
    let token = router["token"].as_str().unwrap();
    let mut first = Wire::connect_v5(mqtt(&one), token).await;
    held_by(&two, &router, Some("one")).await;
    until("the other node is known", async || {
        (metric(&one, "baken_cluster_nodes").await == Some(2.0)).then_some(())
    })
    .await;

    let stopping = tokio::spawn(one.stop());
    assert_eq!(first.goodbye().await, 0x9c, "use another server");
    let _second = Wire::connect_v5(mqtt(&two), token).await;
    let (status, log) = stopping.await.unwrap();
    assert!(status.success(), "{status}:\n{log}");
    // The node that stopped is taken for dead by then.
    until("it has been forgotten", async || {
        (metric(&two, "baken_cluster_nodes").await == Some(1.0)).then_some(())
    })
    .await;
    let said = said(&two, &router).await;
    assert!(said.iter().all(|(_, connected)| *connected), "it was never away: {said:?}");
    // Alone, a node asks nobody to go elsewhere.
    let (status, log) = two.stop().await;
    assert!(status.success(), "{status}:\n{log}");
}

#[tokio::test]
async fn roles_are_divided_only_where_journal_and_store_are_shared() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let output = run(&["serve", "--data", data, "--roles", "ingest,alarms"]).await;
    assert!(!output.status.success());
    let told = text(&output.stderr);
    assert!(told.contains("`journal.url` and `store.url` must say where they share it"), "{told}");
    let output = run(&["serve", "--data", data, "--roles", "ingest,cook"]).await;
    let told = text(&output.stderr);
    assert!(told.contains("server.roles") && told.contains("\"cook\" is no role"), "{told}");
}
