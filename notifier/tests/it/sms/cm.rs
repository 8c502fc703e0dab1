use notifier::channel::{Outcome, Plain};
use notifier::sms::cm::{Cm, CmOptions};
use notifier::sms::{
    CallbackRequest, DeliveryReport, DeliveryStatus, Reported, SmsProvider, SmsRequest,
};
use schema::MessageId;
use serde_json::{Value, json};

use super::{
    Double, Kind, Reply, TIMEOUT_MS, answer, check_fresh_connections, check_lost_answers, key,
    kind, request, sender,
};
use crate::double::{Asked, install_tls};

const TOKEN: &str = "00000000-1111-2222-3333-444444444444";

fn cm(base_url: String, timeout_ms: u64) -> Cm {
    install_tls();
    let options = CmOptions::new(Plain(TOKEN.to_owned()), sender(), key());
    Cm::new(CmOptions { base_url, timeout_ms, ..options }).unwrap()
}

fn request_error(status: u16, code: u32, details: &str) -> Reply {
    let body = json!({ "details": details, "errorCode": code, "messages": [] });
    Reply::json(status, &body)
}

fn message_error(code: u32, details: &str) -> Reply {
    let message = json!({
        "to": "0031612345678", "status": "Rejected", "reference": null, "parts": 0,
        "messageDetails": details, "messageErrorCode": code,
    });
    let body = json!({
        "details": "Created 0 message(s)", "errorCode": 201, "messages": [message],
    });
    Reply::json(400, &body)
}

/// What CM's gateway checks.
fn respond(asked: &Asked) -> Reply {
    if asked.method != "POST" || asked.path != "/v1.0/message" {
        return Reply::status(404);
    }
    if asked.header("x-cm-producttoken") != TOKEN {
        return request_error(400, 101, "No account found for the given authentication");
    }
    let Ok(body) = serde_json::from_slice::<Value>(&asked.body) else {
        return request_error(400, 202, "The request is malformed");
    };
    let Some([message]) = body["messages"]["msg"].as_array().map(Vec::as_slice) else {
        return request_error(400, 203, "The MSG array is incorrect");
    };
    let number = message["to"][0]["number"].as_str().unwrap_or_default();
    let all_digits = number.bytes().all(|byte| byte.is_ascii_digit());
    if !(number.starts_with("00") && number.len() > 9 && all_digits) {
        return message_error(303, &format!("Gsm '{number}' is not a number."));
    }
    let reference = message["reference"].as_str().unwrap_or_default();
    let alphanumeric = reference.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !((1..=32).contains(&reference.len()) && alphanumeric) {
        return message_error(305, "The reference is invalid");
    }
    if message["from"] != "Baken" || message["allowedChannels"] != json!(["SMS"]) {
        return message_error(301, "The from field is invalid");
    }
    let parts = message["maximumNumberOfMessageParts"].as_u64();
    let text = message["body"]["content"].as_str().unwrap_or_default();
    if message["body"]["type"] != "auto" || text.is_empty() {
        return message_error(304, "A body without content was found");
    }
    let needed = text.chars().count().div_ceil(153) as u64;
    if parts.is_none_or(|parts| parts < needed) {
        return message_error(304, "Maximum number of parts exceeded.");
    }
    let body = json!({ "details": "Created 1 message(s)", "errorCode": 0, "messages": [{
        "to": number, "status": "Accepted", "reference": reference, "parts": 1,
        "messageDetails": null, "messageErrorCode": 0,
    }] });
    Reply::json(200, &body)
}

#[tokio::test]
async fn cm_takes_what_we_send() {
    let double = Double::start(respond).await;
    let cm = cm(double.url.clone(), TIMEOUT_MS);
    let sent = Outcome::Sent {
        answer: "200 OK: Created 1 message(s)".to_owned(),
        reference: Some("0000000000000000000000000000002a".to_owned()),
    };
    assert_eq!(cm.send(&request()).await, sent);
    let long = SmsRequest { text: "a".repeat(400), ..request() };
    assert_eq!(cm.send(&long).await, sent);
}

