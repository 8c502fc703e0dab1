//! Each switch of a rule.

use super::harness::check;

fn rule(switches: &str) -> String {
    format!(
        r#"name = "p"
        [[rules]]
        key = "r"
        {switches}
        raise.critical = {{ when = {{ key = "t", operator = ">", value = 90 }} }}
        raise.major = {{ when = {{ key = "t", operator = ">", value = 80 }} }}
        clear = {{ when = {{ key = "t", operator = "<=", value = 80 }} }}
        "#
    )
}

#[test]
fn deadband() {
    check(
        &rule("deadband = 2"),
        "1s d t 81 -> raised major r\n2s d t 79\n3s d t 78 -> cleared r by rule",
    );
}

#[test]
fn off_delay() {
    check(
        &rule("off_delay = \"10s\""),
        "1s d t 81 -> raised major r
         2s d t 70
         8s d t 81 -> updated r
         9s d t 70
         21s clock -> cleared r by rule @19s",
    );
}

#[test]
fn min_on() {
    check(
        &rule("min_on = \"10s\""),
        "1s d t 81 -> raised major r
         2s d t 70
         14s clock -> cleared r by rule @11s
         20s d t 81 -> raised major r
         40s d t 70 -> cleared r by rule",
    );
}

#[test]
fn re_alarm_after() {
    check(
        &rule("re_alarm_after = \"10s\""),
        "1s d t 81 -> raised major r
         2s d t 70 -> cleared r by rule
         3s d t 81
         4s d t 70
         5s d t 81
         15s clock -> raised major r @12s",
    );
}

#[test]
fn flapping_is_one_alarm_that_says_so() {
    check(
        &rule("flapping = { low = 5, high = 20 }"),
        "1s d t 70
         2s d t 81 -> raised major r
         3s d t 70 -> cleared r by rule
         4s d t 81 -> raised major r
         5s d t 70 -> suppressed r
         6s d t 81
         7s d t 70
         8s d t 95 -> major to critical r
         9s d t 70",
    );
}

#[test]
fn flapping_ends_when_it_has_been_steady() {
    let mut script = String::from(
        "1s d t 70\n2s d t 81 -> raised major r\n3s d t 70 -> cleared r by rule\n\
         4s d t 81 -> raised major r\n5s d t 70 -> suppressed r\n",
    );
    for second in 6..=22 {
        script.push_str(&format!("{second}s d t 70\n"));
    }
    script.push_str("23s d t 70\n24s d t 70 -> cleared r by rule\n25s d t 70\n");
    check(&rule("flapping = { low = 4.2, high = 20 }"), &script);
}

#[test]
fn latch() {
    check(
        &rule("latch = true"),
        "1s d t 81 -> raised major r
         2s d t 70
         3s do acknowledge d r eva -> acknowledged r; cleared r by rule
         4s d t 81 -> raised major r
         5s do acknowledge d r eva -> acknowledged r
         6s d t 70 -> cleared r by rule
         7s d t 81 -> raised major r
         8s d t 70
         9s d t 81 -> updated r
         10s do acknowledge d r eva -> acknowledged r",
    );
}

#[test]
fn de_escalate() {
    check(
        &rule("de_escalate = true\ndeadband = 2"),
        "1s d t 95 -> raised critical r
         2s d t 89
         3s d t 88 -> critical to major r
         4s d t 91 -> major to critical r
         5s d t 70 -> cleared r by rule",
    );
}

#[test]
fn a_clear_condition_per_severity() {
    check(
        r#"name = "p"
        [[rules]]
        key = "r"
        raise.critical = { when = { key = "t", operator = ">", value = 90 } }
        raise.major = { when = { key = "t", operator = ">", value = 80 } }
        clear = { when = { key = "t", operator = "<=", value = 80 } }
        clear_by_severity.critical = { when = { key = "t", operator = "<", value = 50 } }
        "#,
        "1s d t 85 -> raised major r
         2s d t 80 -> cleared r by rule
         3s d t 95 -> raised critical r
         4s d t 60
         5s d t 49 -> cleared r by rule",
    );
}

#[test]
fn auto_clear_after() {
    check(
        &rule("auto_clear_after = \"1m\""),
        "0s d t 81 -> raised major r
         30s d t 82 -> updated r
         92s clock -> cleared r by time @1m30s
         2m d t 82 -> raised major r",
    );
}

#[test]
fn max_active_says_so_once_and_is_never_silent() {
    check(
        &rule("max_active = 1"),
        "1s d t 81 -> raised major r
         2s e t 81 -> tenant raised major alarm_limit/1/r
         3s f t 81
         4s d t 70 -> cleared r by rule; tenant cleared alarm_limit/1/r by rule
         5s f t 81 -> f raised major r",
    );
}

#[test]
fn reacknowledge_on_escalation() {
    check(
        &rule("reacknowledge_on_escalation = true"),
        "1s d t 81 -> raised major r
         2s do acknowledge d r eva -> acknowledged r
         3s d t 95 -> major to critical r; unacknowledged r",
    );
}
