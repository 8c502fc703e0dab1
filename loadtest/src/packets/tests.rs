use super::*;

#[test]
fn connect_has_the_bytes_of_the_standard() {
    let mut out = Vec::new();
    let connect = Connect {
        version: Version::V311,
        client_id: "ab",
        user: Some("tok"),
        password: None,
        keep_alive_s: 60,
    };
    connect.append(&mut out);
    assert_eq!(out, b"\x10\x13\0\x04MQTT\x04\x82\0\x3c\0\x02ab\0\x03tok");
    out.clear();
    Connect { version: Version::V5, password: Some("p"), ..connect }.append(&mut out);
    assert_eq!(out, b"\x10\x17\0\x04MQTT\x05\xc2\0\x3c\0\0\x02ab\0\x03tok\0\x01p");
}

#[test]
fn acknowledgements_of_both_versions_are_read() {
    let cases: [(&[u8], Packet<'_>); 7] = [
        (b"\x40\x02\x01\x02", Packet::PubAck { packet_id: 258, reason: 0 }),
        (b"\x40\x03\x01\x02\x97", Packet::PubAck { packet_id: 258, reason: 0x97 }),
        (b"\x40\x04\x01\x02\x10\0", Packet::PubAck { packet_id: 258, reason: 0x10 }),
        (b"\x90\x04\0\x01\0\x01", Packet::SubAck { packet_id: 1, code: 1 }),
        (b"\xd0\0", Packet::PingResp),
        (b"\xe0\x02\x8e\0", Packet::Disconnect { reason: 0x8e }),
        (
            b"\x32\x08\0\x01t\0\x07\0hi",
            Packet::Publish { topic: "t", packet_id: Some(7), payload: b"hi" },
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(parse(Version::V5, bytes), Ok(Some((expected, bytes.len()))));
        for cut in 0..bytes.len() {
            assert_eq!(parse(Version::V5, &bytes[..cut]), Ok(None), "{expected:?} cut at {cut}");
        }
    }
}

#[test]
fn the_limits_of_a_connack_are_found_behind_other_properties() {
    // Session expiry, assigned client id, a user property, then the two limits.
    let bytes =
        b"\x20\x1b\0\0\x18\x11\0\0\0\x0a\x12\0\x01x\x26\0\x01a\0\x01b\x21\0\x64\x27\0\x01\0\0";
    let expected =
        Packet::ConnAck { code: 0, receive_maximum: 100, maximum_packet_size: Some(65_536) };
    assert_eq!(parse(Version::V5, bytes), Ok(Some((expected, bytes.len()))));
    let plain = Packet::ConnAck { code: 5, receive_maximum: u16::MAX, maximum_packet_size: None };
    assert_eq!(parse(Version::V311, b"\x20\x02\0\x05"), Ok(Some((plain, 4))));
}

#[test]
fn bytes_that_are_no_packet_are_an_error_and_no_panic() {
    assert!(parse(Version::V311, b"\x40\xff\xff\xff\xff\x01").is_err());
    assert!(parse(Version::V311, b"\x40\x01\x01").is_err());
    assert!(parse(Version::V311, b"\x20\x01\0").is_err());
    assert!(parse(Version::V5, b"\x32\x03\0\x05t").is_err());
    assert!(parse(Version::V5, b"\x20\x04\0\0\x01\x99").is_err());
}

#[test]
fn long_packets_have_a_length_of_several_bytes() {
    for payload_bytes in [0, 100, 127, 128, 16_383, 16_384, 100_000] {
        let mut out = Vec::new();
        let id_at = publish_head(Version::V311, QoS::AtLeastOnce, "a/b", payload_bytes, &mut out);
        let id_at = id_at.unwrap();
        out[id_at..id_at + 2].copy_from_slice(&[0, 9]);
        out.resize(out.len() + payload_bytes, b'x');
        let (packet, length) = parse(Version::V311, &out).unwrap().unwrap();
        assert_eq!(length, out.len());
        let Packet::Publish { topic, packet_id, payload } = packet else { panic!("{packet:?}") };
        assert_eq!((topic, packet_id, payload.len()), ("a/b", Some(9), payload_bytes));
    }
}
