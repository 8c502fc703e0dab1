//! What an operator asks when a router seems silent: is it connected, and was
//! what it sent refused?

use serde_json::{Value, json};

use super::directory::Api;
use super::harness::{Baken, run, text, until};
use super::mqtt::Mqtt;

async fn connect(baken: &Baken, router: &Value) -> Mqtt {
    let address = baken.run.mqtt.as_deref().unwrap();
    Mqtt::connect(address, router["token"].as_str().unwrap()).await
}

async fn ask(baken: &Baken, args: &[&str]) -> String {
    let data = baken.dir.to_str().unwrap();
    let output = run(&[args, &["--data", data]].concat()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// A token of another tenant.
async fn stranger(baken: &Baken, api: &Api) -> Api {
    let (tenant, _) = api.site("Other").await;
    let token = json!({ "name": "other", "tenant": tenant["id"] });
    let token = api.made("/tokens", token).await;
    Api::new(baken, token["token"].as_str().unwrap())
}

#[tokio::test]
async fn a_routers_connections_are_shown() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let router = baken.router().await;
    assert_eq!(router["connected"], false);
    let path = format!("/routers/{}", router["id"]);
    let sessions = format!("{path}/sessions");
    assert_eq!(api.get(&sessions).await.body, json!({ "items": [] }));

    let mut mqtt = connect(&baken, &router).await;
    mqtt.telemetry(r#"{"a":1}"#).await;
    assert_eq!(api.get(&path).await.body["connected"], true);
    assert_eq!(api.get("/routers").await.body["items"][0]["connected"], true);
    let session = api.get(&sessions).await.body["items"][0].clone();
    assert_eq!(
        [&session["client_id"], &session["mqtt5"], &session["tls"], &session["publishes"]],
        [&json!("it"), &json!(false), &json!(false), &json!(1)]
    );
    let peer: std::net::SocketAddr = session["peer"].as_str().unwrap().parse().unwrap();
    assert!(peer.ip().is_loopback());
    assert!(session["bytes"].as_u64().unwrap() > 0 && session["connected_at"].is_i64());

    let id = router["id"].to_string();
    let table = ask(&baken, &["routers", "sessions", &id]).await;
    assert!(table.lines().next().unwrap().starts_with("client_id"), "{table}");
    assert!(table.contains(&peer.to_string()), "{table}");
    let other = stranger(&baken, &api).await;
    assert_eq!(other.get(&sessions).await.status, 404);

    drop(mqtt);
    until("the end of the session", async || {
        let body = api.get(&path).await.body;
        (body["connected"] == false).then_some(())
    })
    .await;
    assert_eq!(api.get(&sessions).await.body, json!({ "items": [] }));
}

#[tokio::test]
async fn what_was_refused_is_shown_with_its_reason_to_its_tenant() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let router = baken.router().await;
    let mut mqtt = connect(&baken, &router).await;
    mqtt.telemetry(r#"{"a":"#).await;
    mqtt.telemetry(r#"[[1]]"#).await;
    let answer = api.get("/rejections").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let items = answer.body["items"].as_array().unwrap();
    let payloads: Vec<&Value> = items.iter().map(|item| &item["payload"]).collect();
    assert_eq!(payloads.len(), 2, "{}", answer.body);
    assert!(payloads.contains(&&json!(r#"{"a":"#)), "{}", answer.body);
    for item in items {
        assert_eq!(item["router"], router["id"]);
        assert_eq!(item["topic"], "v1/devices/me/telemetry");
        assert!(!item["reason"].as_str().unwrap().is_empty());
    }
    let path = format!("/rejections?tenant={}", router["tenant"]);
    assert_eq!(api.get(&path).await.body, answer.body);
    let one = api.get(&format!("{path}&limit=1")).await;
    assert_eq!(one.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.get("/rejections?limit=0").await.status, 422);
    assert_eq!(api.get("/rejections?tenant=999999").await.status, 404);

    let other = stranger(&baken, &api).await;
    assert_eq!(other.get("/rejections").await.body, json!({ "items": [] }));
    assert_eq!(other.get(&path).await.status, 404);
    let table = ask(&baken, &["rejections"]).await;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains(r#"{"a":"#), "{table}");
}
