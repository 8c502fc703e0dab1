use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use notifier::channel::{Outcome, Plain};
use notifier::sms::callback::callback_url;
use notifier::sms::twilio::{SendAs, Twilio, TwilioOptions};
use notifier::sms::{
    CallbackError, CallbackRequest, DeliveryReport, DeliveryStatus, Reported, SmsProvider,
    SmsRequest,
};
use schema::{MessageId, is_phone};
use serde_json::{Value, json};
use sha1::Sha1;

use super::{
    Double, Kind, Reply, TIMEOUT_MS, answer, check_fresh_connections, check_lost_answers, key,
    kind, request, sender,
};
use crate::double::{Asked, install_tls};

const TOKEN: &str = "0123456789abcdef-token";
const SID: &str = "AC00000000000000000000000000000001";
const SERVICE: &str = "MG00000000000000000000000000000002";

fn twilio(base_url: String, timeout_ms: u64) -> Twilio {
    let options =
        TwilioOptions::new(SID.to_owned(), Plain(TOKEN.to_owned()), SendAs::Sender(sender()));
    install_tls();
    Twilio::new(TwilioOptions { base_url, timeout_ms, ..options }).unwrap()
}

fn error(status: u16, code: u32, message: &str) -> Reply {
    let more_info = format!("https://www.twilio.com/docs/errors/{code}");
    let body =
        json!({ "code": code, "message": message, "more_info": more_info, "status": status });
    Reply::json(status, &body)
}

/// What Twilio's Messages resource checks, in its order.
fn respond(asked: &Asked) -> Reply {
    let authorization = format!("Basic {}", STANDARD.encode(format!("{SID}:{TOKEN}")));
    if asked.header("authorization") != authorization {
        return error(401, 20003, "Authenticate");
    }
    if asked.method != "POST" || asked.path != format!("/2010-04-01/Accounts/{SID}/Messages.json") {
        return error(404, 20404, "The requested resource was not found");
    }
    let form = asked.form();
    let field =
        |name: &str| form.iter().find(|(known, _)| known == name).map(|(_, value)| &**value);
    if asked.header("content-type") != "application/x-www-form-urlencoded" {
        return error(400, 21604, "A 'To' phone number is required.");
    }
    match (field("From"), field("MessagingServiceSid")) {
        (Some("Baken"), None) => {}
        (None, Some(SERVICE)) => {}
        _ => return error(400, 21603, "A 'From' phone number is required."),
    }
    let to = field("To").unwrap_or_default();
    if !is_phone(to) {
        return error(400, 21211, &format!("The 'To' number {to} is not a valid phone number."));
    }
    if field("Body") != Some(&*request().text) {
        return error(400, 21602, "Message body is required.");
    }
    if field("StatusCallback").is_some_and(|url| !url.starts_with("https://baken.example.nl/")) {
        return error(400, 21609, "The StatusCallback URL is not a valid URL.");
    }
    let body = json!({
        "sid": "SM00000000000000000000000000000003", "status": "queued", "to": to,
        "num_segments": "1", "error_code": null, "error_message": null,
    });
    Reply::json(201, &body)
}

#[tokio::test]
async fn twilio_takes_what_we_send() {
    let double = Double::start(respond).await;
    let twilio = twilio(double.url.clone(), TIMEOUT_MS);
    let sent = Outcome::Sent {
        answer: "201 Created: queued SM00000000000000000000000000000003".to_owned(),
        reference: Some("SM00000000000000000000000000000003".to_owned()),
    };
    assert_eq!(twilio.send(&request()).await, sent);
    let without_report = SmsRequest { callback: None, ..request() };
    assert_eq!(twilio.send(&without_report).await, sent);

    let send_as = SendAs::MessagingService(SERVICE.to_owned());
    let options = TwilioOptions::new(SID.to_owned(), Plain(TOKEN.to_owned()), send_as);
    let options = TwilioOptions { base_url: format!("{}/", double.url), ..options };
    assert_eq!(Twilio::new(options).unwrap().send(&request()).await, sent);
}

#[tokio::test]
async fn a_number_that_is_none_is_refused_and_a_wrong_token_is_the_providers_trouble() {
    let double = Double::start(respond).await;
    let none = SmsRequest { to: "+0".to_owned(), ..request() };
    let outcome = twilio(double.url.clone(), TIMEOUT_MS).send(&none).await;
    let expected = "400 Bad Request: error 21211: The 'To' number +0 is not a valid phone number.";
    assert_eq!(outcome, Outcome::Refused { answer: expected.to_owned() });

    let send_as = SendAs::Sender(sender());
    let options = TwilioOptions::new(SID.to_owned(), Plain("wrong".to_owned()), send_as);
    let wrong = Twilio::new(TwilioOptions { base_url: double.url.clone(), ..options }).unwrap();
    let outcome = wrong.send(&request()).await;
    assert_eq!(kind(&outcome), Kind::Provider(None), "{outcome:?}");
    assert_eq!(answer(&outcome), "401 Unauthorized: error 20003: Authenticate");
}

