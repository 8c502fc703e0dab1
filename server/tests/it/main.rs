//! The binary from outside: processes are started, spoken to by MQTT and HTTP,
//! stopped and killed.

#![allow(clippy::unwrap_used, reason = "a test ends where its ground is missing")]

mod alarms;
mod backtest;
mod backup;
mod bad_profiles;
#[path = "../../../journal/tests/it/brokers.rs"]
#[allow(dead_code, reason = "the journal's own tests use the rest of it")]
mod brokers;
mod commands;
mod config;
mod consumer;
mod demo;
mod device_changes;
mod directory;
mod documents;
mod downlink;
mod events;
mod forwarders;
mod harness;
mod http;
mod keys;
mod lifecycle;
mod location_groups;
mod location_status;
mod migrate;
mod mqtt;
mod nodes;
mod notifications;
mod operator;
mod operators;
mod outside;
#[path = "../../../forwarders/tests/it/double.rs"]
#[allow(dead_code, reason = "the forwarders' own tests use the rest of it")]
mod platform;
#[path = "../../../notifier/tests/it/postfix.rs"]
#[allow(dead_code, reason = "the notifier's own tests use the rest of it")]
mod postfix;
#[path = "../../../store/tests/it/postgres.rs"]
#[allow(dead_code, reason = "the store's own tests use the rest of it")]
mod postgres;
mod readiness;
mod reference;
mod restored;
mod retention;
mod rules;
mod system_alarms;
mod telemetry;
mod tls;
mod told;
mod transitions;
mod wire;
