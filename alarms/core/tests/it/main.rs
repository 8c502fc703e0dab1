//! The core from outside: its scenario files, one for each thing that is promised.

#![allow(clippy::unwrap_used, reason = "a test ends where its ground is missing")]

mod scenarios;
