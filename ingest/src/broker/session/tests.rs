//! The session through its one door: bytes in, bytes and actions out, with
//! times as numbers. The wire is written and read by hand, the checks are on
//! what a client would see.

mod downlink;
mod fuzz;
mod publishes;
mod requests;

use std::num::NonZeroU16;
use std::sync::Arc;

use schema::{
    DeviceId, LocationId, PartitionId, RouterId, Tenant, TenantId, TenantSettings, TimestampMs,
};
use store::Entry;

use super::super::frame::Version;
use super::super::options::SessionLimits;
use super::downlink::SharedChange;
use super::requests::ReplyTo;
use super::*;
use crate::batch::KeyTable;
use crate::decode::{Reason, Rejection};

const DEVICE: DeviceId = DeviceId(40);
const SECOND_US: u64 = 1_000_000;

/// A session, its time, and what it has said and not been asked for.
struct Bench {
    session: Session,
    now_us: u64,
    out: Output,
}

struct Setup {
    version: Version,
    limits: SessionLimits,
    settings: TenantSettings,
    keep_alive_s: u16,
    receive_maximum: u16,
    topic_alias_maximum: u16,
    max_packet_bytes: usize,
    wants_reason_strings: bool,
    will: Option<Will>,
}

impl Setup {
    fn new(version: Version) -> Self {
        Self {
            version,
            limits: SessionLimits::default(),
            settings: TenantSettings::default(),
            keep_alive_s: 60,
            receive_maximum: 100,
            topic_alias_maximum: 0,
            max_packet_bytes: usize::MAX,
            wants_reason_strings: false,
            will: None,
        }
    }

    fn start(self) -> Bench {
        let payload = Limits::default();
        let max_packet_bytes = payload.max_payload_bytes + 1_024;
        let rules = Rules { session: self.limits, payload, max_packet_bytes };
        let tenant = Tenant { name: "t".to_owned(), settings: self.settings };
        let entry = Entry { id: 1, version: 1, changed_at: TimestampMs(0), body: tenant };
        let tenancy = Tenancy { tenant: Arc::new(entry), meter: Arc::default() };
        let connected = Connected {
            version: self.version,
            identity: Identity {
                tenant: TenantId(1),
                location: LocationId(2),
                router: RouterId(3),
                device: DEVICE,
                partition: PartitionId(0),
            },
            keep_alive_s: self.keep_alive_s,
            receive_maximum: NonZeroU16::new(self.receive_maximum).unwrap(),
            topic_alias_maximum: self.topic_alias_maximum,
            max_packet_bytes: self.max_packet_bytes,
            wants_reason_strings: self.wants_reason_strings,
            will: self.will,
        };
        let keys = KeyTable::new().cache(TenantId(1), 100);
        let now = Now { wall: TimestampMs(1_700_000_000_000), us: 0 };
        let session = Session::new(Arc::new(rules), tenancy, connected, keys, now);
        Bench { session, now_us: 0, out: Output::default() }
    }
}

fn v3() -> Bench {
    Setup::new(Version::V3).start()
}

fn v5() -> Bench {
    Setup::new(Version::V5).start()
}

impl Bench {
    fn now(&self) -> Now {
        let ms = i64::try_from(self.now_us / 1_000).unwrap();
        Now { wall: TimestampMs(1_700_000_000_000 + ms), us: self.now_us }
    }

    /// One socket read; returns the bytes that were taken.
    fn read(&mut self, input: &[u8]) -> usize {
        self.out.clear();
        let now = self.now();
        self.session.receive(input, now, &mut self.out)
    }

    /// One socket read that is taken whole.
    fn feed(&mut self, input: &[u8]) -> &mut Self {
        assert_eq!(self.read(input), input.len(), "{:?}", self.out.end);
        self
    }

    /// The oldest submission is durable; returns what goes to the client.
    fn durable(&mut self) -> Vec<u8> {
        self.out.clear();
        self.session.completed(&mut self.out);
        self.out.bytes.clone()
    }

    fn resolved(&mut self, answers: &[(&str, Result<u64, Reason>)]) {
        self.out.clear();
        let answers = answers.iter().map(|(name, answer)| {
            let answer = answer.map(DeviceId).map_err(|reason| Rejection::new(reason, "no"));
            ((*name).to_owned(), answer)
        });
        self.session.resolved(answers.collect(), &mut self.out);
    }

