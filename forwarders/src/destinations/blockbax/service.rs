//! Sends measurements.

use std::sync::Arc;

use reqwest::{Client, Url, header};

use super::super::{Class, Config, Destination, Failure, Fault, Sent, Waiting, http};
use super::config::{self, ACCESS_TOKEN};
use super::encoder::Body;
use super::{Encoder, MAX_BODY_BYTES, request};
use crate::engine::{Account, Context};
use crate::outgoing::Outgoing;

/// When the platform takes requests again.
const RESET: &str = "x-ratelimit-reset";

pub(super) struct Service {
    client: Client,
    url: Url,
    token: header::HeaderValue,
    encoder: Encoder,
    account: Arc<Account>,
}

impl Service {
    pub fn new(config: &Config, context: &Context) -> Result<Self, Fault> {
        let settings = config::read(config)?;
        let encoder = Encoder::new(&config.items)?;
        let path = ["v1", "projects", &settings.project_id, "measurements"];
        let mut url = http::join(&settings.url, &path);
        if let Some(connector) = &settings.inbound_connector_id {
            url.query_pairs_mut().append_pair("inboundConnectorId", connector);
        }
        let token = config.secrets.get(ACCESS_TOKEN).map(String::as_str).unwrap_or_default();
        let mut token =
            header::HeaderValue::from_str(&format!("ApiKey {token}")).map_err(|_| {
                Fault::new("secrets.access_token", "It holds characters that no token has.")
            })?;
        token.set_sensitive(true);
        let client = context.http_client(settings.ca.as_deref())?;
        Ok(Self { client, url, token, encoder, account: Arc::clone(&context.account) })
    }

    async fn post(&self, body: &Body, count: usize) -> Sent {
        let text = serde_json::to_vec(body).expect("a body has text keys only");
        if text.len() > MAX_BODY_BYTES {
            let message = format!("a request of {} bytes is too large", text.len());
            return Sent::failed(Failure::new(Class::Split, message));
        }
        let _place = self.account.permit(1).await;
        let request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, self.token.clone())
            .body(text);
        match request.send().await {
            Err(error) => Sent::failed(http::unreachable(error)),
            Ok(response) => {
                let status = response.status().as_u16();
                let reset = response.headers().get(RESET);
                let reset = reset.and_then(|reset| reset.to_str().ok()?.trim().parse().ok());
                let now_s = jiff::Timestamp::now().as_second();
                let now_s = u64::try_from(now_s).unwrap_or(0);
                let answer = http::body(response).await;
                request::sent(status, reset, now_s, &answer, body, count)
            }
        }
    }

    /// A request without measurements: the token, the project and the connector
    /// are looked at before the body.
    pub async fn test(&self) -> Result<String, String> {
        let sent = self.post(&Body { series: Vec::new() }, 0).await;
        match sent.failure {
            None => Ok("Blockbax takes measurements of the project.".to_owned()),
            Some(failure) if failure.class == Class::Refuse => {
                Ok("Blockbax takes the token, the project and the connector.".to_owned())
            }
            Some(failure) => Err(failure.message),
        }
    }
}

impl Destination for Service {
    fn send<'a>(&'a mut self, batch: &'a [Outgoing]) -> Waiting<'a, Sent> {
        let body = self.encoder.body(batch);
        Box::pin(async move { self.post(&body, batch.len()).await })
    }

    fn close(&mut self) -> Waiting<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
