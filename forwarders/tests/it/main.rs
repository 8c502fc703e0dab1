//! Forwarders on a real journal, store and directory, against doubles of
//! platforms that answer as the tests say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod double;
mod faults;
mod node;
mod platforms;
mod sending;
