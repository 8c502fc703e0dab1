#![allow(clippy::needless_pass_by_value, reason = "tests read better with values written in place")]

use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Class, Refused, Sent};
use super::*;
use crate::outgoing::Outgoing;
use crate::testing::{outgoing, outgoing_of};

fn config(settings: Value, items: Value) -> Config {
    crate::testing::config(&settings, &items)
}

fn encoder(settings: Value, items: Value) -> Encoder {
    let config = config(settings, items);
    Encoder::new(&config::read(&config).unwrap(), &config.items).unwrap()
}

fn line(encoder: &Encoder, value: &Outgoing) -> String {
    let mut lines = String::new();
    encoder.line(value, &mut lines);
    lines
}

fn settings() -> Value {
    json!({ "url": "https://influx.example", "bucket": "b" })
}

fn items() -> Value {
    json!([{ "key": "temperature", "data_type": "number", "measurement": "climate" }])
}

#[test]
fn a_value_is_a_line_with_its_sorted_tags() {
    let tags =
        json!({ "url": "http://i", "bucket": "b", "tags": { "zone": "a b", "aisle": "x=y" } });
    let items = json!([
        { "key": "t", "data_type": "number", "measurement": "m, {device}", "field": "deg C" },
        { "key": "text", "data_type": "text", "measurement": "m" },
    ]);
    let encoder = encoder(tags, items);
    let value = Outgoing { item: Some(0), ..outgoing("t", Datum::Number(21.5), 1_000) };
    assert_eq!(
        line(&encoder, &value),
        "m\\,\\ Pump\\ 1,aisle=x\\=y,device=Pump\\ 1,location=North,zone=a\\ b deg\\ C=21.5 1000\n"
    );
    let text = Datum::Text("say \"a\\b\"\nnext".into());
    let value = Outgoing { item: Some(1), ..outgoing("text", text, -5) };
    assert!(line(&encoder, &value).ends_with(" text=\"say \\\"a\\\\b\\\"\nnext\" -5\n"));
}

#[test]
fn each_type_is_written_in_its_own_way() {
    let encoder = encoder(settings(), items());
    for (datum, expected) in [
        (Datum::Number(1.0), "1"),
        (Datum::Number(1e21), "1000000000000000000000"),
        (Datum::Integer(-3), "-3i"),
        (Datum::Boolean(true), "true"),
        (Datum::Json("{\"a\":1}".into()), "\"{\\\"a\\\":1}\""),
    ] {
        let line = line(&encoder, &outgoing("temperature", datum, 1));
        assert!(line.contains(&format!(" temperature={expected} 1\n")), "{line}");
    }
}

#[test]
fn a_name_that_ends_with_a_backslash_does_not_swallow_what_follows() {
    let encoder = encoder(settings(), items());
    let value = outgoing_of("Pump\\", "temperature", Datum::Integer(1), 1);
    assert!(line(&encoder, &value).starts_with("climate,device=Pump/,location="));
}

#[test]
fn what_is_wrong_is_named_by_its_field() {
    let missing = json!([{ "key": "t", "data_type": "number" }]);
    let untyped = json!([{ "key": "t", "measurement": "m" }]);
    let place = json!([{ "key": "t", "data_type": "number", "measurement": "{site}" }]);
    let cases = [
        (json!({ "bucket": "b" }), items(), "settings"),
        (json!({ "url": "ftp://x", "bucket": "b" }), items(), "settings.url"),
        (json!({ "url": "https://u:p@x", "bucket": "b" }), items(), "settings.url"),
        (json!({ "url": "https://x", "bucket": " " }), items(), "settings.bucket"),
        (json!({ "url": "https://x", "bucket": "b", "token": "t" }), items(), "settings.token"),
        (settings(), json!([]), "items"),
        (settings(), missing, "items[0].settings"),
        (settings(), untyped, "items[0].data_type"),
        (settings(), place, "items[0].settings.measurement"),
    ];
    for (settings, items, field) in cases {
        let fault = InfluxDb.check(&config(settings, items)).unwrap_err();
        assert_eq!(fault.field, field, "{fault}");
    }
    let checked = InfluxDb.check(&config(settings(), items())).unwrap();
    assert!(!checked.newer_only && checked.identity.is_none());
    let long = Datum::Text("x".repeat(MAX_TEXT_BYTES + 1).into());
    assert_eq!((checked.fit)(long), Err(DropReason::TooLarge));
}

#[test]
fn each_answer_has_its_class() {
    let class = |status| request::sent(status, None, "", 2).failure.map(|failure| failure.class);
    for status in [200, 204] {
        assert_eq!(request::sent(status, None, "", 2), Sent::all(2));
    }
    for (status, expected) in [
        (400, Class::Refuse),
        (401, Class::Pause),
        (403, Class::Pause),
        (404, Class::Pause),
        (413, Class::Split),
        (422, Class::Refuse),
        (429, Class::Throttle),
        (500, Class::Bounded),
        (503, Class::Retry),
        (301, Class::Pause),
    ] {
        assert_eq!(class(status), Some(expected), "{status}");
    }
    let after = Some(Duration::from_secs(7));
    let body = r#"{"code":"too many requests","message":"slow\ndown"}"#;
    let failure = request::sent(429, after, body, 1).failure.unwrap();
    assert_eq!(failure.retry_after, after);
    assert_eq!(failure.message, "the platform takes no more for now (HTTP 429): slow down");
}

#[test]
fn lines_that_are_named_as_refused_are_the_only_ones() {
    let body = r#"{"error":"partial write of line protocol occurred","data":[
        {"original_line":"x","line_number":2,"error_message":"type conflict"}]}"#;
    let sent = request::sent(400, None, body, 3);
    let refused = Refused { index: 1, reason: "type conflict".to_owned() };
    assert_eq!(sent, Sent { done: 3, refused: vec![refused], failure: None });
    let beyond = body.replace('2', "9");
    assert_eq!(request::sent(400, None, &beyond, 3).failure.unwrap().class, Class::Refuse);
}
