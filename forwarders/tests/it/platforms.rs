//! Blockbax and its rules, against a double that keeps them.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::double::{Answer, Double, Request};
use super::node::{Device, Node};

fn blockbax(device: Device, url: &str) -> Value {
    json!({
        "tenant": device.origin.tenant,
        "name": "to Blockbax",
        "scope": { "location": device.location },
        "enabled": true,
        "platform": "blockbax",
        "settings": { "project_id": "p-1", "inbound_connector_id": "c-1", "url": url },
        "secrets": { "access_token": "key" },
        "items": [
            { "key": "t", "data_type": "number", "settings": { "ingestion_id": "{device}$t" } },
            { "key": "bad", "data_type": "text", "settings": { "ingestion_id": "bad" } },
        ],
    })
}

/// Takes what the real one takes: at most 500 measurements and 200 KiB, each
/// newer than the newest of its series; a series of the name `bad` is refused.
#[derive(Default)]
struct Rules {
    newest: Mutex<HashMap<String, i64>>,
}

impl Rules {
    fn answer(&self, request: &Request) -> Answer {
        if request.headers["authorization"] != "ApiKey key" {
            return Answer::of(401);
        }
        assert_eq!(
            request.uri.path_and_query().unwrap(),
            "/v1/projects/p-1/measurements?inboundConnectorId=c-1"
        );
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let mut newest = self.newest.lock().unwrap();
        let (mut count, mut refused) = (0, Vec::new());
        for series in body["series"].as_array().unwrap() {
            let id = series["ingestionId"].as_str().unwrap();
            if id == "bad" {
                refused.push(id);
                continue;
            }
            for measurement in series["measurements"].as_array().unwrap() {
                count += 1;
                let date = measurement["date"].as_i64().unwrap();
                let number = measurement["number"].as_str().unwrap();
                assert!(number.parse::<f64>().is_ok(), "{number}");
                let before = newest.insert(id.to_owned(), date);
                assert!(before.is_none_or(|before| before < date), "{id} at {date}");
            }
        }
        assert!(count <= 500 && request.body.len() <= 200 << 10);
        match refused.is_empty() {
            true => Answer::of(202),
            false => Answer { body: json!({ "refused": refused }).to_string(), ..Answer::of(207) },
        }
    }
}

#[tokio::test]
async fn measurements_go_in_order_and_what_is_older_or_refused_is_told_apart() {
    let (dir, double) = (tempfile::tempdir().unwrap(), Double::start().await);
    let rules = Rules::default();
    double.answer(move |request| rules.answer(request));
    let node = Node::start(dir.path()).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    let id = node.forwarder(blockbax(device, &double.url())).await;
    let values: Vec<f64> = (0..2_000).map(|value| f64::from(value) / 3.0).collect();
    node.append(device, "t", 100, &values).await;
    // Late readings, and one of the same time.
    node.append(device, "t", 50, &[1.0, 2.0]).await;
    node.append(device, "t", 2_099, &[5.0]).await;
    let text = schema::Value::Text("x");
    node.append_rows(device, "bad", &[(1, text), (2, text)]).await;
    let counts = node.settled(id, 2_005).await.counts;
    assert_eq!((counts.sent, counts.out_of_order, counts.dead_letters), (2_000, 3, 2));
    let entry = node.store.directory().forwarder(id).unwrap();
    assert!(node.forwarders.test(&entry).await.is_ok());
    node.change(id, |forwarder| {
        forwarder.secrets.insert("access_token".to_owned(), schema::Sealed("no".to_owned()));
    })
    .await;
    let entry = node.store.directory().forwarder(id).unwrap();
    let told = node.forwarders.test(&entry).await.unwrap_err();
    assert!(told.contains("access token is not valid"), "{told}");
    node.stop().await;
}
