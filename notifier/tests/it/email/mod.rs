//! The e-mail channel against mail servers.

mod real;
mod scripted;

use std::net::SocketAddr;

use notifier::channel::{Content, Outcome, Outgoing};
use notifier::email::{EmailOptions, EmailSender, Tls};
use schema::{AlarmId, Channel, MessageId};

/// Options without encryption and login, for a server on this machine.
fn options(address: SocketAddr) -> EmailOptions {
    EmailOptions {
        host: address.ip().to_string(),
        port: address.port(),
        tls: Tls::None,
        user: None,
        password: None,
        from: "Baken Überwachung <alarms@example.test>".to_owned(),
        reply_to: Some("desk@example.test".to_owned()),
        hello_name: Some("baken.example.test".to_owned()),
        message_id_domain: "baken.example.test".to_owned(),
        ca_file: None,
        max_connections: 2,
        timeout_ms: 30_000,
    }
}

fn sender(options: &EmailOptions) -> EmailSender {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    EmailSender::new(options).unwrap()
}

fn outgoing(number: u128, to: &str) -> Outgoing {
    Outgoing {
        id: MessageId(number),
        channel: Channel::Email,
        to: to.to_owned(),
        secret: None,
        content: Content {
            subject: "Kritiek: pomp 3 – té warm".to_owned(),
            text: "Pomp 3 is té warm: 93 °C.\n.\nEen punt alleen mag ook.\n".to_owned(),
            html: Some("<p>Pomp 3 is <b>té warm</b>: 93 °C.</p>\n".to_owned()),
            data: None,
            unsubscribe: Some("https://baken.example.test/u?t=abc".to_owned()),
            alarm: Some(AlarmId(0xa1a2)),
        },
        maybe_repeated: false,
    }
}

#[track_caller]
fn answer_of_sent(outcome: Outcome) -> String {
    match outcome {
        Outcome::Sent { answer, .. } => answer,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn answer_of_refused(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refused { answer } => answer,
        other => panic!("{other:?}"),
    }
}

/// The answer, and whether it is the whole provider's.
#[track_caller]
fn later(outcome: Outcome) -> (String, bool) {
    match outcome {
        Outcome::Later { answer, whole_provider, .. } => (answer, whole_provider),
        other => panic!("{other:?}"),
    }
}
