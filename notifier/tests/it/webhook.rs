//! Webhooks against a receiver that checks what the documentation tells receivers
//! to check.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use notifier::channel::{Content, Outcome, Outgoing, Plain};
use notifier::webhook::{WebhookOptions, WebhookSender};
use schema::{Channel, MessageId};
use serde_json::json;
use sha2::Sha256;

use crate::double::{Asked, Double, Reply, install_tls, nobody};

const SECRET: &str = "whsec-0123456789";

const LOCAL: WebhookOptions =
    WebhookOptions { timeout_ms: 20_000, allow_private_addresses: true, allow_http: true };

fn sender(options: WebhookOptions) -> WebhookSender {
    install_tls();
    WebhookSender::new(options).unwrap()
}

fn message(to: &str) -> Outgoing {
    Outgoing {
        id: MessageId(0x2A),
        channel: Channel::Webhook,
        to: to.to_owned(),
        secret: Some(Plain(SECRET.to_owned())),
        content: Content {
            data: Some(json!({ "rule": "Peil te hoog", "values": [1.5, "ë"] })),
            ..Content::default()
        },
        maybe_repeated: false,
    }
}

/// A receiver's check: the signature over the bytes as they came, and a timestamp
/// that is no more than five minutes off.
fn is_authentic(asked: &Asked) -> bool {
    let timestamp = asked.header("baken-timestamp");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let recent = timestamp.parse().is_ok_and(|sent: u64| sent.abs_diff(now) <= 300);
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(&asked.body);
    let given = asked.header("baken-signature").strip_prefix("v1=").unwrap_or_default();
    recent && hex::decode(given).is_ok_and(|given| mac.verify_slice(&given).is_ok())
}

fn later(outcome: &Outcome) -> (&str, Option<u64>) {
    let Outcome::Later { answer, after, whole_provider: false } = outcome else {
        panic!("{outcome:?}")
    };
    (answer, after.map(|after: Duration| after.as_secs()))
}

#[tokio::test]
async fn a_receiver_can_check_who_sent_it_and_that_it_comes_again() {
    let double = Double::start(|asked| {
        let authentic = asked.method == "POST"
            && asked.header("content-type") == "application/json"
            && is_authentic(asked);
        // The first time the receiver breaks down behind its check.
        Reply::status(if authentic { 500 } else { 400 })
    })
    .await;
    let again =
        Double::start(|asked| Reply::status(if is_authentic(asked) { 204 } else { 400 })).await;
    let sender = sender(LOCAL);
    let first = sender.send(&message(&format!("{}/hook?a=b", double.url))).await;
    assert_eq!(later(&first), ("500 Internal Server Error", None));
    let repeated = Outgoing { maybe_repeated: true, ..message(&format!("{}/hook?a=b", again.url)) };
    let second = sender.send(&repeated).await;
    let sent = Outcome::Sent { answer: "204 No Content".to_owned(), reference: None };
    assert_eq!(second, sent);

    let (first, second) = (&double.asked()[0], &again.asked()[0]);
    assert_eq!(first.path, "/hook?a=b");
    assert_eq!(first.body, second.body);
    let expected = json!({ "rule": "Peil te hoog", "values": [1.5, "ë"] });
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&first.body).unwrap(), expected);
    for asked in [first, second] {
        assert_eq!(asked.header("baken-message-id"), "0000000000000000000000000000002a");
        assert_eq!(asked.header("idempotency-key"), "0000000000000000000000000000002a");
    }
    // The receiver's check is worth something.
    let mut changed = first.clone();
    changed.body.push(b' ');
    assert!(is_authentic(first) && !is_authentic(&changed));
}

#[tokio::test]
async fn a_receiver_says_whether_and_when_it_comes_again() {
    let sender = sender(LOCAL);
    for (reply, after) in [
        (Reply::status(429).with("Retry-After", "12"), Some(12)),
        (Reply::status(503).with("Retry-After", "99999"), Some(3_600)),
        (Reply::status(503).with("Retry-After", "Fri, 01 Jan 2100 00:00:00 GMT"), Some(3_600)),
        (Reply::status(404), None),
        (Reply::status(502), None),
        (Reply::Close, None),
    ] {
        let double = Double::always(reply.clone()).await;
        let outcome = sender.send(&message(&double.url)).await;
        assert_eq!(later(&outcome).1, after, "{reply:?}");
    }
    for status in [400, 410, 422] {
        let double = Double::always(Reply::status(status)).await;
        let outcome = sender.send(&message(&double.url)).await;
        assert!(matches!(outcome, Outcome::Refused { .. }), "{status}");
    }
    let outcome = sender.send(&message(&nobody().await)).await;
    assert!(later(&outcome).0.starts_with("could not connect: "), "{outcome:?}");
}

#[tokio::test]
async fn a_receiver_that_stalls_is_left_after_the_timeout() {
    let double = Double::always(Reply::Never).await;
    let sender = sender(WebhookOptions { timeout_ms: 4_000, ..LOCAL });
    let outcome = sender.send(&message(&double.url)).await;
    assert_eq!(later(&outcome), ("no answer came in time", None));
    assert_eq!(double.asked().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Double::always(Reply::status(204)).await;
    let to = format!("{}/inside?token=t0ken", elsewhere.url);
    let sender = sender(LOCAL);
    for status in [301, 302, 307, 308] {
        let double = Double::always(Reply::status(status).with("Location", &to)).await;
        let outcome = sender.send(&message(&double.url)).await;
        let (answer, _) = later(&outcome);
        assert!(answer.ends_with("/inside") && !answer.contains("t0ken"), "{answer}");
    }
    assert_eq!(elsewhere.asked().len(), 0);
}

#[tokio::test]
async fn neither_the_secret_nor_the_url_is_shown() {
    let double = Double::start(|asked| {
        let host = asked.header("host");
        let body = format!("no {SECRET} at http://{host}{0}, Cannot POST {0}", asked.path);
        Reply::Answer { status: 400, headers: Vec::new(), body }
    })
    .await;
    let sender = sender(LOCAL);
    let to = format!("{}/hooks/t0ken", double.url);
    let outcome = sender.send(&message(&to)).await;
    let answer = "400 Bad Request: no [hidden] at [hidden], Cannot POST [hidden]".to_owned();
    assert_eq!(outcome, Outcome::Refused { answer });
    let gone = format!("{}/hooks/t0ken", nobody().await);
    let outcome = sender.send(&message(&gone)).await;
    assert!(!later(&outcome).0.contains("t0ken"), "{outcome:?}");
}

#[tokio::test]
async fn nothing_is_sent_to_an_address_inside() {
    let double = Double::always(Reply::status(204)).await;
    let port = double.url.rsplit_once(':').unwrap().1;
    let sender = sender(WebhookOptions { allow_private_addresses: false, ..LOCAL });
    for host in ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "localhost", "localhost."] {
        let outcome = sender.send(&message(&format!("http://{host}:{port}/"))).await;
        let Outcome::Refused { answer } = outcome else { panic!("{host}: {outcome:?}") };
        assert!(answer.contains("no address of the public Internet"), "{answer}");
    }
    assert_eq!(double.asked().len(), 0);
}

#[tokio::test]
async fn what_cannot_be_signed_or_is_empty_is_refused() {
    let double = Double::always(Reply::status(204)).await;
    let unsigned = Outgoing { secret: None, ..message(&double.url) };
    let empty = Outgoing { content: Content::default(), ..message(&double.url) };
    let sender = sender(LOCAL);
    for message in [unsigned, empty] {
        let outcome = sender.send(&message).await;
        assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    }
    assert_eq!(double.asked().len(), 0);
}
