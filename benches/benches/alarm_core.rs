//! Readings a second of CPU time through the alarm core, for named rule mixes.
//!
//! `cargo bench -p benches --bench alarm_core`. Each mix gives every device 100
//! rules over 50 keys, so that each key is mentioned by two; what is printed is
//! the median of many short stretches, because the machine may have other work.
//! `-- PART` runs the mixes with that in their names, `many_devices` (a small
//! and a large fleet) or `memory` (what a series takes, and a snapshot costs).

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use alarm_core::{
    DeviceDescription, DeviceIndex, Engine, EngineOptions, KeyIndex, Readings, parse_toml,
};
use schema::{
    Cause, Command, CommandBody, DeviceId, LocationId, Position, ProfileId, TenantId, TimestampMs,
    Transition, Value,
};

const KEYS: usize = 50;
const DEVICES: usize = 1_000;
const START_MS: i64 = 1_767_571_200_000;

/// How long a mix is measured, and one stretch of it.
const MEASURED: Duration = Duration::from_secs(3);
const STRETCH: Duration = Duration::from_millis(100);

/// (name, two raise conditions for a key, share of readings that are high).
type Mix = (&'static str, [&'static str; 2], u64);

/// Conditions are written with KEY for the key; values are 20 to 30, and 90
/// where they are high.
const MIXES: [Mix; 6] = [
    (
        "simple limits, nothing raised",
        [
            r#"when = { key = "KEY", operator = ">", value = 80 }"#,
            r#"when = { key = "KEY", operator = "<", value = 5 }"#,
        ],
        0,
    ),
    (
        "durations, nothing pending",
        [
            r#"for = "5m", when = { key = "KEY", operator = ">", value = 80 }"#,
            r#"for = "10m", when = { key = "KEY", operator = "<", value = 5 }"#,
        ],
        0,
    ),
    (
        "durations, always pending",
        [
            r#"for = "1000d", when = { key = "KEY", operator = ">", value = 10 }"#,
            r#"for = "1000d", when = { key = "KEY", operator = "<", value = 95 }"#,
        ],
        0,
    ),
    (
        "rate and delta over a window",
        [
            r#"when = { key = "KEY", of = "rate", operator = ">", value = 1000 }"#,
            r#"when = { key = "KEY", of = "delta", window = "10m", operator = ">", value = 500 }"#,
        ],
        0,
    ),
    (
        "trees, lists and schedules",
        [
            r#"when = { any = [{ key = "KEY", operator = "in", value = [1, 2, 3] }, { all = [{ key = "KEY", operator = ">", value = 80 }, { key = "KEY", operator = "<", value = 85 }] }] }"#,
            r#"schedule = { days = ["mon"], from = "08:00", to = "17:00" }, when = { key = "KEY", operator = ">", value = 80 }"#,
        ],
        0,
    ),
    (
        "simple limits, 2% of readings raise or clear",
        [
            r#"when = { key = "KEY", operator = ">", value = 80 }"#,
            r#"when = { key = "KEY", operator = "<", value = 5 }"#,
        ],
        100,
    ),
];

fn engine(profile: &str, devices: usize) -> (Engine, Vec<DeviceIndex>) {
    let mut engine = Engine::new(EngineOptions::default());
    let body = parse_toml(profile).unwrap_or_else(|report| panic!("{report:?}"));
    let body =
        CommandBody::ProfileSaved { profile: ProfileId(1), version: 1, body: Arc::new(body) };
    let command = Command { at: TimestampMs(START_MS), tenant: TenantId(1), body };
    let cause = Cause::Record { position: Position(0), row: 0 };
    engine.command(&command, cause, &mut Vec::new()).expect("the profile of a bench is right");
    let met = (0..devices).map(|device| {
        engine.meet(&DeviceDescription {
            device: DeviceId(device as u64 + 1),
            name: format!("machine-{device}"),
            device_type: None,
            tenant: TenantId(1),
            location: LocationId(device as u64 / 20),
            location_name: "Hall".to_owned(),
            time_zone: "Europe/Amsterdam".to_owned(),
            version: 1,
            location_version: 1,
            location_groups: Vec::new(),
        })
    });
    let met = met.collect();
    (engine, met)
}

