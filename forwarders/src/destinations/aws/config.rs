//! What a customer says of their AWS IoT Core.

use serde::Deserialize;

use super::super::{Config, Fault, Template, known_secrets};
use crate::outgoing::Outgoing;
use crate::tls::{self, ClientIdentity};

const PRIVATE_KEY: &str = "private_key";
const SECRET_ACCESS_KEY: &str = "secret_access_key";
const SESSION_TOKEN: &str = "session_token";

/// The topic where none is given.
pub const DEFAULT_TOPIC: &str = "baken/{location}/{device}";

/// What AWS allows of a topic.
const MAX_TOPIC_BYTES: usize = 256;
const MAX_TOPIC_SLASHES: usize = 7;

/// How the forwarder proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Authentication {
    Certificate,
    Iam,
}

/// `settings` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    authentication: Authentication,
    /// The account's data endpoint, such as `….iot.eu-west-1.amazonaws.com`.
    endpoint: String,
    /// May hold `{device}`, `{location}` and `{key}`.
    #[serde(default)]
    topic: Option<String>,
    /// With a certificate: who connects.
    #[serde(default)]
    client_id: Option<String>,
    /// With a certificate (PEM).
    #[serde(default)]
    certificate: Option<String>,
    /// 8883, or 443 where a firewall lets nothing else through.
    #[serde(default)]
    port: Option<u16>,
    /// Whether MQTT is named in the TLS handshake, as AWS asks at 443; where it is
    /// not given, it is at 443.
    #[serde(default)]
    alpn: Option<bool>,
    /// The port of a test by HTTPS, 8443 where it is not given.
    #[serde(default)]
    https_port: Option<u16>,
    /// With IAM credentials.
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    access_key_id: Option<String>,
    /// The authority of the server's certificate, where it is one's own (PEM).
    #[serde(default)]
    ca: Option<String>,
}

/// How it proves who it is, ready to be used.
pub(super) enum Proof {
    Certificate {
        client_id: String,
        certificate: String,
        private_key: String,
    },
    Iam {
        region: String,
        access_key_id: String,
        secret_access_key: String,
        session_token: Option<String>,
    },
}

/// `settings` as it is used.
pub(super) struct Settings {
    /// Without its scheme; with one for IAM, where it is not `https`.
    pub endpoint: String,
    pub topic: Template,
    pub port: u16,
    pub alpn: bool,
    pub https_port: u16,
    pub ca: Option<String>,
    pub proof: Proof,
}

impl Settings {
    /// The topic of a value, with nothing in its names that means something in
    /// topics.
    pub fn topic_of(&self, value: &Outgoing) -> String {
        let clean = |name: &str| {
            let plain = |c: char| if "/+#$\0".contains(c) || c.is_control() { '_' } else { c };
            name.chars().map(plain).collect::<String>()
        };
        let mut topic = self.topic.fill(value, clean);
        let mut end = topic.len().min(MAX_TOPIC_BYTES);
        while !topic.is_char_boundary(end) {
            end -= 1;
        }
        topic.truncate(end);
        topic
    }

    /// The endpoint's name or address alone.
    pub fn host(&self) -> &str {
        let host = self.endpoint.strip_prefix("http://").unwrap_or(&self.endpoint);
        host.split_once(':').map_or(host, |(host, _)| host)
    }

    /// The topic of no value at all, for a test.
    pub fn test_topic(&self) -> String {
        self.topic_of(&Outgoing::for_test_of_connection())
    }
}

pub(super) fn read(config: &Config) -> Result<Settings, Fault> {
    let written: Written = super::super::read("settings", &config.settings)?;
    known_secrets(config, &[PRIVATE_KEY, SECRET_ACCESS_KEY, SESSION_TOKEN])?;
    if let Some(ca) = &written.ca {
        tls::certificates(ca).map_err(|error| Fault::new("settings.ca", format!("{error}.")))?;
    }
    let topic = topic(written.topic.as_deref().unwrap_or(DEFAULT_TOPIC))?;
    let proof = match written.authentication {
        Authentication::Certificate => by_certificate(config, &written)?,
        Authentication::Iam => by_iam(config, &written)?,
    };
    let is_iam = matches!(proof, Proof::Iam { .. });
    let host = written.endpoint.strip_prefix("https://").unwrap_or(&written.endpoint);
    let plain = if is_iam { host.strip_prefix("http://").unwrap_or(host) } else { host };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c) || (is_iam && c == ':');
    if plain.is_empty() || !plain.chars().all(is_host) {
        let message = "It is a host such as abc-ats.iot.eu-west-1.amazonaws.com.";
        return Err(Fault::new("settings.endpoint", message));
    }
    let port = written.port.unwrap_or(8883);
    Ok(Settings {
        endpoint: host.to_owned(),
        topic,
        port,
        alpn: written.alpn.unwrap_or(port == 443),
        https_port: written.https_port.unwrap_or(8443),
        ca: written.ca,
        proof,
    })
}

fn topic(text: &str) -> Result<Template, Fault> {
    let field = "settings.topic";
    let template = Template::parse(field, text)?;
    let wrong = |message: &str| Err(Fault::new(field, message));
    if text.starts_with('$') || text.contains(['+', '#']) || text.chars().any(char::is_control) {
        return wrong("A topic does not begin with $, and holds no + or #.");
    }
    if text.matches('/').count() > MAX_TOPIC_SLASHES || text.len() > MAX_TOPIC_BYTES {
        return wrong("A topic has at most 256 bytes and 7 slashes.");
    }
    Ok(template)
}

fn needed(field: &str, text: Option<&String>, message: &str) -> Result<String, Fault> {
    let text = text.filter(|text| !text.trim().is_empty());
    text.cloned().ok_or_else(|| Fault::new(field, message))
}

fn by_certificate(config: &Config, written: &Written) -> Result<Proof, Fault> {
    let message = "A client id is needed with a certificate.";
    let client_id = needed("settings.client_id", written.client_id.as_ref(), message)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_:.".contains(c);
    if client_id.len() > 128 || !client_id.chars().all(is_plain) {
        let message = "It has at most 128 letters, digits and -_:.";
        return Err(Fault::new("settings.client_id", message));
    }
    let message = "A certificate is needed.";
    let certificate = needed("settings.certificate", written.certificate.as_ref(), message)?;
    let message = "The certificate's key is needed.";
    let private_key = needed("secrets.private_key", config.secrets.get(PRIVATE_KEY), message)?;
    ClientIdentity::parse(&certificate, &private_key).map_err(|error| {
        let field = if error.is_of_key() { "secrets.private_key" } else { "settings.certificate" };
        Fault::new(field, format!("{error}."))
    })?;
    Ok(Proof::Certificate { client_id, certificate, private_key })
}

fn by_iam(config: &Config, written: &Written) -> Result<Proof, Fault> {
    let region = needed("settings.region", written.region.as_ref(), "A region is needed.")?;
    let message = "An access key is needed.";
    let access_key_id = needed("settings.access_key_id", written.access_key_id.as_ref(), message)?;
    let secret = config.secrets.get(SECRET_ACCESS_KEY);
    let secret_access_key = needed("secrets.secret_access_key", secret, message)?;
    let session_token = config.secrets.get(SESSION_TOKEN).cloned();
    Ok(Proof::Iam { region, access_key_id, secret_access_key, session_token })
}
