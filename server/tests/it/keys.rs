//! A profile that names a key which nobody sends is warned of.

use serde_json::{Value, json};

use super::harness::{Baken, recent_ms, until};
use super::mqtt::Mqtt;

const PROFILE: &str = r#"
    name = "Machines"
    [[rules]]
    key = "hot"
    raise.critical = { when = { all = [{ key = "temprature", operator = ">", value = 90 }, { key = "gone/open", operator = "is", value = true }] } }
    raise.major = { when = { key = "temperature", operator = ">", value = { key = "limitt" } } }
    clear = { when = { key = "temperature", operator = "<", value = 70 } }
"#;

fn warnings(answer: &Value) -> Vec<(&str, &str, &str)> {
    let items = answer["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .map(|warning| {
            let part = |name: &str| warning[name].as_str().unwrap();
            (part("field"), part("value"), part("message"))
        })
        .collect()
}

#[tokio::test]
async fn keys_that_no_device_has_sent_are_named_with_the_nearest() {
    let baken = Baken::start().await;
    let client = baken.client();
    let router = baken.router().await;
    let tenant = router["tenant"].clone();
    let check = format!("/alarm-profiles/check?tenant={tenant}");
    let ask = async |path: &str| {
        client.post_text(path, "application/toml", PROFILE.to_owned()).await.unwrap()
    };
    // Nothing was sent so far, so nothing is known of the rule's own keys.
    let answer = ask(&check).await;
    let unknown = ("rules[0].raise.critical.when.all[1].key", "gone/open");
    assert_eq!(warnings(&answer).iter().map(|w| (w.0, w.1)).collect::<Vec<_>>(), [unknown]);

    let token = router["token"].as_str().unwrap();
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    let ts = recent_ms();
    mqtt.telemetry(&format!(r#"{{"ts":{ts},"values":{{"temperature":21.5,"limit":80}}}}"#)).await;
    let answer = until("the readings", async || {
        let answer = ask(&check).await;
        (warnings(&answer).len() > 1).then_some(answer)
    })
    .await;
    let nobody = "the one device that the profile is for has never sent this key";
    let expected = [
        (
            "rules[0].raise.critical.when.all[0].key",
            "temprature",
            &*format!("{nobody}; the nearest one sent is `temperature`"),
        ),
        (unknown.0, unknown.1, "the tenant has no device `gone`"),
        (
            "rules[0].raise.major.when.value.key",
            "limitt",
            &*format!("{nobody}; the nearest one sent is `limit`"),
        ),
    ];
    assert_eq!(answer["errors"], json!([]));
    assert_eq!(warnings(&answer), expected);
    // It can be saved all the same, and says so again, then and at each change.
    let saved = ask(&format!("/alarm-profiles?tenant={tenant}")).await;
    assert_eq!(warnings(&saved), expected);
    let known = PROFILE.replace("temprature", "temperature").replace("limitt", "limit");
    let answer = client.post_text(&check, "application/toml", known).await.unwrap();
    assert_eq!(warnings(&answer).len(), 1, "{answer}");
    // Without a tenant there is no history to look at.
    assert_eq!(warnings(&ask("/alarm-profiles/check").await), []);
}

#[tokio::test]
async fn other_devices_than_those_that_the_profile_is_for_do_not_count_nor_do_other_tenants() {
    let baken = Baken::start().await;
    let client = baken.client();
    let router = baken.router().await;
    let token = router["token"].as_str().unwrap();
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    let ts = recent_ms();
    for (device, key) in [("pump", "limitt"), ("fan", "limit")] {
        let reading = format!(r#"{{"{device}":[{{"ts":{ts},"values":{{"{key}":1}}}}]}}"#);
        mqtt.publish("v1/gateway/telemetry", &reading).await;
    }
    let device = until("the devices", async || {
        let devices = client.get(&format!("/devices?tenant={}", router["tenant"])).await.unwrap();
        let devices = devices["items"].as_array().unwrap().clone();
        devices.into_iter().find(|device| device["name"] == "fan")
    })
    .await;
    let profile = format!("applies_to = {{ devices = [{}] }}\n{PROFILE}", device["id"]);
    let path = format!("/alarm-profiles/check?tenant={}", router["tenant"]);
    let answer = until("the readings", async || {
        let answer = client.post_text(&path, "application/toml", profile.clone()).await.unwrap();
        (warnings(&answer).len() > 1).then_some(answer)
    })
    .await;
    let fields: Vec<&str> = warnings(&answer).iter().map(|warning| warning.1).collect();
    // The pump has sent `limitt`, but the profile is for the fan.
    assert_eq!(fields, ["temprature", "gone/open", "temperature", "limitt", "temperature"]);

    let other = client.post("/tenants", &json!({ "name": "Other" })).await.unwrap();
    let token = json!({ "name": "t", "tenant": other["id"] });
    let token = client.post("/tokens", &token).await.unwrap();
    let theirs = server::client::ApiClient::new(&baken.run.api, token["token"].as_str().unwrap());
    let refused = theirs.unwrap().post_text(&path, "application/toml", profile).await.unwrap_err();
    assert!(matches!(refused.status(), Some(403 | 404)), "{refused}");
}

/// A profile of one rule for each of these keys.
fn of_keys<'a>(keys: impl IntoIterator<Item = &'a str>, clear: &str) -> String {
    let rule = |(index, key): (usize, &str)| {
        format!(
            "[[rules]]\nkey = \"r{index}\"\n\
             raise.major = {{ when = {{ key = \"{key}\", operator = \">\", value = 1 }} }}\n\
             clear = {{ when = {{ key = \"temperature\", operator = \"{clear}\", value = 1 }} }}\n"
        )
    };
    let rules: String = keys.into_iter().enumerate().map(rule).collect();
    format!("name = \"p\"\n{rules}")
}

#[tokio::test]
async fn unknown_keys_are_looked_for_in_a_right_profile_only_and_so_many_of_them() {
    let baken = Baken::start().await;
    let client = baken.client();
    let router = baken.router().await;
    let token = router["token"].as_str().unwrap();
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    mqtt.telemetry(&format!(r#"{{"ts":{},"values":{{"temperature":21.5}}}}"#, recent_ms())).await;
    // A token that only reads may ask.
    let reader = json!({ "name": "reader", "tenant": router["tenant"], "read_only": true });
    let reader = client.post("/tokens", &reader).await.unwrap();
    let reader = reader["token"].as_str().unwrap();
    let reader = server::client::ApiClient::new(&baken.run.api, reader).unwrap();
    let ask = async |text: String| {
        reader.post_text("/alarm-profiles/check", "application/toml", text).await.unwrap()
    };
    let keys: Vec<String> =
        ('f'..='z').chain('0'..='3').map(|last| format!("temperatur{last}")).collect();
    assert_eq!(keys.len(), 25);
    // The first once more at the end: it is looked for once.
    let named = keys.iter().map(String::as_str).chain([&*keys[0]]);
    let text = of_keys(named, "<");
    let answer = until("the reading", async || {
        let answer = ask(text.clone()).await;
        (!warnings(&answer).is_empty()).then_some(answer)
    })
    .await;
    let near: Vec<bool> =
        warnings(&answer).iter().map(|w| w.2.ends_with("is `temperature`")).collect();
    let expected: Vec<bool> = (0..26).map(|index| index < 20 || index == 25).collect();
    assert_eq!(near, expected, "{answer}");

    let answer = ask(of_keys(["temperatur"], "over")).await;
    assert_eq!(answer["errors"].as_array().unwrap().len(), 1);
    assert_eq!(warnings(&answer), []);
}
