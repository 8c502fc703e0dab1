//! The device topics' telemetry and attributes.

use super::*;

fn check(payload: &str, expected: &str) {
    let mut bench = Bench::new();
    let result = bench.telemetry(payload.as_bytes());
    assert_eq!(outcome(&mut bench, result), expected, "{payload}");
}

fn check_rejected(payload: &str, expected: &str) {
    let mut bench = Bench::new();
    let result = bench.telemetry(payload.as_bytes());
    let outcome = outcome(&mut bench, result);
    assert!(outcome.starts_with(&format!("! {expected}")), "{payload}\n{outcome}\n{expected}");
}

#[test]
fn forms_of_telemetry() {
    for (payload, expected) in [
        (r#"{"t":21.5,"n":3}"#, "t Number(21.5); n Integer(3)"),
        (r#"{"ts":1763999999000,"values":{"t":1}}"#, "t@1763999999000 Integer(1)"),
        (r#"{"values":{"t":1},"ts":1763999999000}"#, "t@1763999999000 Integer(1)"),
        (
            r#"[{"t":1},{"ts":1763999999000,"values":{"t":2}},{"u":3}]"#,
            "t Integer(1); t@1763999999000 Integer(2); u Integer(3)",
        ),
        (" [ { \"t\" : 1 } ] \r\n", "t Integer(1)"),
        // Nothing to store is no error.
        ("{}", ""),
        ("[]", ""),
        ("[{},{}]", ""),
        (r#"{"ts":1763999999000,"values":{}}"#, ""),
        (r#"{"t":null}"#, ""),
    ] {
        check(payload, expected);
    }
}

#[test]
fn an_object_is_timestamped_only_with_both_ts_and_values() {
    for (payload, expected) in [
        (r#"{"ts":5,"t":1}"#, "t Integer(1); ts Integer(5)"),
        (r#"{"values":{"t":1}}"#, r#"values Json("{\"t\":1}")"#),
        (r#"{"values":3,"t":1}"#, "t Integer(1); values Integer(3)"),
        (r#"{"ts":5,"value":{"t":1}}"#, r#"value Json("{\"t\":1}"); ts Integer(5)"#),
        // All else beside them is passed over, wherever it stands.
        (r#"{"a":1,"ts":1763999999000,"values":{"t":2},"b":3}"#, "t@1763999999000 Integer(2)"),
        (r#"{"a":1,"values":{"t":2},"b":3,"ts":1763999999000}"#, "t@1763999999000 Integer(2)"),
        (r#"{"ts":1763999999000,"a":1,"values":{"a":2}}"#, "a@1763999999000 Integer(2)"),
        // Within `values` and in attributes both are keys like any other.
        (
            r#"{"ts":1763999999000,"values":{"ts":1,"values":2}}"#,
            "ts@1763999999000 Integer(1); values@1763999999000 Integer(2)",
        ),
        // A device topic knows no metadata.
        (r#"{"metadata":{"a":1}}"#, r#"metadata Json("{\"a\":1}")"#),
    ] {
        check(payload, expected);
    }
}

#[test]
fn times() {
    for (ts, expected) in [
        ("1763999999000", "t@1763999999000 Integer(1)"),
        ("1763999999000.9", "t@1763999999000 Integer(1)"),
        ("1.763999999e12", "t@1763999999000 Integer(1)"),
        ("\"1763999999000\"", "t@1763999999000 Integer(1)"),
        ("1764086400000", "t@1764086400000 Integer(1)"),
        ("1732464000000", "t@1732464000000 Integer(1)"),
        (
            "1764086400001",
            "! future: `ts`: 1764086400001 is 86400001 ms ahead of the server's clock \
          (1764000000000); at most 86400000 ms are allowed",
        ),
        (
            "9223372036854775807",
            "! future: `ts`: 9223372036854775807 is 9223370272854775807 ms ahead of the \
          server's clock (1764000000000); at most 86400000 ms are allowed",
        ),
        (
            "1732463999999",
            "! too_old: `ts`: 1732463999999 is before 1732464000000, the oldest time \
          that is still kept",
        ),
        (
            "1763999999",
            "! too_old: `ts`: 1763999999 is before 1732464000000, the oldest time that is \
          still kept",
        ),
        ("-1", "! too_old: `ts`: -1 is before 1732464000000, the oldest time that is still kept"),
        ("null", "! malformed: `ts`: `null` is no time in milliseconds since 1970"),
        ("true", "! malformed: `ts`: `true` is no time in milliseconds since 1970"),
        ("\"soon\"", "! malformed: `ts`: `\"soon\"` is no time in milliseconds since 1970"),
        ("\"inf\"", "! malformed: `ts`: `\"inf\"` is no time in milliseconds since 1970"),
        ("\"-inf\"", "! malformed: `ts`: `\"-inf\"` is no time in milliseconds since 1970"),
        ("\"-nan\"", "! malformed: `ts`: `\"-nan\"` is no time in milliseconds since 1970"),
        (
            "1e400",
            "! future: `ts`: 9223372036854775807 is 9223370272854775807 ms ahead of the \
          server's clock (1764000000000); at most 86400000 ms are allowed",
        ),
        (
            "-10000000000000000000",
            "! too_old: `ts`: -9223372036854775808 is before 1732464000000, the oldest time \
          that is still kept",
        ),
        ("{}", "! malformed: `ts`: `{}` is no time in milliseconds since 1970"),
    ] {
        check(&format!(r#"{{"ts":{ts},"values":{{"t":1}}}}"#), expected);
        check(&format!(r#"{{"values":{{"t":1}},"ts":{ts}}}"#), expected);
    }
}

#[test]
fn an_object_with_a_time_out_of_bounds_costs_only_itself() {
    const GOOD: &str = r#"{"ts":1763999999000,"values":{"t":1}}"#;
    const FUTURE: &str = r#"{"ts":1764086400001,"values":{"t":"x"}}"#;
    const OLD: &str = r#"{"values":{"t":3,"u":"y","t":null},"ts":5}"#;
    let kept = "t@1763999999000 Integer(1)";
    for (payload, expected) in [
        (format!("[{GOOD},{FUTURE}]"), format!("{kept} ! 1 future")),
        (format!("[{FUTURE},{GOOD}]"), format!("{kept} ! 1 future")),
        (
            format!("[{OLD},{FUTURE},{OLD},{GOOD},{OLD},{{\"u\":\"z\"}}]"),
            format!("{kept}; u Text(\"z\") ! 3 too_old ! 1 future"),
        ),
        // The last `ts` counts, wherever it stands.
        (r#"{"ts":5,"values":{"t":1},"ts":1763999999000}"#.to_owned(), kept.to_owned()),
    ] {
        check(&payload, &expected);
    }
    for (payload, expected) in [
        // Nothing is left.
        (format!("[{FUTURE}]"), "future: "),
        (format!("[{OLD},{FUTURE}]"), "too_old: "),
        (format!("[{{}},{FUTURE},{{\"t\":null}}]"), "future: "),
        (r#"{"ts":1763999999000,"values":{"t":1},"ts":5}"#.to_owned(), "too_old: "),
        // What rejects a message does so beside a bad time too, and within it.
        (format!("[{GOOD},{FUTURE},5]"), "malformed: "),
        (format!("[{GOOD},{FUTURE},{{\"t\":1e999}}]"), "not_finite: "),
        (format!(r#"[{GOOD},{{"ts":5,"values":3}}]"#), "malformed: "),
        (format!(r#"[{GOOD},{{"values":3,"ts":5}}]"#), "malformed: "),
        (format!(r#"[{GOOD},{{"ts":5,"values":{{"t":1e999}}}}]"#), "not_finite: "),
        (format!(r#"[{GOOD},{{"ts":"soon","values":{{"t":1}}}}]"#), "malformed: "),
    ] {
        check_rejected(&payload, expected);
    }
}

#[test]
fn without_a_retention_any_past_is_taken() {
    let mut bench = Bench::new();
    bench.settings.retention_days = 0;
    bench.telemetry(br#"{"ts":-5,"values":{"t":1}}"#).unwrap();
    assert_eq!(bench.take(), "t@-5 Integer(1)");
    let result = bench.telemetry(br#"{"ts":-1e300,"values":{"t":1}}"#);
    assert_eq!(result.unwrap_err().reason, Reason::TooOld, "not even an i64 can hold it");
}

#[test]
fn values() {
    for (value, expected) in [
        ("true", "Boolean(true)"),
        ("false", "Boolean(false)"),
        ("0", "Integer(0)"),
        ("-0", "Integer(0)"),
        ("9223372036854775807", "Integer(9223372036854775807)"),
        ("-9223372036854775808", "Integer(-9223372036854775808)"),
        ("9223372036854775808", r#"Text("9223372036854775808")"#),
        ("-9223372036854775809", r#"Text("-9223372036854775809")"#),
        ("123456789012345678901234567890", r#"Text("123456789012345678901234567890")"#),
        ("1.0", "Number(1.0)"),
        ("-0.0", "Number(-0.0)"),
        ("1e3", "Number(1000.0)"),
        ("1E-3", "Number(0.001)"),
        ("0.30000000000000004", "Number(0.30000000000000004)"),
        ("1.7976931348623157e308", "Number(1.7976931348623157e308)"),
        ("1e-400", "Number(0.0)"),
        (r#""""#, r#"Text("")"#),
        (r#""on""#, r#"Text("on")"#),
        (r#""läuft 😀""#, r#"Text("läuft 😀")"#),
        (r#""a\"b\\c\u00e9\ud83d\ude00\n""#, r#"Text("a\"b\\cé😀\n")"#),
        (r#"{"a": [1, 2.50]}"#, r#"Json("{\"a\": [1, 2.50]}")"#),
        ("[]", r#"Json("[]")"#),
        ("[1,null,\"x\"]", r#"Json("[1,null,\"x\"]")"#),
    ] {
        check(&format!(r#"{{"k":{value}}}"#), &format!("k {expected}"));
        let at = "k@1763999999000";
        check(
            &format!(r#"{{"ts":1763999999000,"values":{{"k":{value}}}}}"#),
            &format!("{at} {expected}"),
        );
    }
}

#[test]
fn numbers_from_text() {
    for (text, number) in [
        ("21.5", "Number(21.5)"),
        ("21", "Integer(21)"),
        ("-3", "Integer(-3)"),
        ("-0.25", "Number(-0.25)"),
        (".5", "Number(0.5)"),
        ("-.5", "Number(-0.5)"),
        ("007", "Integer(7)"),
        ("1.0", "Number(1.0)"),
        ("2\\u0031", "Integer(21)"),
        // Text stays text.
        ("5.", ""),
        ("-", ""),
        (".", ""),
        ("-.", ""),
        ("+5", ""),
        ("1e5", ""),
        ("0x10", ""),
        (" 5", ""),
        ("1.2.3", ""),
        ("1,5", ""),
        ("--5", ""),
        ("NaN", ""),
        ("Infinity", ""),
        ("true", ""),
        ("null", ""),
        ("9223372036854775808", ""),
        ("٣", ""),
    ] {
        let payload = format!(r#"{{"k":"{text}"}}"#);
        let plain: String = serde_json::from_str(&format!("\"{text}\"")).unwrap();
        let as_text = format!("k Text({plain:?})");
        let expected = if number.is_empty() { as_text.clone() } else { format!("k {number}") };
        check(&payload, &expected);
        let mut bench = Bench::new();
        bench.settings.numbers_from_text = false;
        let result = bench.telemetry(payload.as_bytes());
        assert_eq!(outcome(&mut bench, result), as_text, "{text}");
    }
}

#[test]
fn the_last_of_a_repeated_key_wins() {
    for (payload, expected) in [
        (r#"{"a":1,"b":2,"a":3}"#, "a Integer(3); b Integer(2)"),
        (r#"{"a":1,"a":null}"#, ""),
        (r#"{"a":null,"b":1,"a":2}"#, "a Integer(2); b Integer(1)"),
        (r#"{"a":1,"a":null,"a":"x","b":null}"#, r#"a Text("x")"#),
        (r#"[{"a":1},{"a":2}]"#, "a Integer(1); a Integer(2)"),
        (r#"{"a":1,"\u0061":2}"#, "a Integer(2)"),
        (r#"{"ts":1763999999000,"values":{"a":1},"values":{"b":2}}"#, "b@1763999999000 Integer(2)"),
        (
            r#"{"ts":1763999998000,"values":{"a":1},"ts":1763999999000}"#,
            "a@1763999999000 Integer(1)",
        ),
    ] {
        check(payload, expected);
    }
}

#[test]
fn broken_json_and_wrong_forms_are_malformed() {
    for payload in [
        "",
        " ",
        "{",
        "[",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "[{\"a\":1},]",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1}{",
        "{\"a\":1}x",
        "{\"a\":01}",
        "{\"a\":+1}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":tru}",
        "{\"a\":\"x}",
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"\\q\"}",
        "\u{feff}{}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":{\"b\":\"\\ud800\"}}",
        "{\"\\ud800\":1}",
        "{\"\":1}",
        "1",
        "true",
        "null",
        "\"text\"",
        "1.5",
        "[1]",
        "[null]",
        "[[{\"a\":1}]]",
        "[{\"a\":1},2]",
        "{\"ts\":1763999999000,\"values\":null}",
        "{\"ts\":1763999999000,\"values\":[]}",
        "{\"ts\":1763999999000,\"values\":3}",
        "{\"values\":\"x\",\"ts\":1763999999000}",
        "{\"values\":[{\"a\":1}],\"ts\":1763999999000}",
        "[{\"ts\":null,\"values\":{}}]",
    ] {
        check_rejected(payload, "malformed: ");
    }
    let mut bench = Bench::new();
    let result = bench.telemetry(b"{\"a\":\"\xff\"}");
    assert!(outcome(&mut bench, result).starts_with("! malformed: the payload is no UTF-8: "));
}

#[test]
fn numbers_that_are_none_are_refused_by_name() {
    for payload in [
        r#"{"k":NaN}"#,
        r#"{"k":Infinity}"#,
        r#"{"a":1,"k":-Infinity}"#,
        r#"{"k":1e999}"#,
        r#"{"k":-1.5E400}"#,
        r#"{"k":{"a":1e999}}"#,
    ] {
        check_rejected(payload, "not_finite: ");
    }
    check_rejected(r#"{"k":1e999}"#, "not_finite: `k`: `1e999` is beyond a 64-bit float");
}

#[test]
fn limits_reject_the_whole_message_and_say_what_is_allowed() {
    fn rejected(change: impl Fn(&mut Bench), payload: &str) -> String {
        let mut bench = Bench::new();
        change(&mut bench);
        let result = bench.telemetry(payload.as_bytes());
        outcome(&mut bench, result)
    }
    assert_eq!(
        rejected(|bench| bench.limits.max_payload_bytes = 5, r#"{"a":1}"#),
        "! too_large: the payload has 7 bytes; at most 5 are allowed"
    );
    let key = |bench: &mut Bench| bench.limits.max_key_bytes = 3;
    assert_eq!(rejected(key, r#"{"abc":1}"#), "abc Integer(1)");
    assert_eq!(
        rejected(key, r#"[{"abc":1},{"abcd":1}]"#),
        "! key_too_long: key `abcd` has 4 bytes; at most 3 are allowed"
    );
    let keys = |bench: &mut Bench| bench.limits.max_keys_per_message = 2;
    assert_eq!(rejected(keys, r#"{"a":1,"b":2,"a":3}"#), "a Integer(3); b Integer(2)");
    assert_eq!(
        rejected(keys, r#"[{"a":1},{"a":2,"b":3}]"#),
        "! too_many_keys: key `b` is one more than the 2 of a message"
    );
    let text = |bench: &mut Bench| bench.limits.max_text_bytes = 4;
    assert_eq!(rejected(text, r#"{"a":"abcd"}"#), r#"a Text("abcd")"#);
    assert_eq!(
        rejected(text, r#"{"a":"abcde"}"#),
        "! value_too_long: `a`: `abcde`; at most 4 bytes are allowed"
    );
    assert!(rejected(text, r#"{"a":[1,2]}"#).starts_with("! value_too_long"));
    let deep = |bench: &mut Bench| bench.limits.max_nesting = 2;
    assert_eq!(rejected(deep, r#"{"a":[{"b":1}]}"#), r#"a Json("[{\"b\":1}]")"#);
    assert_eq!(
        rejected(deep, r#"{"a":[[[]]]}"#),
        "! too_deep: `a`: `[[[]]]` is nested deeper than the 2 levels allowed"
    );
    let quota = |bench: &mut Bench| bench.settings.max_keys = 1;
    assert_eq!(
        rejected(quota, r#"{"a":1,"b":2}"#),
        "! key_quota: key `b`: the tenant already uses 1 distinct keys, the most that its \
         settings allow"
    );
}

#[test]
fn very_deep_json_is_refused_without_harm() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = 65_000 / (open.len() + close.len());
        let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let mut bench = Bench::new();
        bench.limits.max_nesting = usize::MAX;
        for payload in [format!("{{\"k\":{deep}}}"), deep.clone(), open.repeat(depth)] {
            let result = bench.telemetry(payload.as_bytes());
            assert!(result.is_err() && bench.rows.is_empty());
        }
        let result = bench.telemetry(format!("{{\"k\":{deep}}}").as_bytes());
        assert_eq!(result.unwrap_err().reason, Reason::TooDeep);
    }
}

#[test]
fn a_rejected_message_leaves_earlier_rows_alone() {
    let mut bench = Bench::new();
    bench.telemetry(br#"{"a":1}"#).unwrap();
    bench.telemetry(br#"[{"a":2,"b":"x"},{"a":1e999}]"#).unwrap_err();
    bench.telemetry(br#"{"a":2,"b":"x""#).unwrap_err();
    bench.telemetry(br#"{"a":"y"}"#).unwrap();
    assert_eq!(bench.take(), r#"a Integer(1); a Text("y")"#);
}

#[test]
fn attributes_are_one_object_whose_nulls_are_skipped_or_deletions() {
    for (payload, skipped, deleted) in [
        (r#"{"a":1,"b":null}"#, "a Integer(1)", "a Integer(1); b -"),
        (r#"{"a":null,"a":1}"#, "a Integer(1)", "a Integer(1)"),
        (r#"{"a":1,"a":null}"#, "", "a -"),
        (
            r#"{"ts":1,"values":{}}"#,
            r#"ts Integer(1); values Json("{}")"#,
            r#"ts Integer(1); values Json("{}")"#,
        ),
        ("{}", "", ""),
    ] {
        for (nulls, expected) in [(Nulls::Skipped, skipped), (Nulls::Deleted, deleted)] {
            let mut bench = Bench::new();
            let result = bench.attributes(payload.as_bytes(), nulls).map(|()| Vec::new());
            assert_eq!(outcome(&mut bench, result), expected, "{payload}");
        }
    }
    for payload in ["[]", "[{\"a\":1}]", "1", "null", "", "{\"a\":1"] {
        let error = Bench::new().attributes(payload.as_bytes(), Nulls::Skipped).unwrap_err();
        assert_eq!(error.reason, Reason::Malformed, "{payload}");
    }
}

#[test]
fn the_platform_s_own_keys_are_refused_and_the_rest_is_taken() {
    for (payload, expected) in [
        (r#"{"$baken.connected":true,"a":1}"#, "a Integer(1) ! 1 reserved_key"),
        (r#"{"a":1,"$baken.x":1,"$baken.y":{"z":[]}}"#, "a Integer(1) ! 2 reserved_key"),
        (
            r#"{"ts":1763999999000,"values":{"a":1,"$baken.silent":false}}"#,
            "a@1763999999000 Integer(1) ! 1 reserved_key",
        ),
        (r#"{"\u0024baken.x":1,"a":2}"#, "a Integer(2) ! 1 reserved_key"),
        (r#"{"$baken":1,"baken.x":2}"#, "$baken Integer(1); baken.x Integer(2)"),
    ] {
        let mut bench = Bench::new();
        for _ in 0..3 {
            let result = bench.telemetry(payload.as_bytes());
            assert_eq!(outcome(&mut bench, result), expected, "{payload}");
        }
    }
    let mut bench = Bench::new();
    let error = bench.telemetry(br#"{"$baken.connected":false}"#).unwrap_err();
    assert_eq!(error.reason, Reason::ReservedKey);
    let error = bench.attributes(br#"{"a":1,"$baken.x":1}"#, Nulls::Skipped).unwrap_err();
    assert_eq!(error.reason, Reason::ReservedKey);
    assert!(bench.rows.is_empty());
    let parts = bench.gateway_telemetry(br#"{"D1":[{"$baken.x":1,"a":1}]}"#).unwrap();
    assert_eq!(parts.left_out[0].1.rejection.reason, Reason::ReservedKey);
    assert_eq!(bench.take(), "1 a Integer(1)");
}

#[test]
fn a_time_out_of_bounds_says_how_wrong_the_clock_seems() {
    let mut bench = Bench::new();
    let ahead = NOW.0 + 90_000_000;
    let error = bench.telemetry(format!(r#"{{"ts":{ahead},"values":{{"a":1}}}}"#).as_bytes());
    assert_eq!(error.unwrap_err().clock_offset_ms, Some(90_000_000));
    let error = bench.telemetry(br#"{"ts":1000,"values":{"a":1}}"#).unwrap_err();
    assert_eq!(error.clock_offset_ms, Some(1_000 - NOW.0));
}
