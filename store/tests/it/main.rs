//! The store through its public face.

#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod attributes;
mod audit;
mod cluster;
mod directory;
mod directory_model;
mod history;
mod newer;
mod nodes;
mod place;
mod postgres;
mod told;
mod transfer;
