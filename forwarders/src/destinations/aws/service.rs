//! Sends messages by MQTT with a certificate.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;

use super::super::mqtt::{Line, Login};
use super::super::{Class, Destination, Failure, Fault, Sent, Waiting, encode, http};
use super::MAX_MESSAGE_BYTES;
use super::config::{Proof, Settings};
use crate::engine::Context;
use crate::outgoing::Outgoing;
use crate::tls::{self, ClientIdentity};

/// Names MQTT at port 443, which AWS serves several protocols at.
const MQTT_AT_443: &[u8] = b"x-amzn-mqtt-ca";

pub(super) struct Service {
    settings: Settings,
    client_id: String,
    tls: Arc<rustls::ClientConfig>,
    context: Context,
    line: Line,
}

impl Service {
    pub fn new(settings: Settings, context: &Context) -> Result<Self, Fault> {
        let Proof::Certificate { client_id, .. } = &settings.proof else {
            unreachable!("the caller has seen that there is a certificate")
        };
        let client_id = client_id.clone();
        let protocols: &[&[u8]] = if settings.alpn { &[MQTT_AT_443] } else { &[] };
        let tls = Arc::new(tls_config(&settings, protocols)?);
        let line = Line::new(
            "something else may be connected with the same client id, or the policy may not \
             allow iot:Publish for the topic",
        );
        Ok(Self { settings, client_id, tls, context: context.clone(), line })
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let login = || Login {
            host: self.settings.endpoint.clone(),
            port: self.settings.port,
            client_id: self.client_id.clone(),
            user: None,
            password: None,
            tls: Arc::clone(&self.tls),
        };
        self.line.connect(&self.context, None, login).await
    }

    /// Connects, and publishes one message of a test by HTTPS, where the answer
    /// says whether the policy allows it; by MQTT it would only close the
    /// connection.
    pub async fn test(&mut self) -> Result<String, String> {
        self.connect().await.map_err(|failure| {
            format!("{}. The policy must allow iot:Connect for the client id.", failure.message)
        })?;
        self.line.close().await;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config(&self.settings, &[]).map_err(|f| f.to_string())?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(self.context.reach().clone())
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| error.to_string())?;
        let topic = self.settings.test_topic();
        let path: Vec<String> = topic.split('/').map(encode::percent).collect();
        let url = format!(
            "https://{}:{}/topics/{}?qos=1",
            self.settings.endpoint,
            self.settings.https_port,
            path.join("/")
        );
        let response = client.post(url).body(r#"{"test":true}"#).send().await;
        let response = response.map_err(|error| http::unreachable(error).message)?;
        match response.status() {
            StatusCode::OK => Ok(format!("AWS IoT Core took a message for the topic {topic}.")),
            StatusCode::FORBIDDEN => {
                Err(format!("the policy does not allow iot:Publish for the topic {topic}"))
            }
            status => Err(format!("AWS IoT Core answered HTTP {}", status.as_u16())),
        }
    }
}

fn tls_config(settings: &Settings, protocols: &[&[u8]]) -> Result<rustls::ClientConfig, Fault> {
    let Proof::Certificate { certificate, private_key, .. } = &settings.proof else {
        unreachable!("the caller has seen that there is a certificate")
    };
    let identity = ClientIdentity::parse(certificate, private_key)
        .map_err(|error| Fault::new("settings.certificate", format!("{error}.")))?;
    tls::client_config(settings.ca.as_deref(), Some(identity), protocols)
        .map_err(|error| Fault::new("settings.ca", format!("{error}.")))
}

impl Destination for Service {
    fn send<'a>(&'a mut self, batch: &'a [Outgoing]) -> Waiting<'a, Sent> {
        Box::pin(async move {
            let messages: Vec<(String, String, usize)> = encode::messages(batch, MAX_MESSAGE_BYTES)
                .into_iter()
                .map(|message| {
                    let topic = self.settings.topic_of(&batch[message.values.start]);
                    (topic, message.body, message.values.len())
                })
                .collect();
            let mut sent = match self.connect().await {
                Err(failure) => Sent::failed(failure),
                Ok(()) => self.line.publish(messages, &self.context.account).await,
            };
            if let Some(failure) = &mut sent.failure
                && failure.class == Class::Retry
                && failure.message.contains("closed")
            {
                failure.message.push_str(
                    "; AWS does so when the policy does not allow iot:Publish for the topic",
                );
            }
            sent
        })
    }

    fn close(&mut self) -> Waiting<'_, ()> {
        Box::pin(self.line.close())
    }
}
