//! Where one MQTT packet ends and the next begins, and PUBLISH read in place.
//!
//! First step of a reading: bytes of a socket read become packets. A PUBLISH,
//! the only packet that is frequent, is read borrowed from the read buffer, so
//! it costs no allocation; all others are rare and go through `rmqtt-codec`,
//! against which the reader here is compared in the tests. Nothing here
//! allocates, waits or judges what a packet asks for.

/// The most bytes of a fixed header: the type and four of length.
pub(crate) const MAX_HEADER_BYTES: usize = 5;

/// The two generations of the protocol that are told apart after CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1 and 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

/// One whole packet in a read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Packet type and flags.
    pub first_byte: u8,
    pub body: &'a [u8],
    /// Bytes of the packet with its fixed header.
    pub size: usize,
}

impl Frame<'_> {
    /// Whether nobody sends it again.
    pub(crate) fn is_qos_0_publish(&self) -> bool {
        self.first_byte & 0xf6 == packet::PUBLISH << 4
    }
}

/// Why the bytes can't be a packet; the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The length runs over more than four bytes.
    Length,
    /// The length is above what was announced; known before its bytes arrive.
    TooLarge,
}

/// Control packet types, the upper four bits of the first byte.
pub(crate) mod packet {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const PUBLISH: u8 = 3;
}

/// The first packet of `input`, or none if it is not whole yet.
#[inline]
pub(crate) fn next_frame(input: &[u8], max_bytes: usize) -> Result<Option<Frame<'_>>, FrameError> {
    let [first_byte, rest @ ..] = input else { return Ok(None) };
    let Some((length, width)) = variable_length(rest)? else { return Ok(None) };
    if length + width + 1 > max_bytes {
        return Err(FrameError::TooLarge);
    }
    match rest.get(width..width + length) {
        Some(body) => Ok(Some(Frame { first_byte: *first_byte, body, size: 1 + width + length })),
        None => Ok(None),
    }
}

#[inline]
fn variable_length(input: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut value = 0;
    for (index, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if input.len() >= 4 { Err(FrameError::Length) } else { Ok(None) }
}

/// A PUBLISH, borrowed from the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    /// 0, 1 or 2.
    pub qos: u8,
    /// 0 at QoS 0.
    pub packet_id: u16,
    /// Not yet checked to be UTF-8; empty where an alias stands for it.
    pub topic: &'a [u8],
    /// MQTT 5 only; 0 where none was given.
    pub alias: u16,
    pub payload: &'a [u8],
}

/// The packet breaks the protocol's grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads the body of a PUBLISH.
#[inline]
pub(crate) fn publish(frame: Frame<'_>, version: Version) -> Result<Publish<'_>, Malformed> {
    let qos = (frame.first_byte >> 1) & 3;
    if qos == 3 {
        return Err(Malformed);
    }
    let (topic, mut rest) = prefixed(frame.body).ok_or(Malformed)?;
    let mut packet_id = 0;
    if qos > 0 {
        (packet_id, rest) = number(rest).ok_or(Malformed)?;
        if packet_id == 0 {
            return Err(Malformed);
        }
    }
    let mut alias = 0;
    if version == Version::V5 {
        let (length, width) = variable_length(rest).ok().flatten().ok_or(Malformed)?;
        let properties = rest.get(width..width + length).ok_or(Malformed)?;
        rest = &rest[width + length..];
        if !properties.is_empty() {
            alias = publish_properties(properties)?;
        }
    }
    if topic.is_empty() && alias == 0 {
        return Err(Malformed);
    }
    Ok(Publish { qos, packet_id, topic, alias, payload: rest })
}

/// Walks the properties of a PUBLISH and returns its topic alias, or 0.
fn publish_properties(mut input: &[u8]) -> Result<u16, Malformed> {
    const SUBSCRIPTION_ID: u8 = 0x0b;
    const USER: u8 = 0x26;
    let mut alias = 0;
    let mut seen = 0u64;
    while let [id, rest @ ..] = input {
        // All but these two may stand there once.
        if *id != USER && *id != SUBSCRIPTION_ID {
            let bit = 1u64.checked_shl(u32::from(*id)).ok_or(Malformed)?;
            if seen & bit != 0 {
                return Err(Malformed);
            }
            seen |= bit;
        }
        input = match *id {
            0x01 => match rest {
                [0 | 1, rest @ ..] => rest,
                _ => return Err(Malformed),
            },
            // The message expiry interval.
            0x02 => rest.get(4..).ok_or(Malformed)?,
            // Content type and response topic.
            0x03 | 0x08 => text(rest)?,
            // Correlation data.
            0x09 => prefixed(rest).ok_or(Malformed)?.1,
            SUBSCRIPTION_ID => {
                let (id, width) = variable_length(rest).ok().flatten().ok_or(Malformed)?;
                if id == 0 {
                    return Err(Malformed);
                }
                &rest[width..]
            }
            0x23 => {
                let (value, rest) = number(rest).ok_or(Malformed)?;
                if value == 0 {
                    return Err(Malformed);
                }
                alias = value;
                rest
            }
            USER => text(text(rest)?)?,
            _ => return Err(Malformed),
        };
    }
    Ok(alias)
}

fn text(input: &[u8]) -> Result<&[u8], Malformed> {
    let (text, rest) = prefixed(input).ok_or(Malformed)?;
    std::str::from_utf8(text).map_err(|_| Malformed)?;
    Ok(rest)
}

#[inline]
fn number(input: &[u8]) -> Option<(u16, &[u8])> {
    let (bytes, rest) = input.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*bytes), rest))
}

