//! Where mail is handed in, and how it is checked before anything is sent.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use super::mime::Sender;
use super::relay::{Relay, Security};
use crate::channel::Plain;

/// Connections that are open to the provider at the same time.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 4;

/// From taking a connection to the provider's last answer.
pub const DEFAULT_TIMEOUT_MS: u64 = 30_000;

/// An address of the provider that doesn't answer leaves its other addresses the
/// rest of the time.
const CONNECT_SHARE: u32 = 3;

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Begins in the clear and must be encrypted by STARTTLS; usually port 587.
    #[default]
    StartTls,
    /// Encrypted from the first byte; usually port 465.
    Tls,
    /// Never encrypted, for a relay on the same machine.
    None,
}

/// By which provider e-mail goes out, and from whom.
#[derive(Clone, Debug)]
pub struct EmailOptions {
    /// A name or an IP address, which the provider's certificate must bear.
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// Both or neither of `user` and `password`.
    pub user: Option<String>,
    pub password: Option<Plain>,
    /// `address@domain` or `Name <address@domain>`.
    pub from: String,
    /// In the same form; where answers of people go.
    pub reply_to: Option<String>,
    /// How we name ourselves to the provider: a domain or an IP address; this
    /// machine's name where it is left out.
    pub hello_name: Option<String>,
    /// Stands behind the `@` of each Message-ID. Whoever changes it tears threads.
    pub message_id_domain: String,
    /// Certificates in PEM that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    pub max_connections: u32,
    pub timeout_ms: u64,
}

/// A setting that no mail can be sent by. It begins with the field's name.
#[derive(Debug, thiserror::Error)]
pub enum EmailError {
    #[error("{field}: {reason}")]
    Field { field: &'static str, reason: &'static str },
    #[error("password: it would travel in the clear; use TLS, or a relay on this machine")]
    PasswordInTheClear,
    #[error("ca_file: {} can't be read: {source}", path.display())]
    CaUnreadable { path: PathBuf, source: std::io::Error },
    #[error("ca_file: {} holds no certificates in PEM", path.display())]
    NoCertificate { path: PathBuf },
    #[error("ca_file: it can't be used: {0}")]
    Tls(lettre::transport::smtp::Error),
}

fn wrong(field: &'static str, reason: &'static str) -> EmailError {
    EmailError::Field { field, reason }
}

impl EmailOptions {
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// What every message bears.
    pub(super) fn sender(&self) -> Result<Sender, EmailError> {
        let domain = &self.message_id_domain;
        if !is_domain(domain) {
            return Err(wrong("message_id_domain", "it is no domain"));
        }
        let reply_to =
            self.reply_to.as_deref().map(|text| mailbox("reply_to", text)).transpose()?;
        Ok(Sender { from: mailbox("from", &self.from)?, reply_to, domain: domain.clone() })
    }

    /// How the provider is reached.
    pub(super) fn relay(&self) -> Result<Relay, EmailError> {
        if ServerName::try_from(self.host.as_str()).is_err() {
            return Err(wrong("host", "it is neither a name nor an IP address"));
        }
        if self.port == 0 {
            return Err(wrong("port", "it is between 1 and 65535"));
        }
        if self.max_connections == 0 {
            return Err(wrong("max_connections", "it is at least 1"));
        }
        if self.timeout_ms == 0 {
            return Err(wrong("timeout_ms", "it is at least 1"));
        }
        let credentials = self.credentials()?;
        if credentials.is_some() && self.tls == Tls::None && !is_loopback(&self.host) {
            return Err(EmailError::PasswordInTheClear);
        }
        let security = match self.tls {
            Tls::StartTls => Security::StartTls(self.tls_parameters()?),
            Tls::Tls => Security::Tls(self.tls_parameters()?),
            Tls::None => Security::None,
        };
        Ok(Relay {
            host: self.host.clone(),
            port: self.port,
            security,
            credentials,
            secrets: self.secrets(),
            hello: self.hello()?,
            connect_timeout: self.timeout() / CONNECT_SHARE,
        })
    }

