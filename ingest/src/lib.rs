//! MQTT in, journal out; then journal out, history in.
//!
//! The first half of a reading's way: `decode` turns payloads into rows,
//! `batch` gathers the rows of many connections into journal records and says
//! when they are durable, `recorder` carries them from the journal into the
//! history and the attributes. This crate evaluates no rule and speaks no HTTP.

pub mod limits;

pub mod decode;

pub mod batch;

mod metrics;

pub mod recorder;

pub mod auth;

pub mod broker;

pub use batch::Submitter;
pub use broker::{Broker, BrokerOptions, Connections, Presence};
