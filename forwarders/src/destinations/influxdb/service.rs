//! Sends lines.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::{Client, Url, header};

use super::super::{Config, Destination, Failure, Fault, Sent, Waiting, http};
use super::config::{self, TOKEN};
use super::{Encoder, request};
use crate::engine::{Account, Context};
use crate::outgoing::Outgoing;

pub(super) struct Service {
    client: Client,
    url: Url,
    token: Option<header::HeaderValue>,
    encoder: Encoder,
    account: Arc<Account>,
}

impl Service {
    pub fn new(config: &Config, context: &Context) -> Result<Self, Fault> {
        let settings = config::read(config)?;
        let encoder = Encoder::new(&settings, &config.items)?;
        let mut url = http::join(&settings.url, &["api", "v2", "write"]);
        {
            let mut query = url.query_pairs_mut();
            if let Some(org) = &settings.org {
                query.append_pair("org", org);
            }
            query.append_pair("bucket", &settings.bucket).append_pair("precision", "ms");
        }
        let token = config.secrets.get(TOKEN).filter(|token| !token.is_empty());
        let token = token.map(|token| header_value(token)).transpose()?;
        let client = context.http_client(settings.ca.as_deref())?;
        Ok(Self { client, url, token, encoder, account: Arc::clone(&context.account) })
    }

    async fn post(&self, lines: String, count: usize) -> Sent {
        let body = match gzip(&lines) {
            Ok(body) => body,
            Err(error) => {
                let message = format!("lines can't be compressed: {error}");
                return Sent::failed(Failure::new(super::super::Class::Retry, message));
            }
        };
        let _place = self.account.permit(1).await;
        let mut request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .header(header::CONTENT_ENCODING, "gzip")
            .body(body);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token.clone());
        }
        match request.send().await {
            Err(error) => Sent::failed(http::unreachable(error)),
            Ok(response) => {
                let status = response.status().as_u16();
                let retry_after = http::retry_after(response.headers(), jiff::Timestamp::now());
                request::sent(status, retry_after, &http::body(response).await, count)
            }
        }
    }

    /// An empty write: servers check the token and the bucket before they look
    /// at lines, and some then complain that there are none.
    pub async fn test(&self) -> Result<String, String> {
        let sent = self.post(String::new(), 0).await;
        match sent.failure {
            None => Ok("The server takes writes to the bucket.".to_owned()),
            Some(failure) if failure.class == super::super::Class::Refuse => {
                Ok("The server takes the token and the bucket.".to_owned())
            }
            Some(failure) => Err(failure.message),
        }
    }
}

impl Destination for Service {
    fn send<'a>(&'a mut self, batch: &'a [Outgoing]) -> Waiting<'a, Sent> {
        let mut lines = String::new();
        for value in batch {
            self.encoder.line(value, &mut lines);
        }
        Box::pin(async move { self.post(lines, batch.len()).await })
    }

    fn close(&mut self) -> Waiting<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn header_value(token: &str) -> Result<header::HeaderValue, Fault> {
    let mut value = header::HeaderValue::from_str(&format!("Token {token}"))
        .map_err(|_| Fault::new("secrets.token", "It holds characters that no token has."))?;
    value.set_sensitive(true);
    Ok(value)
}

fn gzip(text: &str) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}