#[inline]
fn prefixed(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(input)?;
    rest.split_at_checked(usize::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(input: &[u8]) -> Frame<'_> {
        next_frame(input, 1 << 20).unwrap().unwrap()
    }

    #[test]
    fn a_packet_is_whole_or_not_there() {
        let packet = b"\x30\x03\x00\x01ax";
        for end in 0..5 {
            assert_eq!(next_frame(&packet[..end], 100), Ok(None), "{end}");
        }
        assert_eq!(next_frame(packet, 100).unwrap().unwrap().size, 5);
        assert_eq!(next_frame(b"\x30\xff\xff\xff", 100), Ok(None));
        assert_eq!(next_frame(b"\x30\xff\xff\xff\xff", 100), Err(FrameError::Length));
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_its_bytes_arrive() {
        assert_eq!(next_frame(b"\x30\xff\xff\xff\x7f", 65_536), Err(FrameError::TooLarge));
        assert_eq!(next_frame(b"\x30\x63", 100), Err(FrameError::TooLarge));
        assert_eq!(next_frame(b"\x30\x62", 100), Ok(None));
    }

    #[test]
    fn a_publish_is_read_in_place() {
        let read = publish(frame(b"\x32\x09\x00\x03t/x\x12\x34{}"), Version::V3).unwrap();
        let expected =
            Publish { qos: 1, packet_id: 0x1234, topic: b"t/x", alias: 0, payload: b"{}" };
        assert_eq!(read, expected);
        let read =
            publish(frame(b"\x32\x0a\x00\x00\x00\x07\x03\x23\x00\x05{}"), Version::V5).unwrap();
        assert_eq!((read.alias, read.topic, read.payload), (5, &b""[..], &b"{}"[..]));
    }

    #[test]
    fn what_breaks_the_grammar_is_malformed() {
        for input in [
            &b"\x36\x05\x00\x01t\x00\x01"[..], // QoS 3
            b"\x32\x05\x00\x01t\x00\x00",      // packet id 0
            b"\x32\x04\x00\x01t\x00",          // cut in the packet id
            b"\x30\x02\x00\x00",               // no topic
            b"\x30\x03\x00\x09t",              // topic longer than the packet
        ] {
            assert_eq!(publish(frame(input), Version::V3), Err(Malformed), "{input:02x?}");
        }
        for input in [
            &b"\x30\x07\x00\x01t\x03\x23\x00\x00"[..],        // alias 0
            b"\x30\x0a\x00\x01t\x06\x23\x00\x01\x23\x00\x01", // alias twice
            b"\x30\x04\x00\x01t\x05",                         // properties past the end
            b"\x30\x05\x00\x01t\x01\x7e",                     // unknown property
        ] {
            assert_eq!(publish(frame(input), Version::V5), Err(Malformed), "{input:02x?}");
        }
    }
}
