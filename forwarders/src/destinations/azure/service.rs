//! Sends messages as a device, and renews its token before it ends.

use std::sync::Arc;
use std::time::Duration;

use super::super::mqtt::{Line, Login};
use super::super::{Config, Destination, Failure, Fault, Sent, Waiting, encode};
use super::config::{self, Proof, Settings};
use super::{MAX_MESSAGE_BYTES, encoder, sas};
use crate::engine::Context;
use crate::outgoing::Outgoing;
use crate::tls::{self, ClientIdentity};

pub(super) struct Service {
    settings: Settings,
    tls: Arc<rustls::ClientConfig>,
    context: Context,
    line: Line,
}

impl Service {
    pub fn new(config: &Config, context: &Context) -> Result<Self, Fault> {
        let settings = config::read(config)?;
        let tls = match &settings.proof {
            Proof::Key(_) => context.tls(settings.ca.as_deref())?,
            Proof::Certificate { certificate, private_key } => {
                let identity = ClientIdentity::parse(certificate, private_key)
                    .map_err(|error| Fault::new("settings.certificate", format!("{error}.")))?;
                let tls = tls::client_config(settings.ca.as_deref(), Some(identity), &[])
                    .map_err(|error| Fault::new("settings.ca", format!("{error}.")))?;
                Arc::new(tls)
            }
        };
        let line = Line::new("something else may be connected as the same device");
        Ok(Self { settings, tls, context: context.clone(), line })
    }

    /// A connection that will hold for this batch.
    async fn connect(&mut self) -> Result<(), Failure> {
        let (settings, tls) = (&self.settings, &self.tls);
        let life = match &settings.proof {
            // A fifth of its life is left for the batches that are sent last.
            Proof::Key(_) => {
                Some(Duration::from_secs(u64::from(settings.token_life_s)).mul_f64(0.8))
            }
            Proof::Certificate { .. } => None,
        };
        self.line.connect(&self.context, life, || login(settings, tls)).await
    }

    /// Connects as the device. If its forwarder is connected, the hub ends that
    /// connection, and the forwarder makes it again.
    pub async fn test(&mut self) -> Result<String, String> {
        self.connect().await.map_err(|failure| failure.message)?;
        self.line.close().await;
        Ok("The hub takes the device's credentials.".to_owned())
    }
}

fn login(settings: &Settings, tls: &Arc<rustls::ClientConfig>) -> Login {
    let Settings { host, device_id, .. } = settings;
    let password = match &settings.proof {
        Proof::Key(key) => {
            let life_s = i64::from(settings.token_life_s);
            let expires_at_s = jiff::Timestamp::now().as_second() + life_s;
            Some(sas::token(host, device_id, key, expires_at_s))
        }
        Proof::Certificate { .. } => None,
    };
    Login {
        host: host.clone(),
        port: settings.port,
        client_id: device_id.clone(),
        user: Some(encoder::user(host, device_id)),
        password,
        tls: Arc::clone(tls),
    }
}

impl Destination for Service {
    fn send<'a>(&'a mut self, batch: &'a [Outgoing]) -> Waiting<'a, Sent> {
        Box::pin(async move {
            let messages = encode::messages(batch, MAX_MESSAGE_BYTES).into_iter();
            let messages = messages.map(|message| {
                let first = &batch[message.values.start];
                let topic = encoder::topic(&self.settings.device_id, &message, first);
                (topic, message.body, message.values.len())
            });
            let messages = messages.collect();
            match self.connect().await {
                Err(failure) => Sent::failed(failure),
                Ok(()) => self.line.publish(messages, &self.context.account).await,
            }
        })
    }

    fn close(&mut self) -> Waiting<'_, ()> {
        Box::pin(self.line.close())
    }
}
