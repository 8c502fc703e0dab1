//! Against a server that fails where it is told to.

use std::sync::Arc;
use std::time::Duration;

use notifier::channel::{Outcome, Plain};
use notifier::email::{EmailOptions, EmailSender, Tls};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::{answer_of_refused, answer_of_sent, later, options, outgoing, sender};
use crate::smtp::{At, Deed, Smtp};

const EVA: &str = "eva@example.test";

/// Long for a server on this machine, and short for a test that waits it out.
const TIMEOUT_MS: u64 = 5_000;

/// A send that isn't through by then never will be.
const HANGS: Duration = Duration::from_secs(60);

fn impatient(smtp: &Smtp) -> EmailSender {
    sender(&EmailOptions { timeout_ms: TIMEOUT_MS, ..options(smtp.address()) })
}

async fn send(sender: &EmailSender, number: u128) -> Outcome {
    timeout(HANGS, sender.send(&outgoing(number, EVA))).await.expect("a send ends by itself")
}

/// The first send meets the script; then another must go through, and be what
/// the server has, so that nothing of the first is left on a connection.
async fn meets(script: impl IntoIterator<Item = (At, Deed)>) -> Outcome {
    let smtp = Smtp::start(script).await;
    let sender = impatient(&smtp);
    let outcome = send(&sender, 1).await;
    assert!(smtp.is_through(), "the script was not met");
    assert_eq!(smtp.taken().len(), 0, "nothing was taken before {outcome:?}");
    let answer = answer_of_sent(send(&sender, 2).await);
    let taken = smtp.taken();
    assert_eq!(taken.len(), 1, "{outcome:?}");
    assert!(taken[0].contains("<00000000000000000000000000000002@"), "{}", taken[0]);
    assert_eq!(answer, format!("250 2.0.0 Ok: queued as {}", smtp.whole().len()));
    outcome
}

#[tokio::test]
async fn a_server_that_stalls_is_given_up_at_every_step() {
    let steps = [
        (At::Connect, true, "connecting"),
        (At::Ehlo, true, "connecting"),
        (At::Mail, true, "the sender"),
        (At::Rcpt, false, "the recipient"),
        (At::Data, false, "DATA"),
        (At::Content, false, "the content"),
        (At::Dot, false, "the content"),
    ];
    let mut tests = tokio::task::JoinSet::new();
    for (at, of_provider, name) in steps {
        for deed in [Deed::Stall, Deed::Drip] {
            tests.spawn(async move {
                let (answer, whole_provider) = later(meets([(at, deed.clone())]).await);
                assert_eq!(whole_provider, of_provider, "{at:?} {deed:?} {answer}");
                assert!(answer.starts_with(&format!("at {name}")), "{at:?} {answer}");
                assert!(answer.contains("no answer within 5000 ms"), "{at:?} {answer}");
                let unknown = answer.contains("may have been taken");
                assert_eq!(unknown, matches!(at, At::Content | At::Dot), "{at:?} {answer}");
            });
        }
    }
    tests.join_all().await;
}

#[tokio::test]
async fn a_server_that_closes_is_left_at_every_step() {
    for (at, of_provider) in [
        (At::Connect, true),
        (At::Ehlo, true),
        (At::Mail, true),
        (At::Rcpt, false),
        (At::Data, false),
        (At::Content, false),
        (At::Dot, false),
    ] {
        let (answer, whole_provider) = later(meets([(at, Deed::Close)]).await);
        assert_eq!(whole_provider, of_provider, "{at:?} {answer}");
        let unknown = answer.contains("may have been taken");
        assert_eq!(unknown, matches!(at, At::Content | At::Dot), "{at:?} {answer}");
    }
}

#[tokio::test]
async fn what_was_greylisted_goes_later_under_the_same_id() {
    let smtp = Smtp::start([(At::Rcpt, Deed::Say("450 4.7.1 greylisted, try again"))]).await;
    let sender = impatient(&smtp);
    let outcome = send(&sender, 1).await;
    let expected = Outcome::Later {
        answer: "450 4.7.1 greylisted, try again".to_owned(),
        after: Some(Duration::from_secs(300)),
        whole_provider: false,
    };
    assert_eq!(outcome, expected);
    answer_of_sent(send(&sender, 1).await);
    assert_eq!(
        message_ids(&smtp.taken()),
        ["<00000000000000000000000000000001@baken.example.test>"]
    );
    assert_eq!(smtp.connections(), 1, "a refused recipient costs no connection");
}

