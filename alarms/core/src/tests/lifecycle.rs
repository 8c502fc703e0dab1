//! The ten rows of the lifecycle, the commands, and system alarms.

use super::harness::{World, check};

const WARM: &str = r#"
    name = "Cold store"
    [[rules]]
    key = "warm"
    description = "${device} in ${location}: ${temperature} is ${severity}"
    raise.critical = { when = { key = "temperature", operator = ">", value = 90 } }
    raise.major = { when = { key = "temperature", operator = ">", value = 80 } }
    clear = { when = { key = "temperature", operator = "<", value = 70 } }
"#;

#[test]
fn row_1_the_worst_severity_wins_and_lower_ones_are_not_evaluated() {
    check(WARM, "1s pump temperature 95 -> raised critical warm");
    // The major condition counts only in rounds in which critical is false.
    check(
        r#"
        name = "p"
        [[rules]]
        key = "warm"
        raise.critical = { when = { key = "temperature", operator = ">", value = 90 } }
        raise.major = { times = 2, when = { key = "temperature", operator = ">", value = 80 } }
        clear = { when = { key = "temperature", operator = "<", value = 70 } }
        "#,
        "1s pump temperature 85
         2s pump temperature 95 -> raised critical warm
         3s pump temperature 60 -> cleared warm by rule
         4s pump temperature 85
         5s pump temperature 85 -> raised major warm",
    );
}

#[test]
fn row_2_false_resets_and_not_yet_true_keeps() {
    check(
        r#"
        name = "p"
        [[rules]]
        key = "warm"
        raise.major = { times = 3, when = { key = "temperature", operator = ">", value = 80 } }
        clear = { when = { key = "temperature", operator = "<", value = 70 } }
        "#,
        "1s pump temperature 85
         2s pump temperature 85
         3s pump temperature 75
         4s pump temperature 85
         5s pump humidity 10
         6s pump temperature 85
         7s pump temperature 85 -> raised major warm",
    );
}

#[test]
fn row_3_raise_beats_clear_and_resets_its_timer() {
    check(
        r#"
        name = "p"
        [[rules]]
        key = "warm"
        raise.major = { when = { key = "temperature", operator = ">", value = 80 } }
        clear = { for = "10s", when = { key = "running", operator = "is", value = false } }
        "#,
        "0s pump temperature 85 running true -> raised major warm
         1s pump temperature 85 running false -> updated warm
         12s pump temperature 75
         15s pump temperature 85 -> updated warm
         16s pump temperature 75
         30s clock -> cleared warm by rule @26s",
    );
}

#[test]
fn row_4_clear_runs_only_while_active_and_resets_all_timers() {
    check(
        r#"
        name = "p"
        [[rules]]
        key = "warm"
        raise.critical = { times = 2, when = { key = "temperature", operator = ">", value = 90 } }
        raise.major = { when = { key = "temperature", operator = ">", value = 80 } }
        clear = { when = { key = "reset", operator = "is", value = true } }
        "#,
        "0s pump reset true temperature 20
         1s pump temperature 95 -> raised major warm
         2s pump temperature 70 -> cleared warm by rule
         3s pump temperature 95 -> raised major warm
         4s pump temperature 95 -> major to critical warm",
    );
}

#[test]
fn row_5_true_again_updates_or_rises_and_never_falls_by_itself() {
    check(
        WARM,
        "1s pump temperature 85 -> raised major warm
         2s pump temperature 86 -> updated warm
         3s pump temperature 95 -> major to critical warm
         4s pump temperature 85
         5s pump temperature 91 -> updated warm
         6s pump temperature 75
         7s pump temperature 60 -> cleared warm by rule",
    );
}

#[test]
fn row_6_acknowledgement_and_clearing_are_independent() {
    check(
        WARM,
        "1s pump temperature 85 -> raised major warm
         2s do acknowledge pump warm eva -> acknowledged warm
         3s do acknowledge pump warm eva
         4s pump temperature 95 -> major to critical warm
         5s do unacknowledge pump warm eva -> unacknowledged warm
         6s pump temperature 60 -> cleared warm by rule
         7s do acknowledge pump warm eva -> acknowledged warm",
    );
}

