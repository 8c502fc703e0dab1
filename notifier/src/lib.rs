//! The notifier: from what happened to alarms to the people who are told of it.
//!
//! The end of a reading's way that people see. The alarm worker has written a
//! **notice** for each (transition, recipient, channel) in the transaction of
//! the transition; here a pure decision says of each whether it is told now,
//! waits or is dropped, and why; what is told together becomes a **message**,
//! and a message is handed to its channel until the provider has taken it.
//!
//! This crate decides nothing about alarms and speaks no SQL. It meets the alarm
//! workers in the store only.

pub mod channel;
mod compose;
pub mod decision;
mod delivery;
pub mod email;
pub mod links;
pub mod message;
mod metrics;
mod notifier;
mod planner;
mod providers;
mod request;
mod retry;
pub mod sms;
mod trouble;
pub mod webhook;
mod whom;

pub use notifier::{Notifier, NotifierParts, TestError, TestMessage};
pub use providers::{Providers, Unseal};
pub use trouble::{Alarming, SystemAlarmChange, UNDELIVERABLE};
