//! What a customer says of their Blockbax project.

use reqwest::Url;
use serde::Deserialize;

use super::super::{Config, Fault, http, known_secrets, some_items};

/// The one secret.
pub(super) const ACCESS_TOKEN: &str = "access_token";

const DEFAULT_URL: &str = "https://api.blockbax.com";

/// `settings` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    project_id: String,
    /// A connector with a script of one's own; the project's default one takes
    /// what we send as it is.
    #[serde(default)]
    inbound_connector_id: Option<String>,
    /// The API's address, without `/v1`.
    #[serde(default)]
    url: Option<String>,
    /// The authority of the server's certificate, where it is one's own (PEM).
    #[serde(default)]
    ca: Option<String>,
}

/// `settings` as it is used.
#[derive(Debug)]
pub(super) struct Settings {
    pub project_id: String,
    pub inbound_connector_id: Option<String>,
    pub url: Url,
    pub ca: Option<String>,
}

/// What stands at each item.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemSettings {
    /// May hold `{device}`, `{location}` and `{key}`.
    pub ingestion_id: String,
}

pub(super) fn read(config: &Config) -> Result<Settings, Fault> {
    let written: Written = super::super::read("settings", &config.settings)?;
    known_secrets(config, &[ACCESS_TOKEN])?;
    if config.secrets.get(ACCESS_TOKEN).is_none_or(|token| token.trim().is_empty()) {
        return Err(Fault::new(
            "secrets.access_token",
            "An access token of the project is needed.",
        ));
    }
    some_items(config)?;
    let Written { project_id, inbound_connector_id, url, ca } = written;
    let inbound_connector_id = inbound_connector_id.filter(|id| !id.is_empty());
    let connector = inbound_connector_id.iter().map(|id| ("inbound_connector_id", id));
    for (field, id) in connector.chain([("project_id", &project_id)]) {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if id.is_empty() || !id.chars().all(is_plain) {
            let message = "It is the id as Blockbax shows it: letters, digits and hyphens.";
            return Err(Fault::new(format!("settings.{field}"), message));
        }
    }
    let url = http::base_url("settings.url", url.as_deref().unwrap_or(DEFAULT_URL))?;
    Ok(Settings { project_id, inbound_connector_id, url, ca })
}
