//! The audit history from outside: who changed what, who came in, who was
//! refused; in pages, as CSV and live.

use std::collections::HashSet;

use serde_json::{Value, json};
use server::client::ApiClient;
use tokio::time::timeout;

use super::harness::{Baken, DEADLINE, recent_ms, until};
use super::mqtt::Mqtt;

fn http() -> reqwest::Client {
    server::install_crypto();
    reqwest::Client::new()
}

/// Waits for events of these kinds; as many as wanted or more.
async fn events(client: &ApiClient, query: &str, wanted: usize) -> Vec<Value> {
    until(&format!("{wanted} events of {query}"), async || {
        let found = client.get(&format!("/events?order=asc&limit=1000&{query}")).await.unwrap();
        let items = found["items"].as_array().unwrap().clone();
        (items.len() >= wanted).then_some(items)
    })
    .await
}

#[tokio::test]
async fn who_changed_what_is_told_with_before_and_after_to_their_tenant_only() {
    let dir = tempfile::tempdir().unwrap();
    let baken = Baken::start_in(dir.path(), &[]).await;
    let client = baken.client();
    let router = baken.router().await;
    let path = format!("/routers/{}", router["id"]);
    client.put(&path, &json!({ "enabled": false })).await.unwrap();
    let device = format!("/devices/{}", router["device"]);
    let call = json!({ "method": "restart", "params": { "in_s": 5 } });
    let refused = client.post(&format!("{device}/rpc"), &call).await.unwrap_err();
    assert_eq!(refused.status(), Some(409), "the router is not connected");
    let ours = json!({ "name": "ops", "tenant": router["tenant"] });
    let ours = client.post("/tokens", &ours).await.unwrap();
    let ops = ApiClient::new(&baken.run.api, ours["token"].as_str().unwrap()).unwrap();
    let other = client.post("/tenants", &json!({ "name": "Other" })).await.unwrap();

    let changed =
        events(&client, &format!("document={}&kind=router_changed", router["id"]), 1).await;
    let changed = &changed[0];
    assert_eq!((&changed["actor"], &changed["peer"]), (&json!("admin"), &json!("127.0.0.1")));
    assert!(changed["actor_token"].is_u64());
    let (before, after) = (&changed["body"]["before"], &changed["body"]["after"]);
    assert_eq!((&before["enabled"], &after["enabled"]), (&json!(true), &json!(false)));
    assert_eq!(after["credentials"], json!({ "type": "access_token" }));
    let called = events(&client, "kind=rpc_called", 1).await;
    assert_eq!(called[0]["body"], json!({ "method": "restart", "params": { "in_s": 5 } }));
    assert_eq!(called[0]["device"], router["device"]);

    // Wait until all is carried, then nothing of others is in sight.
    events(&client, "kind=tenant_created", 2).await;
    let seen = events(&ops, "", 4).await;
    assert!(seen.iter().all(|event| event["tenant"] == router["tenant"]), "{seen:?}");
    let hidden = ops.get(&format!("/events?tenant={}", other["id"])).await.unwrap_err();
    assert_eq!(hidden.status(), Some(404));
    let unknown = client.get("/events?kind=router_chnged").await.unwrap_err();
    assert_eq!(unknown.status(), Some(422));
    assert!(unknown.to_string().contains("router_changed"), "{unknown}");

    // Once, through a stop and a start.
    let all = events(&client, "kind=tenant_created,router_created,token_created", 5).await;
    client.post("/tenants", &json!({ "name": "The last" })).await.unwrap();
    // Answered, so it is kept; whether its event is carried by now is open.
    baken.kill().await;
    let baken = Baken::start_in(dir.path(), &[]).await;
    let last = events(&baken.client(), "kind=tenant_created", 3).await;
    let names: Vec<&Value> = last.iter().map(|event| &event["body"]["name"]).collect();
    assert_eq!(names, ["Acme", "Other", "The last"]);
    let again =
        events(&baken.client(), "kind=tenant_created,router_created,token_created", 5).await;
    assert_eq!(all, again[..all.len()]);
}

