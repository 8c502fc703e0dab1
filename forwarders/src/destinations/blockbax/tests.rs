#![allow(clippy::needless_pass_by_value, reason = "tests read better with values written in place")]

use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Class, Sent};
use super::encoder::Body;
use super::*;
use crate::outgoing::Outgoing;
use crate::testing::{outgoing, outgoing_of};

fn config(settings: Value, items: Value) -> Config {
    let mut config = crate::testing::config(&settings, &items);
    config.secrets.insert(config::ACCESS_TOKEN.to_owned(), "secret".to_owned());
    config
}

fn settings() -> Value {
    json!({ "project_id": "7d2c-1", "inbound_connector_id": "c-9" })
}

fn items() -> Value {
    json!([
        { "key": "temp", "data_type": "number", "ingestion_id": "{location}${key}" },
        { "key": "place", "data_type": "json", "ingestion_id": "{device}$place" },
    ])
}

fn encoder() -> Encoder {
    Encoder::new(&config(settings(), items()).items).unwrap()
}

fn batch() -> Vec<Outgoing> {
    let place = Datum::Json(r#"{"lat":52.1,"lon":4.30,"x":1}"#.into());
    vec![
        outgoing("temp", Datum::Number(21.53), 1_764_000_000_000),
        Outgoing { item: Some(1), ..outgoing("place", place, 5) },
        outgoing_of("Other", "temp", Datum::Integer(-3), 1_764_000_000_001),
    ]
}

#[test]
fn a_body_has_each_series_once_with_its_values_in_order() {
    let body = encoder().body(&batch());
    assert_eq!(
        serde_json::to_string(&body).unwrap(),
        r#"{"series":[{"ingestionId":"North$temp","measurements":[{"date":1764000000000,"number":"21.53"},{"date":1764000000001,"number":"-3"}]},{"ingestionId":"Pump 1$place","measurements":[{"date":5,"location":{"lat":52.1,"lon":4.30}}]}]}"#
    );
    assert_eq!(body.series[0].values, [0, 2]);
}

#[test]
fn values_are_brought_to_what_the_platform_keeps() {
    assert_eq!(fit(Datum::Number(0.123_456_789)), Ok(Datum::Number(0.123_456_79)));
    assert_eq!(fit(Datum::Number(1e20)), Err(DropReason::TooLarge));
    assert_eq!(fit(Datum::Boolean(true)), Ok(Datum::Number(1.0)));
    assert_eq!(fit(Datum::Json("{\"lat\":1}".into())), Err(DropReason::WrongType));
    let long = Datum::Text("x".repeat(MAX_TEXT_BYTES + 1).into());
    assert_eq!(fit(long), Err(DropReason::TooLarge));
}

#[test]
fn what_is_wrong_is_named_by_its_field() {
    let boolean = json!([{ "key": "a", "data_type": "boolean", "ingestion_id": "a" }]);
    let missing = json!([{ "key": "a", "data_type": "number" }]);
    let other_project = json!({ "project_id": "a/b", "inbound_connector_id": "c" });
    let cases = [
        (json!({ "inbound_connector_id": "c" }), items(), "settings"),
        (
            json!({ "project_id": "p", "inbound_connector_id": "?" }),
            items(),
            "settings.inbound_connector_id",
        ),
        (other_project, items(), "settings.project_id"),
        (settings(), json!([]), "items"),
        (settings(), boolean, "items[0].data_type"),
        (settings(), missing, "items[0].settings"),
    ];
    for (settings, items, field) in cases {
        let fault = Blockbax.check(&config(settings, items)).unwrap_err();
        assert_eq!(fault.field, field, "{fault}");
    }
    let mut without = config(settings(), items());
    without.secrets.clear();
    assert_eq!(Blockbax.check(&without).unwrap_err().field, "secrets.access_token");
    assert!(Blockbax.check(&config(settings(), items())).unwrap().newer_only);
}

#[test]
fn series_that_an_answer_names_are_refused_and_no_others() {
    let (batch, encoder) = (batch(), encoder());
    let body = encoder.body(&batch);
    let answer = r#"{"errors":[{"ingestionId":"North$temp","message":"older"}]}"#;
    let sent = request::sent(207, None, 0, answer, &body, 3);
    let indexes: Vec<usize> = sent.refused.iter().map(|refused| refused.index).collect();
    assert_eq!((sent.done, indexes, sent.failure), (3, vec![0, 2], None));
    assert_eq!(request::sent(202, None, 0, "", &body, 3), Sent::all(3));
}

#[test]
fn a_limit_says_when_to_come_back_in_seconds_or_as_a_time() {
    let body = Body::default();
    let wait = |reset| {
        let sent = request::sent(429, Some(reset), 1_764_000_000, "", &body, 1);
        let failure = sent.failure.unwrap();
        assert_eq!(failure.class, Class::Throttle);
        failure.retry_after.unwrap()
    };
    assert_eq!(wait(7), Duration::from_secs(8));
    assert_eq!(wait(1_764_000_030), Duration::from_secs(31));
    for (status, class) in [(401, Class::Pause), (400, Class::Refuse), (503, Class::Retry)] {
        let failure = request::sent(status, Some(7), 0, "", &body, 1).failure.unwrap();
        assert_eq!((failure.class, failure.retry_after), (class, None));
    }
}
