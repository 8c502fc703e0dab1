//! Forwarders by the API and by commands, the alarms of those in trouble, and
//! where they may connect to.

use reqwest::Method;
use serde_json::{Value, json};
use server::client::ApiClient;

use super::directory::Api;
use super::harness::{Baken, recent_ms, run, text, until};
use super::mqtt::Mqtt;
use super::platform::{Answer, Double};

/// Platforms of the tests stand on this machine.
const ALLOWED: [&str; 2] = ["--set", "forwarders.allowed_networks=127.0.0.0/8"];

/// A node with a router that has a forwarder to a platform.
struct Site {
    baken: Baken,
    client: ApiClient,
    platform: Double,
    mqtt: Mqtt,
    forwarder: Value,
}

impl Site {
    async fn start() -> Self {
        let (baken, platform) = (Baken::start_with(&ALLOWED).await, Double::start().await);
        let (client, router) = (baken.client(), baken.router().await);
        let forwarder = client.post("/forwarders", &influxdb(&router, &platform.url())).await;
        let address = baken.run.mqtt.clone().unwrap();
        let mqtt = Mqtt::connect(&address, router["token"].as_str().unwrap()).await;
        Self { client, platform, mqtt, forwarder: forwarder.unwrap(), baken }
    }

    fn id(&self) -> String {
        self.forwarder["id"].to_string()
    }

    /// Publishes a reading, the number of seconds after a time of today.
    async fn publish(&mut self, second: i64, value: &Value) {
        let ts = recent_ms() / 3_600_000 * 3_600_000 + second * 1_000;
        self.mqtt.telemetry(&json!({ "ts": ts, "values": { "t": value } }).to_string()).await;
    }

    async fn deed(&self, name: &str) {
        let path = format!("/forwarders/{}/{name}", self.id());
        self.client.post(&path, &json!({})).await.unwrap();
    }

    /// The newest of so many alarms of the forwarder, once it stands so and the
    /// others are over.
    async fn alarm(&self, active: bool, alarms: usize) -> Value {
        let rule = format!("forwarder_failing/{}", self.id());
        until(&format!("{rule}, active: {active}"), async || {
            let found = self.client.get("/alarms?limit=1000").await.unwrap();
            let mine = found["items"].as_array()?.iter().filter(|it| it["rule"] == *rule);
            let mine: Vec<&Value> = mine.collect();
            assert!(mine.len() <= alarms, "{mine:?}");
            let still = mine.iter().filter(|it| it["active"] == true).count();
            let newest = mine.iter().max_by_key(|it| it["raised"]["at"].as_i64())?;
            let is_so = mine.len() == alarms && still == usize::from(active);
            (is_so && newest["active"] == active).then(|| (*newest).clone())
        })
        .await
    }

    /// A command with `--json`: its exit code, and what it printed.
    async fn command(&self, args: &[&str]) -> (i32, Value) {
        let data = self.baken.dir.to_str().unwrap();
        let output = run(&[&["forwarders"], args, &["--data", data, "--json"]].concat()).await;
        let printed = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code().unwrap(), printed)
    }

    /// The same as a person sees it.
    async fn printed(&self, args: &[&str]) -> String {
        let data = self.baken.dir.to_str().unwrap();
        let output = run(&[&["forwarders"], args, &["--data", data]].concat()).await;
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    async fn accounting(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let id = self.id();
        until("an accounting", async || {
            let (code, found) = self.command(&["show", &id, "--accounting"]).await;
            assert_eq!(code, 0);
            wanted(&found).then_some(found)
        })
        .await
    }
}

fn influxdb(router: &Value, url: &str) -> Value {
    json!({
        "tenant": router["tenant"],
        "name": "North to the cloud",
        "scope": { "location": router["location"] },
        "platform": "influxdb",
        "settings": { "url": url, "bucket": "b" },
        "secrets": { "token": "a secret" },
        "items": [{ "key": "t", "data_type": "number", "settings": { "measurement": "m" } }],
    })
}

