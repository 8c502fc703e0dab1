//! One connection to the provider, and one message over it, step by step.
//!
//! `lettre` speaks the protocol; the steps are ours, because its own transport
//! tells neither at which one it failed nor gives up a connection whose send was
//! cut short by a timeout: it would hand the next message into the middle of the
//! last. Each step wants the one code that it can have. So an answer too many, be
//! it slipped in before TLS or left from a message before, ends the connection
//! and is never taken for the next step's.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;

use super::classify::{Answer, Stage, Trouble};
use crate::channel::Plain;

pub(super) enum Security {
    None,
    StartTls(TlsParameters),
    Tls(TlsParameters),
}

/// How the provider is reached.
pub(super) struct Relay {
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub credentials: Option<Credentials>,
    /// What no answer may show.
    pub secrets: Vec<Plain>,
    pub hello: ClientId,
    /// For each address of the host.
    pub connect_timeout: Duration,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({}:{})", self.host, self.port)
    }
}

/// A message as it goes over the wire.
#[derive(Debug)]
pub(super) struct Letter {
    pub from: Address,
    pub to: Address,
    /// ASCII only: no step depends on what the provider can do beyond that.
    pub bytes: Vec<u8>,
}

impl Relay {
    /// A connection that is ready for a message. `stage` says how far it came.
    pub async fn connect(&self, stage: &mut Stage) -> Result<AsyncSmtpConnection, Trouble> {
        *stage = Stage::Connect;
        let wrapper = match &self.security {
            Security::Tls(parameters) => Some(parameters.clone()),
            Security::None | Security::StartTls(_) => None,
        };
        let server = (self.host.as_str(), self.port);
        let timeout = Some(self.connect_timeout);
        let opened =
            AsyncSmtpConnection::connect_tokio1(server, timeout, &self.hello, wrapper, None).await;
        let mut connection = opened.map_err(|error| self.unreached(&error))?;
        if let Security::StartTls(parameters) = &self.security {
            let upgraded = connection.starttls(parameters.clone(), &self.hello).await;
            upgraded.map_err(|error| self.unreached(&error))?;
        }
        if let Some(credentials) = &self.credentials {
            *stage = Stage::Authenticate;
            let answered = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            self.expect(&[235], answered)?;
        }
        Ok(connection)
    }

    /// Makes a connection that has rested ready for the next message, whatever
    /// the last one left undone.
    pub async fn reset(&self, connection: &mut AsyncSmtpConnection) -> Result<(), Trouble> {
        let answered = connection.command(Rset).await;
        self.expect(&[250], answered).map(drop)
    }

    /// Hands a message over. `stage` says how far it came. Where the trouble is an
    /// answer the connection is as good as before.
    pub async fn hand_over(
        &self,
        connection: &mut AsyncSmtpConnection,
        letter: &Letter,
        stage: &mut Stage,
    ) -> Result<Answer, Trouble> {
        *stage = Stage::Sender;
        let mail = Mail::new(Some(letter.from.clone()), Vec::new());
        self.expect(&[250], connection.command(mail).await)?;
        *stage = Stage::Recipient;
        let rcpt = Rcpt::new(letter.to.clone(), Vec::new());
        self.expect(&[250, 251, 252], connection.command(rcpt).await)?;
        *stage = Stage::Data;
        self.expect(&[354], connection.command(Data).await)?;
        *stage = Stage::Content;
        self.expect(&[250], connection.message(&letter.bytes).await)
    }

    fn expect(&self, codes: &[u16], answered: Result<Response, Error>) -> Result<Answer, Trouble> {
        let response = answered.map_err(|error| self.trouble(&error))?;
        let code = u16::from(response.code());
        let text = self.without_secrets(response.message().collect::<Vec<_>>().join(" "));
        if codes.contains(&code) {
            Ok(Answer { code, text })
        } else {
            Err(Trouble::Silence(format!("an answer that doesn't belong here: {code} {text}")))
        }
    }

    fn trouble(&self, error: &Error) -> Trouble {
        let source = error.source().map(ToString::to_string);
        match error.status() {
            Some(code) => Trouble::Answer(Answer {
                code: code.into(),
                text: self.without_secrets(source.unwrap_or_default()),
            }),
            // lettre's word for an end of the stream.
            None if source.as_deref() == Some("incomplete response") => {
                Trouble::Silence("the connection was closed before the answer".to_owned())
            }
            None => Trouble::Silence(self.without_secrets(error.to_string())),
        }
    }

    /// Of a provider that isn't reached people must know which it is.
    fn unreached(&self, error: &Error) -> Trouble {
        match self.trouble(error) {
            Trouble::Silence(why) => {
                Trouble::Silence(format!("{}:{}: {why}", self.host, self.port))
            }
            answer @ Trouble::Answer(_) => answer,
        }
    }

    fn without_secrets(&self, mut text: String) -> String {
        for Plain(secret) in &self.secrets {
            if text.contains(secret) {
                text = text.replace(secret, "(hidden)");
            }
        }
        text
    }
}
