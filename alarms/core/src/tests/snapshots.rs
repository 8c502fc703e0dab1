//! Snapshots: the same state gives the same bytes, damage is told, and an engine
//! that was restored goes on as the one that ran through.

use super::harness::World;
use super::tenant_alarms;
use crate::{Engine, EngineOptions, RestoreError};

const PROFILE: &str = r#"
    name = "p"
    lateness = "2s"
    [[rules]]
    key = "warm"
    deadband = 1
    off_delay = "5s"
    raise.critical = { for = "10s", when = { key = "t", operator = ">", value = 90 } }
    raise.major = { times = 2, within = "1m", when = { key = "t", operator = ">", value = 80 } }
    clear = { when = { key = "t", operator = "<", value = 70 } }
    [[rules]]
    key = "jump"
    raise.minor = { when = { key = "t", of = "delta", window = "1m", operator = ">", value = 20 } }
    clear = { when = { key = "t", of = "rate", operator = "<", value = 0 } }
    [[rules]]
    key = "silent"
    raise.warning = { key = "t", no_reading_for = "30s" }
    clear = { when = { key = "t", of = "age", operator = "<", value = "1s" } }
    [[rules]]
    key = "pair"
    raise.minor = { when = { all = [{ key = "e/t", operator = ">", value = 50 }, { key = "t", operator = ">", value = { attribute = "limit", default = 85 } }] } }
    clear = { when = { key = "e/t", operator = "<=", value = 50 } }
"#;

const SCRIPT: [&str; 16] = [
    "1s d t 60",
    "2s e t 81",
    "4s d t 85",
    "3s@4s d t 82",
    "6s d t 95",
    "8s d shared limit 80",
    "9s e t 40",
    "12s d t 96",
    "18s d t 97",
    "20s location limit 99",
    "25s d t 60",
    "26s clock",
    "40s d t 61",
    "41s tenant limit 10",
    "90s clock",
    "95s d t 100",
];

pub fn run(world: &mut World, lines: &[&str]) -> Vec<schema::Transition> {
    lines.iter().flat_map(|line| world.apply(line).1).collect()
}

#[test]
fn from_every_snapshot_it_goes_on_as_if_it_had_not_stopped() {
    let whole = run(&mut World::new(&[PROFILE]), &SCRIPT);
    assert!(whole.len() > 8, "the script does too little: {whole:#?}");
    assert_same_from_every_cut(PROFILE, &SCRIPT, &whole);
}

/// That an engine restored behind any line of a script goes on as the one that
/// ran through, which gave `whole`.
pub fn assert_same_from_every_cut(profile: &str, script: &[&str], whole: &[schema::Transition]) {
    let mut straight = World::new(&[profile]);
    run(&mut straight, script);
    for cut in 0..=script.len() {
        let mut world = World::new(&[profile]);
        let mut seen = run(&mut world, &script[..cut]);
        let bytes = world.engine.snapshot();
        world.engine = Engine::restore(EngineOptions::default(), &bytes).unwrap();
        assert_eq!(world.engine.snapshot(), bytes, "cut at {cut}");
        seen.extend(run(&mut world, &script[cut..]));
        assert_eq!(seen, whole, "cut at {cut}");
        assert_eq!(world.engine.snapshot(), straight.engine.snapshot(), "cut at {cut}");
    }
}

#[test]
fn damage_is_told() {
    let mut world = World::new(&[PROFILE]);
    run(&mut world, &SCRIPT[..4]);
    let bytes = world.engine.snapshot();
    let restore = |bytes: &[u8]| Engine::restore(EngineOptions::default(), bytes).map(|_| ());
    assert!(matches!(restore(&[]), Err(RestoreError::Short)));
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        let error = restore(&damaged).unwrap_err();
        let told = matches!(error, RestoreError::Checksum | RestoreError::Version { .. });
        assert!(told, "byte {place}: {error}");
    }
    for cut in 0..bytes.len() {
        assert!(restore(&bytes[..cut]).is_err());
    }
}

/// A script of which snapshots were kept, and what came behind it.
const KEPT: [&str; 9] = [
    "1s d t 60",
    "2s e t 81",
    "6s d t 95",
    "8s d shared limit 80",
    "9s e t 40",
    "12s d t 96",
    "18s d t 97",
    "20s location limit 99",
    "21s@22s d t 98",
];
const BEHIND: [&str; 8] = [
    "24s e t 60",
    "26s d t 99",
    "30s d t 60",
    "31s d t 62",
    "33s e t 30",
    "40s d t 95",
    "41s tenant limit 10",
    "90s clock",
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// What was told, without what differs from world to world.
fn told(world: &mut World) -> Vec<String> {
    let told = run(world, &BEHIND).into_iter();
    told.map(|t| format!("{} {} {:?} {:?}", t.at.0, t.rule.key, t.severity, t.kind)).collect()
}

#[test]
fn snapshots_of_older_versions_go_on() {
    let mut straight = World::new(&[PROFILE]);
    run(&mut straight, &KEPT);
    let expected = told(&mut straight);
    assert!(expected.len() > 6, "{expected:#?}");
    let kept = [
        include_str!("snapshot-1.hex"),
        include_str!("snapshot-2.hex"),
        include_str!("snapshot-3.hex"),
        include_str!("snapshot-4.hex"),
        include_str!("snapshot-5.hex"),
    ];
    for (version, kept) in (1..).zip(kept) {
        let mut world = World::new(&[PROFILE]);
        run(&mut world, &KEPT);
        let kept = bytes(kept);
        assert_eq!(kept[0], version);
        world.engine = Engine::restore(EngineOptions::default(), &kept).unwrap();
        assert_eq!(told(&mut world), expected, "version {version}");
    }
}

#[test]
fn the_bytes_of_version_6_are_stable() {
    let mut world = World::new(&[PROFILE]);
    run(&mut world, &KEPT[..8]);
    run(&mut world, &["21s place \"Hall 3\" Europe/Amsterdam group Coast group Cold"]);
    run(&mut world, &KEPT[8..]);
    tenant_alarms::raise_and_shelve(&mut world.engine);
    let hex: String = world.engine.snapshot().iter().map(|byte| format!("{byte:02x}")).collect();
    let kept: String = include_str!("snapshot-6.hex").split_whitespace().collect();
    assert_eq!(hex, kept, "what is stored must still be read: the version changes with the bytes");
}
