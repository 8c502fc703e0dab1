//! The binary from outside: processes are started, spoken to by MQTT and HTTP,
//! stopped and killed.

#![allow(clippy::unwrap_used, reason = "a test ends where its ground is missing")]

mod alarms;
mod commands;
mod config;
mod demo;
mod directory;
mod documents;
mod downlink;
mod harness;
mod http;
mod keys;
mod lifecycle;
mod mqtt;
mod operator;
mod readiness;
mod reference;
mod retention;
mod rules;
mod telemetry;
mod tls;
mod wire;
