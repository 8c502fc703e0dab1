//! What random cases found, each in the fewest lines that show it.

use crate::tests::harness::check;

const OVER: &str = r#"clear = { when = { key = "t", operator = "<", value = 70 } }"#;

fn profile(raise: &str, rest: &str) -> String {
    format!("name = \"p\"\n[[rules]]\nkey = \"r\"\n{raise}\n{rest}\n")
}

fn attribute_limit() -> String {
    profile(
        r#"raise.major = { for = "10s", when = { key = "t", operator = ">", value = { attribute = "limit", default = 80 } } }"#,
        OVER,
    )
}

#[test]
fn what_was_due_before_an_attribute_changed_is_judged_by_the_old_one() {
    for scope in ["pump shared", "pump client", "location", "tenant"] {
        let script = format!("1s pump t 90\n12s {scope} limit 100 -> raised major r @11s");
        check(&attribute_limit(), &script);
    }
}

#[test]
fn what_was_due_before_another_devices_reading_is_judged_by_the_old_one() {
    let raise = r#"raise.major = { for = "10s", when = { key = "gate/open", operator = "is", value = true } }"#;
    let clear = r#"clear = { when = { key = "gate/open", operator = "is", value = false } }"#;
    check(
        &profile(raise, &format!("{clear}\ngap_breaks_duration = false")),
        "1s gate open true
         12s gate open false -> raised major r @11s; cleared r by rule",
    );
}

#[test]
fn a_silence_breaks_the_durations_of_a_device_that_looks_at_itself_by_name() {
    let raise =
        r#"raise.major = { for = "8s", when = { key = "gate/t", operator = ">", value = 80 } }"#;
    let clear = r#"clear = { when = { key = "t", operator = "<", value = 70 } }"#;
    check(
        &profile(raise, clear),
        "1s pump t 1
         2s gate t 90
         11s gate t 90",
    );
}

#[test]
fn a_rule_that_names_its_own_device_runs_once_for_a_reading() {
    let raise = r#"raise.major = { when = { all = [{ key = "t", operator = ">", value = 80 }, { key = "gate/t", operator = ">", value = 80 }] } }"#;
    check(
        &profile(raise, OVER),
        "1s gate t 90 -> raised major r
         2s gate t 91 -> updated r",
    );
}

#[test]
fn what_was_due_before_a_rule_was_edited_is_raised() {
    let edited = attribute_limit().replace("10s", "20s");
    let script = format!("1s pump t 90\n12s profile -> raised major r @11s\n{edited}\nend");
    check(&attribute_limit(), &script);
}

#[test]
fn what_was_due_before_a_deed_comes_first() {
    check(
        &profile(
            r#"raise.major = { when = { key = "t", operator = ">", value = 80 } }"#,
            &format!("{OVER}\nauto_clear_after = \"10s\""),
        ),
        "1s pump t 90 -> raised major r
         12s do clear pump r eva -> cleared r by time @11s",
    );
}

#[test]
fn a_duration_begins_again_when_its_schedule_does() {
    // The schedule is off from 01:01 to 00:59, and nothing comes meanwhile.
    let raise = r#"raise.major = { for = "40s", schedule = { from = "00:59", to = "01:01" }, when = { key = "t", operator = ">", value = 80 } }"#;
    check(
        &profile(raise, OVER),
        "30s pump t 90
         23h59m50s clock -> raised major r @23h59m40s",
    );
}

#[test]
fn a_schedule_that_is_always_on_is_off_at_no_midnight() {
    let raise = r#"raise.major = { times = 3, schedule = { from = "01:01", to = "01:01" }, when = { key = "t", operator = ">", value = 80 } }"#;
    check(
        &profile(raise, OVER),
        "50s pump t 90
         55s pump t 90
         65s pump t 90 -> raised major r",
    );
}

#[test]
fn a_rule_at_rest_begins_no_earlier_than_the_readings_it_looks_at() {
    let raise = r#"raise.major = { when = { all = [{ key = "t", operator = ">", value = 80 }, { key = "u", operator = ">", value = 80 }] } }"#;
    check(
        &profile(raise, OVER),
        "10s pump t 90
         5s@11s pump u 90 -> raised major r @10s",
    );
}

#[test]
fn a_latched_alarm_counts_as_cleared_when_it_was_acknowledged() {
    let rest = format!("{OVER}\nlatch = true\nre_alarm_after = \"30s\"");
    check(
        &profile(r#"raise.major = { when = { key = "t", operator = ">", value = 80 } }"#, &rest),
        "1s pump t 90 -> raised major r
         2s pump t 60
         60s do acknowledge pump r eva -> acknowledged r; cleared r by rule
         61s pump t 90
         92s clock -> raised major r @90s",
    );
}

#[test]
fn a_changed_rule_is_run_for_devices_that_had_nothing_going_too() {
    let lower = attribute_limit().replace("for = \"10s\", ", "").replace("80", "50");
    let script = format!("1s pump t 60\n5s profile -> raised major r\n{lower}\nend");
    check(&attribute_limit(), &script);
}

#[test]
fn an_edited_rule_that_now_belongs_to_another_device_ends_its_alarms() {
    let own = profile(
        r#"raise.major = { when = { key = "t", operator = ">", value = 80 } }"#,
        &format!("{OVER}\nauto_clear_after = \"1h\""),
    );
    let other = own.replace(
        "raise.major = { when = { key = \"t\"",
        "raise.major = { when = { key = \"gate/t\"",
    );
    let script = format!(
        "1s gate t 1
         2s pump t 90 -> pump raised major r
         3s profile -> pump cleared r rule removed
{other}
end"
    );
    check(&own, &script);
}

#[test]
fn silent_devices_take_turns_by_what_is_due_whatever_came_before() {
    let raise =
        r#"raise.major = { for = "10s", when = { key = "t", operator = ">", value = 80 } }"#;
    let profile = profile(raise, &format!("{OVER}\nmax_active = 1"));
    // The first device's earlier deadline came to nothing. The script runs with
    // restarts too, after which nobody knows of it.
    check(
        &profile,
        "1s pump t 90
         2s fan t 90
         3s pump t 1
         4s pump t 90
         60s clock -> fan raised major r @12s; tenant raised major alarm_limit/1/r @14s",
    );
}

#[test]
fn a_delta_forgets_a_number_that_was_corrected_to_none() {
    let raise = r#"raise.major = { when = { key = "t", of = "delta", window = "1m", operator = ">=", value = 10 } }"#;
    check(
        &profile(raise, OVER),
        "1s pump t 1
         1s pump t \"broken\"
         2s pump t 5
         3s pump t 11
         4s pump t 15 -> raised major r",
    );
}
