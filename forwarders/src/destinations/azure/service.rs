//! Sends messages as a device, and renews its token before it ends: between two
//! batches nothing is in flight, so that a connection can be made anew without
//! an acknowledgement being lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::mqtt::{Link, Login};
use super::super::{Config, Destination, Failure, Fault, Sent, Waiting, encode};
use super::config::{self, Proof, Settings};
use super::{MAX_MESSAGE_BYTES, encoder, sas};
use crate::engine::Context;
use crate::outgoing::Outgoing;
use crate::tls::{self, ClientIdentity};

/// How long a token holds, and when it is renewed.
const TOKEN_LIFE_S: i64 = 60 * 60;
const RENEW_AFTER: Duration = Duration::from_secs(48 * 60);

pub(super) struct Service {
    settings: Settings,
    tls: Arc<rustls::ClientConfig>,
    context: Context,
    link: Option<(Link, Instant)>,
}

impl Service {
    pub fn new(config: &Config, context: &Context) -> Result<Self, Fault> {
        let settings = config::read(config)?;
        let identity = match &settings.proof {
            Proof::Key(_) => None,
            Proof::Certificate { certificate, private_key } => {
                let parsed = ClientIdentity::parse(certificate, private_key);
                Some(parsed.map_err(|e| Fault::new("settings.certificate", format!("{e}.")))?)
            }
        };
        let tls = tls::client_config(settings.ca.as_deref(), identity, &[])
            .map_err(|error| Fault::new("settings.ca", format!("{error}.")))?;
        Ok(Self { settings, tls: Arc::new(tls), context: context.clone(), link: None })
    }

    fn login(&self) -> Login {
        let Settings { host, device_id, .. } = &self.settings;
        let password = match &self.settings.proof {
            Proof::Key(key) => {
                let expires_at_s = jiff::Timestamp::now().as_second() + TOKEN_LIFE_S;
                Some(sas::token(host, device_id, key, expires_at_s))
            }
            Proof::Certificate { .. } => None,
        };
        Login {
            host: host.clone(),
            port: self.settings.port,
            client_id: device_id.clone(),
            user: Some(encoder::user(host, device_id)),
            password,
            tls: Arc::clone(&self.tls),
        }
    }

    /// A connection that will hold for this batch.
    async fn connected(&mut self) -> Result<&Link, Failure> {
        if let Some((link, since)) = self.link.take() {
            let is_fresh = matches!(self.settings.proof, Proof::Certificate { .. })
                || since.elapsed() < RENEW_AFTER;
            if link.is_up() && is_fresh {
                self.link = Some((link, since));
            } else if link.is_up() {
                link.close().await;
            }
        }
        if self.link.is_none() {
            self.context.connect_turn().await;
            self.link = Some((Link::connect(&self.login()).await?, Instant::now()));
        }
        self.link.as_ref().map(|(link, _)| link).ok_or_else(Failure::timed_out)
    }

    /// Connects as the device. If its forwarder is connected, the hub ends that
    /// connection, and the forwarder makes it again.
    pub async fn test(&mut self) -> Result<String, String> {
        self.connected().await.map_err(|failure| failure.message)?;
        self.close().await;
        Ok("The hub takes the device's credentials.".to_owned())
    }
}

impl Destination for Service {
    fn send<'a>(&'a mut self, batch: &'a [Outgoing]) -> Waiting<'a, Sent> {
        Box::pin(async move {
            let device_id = self.settings.device_id.clone();
            let messages = encode::messages(batch, MAX_MESSAGE_BYTES).into_iter();
            let messages = messages.map(|message| {
                let first = &batch[message.values.start];
                let topic = encoder::topic(&device_id, &message, first);
                (topic, message.body, message.values.len())
            });
            let account = Arc::clone(&self.context.account);
            let sent = match self.connected().await {
                Err(failure) => Sent::failed(failure),
                Ok(link) => link.publish(messages.collect(), &account).await,
            };
            if sent.failure.is_some() {
                // What was not acknowledged is sent again by a new connection.
                self.link = None;
            }
            sent
        })
    }

    fn close(&mut self) -> Waiting<'_, ()> {
        Box::pin(async move {
            if let Some((link, _)) = self.link.take() {
                link.close().await;
            }
        })
    }
}
