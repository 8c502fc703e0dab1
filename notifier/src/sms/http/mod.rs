//! Any gateway that takes an HTTP request: the request is made of templates.
//!
//! `{{to}}`, `{{from}}`, `{{text}}`, `{{id}}`, `{{callback}}` and `{{secret}}` stand
//! for what their names say, in the URL and the body, and all but the text in
//! headers. What is put in is escaped for its place: percent-encoded in the URL and
//! in a form, and by the rules of JSON or XML in such a body, *inside* the quotes
//! that the template has (`{"to": "{{to}}"}`). Filters shape it, such as
//! `{{to | replace("+", "00")}}`. A secret belongs in `{{secret}}`: of that, and of
//! the values of headers, it is sure that nobody is shown it.

mod template;

use std::fmt;
use std::str::FromStr as _;
use std::time::SystemTime;

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use self::template::{Escaping, Template, Values};
use super::callback::{CallbackKey, is_signed};
use super::outcome::{refused_by, unanswered};
use super::{
    Answering, CallbackError, CallbackRequest, ClientError, DEFAULT_TIMEOUT_MS, DeliveryReport,
    DeliveryStatus, Reported, Sender, SmsOptionsError, SmsProvider, SmsRequest, value,
};
use crate::channel::{Outcome, Plain};
use crate::request::{Answer, answer_text, client, exchange, retry_after, shown};

/// Its name in the addresses of callbacks.
pub const NAME: &str = "http";

/// The shortest value of a header that is taken for a secret.
const MIN_SECRET_BYTES: usize = 6;

/// Where a gateway's answer has its name for the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A JSON pointer (RFC 6901) into the body.
    Pointer(String),
    Header(String),
}

/// Where a report says what became of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusField {
    /// A JSON pointer (RFC 6901) into the body.
    Pointer(String),
    /// A field of the address' query or of a form in the body.
    Parameter(String),
}

/// How the gateway reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportOptions {
    pub field: StatusField,
    /// The gateway's words and what they mean; any other is unknown.
    pub statuses: Vec<(String, DeliveryStatus)>,
}

/// How the gateway is asked. Everything but the method, the sender and what names
/// a place is a template.
#[derive(Clone)]
pub struct HttpOptions {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    /// Escaped by the `Content-Type` of the headers, which has to be there: JSON, a
    /// form, XML or plain text. None where it is empty.
    pub body: String,
    pub secret: Plain,
    pub sender: Sender,
    /// The statuses of an answer that mean that the message was taken; all from 200
    /// to 299 where it is empty.
    pub success: Vec<u16>,
    pub reference: Option<Reference>,
    pub report: Option<ReportOptions>,
    /// Signs the addresses of callbacks.
    pub callback_key: CallbackKey,
    pub timeout_ms: u64,
}

impl HttpOptions {
    /// A POST of `body` to `url`, without headers.
    #[must_use]
    pub fn new(url: String, body: String, sender: Sender, callback_key: CallbackKey) -> Self {
        Self {
            method: "POST".to_owned(),
            url,
            headers: Vec::new(),
            body,
            secret: Plain(String::new()),
            sender,
            success: Vec::new(),
            reference: None,
            report: None,
            callback_key,
            timeout_ms: DEFAULT_TIMEOUT_MS,
        }
    }
}

/// Whoever wrote the templates may have put a key into any of them, so none is shown.
impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions")
            .field("method", &self.method)
            .field("sender", &self.sender)
            .field("success", &self.success)
            .field("reference", &self.reference)
            .field("report", &self.report)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

/// Sends by a gateway that templates describe.
pub struct Http {
    options: HttpOptions,
    method: Method,
    url: Template,
    headers: Vec<(HeaderName, Template)>,
    body: Template,
    client: reqwest::Client,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Http").field(&self.options).finish()
    }
}

/// A request as the templates make it.
struct Made {
    url: url::Url,
    headers: HeaderMap,
    body: String,
}