    fn credentials(&self) -> Result<Option<Credentials>, EmailError> {
        match (&self.user, &self.password) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(wrong("password", "`user` needs one")),
            (None, Some(_)) => Err(wrong("user", "`password` needs one")),
            (Some(user), Some(Plain(password))) => {
                // NUL separates the two where they are sent.
                if user.is_empty() || user.contains('\0') {
                    return Err(wrong("user", "it is empty or has a NUL character"));
                }
                if password.is_empty() || password.contains('\0') {
                    return Err(wrong("password", "it is empty or has a NUL character"));
                }
                Ok(Some(Credentials::new(user.clone(), password.clone())))
            }
        }
    }

    /// The password in the forms in which a careless server may echo it.
    fn secrets(&self) -> Vec<Plain> {
        use base64::Engine;
        let base64 = |text: &str| Plain(base64::prelude::BASE64_STANDARD.encode(text));
        match (&self.user, &self.password) {
            (Some(user), Some(password)) => vec![
                base64(&format!("\0{user}\0{}", password.0)),
                base64(&password.0),
                password.clone(),
            ],
            _ => Vec::new(),
        }
    }

    fn tls_parameters(&self) -> Result<TlsParameters, EmailError> {
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Some(path) = &self.ca_file {
            let pem = std::fs::read(path)
                .map_err(|source| EmailError::CaUnreadable { path: path.clone(), source })?;
            let none = || EmailError::NoCertificate { path: path.clone() };
            // An empty list parses too, and would be found out at the first mail only.
            if !pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
                return Err(none());
            }
            let certificate = Certificate::from_pem(&pem).map_err(|_| none())?;
            builder = builder.add_root_certificate(certificate);
        }
        builder.build().map_err(EmailError::Tls)
    }

    fn hello(&self) -> Result<ClientId, EmailError> {
        let Some(name) = &self.hello_name else { return Ok(ClientId::default()) };
        match name.parse() {
            Ok(IpAddr::V4(address)) => Ok(ClientId::Ipv4(address)),
            Ok(IpAddr::V6(address)) => Ok(ClientId::Ipv6(address)),
            Err(_) if is_domain(name) => Ok(ClientId::Domain(name.clone())),
            Err(_) => Err(wrong("hello_name", "it is neither a domain nor an IP address")),
        }
    }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn mailbox(field: &'static str, text: &str) -> Result<Mailbox, EmailError> {
    let what = "it is `address@domain` or `Name <address@domain>`, without control characters";
    if text.chars().any(char::is_control) {
        return Err(wrong(field, what));
    }
    let mailbox: Mailbox = text.parse().map_err(|_| wrong(field, what))?;
    if !schema::is_email(mailbox.email.as_ref()) {
        return Err(wrong(field, what));
    }
    Ok(mailbox)
}

fn is_domain(text: &str) -> bool {
    let inner = |label: &str| label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    text.len() <= 253
        && text.split('.').all(|label| (1..=63).contains(&label.len()) && inner(label))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> EmailOptions {
        EmailOptions {
            host: "smtp.example.com".to_owned(),
            port: 587,
            tls: Tls::StartTls,
            user: Some("baken".to_owned()),
            password: Some(Plain("geheim".to_owned())),
            from: "Baken <alarms@example.com>".to_owned(),
            reply_to: None,
            hello_name: None,
            message_id_domain: "example.com".to_owned(),
            ca_file: None,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            timeout_ms: DEFAULT_TIMEOUT_MS,
        }
    }

    fn error(change: impl FnOnce(&mut EmailOptions)) -> String {
        let mut options = options();
        change(&mut options);
        let sender = options.sender().map(|_| ());
        let relay = options.relay().map(|_| ());
        sender.and(relay).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_wrong_setting_is_named() {
        assert_eq!(error(|_| ()), "");
        let text = |text: &str| text.to_owned();
        for (field, message) in [
            ("host", error(|o| o.host = text("smtp example com"))),
            ("host", error(|o| o.host = String::new())),
            ("port", error(|o| o.port = 0)),
            ("user", error(|o| o.user = None)),
            ("user", error(|o| o.user = Some(text("a\0b")))),
            ("password", error(|o| o.password = None)),
            ("password", error(|o| o.password = Some(Plain(String::new())))),
            ("from", error(|o| o.from = text("Baken"))),
            ("from", error(|o| o.from = text("Baken\r\nBcc: x@y.nl <a@example.com>"))),
            ("reply_to", error(|o| o.reply_to = Some(text("desk@")))),
            ("hello_name", error(|o| o.hello_name = Some(text("a b")))),
            ("message_id_domain", error(|o| o.message_id_domain = text("a>b"))),
            ("ca_file", error(|o| o.ca_file = Some(PathBuf::from("/nowhere/ca.pem")))),
            ("max_connections", error(|o| o.max_connections = 0)),
            ("timeout_ms", error(|o| o.timeout_ms = 0)),
        ] {
            assert!(message.starts_with(&format!("{field}: ")), "{field}: {message:?}");
            assert!(!message.contains("geheim"), "{message}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let named = |path: &std::path::Path| error(|o| o.ca_file = Some(path.to_owned()));
        assert!(named(file.path()).ends_with("holds no certificates in PEM"));
        let half = "-----BEGIN CERTIFICATE-----\nnonsense";
        std::fs::write(file.path(), half).unwrap();
        assert!(named(file.path()).ends_with("holds no certificates in PEM"));
    }

    #[test]
    fn a_password_travels_in_the_clear_on_this_machine_only() {
        let on = |host: &str| {
            error(|o| {
                o.tls = Tls::None;
                o.host = host.to_owned();
            })
        };
        for host in ["localhost", "127.0.0.1", "127.0.0.53", "::1"] {
            assert_eq!(on(host), "", "{host}");
        }
        for host in ["10.0.0.1", "smtp.example.com", "localhost.example.com"] {
            assert!(on(host).starts_with("password: "), "{host}");
        }
        let without = error(|o| {
            o.tls = Tls::None;
            (o.user, o.password) = (None, None);
        });
        assert_eq!(without, "", "a relay that asks no password may be anywhere");
    }

    #[test]
    fn nothing_shows_the_password() {
        assert!(!format!("{:?}", options()).contains("geheim"));
        assert!(!format!("{:?}", options().relay().unwrap()).contains("geheim"));
    }

    #[test]
    fn the_names_of_encryption_are_stable() {
        for (tls, name) in [(Tls::StartTls, "starttls"), (Tls::Tls, "tls"), (Tls::None, "none")] {
            assert_eq!(serde_json::to_value(tls).unwrap(), name);
            assert_eq!(serde_json::from_value::<Tls>(name.into()).unwrap(), tls);
        }
    }
}