#[tokio::test]
async fn an_error_says_whose_trouble_it_is() {
    let table = [
        (error(400, 21614, "not a mobile number"), Kind::Refused),
        (error(400, 21610, "unsubscribed"), Kind::Refused),
        (error(400, 29999, "something new"), Kind::Refused),
        (error(400, 21606, "From can't send"), Kind::Provider(None)),
        (error(404, 20404, "not found"), Kind::Provider(None)),
        (error(429, 20429, "too many").with("Retry-After", "17"), Kind::Provider(Some(17))),
        (Reply::status(429).with("Retry-After", "86400"), Kind::Provider(Some(3_600))),
        (Reply::status(429), Kind::Provider(None)),
        (error(500, 20500, "internal"), Kind::Message(None)),
        (Reply::status(502), Kind::Provider(None)),
        (Reply::status(503).with("Retry-After", "5"), Kind::Provider(Some(5))),
        (Reply::status(504), Kind::Unknown),
    ];
    let double = Double::in_turn(table.iter().map(|(reply, _)| reply.clone()).collect()).await;
    let provider = twilio(double.url.clone(), TIMEOUT_MS);
    for (reply, expected) in table {
        let outcome = provider.send(&request()).await;
        assert_eq!(kind(&outcome), expected, "{reply:?}");
    }
}

#[tokio::test]
async fn what_twilio_may_have_taken_is_not_sent_again() {
    check_lost_answers(|url, timeout_ms| Box::new(twilio(url, timeout_ms))).await;
    let double = Double::start(respond).await;
    check_fresh_connections(&double, &twilio(double.url.clone(), TIMEOUT_MS)).await;
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_limit_and_shows_no_secret() {
    let body = format!("{TOKEN} {}", "x".repeat(1 << 20));
    let double = Double::always(Reply::Answer { status: 400, headers: Vec::new(), body }).await;
    let outcome = twilio(double.url.clone(), TIMEOUT_MS).send(&request()).await;
    let text = answer(&outcome);
    assert!(text.starts_with("400 Bad Request: [hidden] xxx") && text.len() < 400, "{text}");
}

/// As Twilio documents it: the address, then each field of the form by its name.
fn sign(token: &str, url: &str, form: &[(&str, &str)]) -> String {
    let mut sorted = form.to_vec();
    sorted.sort_unstable();
    let fields: String = sorted.iter().map(|(name, value)| format!("{name}{value}")).collect();
    let mut mac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).unwrap();
    mac.update(format!("{url}{fields}").as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn callback(token: &str, form: &[(&str, &str)]) -> CallbackRequest {
    let message = Some(MessageId(0x2A));
    let url = callback_url(&key(), "https://baken.example.nl", "twilio", message);
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    CallbackRequest {
        headers: vec![("X-Twilio-Signature".to_owned(), sign(token, &url, form))],
        url,
        message,
        body: body.finish().into_bytes(),
    }
}

#[tokio::test]
async fn a_signed_report_says_what_became_of_the_message() {
    let twilio = twilio("http://127.0.0.1:1".to_owned(), TIMEOUT_MS);
    let table: [(&str, Option<&str>, DeliveryStatus, &str); 6] = [
        ("queued", None, DeliveryStatus::Queued, "queued"),
        ("sent", None, DeliveryStatus::Sent, "sent"),
        ("delivered", None, DeliveryStatus::Delivered, "delivered"),
        (
            "undelivered",
            Some("30003"),
            DeliveryStatus::Undelivered,
            "undelivered: error 30003 (the telephone can't be reached)",
        ),
        ("failed", Some("31999"), DeliveryStatus::Failed, "failed: error 31999"),
        ("teleported", None, DeliveryStatus::Unknown, "teleported"),
    ];
    for (word, code, status, answer) in table {
        let mut form = vec![("MessageSid", "SM3"), ("MessageStatus", word), ("To", "+31612345678")];
        form.extend(code.map(|code| ("ErrorCode", code)));
        let message = Reported::Message(MessageId(0x2A));
        let expected = DeliveryReport { message, status, answer: answer.to_owned() };
        assert_eq!(twilio.report(&callback(TOKEN, &form)), Ok(vec![expected]), "{word}");
        assert_eq!(twilio.report(&callback("another", &form)), Err(CallbackError::Signature));
    }
    let error = twilio.report(&callback(TOKEN, &[("MessageSid", "SM3")])).unwrap_err();
    assert!(matches!(error, CallbackError::Malformed(_)), "{error}");
}

#[tokio::test]
async fn a_success_that_cannot_be_read_is_a_success() {
    let double = Double::always(Reply::json(201, &Value::Null)).await;
    let outcome = twilio(double.url.clone(), TIMEOUT_MS).send(&request()).await;
    let answer = "201 Created: null".to_owned();
    assert_eq!(outcome, Outcome::Sent { answer, reference: None });
}
