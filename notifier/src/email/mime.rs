//! A message in the form of mail: headers that thread it, and keep machines from
//! answering it, and its parts.

use std::time::SystemTime;

use lettre::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};

use super::relay::Letter;
use crate::channel::{Content, Outgoing};

/// Longer subjects are cut, in characters; what matters stands at their beginning.
const MAX_SUBJECT_CHARS: usize = 250;

/// A longer link would not fit a line (RFC 5322, 2.1.1) and stays out of the headers.
const MAX_LINK_BYTES: usize = 900;

/// What every message bears.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub from: Mailbox,
    pub reply_to: Option<Mailbox>,
    /// Of Message-IDs.
    pub domain: String,
}

/// Why no mail comes of a message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("the recipient's address is no e-mail address")]
    Address,
    #[error("the message can't be written as mail: {0}")]
    Message(String),
}

/// The mail of a message. The same message gives the same mail but for `now`,
/// which it bears as its date, and the boundary of its parts.
pub(super) fn letter(
    sender: &Sender,
    outgoing: &Outgoing,
    now: SystemTime,
) -> Result<Letter, Unfit> {
    let to = outgoing.to.as_str();
    let to: Address =
        schema::is_email(to).then(|| to.parse().ok()).flatten().ok_or(Unfit::Address)?;
    let content = &outgoing.content;
    let mut builder = Message::builder()
        .message_id(Some(format!("<{}@{}>", outgoing.id, sender.domain)))
        .date(now)
        .from(sender.from.clone())
        .to(Mailbox::new(None, to.clone()))
        .subject(subject(&content.subject))
        // RFC 3834, and Exchange's own: no out-of-office notes to us.
        .raw_header(raw("Auto-Submitted", "auto-generated"))
        .raw_header(raw("X-Auto-Response-Suppress", "All"));
    if let Some(reply_to) = &sender.reply_to {
        builder = builder.reply_to(reply_to.clone());
    }
    if let Some(alarm) = content.alarm {
        // No message bears this id. All of one alarm name it as the one before
        // them, and so belong together, whichever comes first.
        let thread = format!("<{alarm}@{}>", sender.domain);
        builder = builder.in_reply_to(thread.clone()).references(thread);
    }
    if let Some(link) = content.unsubscribe.as_deref().filter(|link| fits_header(link)) {
        builder = builder.raw_header(raw("List-Unsubscribe", &format!("<{link}>")));
        // One click is promised over TLS only (RFC 8058, 3.1).
        if link.starts_with("https://") {
            builder =
                builder.raw_header(raw("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"));
        }
    }
    let message =
        with_parts(builder, content).map_err(|error| Unfit::Message(error.to_string()))?;
    Ok(Letter { from: sender.from.email.clone(), to, bytes: message.formatted() })
}

fn with_parts(
    builder: lettre::message::MessageBuilder,
    content: &Content,
) -> Result<Message, lettre::error::Error> {
    let plain = SinglePart::plain(body(&content.text));
    match &content.html {
        None => builder.singlepart(plain),
        Some(html) => {
            let html = SinglePart::html(body(html));
            builder.multipart(MultiPart::alternative().singlepart(plain).singlepart(html))
        }
    }
}

