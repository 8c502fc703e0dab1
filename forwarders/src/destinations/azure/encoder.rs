//! The topic of a message, which bears its properties.

use super::super::encode::{Message, percent};
use crate::outgoing::Outgoing;

/// The topic for a message of these values: id, content type and encoding as
/// the hub's own properties, without which it does not look into the body; then
/// ours in the order of their names.
pub(super) fn topic(device_id: &str, message: &Message, first: &Outgoing) -> String {
    let source = &first.source;
    let properties = [
        ("$.mid", message.id.as_str()),
        ("$.ct", "application/json"),
        ("$.ce", "utf-8"),
        ("device", source.device_name.as_str()),
        ("location", source.location_name.as_str()),
    ];
    let bag: Vec<String> = properties
        .iter()
        .map(|(name, value)| format!("{}={}", percent(name), percent(value)))
        .collect();
    format!("devices/{}/messages/events/{}", percent(device_id), bag.join("&"))
}

/// The user name with which a device connects.
pub(super) fn user(host: &str, device_id: &str) -> String {
    format!("{host}/{device_id}/?api-version=2021-04-12")
}