    fn subscribe(&mut self, filter: &str, qos: u8) -> &mut Self {
        let packet = subscribe(self.session.version, filter, qos);
        self.feed(&packet)
    }

    /// Device, key and value of the rows to be submitted.
    fn rows(&self) -> Vec<(u64, String)> {
        let rows = |rows: &crate::batch::Rows| -> Vec<_> {
            let slice = rows.as_slice().iter();
            slice.map(|row| (row.device.0, format!("{:?}", rows.value(row).unwrap()))).collect()
        };
        [rows(&self.out.telemetry), rows(&self.out.attributes)].concat()
    }

    fn rejection(&self) -> Option<&super::super::rejections::Rejection> {
        self.out.actions.iter().find_map(|action| match action {
            Action::Reject(rejection) => Some(rejection),
            _ => None,
        })
    }
}

fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first_byte];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).unwrap();
        length /= 128;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

/// A PUBLISH; id 0 sends it at QoS 0.
fn publish(version: Version, topic: &str, id: u16, payload: &str) -> Vec<u8> {
    let mut body = text(topic);
    if id > 0 {
        body.extend(id.to_be_bytes());
    }
    if version == Version::V5 {
        body.push(0);
    }
    body.extend_from_slice(payload.as_bytes());
    packet(if id > 0 { 0x32 } else { 0x30 }, &body)
}

fn telemetry(version: Version, id: u16, payload: &str) -> Vec<u8> {
    publish(version, "v1/devices/me/telemetry", id, payload)
}

fn subscribe(version: Version, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 9];
    if version == Version::V5 {
        body.push(0);
    }
    body.extend(text(filter));
    body.push(qos);
    packet(0x82, &body)
}

/// A PUBLISH that came down.
#[derive(Debug, PartialEq)]
struct Received {
    topic: String,
    alias: u16,
    id: u16,
    payload: String,
}

/// All PUBLISH packets of an output, read by the codec.
fn received(version: Version, bytes: &[u8]) -> Vec<Received> {
    use rmqtt_codec::{MqttCodec, MqttPacket};
    use tokio_util::codec::Decoder as _;
    let mut codec = match version {
        Version::V3 => MqttCodec::V3(rmqtt_codec::v3::Codec::new(0)),
        Version::V5 => MqttCodec::V5(rmqtt_codec::v5::Codec::new(0, 0)),
    };
    let mut input = bytes::BytesMut::from(bytes);
    let mut all = Vec::new();
    while let Some((packet, _)) = codec.decode(&mut input).unwrap() {
        let publish = match packet {
            MqttPacket::V3(rmqtt_codec::v3::Packet::Publish(publish))
            | MqttPacket::V5(rmqtt_codec::v5::Packet::Publish(publish)) => publish,
            _ => continue,
        };
        all.push(Received {
            topic: publish.topic.to_string(),
            alias: publish.properties.and_then(|all| all.topic_alias).map_or(0, u16::from),
            id: publish.packet_id.map_or(0, u16::from),
            payload: String::from_utf8(publish.payload.to_vec()).unwrap(),
        });
    }
    assert!(input.is_empty(), "half a packet was written");
    all
}

#[test]
fn a_ping_is_answered_and_keeps_the_session() {
    let mut bench = v3();
    bench.now_us = 89 * SECOND_US;
    assert_eq!(bench.feed(b"\xc0\x00").out.bytes, b"\xd0\x00");
    assert_eq!(bench.session.timeout(bench.now_us + 89 * SECOND_US, true), None);
}

#[test]
fn silence_for_one_and_a_half_keep_alives_ends_it() {
    let mut bench = v3();
    assert_eq!(bench.session.deadline_us(0), Some(90 * SECOND_US));
    assert_eq!(bench.session.timeout(90 * SECOND_US - 1, true), None);
    assert_eq!(bench.session.timeout(90 * SECOND_US, true), Some(End::KeepAlive));
}

