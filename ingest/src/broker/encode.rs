//! Packets on their way down.
//!
//! PUBACK, PUBLISH and the pings are written by hand into the connection's
//! output, without an allocation; CONNACK, SUBACK and UNSUBACK are rare and are
//! written by `rmqtt-codec` (see `connack` and `subscriptions`).

use super::frame::Version;

/// Reason codes of MQTT 5 that stand in our packets. The numbers are the
/// protocol's.
pub(crate) mod reason {
    pub(crate) const SUCCESS: u8 = 0x00;
    pub(crate) const MALFORMED_PACKET: u8 = 0x81;
    pub(crate) const PROTOCOL_ERROR: u8 = 0x82;
    pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
    pub(crate) const SERVER_UNAVAILABLE: u8 = 0x88;
    pub(crate) const SERVER_SHUTTING_DOWN: u8 = 0x8b;
    pub(crate) const KEEP_ALIVE_TIMEOUT: u8 = 0x8d;
    pub(crate) const SESSION_TAKEN_OVER: u8 = 0x8e;
    pub(crate) const TOPIC_NAME_INVALID: u8 = 0x90;
    pub(crate) const TOPIC_ALIAS_INVALID: u8 = 0x94;
    pub(crate) const PACKET_TOO_LARGE: u8 = 0x95;
    pub(crate) const QUOTA_EXCEEDED: u8 = 0x97;
    pub(crate) const ADMINISTRATIVE_ACTION: u8 = 0x98;
    pub(crate) const PAYLOAD_FORMAT_INVALID: u8 = 0x99;
    pub(crate) const QOS_NOT_SUPPORTED: u8 = 0x9b;
    pub(crate) const USE_ANOTHER_SERVER: u8 = 0x9c;
}

/// The longest Reason String that is sent, in bytes.
pub(crate) const MAX_REASON_STRING_BYTES: usize = 256;

/// A PUBACK: four bytes, and in MQTT 5 a reason and its words when the message
/// was refused.
#[inline]
pub(crate) fn puback(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    reason: u8,
    words: Option<&str>,
) {
    let [high, low] = packet_id.to_be_bytes();
    if reason == reason::SUCCESS || version == Version::V3 {
        out.extend_from_slice(&[0x40, 2, high, low]);
    } else {
        reasoned(out, 0x40, &[high, low, reason], words);
    }
}

pub(crate) fn pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xd0, 0]);
}

/// MQTT 5 says why it ends; MQTT 3.1.1 has no packet for it.
///
/// There are clients that pass over the reason code of a DISCONNECT without
/// properties, which is one more reason to give it words.
pub(crate) fn disconnect(out: &mut Vec<u8>, version: Version, reason: u8, words: Option<&str>) {
    if version == Version::V5 {
        reasoned(out, 0xe0, &[reason], words);
    }
}

/// A packet of MQTT 5 that ends with a reason code and, where there are words
/// for it, a Reason String.
fn reasoned(out: &mut Vec<u8>, first_byte: u8, head: &[u8], words: Option<&str>) {
    const REASON_STRING: u8 = 0x1f;
    out.push(first_byte);
    let Some(words) = words else {
        variable_length(out, head.len());
        out.extend_from_slice(head);
        return;
    };
    let length = u16::try_from(words.len()).expect("a Reason String is short");
    let properties = 3 + words.len();
    variable_length(out, head.len() + variable_length_width(properties) + properties);
    out.extend_from_slice(head);
    variable_length(out, properties);
    out.push(REASON_STRING);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(words.as_bytes());
}

/// Words as a Reason String: cut to [`MAX_REASON_STRING_BYTES`], without the
/// control characters that MQTT forbids. None if its packet could be larger
/// than `max_packet_bytes`, as the protocol then wants it left out.
pub(crate) fn reason_string(words: &str, max_packet_bytes: usize) -> Option<Box<str>> {
    // Type, length, packet id, reason code, properties' length, property, text's length.
    const AROUND_BYTES: usize = 1 + 2 + 2 + 1 + 2 + 1 + 2;
    let words = &words[..words.floor_char_boundary(MAX_REASON_STRING_BYTES)];
    if AROUND_BYTES + words.len() > max_packet_bytes {
        return None;
    }
    // U+FFFD is longer than what it would stand for, a space is not.
    Some(words.chars().map(|char| if char.is_control() { ' ' } else { char }).collect())
}

/// A message for the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication<'a> {
    /// Empty where the client knows the alias.
    pub topic: &'a str,
    /// 0 for none.
    pub alias: u16,
    /// 0 sends it at QoS 0.
    pub packet_id: u16,
    pub payload: &'a [u8],
}

