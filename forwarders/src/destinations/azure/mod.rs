//! Azure IoT Hub by MQTT: one device identity of the hub for a forwarder, the
//! readings' own devices in the message. A hub lets one connection be a device
//! at a time, so that no two forwarders may be the same.

mod config;
mod encoder;
mod sas;
mod service;

pub use sas::token;

use super::{
    AccountLimits, BatchLimits, Checked, Config, Destination, Fault, Host, Identity, Platform,
    Waiting,
};
use crate::engine::Context;
use crate::lane::DropReason;
use crate::value::Datum;

/// Values that are sent before their acknowledgements are waited for.
const BATCH_VALUES: usize = 1_000;
const BATCH_BYTES: usize = 1 << 20;

/// How long values are gathered, so that those of one message share one.
const LINGER_MS: u64 = 50;

/// The values of one message; a hub takes 256 KB and counts in pieces of 4 KB.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// The longest text of a value, as it stands in a message.
const MAX_TEXT_BYTES: usize = 200 << 10;

/// The platform `azure_iot_hub`.
#[derive(Debug)]
pub struct AzureIotHub;

impl Platform for AzureIotHub {
    fn name(&self) -> &'static str {
        "azure_iot_hub"
    }

    fn check(&self, config: &Config) -> Result<Checked, Fault> {
        let settings = config::read(config)?;
        let field = settings.identity_field;
        Ok(Checked {
            host: Host { name: settings.host.clone(), field: settings.host_field },
            account: AccountLimits {
                name: format!("azure {}", settings.host),
                rate_per_s: settings.sends_per_s,
                burst: (settings.sends_per_s / 10).max(1),
                // Each device has a connection of its own.
                concurrency: 10_000,
            },
            identity: Some(Identity {
                name: format!("azure {} {}", settings.host, settings.device_id),
                field,
            }),
            batch: BatchLimits { values: BATCH_VALUES, bytes: BATCH_BYTES, linger_ms: LINGER_MS },
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
    match datum.json_bytes() > MAX_TEXT_BYTES {
        true => Err(DropReason::TooLarge),
        false => Ok(datum),
    }
}

#[cfg(test)]
mod tests;
