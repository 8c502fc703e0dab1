//! What a customer says of their InfluxDB.

use std::collections::BTreeMap;

use reqwest::Url;
use serde::Deserialize;

use super::super::{Config, Fault, http, known_secrets, some_items};

/// The one secret: an API token. A server without tokens needs none.
pub(super) const TOKEN: &str = "token";

/// `settings` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The server's address, without `/api/v2/write`.
    url: String,
    /// The organisation; servers of version 3 need none.
    #[serde(default)]
    org: Option<String>,
    bucket: String,
    /// Tags that all lines bear.
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// The authority of the server's certificate, where it is one's own (PEM).
    #[serde(default)]
    ca: Option<String>,
}

/// `settings` as it is used.
#[derive(Debug)]
pub(super) struct Settings {
    pub url: Url,
    pub org: Option<String>,
    pub bucket: String,
    pub tags: BTreeMap<String, String>,
    pub ca: Option<String>,
}

/// What stands at each item.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemSettings {
    /// May hold `{device}`, `{location}` and `{key}`.
    pub measurement: String,
    /// The key's own name where none is given.
    #[serde(default)]
    pub field: Option<String>,
}

pub(super) fn read(config: &Config) -> Result<Settings, Fault> {
    let written: Written = super::super::read("settings", &config.settings)?;
    known_secrets(config, &[TOKEN])?;
    some_items(config)?;
    let url = http::base_url("settings.url", &written.url)?;
    if written.bucket.trim().is_empty() {
        return Err(Fault::new("settings.bucket", "It must not be empty."));
    }
    for (name, value) in &written.tags {
        let plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        if !plain(name) || !plain(value) {
            let message = "A tag has a name and a value without control characters.";
            return Err(Fault::new(format!("settings.tags.{name}"), message));
        }
    }
    let Written { org, bucket, tags, ca, .. } = written;
    Ok(Settings { url, org: org.filter(|org| !org.is_empty()), bucket, tags, ca })
}
