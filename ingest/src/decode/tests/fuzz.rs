//! Mutated payloads: a fixed number from a fixed seed. None may panic, leave
//! half a message, or be taken without being JSON.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::*;

const INPUTS: usize = 200_000;
const SEED: u64 = 0x0062_616b_656e;

const CORPUS: [&str; 12] = [
    r#"{"temperature":21.5,"running":true,"count":3}"#,
    r#"{"ts":1763999999000,"values":{"t":1e3,"state":"läuft","n":null}}"#,
    r#"{"values":{"t":"21.5"},"ts":1763999999000.5}"#,
    r#"[{"t":1},{"ts":"1763999999000","values":{"t":-2.25e-3}},{}]"#,
    r#"{"a":{"b":[1,2,{"c":"\u00e9\ud83d\ude00\n"}]},"a":null,"a":[[]]}"#,
    r#"{"big":123456789012345678901234567890,"small":-0.0}"#,
    r#"{"D1":[{"ts":1763999999000,"values":{"t":1},"metadata":{"x":1}}],"D2":[{"u":"\\"}]}"#,
    r#"{"D1":{"a":1},"D2":{"b":"x"},"new":{}}"#,
    r#"{"D1":[{"t":1}],"D2":5,"D3":[[]]}"#,
    r#"{"device":"D1","id":4,"client":true,"keys":["a","b"],"data":{"x":null}}"#,
    r#"{"clientKeys":"a,b","sharedKeys":"c"}"#,
    r#"{"method":"getSessionLimits","params":{}}"#,
];

const TOKENS: [&[u8]; 20] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\ud800",
    b"null",
    b"true",
    b"1e999",
    b"-",
    b"\"ts\":",
    b"\"values\":",
    b"{\"a\":",
    b"\xff",
    b"\0",
    b"[[[[[[[[[[[[[[[[[[[[",
    b"NaN",
];

pub(super) fn mutate(random: &mut StdRng) -> Vec<u8> {
    let mut payload = CORPUS[random.random_range(0..CORPUS.len())].as_bytes().to_vec();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..=payload.len());
        match random.random_range(0..6) {
            0 => payload.truncate(at),
            1 if at < payload.len() => payload[at] ^= 1 << random.random_range(0..8),
            2 if at < payload.len() => drop(payload.remove(at)),
            3 => {
                let end = random.random_range(at..=payload.len());
                let piece = payload[at..end].to_vec();
                let to = random.random_range(0..=payload.len());
                payload.splice(to..to, piece);
            }
            4 => {
                let other = CORPUS[random.random_range(0..CORPUS.len())].as_bytes();
                let from = random.random_range(0..other.len());
                payload.splice(at.., other[from..].iter().copied());
            }
            _ => {
                let token = TOKENS[random.random_range(0..TOKENS.len())];
                payload.splice(at..at, token.iter().copied());
            }
        }
    }
    payload
}

/// How many rows a telemetry payload that was taken must have brought.
fn count(json: &Value) -> usize {
    match json {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(object) => match (object.get("ts"), object.get("values")) {
            (Some(_), Some(values)) => values.as_object().map_or(0, non_null),
            _ => non_null(object),
        },
        _ => 0,
    }
}

fn non_null(object: &serde_json::Map<String, Value>) -> usize {
    object.values().filter(|value| !value.is_null()).count()
}

#[test]
fn mutated_payloads_are_taken_whole_or_not_at_all() {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut bench = Bench::new();
    bench.settings.max_keys = 1_000_000;
    bench.telemetry(br#"{"before":"text"}"#).unwrap();
    let before = bench.rows.mark();
    let mut taken = 0;
    for input in 0..INPUTS {
        let payload = mutate(&mut random);
        let context =
            format!("input {input} of seed {SEED:#x}: {:?}", String::from_utf8_lossy(&payload));
        let is_json = serde_json::from_slice::<IgnoredAny>(&payload).is_ok();
        let results = [
            bench.attributes(&payload, Nulls::Skipped),
            bench.gateway_telemetry(&payload).map(drop),
            bench.gateway_attributes(&payload).map(drop),
        ];
        taken += results.iter().filter(|result| result.is_ok()).count();
        assert!(is_json || results.iter().all(Result::is_err), "{context}");
        if results.iter().all(Result::is_err) {
            assert_eq!(bench.rows.mark(), before, "{context}");
        }
        bench.rows.truncate(before);
        let result = bench.telemetry(&payload);
        let added = bench.rows.len() - 1;
        match result {
            Err(_) => assert_eq!(bench.rows.mark(), before, "{context}"),
            Ok(left_out) => {
                let all = count_of(&payload).unwrap_or(added);
                let is_whole = left_out.is_empty();
                assert!(if is_whole { added == all } else { added <= all }, "{context}");
            }
        }
        for row in bench.rows.as_slice() {
            assert!(bench.rows.value(row).is_some(), "{context}");
        }
        bench.rows.truncate(before);
        for result in
            [connect(&payload).is_ok(), rpc_request(&payload).is_ok(), json(&payload).is_ok()]
        {
            assert!(is_json || !result, "{context}");
        }
        let _ = (disconnect(&payload), attribute_request(&payload));
        let _ = (gateway_attribute_request(&payload), gateway_rpc_response(&payload));
    }
    assert!(
        taken > INPUTS / 20,
        "only {taken} were taken: the mutations are too rough to test much"
    );
}

fn count_of(payload: &[u8]) -> Option<usize> {
    serde_json::from_slice(payload).ok().map(|json| count(&json))
}
