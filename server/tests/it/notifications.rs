//! People are told of alarms: by a real Postfix, with links that act, through
//! kills of the server and a relay that is away.

#![allow(clippy::print_stdout, reason = "seeds and figures are for people to read")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use server::client::ApiClient;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::harness::{Baken, baken, text, until};
use super::mqtt::Mqtt;
use super::postfix::Postfix;

const PROFILE: &str = "name = \"Cold stores\"\n\n[[rules]]\nkey = \"too_warm\"\n\
    description = \"${device} is at ${temperature}\"\n\
    raise.major = { when = { key = \"temperature\", operator = \">\", value = 10 } }\n\
    clear = { when = { key = \"temperature\", operator = \"<\", value = 8 } }\n";

/// A node whose mail goes to a Postfix, with a profile in force.
struct Told {
    baken: Option<Baken>,
    dir: TempDir,
    args: Vec<String>,
    router: Value,
    postfix: Postfix,
}

impl Told {
    async fn start(mailboxes: &[&str]) -> Self {
        let postfix = Postfix::start(mailboxes).await;
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, postfix.password()).unwrap();
        let settings = [
            format!("email.host={}", postfix.address().ip()),
            format!("email.port={}", postfix.address().port()),
            format!("email.user={}", postfix.user()),
            format!("email.password_file={}", password.display()),
            format!("email.ca_file={}", postfix.ca_file().display()),
            "email.from=Baken <alarms@example.test>".to_owned(),
            "public_url=https://baken.example.test".to_owned(),
            "webhook.allow_private_addresses=true".to_owned(),
            "webhook.allow_http=true".to_owned(),
        ];
        let args = settings
            .iter()
            .flat_map(|setting| ["--set".to_owned(), format!("notifications.{setting}")])
            .collect();
        let router = Value::Null;
        let mut told = Self { baken: None, dir, args, router, postfix };
        told.resume().await;
        told.router = told.baken().router().await;
        let tenant = told.router["tenant"].clone();
        let client = told.client();
        let path = format!("/alarm-profiles?tenant={tenant}");
        client.post_text(&path, "application/toml", PROFILE.to_owned()).await.unwrap();
        told
    }

    async fn resume(&mut self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        self.baken = Some(Baken::start_in(&self.dir.path().join("data"), &args).await);
    }

    fn baken(&self) -> &Baken {
        self.baken.as_ref().unwrap()
    }

    fn client(&self) -> ApiClient {
        self.baken().client()
    }

    async fn kill(&mut self) {
        self.baken.take().unwrap().kill().await;
    }

    async fn user(&self, name: &str, more: Value) -> Value {
        let mut body = json!({
            "tenant": self.router["tenant"], "name": name,
            "email": format!("{name}@example.test"), "time_zone": "Europe/Amsterdam",
        });
        for (field, value) in more.as_object().unwrap() {
            body[field] = value.clone();
        }
        self.client().post("/users", &body).await.unwrap()
    }

    async fn subscribe(&self, user: &Value, more: Value) -> Value {
        let mut body = json!({
            "user": user["id"], "channels": ["email"],
            "severity_from": "warning", "on": ["raised", "cleared"],
        });
        for (field, value) in more.as_object().unwrap() {
            body[field] = value.clone();
        }
        self.client().post("/subscriptions", &body).await.unwrap()
    }

    async fn mqtt(&self) -> Mqtt {
        let token = self.router["token"].as_str().unwrap();
        Mqtt::connect(self.baken().run.mqtt.as_deref().unwrap(), token).await
    }

    /// Messages of the log as they are once none is on its way any more.
    async fn settled(&self) -> Vec<Value> {
        until("all messages handed over", async || {
            let messages = self.client().get("/messages?limit=1000").await.unwrap();
            let items = messages["items"].as_array()?.clone();
            let waits = self.client().get("/notices?state=waits&limit=1").await.unwrap();
            let is_done = |it: &Value| it["state"] != "queued" && it["state"] != "on_its_way";
            let is_quiet = waits["items"] == json!([]) && items.iter().all(is_done);
            // An alarm that is on its way is told of by nothing yet.
            (is_quiet && !items.is_empty()).then_some(items)
        })
        .await
    }
}

