//! Against Postfix.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use mail_parser::MimeHeaders;
use notifier::channel::Plain;
use notifier::email::{EmailOptions, Tls};

use super::{answer_of_refused, answer_of_sent, later, options, outgoing, sender};
use crate::postfix::Postfix;

fn logged_in(postfix: &Postfix) -> EmailOptions {
    EmailOptions {
        tls: Tls::StartTls,
        user: Some(postfix.user().to_owned()),
        password: Some(Plain(postfix.password().to_owned())),
        ca_file: Some(postfix.ca_file()),
        ..options(postfix.address())
    }
}

#[tokio::test]
async fn a_mail_arrives_once_and_whole() {
    let postfix = Postfix::start(&["eva"]).await;
    let sender = sender(&logged_in(&postfix));
    let answer = answer_of_sent(sender.send(&outgoing(0xb1, "eva@example.test")).await);
    assert!(answer.starts_with("250 2.0.0 Ok: queued as "), "{answer}");

    let mails = postfix.mailbox("eva").await;
    let [mail] = &mails[..] else { panic!("{mails:?}\n{}", postfix.log()) };
    for (name, value) in [
        ("Message-ID", "<000000000000000000000000000000b1@baken.example.test>"),
        ("In-Reply-To", "<0000000000000000000000000000a1a2@baken.example.test>"),
        ("References", "<0000000000000000000000000000a1a2@baken.example.test>"),
        ("To", "eva@example.test"),
        ("Reply-To", "desk@example.test"),
        ("List-Unsubscribe", "<https://baken.example.test/u?t=abc>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("Auto-Submitted", "auto-generated"),
        ("X-Auto-Response-Suppress", "All"),
        ("Return-Path", "<alarms@example.test>"),
    ] {
        assert_eq!(mail.header(name).as_deref(), Some(value), "{name}");
    }
    // It went encrypted, from us, by our login.
    let received = mail.header("Received").unwrap();
    assert!(received.contains("from baken.example.test ("), "{received}");
    assert!(received.contains("ESMTPSA") && received.contains("TLSv1.3"), "{received}");

    let parsed = mail.parsed();
    let from = parsed.from().unwrap().first().unwrap();
    assert_eq!(from.name(), Some("Baken Überwachung"));
    assert_eq!(from.address(), Some("alarms@example.test"));
    assert!(parsed.date().is_some());
    let sent = outgoing(0xb1, "eva@example.test").content;
    assert_eq!(parsed.subject(), Some(&*sent.subject));
    assert!(parsed.is_content_type("multipart", "alternative"));
    // The better part is the last (RFC 2046, 5.1.4).
    let kinds: Vec<_> =
        parsed.parts[1..].iter().map(|part| part.content_type().unwrap().subtype()).collect();
    assert_eq!(kinds, [Some("plain"), Some("html")]);
    let lines = |text: &str| text.replace("\r\n", "\n");
    assert_eq!(lines(&parsed.body_text(0).unwrap()), sent.text);
    assert_eq!(lines(&parsed.body_html(0).unwrap()), sent.html.unwrap());
}

#[tokio::test]
async fn tls_from_the_first_byte_works_too() {
    let postfix = Postfix::start(&["eva"]).await;
    let port = postfix.tls_address().port();
    let sender = sender(&EmailOptions { tls: Tls::Tls, port, ..logged_in(&postfix) });
    assert_eq!(sender.check().await, Ok(()));
    answer_of_sent(sender.send(&outgoing(1, "eva@example.test")).await);
    let mails = postfix.mailbox("eva").await;
    assert_eq!(mails.len(), 1);
    assert!(mails[0].header("Received").unwrap().contains("ESMTPSA"));
}

#[tokio::test]
async fn a_provider_that_refuses_our_password_loses_nothing() {
    let postfix = Postfix::start(&["eva"]).await;
    let password = Some(Plain("wrong horse".to_owned()));
    let wrong = sender(&EmailOptions { password, ..logged_in(&postfix) });
    let (answer, whole_provider) = later(wrong.send(&outgoing(1, "eva@example.test")).await);
    assert!(whole_provider && answer.starts_with("535 5.7.8 "), "{answer}");
    assert!(!answer.contains("horse"), "{answer}");
    assert!(later(wrong.check().await.unwrap_err()).1);

    // Whom a policy is against Postfix doesn't say; here it is we, without a login.
    let (user, password) = (None, None);
    let without = sender(&EmailOptions { user, password, ..logged_in(&postfix) });
    let (answer, whole_provider) = later(without.send(&outgoing(2, "eva@example.test")).await);
    assert!(!whole_provider && answer.starts_with("554 5.7.1 "), "{answer}");
    assert_eq!(postfix.mailbox("eva").await.len(), 0);
}

#[tokio::test]
async fn an_unknown_mailbox_is_refused_and_holds_up_nobody() {
    let postfix = Postfix::start(&["eva"]).await;
    let sender = sender(&logged_in(&postfix));
    answer_of_sent(sender.send(&outgoing(1, "eva@example.test")).await);
    let refused = answer_of_refused(sender.send(&outgoing(2, "nobody@example.test")).await);
    assert!(refused.starts_with("550 5.1.1 <nobody@example.test>"), "{refused}");
    answer_of_sent(sender.send(&outgoing(3, "eva@example.test")).await);
    let ids: Vec<_> = postfix.mailbox("eva").await.iter().map(|m| m.header("Message-ID")).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
}

#[tokio::test]
async fn nothing_is_said_to_a_server_that_cant_prove_its_name() {
    let postfix = Postfix::start(&["eva"]).await;
    let tls_port = postfix.tls_address().port();
    let other: Option<PathBuf> = Some(postfix.other_ca_file());
    let wrong_ca = EmailOptions { ca_file: other, ..logged_in(&postfix) };
    let wrapped = EmailOptions { tls: Tls::Tls, port: tls_port, ..wrong_ca.clone() };
    // The certificate is for 127.0.0.1 only.
    let wrong_name = EmailOptions { host: "localhost".to_owned(), ..logged_in(&postfix) };
    for options in [wrong_ca, wrapped, wrong_name] {
        let sender = sender(&options);
        let (answer, whole_provider) = later(sender.send(&outgoing(1, "eva@example.test")).await);
        assert!(whole_provider, "{answer}");
        assert!(answer.contains("invalid peer certificate"), "{answer}");
        assert!(answer.contains(&options.port.to_string()), "{answer}");
    }
    assert_eq!(postfix.mailbox("eva").await.len(), 0);
    assert!(!postfix.log().contains("sasl_username"), "{}", postfix.log());
}

#[tokio::test]
async fn a_relay_that_restarts_is_found_again() {
    let mut postfix = Postfix::start(&["eva"]).await;
    let sender = sender(&logged_in(&postfix));
    answer_of_sent(sender.send(&outgoing(1, "eva@example.test")).await);
    assert_eq!(postfix.mailbox("eva").await.len(), 1);

    postfix.stop();
    let (answer, whole_provider) = later(sender.send(&outgoing(2, "eva@example.test")).await);
    assert!(whole_provider && answer.contains("refused"), "{answer}");
    assert_eq!(later(sender.check().await.unwrap_err()), (answer, true));

    postfix.resume().await;
    assert_eq!(sender.check().await, Ok(()));
    answer_of_sent(sender.send(&outgoing(2, "eva@example.test")).await);
    assert_eq!(postfix.mailbox("eva").await.len(), 2);
}

/// Prints a number and wants none: how many messages a second go through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_go_through_few_connections() {
    const MESSAGES: u128 = 300;
    let postfix = Postfix::start(&["eva"]).await;
    let sender = Arc::new(sender(&EmailOptions { max_connections: 4, ..logged_in(&postfix) }));
    let began = Instant::now();
    let mut sends = tokio::task::JoinSet::new();
    for number in 0..MESSAGES {
        let sender = Arc::clone(&sender);
        sends.spawn(async move { sender.send(&outgoing(number, "eva@example.test")).await });
    }
    for outcome in sends.join_all().await {
        answer_of_sent(outcome);
    }
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("{MESSAGES} messages in {seconds:.2} s: {:.0} a second", MESSAGES as f64 / seconds);

    let mails = postfix.mailbox("eva").await;
    let mut ids: Vec<_> = mails.iter().map(|mail| mail.header("Message-ID").unwrap()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((mails.len(), ids.len()), (MESSAGES as usize, MESSAGES as usize));
    let connects = postfix.log().matches(" connect from ").count();
    assert!(connects <= 4 + 1, "{connects} connections with the harness's greeting");
}
