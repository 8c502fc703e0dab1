//! Backups of a folder, taken from a node under load and at rest, and what is
//! refused.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::directory::Api;
use super::harness::{Baken, recent_ms, run, text, until};
use super::mqtt::Mqtt;
use super::outside::PROFILE;

const ROUTERS: usize = 4;

/// Many small files, so that some come and go while they are copied.
const BUSY: [&str; 10] = [
    "--set",
    "history.memtable_rows=1000",
    "--set",
    "history.memtable_age_ms=1000",
    "--set",
    "journal.segment_bytes=1048576",
    "--set",
    "alarms.snapshot_interval_ms=500",
    "--set",
    "journal.reserve_bytes=1048576",
];

/// A folder of a node and one of backups.
struct Place {
    temp: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.temp.path().join("data")
    }

    fn backups(&self) -> PathBuf {
        self.temp.path().join("backups")
    }

    async fn start_in(&self, data: &Path) -> Baken {
        let folder = format!("backup.folder={}", self.backups().display());
        let flags: Vec<&str> = [&["--set", folder.as_str()][..], &BUSY].concat();
        Baken::start_in(data, &flags).await
    }
}

async fn succeed(args: &[&str]) -> String {
    let output = run(args).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

async fn refused(args: &[&str]) -> String {
    let output = run(args).await;
    assert!(!output.status.success(), "{}", text(&output.stdout));
    text(&output.stderr)
}

/// A backup of the folder's node, running or not; its path.
async fn back_up(place: &Place, data: &Path, name: &str) -> PathBuf {
    let to = place.backups().join(name);
    let said = succeed(&["backup", "--data", utf8(data), "--to", utf8(&to)]).await;
    assert!(said.contains("is taken"), "{said}");
    to
}

fn utf8(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Publishes numbers one after another until it is told to stop.
pub struct Load {
    /// How many are acknowledged.
    acknowledged: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Load {
    pub async fn begin(baken: &Baken, router: &Value, ts: i64) -> Self {
        let (address, token) = (baken.run.mqtt.clone().unwrap(), router["token"].clone());
        let (acknowledged, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, ends) = (Arc::clone(&acknowledged), Arc::clone(&stop));
        let mut mqtt = Mqtt::connect(&address, token.as_str().unwrap()).await;
        let task = tokio::spawn(async move {
            let mut number = 0;
            while !ends.load(Ordering::Relaxed) {
                let at = ts + number;
                mqtt.telemetry(&format!(r#"{{"ts":{at},"values":{{"n":{number},"u":"x"}}}}"#))
                    .await;
                number += 1;
                counter.store(number, Ordering::SeqCst);
            }
        });
        Self { acknowledged, stop, task }
    }

    pub fn acknowledged(&self) -> i64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    pub async fn end(self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.acknowledged.load(Ordering::SeqCst)
    }
}

/// Changes the directory and a profile without pause, as people do meanwhile.
struct Changes {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u32>,
}

impl Changes {
    fn begin(baken: &Baken, location: Value, profile: Value) -> Self {
        let api = Api::new(baken, &baken.token());
        let (base, token) = (baken.run.api.clone(), baken.token());
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut number = 0;
            while !ends.load(Ordering::Relaxed) {
                number += 1;
                let router = json!({
                    "location": location, "name": format!("extra {number}"),
                    "credentials": { "type": "access_token" },
                });
                api.made("/routers", router).await;
                let text = profile_text(80 + number);
                save(&base, &token, &profile, text).await;
            }
            number
        });
        Self { stop, task }
    }

    async fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

pub async fn save(base: &str, token: &str, profile: &Value, text: String) {
    let url = format!("{base}/api/v1/alarm-profiles/{profile}");
    let request = reqwest::Client::new().put(url).bearer_auth(token).body(text);
    let request = request.header("content-type", "application/toml");
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

fn profile_text(threshold: u32) -> String {
    let other = format!(
        "[[rules]]\nkey = \"over\"\nraise.minor = {{ when = {{ key = \"over\", operator = \">\", \
         value = {threshold} }} }}\nclear = {{ when = {{ key = \"over\", operator = \"<\", value = \
         0 }} }}\n"
    );
    format!("{PROFILE}\n{other}")
}

/// All values of `n` of a device, oldest first.
pub async fn numbers(baken: &Baken, device: &Value) -> Vec<i64> {
    let (client, mut cursor, mut found) = (baken.client(), String::new(), Vec::new());
    loop {
        let path = format!("/devices/{device}/telemetry?key=n&order=asc&limit=1000{cursor}");
        let page = client.get(&path).await.unwrap();
        for reading in page["readings"].as_array().unwrap() {
            found.push(reading["value"].as_i64().unwrap());
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

async fn alarms(baken: &Baken) -> Vec<Value> {
    let page = baken.client().get("/alarms?limit=1000").await.unwrap();
    let mut alarms = page["items"].as_array().unwrap().clone();
    alarms.sort_by_key(|alarm| alarm["id"].to_string());
    alarms
}

async fn hot(baken: &Baken, wanted: usize) -> Vec<Value> {
    until("the alarms", async || {
        let all = alarms(baken).await;
        let hot: Vec<_> = all.into_iter().filter(|alarm| alarm["rule"] == "hot").collect();
        (hot.len() == wanted).then_some(hot)
    })
    .await
}

/// Routers of one tenant with an alarm each, of which the first is acknowledged.
async fn furnish(baken: &Baken, ts: i64) -> (Vec<Value>, Value) {
    let client = baken.client();
    let first = baken.router().await;
    let mut routers = vec![first.clone()];
    for number in 1..ROUTERS {
        let location = json!({ "tenant": first["tenant"], "name": format!("Site {number}") });
        let location = client.post("/locations", &location).await.unwrap();
        let router = json!({
            "location": location["id"], "name": format!("router {number}"),
            "credentials": { "type": "access_token" },
        });
        routers.push(client.post("/routers", &router).await.unwrap());
    }
    let profiles = format!("/alarm-profiles?tenant={}", first["tenant"]);
    let text = profile_text(80);
    let profile = client.post_text(&profiles, "application/toml", text).await.unwrap();
    for router in &routers {
        let token = router["token"].as_str().unwrap();
        let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
        mqtt.telemetry(&format!(r#"{{"ts":{ts},"values":{{"t":91.5}}}}"#)).await;
    }
    let raised = hot(baken, ROUTERS).await;
    let actions = format!("/alarms/{}/actions", raised[0]["id"].as_str().unwrap());
    client.post(&actions, &json!({ "action": "acknowledge" })).await.unwrap();
    (routers, profile["id"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_node_under_load_is_restored_and_goes_on() {
    let place = Place::new();
    let ts = recent_ms();
    let baken = place.start_in(&place.data()).await;
    let (routers, profile) = furnish(&baken, ts).await;
    let before = hot(&baken, ROUTERS).await;
    let mut loads = Vec::new();
    for router in &routers {
        loads.push(Load::begin(&baken, router, ts + 1_000).await);
    }
    let changes = Changes::begin(&baken, routers[0]["location"].clone(), profile.clone());
    let enough = |loads: &[Load], count| loads.iter().all(|load| load.acknowledged() >= count);
    until("some load", async || enough(&loads, 200).then_some(())).await;
    let first = back_up(&place, &place.data(), "first").await;
    let (passed, more) = (loads[0].acknowledged(), 300);
    until("more load", async || enough(&loads, passed + more).then_some(())).await;

    // What is acknowledged now must be in the backup that begins now.
    let acknowledged: Vec<i64> = loads.iter().map(Load::acknowledged).collect();
    let extra_before = baken.client().get("/routers?limit=1000").await.unwrap();
    let second = back_up(&place, &place.data(), "second").await;
    let mut total = 0;
    for load in loads {
        total += load.end().await;
    }
    assert!(total > acknowledged.iter().sum(), "the node took readings in meanwhile");
    assert!(changes.end().await > 1);
    shows_what_was_taken(&baken, &["first", "second"]).await;
    let metrics = baken.client().text("/metrics").await.unwrap();
    assert!(metrics.contains("baken_backups_total{outcome=\"taken\"} 2"), "{metrics}");
    let token = baken.token();
    baken.kill().await;
    std::fs::remove_dir_all(place.data()).unwrap();

    // Merging may have left none of the first one's history files.
    let (files, _) = private_and_shared(&first, &second);
    assert!(files > 10, "{files} files");
    let said = succeed(&["backup", "--check", utf8(&second)]).await;
    assert!(said.contains("is whole"), "{said}");
    let data = place.temp.path().join("again");
    let said = succeed(&["restore", "--from", utf8(&second), "--data", utf8(&data)]).await;
    assert!(said.contains("is restored"), "{said}");
    assert_eq!(std::fs::metadata(data.join("secret")).unwrap().mode() & 0o777, 0o600);

    let baken = place.start_in(&data).await;
    assert_eq!(baken.token(), token);
    for (router, acknowledged) in routers.iter().zip(&acknowledged) {
        let found = until("the readings", async || {
            let found = numbers(&baken, &router["device"]).await;
            (i64::try_from(found.len()).unwrap() >= *acknowledged).then_some(found)
        })
        .await;
        let expected: Vec<i64> = (0..i64::try_from(found.len()).unwrap()).collect();
        assert_eq!(found, expected, "each once, in order, and none left out");
    }
    let after = hot(&baken, ROUTERS).await;
    assert_eq!(before, after, "alarms as they were");
    let story =
        format!("/events?alarm={}&kind=alarm_acknowledged", before[0]["id"].as_str().unwrap());
    let events = baken.client().get(&story).await.unwrap();
    assert_eq!(events["items"].as_array().unwrap().len(), 1, "{events}");
    assert_eq!(events["items"][0]["actor"], json!("admin"), "{events}");
    routers_are_told_once(&baken, &extra_before).await;
    goes_on(&baken, &routers, &profile, ts + 10_000_000).await;
    let (status, log) = baken.stop().await;
    assert!(status.success() && !log.contains("ERROR"), "{status}:\n{log}");
}

async fn shows_what_was_taken(baken: &Baken, names: &[&str]) {
    let answer = baken.client().get("/backups").await.unwrap();
    let items = answer["items"].as_array().unwrap();
    let found: Vec<&str> = items.iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(found, names, "{answer}");
    assert!(items.iter().all(|item| item["bytes"].as_u64() > Some(0)), "{answer}");
    let events = baken.client().get("/events?kind=backup_taken").await.unwrap();
    let events = events["items"].as_array().unwrap();
    assert_eq!(events.len(), names.len(), "{events:#?}");
    assert_eq!(events[0]["actor"], json!("admin"), "{events:#?}");
}

/// Only its owner reads it. How many files it has, and how many of them are one
/// file with the other's.
fn private_and_shared(first: &Path, second: &Path) -> (usize, usize) {
    let mut folders = vec![second.to_owned()];
    let (mut files, mut shared) = (0, 0);
    while let Some(folder) = folders.pop() {
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700, "{folder:?}");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let meta = std::fs::metadata(&path).unwrap();
            assert_eq!(meta.mode() & 0o777, 0o600, "{path:?}");
            let below = path.strip_prefix(second).unwrap();
            let other = std::fs::metadata(first.join(below));
            files += 1;
            shared += usize::from(other.is_ok_and(|other| other.ino() == meta.ino()));
        }
    }
    (files, shared)
}

/// How many files of the history a folder holds.
fn history_files(folder: &Path) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found += match path.is_dir() {
            true => history_files(&path),
            false => usize::from(path.extension().is_some_and(|it| it == "parquet")),
        };
    }
    found
}

/// Every router that is there has the one event of its making, and those that
/// were there before the backup are.
async fn routers_are_told_once(baken: &Baken, before: &Value) {
    let client = baken.client();
    let routers = client.get("/routers?limit=1000").await.unwrap();
    let routers = routers["items"].as_array().unwrap();
    let before = before["items"].as_array().unwrap();
    assert!(routers.len() >= before.len(), "{} of {}", routers.len(), before.len());
    let mut told = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/events?kind=router_created&limit=1000{after}");
        let page = client.get(&path).await.unwrap();
        let items = page["items"].as_array().unwrap();
        told.extend(items.iter().map(|event| event["document"].as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    told.sort_unstable();
    let mut ids: Vec<u64> = routers.iter().map(|router| router["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(told, ids);
}

/// What was active clears under its id, and a profile that is saved is in force.
async fn goes_on(baken: &Baken, routers: &[Value], profile: &Value, ts: i64) {
    let before = hot(baken, ROUTERS).await;
    let text = profile_text(5);
    save(&baken.run.api, &baken.token(), profile, text).await;
    for router in routers {
        let token = router["token"].as_str().unwrap();
        let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
        mqtt.telemetry(&format!(r#"{{"ts":{ts},"values":{{"t":60.5,"over":6}}}}"#)).await;
    }
    let all = until("cleared, and raised by the saved profile", async || {
        let all = alarms(baken).await;
        let cleared = all.iter().filter(|it| it["rule"] == "hot" && it["active"] == json!(false));
        let over = all.iter().filter(|alarm| alarm["rule"] == "over");
        (cleared.count() == ROUTERS && over.count() == ROUTERS).then_some(all)
    })
    .await;
    let ids = |alarms: &[Value]| -> Vec<String> {
        let hot = alarms.iter().filter(|alarm| alarm["rule"] == "hot");
        hot.map(|alarm| alarm["id"].to_string()).collect()
    };
    assert_eq!(ids(&all), ids(&before), "none was raised anew");
}

/// A small node's backup, taken at rest.
async fn at_rest(place: &Place) -> PathBuf {
    let baken = place.start_in(&place.data()).await;
    let router = baken.router().await;
    let token = router["token"].as_str().unwrap();
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    mqtt.telemetry(r#"{"t":1}"#).await;
    until("a file of the history", async || (history_files(&place.data()) > 0).then_some(())).await;
    let (status, log) = baken.stop().await;
    assert!(status.success(), "{log}");
    back_up(place, &place.data(), "rest").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_changed_since_the_backup_before_is_there_once() {
    let place = Place::new();
    let first = at_rest(&place).await;
    let second = back_up(&place, &place.data(), "again").await;
    let (_, shared) = private_and_shared(&first, &second);
    assert!(shared >= history_files(&second), "{shared} of {}", history_files(&second));
    assert!(history_files(&second) > 0);
    // What one of them loses the other keeps.
    std::fs::remove_dir_all(&first).unwrap();
    let said = succeed(&["backup", "--check", utf8(&second)]).await;
    assert!(said.contains("is whole"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_at_rest_is_backed_up_and_a_bad_backup_is_refused_by_name() {
    let place = Place::new();
    let backup = at_rest(&place).await;
    let data = place.temp.path().join("again");
    let restore = ["restore", "--from", utf8(&backup), "--data", utf8(&data)];

    // One that is in use, or holds anything, is somebody's.
    let baken = place.start_in(&place.data()).await;
    let error = refused(&["restore", "--from", utf8(&backup), "--data", utf8(&place.data())]).await;
    assert!(error.contains("in use by another baken"), "{error}");
    let (status, log) = baken.stop().await;
    assert!(status.success(), "{log}");
    let error = refused(&["restore", "--from", utf8(&backup), "--data", utf8(&place.data())]).await;
    assert!(error.contains("must be empty or not there, but has \"admin-token\""), "{error}");
    // So is the folder of a backup.
    let error = refused(&["backup", "--data", utf8(&place.data()), "--to", utf8(&backup)]).await;
    assert!(error.contains("is there already"), "{error}");

    let path = backup.join("store/alarms.db");
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let named = format!("{} is damaged: its SHA-256 is", path.display());
    let error = refused(&restore).await;
    assert!(error.contains(&named), "{error}");
    let error = refused(&["backup", "--check", utf8(&backup)]).await;
    assert!(error.contains(&named), "{error}");
    assert!(!data.exists(), "nothing was written");
    std::fs::write(&path, &whole[1..]).unwrap();
    let error = refused(&restore).await;
    assert!(error.contains("bytes, but must have"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = refused(&restore).await;
    assert!(error.contains("alarms.db is in the backup's list, but not there"), "{error}");
    std::fs::write(&path, &whole).unwrap();

    // Broken off before its end.
    let (list, away) = (backup.join("backup.json"), backup.join("backup.json.away"));
    std::fs::rename(&list, &away).unwrap();
    let error = refused(&restore).await;
    assert!(error.contains("has no backup.json"), "{error}");
    std::fs::rename(&away, &list).unwrap();

    succeed(&restore).await;
    // As if it had been broken off.
    std::fs::write(data.join("restoring"), "").unwrap();
    let alone = ["serve", "--data", utf8(&data), "--api-listen", "127.0.0.1:0"];
    let error = refused(&alone).await;
    assert!(error.contains("whose restoring was broken off"), "{error}");
    std::fs::remove_file(data.join("restoring")).unwrap();
    let baken = place.start_in(&data).await;
    let devices = baken.client().get("/devices").await.unwrap();
    let device = &devices["items"][0]["id"];
    let latest = baken.client().get(&format!("/devices/{device}/telemetry/latest")).await.unwrap();
    assert_eq!(latest["readings"]["t"]["value"], json!(1), "{latest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_begin_a_backup_and_where_it_may_go() {
    let place = Place::new();
    let baken = place.start_in(&place.data()).await;
    let api = Api::new(&baken, &baken.token());
    let (tenant, _) = api.site("Acme").await;
    let token = json!({ "name": "its own", "tenant": tenant["id"] });
    let token = api.made("/tokens", token).await;
    let own = Api::new(&baken, token["token"].as_str().unwrap());
    assert_eq!(own.refused(Method::POST, "/backups", json!({})).await.0, 403);
    assert_eq!(own.get("/backups").await.status, 403);
    let reader = api.made("/tokens", json!({ "name": "reads", "read_only": true })).await;
    let reader = Api::new(&baken, reader["token"].as_str().unwrap());
    assert_eq!(reader.refused(Method::POST, "/backups", json!({})).await.0, 403);
    for name in ["../data", "/etc/x", "", ".x"] {
        let (status, problem) =
            api.refused(Method::POST, "/backups", json!({ "name": name })).await;
        assert_eq!((status, &problem["field"]), (422, &json!("name")), "{name}: {problem}");
    }
    let path = json!({ "name": "x", "folder": "/tmp" });
    assert_eq!(api.refused(Method::POST, "/backups", path).await.0, 422);
    // The command asks for nothing that the node would not give.
    let elsewhere = place.temp.path().join("elsewhere/one");
    let error = refused(&["backup", "--data", utf8(&place.data()), "--to", utf8(&elsewhere)]).await;
    assert!(error.contains("directly below its `backup.folder`"), "{error}");
    // A name of its own where none is given.
    let said = succeed(&["backup", "--data", utf8(&place.data())]).await;
    assert!(said.contains("/backups/baken-2"), "{said}");
    let metrics = baken.client().text("/metrics").await.unwrap();
    let last = metrics.lines().find_map(|line| {
        line.strip_prefix("baken_backup_last_success_timestamp_seconds ")?.parse::<f64>().ok()
    });
    assert!(last.is_some_and(|last| last > 1.7e9), "{last:?}");

    // A node without the setting says so.
    let alone = Baken::start().await;
    let error = refused(&["backup", "--data", utf8(&alone.dir)]).await;
    assert!(error.contains("`backup.folder` is not set"), "{error}");
    assert!(!alone.client().text("/metrics").await.unwrap().contains("baken_backup"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_ends_its_backup_and_leaves_none() {
    let place = Place::new();
    let folder = format!("backup.folder={}", place.backups().display());
    let slow = ["--set", folder.as_str(), "--set", "backup.rate_bytes_per_s=10000"];
    let baken = Baken::start_in(&place.data(), &slow).await;
    baken.router().await;
    let begun = baken.client().post("/backups", &json!({ "name": "slow" })).await.unwrap();
    assert_eq!(begun["name"], "slow");
    let (status, problem) =
        Api::new(&baken, &baken.token()).refused(Method::POST, "/backups", json!({})).await;
    assert_eq!(status, 409, "{problem}");
    until("its folder", async || place.backups().join("slow").exists().then_some(())).await;
    let (status, log) = tokio::time::timeout(Duration::from_secs(60), baken.stop()).await.unwrap();
    assert!(status.success(), "{log}");
    assert!(!place.backups().join("slow").exists(), "{log}");
    assert!(log.contains("a backup failed"), "{log}");
}
