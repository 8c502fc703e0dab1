//! InfluxDB by its v2 write API, which v3 and others serve too. Sending a value
//! again is safe: the same series, field and time overwrite.

mod config;
mod encoder;
mod request;
mod service;

pub use encoder::Encoder;

use super::{
    AccountLimits, BatchLimits, Checked, Config, Destination, Fault, Host, Platform, Waiting,
};
use crate::engine::Context;
use crate::lane::DropReason;
use crate::value::Datum;

/// Lines of one request; the vendor's own advice.
const BATCH_LINES: usize = 5_000;

/// Bytes of lines in one request, before compression.
const BATCH_BYTES: usize = 1 << 20;

/// How long lines are gathered.
const LINGER_MS: u64 = 200;

/// The longest text of a field.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// Requests a second to one server and bucket, and at once.
const REQUESTS_PER_S: u32 = 100;
const BURST: u32 = 20;
const REQUESTS_AT_ONCE: usize = 16;

/// The platform `influxdb`.
#[derive(Debug)]
pub struct InfluxDb;

impl Platform for InfluxDb {
    fn name(&self) -> &'static str {
        "influxdb"
    }

    fn check(&self, config: &Config) -> Result<Checked, Fault> {
        let settings = config::read(config)?;
        Encoder::new(&settings, &config.items)?;
        let name = format!("influxdb {} {}", settings.url, settings.bucket);
        Ok(Checked {
            host: Host {
                name: settings.url.host_str().unwrap_or_default().to_owned(),
                field: "settings.url",
            },
            account: AccountLimits {
                name,
                rate_per_s: REQUESTS_PER_S,
                burst: BURST,
                concurrency: REQUESTS_AT_ONCE,
            },
            identity: None,
            batch: BatchLimits { values: BATCH_LINES, bytes: BATCH_BYTES, linger_ms: LINGER_MS },
            newer_only: false,
            fit,
        })
    }

    fn open(&self, config: &Config, context: &Context) -> Result<Box<dyn Destination>, Fault> {
        Ok(Box::new(service::Service::new(config, context)?))
    }

    fn test<'a>(
        &'a self,
        config: &'a Config,
        context: &'a Context,
    ) -> Waiting<'a, Result<String, String>> {
        Box::pin(async move {
            let service = service::Service::new(config, context);
            service.map_err(|fault| fault.to_string())?.test().await
        })
    }
}

fn fit(datum: Datum) -> Result<Datum, DropReason> {
    match &datum {
        Datum::Text(text) | Datum::Json(text) if text.len() > MAX_TEXT_BYTES => {
            Err(DropReason::TooLarge)
        }
        _ => Ok(datum),
    }
}

#[cfg(test)]
mod tests;
