//! Tests of the workers with a real journal and a real store.

#![allow(clippy::unwrap_used, reason = "a test ends where its ground is missing")]

mod backtest;
mod directory;
mod limit;
mod many;
mod node;
mod replay;
mod tenant;
mod timers;
mod ways;
