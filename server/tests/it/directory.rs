//! The directory by the API: documents and their versions, who sees what, what
//! is refused and how it is said.

use reqwest::Method;
use serde_json::{Value, json};

use super::harness::{Baken, DEADLINE};
use super::wire::Wire;

/// Speaks to a node with one token and keeps the whole answer.
pub struct Api {
    http: reqwest::Client,
    base: String,
    token: String,
}

pub struct Answer {
    pub status: u16,
    pub etag: Option<String>,
    pub body: Value,
}

impl Api {
    pub fn new(baken: &Baken, token: &str) -> Self {
        server::install_crypto();
        let base = format!("{}/api/v1", baken.run.api);
        Self { http: reqwest::Client::new(), base, token: token.to_owned() }
    }

    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.ask_if(method, path, None, body).await
    }

    pub async fn ask_if(
        &self,
        method: Method,
        path: &str,
        version: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, url).bearer_auth(&self.token).timeout(DEADLINE);
        if let Some(version) = version {
            request = request.header("if-match", version);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let etag = response.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        Answer { status, etag, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    /// Makes a document that must be made.
    pub async fn made(&self, path: &str, body: Value) -> Value {
        let answer = self.ask(Method::POST, path, Some(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body
    }

    /// Status and body of something that must be refused.
    pub async fn refused(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let answer = self.ask(method, path, Some(body)).await;
        assert!(answer.status >= 400, "{path}: {}", answer.body);
        assert_eq!(answer.body["status"], answer.status);
        (answer.status, answer.body)
    }

    pub async fn site(&self, name: &str) -> (Value, Value) {
        let tenant = self.made("/tenants", json!({ "name": name })).await;
        let location = json!({ "tenant": tenant["id"], "name": "plant" });
        let location = self.made("/locations", location).await;
        (tenant, location)
    }
}

fn token_router(location: &Value, name: &str) -> Value {
    let credentials = json!({ "type": "access_token" });
    json!({ "location": location["id"], "name": name, "credentials": credentials })
}

#[tokio::test]
async fn documents_have_versions_and_a_stale_one_is_refused() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let body = json!({ "name": "Acme", "settings": { "retention_days": 30 } });
    let made = api.ask(Method::POST, "/tenants", Some(body)).await;
    assert_eq!((made.status, made.etag.as_deref()), (201, Some("\"1\"")), "{}", made.body);
    let path = format!("/tenants/{}", made.body["id"]);
    assert_eq!(made.body["settings"]["retention_days"], 30);
    assert_eq!(made.body["settings"]["numbers_from_text"], true);

    let change = json!({ "name": "Acme BV", "settings": { "max_devices": 7 } });
    let changed = api.ask_if(Method::PUT, &path, Some("\"1\""), Some(change.clone())).await;
    assert_eq!((changed.status, changed.etag.as_deref()), (200, Some("\"2\"")));
    assert_eq!(changed.body["settings"]["retention_days"], 30, "what is not given stays");
    let stale = api.ask_if(Method::PUT, &path, Some("\"1\""), Some(change)).await;
    assert_eq!(
        (stale.status, &stale.body["type"]),
        (412, &json!("urn:baken:problem:version-mismatch"))
    );
    let stale = api.ask_if(Method::DELETE, &path, Some("1"), None).await;
    assert_eq!(stale.status, 412);
    let read = api.get(&path).await;
    assert_eq!(read.etag.as_deref(), Some("\"2\""));
    assert_eq!(read.body, changed.body);
    assert_eq!(api.ask_if(Method::DELETE, &path, Some("\"2\""), None).await.status, 204);
    assert_eq!(api.get(&path).await.status, 404);
    assert_eq!(api.get("/tenants/none").await.status, 404);
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_value_and_what_is_allowed() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let (tenant, location) = api.site("Acme").await;
    let router = |credentials: Value| json!({ "location": location["id"], "name": "r", "credentials": credentials });
    let id = &tenant["id"];
    let cases = [
        ("/tenants", json!({ "name": "" }), 422, "name", "1 to 255 bytes"),
        ("/tenants", json!({ "name": "Acme" }), 409, "name", "\"Acme\""),
        ("/tenants", json!({ "name": 5 }), 422, "name", "expected a string"),
        (
            "/tenants",
            json!({ "name": "x", "settings": { "retention": 5 } }),
            422,
            "settings.retention",
            "retention_days",
        ),
        (
            "/tenants",
            json!({ "name": "x", "settings": { "max_keys": -1 } }),
            422,
            "settings.max_keys",
            "u32",
        ),
        (
            "/locations",
            json!({ "tenant": id, "name": "x", "time_zone": "Mars/Base" }),
            422,
            "time_zone",
            "Mars/Base",
        ),
        ("/locations", json!({ "tenant": 999, "name": "x" }), 404, "tenant", "no tenant 999"),
        ("/locations", json!({ "name": "x" }), 422, "tenant", "missing"),
        ("/locations", json!({ "tenant": id, "name": "plant" }), 409, "name", "\"plant\""),
        (
            "/routers",
            json!({ "location": 999, "name": "r", "credentials": { "type": "access_token" } }),
            404,
            "location",
            "no location 999",
        ),
        ("/routers", router(json!({ "type": "magic" })), 422, "credentials.type", "access_token"),
        (
            "/routers",
            router(json!({ "type": "fingerprint", "sha256": "12:34" })),
            422,
            "credentials.sha256",
            "12:34",
        ),
        (
            "/routers",
            router(json!({ "type": "password", "user": "u", "password": "" })),
            422,
            "credentials.password",
            "1 to 1024",
        ),
        (
            "/routers",
            router(json!({ "type": "common_name", "common_name": "a\u{0}b" })),
            422,
            "credentials.common_name",
            "1 to 255",
        ),
        ("/tokens", json!({ "name": "a\nb" }), 422, "name", "control characters"),
    ];
    for (path, body, status, field, detail) in cases {
        let (found, problem) = api.refused(Method::POST, path, body.clone()).await;
        assert_eq!((found, &problem["field"]), (status, &json!(field)), "{body}: {problem}");
        let text = problem["detail"].as_str().unwrap();
        assert!(text.contains(detail), "{body}: {text}");
    }
    for (path, field) in [
        ("/tenants?limit=0", "limit"),
        ("/routers?after=x", "after"),
        ("/tenants?location=1", "location"),
        ("/routers?colour=red", "colour"),
    ] {
        let answer = api.get(path).await;
        assert_eq!(
            (answer.status, &answer.body["field"]),
            (422, &json!(field)),
            "{path}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn tenants_never_see_each_other() {
    let baken = Baken::start().await;
    let admin = Api::new(&baken, &baken.token());
    let (one, here) = admin.site("one").await;
    let (two, there) = admin.site("two").await;
    let theirs = admin.made("/routers", token_router(&there, "r")).await;
    let token = admin.made("/tokens", json!({ "name": "t", "tenant": one["id"] })).await;
    let api = Api::new(&baken, token["token"].as_str().unwrap());
    let other = admin.made("/tokens", json!({ "name": "t", "tenant": two["id"] })).await;

    let (device, router) = (&theirs["device"], &theirs["id"]);
    let paths = [
        format!("/tenants/{}", two["id"]),
        format!("/locations/{}", there["id"]),
        format!("/routers/{router}"),
        format!("/devices/{device}"),
        format!("/devices/{device}/attributes/shared"),
        format!("/tokens/{}", other["id"]),
        format!("/routers?tenant={}", two["id"]),
    ];
    for path in &paths {
        let answer = api.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        // In the same words as of an id that is not there.
        let text = answer.body["detail"].as_str().unwrap();
        assert!(text.starts_with("There is no "), "{text}");
    }
    let calls = [
        (Method::PUT, format!("/locations/{}", there["id"]), json!({ "name": "x" })),
        (Method::PUT, format!("/routers/{router}"), json!({ "enabled": false })),
        (Method::PUT, format!("/devices/{device}"), json!({ "name": "x" })),
        (Method::PATCH, format!("/devices/{device}/attributes/shared"), json!({ "a": 1 })),
        (Method::POST, format!("/devices/{device}/rpc"), json!({ "method": "m" })),
        (Method::POST, "/routers".to_owned(), token_router(&there, "x")),
        (Method::POST, "/locations".to_owned(), json!({ "tenant": two["id"], "name": "x" })),
        (Method::POST, "/tokens".to_owned(), json!({ "tenant": two["id"], "name": "x" })),
        (Method::DELETE, format!("/routers/{router}"), Value::Null),
        (Method::DELETE, format!("/tokens/{}", other["id"]), Value::Null),
        (Method::DELETE, format!("/tenants/{}", two["id"]), Value::Null),
    ];
    for (method, path, body) in calls {
        let (status, problem) = api.refused(method.clone(), &path, body).await;
        assert_eq!(status, 404, "{method} {path}: {problem}");
    }
    for path in ["/routers", "/devices", "/locations", "/tokens", "/tenants"] {
        let text = api.get(path).await.body.to_string();
        assert!(
            !text.contains("two") && !text.contains(&format!("\"tenant\":{}", two["id"])),
            "{text}"
        );
    }
    assert_eq!(api.get("/tenants").await.body["items"][0]["id"], one["id"]);
    let (status, _) = api.refused(Method::POST, "/tenants", json!({ "name": "x" })).await;
    assert_eq!(status, 403);
    let own = format!("/tenants/{}", one["id"]);
    assert_eq!(api.refused(Method::PUT, &own, json!({ "name": "x" })).await.0, 403);

    // Its own things it makes without naming itself; a clash says no more than it must.
    api.made("/locations", json!({ "name": "yard" })).await;
    let made = api.made("/tokens", json!({ "name": "mine", "read_only": true })).await;
    assert_eq!(made["tenant"], one["id"]);
    let mut same = token_router(&here, "r");
    same["credentials"]["token"] = theirs["token"].clone();
    let (status, problem) = api.refused(Method::POST, "/routers", same).await;
    assert_eq!((status, &problem["field"]), (409, &json!("credentials")));
    assert_eq!(problem["detail"], "`credentials` are already in use.");

    let reader = Api::new(&baken, made["token"].as_str().unwrap());
    assert_eq!(reader.get("/locations").await.status, 200);
    assert_eq!(reader.refused(Method::POST, "/locations", json!({ "name": "z" })).await.0, 403);
    admin.ask(Method::DELETE, &format!("/tokens/{}", made["id"]), None).await;
    assert_eq!(reader.get("/locations").await.status, 401, "revoked at once");
}

#[tokio::test]
async fn no_secret_is_shown_twice_or_at_all() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let (_, location) = api.site("Acme").await;
    let generated = api.made("/routers", token_router(&location, "generated")).await;
    let token = generated["token"].as_str().unwrap();
    assert!(token.len() >= 22, "128 bits or more");
    let of = |name: &str, credentials: Value| json!({ "location": location["id"], "name": name, "credentials": credentials });
    let given = of("given", json!({ "type": "access_token", "token": "A1_TEST_TOKEN" }));
    let given = api.made("/routers", given).await;
    assert_eq!(
        (given.get("token"), &given["credentials"]),
        (None, &json!({ "type": "access_token" }))
    );
    let password =
        json!({ "type": "password", "user": "u", "password": "hidden-word", "client_id": "c" });
    let password = api.made("/routers", of("password", password)).await;
    assert_eq!(
        password["credentials"],
        json!({ "type": "password", "user": "u", "client_id": "c" })
    );
    let colons = vec!["AB"; 32].join(":");
    let pinned = api
        .made("/routers", of("pinned", json!({ "type": "fingerprint", "sha256": colons })))
        .await;
    assert_eq!(pinned["credentials"]["sha256"], "ab".repeat(32));
    let again = of("again", json!({ "type": "fingerprint", "sha256": "ab".repeat(32) }));
    assert_eq!(api.refused(Method::POST, "/routers", again).await.0, 409);

    let all = api.get("/routers").await.body.to_string();
    assert!(!all.contains(token) && !all.contains("argon2") && !all.contains("hash"), "{all}");
    for file in ["store/directory.db", "store/directory.db-wal"] {
        let bytes = std::fs::read(baken.dir.join(file)).unwrap_or_default();
        for secret in [token, "A1_TEST_TOKEN", "hidden-word"] {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} stands in {file}");
        }
    }
    let log = baken.log().await;
    assert!(!log.contains(token) && !log.contains("hidden-word"));
}

#[tokio::test]
async fn routers_are_imported_together_or_not_at_all() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let (tenant, location) = api.site("Acme").await;
    let mut routers: Vec<Value> =
        (0..1_000).map(|n| token_router(&location, &format!("r{n:04}"))).collect();
    routers[700]["name"] = json!("r0003");
    let body = json!({ "routers": routers });
    let (status, problem) = api.refused(Method::POST, "/routers/import", body).await;
    assert_eq!((status, &problem["field"]), (409, &json!("routers[700].name")), "{problem}");
    let count = format!("/routers?tenant={}", tenant["id"]);
    assert_eq!(api.get(&count).await.body["items"], json!([]));

    routers[700]["name"] = json!("r0700");
    let made = api.made("/routers/import", json!({ "routers": routers })).await;
    let made = made["routers"].as_array().unwrap();
    for (n, router) in made.iter().enumerate() {
        assert_eq!(router["name"], format!("r{n:04}"));
        assert_eq!(router["token"].as_str().unwrap().len(), 32);
    }
    let mut path = format!("{count}&limit=300");
    let mut ids = Vec::new();
    loop {
        let page = api.get(&path).await.body;
        ids.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{count}&limit=300&after={next}");
    }
    assert_eq!(ids, made.iter().map(|router| router["id"].clone()).collect::<Vec<_>>());

    routers.push(token_router(&location, "one more"));
    let (status, problem) =
        api.refused(Method::POST, "/routers/import", json!({ "routers": routers })).await;
    assert_eq!((status, &problem["field"]), (422, &json!("routers")));
}

#[tokio::test]
async fn what_stands_on_its_own_is_not_deleted_along_and_what_belongs_is() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let (tenant, location) = api.site("Acme").await;
    let router = api.made("/routers", token_router(&location, "r")).await;
    let delete = async |path: String| api.ask(Method::DELETE, &path, None).await.status;
    assert_eq!(delete(format!("/tenants/{}", tenant["id"])).await, 409);
    assert_eq!(delete(format!("/locations/{}", location["id"])).await, 409);
    assert_eq!(delete(format!("/devices/{}", router["device"])).await, 409);
    let moved = json!({ "location": 1_000_000 });
    let path = format!("/routers/{}", router["id"]);
    let (status, problem) = api.refused(Method::PUT, &path, moved).await;
    assert_eq!((status, &problem["field"]), (422, &json!("location")));
    let renamed = api.ask(Method::PUT, &path, Some(json!({ "name": "renamed" }))).await;
    assert_eq!(renamed.status, 200, "{}", renamed.body);
    let device = format!("/devices/{}", router["device"]);
    assert_eq!(api.get(&device).await.body["name"], "renamed");
    assert_eq!(delete(path).await, 204);
    assert_eq!(api.get(&device).await.status, 404);
    assert_eq!(delete(format!("/locations/{}", location["id"])).await, 204);
    assert_eq!(delete(format!("/tenants/{}", tenant["id"])).await, 204);
}

