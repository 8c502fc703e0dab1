//! The MQTT side of the load test, against a real mosquitto on the loopback
//! address. It must be installed: without it these tests fail.

#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it too")]

mod mosquitto;

mod delivery;
mod trouble;