fn raw(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// One line without control characters, so that it can't begin another header.
fn subject(text: &str) -> String {
    let line: String =
        text.chars().map(|c| if is_break(c) { ' ' } else { c }).take(MAX_SUBJECT_CHARS).collect();
    line.trim().to_owned()
}

/// Control characters, and Unicode's own ends of a line and a paragraph.
fn is_break(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Lines end in `\n`; other control characters are no text.
fn body(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

fn fits_header(link: &str) -> bool {
    (1..=MAX_LINK_BYTES).contains(&link.len())
        && link.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'<' && byte != b'>')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use schema::{AlarmId, Channel, MessageId};

    use super::*;

    fn sender() -> Sender {
        Sender {
            from: "Baken <alarms@example.com>".parse().unwrap(),
            reply_to: Some("desk@example.com".parse().unwrap()),
            domain: "mail.example.com".to_owned(),
        }
    }

    fn outgoing(content: Content) -> Outgoing {
        Outgoing {
            id: MessageId(0xa1),
            channel: Channel::Email,
            to: "eva@example.net".to_owned(),
            secret: None,
            content,
            maybe_repeated: false,
        }
    }

    fn written(content: Content) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        String::from_utf8(letter(&sender(), &outgoing(content), now).unwrap().bytes).unwrap()
    }

    /// The lines of the head, unfolded.
    fn head(mail: &str) -> Vec<String> {
        let head = mail.split_once("\r\n\r\n").unwrap().0;
        head.replace("\r\n ", " ").split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn a_mail_of_an_alarm_is_as_it_always_was() {
        let mail = written(Content {
            subject: "Critical: pump 3".to_owned(),
            text: "Pump 3 is too hot.\n.\nBaken\n".to_owned(),
            alarm: Some(AlarmId(0xb2)),
            unsubscribe: Some("https://baken.example.com/u?t=abc".to_owned()),
            ..Content::default()
        });
        let expected = "\
            Message-ID: <000000000000000000000000000000a1@mail.example.com>\r\n\
            Date: Mon, 21 Sep 2026 14:13:20 +0000\r\n\
            From: Baken <alarms@example.com>\r\n\
            To: eva@example.net\r\n\
            Subject: Critical: pump 3\r\n\
            Auto-Submitted: auto-generated\r\n\
            X-Auto-Response-Suppress: All\r\n\
            Reply-To: desk@example.com\r\n\
            In-Reply-To: <000000000000000000000000000000b2@mail.example.com>\r\n\
            References: <000000000000000000000000000000b2@mail.example.com>\r\n\
            List-Unsubscribe: <https://baken.example.com/u?t=abc>\r\n\
            List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\
            MIME-Version: 1.0\r\n\
            Content-Type: text/plain; charset=utf-8\r\n\
            Content-Transfer-Encoding: 7bit\r\n\
            \r\n\
            Pump 3 is too hot.\r\n.\r\nBaken\r\n\r\n";
        assert_eq!(mail, expected);
    }

    #[test]
    fn nothing_in_a_message_begins_a_header() {
        for breaking in ["\r\n", "\n", "\r", "\u{85}", "\u{2028}", "\0", "\u{b}\u{c}", "\r\n\r\n"] {
            let mail = written(Content {
                subject: format!("Pomp{breaking}Bcc: x@example.org{breaking}"),
                text: format!("hot{breaking}Bcc: y@example.org"),
                unsubscribe: Some(format!("https://a/{breaking}Bcc: z@example.org")),
                ..Content::default()
            });
            let head = head(&mail);
            let names: Vec<_> = head.iter().map(|line| line.split(':').next().unwrap()).collect();
            let expected = [
                "Message-ID",
                "Date",
                "From",
                "To",
                "Subject",
                "Auto-Submitted",
                "X-Auto-Response-Suppress",
                "Reply-To",
                "MIME-Version",
                "Content-Type",
                "Content-Transfer-Encoding",
            ];
            assert_eq!(names, expected, "{breaking:?}");
            assert!(mail.is_ascii() && !mail.contains('\0'));
            // No end of a line but CRLF goes out.
            assert!(!mail.replace("\r\n", "").contains(['\r', '\n']), "{breaking:?}");
        }
    }

    #[test]
    fn a_link_that_fits_no_header_stays_out_of_it() {
        let link = |link: &str| {
            let unsubscribe = Some(link.to_owned());
            head(&written(Content { unsubscribe, ..Content::default() })).join("\n")
        };
        let long = format!("https://a/{}", "x".repeat(MAX_LINK_BYTES));
        for bad in ["", "https://a/>, <mailto:x@example.org", "https://a/ b", "https://é/", &long]
        {
            assert!(!link(bad).contains("List-"), "{bad}");
        }
        let plain = link("http://baken.local/u");
        assert!(plain.contains("List-Unsubscribe: <http://baken.local/u>"), "{plain}");
        assert!(!plain.contains("List-Unsubscribe-Post"), "{plain}");
    }

    #[test]
    fn every_line_has_the_length_that_mail_allows() {
        let mail = written(Content {
            subject: "Überdruck ".repeat(100),
            text: "x".repeat(5_000),
            html: Some("<p>é</p>".repeat(1_000)),
            ..Content::default()
        });
        assert!(mail.is_ascii());
        assert!(mail.split("\r\n").all(|line| line.len() <= 998));
    }

    #[test]
    fn an_address_that_is_none_is_unfit() {
        for bad in ["", "eva", "eva@example.net\r\nDATA", "eva@example.net,x@example.net"] {
            let outgoing = Outgoing { to: bad.to_owned(), ..outgoing(Content::default()) };
            let unfit = letter(&sender(), &outgoing, SystemTime::UNIX_EPOCH).map(|_| ());
            assert_eq!(unfit, Err(Unfit::Address), "{bad:?}");
        }
    }
}
