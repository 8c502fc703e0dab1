//! Devices and locations that change, and devices that go.

use super::harness::{World, check};
use crate::{Engine, EngineOptions};

const PROFILE: &str = r#"
    name = "Pumps"
    applies_to = { device_types = ["pump"] }
    [[rules]]
    key = "hot"
    description = "${device} in ${location}: ${t}"
    raise.critical = { for = "10s", when = { key = "t", operator = ">", value = 90 } }
    raise.major = { when = { key = "t", operator = ">", value = 80 } }
    clear = { when = { key = "t", operator = "<", value = 70 } }
"#;

#[test]
fn a_new_name_keeps_the_alarm_and_the_same_document_again_changes_nothing() {
    check(
        PROFILE,
        "1s pump t 85 -> raised major hot
         2s describe pump pump-2 pump
         2s describe pump-2 pump-2 pump
         3s pump-2 t 60 -> cleared hot by rule",
    );
    let mut world = World::new(&[PROFILE]);
    world.apply("1s pump t 85");
    world.apply("2s describe pump pump-2 pump");
    world.apply("2s place Yard Europe/London");
    let (_, out) = world.apply("3s pump-2 t 86");
    assert_eq!(out[0].description, "pump-2 in Yard: 86");
}

const SCRIPT: [&str; 14] = [
    "1s pump t 85",
    "2s pump-b t 95",
    "3s delete pump",
    "4s pump-c t 91",
    "5s describe pump-b pump-d pump",
    "6s pump-d t 60",
    "7s delete pump-d",
    "8s delete pump-c",
    "9s pump-e t 95",
    "10s pump-f t 96",
    "11s place Yard Europe/London",
    "12s delete pump-e",
    "25s clock",
    "26s pump-g t 97",
];

#[test]
fn places_are_used_again_and_every_snapshot_goes_on_the_same() {
    let run = |world: &mut World, lines: &[&str]| -> Vec<schema::Transition> {
        lines.iter().flat_map(|line| world.apply(line).1).collect()
    };
    let mut straight = World::new(&[PROFILE]);
    let whole = run(&mut straight, &SCRIPT);
    assert_eq!(straight.engine.sizes(), (2, 2), "only pump-f and pump-g are left");
    for cut in 0..=SCRIPT.len() {
        let mut world = World::new(&[PROFILE]);
        let mut seen = run(&mut world, &SCRIPT[..cut]);
        let bytes = world.engine.snapshot();
        world.engine = Engine::restore(EngineOptions::default(), &bytes).unwrap();
        assert_eq!(world.engine.snapshot(), bytes, "cut at {cut}");
        seen.extend(run(&mut world, &SCRIPT[cut..]));
        assert_eq!(seen, whole, "cut at {cut}");
        assert_eq!(world.engine.snapshot(), straight.engine.snapshot(), "cut at {cut}");
    }
}