fn profile(conditions: &[&str; 2]) -> String {
    let mut text = "name = \"bench\"\n".to_owned();
    for key in 0..KEYS {
        for (index, condition) in conditions.iter().enumerate() {
            let condition = condition.replace("KEY", &format!("key{key}"));
            writeln!(
                text,
                "[[rules]]\nkey = \"r{key}_{index}\"\nraise.major = {{ {condition} }}\n\
                 clear = {{ when = {{ key = \"key{key}\", operator = \"between\", value = [20, 70] }} }}"
            )
            .expect("text grows");
        }
    }
    text
}

fn measure((name, conditions, high_each): &Mix) {
    let (mut engine, devices) = engine(&profile(conditions), DEVICES);
    let keys: Vec<KeyIndex> = (0..KEYS).map(|key| engine.key(&format!("key{key}"))).collect();
    let mut out: Vec<Transition> = Vec::new();
    let (mut round, mut readings, mut transitions) = (0i64, 0u64, 0u64);
    let mut number = 0u64;
    let mut stretches = Stretches::default();
    while !stretches.are_enough() {
        let started = cpu();
        for &device in &devices {
            let at = TimestampMs(START_MS + round * 1_000);
            for &key in &keys {
                number += 1;
                // High for one reading in a hundred: it raises, the next clears.
                let high = *high_each > 0
                    && (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40)
                        .is_multiple_of(*high_each);
                let value = if high { 90.0 } else { 20.0 + (number % 97) as f64 * 0.1 };
                let cause = Cause::Record { position: Position(number), row: 0 };
                let values = [(key, Value::Number(value))];
                let group = Readings { device, at, received_at: at, cause, values: &values };
                engine.readings(&group, &mut out);
            }
            transitions += out.len() as u64;
            black_box(&out);
            out.clear();
        }
        readings += (DEVICES * KEYS) as u64;
        round += 1;
        // The first rounds fill the cells.
        if round > 2 {
            stretches.add((DEVICES * KEYS) as u64, cpu() - started);
        }
    }
    #[allow(clippy::print_stdout, reason = "this is what the bench is for")]
    {
        let rate = stretches.rate();
        let share = transitions as f64 / readings as f64 * 100.0;
        println!("{name:48} {rate:>12.0} readings/s {share:>7.2}% transitions");
    }
}

/// Rates of short stretches of CPU time.
#[derive(Default)]
struct Stretches {
    rates: Vec<f64>,
    current: (u64, Duration),
    all: Duration,
}

impl Stretches {
    fn add(&mut self, readings: u64, took: Duration) {
        self.current = (self.current.0 + readings, self.current.1 + took);
        self.all += took;
        if self.current.1 >= STRETCH {
            self.rates.push(self.current.0 as f64 / self.current.1.as_secs_f64());
            self.current = (0, Duration::ZERO);
        }
    }

    fn are_enough(&self) -> bool {
        self.all >= MEASURED && !self.rates.is_empty()
    }

    /// The median.
    fn rate(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }
}

/// CPU time of this thread, from the kernel: the machine may have other work.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split(' ').next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(ns.expect("Linux counts the CPU time of a thread"))
}

/// Resident memory of this process, from the kernel.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4_096
}

