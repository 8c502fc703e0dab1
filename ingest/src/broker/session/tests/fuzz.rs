//! Mutated packets: the session never panics and keeps its books, and its
//! reading of PUBLISH agrees with the codec's.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio_util::codec::Decoder as _;

use super::super::super::frame::{self, next_frame};
use super::*;

/// Inputs of each test; fixed, so that a run is the same everywhere.
const INPUTS: u64 = 30_000;

fn corpus(version: Version) -> Vec<Vec<u8>> {
    let gateway = r#"{"P1":[{"ts":1700000000000,"values":{"a":1}}],"P2":[{"b":"x"}]}"#;
    let mut all = vec![
        telemetry(version, 1, r#"{"a":1,"b":[1,{"c":2}],"d":"text"}"#),
        telemetry(version, 0, r#"[{"ts":1700000000000,"values":{"a":1.5e3}},{"z":null}]"#),
        publish(version, "v1/gateway/telemetry", 2, gateway),
        publish(version, "v1/gateway/connect", 3, r#"{"device":"P1"}"#),
        publish(version, "v1/gateway/rpc", 3, r#"{"device":"P1","id":0,"data":{}}"#),
        publish(
            version,
            "v1/gateway/attributes/request",
            4,
            r#"{"id":1,"device":"P1","client":true,"key":"a"}"#,
        ),
        publish(version, "v1/devices/me/attributes", 5, r#"{"a":{"b":[true]}}"#),
        publish(version, "v1/devices/me/attributes/request/1", 6, r#"{"clientKeys":"a"}"#),
        publish(version, "v1/devices/me/rpc/request/1", 7, r#"{"method":"getSessionLimits"}"#),
        publish(version, "v1/devices/me/rpc/response/1", 8, "{}"),
        subscribe(version, "v1/devices/me/attributes", 1),
        b"\xc0\x00".to_vec(),
        b"\x40\x02\x00\x01".to_vec(),
    ];
    if version == Version::V5 {
        let properties = b"\x0c\x23\x00\x01\x01\x01\x26\x00\x01k\x00\x01v";
        let body = [&text("v2/t")[..], &[0, 9], properties, br#"{"a":1}"#].concat();
        all.push(packet(0x32, &body));
    }
    all
}

fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(0..4) {
        let place = rng.random_range(0..bytes.len().max(1));
        match rng.random_range(0..5) {
            0 if !bytes.is_empty() => bytes[place] = rng.random(),
            1 if !bytes.is_empty() => bytes[place] ^= 1 << rng.random_range(0..8),
            2 => bytes.insert(place.min(bytes.len()), rng.random()),
            3 if !bytes.is_empty() => drop(bytes.remove(place)),
            _ => bytes.truncate(place),
        }
    }
}

#[test]
fn no_input_breaks_the_session() {
    for version in [Version::V3, Version::V5] {
        let corpus = corpus(version);
        for seed in 0..INPUTS {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut input = Vec::new();
            for _ in 0..rng.random_range(1..5) {
                let mut packet = corpus[rng.random_range(0..corpus.len())].clone();
                mutate(&mut rng, &mut packet);
                input.extend(packet);
            }
            run(version, &input, seed);
        }
    }
}

/// Feeds `input` as a connection would, and checks what always holds.
fn run(version: Version, input: &[u8], seed: u64) {
    let wants_reason_strings = version == Version::V5;
    let mut bench = Setup { wants_reason_strings, ..Setup::new(version) }.start();
    let mut owed = 0;
    let mut rest = input;
    // Each round takes a packet, settles a wait, or is the last.
    for _ in 0..64 {
        let taken = bench.read(rest);
        assert!(taken <= rest.len(), "seed {seed}");
        rest = &rest[taken..];
        let rows = bench.out.telemetry.len() + bench.out.attributes.len();
        assert_eq!(bench.out.is_submitted, rows > 0, "seed {seed}");
        owed += usize::from(bench.out.is_submitted);
        if bench.out.end.is_some() {
            break;
        }
        let wanted = bench.out.actions.iter().find_map(|action| match action {
            Action::Resolve(wanted) => Some(wanted.clone()),
            _ => None,
        });
        match wanted {
            Some(wanted) => {
                let known = |wanted: Wanted| (wanted.name, Ok(DeviceId(50)));
                let answers = wanted.into_iter().map(known).collect();
                bench.session.resolved(answers, &mut bench.out);
            }
            None if taken == 0 => break,
            None => {}
        }
    }
    assert!(bench.session.unanswered_groups() >= owed, "seed {seed}");
    for _ in 0..owed {
        bench.durable();
    }
    assert_eq!(bench.session.unanswered_groups(), 0, "seed {seed}: a PUBACK is owed for ever");
}

#[test]
fn publish_is_read_as_the_codec_reads_it() {
    for version in [Version::V3, Version::V5] {
        let corpus: Vec<_> =
            corpus(version).into_iter().filter(|packet| packet[0] >> 4 == 3).collect();
        for seed in 0..INPUTS {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut input = corpus[rng.random_range(0..corpus.len())].clone();
            mutate(&mut rng, &mut input);
            let Ok(Some(frame)) = next_frame(&input, 1 << 20) else { continue };
            if frame.first_byte >> 4 != 3 {
                continue;
            }
            let ours = frame::publish(frame, version)
                .ok()
                .filter(|ours| std::str::from_utf8(ours.topic).is_ok());
            let theirs = by_codec(version, &input[..frame.size]);
            match (&ours, &theirs) {
                (Some(ours), Some(theirs)) => {
                    let id = theirs.packet_id.map_or(0, u16::from);
                    assert_eq!((ours.qos, ours.packet_id), (theirs.qos.value(), id), "seed {seed}");
                    assert_eq!(ours.topic, theirs.topic.as_bytes(), "seed {seed}");
                    assert_eq!(ours.payload, &theirs.payload[..], "seed {seed}");
                    let properties = theirs.properties.as_ref();
                    let alias = properties.and_then(|all| all.topic_alias).map_or(0, u16::from);
                    assert_eq!(ours.alias, alias, "seed {seed}");
                }
                (None, None) => {}
                // We also refuse a PUBLISH without topic and alias, which the
                // codec leaves to its user.
                (None, Some(theirs)) => {
                    assert!(theirs.topic.is_empty(), "seed {seed}: {input:02x?}")
                }
                (Some(_), None) => panic!("seed {seed}: only we read {input:02x?}"),
            }
        }
    }
}

fn by_codec(version: Version, input: &[u8]) -> Option<Box<rmqtt_codec::types::Publish>> {
    let mut input = bytes::BytesMut::from(input);
    match version {
        Version::V3 => match rmqtt_codec::v3::Codec::new(0).decode(&mut input) {
            Ok(Some((rmqtt_codec::v3::Packet::Publish(publish), _))) => Some(publish),
            _ => None,
        },
        Version::V5 => match rmqtt_codec::v5::Codec::new(0, 0).decode(&mut input) {
            Ok(Some((rmqtt_codec::v5::Packet::Publish(publish), _))) => Some(publish),
            _ => None,
        },
    }
}
