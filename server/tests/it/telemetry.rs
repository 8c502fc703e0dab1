//! Readings by the API: newest values, pages, buckets, media types, and who
//! sees what.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::directory::Api;
use super::harness::{Baken, DEADLINE};
use super::mqtt::Mqtt;

const STEP_MS: i64 = 1_000;
const COUNT: i64 = 25;

struct Site {
    baken: Baken,
    api: Api,
    /// Of the router's own device.
    path: String,
    start: i64,
}

/// A router that has sent [`COUNT`] readings of `t`, and some of other types.
async fn site() -> Site {
    let baken = Baken::start().await;
    let router = baken.router().await;
    let api = Api::new(&baken, &baken.token());
    let path = format!("/devices/{}/telemetry", router["device"]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let start = i64::try_from(now).unwrap() - 3_600_000;
    let token = router["token"].as_str().unwrap();
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    for n in 0..COUNT {
        let ts = start + n * STEP_MS;
        mqtt.telemetry(&format!(r#"{{"ts":{ts},"values":{{"t":{n}.5}}}}"#)).await;
    }
    let last = start + COUNT * STEP_MS;
    let other = format!(r#"{{"ts":{last},"values":{{"on":true,"s":"ä,b","j":{{"a":[1]}}}}}}"#);
    mqtt.telemetry(&other).await;
    let site = Site { baken, api, path, start };
    let until = Instant::now() + DEADLINE;
    while site.get("/latest?keys=j").await["readings"] == json!({}) {
        assert!(Instant::now() < until, "the readings did not come");
        sleep(std::time::Duration::from_millis(20)).await;
    }
    site
}

impl Site {
    async fn get(&self, rest: &str) -> Value {
        let answer = self.api.get(&format!("{}{rest}", self.path)).await;
        assert_eq!(answer.status, 200, "{rest}: {}", answer.body);
        answer.body
    }

    /// Media type, cursor and bytes.
    async fn get_as(&self, rest: &str, accept: &str) -> (String, Option<String>, Vec<u8>) {
        let url = format!("{}/api/v1{}{rest}", self.baken.run.api, self.path);
        let request = reqwest::Client::new().get(url).bearer_auth(self.baken.token());
        let response = request.header("accept", accept).send().await.unwrap();
        let header = |name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let (kind, cursor) = (header("content-type").unwrap(), header("x-next-cursor"));
        (kind, cursor, response.bytes().await.unwrap().to_vec())
    }
}

#[tokio::test]
async fn the_newest_values_come_with_their_types() {
    let site = site().await;
    let last = site.start + COUNT * STEP_MS;
    let readings = site.get("/latest").await["readings"].clone();
    assert_eq!(
        readings,
        json!({
            "j": { "ts": last, "value": { "a": [1] } },
            "on": { "ts": last, "value": true },
            "s": { "ts": last, "value": "ä,b" },
            "t": { "ts": last - STEP_MS, "value": 24.5 },
        })
    );
    let some = site.get("/latest?keys=on,none").await;
    assert_eq!(some["readings"].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn pages_follow_each_other_in_both_orders() {
    let site = site().await;
    for order in ["asc", "desc"] {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = site.get(&format!("?key=t&order={order}&limit=10{cursor}")).await;
            assert_eq!(page["key"], "t");
            for reading in page["readings"].as_array().unwrap() {
                let n = (reading["ts"].as_i64().unwrap() - site.start) / STEP_MS;
                assert_eq!(reading["value"], json!(n as f64 + 0.5));
                found.push(n);
            }
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let mut expected: Vec<i64> = (0..COUNT).collect();
        if order == "desc" {
            expected.reverse();
        }
        assert_eq!(found, expected);
    }
    let (from, to) = (site.start + 2 * STEP_MS, site.start + 4 * STEP_MS);
    let page = site.get(&format!("?key=t&from={from}&to={to}")).await;
    let values: Vec<&Value> =
        page["readings"].as_array().unwrap().iter().map(|reading| &reading["value"]).collect();
    assert_eq!(values, [&json!(2.5), &json!(3.5)], "the end is not in it");
    assert_eq!(site.get("?key=none").await, json!({ "key": "none", "readings": [] }));
}

#[tokio::test]
async fn a_span_is_reduced_to_buckets() {
    let site = site().await;
    let (from, to) = (site.start, site.start + 12 * STEP_MS);
    let of_width = site.get(&format!("?key=t&from={from}&to={to}&bucket_ms=5000")).await;
    let first = json!({
        "from": from, "to": from + 5_000, "min": 0.5, "max": 4.5, "avg": 2.5, "first": 0.5,
        "last": 4.5, "count": 5,
    });
    assert_eq!(of_width["buckets"][0], first);
    assert_eq!(of_width["buckets"].as_array().unwrap().len(), 3);
    assert_eq!(of_width["buckets"][2]["to"], to);
    let points = site.get(&format!("?key=t&from={from}&to={to}&points=4")).await;
    let counts: Vec<&Value> =
        points["buckets"].as_array().unwrap().iter().map(|bucket| &bucket["count"]).collect();
    assert_eq!(counts, vec![&json!(3); 4]);
}

#[tokio::test]
async fn csv_and_arrow_name_the_next_page_in_a_header() {
    let site = site().await;
    let (kind, cursor, csv) = site.get_as("?key=t&limit=2", "text/csv").await;
    assert_eq!(kind, "text/csv; charset=utf-8");
    let (one, two) = (site.start, site.start + STEP_MS);
    let expected = format!("ts,number,integer,boolean,text,json\n{one},0.5,,,,\n{two},1.5,,,,\n");
    assert_eq!(String::from_utf8(csv).unwrap(), expected);
    let rest = format!("?key=t&limit=100000&cursor={}", cursor.unwrap());
    let arrow = "application/vnd.apache.arrow.stream";
    let (kind, cursor, bytes) = site.get_as(&rest, arrow).await;
    assert_eq!((kind.as_str(), cursor), (arrow, None));
    let reader = arrow_ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
    let rows: usize = reader.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows as i64, COUNT - 2);
    let (kind, _, csv) = site.get_as("?key=s", "text/csv").await;
    assert_eq!(kind, "text/csv; charset=utf-8");
    assert!(String::from_utf8(csv).unwrap().ends_with(",,,,\"ä,b\",\n"));
    let (kind, _, problem) = site.get_as("?key=t", "text/html").await;
    assert_eq!(kind, "application/problem+json");
    assert_eq!(serde_json::from_slice::<Value>(&problem).unwrap()["status"], 406);
}

#[tokio::test]
async fn what_cannot_be_asked_is_named() {
    let site = site().await;
    for (rest, status, field) in [
        ("?key=t&limit=0", 422, "limit"),
        ("?key=t&limit=100001", 422, "limit"),
        ("?key=t&cursor=nonsense", 422, "cursor"),
        ("?key=t&points=5", 422, "from"),
        ("?key=t&from=0&points=5", 422, "to"),
        ("?key=t&from=0&to=10&points=0", 422, "points"),
        ("?key=t&from=0&to=10&bucket_ms=-1", 422, "bucket_ms"),
        ("?key=t&from=0&to=9000000000000&bucket_ms=1", 422, "bucket_ms"),
        ("?key=t&from=0&to=10&points=1&bucket_ms=1", 422, "points"),
        ("?key=t&from=0&to=10&points=1&limit=5", 422, "limit"),
        ("?key=t&from=today", 422, "from"),
        ("?key=t&order=up", 422, "order"),
    ] {
        let answer = site.api.get(&format!("{}{rest}", site.path)).await;
        assert_eq!((answer.status, &answer.body["field"]), (status, &json!(field)), "{rest}");
    }
    for rest in ["", "?key=t&form=1", "/latest?key=t"] {
        let answer = site.api.get(&format!("{}{rest}", site.path)).await;
        assert_eq!(answer.status, 422, "{rest}: {}", answer.body);
    }
}

#[tokio::test]
async fn another_tenants_readings_are_not_there() {
    let site = site().await;
    let (tenant, _) = site.api.site("Other").await;
    let token = json!({ "name": "other", "tenant": tenant["id"] });
    let token = site.api.made("/tokens", token).await;
    let other = Api::new(&site.baken, token["token"].as_str().unwrap());
    for rest in ["?key=t", "/latest", "?key=t&from=0&to=5&points=1"] {
        let path = format!("{}{rest}", site.path);
        assert_eq!(site.api.get(&path).await.status, 200);
        let refused = other.get(&path).await;
        let missing = other.get(&format!("/devices/999999/telemetry{rest}")).await;
        assert_eq!((refused.status, missing.status), (404, 404));
        assert_eq!(refused.body["title"], missing.body["title"]);
    }
}