#[tokio::test]
async fn a_forwarder_that_its_platform_refuses_is_an_alarm_until_it_sends_again() {
    let mut site = Site::start().await;
    site.platform.answer(|_| Answer {
        body: r#"{"message":"unauthorized access"}"#.to_owned(),
        ..Answer::of(401)
    });
    site.publish(0, &json!(1)).await;
    let raised = site.alarm(true, 1).await;
    assert_eq!(
        (&raised["severity"], &raised["tenant"]),
        (&json!("major"), &site.forwarder["tenant"])
    );
    assert!(raised["device"].is_null(), "it is an alarm of the tenant: {raised}");
    let details = &raised["raised"]["details"];
    let said = details["description"].as_str().unwrap();
    assert!(said.starts_with("Forwarder North to the cloud sends nothing: "), "{said}");
    assert!(said.contains("401") && !said.contains("a secret"), "{said}");
    assert_eq!(details["values"]["forwarder"], site.forwarder["id"], "{details}");

    site.platform.answer(|_| Answer::of(204));
    site.deed("resume").await;
    let cleared = site.alarm(false, 1).await;
    assert_eq!(cleared["id"], raised["id"]);
    assert_eq!(site.platform.lines().len(), 1, "its data was kept");
}

#[tokio::test]
async fn a_forwarder_that_a_person_pauses_is_an_alarm_until_it_goes_on_or_is_gone() {
    let mut site = Site::start().await;
    site.deed("pause").await;
    let raised = site.alarm(true, 1).await;
    let said = raised["raised"]["details"]["description"].as_str().unwrap().to_owned();
    assert_eq!(said, "Forwarder North to the cloud sends nothing: paused by a person");
    site.publish(0, &json!(1)).await;
    site.deed("resume").await;
    site.alarm(false, 1).await;
    until("the reading", async || (site.platform.lines().len() == 1).then_some(())).await;

    site.deed("pause").await;
    let again = site.alarm(true, 2).await;
    assert_ne!(again["id"], raised["id"], "another alarm than before");
    site.client.delete(&format!("/forwarders/{}", site.id())).await.unwrap();
    site.alarm(false, 2).await;
}

#[tokio::test]
async fn commands_say_how_forwarders_stand_and_what_is_wrong() {
    let mut site = Site::start().await;
    let id = site.id();
    site.publish(0, &json!(21.5)).await;
    let counts = site.accounting(|found| found["sent"] == 1).await;
    assert_eq!((&counts["selected"], &counts["queued"]), (&json!(1), &json!(0)));

    let (code, listed) = site.command(&["list"]).await;
    assert_eq!((code, listed["items"].as_array().unwrap().len()), (0, 1));
    let (code, shown) = site.command(&["show", &id]).await;
    assert_eq!(code, 0);
    assert_eq!(listed["items"][0], shown);
    assert_eq!((&shown["state"], &shown["secrets"]), (&json!("connected"), &json!(["token"])));
    assert!(!shown.to_string().contains("a secret"), "{shown}");
    let tenant = site.forwarder["tenant"].to_string();
    assert_eq!(site.command(&["list", "--tenant", &tenant]).await.1, listed);
    let table = site.printed(&["list"]).await;
    let mut lines = table.lines();
    let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["id", "tenant", "platform", "state", "name", "detail"]);
    let row = lines.next().unwrap();
    assert!(row.contains("influxdb  connected  North to the cloud"), "{row}");

    let (code, tested) = site.command(&["test", &id]).await;
    assert_eq!((code, &tested["ok"]), (0, &json!(true)), "{tested}");
    site.platform.answer(|_| Answer::of(404));
    let (code, tested) = site.command(&["test", &id]).await;
    assert_eq!((code, &tested["ok"]), (1, &json!(false)), "a test that fails is an error");
    assert!(tested["message"].as_str().unwrap().contains("404"), "{tested}");

    let (code, paused) = site.command(&["pause", &id]).await;
    assert_eq!((code, &paused["paused"], &paused["state"]), (0, &json!(true), &json!("paused")));
    let (code, resumed) = site.command(&["resume", &id]).await;
    assert_eq!((code, &resumed["paused"]), (0, &json!(false)));
    let (code, _) = site.command(&["show", "999999"]).await;
    assert_eq!(code, 1);
}

