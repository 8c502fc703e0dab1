//! The one-pass way beside the general one: where it takes a message, both give
//! the same rows; where it does not, it leaves no trace.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const INPUTS: usize = 100_000;
const SEED: u64 = 0x0070_6c61_696e;

fn part(list_allowed: bool) -> Part {
    let form = if list_allowed { Form::Telemetry } else { Form::Plain };
    Part { device: ME, form, list_allowed, nulls: Nulls::Skipped }
}

/// What each way makes of a payload: whether the one-pass way took it, and the
/// outcomes.
fn both(bench: &mut Bench, payload: &str, list_allowed: bool) -> (bool, String, String) {
    let (limits, settings) = (bench.limits.clone(), bench.settings.clone());
    let context = Context::new(&limits, &settings, NOW);
    let part = part(list_allowed);
    let (form, before) = (part.form, bench.rows.mark());
    let mut decoder = part.decoder(&context, &mut bench.keys, &mut bench.rows);
    let taken = decoder.take_plain(payload, form, list_allowed);
    assert!(decoder.rejection.is_none() && decoder.left_out.is_empty(), "{payload}");
    assert!(taken || bench.rows.mark() == before, "{payload}");
    let plain = bench.take();
    let part = Part { device: ME, form, list_allowed, nulls: Nulls::Skipped };
    let result = part.decode_generally(payload, &context, &mut bench.keys, &mut bench.rows);
    let general = outcome(bench, result);
    (taken, plain, general)
}

fn check(payload: &str, is_plain: bool) {
    let mut bench = Bench::new();
    // The second time all keys are the expected ones.
    for _ in 0..2 {
        let (taken, plain, general) = both(&mut bench, payload, true);
        assert_eq!(taken, is_plain, "{payload}");
        if taken {
            assert_eq!(plain, general, "{payload}");
        }
    }
}

#[test]
fn usual_messages_are_read_in_one_pass() {
    check(r#"{"temperature":21.53,"running":true,"count":48211}"#, true);
    check(r#"{"a": 1, "b": -2.50, "c": "läuft", "d": null, "e": false}"#, true);
    check(r#" {"ts": 1763999999000, "values": {"a": 1, "ts": 2, "metadata": 3}} "#, true);
    check(r#"[{"a":1},{"ts":1763999999000,"values":{"a":2}}]"#, true);
    check(r#"{"a":1,"a":2,"b":-0,"c":-0.0}"#, true);
    check(r#"{"a":123456789012345678,"b":0.12345678901234567,"c":9007199254740993.0}"#, true);
}

#[test]
fn whatever_is_unusual_is_left_to_the_general_way() {
    for payload in [
        "",
        "{}",
        "[]",
        "5",
        r#"{"a":1"#,
        r#"{"a":1,}"#,
        r#"{"a":1}x"#,
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":.5}"#,
        r#"{"a":-}"#,
        r#"{"a":1e3}"#,
        r#"{"a":1234567890123456789}"#,
        r#"{"a":nul}"#,
        r#"{"a":[1]}"#,
        r#"{"a":"\n"}"#,
        r#"{"a\u0062":1}"#,
        "{\"a\":\"\n\"}",
        r#"{"":1}"#,
        r#"{"ts":1763999999000}"#,
        r#"{"values":{"a":1},"ts":1763999999000}"#,
        r#"{"ts":1763999999000,"values":{"a":1},"b":1}"#,
        r#"{"ts":99999999999999,"values":{"a":1}}"#,
        r#"[[{"a":1}]]"#,
    ] {
        check(payload, false);
    }
}

/// A key whose name bears a quote is met by its escaped form first, and then by
/// bytes that only look like it.
#[test]
fn an_expected_name_is_compared_as_it_stands_in_json() {
    let mut bench = Bench::new();
    bench.telemetry(br#"{"a\\":1}"#).unwrap();
    assert_eq!(bench.take(), r"a\ Integer(1)");
    let (taken, _, general) = both(&mut bench, r#"{"a\":1}"#, true);
    assert!(!taken && general.starts_with('!'), "{general}");
}

#[test]
fn random_messages_come_out_the_same_both_ways() {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut bench = Bench::new();
    let mut plain_ones = 0;
    for input in 0..INPUTS {
        if input % 500 == 0 {
            bench = Bench::new();
        }
        let payload = fuzz::mutate(&mut random);
        let Ok(payload) = String::from_utf8(payload) else { continue };
        bench.settings.numbers_from_text = random.random();
        let (taken, plain, general) = both(&mut bench, &payload, random.random());
        if taken {
            plain_ones += 1;
            assert_eq!(plain, general, "input {input} of seed {SEED:#x}: {payload}");
        }
    }
    assert!(plain_ones > INPUTS / 100, "only {plain_ones} were plain");
}

#[test]
fn random_numbers_come_out_the_same_both_ways() {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut bench = Bench::new();
    for _ in 0..INPUTS {
        let mut digits = |most: usize| -> String {
            let len = random.random_range(1..=most);
            (0..len).map(|_| char::from(b'0' + random.random_range(0..10u8))).collect()
        };
        let (whole, decimals) = (digits(12), digits(12));
        let (sign, point) = (["", "-"], ["", "."]);
        let (sign, point) = (sign[random.random_range(0..2)], point[random.random_range(0..2)]);
        let payload = format!(r#"{{"n":{sign}{whole}{point}{decimals}}}"#);
        let (taken, plain, general) = both(&mut bench, &payload, true);
        assert!(!taken || plain == general, "{payload}: {plain}, {general}");
    }
}