#[tokio::test]
async fn logins_and_refusals_are_told_without_secrets_and_a_flood_is_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let baken = Baken::start_in(dir.path(), &[]).await;
    let client = baken.client();
    let router = baken.router().await;
    let token = router["token"].as_str().unwrap();
    let about = format!("{}/api/v1/about", baken.run.api);
    for _ in 0..10 {
        let wrong = http().get(&about).bearer_auth("correct-horse-battery").send().await.unwrap();
        assert_eq!(wrong.status(), 401);
    }
    let refused = events(&client, "kind=api_refused", 1).await;
    assert_eq!(
        (&refused[0]["body"]["reason"], &refused[0]["peer"]),
        (&json!("unknown_token"), &json!("127.0.0.1"))
    );
    let reader = json!({ "name": "reader", "tenant": router["tenant"], "read_only": true });
    let reader = client.post("/tokens", &reader).await.unwrap();
    let reader = ApiClient::new(&baken.run.api, reader["token"].as_str().unwrap()).unwrap();
    reader.post("/tenants", &json!({ "name": "x" })).await.unwrap_err();
    let forbidden = until("the refusal of the reader", async || {
        let found = events(&client, "kind=api_refused", 1).await;
        found.into_iter().find(|event| event["body"]["reason"] == "forbidden")
    })
    .await;
    assert_eq!((&forbidden["actor"], &forbidden["tenant"]), (&json!("reader"), &router["tenant"]));

    let mqtt = baken.run.mqtt.as_deref().unwrap();
    for _ in 0..5 {
        Mqtt::refused(mqtt, "a-token-in-the-wrong-field", "not-a-token-of-ours").await;
    }
    let refused = events(&client, "kind=mqtt_refused", 1).await;
    assert_eq!(refused[0]["body"]["reason"], "bad_credentials");
    assert!(refused[0]["actor"].as_str().unwrap().starts_with("token:"));
    assert_eq!(refused[0]["body"]["client_id"], "a-to…");
    for _ in 0..3 {
        Mqtt::connect(mqtt, token).await;
    }
    let logins = events(&client, "kind=mqtt_login", 1).await;
    assert_eq!((logins[0]["document"].clone(), logins.len()), (router["id"].clone(), 1));
    assert_eq!(logins[0]["actor"], "router");
    assert_eq!(logins[0]["body"]["client_id"], "it");
    let admin = events(&client, "kind=api_login&actor=admin", 1).await;
    assert_eq!(admin.len(), 1, "once an hour, whatever the number of requests");

    let whole = client.text("/events?limit=1000").await.unwrap();
    for secret in ["correct-horse", "not-a-token", "a-token-in", token, &baken.token()] {
        assert!(!whole.contains(secret), "{secret} in {whole}");
    }
    // What was held back as a number is written at the latest at the stop; the
    // counts together are all that came.
    baken.stop().await;
    let baken = Baken::start_in(dir.path(), &[]).await;
    let count = |found: &[Value], reason: &str| -> u64 {
        let of = found.iter().filter(|event| event["body"]["reason"] == reason);
        of.map(|event| event["body"]["count"].as_u64().unwrap()).sum()
    };
    let refused = events(&baken.client(), "kind=api_refused,mqtt_refused", 3).await;
    assert_eq!((count(&refused, "unknown_token"), count(&refused, "bad_credentials")), (10, 5));
}

