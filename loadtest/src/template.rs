//! PUBLISH packets that are built once and patched for each message.
//!
//! Building a payload by a JSON writer costs the generator more than the server
//! spends on it. Here a message costs one copy of its template and a few digits
//! written over it.

use schema::TimestampMs;

use crate::packets::{self, QoS, Version};
use crate::plan::{Lane, Message, Plan};
use crate::values::{self, Sample};

/// The topic of a router that speaks for itself.
pub const DEVICE_TOPIC: &str = "v1/devices/me/telemetry";
/// The topic of a router that speaks for devices behind it.
pub const GATEWAY_TOPIC: &str = "v1/gateway/telemetry";

const TIME_DIGITS: usize = 13;
const DEVICE_DIGITS: usize = 6;
/// Set in a PUBLISH's first byte when it is sent again.
const DUPLICATE: u8 = 0b1000;

/// The name of telemetry key number `key`.
#[must_use]
pub fn key_name(key: u32) -> String {
    format!("k{key}")
}

/// The name of a device behind a router; `device` counts within the connection.
#[must_use]
pub fn device_name(connection: u32, device: u32) -> String {
    format!("machine-{connection:06}-{device:06}")
}

/// The packet of one lane of one connection.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// Of the two bytes of the packet id, at QoS 1.
    packet_id_at: Option<usize>,
    /// Of the device's number in its name, behind a gateway.
    device_at: Option<usize>,
    times: Vec<TimePlace>,
    /// One for each device.
    series: Vec<u64>,
}

#[derive(Clone, Debug)]
struct TimePlace {
    at: usize,
    /// Where each key's value begins.
    values: Vec<usize>,
}

impl Template {
    /// The packet for `lane` messages of a connection.
    #[must_use]
    pub fn new(plan: &Plan, lane: Lane, connection: u32, version: Version, qos: QoS) -> Self {
        let mut body = Body::default();
        let gateway = plan.devices_behind > 0;
        let mut device_at = None;
        if gateway {
            body.text.extend_from_slice(b"{\"");
            body.text.extend_from_slice(device_name(connection, 0).as_bytes());
            device_at = Some(body.text.len() - DEVICE_DIGITS);
            body.text.extend_from_slice(b"\":");
        }
        body.times(plan, lane, gateway);
        if gateway {
            body.text.push(b'}');
        }

        let topic = if gateway { GATEWAY_TOPIC } else { DEVICE_TOPIC };
        let mut bytes = Vec::new();
        let packet_id_at = packets::publish_head(version, qos, topic, body.text.len(), &mut bytes);
        let head = bytes.len();
        bytes.extend_from_slice(&body.text);
        for time in &mut body.places {
            time.at += head;
            time.values.iter_mut().for_each(|at| *at += head);
        }
        Self {
            bytes,
            packet_id_at,
            device_at: device_at.map(|at| at + head),
            times: body.places,
            series: (0..plan.devices())
                .map(|device| values::series(connection, device, lane == Lane::Buffered))
                .collect(),
        }
    }

