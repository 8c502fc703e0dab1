use schema::MessageId;

use super::*;
use crate::sms::callback::callback_url;

fn options() -> HttpOptions {
    let sender = Sender::parse("sender", "Baken").unwrap();
    let body = r#"{"to": "{{to}}", "text": "{{text}}", "report": "{{callback}}"}"#;
    let url = "https://sms.example.nl/send?key={{secret}}";
    HttpOptions {
        headers: vec![
            ("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned()),
            ("Authorization".to_owned(), "Bearer b34rer".to_owned()),
        ],
        secret: Plain("s3cret&".to_owned()),
        ..HttpOptions::new(url.to_owned(), body.to_owned(), sender, CallbackKey::new(b"key"))
    }
}

fn http(options: HttpOptions) -> Result<Http, SmsOptionsError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Http::new(options)
}

fn broken(change: impl FnOnce(&mut HttpOptions)) -> String {
    let mut options = options();
    change(&mut options);
    http(options).unwrap_err().to_string()
}

#[test]
fn settings_that_cannot_be_right_are_named() {
    let error = broken(|o| o.method = "PO ST".to_owned());
    assert!(error.starts_with("method: "), "{error}");
    let error = broken(|o| o.url = "gopher://x.nl/".to_owned());
    assert!(error.starts_with("url: "), "{error}");
    let error = broken(|o| o.url = "/send".to_owned());
    assert!(error.starts_with("url: "), "{error}");
    let error = broken(|o| o.body = r#"{"text": {{text}}}"#.to_owned());
    assert!(error.starts_with("body: ") && error.contains("no JSON"), "{error}");
    let error = broken(|o| o.body = r#"{"text": "{{txt}}"}"#.to_owned());
    assert!(error.starts_with("body: "), "{error}");
    let error = broken(|o| o.headers.clear());
    assert!(error.starts_with("headers: "), "{error}");
    let error = broken(|o| o.headers[0].1 = "image/png".to_owned());
    assert!(error.starts_with("headers: "), "{error}");
    let error = broken(|o| o.headers[1].1 = "{{text}}".to_owned());
    assert!(error.starts_with("headers: "), "{error}");
    let error = broken(|o| o.reference = Some(Reference::Pointer("id".to_owned())));
    assert!(error.starts_with("reference: "), "{error}");
    let error = broken(|o| o.reference = Some(Reference::Header("a b".to_owned())));
    assert!(error.starts_with("reference: "), "{error}");
    let field = StatusField::Pointer("status".to_owned());
    let error = broken(|o| o.report = Some(ReportOptions { field, statuses: Vec::new() }));
    assert!(error.starts_with("report: "), "{error}");
    let error = broken(|o| o.headers.push(("a b".to_owned(), String::new())));
    assert!(error.starts_with("headers: "), "{error}");
}

#[test]
fn nothing_that_may_be_a_secret_is_shown() {
    let http = http(options()).unwrap();
    let shown = format!("{http:?}");
    assert!(!shown.contains("s3cret") && !shown.contains("b34rer") && !shown.contains("key="));
    let request = SmsRequest {
        id: MessageId(1),
        to: "+31612345678".to_owned(),
        text: "x".to_owned(),
        callback: None,
    };
    let made = http.make(&request).unwrap();
    assert_eq!(made.url.as_str(), "https://sms.example.nl/send?key=s3cret%26");
    let secrets = http.secrets(&made);
    let secrets: Vec<_> = secrets.iter().map(String::as_str).collect();
    let repeated = "bad key s3cret& (key=s3cret%26), Bearer b34rer, b34rer";
    let hidden = "bad key [hidden] (key=[hidden]), [hidden], [hidden]";
    assert_eq!(crate::request::shown(repeated, &secrets), hidden);
}

fn callback(
    report: Option<ReportOptions>,
    query: &str,
    body: &str,
) -> Result<Vec<DeliveryReport>, CallbackError> {
    let key = CallbackKey::new(b"key");
    let id = MessageId(5);
    let request = CallbackRequest {
        url: callback_url(&key, "https://b.nl", NAME, Some(id)) + query,
        message: Some(id),
        headers: Vec::new(),
        body: body.as_bytes().to_vec(),
    };
    http(HttpOptions { report, ..options() }).unwrap().report(&request)
}

#[test]
fn a_report_is_read_where_the_settings_say() {
    let statuses = vec![
        ("DELIVRD".to_owned(), DeliveryStatus::Delivered),
        ("UNDELIV".to_owned(), DeliveryStatus::Undelivered),
    ];
    let by = |field| Some(ReportOptions { field, statuses: statuses.clone() });
    let parameter = || by(StatusField::Parameter("stat".to_owned()));
    let pointer = || by(StatusField::Pointer("/dlr/0/stat".to_owned()));
    let report = |status, answer: &str| {
        let message = Reported::Message(MessageId(5));
        Ok(vec![DeliveryReport { message, status, answer: answer.to_owned() }])
    };
    let delivered = report(DeliveryStatus::Delivered, "DELIVRD");
    assert_eq!(callback(parameter(), "&stat=DELIVRD", ""), delivered);
    assert_eq!(callback(parameter(), "", "id=1&stat=DELIVRD"), delivered);
    assert_eq!(callback(pointer(), "", r#"{"dlr":[{"stat":"DELIVRD"}]}"#), delivered);
    let unknown = report(DeliveryStatus::Unknown, "7");
    assert_eq!(callback(pointer(), "", r#"{"dlr":[{"stat":7}]}"#), unknown);
    for malformed in ["{}", "", r#"{"dlr":[{"stat":{}}]}"#] {
        let error = callback(pointer(), "", malformed).unwrap_err();
        assert!(matches!(error, CallbackError::Malformed(_)), "{malformed}");
    }
    assert_eq!(callback(None, "&stat=DELIVRD", ""), Err(CallbackError::NotSetUp));
}

#[test]
fn a_report_of_another_message_is_not_signed() {
    let http = http(options()).unwrap();
    let key = CallbackKey::new(b"key");
    let request = CallbackRequest {
        url: callback_url(&key, "https://b.nl", NAME, Some(MessageId(5))),
        message: Some(MessageId(6)),
        headers: Vec::new(),
        body: Vec::new(),
    };
    assert_eq!(http.report(&request), Err(CallbackError::Signature));
}
