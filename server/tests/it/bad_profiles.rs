//! Profiles that must not be saved, or not without a word: the field is named.

use serde_json::Value;

use super::harness::Baken;

const HEAD: &str = "name = \"p\"\n[[rules]]\nkey = \"r\"\n";
const RAISE: &str = "raise.major = { when = { key = \"t\", operator = \">\", value = 80 } }\n";
const CLEAR: &str = "clear = { when = { key = \"t\", operator = \"<\", value = 70 } }\n";

fn raise(filter: &str) -> String {
    format!("{HEAD}raise.major = {{ when = {{ {filter} }} }}\n{CLEAR}")
}

/// (profile, field, part of the message)
fn refused() -> Vec<(String, &'static str, &'static str)> {
    let value = "rules[0].raise.major.when.value";
    let nested = |depth: usize| {
        let leaf = "key = \"t\", operator = \">\", value = 1".to_owned();
        (0..depth).fold(leaf, |inner, _| format!("any = [{{ {inner} }}]"))
    };
    let matches =
        |pattern: &str| raise(&format!("key = \"t\", operator = \"matches\", value = '{pattern}'"));
    vec![
        (format!("{HEAD}{RAISE}"), "rules[0].clear", "an alarm that can't end is refused"),
        (matches("(a{1000}){1000}"), value, "bytes of memory"),
        (matches("((((((((((a{10}){10}){10}){10}){10}){10}){10}){10}){10}){10})"), value, "memory"),
        (matches("(a"), value, "unclosed group"),
        (
            raise(&nested(9)),
            "rules[0].raise.major.when.any[0].any[0].any[0].any[0].any[0].any[0].any[0].any[0]",
            "at most 8 deep",
        ),
        (raise(&nested(1_000)), "line 4", "at most 8 deep"),
        (
            raise("key = \"t\", operator = \"above\", value = 1"),
            "rules[0].raise.major.when.operator",
            "known are",
        ),
        (raise("key = \"t\", operator = \">\", value = \"hot\""), value, "a number"),
        (
            raise("key = 5, operator = \">\", value = 1"),
            "rules[0].raise.major.when.key",
            "expected a string",
        ),
        (format!("{HEAD}off_delay = 5\n{RAISE}{CLEAR}"), "rules[0].off_delay", "expected a string"),
    ]
}

#[tokio::test]
async fn what_can_not_work_is_refused_with_its_field() {
    let baken = Baken::start().await;
    let client = baken.client();
    let tenant = baken.router().await["tenant"].clone();
    let path = format!("/alarm-profiles?tenant={tenant}");
    for (profile, field, message) in refused() {
        let checked = client
            .post_text("/alarm-profiles/check", "application/toml", profile.clone())
            .await
            .unwrap();
        let errors = checked["errors"].as_array().unwrap();
        let told = |error: &Value| {
            error["field"] == field && error["message"].as_str().unwrap().contains(message)
        };
        assert!(errors.iter().any(told), "{field}: {message}\n{profile:.200}\n{checked}");
        let refused = client.post_text(&path, "application/toml", profile).await.unwrap_err();
        assert_eq!(refused.status(), Some(422), "{field}");
        assert!(refused.to_string().contains(field), "{field}: {refused}");
    }
    let profiles = client.get(&path).await.unwrap();
    let names: Vec<&Value> =
        profiles["items"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert!(!names.contains(&&Value::from("p")), "{names:?}");
}

#[tokio::test]
async fn contradictory_limits_are_saved_with_a_warning_at_their_field() {
    let baken = Baken::start().await;
    let client = baken.client();
    let tenant = baken.router().await["tenant"].clone();
    let path = format!("/alarm-profiles?tenant={tenant}");
    let clear = "clear = { when = { key = \"t\", operator = \"<\", value = 90 } }\n";
    let critical = "raise.critical = { when = { key = \"t\", operator = \">\", value = 75 } }\n";
    let profile = format!("{HEAD}{RAISE}{critical}{clear}");
    let saved = client.post_text(&path, "application/toml", profile).await.unwrap();
    let fields: Vec<&str> = saved["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning["field"].as_str().unwrap())
        .collect();
    let expected = ["rules[0].clear.when", "rules[0].raise.major.when", "rules[0].clear.when"];
    assert_eq!(fields, expected, "{saved}");
}