impl Http {
    /// # Errors
    /// Where a setting can't be right or a template makes no request of a message
    /// that has all characters which need escaping; the error names it.
    pub fn new(options: HttpOptions) -> Result<Self, SmsOptionsError> {
        let wrong = |field, why| SmsOptionsError::Value { field, why };
        let method = Method::from_str(&options.method);
        let method = method.map_err(|_| wrong("method", "it is no HTTP method"))?;
        let mut headers = Vec::new();
        for (name, text) in &options.headers {
            let name = HeaderName::from_str(name);
            let name = name.map_err(|_| wrong("headers", "one has a name that no header has"))?;
            headers.push((name, Template::new("headers", text, Escaping::None)?));
        }
        let escaping = escaping(&options)?;
        let client = client(options.timeout_ms).pool_max_idle_per_host(0);
        let http = Self {
            method,
            url: Template::new("url", &options.url, Escaping::Percent)?,
            headers,
            body: Template::new("body", &options.body, escaping)?,
            client: client.build().map_err(ClientError)?,
            options,
        };
        http.check_places()?;
        http.try_out(escaping)?;
        Ok(http)
    }

    /// Whether the places that the settings name can exist.
    fn check_places(&self) -> Result<(), SmsOptionsError> {
        let wrong = |field, why| Err(SmsOptionsError::Value { field, why });
        let no_pointer = "a JSON pointer is empty or begins with a slash";
        let is_pointer = |text: &str| text.is_empty() || text.starts_with('/');
        match &self.options.reference {
            Some(Reference::Pointer(pointer)) if !is_pointer(pointer) => {
                return wrong("reference", no_pointer);
            }
            Some(Reference::Header(name)) if HeaderName::from_str(name).is_err() => {
                return wrong("reference", "it has a name that no header has");
            }
            _ => {}
        }
        match self.options.report.as_ref().map(|report| &report.field) {
            Some(StatusField::Pointer(pointer)) if !is_pointer(pointer) => {
                wrong("report", no_pointer)
            }
            _ => Ok(()),
        }
    }

    /// Makes a request of a message that is hard to escape, so that a template that
    /// would fail one night fails at the start.
    fn try_out(&self, escaping: Escaping) -> Result<(), SmsOptionsError> {
        let made = self.make(&SmsRequest {
            id: schema::MessageId(u128::MAX),
            to: "+31612345678".to_owned(),
            text: "\"Pomp\" <3> & 'é' \\ 50%\n€".to_owned(),
            callback: Some("https://baken.example/callbacks?a=1&b=2".to_owned()),
        })?;
        if !matches!(made.url.scheme(), "https" | "http") {
            let why = "it begins with neither https:// nor http://";
            return Err(SmsOptionsError::Value { field: "url", why });
        }
        if escaping == Escaping::Json
            && let Err(error) = serde_json::from_str::<Value>(&made.body)
        {
            let why = format!("it makes no JSON: {error}");
            return Err(SmsOptionsError::Template { field: "body", why });
        }
        Ok(())
    }

    fn make(&self, request: &SmsRequest) -> Result<Made, SmsOptionsError> {
        let id = request.id.to_string();
        let values = Values {
            to: &request.to,
            from: self.options.sender.as_str(),
            text: Some(&request.text),
            id: &id,
            callback: request.callback.as_deref().unwrap_or_default(),
            secret: &self.options.secret.0,
        };
        let of_headers = Values { text: None, ..values };
        let template = |field, why: &str| SmsOptionsError::Template { field, why: why.to_owned() };
        let mut headers = HeaderMap::new();
        for (name, text) in &self.headers {
            let value = HeaderValue::from_str(&text.render(&of_headers)?);
            let mut value = value.map_err(|_| template("headers", "no header takes its value"))?;
            value.set_sensitive(true);
            headers.append(name.clone(), value);
        }
        let url = url::Url::parse(&self.url.render(&values)?);
        let url = url.map_err(|_| template("url", "it makes no URL"))?;
        Ok(Made { url, headers, body: self.body.render(&values)? })
    }

    async fn hand_over(&self, request: &SmsRequest) -> Outcome {
        let made = match self.make(request) {
            Ok(made) => made,
            Err(error) => return Outcome::Refused { answer: error.to_string() },
        };
        let secrets = self.secrets(&made);
        let mut asked = self.client.request(self.method.clone(), made.url).headers(made.headers);
        if !made.body.is_empty() {
            asked = asked.body(made.body);
        }
        match exchange(asked).await {
            Err(failure) => unanswered(failure),
            Ok(answer) => {
                let secrets: Vec<_> = secrets.iter().map(String::as_str).collect();
                self.outcome(&answer, &secrets)
            }
        }
    }