#[test]
fn who_is_not_read_is_not_silent() {
    let mut bench = v3();
    assert_eq!(bench.session.timeout(500 * SECOND_US, false), None);
    assert_eq!(bench.session.timeout(589 * SECOND_US, true), None);
    assert_eq!(bench.session.timeout(590 * SECOND_US, true), Some(End::KeepAlive));
}

#[test]
fn a_keep_alive_of_0_is_none() {
    let mut bench = Setup { keep_alive_s: 0, ..Setup::new(Version::V3) }.start();
    assert_eq!(bench.session.deadline_us(0), None);
    assert_eq!(bench.session.timeout(u64::MAX / 2, true), None);
}

#[test]
fn what_may_not_be_sent_ends_it() {
    for (input, end) in [
        (&b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc"[..], End::ProtocolError),
        (b"\x50\x02\x00\x01", End::ProtocolError),
        (b"\x62\x02\x00\x01", End::ProtocolError),
        (b"\x00\x00", End::ProtocolError),
        (b"\xf0\x00", End::ProtocolError),
        (b"\x82\x02\x00\x01", End::Malformed),
        (b"\x40\x01\x00", End::Malformed),
        (b"\x34\x05\x00\x01t\x00\x01", End::QosNotSupported),
        (b"\x30\xff\xff\xff\x7f", End::TooLarge),
        (b"\x30\xff\xff\xff\xff", End::Malformed),
        (b"\x30\x03\x00\x01\xff", End::Malformed),
        (b"\xe0\x00", End::Client),
    ] {
        let mut bench = v3();
        bench.read(input);
        assert_eq!(bench.out.end, Some(end), "{input:02x?}");
    }
}

#[test]
fn a_disconnect_of_mqtt_5_may_ask_for_the_will() {
    for (input, end) in [
        (&b"\xe0\x00"[..], End::Client),
        (b"\xe0\x01\x00", End::Client),
        (b"\xe0\x01\x04", End::ClientWithWill),
        (b"\xe0\x01\x80", End::ClientWithWill),
    ] {
        let mut bench = v5();
        bench.read(input);
        assert_eq!(bench.out.end, Some(end), "{input:02x?}");
    }
}

#[test]
fn mqtt_5_is_told_why_it_ends_unless_it_wants_no_words() {
    let goodbye = |setup: Setup, end: End| {
        let mut out = Vec::new();
        setup.start().session.goodbye(end, &mut out);
        out
    };
    let wants = |version| Setup { wants_reason_strings: true, ..Setup::new(version) };
    let said = goodbye(wants(Version::V5), End::TakenOver);
    assert_eq!(said[..8], [0xe0, 45, 0x8e, 43, 0x1f, 0, 40, b'a']);
    assert_eq!(&said[7..], b"another session of this client took over");
    let said = goodbye(wants(Version::V5), End::TooLarge);
    let words = "packet larger than 66560 bytes, or payload larger than 65536 bytes";
    assert_eq!(&said[7..], words.as_bytes());
    assert_eq!(goodbye(Setup::new(Version::V5), End::TakenOver), b"\xe0\x01\x8e");
    let small = Setup { max_packet_bytes: 40, ..wants(Version::V5) };
    assert_eq!(goodbye(small, End::TakenOver), b"\xe0\x01\x8e");
    for end in End::ALL {
        assert!(goodbye(Setup::new(Version::V3), end).is_empty(), "{end:?}");
        let is_told = end.reason_code().is_some();
        assert_eq!(goodbye(wants(Version::V5), end).is_empty(), !is_told, "{end:?}");
    }
}

#[test]
fn a_will_is_published_unless_the_client_said_goodbye() {
    let will = Will {
        topic: (*b"v1/devices/me/attributes").into(),
        payload: (*br#"{"online":false}"#).into(),
    };
    for (end, rows) in [(End::Client, 0), (End::Socket, 1), (End::TakenOver, 1)] {
        let will = Some(will.clone());
        let mut bench = Setup { will, ..Setup::new(Version::V3) }.start();
        let now = bench.now();
        assert!(!bench.session.publish_will(end, now, &mut bench.out));
        assert_eq!((bench.out.attributes.len(), bench.out.is_submitted), (rows, rows > 0));
        assert!(bench.out.bytes.is_empty());
    }
}