/// The first link in a mail's plain text that stands behind a word.
fn link(mail: &super::postfix::Mail) -> String {
    let parsed = mail.parsed();
    let text = parsed.body_text(0).unwrap();
    let start = text.find("https://baken.example.test/links/").unwrap();
    let end = text[start..].find(char::is_whitespace).map_or(text.len(), |end| start + end);
    text[start..end].trim_start_matches("https://baken.example.test").to_owned()
}

async fn open(told: &Told, method: reqwest::Method, path: &str) -> (u16, String) {
    let url = format!("{}{path}", told.baken().run.api);
    let answer = reqwest::Client::new().request(method, url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn an_alarm_is_mailed_and_acknowledged_once_by_its_link() {
    let told = Told::start(&["eva"]).await;
    let eva = told.user("eva", json!({ "language": "nl" })).await;
    told.subscribe(&eva, json!({})).await;
    let mut mqtt = told.mqtt().await;
    mqtt.publish("v1/devices/me/telemetry", r#"{"temperature":12.5}"#).await;
    let messages = until("the message", async || {
        let found = told.client().get("/messages").await.unwrap();
        let items = found["items"].as_array()?.clone();
        items.first().is_some_and(|it| it["state"] == "sent").then_some(items)
    })
    .await;
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!((&messages[0]["kind"], &messages[0]["user"]), (&json!("raised"), &eva["id"]));

    let mails = told.postfix.mailbox("eva").await;
    assert_eq!(mails.len(), 1);
    let body = mails[0].parsed().body_text(0).unwrap().to_string();
    assert!(body.contains("router is at 12.5") && body.contains("North"), "{body}");
    let message_id = mails[0].header("Message-ID").unwrap();
    assert_eq!(message_id, format!("<{}@example.test>", messages[0]["id"].as_str().unwrap()));
    let one_click = mails[0].header("List-Unsubscribe-Post").unwrap();
    assert_eq!(one_click, "List-Unsubscribe=One-Click");

    // The log shows the text without the link that acts for Eva.
    let story_path = format!("/messages/{}", messages[0]["id"].as_str().unwrap());
    let story = told.client().get(&story_path).await.unwrap();
    assert!(!story["text"].as_str().unwrap().contains(&link(&mails[0])), "{story}");

    let path = link(&mails[0]);
    let (status, page) = open(&told, reqwest::Method::GET, &path).await;
    assert!(status == 200 && page.contains("Bevestigen"), "{status} {page}");
    let alarms = told.client().get("/alarms").await.unwrap();
    assert_eq!(alarms["items"][0]["acknowledged"], false, "a look changes nothing");
    let (status, page) = open(&told, reqwest::Method::POST, &path).await;
    assert!(status == 200 && page.contains("is bevestigd"), "{status} {page}");
    let alarms = told.client().get("/alarms").await.unwrap();
    assert_eq!(alarms["items"][0]["acknowledged"], true);
    let by = alarms["items"][0]["acknowledged_by"].as_str().unwrap();
    assert!(by.starts_with("user ") && by.contains("eva"), "{by}");
    for method in [reqwest::Method::GET, reqwest::Method::POST] {
        let (status, page) = open(&told, method, &path).await;
        assert!(status == 410 && page.contains("al gebruikt"), "{status} {page}");
    }
    let (status, _) = open(&told, reqwest::Method::POST, "/links/AAAA").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn one_click_ends_a_subscription_and_nobody_else_s() {
    let told = Told::start(&["eva", "jan"]).await;
    for name in ["eva", "jan"] {
        let user = told.user(name, json!({})).await;
        told.subscribe(&user, json!({})).await;
    }
    let mut mqtt = told.mqtt().await;
    mqtt.publish("v1/devices/me/telemetry", r#"{"temperature":12.5}"#).await;
    until("both messages", async || {
        let found = told.client().get("/messages?state=sent").await.unwrap();
        (found["items"].as_array()?.len() == 2).then_some(())
    })
    .await;
    let mails = told.postfix.mailbox("eva").await;
    let header = mails[0].header("List-Unsubscribe").unwrap();
    let url = header.trim_matches(|c| c == '<' || c == '>');
    let path = url.trim_start_matches("https://baken.example.test");
    let (status, _) = open(&told, reqwest::Method::POST, path).await;
    assert_eq!(status, 200);
    let subscriptions = told.client().get("/subscriptions").await.unwrap();
    let enabled: Vec<&Value> =
        subscriptions["items"].as_array().unwrap().iter().map(|it| &it["enabled"]).collect();
    assert_eq!(enabled, [&json!(false), &json!(true)]);
    // Events of one moment are written together.
    until("the event of the change", async || {
        let events = told.client().get("/events?kind=subscription_changed").await.unwrap();
        events["items"][0]["actor"].as_str()?.contains("by link").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_is_away_raises_one_alarm_and_loses_nothing() {
    let mut told = Told::start(&["eva"]).await;
    let path = format!("/tenants/{}", told.router["tenant"]);
    let delay = json!({ "system_alarms": { "undeliverable": { "delay_s": 1 } } });
    told.client().put(&path, &json!({ "name": "Acme", "settings": delay })).await.unwrap();
    let eva = told.user("eva", json!({})).await;
    told.subscribe(&eva, json!({ "rules": [{ "profile": profile(&told).await }] })).await;
    told.postfix.stop();
    let mut mqtt = told.mqtt().await;
    mqtt.publish("v1/devices/me/telemetry", r#"{"temperature":12.5}"#).await;
    let raised = system_alarm(&told, true).await;
    assert_eq!(raised["rule"], "notification_undeliverable/email", "{raised}");
    let waiting = told.client().get("/messages").await.unwrap();
    assert_eq!(waiting["items"].as_array().unwrap().len(), 1);
    told.postfix.resume().await;
    let cleared = system_alarm(&told, false).await;
    assert_eq!(cleared["id"], raised["id"]);
    let mails = told.postfix.mailbox("eva").await;
    assert_eq!(mails.len(), 1);
    let alarms = told.client().get("/alarms").await.unwrap();
    assert_eq!(alarms["items"].as_array().unwrap().len(), 2, "one of each: {alarms}");
}

async fn profile(told: &Told) -> Value {
    let profiles = told.client().get("/alarm-profiles").await.unwrap();
    let own = profiles["items"].as_array().unwrap().iter().find(|it| it["system"] == false);
    own.unwrap()["id"].clone()
}

async fn system_alarm(told: &Told, active: bool) -> Value {
    until("the system alarm", async || {
        let alarms = told.client().get("/alarms").await.unwrap();
        let is_meant = |it: &&Value| {
            let rule = it["rule"].as_str().unwrap();
            rule.starts_with("notification_undeliverable") && it["active"] == active
        };
        alarms["items"].as_array()?.iter().find(is_meant).cloned()
    })
    .await
}

#[tokio::test]
async fn the_command_prints_the_providers_answer_and_fails_where_nobody_took_it() {
    let told = Told::start(&["eva"]).await;
    let data = told.dir.path().join("data");
    let test = async |to: &str, channel: &str| {
        let mut command = baken();
        command.args(["notify", "test", "--to", to, "--channel", channel, "--data"]).arg(&data);
        let output = command.output().await.unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, said, _) = test("eva@example.test", "email").await;
    assert!(code == Some(0) && said.contains("queued as"), "{code:?} {said}");
    let (code, said, _) = test("nobody@example.test", "email").await;
    assert!(code == Some(1) && said.contains("550"), "{code:?} {said}");
    let (code, _, error) = test("+31612345678", "sms").await;
    assert!(code == Some(1) && error.contains("notifications.sms"), "{code:?} {error}");
    let (code, _, error) = test("no address", "email").await;
    assert!(code == Some(1) && error.contains("no e-mail address"), "{code:?} {error}");
    assert_eq!(told.postfix.mailbox("eva").await.len(), 1);
}

#[tokio::test]
async fn a_tenant_sees_no_message_of_another() {
    let told = Told::start(&["eva"]).await;
    let eva = told.user("eva", json!({})).await;
    told.subscribe(&eva, json!({})).await;
    told.mqtt().await.publish("v1/devices/me/telemetry", r#"{"temperature":12.5}"#).await;
    let messages = told.settled().await;
    let id = messages[0]["id"].as_str().unwrap();
    let admin = told.client();
    let other = admin.post("/tenants", &json!({ "name": "Other" })).await.unwrap();
    let token = json!({ "name": "theirs", "tenant": other["id"] });
    let token = admin.post("/tokens", &token).await.unwrap();
    let theirs = ApiClient::new(&told.baken().run.api, token["token"].as_str().unwrap()).unwrap();
    for path in ["/messages", "/notices"] {
        assert_eq!(theirs.get(path).await.unwrap()["items"], json!([]), "{path}");
    }
    for path in [format!("/messages/{id}"), format!("/messages?tenant={}", told.router["tenant"])] {
        let error = theirs.get(&path).await.unwrap_err();
        assert_eq!(error.status(), Some(404), "{path}: {error}");
    }
    let again = theirs.post(&format!("/messages/{id}/send-again"), &json!({})).await;
    assert_eq!(again.unwrap_err().status(), Some(404));
    let test = json!({ "channel": "email", "user": eva["id"] });
    assert_eq!(theirs.post("/messages/test", &test).await.unwrap_err().status(), Some(404));
}

/// Readings of many machines behind the router, of which each raises its alarm.
fn machines(from: usize, to: usize) -> String {
    let devices: BTreeMap<String, Value> = (from..to)
        .map(|number| (format!("machine {number}"), json!([{ "temperature": 20 }])))
        .collect();
    serde_json::to_string(&devices).unwrap()
}

/// The mailbox is the witness: every alarm's message is there, and none twice but
/// those that were with the relay when the server was killed, under the same id.
#[tokio::test]
async fn a_thousand_alarms_through_kills_are_mailed_once_each() {
    const ALARMS: usize = 1_000;
    const KILLS: usize = 8;
    let seed = std::env::var("BAKEN_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut told = Told::start(&["eva"]).await;
    let each = json!({ "limits": { "email": { "group_s": 0, "max_per_hour": 3600 } } });
    let eva = told.user("eva", each).await;
    told.subscribe(&eva, json!({ "rules": [{ "profile": profile(&told).await }] })).await;
    let mut published = 0;
    for kill in 0..=KILLS {
        let until = ALARMS * (kill + 1) / (KILLS + 1);
        let mut mqtt = told.mqtt().await;
        mqtt.publish("v1/gateway/telemetry", &machines(published, until)).await;
        published = until;
        if kill < KILLS {
            sleep(Duration::from_millis(random.random_range(20..1_500))).await;
            told.kill().await;
            told.resume().await;
        }
    }
    let alarms = told.client().get("/alarms/counts").await.unwrap();
    println!("alarms: {alarms}");
    let totals_path = format!("/notices/totals?tenant={}", told.router["tenant"]);
    until("all messages", async || {
        let totals = told.client().get(&totals_path).await.unwrap();
        let told_of: u64 = totals
            .as_array()?
            .iter()
            .filter(|total| total["state"] == "told")
            .filter_map(|total| total["count"].as_u64())
            .sum();
        (told_of == ALARMS as u64).then_some(())
    })
    .await;
    until("none on its way", async || {
        let queued = told.client().get("/messages?state=queued&limit=1").await.unwrap();
        let under_way = told.client().get("/messages?state=on_its_way&limit=1").await.unwrap();
        (queued["items"] == json!([]) && under_way["items"] == json!([])).then_some(())
    })
    .await;

    let mut by_id: HashMap<String, Vec<String>> = HashMap::new();
    for mail in told.postfix.mailbox("eva").await {
        let subject = mail.parsed().subject().unwrap_or_default().to_owned();
        by_id.entry(mail.header("Message-ID").unwrap()).or_default().push(subject);
    }
    let doubled: usize = by_id.values().map(|copies| copies.len() - 1).sum();
    println!("{} messages, {doubled} of them twice in the hand-over window", by_id.len());
    assert_eq!(by_id.len(), ALARMS, "each alarm has one message");
    for copies in by_id.values() {
        assert!(copies.iter().all(|copy| copy == &copies[0]), "a copy is the same: {copies:?}");
    }
    let interrupted = interrupted(&told).await;
    println!("{interrupted} were on their way at a kill");
    assert!(doubled as u64 <= interrupted, "twice only what was on its way");
}

async fn interrupted(told: &Told) -> u64 {
    let (mut after, mut interrupted) = (String::new(), 0);
    loop {
        let page = told.client().get(&format!("/messages?limit=1000{after}")).await.unwrap();
        let items = page["items"].as_array().unwrap();
        interrupted += items.iter().filter_map(|it| it["interrupted"].as_u64()).sum::<u64>();
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return interrupted,
        }
    }
}

/// Mails at 1,500 a minute: each is there once, and the figures are printed.
#[tokio::test]
async fn alarms_one_after_another_are_mailed_as_they_come() {
    const BATCHES: usize = 12;
    const BATCH: usize = 25;
    let told = Told::start(&["eva"]).await;
    let each = json!({ "limits": { "email": { "group_s": 0, "max_per_hour": 3600 } } });
    let eva = told.user("eva", each).await;
    told.subscribe(&eva, json!({ "rules": [{ "profile": profile(&told).await }] })).await;
    let mut mqtt = told.mqtt().await;
    let mut pace = tokio::time::interval(Duration::from_secs(1));
    let started = Instant::now();
    for batch in 0..BATCHES {
        pace.tick().await;
        let payload = machines(batch * BATCH, (batch + 1) * BATCH);
        mqtt.publish("v1/gateway/telemetry", &payload).await;
    }
    until("all mails sent", async || {
        let sent = told.client().get("/messages?state=sent&limit=1000").await.unwrap();
        (sent["items"].as_array()?.len() == BATCHES * BATCH).then_some(())
    })
    .await;
    let took = started.elapsed();
    let made = times(&told, "/notices?limit=1000", "message", "made_at").await;
    let sent = times(&told, "/messages?limit=1000", "id", "changed_at").await;
    let mut waits: Vec<i64> = made.iter().map(|(id, made)| sent[id] - made).collect();
    waits.sort_unstable();
    let (half, most) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
    println!(
        "{} mails in {took:?}; from the alarm's commit to the relay's word: p50 {half} ms, p99 {most} ms",
        waits.len()
    );
    assert_eq!(told.postfix.mailbox("eva").await.len(), BATCHES * BATCH);
}

async fn times(told: &Told, path: &str, id: &str, at: &str) -> HashMap<String, i64> {
    let found = told.client().get(path).await.unwrap();
    let items = found["items"].as_array().unwrap().iter();
    let pair = |it: &Value| Some((it[id].as_str()?.to_owned(), it[at].as_i64()?));
    items.filter_map(pair).collect()
}

/// Each is told of the first at once and of the rest in digests within the cap,
/// and the log accounts for every alarm.
#[tokio::test]
async fn a_storm_of_ten_thousand_alarms_is_a_handful_of_messages() {
    const ALARMS: usize = 10_000;
    const CAP: usize = 3;
    let names = ["a", "b", "c", "d", "e"];
    let told = Told::start(&names).await;
    for name in names {
        let few = json!({ "limits": { "email": { "group_s": 5, "max_per_hour": CAP } } });
        let user = told.user(name, few).await;
        told.subscribe(&user, json!({ "rules": [{ "profile": profile(&told).await }] })).await;
    }
    let mut mqtt = told.mqtt().await;
    let started = Instant::now();
    mqtt.publish("v1/gateway/telemetry", &machines(0, 1)).await;
    until("each has the first", async || {
        let sent = told.client().get("/messages?state=sent").await.unwrap();
        (sent["items"].as_array()?.len() == names.len()).then_some(())
    })
    .await;
    println!("the first was told after {:?}", started.elapsed());
    for from in (1..ALARMS).step_by(500) {
        let to = (from + 500).min(ALARMS);
        mqtt.publish("v1/gateway/telemetry", &machines(from, to)).await;
    }
    println!("published after {:?}", started.elapsed());
    let totals_path = format!("/notices/totals?tenant={}", told.router["tenant"]);
    let totals = until("all are accounted for", async || {
        let totals = told.client().get(&totals_path).await.unwrap();
        let count = |total: &Value| total["count"].as_u64();
        let all: u64 = totals.as_array()?.iter().filter_map(count).sum();
        // What is past the cap waits for the next hour; all else is told.
        let undecided = totals
            .as_array()?
            .iter()
            .any(|total| total["state"] == "waits" && total["reason"] != "capped");
        (all == (ALARMS * names.len()) as u64 && !undecided).then_some(totals)
    })
    .await;
    println!("accounted for after {:?}: {totals}", started.elapsed());
    for name in names {
        let mails = told.postfix.mailbox(name).await;
        assert!((2..=CAP).contains(&mails.len()), "{name} has {} messages", mails.len());
    }
    let dropped = totals.as_array().unwrap().iter().any(|total| total["state"] == "dropped");
    assert!(!dropped, "{totals}");
}
