//! The binary `baken` as a library, so that tests and the demo can run a node
//! inside their own process: configuration, wiring, HTTP API and commands.
//!
//! It holds no logic of the reading's way: `ingest`, `journal`, `store` and
//! `alarms` do, and are only put together here.

pub mod config;
pub mod secret;
