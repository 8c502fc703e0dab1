//! MQTT 3.1.1 as a server reads it, as much of it as forwarders speak.

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Connect,
    /// At QoS 1, as all of a forwarder's.
    Publish {
        packet_id: u16,
        body: &'a [u8],
    },
    Ping,
    Disconnect,
}

/// What no forwarder may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet that begins with {0:#04x} is none that a forwarder sends")]
pub struct Unexpected(pub u8);

/// The first packet of some bytes and how long it is; none if it isn't whole.
///
/// # Errors
/// [`Unexpected`], for other qualities of service, flags and kinds too.
pub fn first(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Unexpected> {
    let Some((&head, rest)) = bytes.split_first() else { return Ok(None) };
    let (mut length, mut digits) = (0_usize, 0);
    loop {
        let Some(&byte) = rest.get(digits) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * digits);
        digits += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if digits == 4 {
            return Err(Unexpected(head));
        }
    }
    let end = 1 + digits + length;
    let Some(body) = bytes.get(1 + digits..end) else { return Ok(None) };
    let frame = match head {
        0x10 => Frame::Connect,
        // QoS 1, neither duplicate nor retained.
        0x32 => publish(body).ok_or(Unexpected(head))?,
        0xc0 => Frame::Ping,
        0xe0 => Frame::Disconnect,
        _ => return Err(Unexpected(head)),
    };
    Ok(Some((frame, end)))
}

fn publish(body: &[u8]) -> Option<Frame<'_>> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    let rest = rest.get(usize::from(u16::from_be_bytes(*length))..)?;
    let (packet_id, body) = rest.split_first_chunk::<2>()?;
    Some(Frame::Publish { packet_id: u16::from_be_bytes(*packet_id), body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::{Connect, DISCONNECT, PINGREQ, QoS, Version, publish_head};

    #[test]
    fn packets_are_told_from_one_another_wherever_they_are_cut() {
        let mut bytes = Vec::new();
        let connect = Connect {
            version: Version::V311,
            client_id: "site-1",
            user: None,
            password: None,
            keep_alive_s: 60,
        };
        connect.append(&mut bytes);
        let body = vec![b'x'; 300];
        let at =
            publish_head(Version::V311, QoS::AtLeastOnce, "a/b", body.len(), &mut bytes).unwrap();
        bytes[at + 1] = 7;
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&PINGREQ);
        bytes.extend_from_slice(&DISCONNECT);
        let wanted = [
            Frame::Connect,
            Frame::Publish { packet_id: 7, body: &body },
            Frame::Ping,
            Frame::Disconnect,
        ];
        let mut rest = &bytes[..];
        for frame in wanted {
            let (found, length) = first(rest).unwrap().unwrap();
            assert_eq!(found, frame);
            for cut in 0..length {
                assert_eq!(first(&rest[..cut]), Ok(None), "{frame:?} cut at {cut}");
            }
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn what_no_forwarder_sends_is_told() {
        // QoS 0 and 2, duplicate, retained, SUBSCRIBE, an endless length.
        for head in [0x30, 0x34, 0x3a, 0x33, 0x82] {
            assert_eq!(first(&[head, 0]), Err(Unexpected(head)));
        }
        assert_eq!(first(&[0x32, 0xff, 0xff, 0xff, 0xff]), Err(Unexpected(0x32)));
        assert_eq!(first(&[0x32, 3, 0, 9, b'a']), Err(Unexpected(0x32)));
    }
}
