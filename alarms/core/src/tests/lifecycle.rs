//! What scenario files can't say of an alarm's story: ids and values.

use super::harness::World;

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
fn row_7_true_after_a_clear_is_a_new_alarm() {
    let mut world = World::new(&[WARM]);
    let first = world.apply("1s pump temperature 85").1;
    world.apply("2s pump temperature 60");
    let second = world.apply("3s pump temperature 85").1;
    assert_ne!(first[0].alarm, second[0].alarm);
    assert_ne!(first[0].id, second[0].id);
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