#[test]
fn row_7_true_after_a_clear_is_a_new_alarm() {
    let mut world = World::new(&[WARM]);
    let first = world.apply("1s pump temperature 85").1;
    world.apply("2s pump temperature 60");
    let second = world.apply("3s pump temperature 85").1;
    assert_ne!(first[0].alarm, second[0].alarm);
    assert_ne!(first[0].id, second[0].id);
}

#[test]
fn row_8_cleared_by_a_person_it_raises_anew_at_the_next_bad_reading() {
    check(
        WARM,
        "1s pump temperature 85 -> raised major warm
         2s do clear pump warm eva -> cleared warm by person
         3s clock
         4s pump temperature 85 -> raised major warm
         5s pump temperature 60 -> cleared warm by rule
         6s do clear pump warm eva",
    );
}

#[test]
fn row_9_every_transition_bears_its_own_details() {
    let mut world = World::new(&[WARM]);
    let mut seen = Vec::new();
    for line in ["1s pump temperature 85", "2s pump temperature 95.5", "3s pump temperature 60"] {
        seen.extend(world.apply(line).1.into_iter().map(|t| t.description));
    }
    assert_eq!(
        seen,
        [
            "pump in Hall 3: 85 is major",
            "pump in Hall 3: 95.5 is critical",
            "pump in Hall 3: 60 is critical"
        ]
    );
    world.apply("4s pump temperature 85");
    let out = world.apply("5s do comment pump warm eva checked").1;
    assert_eq!(out[0].by.as_deref(), Some("eva"));
    assert_eq!(out[0].kind, schema::TransitionKind::Commented { text: "checked".to_owned() });
    let values: Vec<String> = out[0].values.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(values, ["temperature=85"]);
}

#[test]
fn row_10_a_rule_that_is_gone_clears_and_a_changed_one_keeps_its_alarm() {
    let two = format!(
        "{WARM}
        [[rules]]
        key = \"wet\"
        raise.minor = {{ when = {{ key = \"humidity\", operator = \">\", value = 50 }} }}
        clear = {{ when = {{ key = \"humidity\", operator = \"<=\", value = 50 }} }}"
    );
    let higher = WARM.replace("value = 80", "value = 84").replace("value = 70", "value = 83");
    check(
        &two,
        &format!(
            "1s pump temperature 82 humidity 60 -> raised major warm; raised minor wet
         2s profile -> cleared wet rule removed
         {WARM}
         end
         3s profile -> cleared warm by rule
         {higher}
         end
         4s pump temperature 85 -> raised major warm
         5s profile gone -> cleared warm rule removed
         6s pump temperature 99"
        ),
    );
}

#[test]
fn an_unchanged_rule_keeps_its_timers_through_an_edit_of_another() {
    let one = r#"
        name = "p"
        [[rules]]
        key = "warm"
        raise.major = { for = "10s", when = { key = "temperature", operator = ">", value = 80 } }
        clear = { when = { key = "temperature", operator = "<", value = 70 } }
        [[rules]]
        key = "wet"
        raise.minor = { when = { key = "humidity", operator = ">", value = 50 } }
        clear = { when = { key = "humidity", operator = "<=", value = 50 } }
    "#;
    let edited = one.replace("value = 50", "value = 55");
    check(
        one,
        &format!(
            "1s pump temperature 90
             5s profile
             {edited}
             end
             14s clock -> raised major warm @11s"
        ),
    );
}

#[test]
fn shelving_ends_by_a_person_or_by_time_and_the_alarm_lives_on() {
    check(
        WARM,
        "1s pump temperature 85 -> raised major warm
         2s do shelve pump warm eva 10s -> shelved warm
         3s pump temperature 86 -> updated warm
         20s clock -> unshelved warm by time @10s
         21s do shelve pump warm eva 40s -> shelved warm
         22s do unshelve pump warm eva -> unshelved warm by person
         23s do unshelve pump warm eva
         24s do shelve pump warm eva 20s
         25s do assign pump warm eva bob -> assigned warm
         50s clock",
    );
}

#[test]
fn the_same_inputs_give_the_same_ids() {
    let run = || {
        let mut world = World::new(&[WARM]);
        let mut ids = Vec::new();
        for line in ["1s pump temperature 85", "2s fan temperature 95", "3s pump temperature 60"] {
            ids.extend(world.apply(line).1.into_iter().map(|t| (t.id, t.alarm)));
        }
        ids
    };
    assert_eq!(run(), run());
    assert_eq!(run().len(), 3);
}