#[tokio::test]
async fn dead_letters_are_read_sent_again_and_dropped_by_command() {
    let mut site = Site::start().await;
    let id = site.id();
    let refuses = |_: &_| Answer {
        body: r#"{"message":"field type conflict"}"#.to_owned(),
        ..Answer::of(400)
    };
    site.platform.answer(refuses);
    for second in 0..3 {
        site.publish(second, &json!(second)).await;
    }
    site.accounting(|found| found["dead_letters"] == 3).await;
    let letters = until("the dead letters", async || {
        let (code, found) = site.command(&["dead-letters", &id]).await;
        assert_eq!(code, 0);
        (found["items"].as_array().map(Vec::len) == Some(3)).then_some(found)
    })
    .await;
    let first = &letters["items"][0];
    assert!(first["reason"].as_str().unwrap().contains("field type conflict"), "{first}");
    assert_eq!(
        (&first["value"]["key"], &first["value"]["device_name"]),
        (&json!("t"), &json!("router"))
    );
    let (_, one) = site.command(&["dead-letters", &id, "--limit", "1"]).await;
    assert_eq!(one["items"], json!([first]));
    let table = site.printed(&["dead-letters", &id]).await;
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("field type conflict"), "{table}");

    let (code, refused) = site.command(&["dead-letters", &id, "--resend"]).await;
    assert_eq!(
        (code, &refused["sent"], &refused["refused"]),
        (0, &json!(0), &json!(3)),
        "{refused}"
    );
    site.platform.answer(|_| Answer::of(204));
    let (code, resent) = site.command(&["dead-letters", &id, "--resend"]).await;
    assert_eq!((code, &resent["sent"]), (0, &json!(3)), "{resent}");
    assert_eq!(site.platform.lines().len(), 3);
    let counts = site.accounting(|found| found["dead_letters"] == 0).await;
    assert_eq!(counts["sent"], 3, "{counts}");

    site.platform.answer(refuses);
    site.publish(10, &json!(10)).await;
    until("a dead letter", async || {
        let (_, found) = site.command(&["dead-letters", &id]).await;
        (found["items"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    let (code, dropped) = site.command(&["dead-letters", &id, "--drop"]).await;
    assert_eq!((code, &dropped["dropped"]), (0, &json!(1)), "{dropped}");
    let counts = site.accounting(|found| found["dead_letters"] == 0).await;
    assert_eq!(counts["dropped"]["dead_letter_dropped"], 1, "{counts}");
}

#[tokio::test]
async fn a_tenant_s_forwarder_connects_to_nothing_inside() {
    let baken = Baken::start().await;
    let (api, router) = (Api::new(&baken, &baken.token()), baken.router().await);
    for host in ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "localhost", "0x7f.1"] {
        let forwarder = influxdb(&router, &format!("http://{host}:8086"));
        let (status, problem) = api.refused(Method::POST, "/forwarders", forwarder).await;
        assert_eq!((status, &problem["field"]), (422, &json!("settings.url")), "{problem}");
        let told = problem["detail"].as_str().unwrap();
        assert!(told.contains("forwarders.allowed_networks"), "{told}");
    }
    let string = "HostName=localhost;DeviceId=d;SharedAccessKey=a2V5";
    let mut azure = influxdb(&router, "");
    azure["platform"] = json!("azure_iot_hub");
    azure["settings"] = json!({ "authentication": "connection_string" });
    azure["secrets"] = json!({ "connection_string": string });
    azure["items"] = json!([]);
    let (status, problem) = api.refused(Method::POST, "/forwarders", azure.clone()).await;
    assert_eq!(
        (status, &problem["field"]),
        (422, &json!("secrets.connection_string")),
        "{problem}"
    );

    // A name tells only when it is looked up that it leads inside.
    azure["secrets"] = json!({ "connection_string": string.replace("localhost", "0x7f.1") });
    let saved = api.made("/forwarders", azure).await;
    let path = format!("/forwarders/{}", saved["id"]);
    let tested = api.ask(Method::POST, &format!("{path}/test"), Some(json!({}))).await.body;
    assert_eq!(tested["ok"], false);
    assert!(tested["message"].as_str().unwrap().contains("127.0.0.1"), "{tested}");
    let address = baken.run.mqtt.clone().unwrap();
    let mut mqtt = Mqtt::connect(&address, router["token"].as_str().unwrap()).await;
    mqtt.telemetry(r#"{"t":1}"#).await;
    let paused = until("the forwarder to be paused", async || {
        let found = api.get(&path).await.body;
        (found["state"] == "paused").then_some(found)
    })
    .await;
    assert!(paused["detail"].as_str().unwrap().contains("allowed_networks"), "{paused}");
}

#[tokio::test]
async fn networks_that_the_operator_does_not_write_as_such_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let setting = "forwarders.allowed_networks=10.1.2.3/8";
    let output = run(&["serve", "--data", data, "--set", setting]).await;
    assert!(!output.status.success());
    let told = text(&output.stderr);
    assert!(told.contains("forwarders.allowed_networks") && told.contains("10.1.2.3/8"), "{told}");
}
