//! MQTT 3.1.1 and 5 packets, as much of them as a router needs.
//!
//! Written from the standards and not by the codec that the server uses, so
//! that one mistake can't stand on both sides. It never performs IO.

/// The protocol's version. The numbers are those of the CONNECT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Version {
    V311 = 4,
    V5 = 5,
}

/// How a publish is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum QoS {
    AtMostOnce = 0,
    AtLeastOnce = 1,
}

/// A ping, whole.
pub const PINGREQ: [u8; 2] = [0xc0, 0];
/// A goodbye, whole; in MQTT 5 with the reason "normal disconnection".
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Reason codes of PUBACK from here on are refusals.
pub const FIRST_FAILURE: u8 = 0x80;

/// What a client says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Connect<'a> {
    pub version: Version,
    pub client_id: &'a str,
    pub user: Option<&'a str>,
    pub password: Option<&'a str>,
    /// 0 switches it off.
    pub keep_alive_s: u16,
}

/// What a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    ConnAck {
        /// 0 is success.
        code: u8,
        /// How many publishes at QoS 1 may be under way; 65,535 if not said.
        receive_maximum: u16,
        /// Bytes of the largest packet taken, where there is a limit.
        maximum_packet_size: Option<u32>,
    },
    PubAck {
        packet_id: u16,
        /// Below [`FIRST_FAILURE`] is success; always 0 in MQTT 3.1.1.
        reason: u8,
    },
    SubAck {
        packet_id: u16,
        code: u8,
    },
    Publish {
        topic: &'a str,
        packet_id: Option<u16>,
        payload: &'a [u8],
    },
    PingResp,
    Disconnect {
        reason: u8,
    },
    /// Of a type that needs no answer here.
    Other(u8),
}

/// Why received bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed packet of type {packet_type}")]
pub struct Malformed {
    /// The first byte's upper half.
    pub packet_type: u8,
}

impl Connect<'_> {
    /// Appends the CONNECT packet: a clean session, no will.
    ///
    /// # Panics
    /// If a field is longer than 65,535 bytes.
    pub fn append(&self, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(64);
        string("MQTT", &mut body);
        body.push(self.version as u8);
        let user = u8::from(self.user.is_some()) << 7;
        let password = u8::from(self.password.is_some()) << 6;
        body.push(user | password | 0b10);
        body.extend_from_slice(&self.keep_alive_s.to_be_bytes());
        no_properties(self.version, &mut body);
        string(self.client_id, &mut body);
        self.user.iter().chain(&self.password).for_each(|text| string(text, &mut body));
        out.push(0x10);
        remaining_length(body.len(), out);
        out.extend_from_slice(&body);
    }
}

/// Appends a SUBSCRIBE to one filter.
pub fn append_subscribe(version: Version, filter: &str, qos: QoS, out: &mut Vec<u8>) {
    let mut body = 1u16.to_be_bytes().to_vec();
    no_properties(version, &mut body);
    string(filter, &mut body);
    body.push(qos as u8);
    out.push(0x82);
    remaining_length(body.len(), out);
    out.extend_from_slice(&body);
}

/// Appends a PUBACK of success.
pub fn append_puback(packet_id: u16, out: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[0x40, 2, high, low]);
}

/// Appends a PUBLISH up to where its payload of `payload_bytes` begins. The
/// packet id, whose place is returned, is 0 and must be written over.
pub fn publish_head(
    version: Version,
    qos: QoS,
    topic: &str,
    payload_bytes: usize,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let id_bytes = 2 * usize::from(qos == QoS::AtLeastOnce);
    let properties = usize::from(version == Version::V5);
    out.push(0x30 | (qos as u8) << 1);
    remaining_length(2 + topic.len() + id_bytes + properties + payload_bytes, out);
    string(topic, out);
    let id_at = (qos == QoS::AtLeastOnce).then_some(out.len());
    out.resize(out.len() + id_bytes, 0);
    no_properties(version, out);
    id_at
}

