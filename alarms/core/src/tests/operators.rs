//! Each operator, what it compares, and where its limit comes from.

use super::harness::check;

/// A rule that is active exactly while `filter` holds.
fn while_true(filter: &str, script: &str) {
    let profile = format!(
        "name = \"p\"\n[[rules]]\nkey = \"r\"\nraise.major = {{ when = {{ {filter} }} }}\n\
         clear = {{ when = {{ any = [{{ key = \"ok\", operator = \"is\", value = true }}] }} }}\n"
    );
    let mut at = 0;
    let mut lines = String::new();
    // Each value on its own device, so that none looks back on another.
    for (place, step) in script.split(',').map(str::trim).enumerate() {
        at += 1;
        let (value, holds) = step.split_once(" is ").unwrap();
        let device = format!("d{place}");
        let first = if place == 0 { String::new() } else { format!("{device} ") };
        let arrow =
            if holds == "true" { format!(" -> {first}raised major r") } else { String::new() };
        lines.push_str(&format!("{at}s {device} v {value}{arrow}\n"));
    }
    check(&profile, &lines);
}

#[test]
fn numbers() {
    let of = |operator: &str, value: &str| {
        format!("key = \"v\", operator = \"{operator}\", value = {value}")
    };
    while_true(&of("=", "5"), "5 is true, 5.0 is true, 6 is false, x is false");
    while_true(&of("!=", "5"), "5 is false, 6 is true, x is false");
    while_true(&of("≠", "5.5"), "5.5 is false, 5 is true");
    while_true(&of(">", "5"), "5 is false, 5.1 is true, true is false");
    while_true(&of("≥", "5"), "5 is true, 4.9 is false");
    while_true(&of("<", "5"), "5 is false, 4 is true");
    while_true(&of("<=", "5"), "5 is true, 5.1 is false");
    while_true(&of("between", "[1, 5]"), "1 is true, 5 is true, 0 is false, 6 is false");
    while_true(&of("outside", "[1, 5]"), "1 is false, 5 is false, 0 is true, 6 is true");
    while_true(&of("in", "[1, 5]"), "1 is true, 2 is false");
    while_true(&of("not in", "[1, 5]"), "1 is false, 2 is true");
}

#[test]
fn texts() {
    let of = |operator: &str, value: &str| {
        format!("key = \"v\", operator = \"{operator}\", value = {value}")
    };
    while_true(&of("=", "\"on\""), "on is true, off is false, 1 is false");
    while_true(&of("!=", "\"on\""), "on is false, off is true");
    while_true(&of("starts", "\"al\""), "alarm is true, total is false");
    while_true(&of("ends", "\"al\""), "alarm is false, total is true");
    while_true(&of("contains", "\"lar\""), "alarm is true, total is false");
    while_true(&of("not contains", "\"lar\""), "alarm is false, total is true");
    while_true(&of("in", "[\"a\", \"b\"]"), "a is true, c is false");
    while_true(&of("not in", "[\"a\", \"b\"]"), "a is false, c is true");
    while_true(&of("matches", "'^E[0-9]+$'"), "E42 is true, E is false, xE1 is false, 5 is false");
}

#[test]
fn booleans() {
    while_true(
        "key = \"v\", operator = \"is\", value = true",
        "true is true, false is false, 1 is false",
    );
    while_true("key = \"v\", operator = \"=\", value = false", "true is false, false is true");
}

#[test]
fn trees() {
    let of = |operator: &str, limit: i32| {
        format!("{{ key = \"v\", operator = \"{operator}\", value = {limit} }}")
    };
    let (above, below) = (of(">", 1), of("<", 5));
    while_true(&format!("all = [{above}, {below}]"), "0 is false, 3 is true, 6 is false");
    let (low, high) = (of("<", 1), of(">", 5));
    while_true(&format!("any = [{low}, {high}]"), "0 is true, 3 is false, 6 is true");
    let nested = format!("all = [{above}, {{ any = [{}, {}] }}]", of("=", 2), of("=", 4));
    while_true(&nested, "2 is true, 3 is false, 4 is true");
}

fn profile(raise: &str) -> String {
    format!(
        "name = \"p\"\n[[rules]]\nkey = \"r\"\nraise.major = {{ when = {{ {raise} }} }}\n\
         clear = {{ when = {{ key = \"ok\", operator = \"is\", value = true }} }}\n"
    )
}

#[test]
fn changed() {
    check(
        &profile("key = \"v\", operator = \"changed\""),
        "1s d v 1\n2s d v 1\n3s d v 2 -> raised major r\n4s d v 2\n5s d ok true -> cleared r by rule",
    );
}

#[test]
fn delta_over_a_window() {
    check(
        &profile("key = \"v\", of = \"delta\", window = \"64s\", operator = \">=\", value = 10"),
        "0s d v 0
         30s d v 5
         70s d v 14
         80s d v 15 -> raised major r",
    );
}

#[test]
fn rate_of_change_a_second() {
    check(
        &profile("key = \"v\", of = \"rate\", operator = \"<\", value = -2"),
        "0s d v 100\n10s d v 80\n15s d v 70\n20s d v 59 -> raised major r",
    );
}

#[test]
fn age_of_the_last_value() {
    let raise = "all = [{ key = \"v\", of = \"age\", operator = \">=\", value = \"30s\" }, \
                 { key = \"on\", operator = \"is\", value = true }]";
    check(
        &profile(raise),
        "0s d v 1 on true
         20s d v 1
         49s clock
         52s clock -> raised major r @50s",
    );
}

#[test]
fn a_limit_from_another_key() {
    check(
        &profile("key = \"v\", operator = \">\", value = { key = \"limit\" }"),
        "1s d v 50\n2s d limit 60\n3s d v 61 -> raised major r",
    );
}

#[test]
fn a_limit_from_the_nearest_attribute() {
    check(
        &profile("key = \"v\", operator = \">\", value = { attribute = \"limit\", default = 90 }"),
        "1s d v 85
         2s tenant limit 80 -> raised major r
         3s d ok true -> updated r
         4s location limit 87 -> cleared r by rule
         5s d v 86
         6s d client limit 85.5 -> raised major r
         7s d shared limit 88 -> cleared r by rule
         8s d shared limit - -> raised major r",
    );
}

#[test]
fn a_key_of_another_device_at_the_location() {
    let raise = "all = [{ key = \"v\", operator = \">\", value = 5 }, \
                 { key = \"pump/running\", operator = \"is\", value = false }]";
    check(
        &profile(raise),
        "1s d v 6
         2s pump running true
         3s pump running false -> d raised major r
         4s d ok true -> updated r
         5s pump running true -> d cleared r by rule",
    );
    // A rule that looks at others only is of the first that it names.
    let alone = "key = \"pump/running\", operator = \"is\", value = false";
    check(&profile(alone), "1s d v 6\n2s pump running false -> pump raised major r");
}
