//! The crate over real journals, stores and sockets; everything on loopback
//! and in folders of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod allocations;
mod batch;
mod mqtt;
mod recorder;
