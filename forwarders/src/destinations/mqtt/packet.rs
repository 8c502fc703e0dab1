//! MQTT 3.1.1 as far as a forwarder speaks it: it publishes at QoS 1 and hears of
//! it. Bytes in, bytes out; no socket.

/// PINGREQ and DISCONNECT.
pub(super) const PING: [u8; 2] = [0xc0, 0];
pub(super) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// The longest packet that a platform may send to somebody who has subscribed to
/// nothing.
pub(super) const MAX_INCOMING_BYTES: usize = 4;

/// What the platform says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// The answer to CONNECT; 0 lets the client in.
    ConnAck {
        code: u8,
    },
    PubAck {
        id: u16,
    },
    PingResp,
}

/// The platform says what it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it sent a packet that begins with {0:#04x}, which is no answer")]
pub(super) struct Unexpected(pub u8);

/// The first packet of some bytes, and how long it is; none if it isn't whole.
///
/// # Errors
/// [`Unexpected`].
pub(super) fn first(bytes: &[u8]) -> Result<Option<(Incoming, usize)>, Unexpected> {
    let [head, length, body @ ..] = bytes else { return Ok(None) };
    let length = usize::from(*length);
    if 2 + length > MAX_INCOMING_BYTES {
        return Err(Unexpected(*head));
    }
    let Some(body) = body.get(..length) else { return Ok(None) };
    let incoming = match (head, body) {
        (0x20, [_, code]) => Incoming::ConnAck { code: *code },
        (0x40, [high, low]) => Incoming::PubAck { id: u16::from_be_bytes([*high, *low]) },
        (0xd0, []) => Incoming::PingResp,
        _ => return Err(Unexpected(*head)),
    };
    Ok(Some((incoming, 2 + length)))
}

/// A CONNECT that begins a session of its own.
pub(super) fn connect(
    client_id: &str,
    user: Option<&str>,
    password: Option<&str>,
    keep_alive_s: u16,
) -> Vec<u8> {
    const CLEAN_SESSION: u8 = 0x02;
    let fields: Vec<&str> = [Some(client_id), user, password].into_iter().flatten().collect();
    let flags =
        CLEAN_SESSION | (u8::from(user.is_some()) << 7) | (u8::from(password.is_some()) << 6);
    let length = 10 + fields.iter().map(|field| 2 + field.len()).sum::<usize>();
    let mut packet = vec![0x10];
    remaining_length(length, &mut packet);
    packet.extend_from_slice(b"\0\x04MQTT\x04");
    packet.push(flags);
    packet.extend_from_slice(&keep_alive_s.to_be_bytes());
    for field in fields {
        string(field, &mut packet);
    }
    packet
}

/// Appends a PUBLISH at QoS 1, neither retained nor a duplicate.
pub(super) fn append_publish(topic: &str, id: u16, body: &[u8], out: &mut Vec<u8>) {
    out.push(0x32);
    remaining_length(2 + topic.len() + 2 + body.len(), out);
    string(topic, out);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(body);
}

/// Platforms' own limits on names keep texts far below what 16 bits count.
fn string(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("names and tokens are shorter than 64 KiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[allow(clippy::cast_possible_truncation, reason = "of seven bits")]
fn remaining_length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let digit = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            out.push(digit);
            return;
        }
        out.push(digit | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_says_who_it_is_and_no_more() {
        let with_all = connect("d", Some("user"), Some("pw"), 60);
        assert_eq!(with_all, b"\x10\x17\0\x04MQTT\x04\xc2\0\x3c\0\x01d\0\x04user\0\x02pw");
        assert_eq!(connect("d", None, None, 256), b"\x10\x0d\0\x04MQTT\x04\x02\x01\0\0\x01d");
        assert_eq!(connect("d", Some("u"), None, 60)[9], 0x82);
    }

    #[test]
    fn a_publish_bears_its_length_in_groups_of_seven_bits() {
        let mut out = vec![9];
        append_publish("a/b", 0x0102, b"xy", &mut out);
        assert_eq!(out, b"\x09\x32\x09\0\x03a/b\x01\x02xy");
        for (body, head) in [
            (120, &[0x32, 0x7f][..]),
            (121, &[0x32, 0x80, 0x01]),
            (16_377, &[0x32, 0x80, 0x80, 0x01]),
        ] {
            let mut out = Vec::new();
            append_publish("a/b", 1, &vec![b'x'; body], &mut out);
            assert_eq!(&out[..head.len()], head);
            assert_eq!(out.len(), head.len() + 7 + body);
        }
    }

    #[test]
    fn answers_are_read_wherever_they_are_cut_and_anything_else_is_told() {
        let bytes = [0x20, 2, 0, 5, 0x40, 2, 1, 2, 0xd0, 0];
        let wanted =
            [Incoming::ConnAck { code: 5 }, Incoming::PubAck { id: 0x0102 }, Incoming::PingResp];
        let mut rest = &bytes[..];
        for incoming in wanted {
            let (found, length) = first(rest).unwrap().unwrap();
            assert_eq!(found, incoming);
            for cut in 0..length {
                assert_eq!(first(&rest[..cut]), Ok(None), "{incoming:?} cut at {cut}");
            }
            rest = &rest[length..];
        }
        for wrong in [&[0x30, 3, 0, 1, b'a'][..], &[0x40, 0], &[0xd0, 1, 0], &[0x50, 2, 0, 1]] {
            assert_eq!(first(wrong), Err(Unexpected(wrong[0])));
        }
    }
}
