//! The binary `baken` as a library, so that tests and the demo can run a node
//! inside their own process: configuration, wiring, HTTP API and commands.
//!
//! It holds no logic of the reading's way: `ingest`, `journal`, `store`,
//! `alarms`, `notifier` and `forwarders` do, and are only put together here.

pub mod api;
mod audit;
mod backup;
pub mod client;
mod clock;
pub mod command;
pub mod config;
mod continuity;
pub mod demo;
pub mod folder;
mod forwarding;
pub mod health;
mod host;
mod logging;
mod migration;
pub mod node;
mod notifications;
mod offline;
pub mod secret;
pub mod standing;
mod transitions;
mod upkeep;

/// Makes ring the one cryptography of the process; any number of times.
pub fn install_crypto() {
    // Fails only if it was installed before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
