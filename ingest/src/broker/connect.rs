//! CONNECT: what a client asks for, whether it may, and CONNACK.
//!
//! Comes once per connection, so packets are read and written by `rmqtt-codec`.

use std::num::NonZeroU16;

use bytes::BytesMut;
use rmqtt_codec::error::DecodeError;
use rmqtt_codec::types::QoS;
use rmqtt_codec::version::{ProtocolVersion, VersionCodec};
use rmqtt_codec::{v3, v5};
use tokio_util::codec::{Decoder as _, Encoder as _};

use super::frame::Version;
use super::options::SessionLimits;
use super::session::Will;
use super::topics::Up;
use crate::auth::AuthError;

/// The longest client id.
pub(crate) const MAX_CLIENT_ID_BYTES: usize = 1_024;

/// A CONNECT of either generation.
#[derive(Debug)]
pub(crate) struct Connect {
    pub version: Version,
    pub client_id: String,
    pub user: Option<String>,
    pub password: Option<Vec<u8>>,
    pub keep_alive_s: u16,
    pub receive_maximum: NonZeroU16,
    pub topic_alias_maximum: u16,
    pub max_packet_bytes: usize,
    /// MQTT 5 only, and not if it set Request Problem Information to 0.
    pub wants_reason_strings: bool,
    pub will: Option<Will>,
}

/// Why a CONNECT is not answered with a session. The words of a CONNACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No CONNECT; nothing is answered.
    NotMqtt,
    Version,
    ClientId,
    BadCredentials,
    NotAuthorized,
    Busy,
    /// A will at QoS 2.
    Qos,
    /// A will to a topic that may not be published to.
    WillTopic,
    /// A will whose payload is above the limit.
    TooLarge,
    AuthenticationMethod,
}

impl From<AuthError> for Refused {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::BadCredentials => Self::BadCredentials,
            AuthError::NoCredentials | AuthError::Disabled => Self::NotAuthorized,
            AuthError::Busy => Self::Busy,
        }
    }
}

/// Reads a CONNECT out of one whole packet.
pub(crate) fn read(
    packet: &[u8],
    max_payload_bytes: usize,
) -> Result<Connect, (Option<Version>, Refused)> {
    let mut input = BytesMut::from(packet);
    let version = match VersionCodec.decode(&mut input) {
        Ok(Some(version)) => version,
        _ => return Err(unknown_version(packet)),
    };
    match version {
        ProtocolVersion::MQTT3 => {
            read_v3(&mut input, max_payload_bytes).map_err(|why| (Some(Version::V3), why))
        }
        ProtocolVersion::MQTT5 => {
            read_v5(&mut input, max_payload_bytes).map_err(|why| (Some(Version::V5), why))
        }
    }
}

/// A CONNECT of a version that does not exist is told so, in the older form,
/// which every client understands; anything else is no MQTT.
fn unknown_version(packet: &[u8]) -> (Option<Version>, Refused) {
    let names_mqtt = packet.windows(6).take(6).any(|name| name == b"\x00\x04MQTT");
    if names_mqtt { (Some(Version::V3), Refused::Version) } else { (None, Refused::NotMqtt) }
}

fn read_v3(input: &mut BytesMut, max_payload_bytes: usize) -> Result<Connect, Refused> {
    let connect = match v3::Codec::new(0).decode(input) {
        Ok(Some((v3::Packet::Connect(connect), _))) => *connect,
        Err(DecodeError::InvalidClientId) => return Err(Refused::ClientId),
        _ => return Err(Refused::NotMqtt),
    };
    let will = connect
        .last_will
        .map(|will| self::will(will.qos, &will.topic, &will.message, max_payload_bytes))
        .transpose()?;
    Ok(Connect {
        version: Version::V3,
        client_id: client_id(&connect.client_id)?,
        user: connect.username.map(|user| user.to_string()),
        password: connect.password.map(|password| password.to_vec()),
        keep_alive_s: connect.keep_alive,
        receive_maximum: NonZeroU16::MAX,
        topic_alias_maximum: 0,
        max_packet_bytes: usize::MAX,
        wants_reason_strings: false,
        will,
    })
}