#[tokio::test]
async fn a_revoked_router_is_disconnected_and_stays_out() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let (_, location) = api.site("Acme").await;
    let router = api.made("/routers", token_router(&location, "r")).await;
    let path = format!("/routers/{}", router["id"]);
    let address = baken.run.mqtt.as_deref().unwrap();
    let token = router["token"].as_str().unwrap();
    let mut wire = Wire::connect(address, token, None).await.unwrap();
    api.ask(Method::PUT, &path, Some(json!({ "enabled": false }))).await;
    wire.ended().await;
    assert_eq!(Wire::connect(address, token, None).await.unwrap_err(), 5);
    let password = json!({ "type": "password", "user": "u", "password": "p" });
    let body = json!({ "enabled": true, "credentials": password });
    assert_eq!(api.ask(Method::PUT, &path, Some(body)).await.status, 200);
    assert_eq!(Wire::connect(address, token, None).await.unwrap_err(), 5);
    let mut wire = Wire::connect(address, "u", Some("p")).await.unwrap();
    assert_eq!(Wire::connect(address, "u", Some("q")).await.unwrap_err(), 5);
    api.ask(Method::DELETE, &path, None).await;
    wire.ended().await;
}

#[tokio::test]
async fn the_last_token_that_opens_all_stays() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    api.made("/tokens", json!({ "name": "reader", "read_only": true })).await;
    let tokens = api.get("/tokens?name=admin").await.body;
    let path = format!("/tokens/{}", tokens["items"][0]["id"]);
    assert_eq!(api.ask(Method::DELETE, &path, None).await.status, 409);
    api.made("/tokens", json!({ "name": "second" })).await;
    assert_eq!(api.ask(Method::DELETE, &path, None).await.status, 204);
    assert_eq!(api.get("/tokens").await.status, 401);
}
