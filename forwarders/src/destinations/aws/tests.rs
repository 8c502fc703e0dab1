#![allow(clippy::needless_pass_by_value, reason = "tests read better with values written in place")]

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::testing::outgoing_of;

fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::default();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn config(settings: Value, secrets: &[(&str, &str)]) -> Config {
    let mut config = crate::testing::config(&settings, &json!([]));
    let owned = |(name, secret): &(&str, &str)| ((*name).to_owned(), (*secret).to_owned());
    config.secrets = secrets.iter().map(owned).collect();
    config
}

fn by_iam(change: Value) -> Config {
    let mut settings = json!({
        "authentication": "iam", "endpoint": "a.iot.eu-west-1.amazonaws.com",
        "region": "eu-west-1", "access_key_id": "AKIA",
    });
    settings.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    config(settings, &[("secret_access_key", "s")])
}

#[test]
fn names_that_mean_something_in_topics_do_not_get_into_them() {
    let settings = config::read(&by_iam(json!({}))).unwrap();
    let value = outgoing_of("a/b+#c", "t", Datum::Integer(1), 5);
    assert_eq!(settings.topic_of(&value), "baken/North/a_b__c");
    let long = outgoing_of(&"é".repeat(200), "t", Datum::Integer(1), 5);
    assert!(settings.topic_of(&long).len() <= 256);
    assert_eq!(settings.test_topic(), "baken/connection-test/connection-test");
}

#[test]
fn the_policy_allows_what_is_needed_and_nothing_more() {
    let policy = policy("baken/{location}/{device}", Some("site-1"));
    let statements = policy["Statement"].as_array().unwrap();
    assert_eq!(statements[0]["Resource"], "arn:aws:iot:REGION:ACCOUNT:client/site-1");
    assert_eq!(statements[1]["Resource"], "arn:aws:iot:REGION:ACCOUNT:topic/baken/*");
    assert_eq!(super::policy("fixed", None)["Statement"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_wrong_is_named_by_its_field() {
    for (change, field) in [
        (json!({ "endpoint": "a b" }), "settings.endpoint"),
        (json!({ "topic": "$aws/x" }), "settings.topic"),
        (json!({ "topic": "a/+" }), "settings.topic"),
        (json!({ "topic": "a/b/c/d/e/f/g/h/i" }), "settings.topic"),
        (json!({ "topic": "{site}" }), "settings.topic"),
        (json!({ "region": "" }), "settings.region"),
        (json!({ "authentication": "certificate" }), "settings.client_id"),
        (json!({ "authentication": "none" }), "settings.authentication"),
    ] {
        let fault = AwsIotCore.check(&by_iam(change)).unwrap_err();
        assert_eq!(fault.field, field, "{fault}");
    }
    assert!(AwsIotCore.check(&by_iam(json!({}))).unwrap().identity.is_none());
}

#[test]
fn a_client_id_is_one_forwarder_s_and_a_key_fits_its_certificate() {
    let (certificate_pem, key) = certificate();
    let settings = |client_id: &str| {
        json!({
            "authentication": "certificate", "endpoint": "a.iot.eu-west-1.amazonaws.com",
            "client_id": client_id, "certificate": certificate_pem,
        })
    };
    let checked = AwsIotCore.check(&config(settings("site-1"), &[("private_key", &key)])).unwrap();
    let identity = checked.identity.unwrap();
    assert_eq!(identity.name, "aws a.iot.eu-west-1.amazonaws.com site-1");
    assert_eq!(identity.field, "settings.client_id");
    let other = certificate().1;
    for (client_id, key, field) in
        [("site-1", &other, "secrets.private_key"), ("a b", &key, "settings.client_id")]
    {
        let fault = AwsIotCore.check(&config(settings(client_id), &[("private_key", key)]));
        assert_eq!(fault.unwrap_err().field, field);
    }
}

#[test]
fn at_443_mqtt_is_named_in_the_handshake_and_elsewhere_if_told() {
    let (certificate_pem, key) = certificate();
    for (port, alpn, named) in [
        (Value::Null, Value::Null, false),
        (json!(443), Value::Null, true),
        (json!(8883), json!(true), true),
        (json!(443), json!(false), false),
    ] {
        let settings = json!({
            "authentication": "certificate", "endpoint": "a.iot.eu-west-1.amazonaws.com",
            "client_id": "site-1", "certificate": certificate_pem, "port": port, "alpn": alpn,
        });
        let read = config::read(&config(settings, &[("private_key", &key)])).unwrap();
        assert_eq!(read.alpn, named, "{port} {alpn}");
    }
}

#[test]
fn the_host_is_told_from_what_stands_around_it() {
    for (endpoint, host) in [
        ("a.iot.eu-west-1.amazonaws.com", "a.iot.eu-west-1.amazonaws.com"),
        ("https://a.example", "a.example"),
        ("http://10.0.0.1:8080", "10.0.0.1"),
    ] {
        let checked = AwsIotCore.check(&by_iam(json!({ "endpoint": endpoint }))).unwrap();
        assert_eq!((checked.host.name.as_str(), checked.host.field), (host, "settings.endpoint"));
    }
}
