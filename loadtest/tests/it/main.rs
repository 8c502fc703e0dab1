//! The MQTT side of the load test, against a real mosquitto on the loopback
//! address, which must be installed: without it these tests fail. And the HTTP
//! side, against a server that can be told to be at fault.

#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it too")]

mod mosquitto;

mod delivery;
mod forwarding;
mod readback;
mod trouble;