#[tokio::test]
async fn what_may_have_been_taken_goes_again_under_the_same_id() {
    let smtp = Smtp::start([(At::Dot, Deed::Close)]).await;
    let sender = impatient(&smtp);
    let (answer, whole_provider) = later(send(&sender, 1).await);
    assert!(!whole_provider && answer.ends_with("it may have been taken"), "{answer}");
    assert_eq!(smtp.whole().len(), 1, "it was not tried again by itself");
    answer_of_sent(send(&sender, 1).await);
    let ids = message_ids(&smtp.whole());
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn answers_are_this_messages_or_the_providers() {
    let refused = answer_of_refused(meets([(At::Rcpt, Deed::Say("550 5.1.1 unknown"))]).await);
    assert_eq!(refused, "550 5.1.1 unknown");
    answer_of_refused(meets([(At::Dot, Deed::Say("554 5.7.1 looks like spam"))]).await);
    for (at, text, of_provider) in [
        (At::Connect, "421 4.3.2 too busy", true),
        (At::Connect, "554 5.7.1 go away", true),
        (At::Mail, "550 5.7.1 not your address", true),
        (At::Rcpt, "421 4.7.0 too many errors", true),
        (At::Rcpt, "452 4.2.2 mailbox full", false),
        (At::Data, "451 4.3.0 not now", false),
        (At::Dot, "421 4.3.2 shutting down", true),
    ] {
        let (answer, whole_provider) = later(meets([(at, Deed::Say(text))]).await);
        assert_eq!((&*answer, whole_provider), (text, of_provider), "{at:?}");
    }
}

#[tokio::test]
async fn an_answer_that_belongs_to_another_step_is_no_answer() {
    // As if an answer had been left over from a message before.
    let (answer, _) = later(meets([(At::Data, Deed::Say("250 2.1.5 ok"))]).await);
    assert!(answer.contains("an answer that doesn't belong here: 250 2.1.5 ok"), "{answer}");
    let (answer, _) = later(meets([(At::Dot, Deed::Say("354 go on"))]).await);
    assert!(answer.contains("354 go on; it may have been taken"), "{answer}");
    later(meets([(At::Mail, Deed::Say("hello\r\nworld"))]).await);
}

#[tokio::test]
async fn a_slow_server_is_waited_for_within_the_timeout() {
    let late = Duration::from_millis(TIMEOUT_MS / 20);
    let steps = [At::Connect, At::Ehlo, At::Mail, At::Rcpt, At::Data, At::Dot];
    let smtp = Smtp::start(steps.map(|at| (at, Deed::Late(late)))).await;
    answer_of_sent(send(&impatient(&smtp), 1).await);
    assert!(smtp.is_through());
    assert_eq!(smtp.taken().len(), 1);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_not_taken_for_the_next_messages() {
    let smtp = Smtp::start([
        (At::Dot, Deed::Late(Duration::from_millis(TIMEOUT_MS * 5 / 4))),
        (At::Rcpt, Deed::Work),
        (At::Rcpt, Deed::Say("550 5.1.1 unknown")),
    ])
    .await;
    let sender = impatient(&smtp);
    later(send(&sender, 1).await);
    answer_of_sent(send(&sender, 2).await);
    assert_eq!(answer_of_refused(send(&sender, 3).await), "550 5.1.1 unknown");
    assert!(smtp.is_through());
}

#[tokio::test]
async fn a_rested_connection_that_is_dead_costs_no_message() {
    for (name, dead) in [
        ("closed while it rested", vec![(At::Reset, Deed::Close)]),
        ("forgotten by a firewall", vec![(At::Reset, Deed::Stall)]),
        ("out of step", vec![(At::Reset, Deed::Say("354 go on"))]),
        ("closed at MAIL", vec![(At::Mail, Deed::Work), (At::Mail, Deed::Close)]),
        ("closed at RCPT", vec![(At::Rcpt, Deed::Work), (At::Rcpt, Deed::Close)]),
        ("closed at DATA", vec![(At::Data, Deed::Work), (At::Data, Deed::Close)]),
        (
            "used up",
            vec![(At::Mail, Deed::Work), (At::Mail, Deed::Say("421 4.7.0 enough messages"))],
        ),
    ] {
        let smtp = Smtp::start(dead).await;
        let sender = impatient(&smtp);
        answer_of_sent(send(&sender, 1).await);
        answer_of_sent(send(&sender, 2).await);
        assert!(smtp.is_through(), "{name}");
        assert_eq!((smtp.connections(), smtp.taken().len()), (2, 2), "{name}");
        // The second try is the last.
        assert_eq!(message_ids(&smtp.whole()).len(), 2, "{name}");
    }
}

#[tokio::test]
async fn once_content_was_sent_no_other_connection_is_tried() {
    for at in [At::Content, At::Dot] {
        let smtp = Smtp::start([(at, Deed::Work), (at, Deed::Close)]).await;
        let sender = impatient(&smtp);
        answer_of_sent(send(&sender, 1).await);
        later(send(&sender, 2).await);
        assert_eq!((smtp.connections(), smtp.taken().len()), (1, 1), "{at:?}");
    }
}

#[tokio::test]
async fn no_more_connections_are_open_than_allowed() {
    let slow = |_| (At::Dot, Deed::Late(Duration::from_millis(20)));
    let smtp = Smtp::start((0..20).map(slow)).await;
    let sender = sender(&EmailOptions { max_connections: 3, ..options(smtp.address()) });
    let sender = Arc::new(sender);
    let mut sends = tokio::task::JoinSet::new();
    for number in 0..20 {
        let sender = Arc::clone(&sender);
        sends.spawn(async move { answer_of_sent(send(&sender, number).await) });
    }
    sends.join_all().await;
    assert_eq!(smtp.taken().len(), 20);
    assert_eq!((smtp.most_open(), smtp.connections()), (3, 3));
}

#[tokio::test]
async fn a_server_that_echoes_the_password_is_not_quoted() {
    for code in ["535 5.7.8", "454 4.7.0"] {
        let smtp = Smtp::start([(At::Auth, Deed::Echo(code))]).await;
        let sender = sender(&EmailOptions {
            user: Some("baken".to_owned()),
            password: Some(Plain("correct horse".to_owned())),
            ..options(smtp.address())
        });
        let (answer, whole_provider) = later(send(&sender, 1).await);
        assert_eq!(answer, format!("{code} AUTH PLAIN (hidden)"));
        assert!(whole_provider);
        assert!(!smtp.commands().contains(&"MAIL".to_owned()));
        answer_of_sent(send(&sender, 2).await);
    }
}

#[tokio::test]
async fn nothing_is_said_in_the_clear_where_encryption_is_asked_for() {
    let smtp = Smtp::start([]).await;
    let sender = sender(&EmailOptions { tls: Tls::StartTls, ..options(smtp.address()) });
    let (answer, whole_provider) = later(send(&sender, 1).await);
    assert!(whole_provider && answer.contains("STARTTLS is not supported"), "{answer}");
    assert_eq!(smtp.commands(), ["EHLO"]);
}

#[tokio::test]
async fn a_provider_that_cant_be_reached_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let closed = sender(&options(free));
    let (answer, whole_provider) = later(send(&closed, 1).await);
    assert!(whole_provider && answer.contains(&free.to_string()), "{answer}");
    let host = "mail.invalid".to_owned();
    let nameless = sender(&EmailOptions { host, timeout_ms: TIMEOUT_MS, ..options(free) });
    assert!(later(send(&nameless, 1).await).1);
    let check = timeout(HANGS, nameless.check()).await.unwrap();
    assert!(later(check.unwrap_err()).1);
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_without_asking() {
    let smtp = Smtp::start([]).await;
    let outcome = impatient(&smtp).send(&outgoing(1, "eva@example.test>\r\nRSET")).await;
    assert!(answer_of_refused(outcome).contains("no e-mail address"));
    assert_eq!(smtp.connections(), 0);
}

fn message_ids(contents: &[String]) -> Vec<String> {
    let id = |content: &&str| content.starts_with("Message-ID: ");
    let lines = contents.iter().filter_map(|content| content.lines().find(|line| id(line)));
    lines.map(|line| line.trim_start_matches("Message-ID: ").to_owned()).collect()
}