fn read_v5(input: &mut BytesMut, max_payload_bytes: usize) -> Result<Connect, Refused> {
    let connect = match v5::Codec::new(0, 0).decode(input) {
        Ok(Some((v5::Packet::Connect(connect), _))) => *connect,
        _ => return Err(Refused::NotMqtt),
    };
    if connect.auth_method.is_some() {
        return Err(Refused::AuthenticationMethod);
    }
    let will = connect
        .last_will
        .map(|will| self::will(will.qos, &will.topic, &will.message, max_payload_bytes))
        .transpose()?;
    Ok(Connect {
        version: Version::V5,
        client_id: client_id(&connect.client_id)?,
        user: connect.username.map(|user| user.to_string()),
        password: connect.password.map(|password| password.to_vec()),
        keep_alive_s: connect.keep_alive,
        receive_maximum: connect.receive_max.unwrap_or(NonZeroU16::MAX),
        topic_alias_maximum: connect.topic_alias_max,
        max_packet_bytes: connect.max_packet_size.map_or(usize::MAX, |size| size.get() as usize),
        wants_reason_strings: connect.request_problem_info,
        will,
    })
}

fn client_id(id: &str) -> Result<String, Refused> {
    if id.len() > MAX_CLIENT_ID_BYTES { Err(Refused::ClientId) } else { Ok(id.to_owned()) }
}

fn will(qos: QoS, topic: &str, message: &[u8], max_payload_bytes: usize) -> Result<Will, Refused> {
    if qos == QoS::ExactlyOnce {
        return Err(Refused::Qos);
    }
    if message.len() > max_payload_bytes {
        return Err(Refused::TooLarge);
    }
    match Up::parse(topic.as_bytes()) {
        Some(up) if up.may_be_will() => {
            Ok(Will { topic: topic.as_bytes().into(), payload: message.into() })
        }
        _ => Err(Refused::WillTopic),
    }
}

/// What a CONNACK that accepts says.
#[derive(Debug)]
pub(crate) struct Accepted<'a> {
    pub limits: &'a SessionLimits,
    pub max_packet_bytes: usize,
    /// Where the client had given none.
    pub assigned_client_id: Option<&'a str>,
    /// Where ours differs from the client's.
    pub keep_alive_s: Option<u16>,
}

/// CONNACK for a session. Every session begins empty and ends with its
/// connection: what a router missed is kept by the store, not by a session.
pub(crate) fn accept(version: Version, accepted: &Accepted<'_>) -> Vec<u8> {
    match version {
        Version::V3 => vec![0x20, 2, 0, 0],
        Version::V5 => {
            let mut ack = connack(v5::ConnectAckReason::Success);
            let limits = accepted.limits;
            ack.session_expiry_interval_secs = Some(0);
            ack.receive_max = NonZeroU16::new(limits.receive_maximum).unwrap_or(NonZeroU16::MIN);
            ack.max_packet_size = u32::try_from(accepted.max_packet_bytes).ok();
            ack.topic_alias_max = limits.topic_alias_maximum;
            ack.assigned_client_id = accepted.assigned_client_id.map(Into::into);
            ack.server_keepalive_sec = accepted.keep_alive_s;
            encode_v5(ack)
        }
    }
}

/// CONNACK for no session; empty where nothing is to be said.
pub(crate) fn refuse(version: Option<Version>, refused: Refused) -> Vec<u8> {
    use v5::ConnectAckReason as Reason;
    let (code, reason) = match refused {
        Refused::NotMqtt => return Vec::new(),
        Refused::Version => (1, Reason::UnsupportedProtocolVersion),
        Refused::ClientId => (2, Reason::ClientIdentifierNotValid),
        Refused::BadCredentials => (5, Reason::BadUserNameOrPassword),
        Refused::NotAuthorized => (5, Reason::NotAuthorized),
        Refused::Busy => (3, Reason::ServerBusy),
        Refused::Qos => (5, Reason::QosNotSupported),
        Refused::WillTopic => (5, Reason::TopicNameInvalid),
        Refused::TooLarge => (5, Reason::PacketTooLarge),
        Refused::AuthenticationMethod => (5, Reason::BadAuthenticationMethod),
    };
    match version {
        None => Vec::new(),
        Some(Version::V3) => vec![0x20, 2, 0, code],
        Some(Version::V5) => encode_v5(connack(reason)),
    }
}