fn no_properties(version: Version, out: &mut Vec<u8>) {
    if version == Version::V5 {
        out.push(0);
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("MQTT strings are at most 65,535 bytes long");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn remaining_length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(length & 0x7f).expect("seven bits");
        length >>= 7;
        out.push(low | if length > 0 { 0x80 } else { 0 });
        if length == 0 {
            return;
        }
    }
}

/// The first packet of `bytes` and its length; `None` if it isn't whole yet.
///
/// # Errors
/// [`Malformed`] if no more bytes can make it a packet.
pub fn parse(version: Version, bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, Malformed> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let malformed = Malformed { packet_type: first >> 4 };
    let Some((length, head)) = variable_integer(&bytes[1..], malformed)? else { return Ok(None) };
    let end = 1 + head + length;
    let Some(body) = bytes.get(1 + head..end) else { return Ok(None) };
    let packet = match first >> 4 {
        2 => connack(version, body),
        3 => publish(version, first, body),
        4 => Some(body).filter(|body| body.len() >= 2).map(|body| Packet::PubAck {
            packet_id: u16::from_be_bytes([body[0], body[1]]),
            reason: body.get(2).copied().unwrap_or(0),
        }),
        9 => Some(body).filter(|body| body.len() >= 3).map(|body| Packet::SubAck {
            packet_id: u16::from_be_bytes([body[0], body[1]]),
            code: body[body.len() - 1],
        }),
        13 => Some(Packet::PingResp),
        14 => Some(Packet::Disconnect { reason: body.first().copied().unwrap_or(0) }),
        other => Some(Packet::Other(other)),
    };
    Ok(Some((packet.ok_or(malformed)?, end)))
}

fn variable_integer(
    bytes: &[u8],
    malformed: Malformed,
) -> Result<Option<(usize, usize)>, Malformed> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err(malformed) } else { Ok(None) }
}

fn connack(version: Version, body: &[u8]) -> Option<Packet<'_>> {
    let code = *body.get(1)?;
    let mut receive_maximum = u16::MAX;
    let mut maximum_packet_size = None;
    if version == Version::V5 && body.len() > 2 {
        let malformed = Malformed { packet_type: 2 };
        let (length, head) = variable_integer(&body[2..], malformed).ok()??;
        let mut rest = body.get(2 + head..2 + head + length)?;
        while let Some((&id, after)) = rest.split_first() {
            match id {
                0x21 => receive_maximum = u16::from_be_bytes(after.get(..2)?.try_into().ok()?),
                0x27 => {
                    let bytes = after.get(..4)?.try_into().ok()?;
                    maximum_packet_size = Some(u32::from_be_bytes(bytes));
                }
                _ => {}
            }
            rest = after.get(property_length(id, after)?..)?;
        }
    }
    Some(Packet::ConnAck { code, receive_maximum, maximum_packet_size })
}

/// Bytes of a CONNACK property's value (MQTT 5, table 2-4); `None` for one that
/// has no place there.
fn property_length(id: u8, after: &[u8]) -> Option<usize> {
    let string = |at: usize| {
        let length = after.get(at..at + 2)?;
        Some(at + 2 + usize::from(u16::from_be_bytes([length[0], length[1]])))
    };
    match id {
        0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Some(1),
        0x13 | 0x21 | 0x22 => Some(2),
        0x11 | 0x27 => Some(4),
        0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => string(0),
        0x26 => string(string(0)?),
        _ => None,
    }
}

fn publish(version: Version, first: u8, body: &[u8]) -> Option<Packet<'_>> {
    let topic_end = 2 + usize::from(u16::from_be_bytes(body.get(..2)?.try_into().ok()?));
    let topic = std::str::from_utf8(body.get(2..topic_end)?).ok()?;
    let mut at = topic_end;
    let mut packet_id = None;
    if first & 0b110 != 0 {
        packet_id = Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
        at += 2;
    }
    if version == Version::V5 {
        let malformed = Malformed { packet_type: 3 };
        let (length, head) = variable_integer(body.get(at..)?, malformed).ok()??;
        at += head + length;
    }
    Some(Packet::Publish { topic, packet_id, payload: body.get(at..)? })
}

#[cfg(test)]
mod tests;
