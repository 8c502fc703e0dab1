//! The binary from outside: processes are started, spoken to by MQTT and HTTP,
//! stopped and killed.

mod commands;
mod config;
mod harness;
mod http;
mod lifecycle;
mod mqtt;
mod reference;
