//! What the journal promises, tried from outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod brokers;
mod conformance;
mod copy;
mod disk;
mod embedded;
mod faults;
mod kafka;
mod kill;
mod property;
mod recovery;
mod retention;
mod support;
