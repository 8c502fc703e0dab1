//! AWS IoT Core: by MQTT with a certificate, or by HTTPS with IAM credentials.
//! AWS discards what goes over its rate without a word, so that ours stays
//! below it; the order of messages is not promised, so that each bears its time
//! and sequence.

mod config;
mod iam;
mod policy;
mod service;

pub use config::DEFAULT_TOPIC;
pub use policy::policy;

use super::{
    AccountLimits, BatchLimits, Checked, Config, Destination, Fault, Host, Identity, Platform,
    Waiting,
};
use crate::engine::Context;
use crate::lane::DropReason;
use crate::value::Datum;
use config::Proof;

/// Values that are sent before their acknowledgements are waited for.
const BATCH_VALUES: usize = 1_000;
const BATCH_BYTES: usize = 512 << 10;

/// How long values are gathered, so that those of one message share one.
const LINGER_MS: u64 = 50;

/// The values of one message; AWS takes 128 KB and counts in pieces of 5 KB.
const MAX_MESSAGE_BYTES: usize = 32 << 10;

/// The longest text of a value, as it stands in a message.
const MAX_TEXT_BYTES: usize = 100 << 10;

/// Publishes a second and connection; AWS discards from 100 on.
const PUBLISHES_PER_S: u32 = 90;
const BURST: u32 = 5;

/// The platform `aws_iot_core`.
#[derive(Debug)]
pub struct AwsIotCore;

impl Platform for AwsIotCore {
    fn name(&self) -> &'static str {
        "aws_iot_core"
    }

    fn check(&self, config: &Config) -> Result<Checked, Fault> {
        let settings = config::read(config)?;
        let (who, identity) = match &settings.proof {
            Proof::Certificate { client_id, .. } => {
                let name = format!("aws {} {client_id}", settings.endpoint);
                let field = "settings.client_id";
                (client_id.clone(), Some(Identity { name, field }))
            }
            Proof::Iam { access_key_id, .. } => (access_key_id.clone(), None),
        };
        Ok(Checked {
            host: Host { name: settings.host().to_owned(), field: "settings.endpoint" },
            account: AccountLimits {
                name: format!("aws {} {who}", settings.endpoint),
                rate_per_s: PUBLISHES_PER_S,
                burst: BURST,
                concurrency: 1,
            },
            identity,
            batch: BatchLimits { values: BATCH_VALUES, bytes: BATCH_BYTES, linger_ms: LINGER_MS },
            newer_only: false,
            fit,
        })
    }

    fn open(&self, config: &Config, context: &Context) -> Result<Box<dyn Destination>, Fault> {
        let settings = config::read(config)?;
        match &settings.proof {
            Proof::Certificate { .. } => Ok(Box::new(service::Service::new(settings, context)?)),
            Proof::Iam { .. } => Ok(Box::new(iam::Service::new(settings, context))),
        }
    }

    fn test<'a>(
        &'a self,
        config: &'a Config,
        context: &'a Context,
    ) -> Waiting<'a, Result<String, String>> {
        Box::pin(async move {
            let settings = config::read(config).map_err(|fault| fault.to_string())?;
            match &settings.proof {
                Proof::Certificate { .. } => {
                    let service = service::Service::new(settings, context);
                    service.map_err(|fault| fault.to_string())?.test().await
                }
                Proof::Iam { .. } => iam::Service::new(settings, context).test().await,
            }
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