fn connack(reason_code: v5::ConnectAckReason) -> v5::ConnectAck {
    v5::ConnectAck {
        session_present: false,
        reason_code,
        session_expiry_interval_secs: None,
        receive_max: NonZeroU16::MAX,
        max_qos: QoS::AtLeastOnce,
        max_packet_size: None,
        assigned_client_id: None,
        topic_alias_max: 0,
        retain_available: false,
        // The filters of the contract have `+` in them; none else is granted.
        wildcard_subscription_available: true,
        subscription_identifiers_available: false,
        shared_subscription_available: false,
        server_keepalive_sec: None,
        response_info: None,
        server_reference: None,
        auth_method: None,
        auth_data: None,
        reason_string: None,
        user_properties: Vec::new(),
    }
}

fn encode_v5(ack: v5::ConnectAck) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    v5::Codec::new(0, 0)
        .encode(v5::Packet::ConnectAck(Box::new(ack)), &mut bytes)
        .expect("a CONNACK is far below the largest packet");
    bytes.to_vec()
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        let v311 = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc";
        let connect = read(v311, 100).unwrap();
        assert_eq!((connect.version, &*connect.client_id), (Version::V3, "abc"));
        let v31 = b"\x10\x11\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x03abc";
        assert_eq!(read(v31, 100).unwrap().version, Version::V3);
        let v5 = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc";
        assert_eq!(read(v5, 100).unwrap().version, Version::V5);
        assert!(read(v5, 100).unwrap().wants_reason_strings);
        let quiet = b"\x10\x12\x00\x04MQTT\x05\x02\x00\x3c\x02\x17\x00\x00\x03abc";
        assert!(!read(quiet, 100).unwrap().wants_reason_strings);
        let v9 = b"\x10\x0f\x00\x04MQTT\x09\x02\x00\x3c\x00\x03abc";
        assert_eq!(read(v9, 100).unwrap_err(), (Some(Version::V3), Refused::Version));
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n", 100).unwrap_err(), (None, Refused::NotMqtt));
    }

    #[test]
    fn a_will_is_checked_when_it_is_left() {
        let will = |qos, topic| super::will(qos, topic, b"{}", 100).map(|_| ());
        assert_eq!(will(QoS::AtLeastOnce, "v1/devices/me/telemetry"), Ok(()));
        assert_eq!(will(QoS::ExactlyOnce, "v1/devices/me/telemetry"), Err(Refused::Qos));
        assert_eq!(will(QoS::AtMostOnce, "elsewhere"), Err(Refused::WillTopic));
        assert_eq!(will(QoS::AtMostOnce, "v1/devices/me/rpc/request/1"), Err(Refused::WillTopic));
    }

    #[test]
    fn a_connack_of_mqtt_5_says_what_is_to_be_had() {
        let limits = SessionLimits::default();
        let accepted = Accepted {
            limits: &limits,
            max_packet_bytes: 66_560,
            assigned_client_id: Some("x"),
            keep_alive_s: Some(9),
        };
        let bytes = accept(Version::V5, &accepted);
        let read = v5::Codec::new(0, 0).decode(&mut BytesMut::from(&bytes[..])).unwrap().unwrap();
        let v5::Packet::ConnectAck(ack) = read.0 else { panic!("{read:?}") };
        assert_eq!((ack.max_qos, ack.retain_available), (QoS::AtLeastOnce, false));
        assert_eq!((ack.receive_max.get(), ack.topic_alias_max), (100, 16));
        assert_eq!((ack.max_packet_size, ack.server_keepalive_sec), (Some(66_560), Some(9)));
        assert_eq!(ack.assigned_client_id.as_deref(), Some("x"));
        assert_eq!(ack.session_expiry_interval_secs, Some(0));
    }
}
