//! Location groups by the API, and profiles that are applied to them.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::directory::Api;
use super::harness::{Baken, DEADLINE, until};
use super::mqtt::Mqtt;

const PROFILE: &str = r#"
    name = "Coast"
    applies_to = { location_groups = ["Coast"] }
    [[rules]]
    key = "hot"
    raise.major = { when = { key = "t", operator = ">", value = 80 } }
    clear = { when = { key = "t", operator = "<", value = 70 } }
"#;

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

/// Names and counts of a page of groups.
fn groups(page: &Value) -> Vec<(&str, u64)> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|it| (it["name"].as_str().unwrap(), it["locations"].as_u64().unwrap())).collect()
}

#[tokio::test]
async fn locations_are_put_in_groups_found_by_them_and_counted() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let one = api.made("/tenants", json!({ "name": "One" })).await;
    let two = api.made("/tenants", json!({ "name": "Two" })).await;
    let location = |tenant: &Value, name: &str, groups: &[&str]| json!({ "tenant": tenant["id"], "name": name, "groups": groups });
    let a = api.made("/locations", location(&one, "a", &["South", "Cold stores"])).await;
    assert_eq!(a["groups"], json!(["Cold stores", "South"]));
    let b = api.made("/locations", location(&one, "b", &["South"])).await;
    api.made("/locations", location(&two, "c", &["South"])).await;
    let none = json!({ "tenant": one["id"], "name": "d" });
    assert_eq!(api.made("/locations", none).await["groups"], json!([]));

    let token = json!({ "name": "t", "tenant": one["id"] });
    let token = api.made("/tokens", token).await;
    let theirs = Api::new(&baken, token["token"].as_str().unwrap());
    assert_eq!(names(&theirs.get("/locations?group=South").await.body), ["a", "b"]);
    assert_eq!(names(&theirs.get("/locations?group=Cold%20stores").await.body), ["a"]);
    assert_eq!(names(&theirs.get("/locations?group=south").await.body), [""; 0]);
    // How locations stand is worked out at most once a second.
    let nothing_there = "/locations?group=Cold%20stores&status=no_configuration";
    until("the location by its status", async || {
        let found = theirs.get(nothing_there).await.body;
        (names(&found) == ["a"]).then_some(())
    })
    .await;
    assert_eq!(names(&api.get("/locations?group=South").await.body), ["a", "b", "c"]);
    let listed = theirs.get("/location-groups").await.body;
    assert_eq!(groups(&listed), [("Cold stores", 1), ("South", 2)]);
    assert_eq!(listed["items"][0]["tenant"], one["id"]);
    let elsewhere = theirs.get(&format!("/location-groups?tenant={}", two["id"])).await;
    assert!([403, 404].contains(&elsewhere.status), "{}", elsewhere.body);

    // Pages of all tenants' groups.
    let (mut path, mut seen) = ("/location-groups?limit=2".to_owned(), Vec::new());
    loop {
        let page = api.get(&path).await.body;
        seen.extend(groups(&page).iter().map(|(name, count)| format!("{name} {count}")));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/location-groups?limit=2&after={}", next.replace(' ', "%20"));
    }
    assert_eq!(seen, ["Cold stores 1", "South 2", "South 1"]);
    let begun = api.get(&format!("/location-groups?name=Co&tenant={}", one["id"])).await.body;
    assert_eq!(groups(&begun), [("Cold stores", 1)]);

    // What is not given stays; an empty list takes it out of all.
    let path = format!("/locations/{}", b["id"]);
    let kept = api.ask(Method::PUT, &path, Some(json!({ "name": "b2" }))).await;
    assert_eq!(kept.body["groups"], json!(["South"]));
    let out = json!({ "name": "b2", "groups": [] });
    assert_eq!(api.ask(Method::PUT, &path, Some(out)).await.body["groups"], json!([]));
    assert_eq!(api.get(&path).await.body["groups"], json!([]));
    assert_eq!(groups(&theirs.get("/location-groups?name=South").await.body), [("South", 1)]);
    api.ask(Method::DELETE, &format!("/locations/{}", a["id"]), None).await;
    assert_eq!(theirs.get("/location-groups").await.body, json!({ "items": [] }));
}

