//! Temporal kinds, schedules, and event time.

use super::harness::check;

fn rule(raise: &str, clear: &str, switches: &str) -> String {
    format!(
        "name = \"p\"\n[[rules]]\nkey = \"r\"\n{switches}\nraise.major = {{ {raise} }}\n\
         clear = {{ {clear} }}\n"
    )
}

const HOT: &str = r#"when = { key = "t", operator = ">", value = 80 }"#;
const COOL: &str = r#"when = { key = "t", operator = "<=", value = 80 }"#;

#[test]
fn simple() {
    check(&rule(HOT, COOL, ""), "1s d t 81 -> raised major r\n2s d t 80 -> cleared r by rule");
}

#[test]
fn a_duration_fires_at_its_own_time_though_nothing_arrives() {
    check(
        &rule(&format!("for = \"5m\", {HOT}"), COOL, ""),
        "0s d t 81
         5m clock
         5m1s clock
         5m2s clock -> raised major r @5m
         6m d t 70 -> cleared r by rule
         7m d t 81
         11m d t 70
         30m clock",
    );
}

#[test]
fn a_duration_fires_before_the_input_that_comes_at_or_after_it() {
    check(
        &rule(&format!("for = \"5m\", {HOT}"), COOL, ""),
        "0s d t 81
         4m d t 82
         5m d t 83 -> raised major r; updated r
         6m d t 70 -> cleared r by rule",
    );
}

#[test]
fn a_gap_between_two_readings_breaks_a_duration() {
    let on = rule(&format!("for = \"5m\", {HOT}"), COOL, "");
    check(
        &on,
        "0s@2h d t 81
         10m@2h d t 82
         14m@2h d t 82
         15m@2h d t 82 -> raised major r; updated r",
    );
    let off = rule(&format!("for = \"5m\", {HOT}"), COOL, "gap_breaks_duration = false");
    check(
        &off,
        "0s@2h d t 81
         10m@2h d t 82 -> raised major r @5m; updated r",
    );
}

#[test]
fn repeating_counts_readings_and_a_false_one_starts_anew() {
    check(
        &rule(&format!("times = 3, {HOT}"), COOL, ""),
        "1s d t 81\n2s d t 81\n3s d t 80\n4s d t 81\n5s d t 81\n6s d t 81 -> raised major r",
    );
}

#[test]
fn repeating_within_a_window_forgets_what_is_older() {
    check(
        &rule(&format!("times = 3, within = \"10s\", {HOT}"), COOL, ""),
        "1s d t 81
         2s d t 82
         11s d t 83
         12s d t 84
         13s d t 85 -> raised major r",
    );
}

#[test]
fn inactivity_is_raised_at_its_own_time_and_ends_with_a_reading() {
    let back = r#"when = { key = "t", of = "age", operator = "<", value = "1m" }"#;
    check(
        &rule("key = \"t\", no_reading_for = \"10m\"", back, ""),
        "0s d t 1
         9m d t 1
         15m d other 1
         19m1s clock
         19m2s clock -> raised major r @19m
         25m d t 1 -> cleared r by rule",
    );
}

#[test]
fn a_buffered_upload_raises_and_clears_at_its_own_times() {
    check(
        &rule(&format!("for = \"5m\", {HOT}"), COOL, ""),
        "0s@2h d t 70
         10m@2h d t 81
         13m@2h d t 82
         16m@2h d t 83 -> raised major r @15m; updated r
         20m@2h d t 70 -> cleared r by rule",
    );
}

#[test]
fn what_other_devices_send_does_not_cut_an_upload_short() {
    check(
        &rule(&format!("for = \"5m\", {HOT}"), COOL, ""),
        "10m@2h d t 81
         2h1s e t 70
         12m@2h1s d t 70
         3h e t 70",
    );
}

#[test]
fn a_late_reading_is_not_evaluated_and_a_repeated_one_changes_nothing() {
    check(
        &rule(HOT, COOL, ""),
        "10s d t 70
         5s@10s d t 90
         10s d t 70
         10s d t 81 -> raised major r
         10s d t 81
         11s d t 81 -> updated r",
    );
}

#[test]
fn lateness_holds_readings_back_and_puts_them_in_order() {
    let profile = format!("lateness = \"10s\"\n{}", rule(HOT, COOL, ""));
    check(
        &profile,
        "20s d t 70
         15s@20s d t 90
         28s d t 70 -> raised major r @15s
         31s d t 70 -> cleared r by rule @20s
         60s clock",
    );
}

#[test]
fn a_schedule_bounds_raising_in_its_time_zone() {
    // The script starts on Monday at 01:00 in Amsterdam.
    let schedule = r#"schedule = { days = ["mon"], from = "08:00", to = "17:00" }"#;
    check(
        &rule(&format!("{HOT}, {schedule}"), COOL, ""),
        "6h59m d t 81
         7h2s clock -> raised major r @7h
         8h d t 70 -> cleared r by rule
         16h d t 81
         17h d t 81
         1d d t 81",
    );
}

#[test]
fn a_duration_does_not_run_across_the_end_of_its_schedule() {
    let schedule = r#"schedule = { time_zone = "UTC", from = "08:00", to = "09:00" }"#;
    check(
        &rule(&format!("for = \"10m\", {HOT}, {schedule}"), COOL, "gap_breaks_duration = false"),
        "8h55m d t 81
         9h20m clock
         1d8h5m d t 81
         1d8h15m d t 81 -> raised major r @1d8h10m; updated r",
    );
}

#[test]
fn values_of_one_message_are_seen_together() {
    let raise = r#"when = { key = "t", operator = ">", value = { key = "limit" } }"#;
    let clear = r#"when = { key = "t", operator = "<=", value = { key = "limit" } }"#;
    check(
        &rule(raise, clear, ""),
        "1s d t 30 limit 40
         2s d t 50 limit 60
         3s d t 61 -> raised major r
         4s d limit 70 -> cleared r by rule",
    );
}

#[test]
fn an_inactivity_that_ended_is_watched_for_again() {
    let back = r#"when = { key = "t", of = "age", operator = "<", value = "1m" }"#;
    check(
        &rule("key = \"t\", no_reading_for = \"10m\"", back, ""),
        "0s d t 1
         15m d t 1 -> raised major r @10m; cleared r by rule
         1h clock -> raised major r @25m",
    );
}

#[test]
fn a_rules_time_never_runs_backwards_though_its_keys_are_out_of_step() {
    let raise = r#"when = { all = [{ key = "t", operator = ">", value = 80 }, { key = "u", operator = ">", value = 1 }] }"#;
    let clear = r#"when = { key = "u", operator = "<=", value = 1 }"#;
    check(
        &rule(raise, clear, ""),
        "1s@1m d u 2
         10s@1m d t 81 -> raised major r
         5s@1m d u 1 -> cleared r by rule @10s",
    );
}
