use notifier::channel::{Outcome, Plain};
use notifier::sms::http::{Http, HttpOptions, Reference};
use notifier::sms::{SmsProvider, SmsRequest};
use serde_json::{Value, json};

use super::{
    Double, Kind, Reply, answer, check_fresh_connections, check_lost_answers, key, kind, request,
    sender,
};
use crate::double::install_tls;

const SECRET: &str = "s3cret key/+";

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn json_gateway(base_url: &str) -> HttpOptions {
    let body = r#"{"sms": {"to": "{{to}}", "from": "{{from}}", "text": "{{text}}",
                   "ref": "{{id}}", "report": "{{callback}}"}}"#;
    HttpOptions {
        headers: vec![
            header("Content-Type", "application/json"),
            header("Authorization", "Bearer {{secret}}"),
        ],
        secret: Plain(SECRET.to_owned()),
        reference: Some(Reference::Pointer("/ids/0".to_owned())),
        ..HttpOptions::new(format!("{base_url}/send"), body.to_owned(), sender(), key())
    }
}

fn gateway(options: HttpOptions) -> Http {
    install_tls();
    Http::new(options).unwrap()
}

#[tokio::test]
async fn a_json_gateway_gets_every_value_whole() {
    let double = Double::always(Reply::json(202, &json!({ "ids": [77] }))).await;
    let sent = gateway(json_gateway(&double.url)).send(&request()).await;
    let answer = r#"202 Accepted: {"ids":[77]}"#.to_owned();
    assert_eq!(sent, Outcome::Sent { answer, reference: Some("77".to_owned()) });
    let asked = &double.asked()[0];
    assert_eq!((&*asked.method, &*asked.path), ("POST", "/send"));
    assert_eq!(asked.header("authorization"), format!("Bearer {SECRET}"));
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    let SmsRequest { to, text, callback, .. } = request();
    let id = "0000000000000000000000000000002a";
    let expected = json!({ "sms": { "to": to, "from": "Baken", "text": text, "ref": id, "report": callback } });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_form_gateway_gets_every_value_whole() {
    let reply = Reply::status(200).with("X-Message", "m-1");
    let double = Double::always(reply).await;
    let body = "to={{to | replace('+', '00')}}&text={{text}}&key={{secret}}";
    let options = HttpOptions {
        headers: vec![header("content-type", "application/x-www-form-urlencoded")],
        body: body.to_owned(),
        reference: Some(Reference::Header("x-message".to_owned())),
        ..json_gateway(&double.url)
    };
    let sent = gateway(options).send(&request()).await;
    let expected = Outcome::Sent { answer: "200 OK".to_owned(), reference: Some("m-1".to_owned()) };
    assert_eq!(sent, expected);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let form = [pair("to", "0031612345678"), pair("text", &request().text), pair("key", SECRET)];
    assert_eq!(double.asked()[0].form(), form);
}

#[tokio::test]
async fn a_gateway_may_take_it_all_in_the_url() {
    let double = Double::always(Reply::status(200)).await;
    let url = format!("{}/send?to={{{{to}}}}&text={{{{text}}}}&k={{{{secret}}}}", double.url);
    let options = HttpOptions {
        method: "GET".to_owned(),
        url,
        headers: Vec::new(),
        body: String::new(),
        reference: None,
        ..json_gateway("")
    };
    assert_eq!(kind(&gateway(options).send(&request()).await), Kind::Sent);
    let asked = &double.asked()[0];
    assert_eq!((&*asked.method, asked.text()), ("GET", ""));
    let query = asked.path.split_once('?').unwrap().1;
    let query: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = [pair("to", "+31612345678"), pair("text", &request().text), pair("k", SECRET)];
    assert_eq!(query, expected);
}

#[tokio::test]
async fn what_counts_as_taken_is_set() {
    let double = Double::always(Reply::status(200)).await;
    let only_202 = HttpOptions { success: vec![202], ..json_gateway(&double.url) };
    // Something was taken, but who knows as what: it isn't sent again.
    assert_eq!(kind(&gateway(only_202).send(&request()).await), Kind::Unknown);
    let with_409 = HttpOptions { success: vec![200, 409], ..json_gateway(&double.url) };
    assert_eq!(kind(&gateway(with_409).send(&request()).await), Kind::Sent);
}

#[tokio::test]
async fn an_error_says_whose_trouble_it_is_and_shows_no_secret() {
    let table = [
        (Reply::status(400), Kind::Refused),
        (Reply::status(401), Kind::Provider(None)),
        (Reply::status(404), Kind::Provider(None)),
        (Reply::status(429).with("Retry-After", "9"), Kind::Provider(Some(9))),
        (Reply::status(500), Kind::Message(None)),
        (Reply::status(503), Kind::Provider(None)),
        (Reply::status(504), Kind::Unknown),
    ];
    let double = Double::in_turn(table.iter().map(|(reply, _)| reply.clone()).collect()).await;
    let provider = gateway(json_gateway(&double.url));
    for (reply, expected) in table {
        let outcome = provider.send(&request()).await;
        assert_eq!(kind(&outcome), expected, "{reply:?}");
    }
    let body = format!("Bearer {SECRET} or {SECRET} is wrong");
    let double = Double::always(Reply::Answer { status: 403, headers: Vec::new(), body }).await;
    let outcome = gateway(json_gateway(&double.url)).send(&request()).await;
    let text = answer(&outcome);
    assert!(!text.contains("s3cret") && text.ends_with("is wrong"), "{text}");
}

#[tokio::test]
async fn what_a_gateway_may_have_taken_is_not_sent_again() {
    check_lost_answers(|url, timeout_ms| {
        Box::new(gateway(HttpOptions { timeout_ms, ..json_gateway(&url) }))
    })
    .await;
    let double = Double::always(Reply::status(200)).await;
    check_fresh_connections(&double, &gateway(json_gateway(&double.url))).await;
}
