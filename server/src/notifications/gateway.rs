//! The description of an SMS gateway that takes HTTP, as an operator writes it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use notifier::channel::Plain;
use notifier::sms::callback::CallbackKey;
use notifier::sms::http::{HttpOptions, Reference, ReportOptions, StatusField};
use notifier::sms::{DeliveryStatus, Sender};
use serde::Deserialize;

use super::secret_file;

/// The file's text, TOML.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    #[serde(default = "post")]
    method: String,
    url: String,
    #[serde(default)]
    body: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Its first line stands for `{{secret}}`.
    #[serde(default)]
    secret_file: Option<PathBuf>,
    /// All from 200 to 299 where it is empty.
    #[serde(default)]
    success: Vec<u16>,
    #[serde(default)]
    reference: Option<Place>,
    #[serde(default)]
    report: Option<Report>,
}

fn post() -> String {
    "POST".to_owned()
}

/// Where an answer has the gateway's name for the message.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Pointer(String),
    Header(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    field: Field,
    /// The gateway's words for each status.
    #[serde(default)]
    sent: Vec<String>,
    #[serde(default)]
    delivered: Vec<String>,
    #[serde(default)]
    undelivered: Vec<String>,
    #[serde(default)]
    failed: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Field {
    Pointer(String),
    Parameter(String),
}

impl Report {
    fn options(self) -> ReportOptions {
        let statuses = [
            (self.sent, DeliveryStatus::Sent),
            (self.delivered, DeliveryStatus::Delivered),
            (self.undelivered, DeliveryStatus::Undelivered),
            (self.failed, DeliveryStatus::Failed),
        ];
        ReportOptions {
            field: match self.field {
                Field::Pointer(pointer) => StatusField::Pointer(pointer),
                Field::Parameter(name) => StatusField::Parameter(name),
            },
            statuses: statuses
                .into_iter()
                .flat_map(|(words, status)| words.into_iter().map(move |word| (word, status)))
                .collect(),
        }
    }
}

impl Gateway {
    pub fn options(
        self,
        sender: Sender,
        timeout_ms: u64,
        key: CallbackKey,
    ) -> anyhow::Result<HttpOptions> {
        let secret = match &self.secret_file {
            Some(path) => secret_file("secret_file", path)?,
            None => Plain(String::new()),
        };
        Ok(HttpOptions {
            method: self.method,
            headers: self.headers.into_iter().collect(),
            secret,
            success: self.success,
            reference: self.reference.map(|place| match place {
                Place::Pointer(pointer) => Reference::Pointer(pointer),
                Place::Header(name) => Reference::Header(name),
            }),
            report: self.report.map(Report::options),
            timeout_ms,
            ..HttpOptions::new(self.url, self.body, sender, key)
        })
    }
}

#[cfg(test)]
mod tests {
    use notifier::sms::http::Http;

    use super::*;

    /// What docs/reference/notifications.md shows works as it stands.
    #[test]
    fn the_example_of_the_documentation_makes_requests() {
        crate::install_crypto();
        let text = include_str!("../../../docs/reference/notifications.md");
        let begin = text.find("method = \"POST\"").unwrap();
        let example = &text[begin..begin + text[begin..].find("```").unwrap()];
        let gateway: Gateway = toml::from_str(example).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("token");
        std::fs::write(&secret, "s3cret-token\n").unwrap();
        let gateway = Gateway { secret_file: Some(secret), ..gateway };
        let sender = Sender::parse("sender", "Baken").unwrap();
        let options = gateway.options(sender, 1_000, CallbackKey::new(b"key")).unwrap();
        assert_eq!(options.report.as_ref().unwrap().statuses.len(), 4);
        Http::new(options).unwrap();
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let error = toml::from_str::<Gateway>("url = \"https://x\"\nbodi = \"\"").unwrap_err();
        assert!(error.to_string().contains("bodi"), "{error}");
    }
}