#[tokio::test]
async fn a_number_that_is_none_is_refused_and_a_wrong_token_is_the_providers_trouble() {
    let double = Double::start(respond).await;
    let none = SmsRequest { to: "+31x".to_owned(), ..request() };
    let outcome = cm(double.url.clone(), TIMEOUT_MS).send(&none).await;
    let expected = "400 Bad Request: error 303: Gsm '0031x' is not a number.";
    assert_eq!(outcome, Outcome::Refused { answer: expected.to_owned() });

    let options = CmOptions::new(Plain("wrong".to_owned()), sender(), key());
    let wrong = Cm::new(CmOptions { base_url: double.url.clone(), ..options }).unwrap();
    let outcome = wrong.send(&request()).await;
    assert_eq!(kind(&outcome), Kind::Provider(None), "{outcome:?}");
    let expected = "400 Bad Request: error 101: No account found for the given authentication";
    assert_eq!(answer(&outcome), expected);
}

#[tokio::test]
async fn an_error_says_whose_trouble_it_is() {
    let table = [
        (message_error(302, "to"), Kind::Refused),
        (message_error(402, "black listed"), Kind::Refused),
        (message_error(301, "from"), Kind::Provider(None)),
        (request_error(400, 102, "Insufficient balance."), Kind::Provider(None)),
        (request_error(500, 500, "internal"), Kind::Message(None)),
        (request_error(400, 777, "something new"), Kind::Refused),
        (Reply::status(401), Kind::Provider(None)),
        (Reply::status(429).with("Retry-After", "30"), Kind::Provider(Some(30))),
        (Reply::status(500), Kind::Message(None)),
        (Reply::status(503), Kind::Provider(None)),
        (Reply::status(504), Kind::Unknown),
        // Taken, by the status; what it says of it is no JSON of CM's.
        (Reply::status(200), Kind::Sent),
    ];
    let double = Double::in_turn(table.iter().map(|(reply, _)| reply.clone()).collect()).await;
    let provider = cm(double.url.clone(), TIMEOUT_MS);
    for (reply, expected) in table {
        let outcome = provider.send(&request()).await;
        assert_eq!(kind(&outcome), expected, "{reply:?}");
    }
}

#[tokio::test]
async fn what_cm_may_have_taken_is_not_sent_again() {
    check_lost_answers(|url, timeout_ms| Box::new(cm(url, timeout_ms))).await;
    let double = Double::start(respond).await;
    check_fresh_connections(&double, &cm(double.url.clone(), TIMEOUT_MS)).await;
}

#[tokio::test]
async fn no_answer_shows_the_token() {
    let body = format!("your token {TOKEN} is wrong");
    let double = Double::always(Reply::Answer { status: 403, headers: Vec::new(), body }).await;
    let outcome = cm(double.url.clone(), TIMEOUT_MS).send(&request()).await;
    assert_eq!(answer(&outcome), "403 Forbidden: your token [hidden] is wrong");
}

#[tokio::test]
async fn a_report_names_the_message_by_the_reference_that_was_sent() {
    let double = Double::start(respond).await;
    let cm = cm(double.url.clone(), TIMEOUT_MS);
    cm.send(&request()).await;
    let sent: Value = serde_json::from_slice(&double.asked()[0].body).unwrap();
    let message = &sent["messages"]["msg"][0];
    let report = json!({ "messages": { "msg": {
        "received": "2026-11-25T12:00:00", "to": message["to"][0]["number"],
        "reference": message["reference"],
        "status": { "code": "2", "errorCode": "0", "errorDescription": "" },
    } } });
    let request = CallbackRequest {
        url: cm.callback_url("https://baken.example.nl"),
        message: None,
        headers: Vec::new(),
        body: report.to_string().into_bytes(),
    };
    let delivered = DeliveryReport {
        message: Reported::Message(MessageId(0x2A)),
        status: DeliveryStatus::Delivered,
        answer: "delivered".to_owned(),
    };
    assert_eq!(cm.report(&request), Ok(vec![delivered]));
}
