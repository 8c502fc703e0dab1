//! The notifier against what it talks to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod double;
mod email;
mod postfix;
mod sms;
mod smtp;
mod webhook;