    /// Bytes of each packet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the packet has no bytes, which none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends the packet of `message`. `again` marks one that was sent before.
    pub fn append(
        &self,
        plan: &Plan,
        message: Message,
        packet_id: u16,
        again: bool,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[start..];
        if again {
            packet[0] |= DUPLICATE;
        }
        if let Some(at) = self.packet_id_at {
            packet[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        if let Some(at) = self.device_at {
            values::digits(&mut packet[at..at + DEVICE_DIGITS], u64::from(message.device));
        }
        let series = self.series[message.device as usize];
        for (number, place) in (message.first..).zip(&self.times) {
            let TimestampMs(time) = plan.time_of(message.lane, number);
            values::digits(&mut packet[place.at..place.at + TIME_DIGITS], time.cast_unsigned());
            for (key, &at) in (0..).zip(&place.values) {
                let width = Sample::width(key);
                plan.sample(series, key, number).write(&mut packet[at..at + width]);
            }
        }
    }
}

#[derive(Default)]
struct Body {
    text: Vec<u8>,
    places: Vec<TimePlace>,
}

impl Body {
    fn times(&mut self, plan: &Plan, lane: Lane, gateway: bool) {
        let times = plan.times(lane);
        let array = gateway || times > 1;
        if array {
            self.text.push(b'[');
        }
        for time in 0..times {
            if time > 0 {
                self.text.push(b',');
            }
            self.time(plan.keys);
        }
        if array {
            self.text.push(b']');
        }
    }

    fn time(&mut self, keys: u32) {
        self.text.extend_from_slice(b"{\"ts\":");
        let at = self.text.len();
        self.text.extend_from_slice(&[b'0'; TIME_DIGITS]);
        self.text.extend_from_slice(b",\"values\":{");
        let mut values = Vec::new();
        for key in 0..keys {
            if key > 0 {
                self.text.push(b',');
            }
            self.text.extend_from_slice(format!("\"{}\":", key_name(key)).as_bytes());
            values.push(self.text.len());
            self.text.resize(self.text.len() + Sample::width(key), b' ');
        }
        self.text.extend_from_slice(b"}}");
        self.places.push(TimePlace { at, values });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::{Packet, parse};
    use crate::plan;

    fn payload(plan: &Plan, version: Version, m: u64) -> (String, u16, serde_json::Value) {
        let message = plan.message(m);
        let template = Template::new(plan, message.lane, 7, version, QoS::AtLeastOnce);
        let mut out = b"before".to_vec();
        template.append(plan, message, 0x1234, false, &mut out);
        assert_eq!(out.len(), 6 + template.len());
        let (packet, length) = parse(version, &out[6..]).unwrap().unwrap();
        assert_eq!(length, template.len());
        let Packet::Publish { topic, packet_id, payload, .. } = packet else {
            panic!("{packet:?}")
        };
        let json = serde_json::from_slice(payload).unwrap();
        (topic.to_owned(), packet_id.unwrap(), json)
    }

    #[test]
    fn a_gateway_batch_carries_its_device_times_and_values() {
        let plan = plan::sample();
        for version in [Version::V311, Version::V5] {
            // The 7th buffered batch of the connection: device 1, its 3rd turn.
            let (topic, packet_id, json) = payload(&plan, version, 31);
            assert_eq!((topic.as_str(), packet_id), (GATEWAY_TOPIC, 0x1234));
            let readings = json["machine-000007-000001"].as_array().unwrap();
            assert_eq!(readings.len(), 5);
            for (number, reading) in (10u64..).zip(readings) {
                assert_eq!(reading["ts"], 1_763_000_000_000 + number);
                assert_eq!(reading["values"].as_object().unwrap().len(), 3);
                let Sample::Integer(value) = values::sample(values::series(7, 1, true), 1, number)
                else {
                    panic!("the second key is an integer")
                };
                assert_eq!(reading["values"]["k1"], value);
            }
        }
    }

    #[test]
    fn a_router_of_its_own_sends_a_bare_object() {
        let plan =
            Plan { devices_behind: 0, times_per_message: 1, buffered_every: 0, ..plan::sample() };
        let (topic, _, json) = payload(&plan, Version::V311, 9);
        assert_eq!(topic, DEVICE_TOPIC);
        assert_eq!(json["ts"], 1_764_000_000_009_u64);
        assert!(json["values"]["k0"].is_f64());
    }

    #[test]
    fn a_message_sent_again_is_marked_as_such() {
        let plan = plan::sample();
        let template = Template::new(&plan, Lane::Live, 0, Version::V5, QoS::AtLeastOnce);
        let mut out = Vec::new();
        template.append(&plan, plan.message(0), 1, true, &mut out);
        assert_eq!(out[0], 0x3a);
    }
}
