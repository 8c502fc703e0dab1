//! Mutated CONNECT packets, taken the way that they go before anybody has proved
//! who they are: framed, read, answered. No panic, and little said.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::frame::next_frame;
use super::*;

/// Inputs of each version; fixed, so that a run is the same everywhere.
const INPUTS: u64 = 30_000;

/// The largest packet, and payload of a will.
const MAX_BYTES: usize = 4_096;

/// The longest answer to somebody who is nobody yet.
const MAX_ANSWER_BYTES: usize = 64;

fn text(text: &[u8]) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

/// A packet of less than 16 KiB.
fn packet(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    let low = u8::try_from(length % 128).unwrap();
    let mut out = vec![0x10];
    match u8::try_from(length / 128).unwrap() {
        0 => out.push(low),
        high => out.extend([low | 0x80, high]),
    }
    out.extend_from_slice(body);
    out
}

/// CONNECTs of one version that use all that a CONNECT may have.
fn corpus(version: u8) -> Vec<Vec<u8>> {
    let is_v5 = version == 5;
    let properties = |properties: &[u8]| -> Vec<u8> {
        let length = u8::try_from(properties.len()).unwrap();
        if is_v5 { [&[length][..], properties].concat() } else { Vec::new() }
    };
    let head = |flags: u8| [&b"\x00\x04MQTT"[..], &[version, flags, 0, 60]].concat();
    let all_properties = b"\x11\x00\x00\x00\x05\x21\x00\x09\x27\x00\x00\x10\x00\x22\x00\x04\
        \x19\x01\x17\x00\x26\x00\x01k\x00\x01v";
    let of_will = b"\x18\x00\x00\x00\x05\x01\x01\x02\x00\x00\x00\x09\x03\x00\x01t\x08\x00\x01r\
        \x09\x00\x02xy\x26\x00\x01k\x00\x01v";
    let will = |topic: &[u8], payload: &[u8]| [text(topic), text(payload)].concat();
    let telemetry = b"v1/devices/me/telemetry";
    let mut all = vec![
        [head(2), properties(b""), text(b"id")].concat(),
        [head(2), properties(b""), text(b"")].concat(),
        [head(0x82), properties(all_properties), text(b"id"), text(b"token")].concat(),
        [head(0xc2), properties(b""), text(b"id"), text(b"user"), text(b"password")].concat(),
        [head(2), properties(b""), text(&[b'i'; MAX_CLIENT_ID_BYTES])].concat(),
    ];
    for (flags, topic) in [(0x0e, &telemetry[..]), (0xee, b"v2/a"), (0x16, telemetry), (6, b"x")] {
        let mut body = [head(flags), properties(all_properties), text("ü".as_bytes())].concat();
        body.extend(properties(of_will));
        body.extend(will(topic, br#"{"online":false}"#));
        if flags & 0xc0 > 0 {
            body.extend([text(b"user"), text(b"password")].concat());
        }
        all.push(body);
    }
    if is_v5 {
        let method = [&b"\x15\x00\x05PLAIN\x16\x00\x01x"[..]].concat();
        all.push([head(2), properties(&method), text(b"id")].concat());
    }
    all.iter().map(|body| packet(body)).collect()
}

fn mutate(random: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..random.random_range(0..5) {
        let place = random.random_range(0..bytes.len().max(1)).min(bytes.len());
        match random.random_range(0..7) {
            0 if place < bytes.len() => bytes[place] = random.random(),
            1 if place < bytes.len() => bytes[place] ^= 1 << random.random_range(0..8),
            2 => bytes.insert(place, random.random()),
            3 if place < bytes.len() => drop(bytes.remove(place)),
            4 => bytes.truncate(place),
            // Lengths and their ends.
            5 => drop(bytes.splice(place..place, [0xff; 2])),
            _ => drop(bytes.splice(place..place, vec![0; random.random_range(1..600)])),
        }
    }
}

/// What [`check`] found.
#[derive(Default)]
struct Seen {
    accepted: u32,
    refused: u32,
}

fn check(input: &[u8], seed: u64, seen: &mut Seen) {
    let Ok(Some(frame)) = next_frame(input, MAX_BYTES) else { return };
    let packet = &input[..frame.size];
    let answer = match read(packet, MAX_BYTES) {
        Ok(connect) => {
            seen.accepted += 1;
            assert!(connect.client_id.len() <= MAX_CLIENT_ID_BYTES, "seed {seed}");
            let texts = [connect.user.as_ref().map(String::len)];
            let secret = connect.password.as_ref().map(Vec::len);
            let held = texts.into_iter().chain([secret]).flatten().sum::<usize>();
            assert!(held <= packet.len(), "seed {seed}");
            if let Some(will) = &connect.will {
                assert!(will.topic.len() + will.payload.len() <= packet.len(), "seed {seed}");
                assert!(Up::parse(&will.topic).is_some_and(Up::may_be_will), "seed {seed}");
            }
            refuse(Some(connect.version), Refused::BadCredentials)
        }
        Err((version, refused)) => {
            seen.refused += 1;
            refuse(version, refused)
        }
    };
    assert!(answer.len() <= MAX_ANSWER_BYTES, "seed {seed}: {answer:02x?}");
    assert!(answer.is_empty() || answer[0] == 0x20, "seed {seed}: {answer:02x?}");
}

#[test]
fn no_connect_breaks_what_stands_before_the_credentials() {
    for version in [4, 5] {
        let (corpus, mut seen) = (corpus(version), Seen::default());
        for input in &corpus {
            check(input, u64::MAX, &mut seen);
        }
        assert_eq!(seen.accepted + seen.refused, u32::try_from(corpus.len()).unwrap());
        assert!(seen.accepted >= 7, "the corpus itself is in order ({})", seen.accepted);
        for seed in 0..INPUTS {
            let mut random = StdRng::seed_from_u64(seed);
            let mut input = corpus[random.random_range(0..corpus.len())].clone();
            mutate(&mut random, &mut input);
            check(&input, seed, &mut seen);
        }
        let Seen { accepted, refused } = seen;
        assert!(accepted > 1_000 && refused > 1_000, "{accepted} accepted, {refused} refused");
    }
}