    /// All that an answer must not repeat to people: the secret, as it is and as it
    /// stands in a URL, and the values of headers, with the scheme before them or
    /// without.
    fn secrets(&self, made: &Made) -> Vec<String> {
        let secret = &self.options.secret.0;
        let mut all = vec![secret.clone(), Escaping::Percent.escaped(secret)];
        for (name, value) in &made.headers {
            let Ok(text) = value.to_str() else { continue };
            // A media type or a version is no secret, and hiding it would hide
            // plain words.
            if text.len() >= MIN_SECRET_BYTES && name != CONTENT_TYPE && name != ACCEPT {
                all.push(text.to_owned());
                all.extend(text.split_once(' ').map(|(_, behind)| behind.to_owned()));
            }
        }
        all
    }

    fn outcome(&self, answer: &Answer, secrets: &[&str]) -> Outcome {
        let text = answer_text(answer, secrets);
        let success = match &*self.options.success {
            [] => answer.status.is_success(),
            listed => listed.contains(&answer.status.as_u16()),
        };
        if success {
            return Outcome::Sent { answer: text, reference: self.reference(answer) };
        }
        refused_by(answer.status, text, retry_after(&answer.headers, SystemTime::now()))
    }

    fn reference(&self, answer: &Answer) -> Option<String> {
        match self.options.reference.as_ref()? {
            Reference::Header(name) => answer.headers.get(name)?.to_str().ok().map(str::to_owned),
            Reference::Pointer(pointer) => {
                let body: Value = serde_json::from_slice(&answer.body).ok()?;
                scalar(body.pointer(pointer)?)
            }
        }
    }
}

/// The text of what is neither a list nor an object nor null.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// How the body is escaped, by its content type.
fn escaping(options: &HttpOptions) -> Result<Escaping, SmsOptionsError> {
    let mut headers = options.headers.iter();
    let content_type = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let Some((_, content_type)) = content_type else {
        if options.body.is_empty() {
            return Ok(Escaping::None);
        }
        let why = "a body needs a Content-Type, by which it is escaped";
        return Err(SmsOptionsError::Value { field: "headers", why });
    };
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match &*media_type.to_ascii_lowercase() {
        "application/json" => Ok(Escaping::Json),
        "application/x-www-form-urlencoded" => Ok(Escaping::Percent),
        "application/xml" | "text/xml" => Ok(Escaping::Xml),
        "text/plain" => Ok(Escaping::None),
        _ => {
            let why = "the Content-Type is none of JSON, a form, XML and plain text";
            Err(SmsOptionsError::Value { field: "headers", why })
        }
    }
}

impl SmsProvider for Http {
    fn name(&self) -> &str {
        NAME
    }

    fn send<'a>(&'a self, request: &'a SmsRequest) -> Answering<'a> {
        Box::pin(self.hand_over(request))
    }

    fn report(&self, request: &CallbackRequest) -> Result<Vec<DeliveryReport>, CallbackError> {
        if !is_signed(&self.options.callback_key, NAME, request) {
            return Err(CallbackError::Signature);
        }
        let report = self.options.report.as_ref().ok_or(CallbackError::NotSetUp)?;
        let id = request.message.ok_or(CallbackError::Malformed("its address names no message"))?;
        let word = match &report.field {
            StatusField::Parameter(name) => {
                value(&request.query(), name).or(value(&request.form(), name)).map(str::to_owned)
            }
            StatusField::Pointer(pointer) => {
                let body = serde_json::from_slice::<Value>(&request.body);
                let body = body.map_err(|_| CallbackError::Malformed("it is no JSON"))?;
                body.pointer(pointer).and_then(scalar)
            }
        };
        let word = word.ok_or(CallbackError::Malformed("it has no status where it should be"))?;
        let known = report.statuses.iter().find(|(known, _)| *known == word);
        let status = known.map_or(DeliveryStatus::Unknown, |(_, status)| *status);
        let answer = shown(&word, &[&self.options.secret.0]);
        Ok(vec![DeliveryReport { message: Reported::Message(id), status, answer }])
    }
}

#[cfg(test)]
mod tests;