/// What a series takes, and what a snapshot of all costs. One device in
/// `pending_each` has a duration that is pending on each of its first
/// `pending_keys` keys. The engine is handed back, so that the memory of the
/// next one is its own.
fn memory(devices: usize, pending_each: usize, pending_keys: usize) -> (Engine, Vec<u8>) {
    let mut text = "name = \"bench\"\n".to_owned();
    for key in 0..10 {
        for (index, limit) in [80, 90].iter().enumerate() {
            writeln!(
                text,
                "[[rules]]\nkey = \"r{key}_{index}\"\n\
                 raise.major = {{ for = \"1000d\", when = {{ key = \"key{key}\", operator = \">\", value = {limit} }} }}\n\
                 clear = {{ when = {{ key = \"key{key}\", operator = \"<\", value = 70 }} }}"
            )
            .expect("text grows");
        }
    }
    let before = resident_bytes();
    let (mut engine, met) = engine(&text, devices);
    let keys: Vec<KeyIndex> = (0..10).map(|key| engine.key(&format!("key{key}"))).collect();
    let mut out = Vec::new();
    for (number, &device) in met.iter().enumerate() {
        let at = TimestampMs(START_MS);
        let cause = Cause::Record { position: Position(number as u64), row: 0 };
        for (place, &key) in keys.iter().enumerate() {
            let pending = number % pending_each == 0 && place < pending_keys;
            let values = [(key, Value::Number(if pending { 85.0 } else { 25.0 }))];
            let group = Readings { device, at, received_at: at, cause, values: &values };
            engine.readings(&group, &mut out);
        }
    }
    let used = resident_bytes().saturating_sub(before);
    let (devices, series) = engine.sizes();
    let pending = devices.div_ceil(pending_each) * pending_keys;
    let started = cpu();
    let snapshot = engine.snapshot();
    let took = cpu() - started;
    #[allow(clippy::print_stdout, reason = "this is what the bench is for")]
    {
        let each = used as f64 / series as f64;
        println!(
            "{devices} devices, {series} series, {pending} pending: {each:.1} bytes a series, names and ids included"
        );
        let size = snapshot.len() as f64 / series as f64;
        println!(
            "its snapshot: {:.1} MB, {size:.1} bytes a series, made in {:.3} s of CPU",
            snapshot.len() as f64 / 1e6,
            took.as_secs_f64(),
        );
    }
    (engine, snapshot)
}

fn restore((engine, snapshot): &(Engine, Vec<u8>)) {
    let started = cpu();
    let restored = Engine::restore(EngineOptions::default(), snapshot);
    let took = (cpu() - started).as_secs_f64();
    let restored = restored.expect("our own snapshot");
    assert_eq!(restored.sizes(), engine.sizes());
    #[allow(clippy::print_stdout, reason = "this is what the bench is for")]
    {
        println!("{} series taken back in {took:.2} s of CPU", engine.sizes().1);
    }
}

/// A reading of one key of each device in turn, which no rule mentions: the cost
/// of finding the device and its cell again in a fleet of that size.
fn many_devices(count: usize) -> f64 {
    let (mut engine, devices) = engine("name = \"bench\"\nrules = []", count);
    let key = engine.key("temperature");
    let mut out: Vec<Transition> = Vec::new();
    let (mut round, mut stretches) = (0i64, Stretches::default());
    while !stretches.are_enough() {
        let started = cpu();
        // Small fleets go round many times between two looks at the clock.
        for _ in 0..100_000 / count {
            round += 1;
            let at = TimestampMs(START_MS + round * 1_000);
            let cause = Cause::Record { position: Position(round.unsigned_abs()), row: 0 };
            // As the worker does it: a block is brought near, then evaluated.
            for block in devices.chunks(64) {
                for &device in block {
                    engine.bring_near(device, key);
                }
                for &device in block {
                    let values = [(key, Value::Number((round % 97) as f64))];
                    let group = Readings { device, at, received_at: at, cause, values: &values };
                    engine.readings(&group, &mut out);
                }
            }
            black_box(&out);
        }
        stretches.add(100_000, cpu() - started);
    }
    stretches.rate()
}

fn fleets() {
    let (few, many) = (many_devices(100), many_devices(100_000));
    #[allow(clippy::print_stdout, reason = "this is what the bench is for")]
    {
        println!("{:48} {few:>12.0} readings/s", "100 devices, one key, no rule");
        println!(
            "{:48} {many:>12.0} readings/s {:>7.2} times the cost",
            "100000 devices, one key, no rule",
            few / many
        );
    }
}

/// All parts, or those whose name contains the first word behind `--`.
fn main() {
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with("--"));
    let wanted = |name: &str| wanted.as_ref().is_none_or(|part| name.contains(part.as_str()));
    // First, because memory that was used before would be used again.
    if wanted("memory") {
        let cases = [(100_000, 1_000, 1), (100_000, 1, 10), (1_000_000, 10, 1)];
        let kept = cases.map(|(devices, each, keys)| memory(devices, each, keys));
        kept.iter().for_each(restore);
    }
    MIXES.iter().filter(|(name, ..)| wanted(name)).for_each(measure);
    if wanted("many_devices") {
        fleets();
    }
}
