//! Blockbax by its measurements API, through an inbound connector. It takes a
//! measurement only if it is newer than the newest of its series, so that one
//! request of a project is in flight at a time.

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
use crate::value::{Datum, decimal};

/// Measurements of one request.
const BATCH_MEASUREMENTS: usize = 500;

/// The largest body of a request.
const MAX_BODY_BYTES: usize = 200 << 10;

/// How long measurements are gathered.
const LINGER_MS: u64 = 500;

/// Requests a second of one project, and at once.
const REQUESTS_PER_S: u32 = 10;
const BURST: u32 = 5;

/// Digits before and behind the point.
const WHOLE_DIGITS: usize = 20;
const FRACTION_DIGITS: usize = 8;

/// The longest text of a measurement.
const MAX_TEXT_BYTES: usize = 32 << 10;

/// The platform `blockbax`.
#[derive(Debug)]
pub struct Blockbax;

impl Platform for Blockbax {
    fn name(&self) -> &'static str {
        "blockbax"
    }

    fn check(&self, config: &Config) -> Result<Checked, Fault> {
        let settings = config::read(config)?;
        Encoder::new(&config.items)?;
        Ok(Checked {
            host: Host {
                name: settings.url.host_str().unwrap_or_default().to_owned(),
                field: "settings.url",
            },
            account: AccountLimits {
                name: format!("blockbax {} {}", settings.url, settings.project_id),
                rate_per_s: REQUESTS_PER_S,
                burst: BURST,
                concurrency: 1,
            },
            identity: None,
            batch: BatchLimits {
                values: BATCH_MEASUREMENTS,
                bytes: MAX_BODY_BYTES,
                linger_ms: LINGER_MS,
            },
            newer_only: true,
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

/// Numbers to the digits that the platform keeps, so that what it would take
/// for the same value is the same here. It has no booleans: `true` is 1.
fn fit(datum: Datum) -> Result<Datum, DropReason> {
    match datum {
        Datum::Number(number) => {
            let text = decimal(number, WHOLE_DIGITS, FRACTION_DIGITS);
            let rounded = text.and_then(|text| text.parse().ok());
            rounded.map(Datum::Number).ok_or(DropReason::TooLarge)
        }
        Datum::Boolean(boolean) => Ok(Datum::Number(f64::from(u8::from(boolean)))),
        Datum::Text(text) if text.len() > MAX_TEXT_BYTES => Err(DropReason::TooLarge),
        Datum::Json(text) => match encoder::location(&text) {
            Some(_) => Ok(Datum::Json(text)),
            None => Err(DropReason::WrongType),
        },
        Datum::Integer(_) | Datum::Text(_) => Ok(datum),
    }
}

#[cfg(test)]
mod tests;
