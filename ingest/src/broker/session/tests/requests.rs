//! Attribute requests and the router's own calls.

use serde_json::{Value, json};

use super::*;

fn question(bench: &mut Bench) -> Option<Question> {
    let place = bench.out.actions.iter().position(|action| matches!(action, Action::Ask(_)))?;
    match bench.out.actions.swap_remove(place) {
        Action::Ask(question) => Some(question),
        _ => None,
    }
}

fn answered(bench: &mut Bench, reply: ReplyTo, client: Values, shared: Values) -> Vec<Received> {
    bench.out.clear();
    bench.session.answer(Some(Answer { reply, client, shared }), &mut bench.out);
    received(bench.session.version, &bench.out.bytes)
}

#[test]
fn get_session_limits_is_answered_as_the_contract_has_it() {
    let mut bench = v3();
    bench.subscribe("v1/devices/me/rpc/response/+", 1);
    let call = r#"{"method":"getSessionLimits","params":{}}"#;
    bench.feed(&publish(Version::V3, "v1/devices/me/rpc/request/5", 1, call));
    let answer = received(Version::V3, &bench.out.bytes).remove(0);
    assert_eq!(answer.topic, "v1/devices/me/rpc/response/5");
    let rates = json!({"messages": "", "telemetryMessages": "", "telemetryDataPoints": ""});
    let expected = json!({
        "maxPayloadSize": 65_536,
        "maxInflightMessages": 100,
        "rateLimits": rates,
        "gatewayRateLimits": rates,
    });
    assert_eq!(serde_json::from_str::<Value>(&answer.payload).unwrap(), expected);
}

#[test]
fn an_unknown_method_is_answered_with_an_error() {
    let mut bench = v5();
    let call = r#"{"method":"reboot","params":1}"#;
    bench.feed(&publish(Version::V5, "v2/r/req/j/5", 0, call));
    let answer = received(Version::V5, &bench.out.bytes).remove(0);
    assert_eq!((&*answer.topic, answer.id), ("v2/r/res/j/5", 0));
    assert_eq!(answer.payload, r#"{"error":"unknown method \"reboot\""}"#);
}

#[test]
fn a_request_waits_for_what_was_published_before_it() {
    let mut bench = v3();
    let topic = "v1/devices/me/attributes/request/8";
    let body = r#"{"clientKeys":"a,b","sharedKeys":"c"}"#;
    let input = [
        publish(Version::V3, "v1/devices/me/attributes", 1, r#"{"a":1}"#),
        publish(Version::V3, topic, 2, body),
    ]
    .concat();
    bench.feed(&input);
    assert!(question(&mut bench).is_none(), "nothing is durable yet");
    bench.durable();
    let asked = question(&mut bench).unwrap();
    assert!(asked.after_attributes);
    assert_eq!(asked.scopes.client, Some(Some(vec!["a".to_owned(), "b".to_owned()])));
    assert_eq!(asked.scopes.shared, Some(Some(vec!["c".to_owned()])));
    let client = vec![("a".to_owned(), json!(1))];
    let down = answered(&mut bench, asked.reply, client, Vec::new());
    assert_eq!(down[0].topic, "v1/devices/me/attributes/response/8");
    assert_eq!(down[0].payload, r#"{"client":{"a":1}}"#, "a part is absent when empty");
}

#[test]
fn a_request_alone_is_asked_at_once() {
    let mut bench = v3();
    bench.feed(&publish(Version::V3, "v2/a/req/1", 0, "{}"));
    let asked = question(&mut bench).unwrap();
    assert!(!asked.after_attributes);
    assert_eq!((asked.scopes.client, asked.scopes.shared), (Some(None), Some(None)));
    let down = answered(&mut bench, asked.reply, Vec::new(), Vec::new());
    assert_eq!((&*down[0].topic, &*down[0].payload), ("v2/a/res/1", "{}"));
}

#[test]
fn requests_are_bounded() {
    let mut bench = v3();
    let one = publish(Version::V3, "v1/devices/me/attributes/request/1", 1, "{}");
    let limit = SessionLimits::default().max_pending_requests;
    assert_eq!(bench.read(&one.repeat(100)), one.len() * limit);
    let asked = question(&mut bench).unwrap();
    answered(&mut bench, asked.reply, Vec::new(), Vec::new());
    assert_eq!(bench.read(&one.repeat(100)), one.len());
}

#[test]
fn a_gateway_asks_for_one_key_or_several() {
    let topic = "v1/gateway/attributes/request";
    let values = || vec![("a".to_owned(), json!(1))];
    for (body, expected) in [
        (
            r#"{"id":3,"device":"P","client":false,"key":"a"}"#,
            json!({"id": 3, "device": "P", "value": 1}),
        ),
        (
            r#"{"id":3,"device":"P","client":true,"keys":["a","b"]}"#,
            json!({"id": 3, "device": "P", "values": {"a": 1}}),
        ),
    ] {
        let mut bench = v3();
        let request = publish(Version::V3, topic, 1, body);
        assert_eq!(bench.read(&request), 0);
        bench.resolved(&[("P", Ok(51))]);
        bench.feed(&request);
        let asked = question(&mut bench).unwrap();
        assert_eq!(asked.device, DeviceId(51));
        let is_client = asked.scopes.client.is_some();
        let (client, shared) =
            if is_client { (values(), Vec::new()) } else { (Vec::new(), values()) };
        let down = answered(&mut bench, asked.reply, client, shared);
        assert_eq!(down[0].topic, "v1/gateway/attributes/response");
        assert_eq!(serde_json::from_str::<Value>(&down[0].payload).unwrap(), expected);
    }
}