#[tokio::test]
async fn events_are_exported_as_csv_whole_and_without_formulas() {
    let baken = Baken::start().await;
    let client = baken.client();
    for number in 0..1_100 {
        let name = format!("=SUM({number})");
        client.post("/tokens", &json!({ "name": name })).await.unwrap();
    }
    events(&client, "kind=token_created&from=0", 1_000).await;
    let page = client.get("/events?kind=token_created&limit=1000&order=asc").await.unwrap();
    let next = page["next"].as_str().unwrap().to_owned();
    until("the last of them", async || {
        let path = format!("/events?kind=token_created&limit=1000&order=asc&after={next}");
        let rest = client.get(&path).await.unwrap();
        (rest["items"].as_array().unwrap().len() >= 101).then_some(())
    })
    .await;
    let url = format!("{}/api/v1/events?kind=token_created&order=asc", baken.run.api);
    let ask = |url: String| {
        http().get(url).bearer_auth(baken.token()).header("accept", "text/csv").send()
    };
    let answer = ask(url.clone()).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
    let text = answer.text().await.unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    // The admin's own token is the first.
    assert_eq!(rows.len(), 1_101);
    let body = head.iter().position(|name| name == "body").unwrap();
    let kept: Value = serde_json::from_str(&rows[1][body]).unwrap();
    assert_eq!(kept["name"], "=SUM(0)");
    let sequences: Vec<u64> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert!(sequences.is_sorted_by(|a, b| a < b));
    assert!(rows.iter().flatten().all(|cell| !cell.starts_with(['=', '+', '@'])));
    let limited = ask(format!("{url}&limit=5")).await.unwrap();
    assert_eq!(limited.status(), 422);
    let strange = http().get(&url).bearer_auth(baken.token()).header("accept", "text/html");
    assert_eq!(strange.send().await.unwrap().status(), 406);
}

/// A stream of events that is read as a browser reads it.
struct Stream {
    answer: reqwest::Response,
    buffer: String,
}

impl Stream {
    async fn open(baken: &Baken, token: &str, query: &str, last: Option<u64>) -> Self {
        let url = format!("{}/api/v1/events/stream{query}", baken.run.api);
        let mut request = http().get(url).bearer_auth(token);
        if let Some(last) = last {
            request = request.header("last-event-id", last.to_string());
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, buffer: String::new() }
    }

    /// The next event with its id; none when the stream has ended.
    async fn next(&mut self) -> Option<(u64, Value)> {
        loop {
            while let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(id), Some(data)) = (field("id: "), field("data: ")) {
                    return Some((id.parse().unwrap(), serde_json::from_str(data).unwrap()));
                }
            }
            let piece = timeout(DEADLINE, self.answer.chunk()).await.expect("nothing came");
            // Cut off is an end, too.
            let piece = piece.ok().flatten()?;
            self.buffer.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }
}

#[tokio::test]
async fn a_client_that_comes_back_sees_each_event_once() {
    let baken = Baken::start().await;
    let client = baken.client();
    let token = baken.token();
    let tenant = client.post("/tenants", &json!({ "name": "Acme" })).await.unwrap();
    const ALL: usize = 120;
    let making = {
        let (client, tenant) = (client.clone(), tenant["id"].clone());
        tokio::spawn(async move {
            for number in 0..ALL {
                let body = json!({ "tenant": tenant, "name": format!("L{number}") });
                client.post("/locations", &body).await.unwrap();
            }
        })
    };
    let (mut seen, mut last) = (Vec::new(), Some(0));
    while seen.len() < ALL {
        let mut stream = Stream::open(&baken, &token, "?kinds=location_created", last).await;
        // Some few each time, and away in the middle of whatever comes.
        for _ in 0..7 {
            if seen.len() == ALL {
                break;
            }
            let (id, event) = stream.next().await.expect("the stream goes on");
            assert_eq!(
                (event["sequence"].as_u64(), &event["kind"]),
                (Some(id), &json!("location_created"))
            );
            last = Some(id);
            seen.push((id, event["document"].as_u64().unwrap()));
        }
    }
    making.await.unwrap();
    let ids: HashSet<u64> = seen.iter().map(|(_, document)| *document).collect();
    assert_eq!(ids.len(), ALL, "each location once");
    assert!(seen.is_sorted_by(|a, b| a.0 < b.0));
    let table = events(&client, "kind=location_created", ALL).await;
    let table: Vec<u64> = table.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(seen.iter().map(|(id, _)| *id).collect::<Vec<_>>(), table);
}

