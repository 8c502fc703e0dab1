//! The API as a whole: tokens, errors, health, metrics.

use serde_json::{Value, json};
use server::client::ApiClient;

use super::harness::{Baken, DEADLINE};

/// Status, media type and body of a request.
async fn ask(request: reqwest::RequestBuilder) -> (u16, String, Value) {
    let response = request.timeout(DEADLINE).send().await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    (response.status().as_u16(), kind, response.json().await.unwrap())
}

fn http() -> reqwest::Client {
    server::install_crypto();
    reqwest::Client::new()
}

#[tokio::test]
async fn without_a_known_token_nothing_is_told() {
    let baken = Baken::start().await;
    let about = format!("{}/api/v1/about", baken.run.api);
    for header in [None, Some("Bearer nobody"), Some("Basic abc"), Some("Bearer ")] {
        let mut request = http().get(&about);
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let (status, kind, body) = ask(request).await;
        assert_eq!((status, kind.as_str()), (401, "application/problem+json"), "{header:?}");
        assert_eq!(body["type"], "urn:baken:problem:unauthorized");
    }
    let about = baken.client().get("/about").await.unwrap();
    assert_eq!(about["name"], "baken");
}

#[tokio::test]
async fn guessing_is_slowed_and_a_right_token_still_works() {
    let baken = Baken::start().await;
    let guess = ApiClient::new(&baken.run.api, "guess").unwrap();
    let mut last = None;
    for _ in 0..30 {
        last = guess.get("/about").await.unwrap_err().status();
    }
    assert_eq!(last, Some(429));
    baken.client().get("/about").await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_answered_is_a_problem() {
    let baken = Baken::start_with(&["--set", "api.max_body_bytes=1024"]).await;
    let (http, token) = (http(), baken.token());
    let url = |path: &str| format!("{}{path}", baken.run.api);

    let (status, kind, body) = ask(http.get(url("/nowhere"))).await;
    assert_eq!((status, kind.as_str()), (404, "application/problem+json"));
    assert_eq!(body["detail"], "Nothing answers at /nowhere.");

    let (status, _, body) = ask(http.delete(url("/api/v1/about")).bearer_auth(&token)).await;
    assert_eq!((status, &body["type"]), (405, &json!("urn:baken:problem:method-not-allowed")));

    let large = json!({ "name": "x".repeat(5_000) });
    let (status, _, body) =
        ask(http.post(url("/api/v1/tenants")).bearer_auth(&token).json(&large)).await;
    assert_eq!((status, &body["type"]), (413, &json!("urn:baken:problem:too-large")));

    let misspelt = json!({ "name": "Acme", "settings": { "retention": 5 } });
    let (status, _, body) =
        ask(http.post(url("/api/v1/tenants")).bearer_auth(&token).json(&misspelt)).await;
    assert_eq!((status, &body["field"]), (422, &json!("settings.retention")), "{body}");
}

#[tokio::test]
async fn health_and_metrics_need_no_token() {
    let baken = Baken::start().await;
    let nobody = ApiClient::new(&baken.run.api, "nobody").unwrap();
    assert_eq!(nobody.get("/health/live").await.unwrap()["status"], "live");
    assert_eq!(
        nobody.get("/health/ready").await.unwrap(),
        json!({ "status": "ready", "reasons": [] })
    );
    baken.client().get("/about").await.unwrap();
    let metrics = nobody.text("/metrics").await.unwrap();
    for line in [
        "baken_build_info{version=",
        "process_resident_memory_bytes ",
        r#"baken_api_requests_total{method="GET",route="/api/v1/about",status="2xx"} 1"#,
        r#"baken_api_refused_total{reason="panic"} 0"#,
        "baken_journal_",
    ] {
        assert!(metrics.lines().any(|shown| shown.starts_with(line)), "no {line} in:\n{metrics}");
    }
}

#[tokio::test]
async fn metrics_ask_for_a_token_where_that_is_set() {
    let baken = Baken::start_with(&["--set", "metrics.require_token=true"]).await;
    let url = format!("{}/metrics", baken.run.api);
    let (status, ..) = ask(http().get(&url)).await;
    assert_eq!(status, 401);
    assert!(baken.client().text("/metrics").await.unwrap().contains("baken_build_info"));
}

#[tokio::test]
async fn a_revoked_admin_token_does_not_come_back_with_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let baken = Baken::start_in(dir.path(), &[]).await;
    let client = baken.client();
    let fresh = client.post("/tokens", &json!({ "name": "fresh" })).await.unwrap();
    let fresh = ApiClient::new(&baken.run.api, fresh["token"].as_str().unwrap()).unwrap();
    let tokens = fresh.get("/tokens").await.unwrap();
    let items = tokens["items"].as_array().unwrap();
    let admin = items.iter().find(|token| token["name"] == "admin").unwrap();
    fresh.delete(&format!("/tokens/{}", admin["id"])).await.unwrap();
    assert_eq!(client.get("/about").await.unwrap_err().status(), Some(401));
    baken.stop().await;
    let baken = Baken::start_in(dir.path(), &[]).await;
    assert_eq!(baken.client().get("/about").await.unwrap_err().status(), Some(401));
}
