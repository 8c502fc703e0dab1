//! The providers of SMS, against doubles that check what the real ones check.

mod cm;
mod http;
mod twilio;

use std::time::Duration;

use notifier::channel::Outcome;
use notifier::sms::callback::CallbackKey;
use notifier::sms::{Sender, SmsProvider, SmsRequest};
use schema::MessageId;

use super::double::{Double, Reply, nobody};

/// Enough for a machine under load.
const TIMEOUT_MS: u64 = 20_000;

/// For a test that waits for its end: half of it is enough to connect.
const STALLED_MS: u64 = 4_000;

fn sender() -> Sender {
    Sender::parse("sender", "Baken").unwrap()
}

fn key() -> CallbackKey {
    CallbackKey::new(b"a key of this test")
}

fn request() -> SmsRequest {
    SmsRequest {
        id: MessageId(0x2A),
        to: "+31612345678".to_owned(),
        text: "Gemaal \"Oost\": peil > 3 m & stijgt, 100% €".to_owned(),
        callback: Some("https://baken.example.nl/callbacks?signature=x".to_owned()),
    }
}

/// What of an outcome decides.
#[derive(Debug, PartialEq)]
enum Kind {
    Sent,
    Refused,
    Provider(Option<u64>),
    Message(Option<u64>),
    Unknown,
}

fn kind(outcome: &Outcome) -> Kind {
    let seconds = |after: &Option<Duration>| after.map(|after| after.as_secs());
    match outcome {
        Outcome::Sent { .. } => Kind::Sent,
        Outcome::Refused { .. } => Kind::Refused,
        Outcome::Later { after, whole_provider: true, .. } => Kind::Provider(seconds(after)),
        Outcome::Later { after, .. } => Kind::Message(seconds(after)),
        Outcome::Unknown { .. } => Kind::Unknown,
    }
}

fn answer(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Sent { answer, .. }
        | Outcome::Refused { answer }
        | Outcome::Later { answer, .. }
        | Outcome::Unknown { answer } => answer,
    }
}

/// What holds for every provider: whether an SMS may be sent again follows from
/// whether the provider can have seen the request.
async fn check_lost_answers(provider: impl Fn(String, u64) -> Box<dyn SmsProvider>) {
    let request = request();
    let nowhere = provider(nobody().await, TIMEOUT_MS).send(&request).await;
    assert_eq!(kind(&nowhere), Kind::Provider(None), "{nowhere:?}");

    // The double waits for plain HTTP, so that the handshake of TLS never ends:
    // there is a connection of TCP, but nothing of the request was sent.
    let double = Double::always(Reply::status(201)).await;
    let tls = double.url.replace("http://", "https://");
    let no_tls = provider(tls, STALLED_MS).send(&request).await;
    assert_eq!(kind(&no_tls), Kind::Provider(None), "{no_tls:?}");
    assert_eq!(double.asked().len(), 0);

    let double = Double::always(Reply::Never).await;
    let stalled = provider(double.url.clone(), STALLED_MS).send(&request).await;
    assert_eq!(kind(&stalled), Kind::Unknown, "{stalled:?}");
    assert_eq!(double.asked().len(), 1);

    let double = Double::always(Reply::Close).await;
    let closed = provider(double.url.clone(), TIMEOUT_MS).send(&request).await;
    assert_eq!(kind(&closed), Kind::Unknown, "{closed:?}");
    assert_eq!(double.asked().len(), 1, "it was sent again by itself");

    // The status came, so it is known what was decided.
    let double = Double::always(Reply::HeadOnly { status: 201 }).await;
    let broken = provider(double.url.clone(), TIMEOUT_MS).send(&request).await;
    assert_eq!(kind(&broken), Kind::Sent, "{broken:?}");

    // A redirect would take our credentials along.
    let elsewhere = Double::always(Reply::status(201)).await;
    let redirect = Reply::status(307).with("Location", &elsewhere.url);
    let double = Double::always(redirect).await;
    let redirected = provider(double.url.clone(), TIMEOUT_MS).send(&request).await;
    assert_eq!(kind(&redirected), Kind::Provider(None), "{redirected:?}");
    assert_eq!(elsewhere.asked().len(), 0);
}

/// One after another, each by a connection of its own: what the provider does to a
/// connection that is idle can't make the next message unknown.
async fn check_fresh_connections(double: &Double, provider: &dyn SmsProvider) {
    for _ in 0..3 {
        assert_eq!(kind(&provider.send(&request()).await), Kind::Sent);
    }
    let peers: Vec<_> = double.asked().iter().map(|asked| asked.peer).collect();
    assert!(peers[0] != peers[1] && peers[1] != peers[2] && peers[0] != peers[2], "{peers:?}");
}
