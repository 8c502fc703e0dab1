//! Where values go. A platform is one folder with its settings, its encoder, how
//! it reads answers, and its service; it joins by implementing [`Platform`] and
//! standing in [`PLATFORMS`].
//!
//! A destination sends one batch at a time and says what became of it; when to
//! try again, when to split, when to give up and what is stored is decided by
//! the engine, the same for all.

mod answer;
pub mod aws;
pub mod azure;
pub mod blockbax;
mod encode;
mod http;
pub mod influxdb;
mod mqtt;
mod template;

pub use answer::{Class, Failure, Refused, Sent};
pub(crate) use http::client as http_client;
pub use template::Template;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::engine::Context;
use crate::lane::{DropReason, Tolerance};
use crate::outgoing::Outgoing;
use crate::value::{DataType, Datum};

/// All platforms, by name.
pub static PLATFORMS: [&dyn Platform; 4] =
    [&azure::AzureIotHub, &aws::AwsIotCore, &influxdb::InfluxDb, &blockbax::Blockbax];

/// The platform of this name.
#[must_use]
pub fn platform(name: &str) -> Option<&'static dyn Platform> {
    PLATFORMS.into_iter().find(|platform| platform.name() == name)
}

/// What is awaited, of a trait that has to be an object.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A kind of destination.
pub trait Platform: Send + Sync {
    /// Its stable name in documents.
    fn name(&self) -> &'static str;

    /// What is wrong with a configuration, or what the engine has to know of it.
    ///
    /// # Errors
    /// [`Fault`] names the field.
    fn check(&self, config: &Config) -> Result<Checked, Fault>;

    /// A destination for a configuration; connects when something is sent.
    ///
    /// # Errors
    /// [`Fault`], as [`Platform::check`].
    fn open(&self, config: &Config, context: &Context) -> Result<Box<dyn Destination>, Fault>;

    /// Tries whether values would be taken, without sending any where the
    /// platform lets that be found out. Both answers are sentences for people.
    fn test<'a>(
        &'a self,
        config: &'a Config,
        context: &'a Context,
    ) -> Waiting<'a, Result<String, String>>;
}

/// One forwarder's way to its platform.
pub trait Destination: Send {
    /// Sends values in their order. Dropped before it ends, some of them may
    /// have been sent.
    fn send<'a>(&'a mut self, batch: &'a [Outgoing]) -> Waiting<'a, Sent>;

    /// Ends the connection, if there is one.
    fn close(&mut self) -> Waiting<'_, ()>;
}

/// An item of a forwarder's selection.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub key: String,
    pub data_type: Option<DataType>,
    pub tolerance: Option<Tolerance>,
    /// What the platform asks of each item.
    pub settings: Map<String, Value>,
}

/// A forwarder's configuration with its secrets in the clear; never shown.
#[derive(Clone, PartialEq)]
pub struct Config {
    pub settings: Map<String, Value>,
    pub secrets: BTreeMap<String, String>,
    pub items: Vec<Item>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("items", &self.items.len()).finish_non_exhaustive()
    }
}

/// A limit that all forwarders to one target share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLimits {
    /// Names the target; two forwarders with the same share its limits.
    pub name: String,
    /// Requests or messages a second, and at once.
    pub rate_per_s: u32,
    pub burst: u32,
    /// Requests in flight.
    pub concurrency: usize,
}

/// Who a forwarder is to its platform, where only one may be that at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    /// The field that would have to differ.
    pub field: &'static str,
}

/// What is sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    pub values: usize,
    pub bytes: usize,
    /// How long more is waited for after the first value.
    pub linger_ms: u64,
}

/// What is connected to: a name or an address, and the field that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    pub field: &'static str,
}

/// What the engine has to know of a configuration.
#[derive(Clone, Debug)]
pub struct Checked {
    pub host: Host,
    pub account: AccountLimits,
    pub identity: Option<Identity>,
    pub batch: BatchLimits,
    /// The platform takes only what is newer than the newest of its series.
    pub newer_only: bool,
    /// Brings a value to what the platform can hold.
    pub fit: fn(Datum) -> Result<Datum, DropReason>,
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Fault {
    /// The path to it, as in `settings.url` or `items[2].settings.measurement`.
    pub field: String,
    /// A sentence.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Settings as the platform's own struct, which refuses unknown fields.
fn read<T: DeserializeOwned>(path: &str, settings: &Map<String, Value>) -> Result<T, Fault> {
    serde_path_to_error::deserialize(Value::Object(settings.clone())).map_err(|error| {
        let inner = match error.path().to_string().as_str() {
            "." => String::new(),
            inner => format!(".{inner}"),
        };
        Fault::new(format!("{path}{inner}"), format!("{}.", error.inner()))
    })
}

/// The settings of an item, and the path to them.
fn read_item<T: DeserializeOwned>(index: usize, item: &Item) -> Result<T, Fault> {
    read(&format!("items[{index}].settings"), &item.settings)
}

/// The type that each item must name on a platform that has fields.
fn typed(index: usize, item: &Item) -> Result<DataType, Fault> {
    let missing = || {
        let message = "This platform needs the data type of each item.";
        Fault::new(format!("items[{index}].data_type"), message)
    };
    item.data_type.ok_or_else(missing)
}

/// At least one item, where the platform asks for it.
fn some_items(config: &Config) -> Result<(), Fault> {
    match config.items.is_empty() {
        true => Err(Fault::new("items", "Select at least one key for this platform.")),
        false => Ok(()),
    }
}

/// The secrets that a platform knows; others are refused.
fn known_secrets(config: &Config, known: &[&str]) -> Result<(), Fault> {
    match config.secrets.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let message = format!("This platform's secrets are: {}.", known.join(", "));
            Err(Fault::new(format!("secrets.{name}"), message))
        }
        None => Ok(()),
    }
}
