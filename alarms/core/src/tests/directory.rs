//! Devices and locations that change, and devices that go.

use schema::{Cause, Command, CommandBody, DeviceId, LocationId, Position, TenantId, TimestampMs};

use super::harness::{START_MS, World, check};
use super::snapshots::{assert_same_from_every_cut, run};
use crate::{DeviceDescription, Engine, EngineOptions};

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
    let mut straight = World::new(&[PROFILE]);
    let whole = run(&mut straight, &SCRIPT);
    assert_eq!(straight.engine.sizes(), (2, 2), "only pump-f and pump-g are left");
    assert_same_from_every_cut(PROFILE, &SCRIPT, &whole);
}

const GROUPED: &str = r#"
    name = "Coast"
    applies_to = { location_groups = ["Coast", "Islands"] }
    [[rules]]
    key = "hot"
    raise.critical = { for = "10s", when = { key = "t", operator = ">", value = 90 } }
    raise.major = { when = { key = "t", operator = ">", value = 80 } }
    clear = { when = { key = "t", operator = "<", value = 70 } }
    [[rules]]
    key = "pair"
    raise.minor = { when = { key = "pump-b/t", operator = ">", value = 60 } }
    clear = { when = { key = "pump-b/t", operator = "<=", value = 60 } }
"#;

const MOVES: [&str; 13] = [
    "1s pump-a t 85",
    "2s place Hall Europe/Amsterdam group Coast",
    "3s pump-a t 86",
    "4s pump-b t 95",
    "5s place Hall Europe/Amsterdam group Islands group North",
    "6s pump-c t 91",
    // Both durations are due before: they fire, and then all ends.
    "30s place Hall Europe/Amsterdam group North",
    "31s pump-a t 87",
    "32s place Yard Europe/Amsterdam group North",
    "33s place Yard Europe/Amsterdam group Coast",
    "34s pump-a t 88",
    "35s delete pump-b",
    "36s place Yard Europe/Amsterdam",
];

#[test]
fn from_every_step_of_a_location_s_way_through_groups_it_goes_on_the_same() {
    let whole = run(&mut World::new(&[GROUPED]), &MOVES);
    let told: Vec<String> = whole
        .iter()
        .map(|t| format!("{} {} {}", (t.at.0 - START_MS) / 1_000, t.kind.as_str(), t.rule.key))
        .collect();
    let expected = [
        "3 raised hot",
        "4 raised hot",
        "4 raised pair",
        "6 raised hot",
        "14 severity_changed hot",
        "16 severity_changed hot",
        "30 cleared hot",
        "30 cleared hot",
        "30 cleared pair",
        "30 cleared hot",
        "34 raised hot",
        "36 cleared hot",
    ];
    assert_eq!(told, expected);
    assert_same_from_every_cut(GROUPED, &MOVES, &whole);
}

#[test]
fn an_older_document_of_a_location_changes_nothing() {
    let mut world = World::new(&[GROUPED]);
    world.apply("1s place Hall Europe/Amsterdam group Coast");
    assert_eq!(world.apply("2s pump-a t 85").1.len(), 1);
    let before = world.engine.snapshot();
    let old = CommandBody::LocationChanged {
        location: LocationId(1),
        version: 1,
        name: "Hut".to_owned(),
        time_zone: "UTC".to_owned(),
        groups: Vec::new(),
    };
    let command = Command { at: TimestampMs(START_MS + 2_000), tenant: TenantId(1), body: old };
    let cause = Cause::Record { position: Position(9), row: 0 };
    let mut out = Vec::new();
    world.engine.command(&command, cause, &mut out).unwrap();
    assert_eq!((out.len(), world.engine.snapshot()), (0, before));
}

#[test]
fn an_older_document_of_a_device_changes_nothing() {
    let mut world = World::new(&[PROFILE]);
    assert_eq!(world.apply("1s pump t 85").1.len(), 1);
    let changed = |version: u64, name: &str| CommandBody::DeviceChanged {
        device: DeviceId(1),
        version,
        name: name.to_owned(),
        device_type: Some("pump".to_owned()),
    };
    let tell = |world: &mut World, body: CommandBody| {
        let command = Command { at: TimestampMs(START_MS + 2_000), tenant: TenantId(1), body };
        let cause = Cause::Record { position: Position(9), row: 0 };
        let mut out = Vec::new();
        world.engine.command(&command, cause, &mut out).unwrap();
        assert_eq!(out, []);
    };
    tell(&mut world, changed(3, "new"));
    let bytes = world.engine.snapshot();
    world.engine = Engine::restore(EngineOptions::default(), &bytes).unwrap();
    tell(&mut world, changed(2, "old"));
    assert_eq!(world.engine.snapshot(), bytes);

    // Met by its document of version 3, after a change that it lags behind.
    let described = |version: u64| DeviceDescription {
        device: DeviceId(1),
        name: "new".to_owned(),
        device_type: Some("pump".to_owned()),
        tenant: TenantId(1),
        location: LocationId(1),
        location_name: "Hall".to_owned(),
        time_zone: "UTC".to_owned(),
        version,
        location_version: 1,
        location_groups: Vec::new(),
    };
    let mut world = World::new(&[PROFILE]);
    world.engine.meet(&described(3));
    world.engine.advance(TimestampMs(START_MS + 2_000), &mut Vec::new());
    let before = world.engine.snapshot();
    tell(&mut world, changed(2, "old"));
    assert_eq!(world.engine.snapshot(), before);
    // What was kept of a device before it had a version is older than any.
    let mut kept = serde_json::to_value(described(3)).unwrap();
    kept.as_object_mut().unwrap().remove("version");
    let mut world = World::new(&[PROFILE]);
    world.engine.meet(&serde_json::from_value(kept).unwrap());
    tell(&mut world, changed(1, "newer"));
    assert_eq!(world.apply("3s newer t 85").1[0].description, "newer in Hall: 85");
}