const PROFILE: &str = r#"
    name = "Machines"
    [[rules]]
    key = "hot"
    raise.critical = { when = { key = "t", operator = ">", value = 90 } }
    clear = { when = { key = "t", operator = "<", value = 70 } }
"#;

#[tokio::test]
async fn transitions_are_followed_live_by_severity_each_once() {
    const SWINGS: usize = 25;
    let baken = Baken::start().await;
    let client = baken.client();
    let router = baken.router().await;
    let path = format!("/alarm-profiles?tenant={}", router["tenant"]);
    client.post_text(&path, "application/toml", PROFILE.to_owned()).await.unwrap();
    let mut mqtt = {
        let address = baken.run.mqtt.as_deref().unwrap();
        Mqtt::connect(address, router["token"].as_str().unwrap()).await
    };
    let start = recent_ms();
    let swinging = tokio::spawn(async move {
        for swing in 0..2 * SWINGS {
            let at = start + 1_000 * i64::try_from(swing).unwrap();
            let value = if swing % 2 == 0 { 95 } else { 60 };
            mqtt.telemetry(&format!(r#"{{"ts":{at},"values":{{"t":{value}}}}}"#)).await;
        }
    });
    let (token, mut seen, mut last) = (baken.token(), Vec::new(), Some(0));
    let query = format!("?severity_from=major&location={}", router["location"]);
    while seen.len() < 2 * SWINGS {
        let mut stream = Stream::open(&baken, &token, &query, last).await;
        for _ in 0..4 {
            if seen.len() == 2 * SWINGS {
                break;
            }
            let (id, event) = stream.next().await.expect("the stream goes on");
            assert_eq!(event["severity"], "critical");
            last = Some(id);
            seen.push((event["kind"].clone(), event["at"].as_i64().unwrap() - start));
        }
    }
    swinging.await.unwrap();
    let expected: Vec<(Value, i64)> = (0..2 * SWINGS)
        .map(|swing| {
            let kind = if swing % 2 == 0 { "alarm_raised" } else { "alarm_cleared" };
            (json!(kind), 1_000 * i64::try_from(swing).unwrap())
        })
        .collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_with_the_node_and_is_bounded() {
    let baken = Baken::start().await;
    let client = baken.client();
    let router = baken.router().await;
    let ours = json!({ "name": "ops", "tenant": router["tenant"] });
    let ours = client.post("/tokens", &ours).await.unwrap();
    let token = ours["token"].as_str().unwrap().to_owned();
    let mut stream = Stream::open(&baken, &token, "", Some(0)).await;
    let (_, first) = stream.next().await.unwrap();
    assert_eq!(first["tenant"], router["tenant"], "nothing of others");
    let mut many = Vec::new();
    for _ in 1..server::api::streams::MAX_STREAMS_PER_TENANT {
        many.push(Stream::open(&baken, &token, "", None).await);
    }
    let url = format!("{}/api/v1/events/stream", baken.run.api);
    let refused = http().get(&url).bearer_auth(&token).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    let other = Stream::open(&baken, &baken.token(), "", None).await;
    client.delete(&format!("/tokens/{}", ours["id"])).await.unwrap();
    while stream.next().await.is_some() {}
    for stream in &mut many {
        while stream.next().await.is_some() {}
    }
    until("the places of the ended streams", async || {
        let metrics = client.text("/metrics").await.unwrap();
        metrics.lines().any(|line| line == "baken_api_event_streams 1").then_some(())
    })
    .await;
    let (status, log) = baken.stop().await;
    assert!(status.success());
    assert!(!log.contains("cut off by the stop"), "{log}");
    drop(other);
}
