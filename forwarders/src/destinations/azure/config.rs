//! What a customer says of their device at an IoT Hub.

use serde::Deserialize;

use super::super::{Config, Fault, known_secrets};
use super::sas::{self, ConnectionString};
use crate::tls::{self, ClientIdentity};

const CONNECTION_STRING: &str = "connection_string";
const PRIVATE_KEY: &str = "private_key";

/// Sends a second of one unit of the tier S1 and all up to eight of them.
const DEFAULT_SENDS_PER_S: u32 = 100;
const MAX_SENDS_PER_S: u32 = 6_000;

/// How long a token holds; a hub takes no more than a year, and a day is as good.
const DEFAULT_TOKEN_LIFE_S: u32 = 3_600;
const MIN_TOKEN_LIFE_S: u32 = 10;
const MAX_TOKEN_LIFE_S: u32 = 86_400;

/// How the device proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Authentication {
    ConnectionString,
    /// The hub knows the certificate's thumbprint.
    X509SelfSigned,
    /// The hub knows the authority.
    X509CaSigned,
}

/// `settings` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    authentication: Authentication,
    /// The hub, such as `name.azure-devices.net`; a connection string says it.
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    device_id: Option<String>,
    /// With X.509: the device's certificate and those up to its authority (PEM).
    #[serde(default)]
    certificate: Option<String>,
    /// What the hub's tier and units allow; all forwarders to it share it.
    #[serde(default)]
    sends_per_s: Option<u32>,
    /// How long a token of a connection string's key holds; it is renewed before
    /// its last fifth.
    #[serde(default)]
    token_life_s: Option<u32>,
    /// 8883 where it is not given.
    #[serde(default)]
    port: Option<u16>,
    /// The authority of the server's certificate, where it is one's own (PEM).
    #[serde(default)]
    ca: Option<String>,
}

/// How it proves who it is, ready to be used.
pub(super) enum Proof {
    Key(Vec<u8>),
    Certificate { certificate: String, private_key: String },
}

/// `settings` as it is used.
pub(super) struct Settings {
    pub host: String,
    pub device_id: String,
    pub proof: Proof,
    pub sends_per_s: u32,
    pub token_life_s: u32,
    pub port: u16,
    pub ca: Option<String>,
    /// The field that says the host.
    pub host_field: &'static str,
    /// The field that two forwarders of one device have alike.
    pub identity_field: &'static str,
}

pub(super) fn read(config: &Config) -> Result<Settings, Fault> {
    let written: Written = super::super::read("settings", &config.settings)?;
    known_secrets(config, &[CONNECTION_STRING, PRIVATE_KEY])?;
    if let Some(ca) = &written.ca {
        tls::certificates(ca).map_err(|error| Fault::new("settings.ca", format!("{error}.")))?;
    }
    let sends_per_s = written.sends_per_s.unwrap_or(DEFAULT_SENDS_PER_S);
    if !(1..=MAX_SENDS_PER_S).contains(&sends_per_s) {
        let message = format!("It must be 1 to {MAX_SENDS_PER_S}.");
        return Err(Fault::new("settings.sends_per_s", message));
    }
    let token_life_s = written.token_life_s.unwrap_or(DEFAULT_TOKEN_LIFE_S);
    if !(MIN_TOKEN_LIFE_S..=MAX_TOKEN_LIFE_S).contains(&token_life_s) {
        let message = format!("It must be {MIN_TOKEN_LIFE_S} to {MAX_TOKEN_LIFE_S}.");
        return Err(Fault::new("settings.token_life_s", message));
    }
    let settings = match written.authentication {
        Authentication::ConnectionString => by_key(config, &written)?,
        kind => by_certificate(config, &written, kind == Authentication::X509CaSigned)?,
    };
    let port = written.port.unwrap_or(8883);
    Ok(Settings { sends_per_s, token_life_s, port, ca: written.ca, ..settings })
}

fn by_key(config: &Config, written: &Written) -> Result<Settings, Fault> {
    let field = "secrets.connection_string";
    let text = config.secrets.get(CONNECTION_STRING);
    let text = text.ok_or_else(|| Fault::new(field, "A device's connection string is needed."))?;
    let ConnectionString { host, device_id, key } =
        sas::parse(text).map_err(|error| Fault::new(field, format!("{error}.")))?;
    // Shown and stored in the clear, so that a person sees which device it is.
    for (name, given, found) in
        [("host", &written.host, &host), ("device_id", &written.device_id, &device_id)]
    {
        if given.as_ref().is_some_and(|given| given != found) {
            let message = "The connection string says otherwise; leave it out.";
            return Err(Fault::new(format!("settings.{name}"), message));
        }
    }
    Ok(settings(host, device_id, Proof::Key(key), (field, field)))
}

fn by_certificate(
    config: &Config,
    written: &Written,
    is_ca_signed: bool,
) -> Result<Settings, Fault> {
    let needed = |field: &str, text: &Option<String>| {
        let text = text.clone().filter(|text| !text.trim().is_empty());
        text.ok_or_else(|| Fault::new(format!("settings.{field}"), "It is needed with X.509."))
    };
    let host = needed("host", &written.host)?;
    sas::check_host(&host).map_err(|error| Fault::new("settings.host", format!("{error}.")))?;
    let device_id = needed("device_id", &written.device_id)?;
    sas::check_device_id(&device_id)
        .map_err(|error| Fault::new("settings.device_id", format!("{error}.")))?;
    let certificate = needed("certificate", &written.certificate)?;
    let key = config.secrets.get(PRIVATE_KEY);
    let private_key = key
        .cloned()
        .ok_or_else(|| Fault::new("secrets.private_key", "The certificate's key is needed."))?;
    let identity = ClientIdentity::parse(&certificate, &private_key).map_err(|error| {
        let field = if error.is_of_key() { "secrets.private_key" } else { "settings.certificate" };
        Fault::new(field, format!("{error}."))
    })?;
    if is_ca_signed && identity.common_name().as_deref() != Some(device_id.as_str()) {
        let found = identity.common_name().unwrap_or_default();
        let message =
            format!("Its common name must be the device id {device_id:?}, and is {found:?}.");
        return Err(Fault::new("settings.certificate", message));
    }
    let proof = Proof::Certificate { certificate, private_key };
    Ok(settings(host, device_id, proof, ("settings.host", "settings.device_id")))
}

fn settings(
    host: String,
    device_id: String,
    proof: Proof,
    (host_field, identity_field): (&'static str, &'static str),
) -> Settings {
    Settings {
        host,
        device_id,
        proof,
        sends_per_s: DEFAULT_SENDS_PER_S,
        token_life_s: DEFAULT_TOKEN_LIFE_S,
        port: 8883,
        ca: None,
        host_field,
        identity_field,
    }
}