#[tokio::test]
async fn groups_that_may_not_be_are_refused_with_what_may() {
    let baken = Baken::start().await;
    let api = Api::new(&baken, &baken.token());
    let tenant = api.made("/tenants", json!({ "name": "One" })).await;
    let many: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    for (groups, told) in [
        (json!(many), "at most 32 groups"),
        (json!(["a", "b", "a"]), "named once"),
        (json!([""]), "1 to 64 bytes"),
        (json!(["a "]), "white space"),
        (json!(["x".repeat(65)]), "1 to 64 bytes"),
        (json!(["a\u{0}"]), "control characters"),
    ] {
        let location = json!({ "tenant": tenant["id"], "name": "l", "groups": groups });
        let (status, problem) = api.refused(Method::POST, "/locations", location).await;
        assert_eq!((status, problem["field"].as_str()), (422, Some("groups")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(told), "{problem}");
    }
    for (path, field) in [("after=x", "after"), ("after=x%2Fy", "after"), ("limit=0", "limit")] {
        let (status, problem) =
            api.refused(Method::GET, &format!("/location-groups?{path}"), Value::Null).await;
        assert_eq!((status, problem["field"].as_str()), (422, Some(field)), "{problem}");
    }
}

#[tokio::test]
async fn a_profile_follows_a_location_into_and_out_of_its_groups() {
    let baken = Baken::start().await;
    let client = baken.client();
    let router = baken.router().await;
    let tenant = &router["tenant"];
    let location = format!("/locations/{}", router["location"]);
    let warned = async |profile: String| {
        let path = format!("/alarm-profiles/check?tenant={tenant}");
        let answer = client.post_text(&path, "application/toml", profile).await.unwrap();
        let warnings = answer["warnings"].as_array().unwrap();
        let of_groups =
            warnings.iter().find(|it| it["field"] == "applies_to.location_groups[0]").cloned();
        of_groups.map(|it| format!("{}: {}", it["value"], it["message"]))
    };
    let empty = "\"Coast\": \"none of the tenant's locations is in this group\"";
    assert_eq!(warned(PROFILE.to_owned()).await.as_deref(), Some(empty));
    let path = format!("/alarm-profiles?tenant={tenant}");
    client.post_text(&path, "application/toml", PROFILE.to_owned()).await.unwrap();

    let mqtt = baken.run.mqtt.as_deref().unwrap();
    let mut mqtt = Mqtt::connect(mqtt, router["token"].as_str().unwrap()).await;
    mqtt.telemetry(r#"{"t":85}"#).await;
    let joined = json!({ "name": "North", "groups": ["Coast"] });
    client.put(&location, &joined).await.unwrap();
    assert_eq!(warned(PROFILE.to_owned()).await, None);
    let near =
        "\"Cost\": \"none of the tenant's locations is in this group; the nearest one is `Coast`\"";
    let misspelt = PROFILE.replace("[\"Coast\"]", "[\"Cost\"]");
    assert_eq!(warned(misspelt).await.as_deref(), Some(near));
    let newest = async || client.get("/alarms?limit=1").await.unwrap()["items"][0].clone();
    // A change takes a moment to reach the alarms.
    let (mut raised, deadline) = (Value::Null, Instant::now() + DEADLINE);
    while raised["active"] != true {
        assert!(Instant::now() < deadline, "no alarm came: {raised}");
        mqtt.telemetry(r#"{"t":85}"#).await;
        raised = newest().await;
    }
    assert_eq!(raised["rule"], "hot", "{raised}");
    client.put(&location, &json!({ "name": "North", "groups": ["Inland"] })).await.unwrap();
    let ended = until("the end of the alarm", async || {
        Some(newest().await).filter(|alarm| alarm["active"] == false)
    })
    .await;
    assert_eq!(ended["cleared_reason"], "rule_removed", "{ended}");
    assert_eq!(ended["id"], raised["id"]);
}
