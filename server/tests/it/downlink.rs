//! What the API sends down to routers: shared attributes and calls.

use reqwest::Method;
use serde_json::{Value, json};

use super::directory::Api;
use super::harness::Baken;
use super::wire::Wire;

struct Site {
    baken: Baken,
    api: Api,
    token: String,
    device: Value,
}

async fn site() -> Site {
    let baken = Baken::start().await;
    let router = baken.router().await;
    let api = Api::new(&baken, &baken.token());
    let token = router["token"].as_str().unwrap().to_owned();
    Site { baken, api, token, device: router["device"].clone() }
}

impl Site {
    async fn connect(&self) -> Wire {
        let address = self.baken.run.mqtt.as_deref().unwrap();
        Wire::connect(address, &self.token, None).await.unwrap()
    }

    fn shared(&self) -> String {
        format!("/devices/{}/attributes/shared", self.device)
    }

    async fn set(&self, values: Value) {
        let answer = self.api.ask(Method::PATCH, &self.shared(), Some(values)).await;
        assert_eq!((answer.status, answer.body), (204, Value::Null));
    }

    async fn values(&self) -> Value {
        let answer = self.api.get(&self.shared()).await;
        let values = answer.body["attributes"].as_object().unwrap();
        values.iter().map(|(key, one)| (key.clone(), one["value"].clone())).collect()
    }
}

#[tokio::test]
async fn shared_attributes_are_read_back_and_reach_a_router_at_once_or_later() {
    let site = site().await;
    site.set(json!({ "rate": 5, "mode": "eco", "limits": { "max": [1, 2.5] }, "on": true })).await;
    site.set(json!({ "rate": 10, "mode": null })).await;
    let expected = json!({ "rate": 10, "limits": { "max": [1, 2.5] }, "on": true });
    assert_eq!(site.values().await, expected);
    let one = site.api.get(&format!("{}?keys=rate,none", site.shared())).await.body;
    assert_eq!(one["attributes"]["rate"]["value"], 10);
    assert_eq!(one["attributes"].as_object().unwrap().len(), 1);
    assert!(one["attributes"]["rate"]["updated_at"].as_i64().unwrap() > 1_700_000_000_000);

    // The router was away all the while.
    let mut wire = site.connect().await;
    wire.subscribe("v1/devices/me/attributes").await;
    let (topic, payload) = wire.published().await;
    assert_eq!(topic, "v1/devices/me/attributes");
    let mut missed: Value = serde_json::from_str(&payload).unwrap();
    assert_eq!(missed.as_object_mut().unwrap().remove("deleted"), Some(json!(["mode"])));
    assert_eq!(missed, expected);

    site.set(json!({ "rate": 20 })).await;
    let (_, payload) = wire.published().await;
    assert_eq!(serde_json::from_str::<Value>(&payload).unwrap(), json!({ "rate": 20 }));
}

#[tokio::test]
async fn attributes_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let baken = Baken::start_in(dir.path(), &[]).await;
    let router = baken.router().await;
    let path = format!("/devices/{}/attributes/shared", router["device"]);
    let api = Api::new(&baken, &baken.token());
    assert_eq!(api.ask(Method::PATCH, &path, Some(json!({ "rate": 5 }))).await.status, 204);
    baken.kill().await;
    let baken = Baken::start_in(dir.path(), &[]).await;
    let api = Api::new(&baken, &baken.token());
    assert_eq!(api.get(&path).await.body["attributes"]["rate"]["value"], 5);
}

#[tokio::test]
async fn attributes_that_would_not_be_kept_are_refused() {
    let site = site().await;
    let deep = (0..17).fold(json!(1), |inner, _| json!([inner]));
    let cases = [
        (json!({ "long": "x".repeat(70_000) }), "long"),
        (json!({ "": 1 }), ""),
        (json!({ "deep": deep }), "deep"),
    ];
    for (body, field) in cases {
        let (status, problem) = site.api.refused(Method::PATCH, &site.shared(), body).await;
        assert_eq!((status, &problem["field"]), (422, &json!(field)), "{problem}");
    }
    let many: Value = (0..1_001).map(|n| (format!("k{n}"), json!(n))).collect();
    assert_eq!(site.api.refused(Method::PATCH, &site.shared(), many).await.0, 422);
    let client = site.shared().replace("shared", "client");
    assert_eq!(site.api.refused(Method::PATCH, &client, json!({ "a": 1 })).await.0, 405);
    assert_eq!(
        site.api.refused(Method::GET, &site.shared().replace("shared", "both"), json!({})).await.0,
        404
    );
    assert_eq!(site.values().await, json!({}));
}

#[tokio::test]
async fn a_call_is_answered_or_the_caller_is_told_why_not() {
    let site = site().await;
    let path = format!("/devices/{}/rpc", site.device);
    let call = json!({ "method": "reset", "params": { "now": true } });
    let (status, _) = site.api.refused(Method::POST, &path, call.clone()).await;
    assert_eq!(status, 409, "nobody is there");
    for (body, field) in [
        (json!({ "method": "" }), "method"),
        (json!({ "method": "m", "timeout_ms": 0 }), "timeout_ms"),
        (json!({ "method": "m", "timeout": 5 }), "timeout"),
    ] {
        let (status, problem) = site.api.refused(Method::POST, &path, body).await;
        assert_eq!((status, &problem["field"]), (422, &json!(field)), "{problem}");
    }

    let mut wire = site.connect().await;
    wire.subscribe("v1/devices/me/rpc/request/+").await;
    let asked = site.api.ask(Method::POST, &path, Some(call));
    let answered = async {
        let (topic, payload) = wire.published().await;
        let call: Value = serde_json::from_str(&payload).unwrap();
        assert_eq!((&call["method"], &call["params"]), (&json!("reset"), &json!({ "now": true })));
        wire.publish(&topic.replace("request", "response"), r#"{"done":[1,2]}"#).await;
    };
    let (answer, ()) = tokio::join!(asked, answered);
    assert_eq!((answer.status, answer.body), (200, json!({ "result": { "done": [1, 2] } })));

    let silent = json!({ "method": "sleep", "timeout_ms": 50 });
    assert_eq!(site.api.refused(Method::POST, &path, silent).await.0, 504);
}
