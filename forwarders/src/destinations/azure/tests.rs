#![allow(clippy::needless_pass_by_value, reason = "tests read better with values written in place")]

use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

use super::super::encode;
use super::*;
use crate::testing::{outgoing, outgoing_of};

const STRING: &str = "HostName=hub.azure-devices.net;DeviceId=site 1;SharedAccessKey=a2V5";

fn config(settings: Value, secrets: &[(&str, &str)]) -> Config {
    let mut config = crate::testing::config(&settings, &json!([]));
    let owned = |(name, secret): &(&str, &str)| ((*name).to_owned(), (*secret).to_owned());
    config.secrets = secrets.iter().map(owned).collect();
    config
}

fn by_string(text: &str) -> Result<Checked, Fault> {
    let settings = json!({ "authentication": "connection_string" });
    AzureIotHub.check(&config(settings, &[("connection_string", text)]))
}

fn certificate(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_token_is_what_the_hub_s_own_library_makes() {
    // Made by azure-iot-device 2.14.0; tests/oracles compares anew.
    let token = token("hub.azure-devices.net", "dev/é", b"0123456789", 1_764_000_000);
    assert_eq!(token, TOKEN);
}

const TOKEN: &str = "SharedAccessSignature sr=hub.azure-devices.net%2Fdevices%2Fdev%2F%C3%A9&sig=dZGDgaIaylz5kPzEJlOlL6UprHZAY7yhgxfD0PBHcyg%3D&se=1764000000";

#[test]
fn a_topic_bears_the_properties_of_its_message() {
    let batch = [outgoing("t", Datum::Integer(1), 5)];
    let message = encode::messages(&batch, 1_000).pop().unwrap();
    assert_eq!(
        encoder::topic("site#1", &message, &batch[0]),
        "devices/site%231/messages/events/%24.mid=0-7-3-1&%24.ct=application%2Fjson&%24.ce=utf-8&device=Pump%201&location=North"
    );
    let batch = [outgoing_of("Köln", "t", Datum::Integer(1), 5)];
    assert!(encoder::topic("a", &message, &batch[0]).contains("&device=K%C3%B6ln&"));
}

#[test]
fn a_connection_string_that_is_none_is_told_and_not_shown() {
    let device = STRING.replace("site 1", "site-1");
    let identity = by_string(&device).unwrap().identity.unwrap();
    assert_eq!(identity.name, "azure hub.azure-devices.net site-1");
    for (text, part) in [
        (STRING, "device id"),
        ("HostName=h;DeviceId=d", "HostName="),
        ("HostName=h;SharedAccessKeyName=owner;SharedAccessKey=a2V5", "hub's own"),
        ("HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey=a2V5", "module"),
        ("HostName=h;DeviceId=d;SharedAccessKey=not base64", "base64"),
        ("HostName=h/x;DeviceId=d;SharedAccessKey=a2V5", "host"),
        ("secret", "HostName="),
    ] {
        let fault = by_string(text).unwrap_err();
        assert_eq!(fault.field, "secrets.connection_string");
        assert!(fault.message.contains(part), "{text}: {fault}");
        assert!(!fault.message.contains("a2V5") && !fault.message.contains("secret"));
    }
}

#[test]
fn a_certificate_must_fit_its_key_and_its_device() {
    let (certificate_pem, key) = certificate("site-1");
    let other_key = certificate("site-1").1;
    let settings = |kind: &str, device: &str, certificate: &str| {
        json!({
            "authentication": kind, "host": "h.azure-devices.net", "device_id": device,
            "certificate": certificate,
        })
    };
    let check =
        |settings: Value, key: &str| AzureIotHub.check(&config(settings, &[("private_key", key)]));
    let checked = check(settings("x509_ca_signed", "site-1", &certificate_pem), &key).unwrap();
    assert_eq!(checked.identity.unwrap().field, "settings.device_id");
    assert!(check(settings("x509_self_signed", "other", &certificate_pem), &key).is_ok());
    let version_1 = include_str!("../../../tests/data/version-1.pem");
    for (settings, key, field) in [
        (settings("x509_ca_signed", "other", &certificate_pem), &key, "settings.certificate"),
        (settings("x509_self_signed", "site-1", version_1), &key, "settings.certificate"),
        (
            settings("x509_self_signed", "site-1", &certificate_pem),
            &other_key,
            "secrets.private_key",
        ),
        (settings("x509_self_signed", "a b", &certificate_pem), &key, "settings.device_id"),
        (settings("x509_self_signed", "", &certificate_pem), &key, "settings.device_id"),
    ] {
        let fault = check(settings, key).unwrap_err();
        assert_eq!(fault.field, field, "{fault}");
    }
}

#[test]
fn a_token_s_life_is_long_enough_to_be_renewed_in_and_short_enough_to_be_lost() {
    let device = STRING.replace("site 1", "site-1");
    let check = |life: Value| {
        let settings = json!({ "authentication": "connection_string", "token_life_s": life });
        config::read(&config(settings, &[("connection_string", &device)]))
    };
    assert_eq!(check(Value::Null).ok().map(|it| it.token_life_s), Some(3_600));
    assert_eq!(check(json!(10)).ok().map(|it| it.token_life_s), Some(10));
    for wrong in [json!(9), json!(86_401), json!(-1)] {
        let fault = check(wrong).err().unwrap();
        assert_eq!(fault.field, "settings.token_life_s", "{fault}");
    }
}
