//! The gateway topics' telemetry and attributes.

use super::*;

/// Rows, then unknown names after `?`, then rejected parts after `!`.
fn outcome(bench: &mut Bench, result: Result<GatewayParts, Rejection>) -> String {
    let parts = match result {
        Ok(parts) => parts,
        Err(rejection) => {
            assert!(bench.rows.is_empty(), "a rejected message left rows behind");
            return format!("! {rejection}");
        }
    };
    if !parts.unknown.is_empty() {
        assert!(bench.rows.is_empty(), "rows before the devices exist");
    }
    let mut text = bench.take();
    for name in &parts.unknown {
        text += &format!(" ? {name}");
    }
    for (name, rejection) in &parts.rejected {
        text += &format!(" ! {name} {}", rejection.reason.as_str());
    }
    for (name, LeftOut { objects, rejection }) in &parts.left_out {
        text += &format!(" ! {objects} of {name} {}", rejection.reason.as_str());
    }
    text.trim().to_owned()
}

#[test]
fn telemetry() {
    for (payload, expected) in [
        (r#"{"D1":[{"t":1}],"D2":[{"t":2}]}"#, "1 t Integer(1); 2 t Integer(2)"),
        (
            r#"{"D1":[{"ts":1763999999000,"values":{"t":1}},{"u":2}]}"#,
            "1 t@1763999999000 Integer(1); 1 u Integer(2)",
        ),
        (
            r#"{"D1":[{"ts":1763999999000,"values":{"t":1},"metadata":{"connector":"m"}},
                {"metadata":5,"u":2}]}"#,
            "1 t@1763999999000 Integer(1); 1 u Integer(2)",
        ),
        (r#"{"D1":[{"t":1}],"D1":[{"t":2}]}"#, "1 t Integer(1); 1 t Integer(2)"),
        (r#"{"\u00441":[{"t":1}]}"#, "1 t Integer(1)"),
        (r#"{"D1":[]}"#, ""),
        ("{}", ""),
        // New devices: nothing is added before they exist.
        (r#"{"D1":[{"t":1}],"new":[{"t":2}],"newer":[]}"#, "? new ? newer"),
        // A device is not created for a part that is bad.
        (r#"{"D1":[{"t":1}],"new":[{"t":1e999}]}"#, "1 t Integer(1) ! new not_finite"),
        (r#"{"D1":[{"t":1}],"other":[{"t":2}]}"#, "1 t Integer(1) ! other device_quota"),
        (r#"{"D1":[{"t":1}],"":[{"t":2}]}"#, "1 t Integer(1) !  device_refused"),
    ] {
        let mut bench = Bench::new();
        let result = bench.gateway_telemetry(payload.as_bytes());
        assert_eq!(outcome(&mut bench, result), expected, "{payload}");
    }
}

#[test]
fn an_object_with_a_time_out_of_bounds_costs_only_itself() {
    const FUTURE: &str = r#"{"ts":1764086400001,"values":{"t":"x"}}"#;
    const OLD: &str = r#"{"ts":5,"values":{"t":"x"}}"#;
    for (payload, expected) in [
        (
            format!(r#"{{"D1":[{FUTURE},{{"t":1}},{FUTURE}],"D2":[{{"t":2}},{OLD}]}}"#),
            "1 t Integer(1); 2 t Integer(2) ! 2 of D1 future ! 1 of D2 too_old",
        ),
        // Of which nothing is left is rejected; it creates no device either.
        (
            format!(r#"{{"D1":[{{"t":1}}],"D2":[{OLD}],"new":[{FUTURE}]}}"#),
            "1 t Integer(1) ! D2 too_old ! new future",
        ),
        (format!(r#"{{"D1":[{{"t":1}},{OLD}],"new":[{{"t":2}}]}}"#), "? new ! 1 of D1 too_old"),
        (
            format!(r#"{{"D1":[{{"t":1}},{OLD},5],"D2":[{{"t":2}}]}}"#),
            "2 t Integer(2) ! D1 malformed",
        ),
    ] {
        let mut bench = Bench::new();
        let result = bench.gateway_telemetry(payload.as_bytes());
        assert_eq!(outcome(&mut bench, result), expected, "{payload}");
    }
    let mut bench = Bench::new();
    let result = bench.gateway_telemetry(format!(r#"{{"D1":[{OLD}],"D2":[{OLD}]}}"#).as_bytes());
    assert_eq!(result.unwrap_err().reason, Reason::TooOld);
}

#[test]
fn a_bad_part_harms_no_other() {
    for bad in [
        "1",
        "null",
        "\"x\"",
        "true",
        "1.5",
        "{\"t\":1}",
        "{\"a\":{\"b\":[1]}}",
        "[1]",
        "[null]",
        "[[]]",
        "[{\"t\":1},2,{\"t\":3}]",
        "[{\"ts\":1763999999000,\"values\":[1,{}]},{\"t\":3}]",
        "[{\"ts\":\"x\",\"values\":{\"t\":1,\"u\":{}},\"v\":2}]",
        "[{\"values\":7,\"ts\":1763999999000}]",
    ] {
        for payload in [
            format!(r#"{{"D1":[{{"t":1}}],"D2":{bad},"D3":[{{"t":"z"}}]}}"#),
            format!(r#"{{"D1":[{{"t":1}}],"D3":[{{"t":"z"}}],"D2":{bad}}}"#),
        ] {
            let mut bench = Bench::new();
            let result = bench.gateway_telemetry(payload.as_bytes());
            let expected = r#"1 t Integer(1); 3 t Text("z") ! D2 malformed"#;
            assert_eq!(outcome(&mut bench, result), expected, "{payload}");
        }
    }
}

#[test]
fn whole_messages_are_rejected() {
    for (payload, expected) in [
        ("", "! malformed: the payload is empty; expected JSON"),
        (
            r#"{"D1":5,"D2":[{"t":1e999}]}"#,
            "! malformed: all 2 devices are rejected; `D1`: found something else than a list of objects",
        ),
        (
            r#"{"other":[{"t":1}]}"#,
            "! device_quota: all 1 devices are rejected; `other`: the tenant has 2 devices",
        ),
    ] {
        let mut bench = Bench::new();
        let result = bench.gateway_telemetry(payload.as_bytes());
        assert_eq!(outcome(&mut bench, result), expected, "{payload}");
    }
    for payload in [
        "[]",
        "1",
        "null",
        "[{\"D1\":[]}]",
        "{\"D1\":[{\"t\":1}],",
        "{\"D1\":[{\"t\":1}],\"D2\":[}",
        "{\"D1\":5,\"D2\":[{\"t\":1}]",
        "{\"D1\":[{\"t\":1}]} x",
        "{\"D1\":[{\"t\":1e999},{\"t\":x}]}",
    ] {
        let mut bench = Bench::new();
        let error = bench.gateway_telemetry(payload.as_bytes()).unwrap_err();
        assert_eq!((error.reason, bench.rows.len()), (Reason::Malformed, 0), "{payload}");
    }
    let mut bench = Bench::new();
    bench.limits.max_keys_per_message = 2;
    let result = bench.gateway_telemetry(br#"{"D1":[{"a":1}],"D2":[{"a":1},{"a":2}],"D3":[]}"#);
    let expected = "! too_many_keys: `D2`: key `a` is one more than the 2 of a message";
    assert_eq!(outcome(&mut bench, result), expected);
}

#[test]
fn names_too_long_are_refused_without_a_question() {
    let mut bench = Bench::new();
    let payload = format!(r#"{{"D1":[{{"t":1}}],"{}":[]}}"#, "n".repeat(256));
    let parts = bench.gateway_telemetry(payload.as_bytes()).unwrap();
    assert_eq!(parts.rejected[0].1.reason, Reason::DeviceRefused);
    assert_eq!(bench.take(), "1 t Integer(1)");
}

#[test]
fn attributes() {
    for (payload, expected) in [
        (r#"{"D1":{"a":1,"b":null},"D2":{"a":"x"}}"#, r#"1 a Integer(1); 2 a Text("x")"#),
        (r#"{"D1":{"ts":1,"values":{}}}"#, r#"1 ts Integer(1); 1 values Json("{}")"#),
        (r#"{"D1":{"metadata":1}}"#, "1 metadata Integer(1)"),
        (r#"{"D1":{"a":1},"D2":[{"a":1}]}"#, "1 a Integer(1) ! D2 malformed"),
        (r#"{"D1":{"a":1},"new":{}}"#, "? new"),
        ("{}", ""),
    ] {
        let mut bench = Bench::new();
        let result = bench.gateway_attributes(payload.as_bytes());
        assert_eq!(outcome(&mut bench, result), expected, "{payload}");
    }
}
