//! The MQTT side of the load test, against a real mosquitto on the loopback
//! address. It must be installed: without it these tests fail.

mod mosquitto;

mod delivery;
mod trouble;