impl Publication<'_> {
    fn body_bytes(&self, version: Version) -> usize {
        let properties = match version {
            Version::V3 => 0,
            Version::V5 if self.alias == 0 => 1,
            Version::V5 => 4,
        };
        2 + self.topic.len()
            + if self.packet_id > 0 { 2 } else { 0 }
            + properties
            + self.payload.len()
    }

    /// Bytes of the whole packet, to compare with the client's limit.
    pub(crate) fn size(&self, version: Version) -> usize {
        let body = self.body_bytes(version);
        1 + variable_length_width(body) + body
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>, version: Version) {
        let body = self.body_bytes(version);
        out.reserve(body + super::frame::MAX_HEADER_BYTES);
        out.push(if self.packet_id > 0 { 0x32 } else { 0x30 });
        variable_length(out, body);
        let length = u16::try_from(self.topic.len()).expect("our topics are short");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        if self.packet_id > 0 {
            out.extend_from_slice(&self.packet_id.to_be_bytes());
        }
        match version {
            Version::V3 => {}
            Version::V5 if self.alias == 0 => out.push(0),
            Version::V5 => {
                let [high, low] = self.alias.to_be_bytes();
                out.extend_from_slice(&[3, 0x23, high, low]);
            }
        }
        out.extend_from_slice(self.payload);
    }
}

fn variable_length_width(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

fn variable_length(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit a byte");
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use rmqtt_codec::{v3, v5};
    use tokio_util::codec::Decoder as _;

    #[test]
    fn our_packets_read_back_by_the_codec() {
        for length in [0, 100, 127, 128, 20_000, 70_000] {
            let payload = vec![b'x'; length];
            let publication =
                Publication { topic: "v2/a", alias: 0, packet_id: 7, payload: &payload };
            let mut out = Vec::new();
            publication.write(&mut out, Version::V3);
            assert_eq!(out.len(), publication.size(Version::V3));
            let read = v3::Codec::new(0).decode(&mut BytesMut::from(&out[..])).unwrap().unwrap();
            let v3::Packet::Publish(read) = read.0 else { panic!("{read:?}") };
            assert_eq!((&read.topic[..], read.payload.len()), ("v2/a", length));
            assert_eq!(read.packet_id.map(u16::from), Some(7));

            let publication = Publication { alias: 3, packet_id: 0, ..publication };
            out.clear();
            publication.write(&mut out, Version::V5);
            assert_eq!(out.len(), publication.size(Version::V5));
            let read = v5::Codec::new(0, 0).decode(&mut BytesMut::from(&out[..])).unwrap().unwrap();
            let v5::Packet::Publish(read) = read.0 else { panic!("{read:?}") };
            let alias = read.properties.unwrap().topic_alias.map(u16::from);
            assert_eq!((read.payload.len(), alias), (length, Some(3)));
        }
    }

    #[test]
    fn a_puback_is_four_bytes_unless_it_refuses() {
        let mut out = Vec::new();
        puback(&mut out, Version::V5, 0x0102, reason::SUCCESS, None);
        puback(&mut out, Version::V3, 0x0304, reason::PAYLOAD_FORMAT_INVALID, None);
        puback(&mut out, Version::V5, 0x0506, reason::PAYLOAD_FORMAT_INVALID, None);
        assert_eq!(out, b"\x40\x02\x01\x02\x40\x02\x03\x04\x40\x03\x05\x06\x99");
    }

    #[test]
    fn reasons_read_back_by_the_codec_with_their_words() {
        for length in [0, 1, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 256] {
            let words = "w".repeat(length);
            let mut out = Vec::new();
            puback(&mut out, Version::V5, 7, reason::QUOTA_EXCEEDED, Some(&words));
            let read = v5::Codec::new(0, 0).decode(&mut BytesMut::from(&out[..])).unwrap().unwrap();
            let v5::Packet::PublishAck(read) = read.0 else { panic!("{read:?}") };
            assert_eq!((read.packet_id.get(), read.reason_code as u8), (7, 0x97));
            assert_eq!(read.reason_string.as_deref(), Some(&*words));
            out.clear();
            disconnect(&mut out, Version::V5, reason::SESSION_TAKEN_OVER, Some(&words));
            let read = v5::Codec::new(0, 0).decode(&mut BytesMut::from(&out[..])).unwrap().unwrap();
            let v5::Packet::Disconnect(read) = read.0 else { panic!("{read:?}") };
            assert_eq!(read.reason_code as u8, 0x8e);
            assert_eq!(read.reason_string.as_deref(), Some(&*words));
        }
    }

    #[test]
    fn a_reason_string_is_short_and_clean_and_fits_the_client() {
        assert_eq!(reason_string("a\0b\nc", 100).as_deref(), Some("a b c"));
        let long = reason_string(&"ü".repeat(300), usize::MAX).unwrap();
        assert_eq!(&*long, "ü".repeat(128));
        let largest = |words: &str| {
            let mut out = Vec::new();
            puback(&mut out, Version::V5, 1, reason::QUOTA_EXCEEDED, Some(words));
            out.len()
        };
        let words = "w".repeat(200);
        assert_eq!(reason_string(&words, largest(&words)).as_deref(), Some(&*words));
        assert_eq!(reason_string(&words, largest(&words) - 1), None);
        assert_eq!(reason_string("", 0), None);
    }
}
