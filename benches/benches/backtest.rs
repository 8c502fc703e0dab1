//! Readings a second of CPU time through a backtest, from files to alarms.
//!
//! `cargo bench -p benches --bench backtest`. It writes readings of 200 devices
//! at 20 locations, five keys each in one message every five seconds, into an
//! embedded history, brings them into files, and runs a profile of 20 rules over
//! all of them. Only readings that were fed to the core are counted. The CPU is
//! that of the whole process while the backtest runs.

use std::fmt::Write as _;
use std::time::Instant;

use alarms::backtest::{BacktestOptions, BacktestQuery, Control, DRAFT, backtest};
use schema::{
    Credentials, DeviceId, DocumentBody, Location, LocationId, Origin, PartitionId, Position,
    RECORD_VERSION, RecordBuilder, RecordKind, RecordRows, RouterId, Tenant, TenantId,
    TenantSettings, TimestampMs, Value, partition_of,
};
use store::{HistoryOptions, NewRouter, Store, StoreOptions};

const READINGS: i64 = 20_000_000;
const LOCATIONS: i64 = 20;
const DEVICES: i64 = 10;
const KEYS: [&str; 5] = ["temperature", "pressure", "flow", "current", "vibration"];
const STEP_MS: i64 = 5_000;
const START_MS: i64 = 1_764_547_200_000;
const PARTITIONS: u16 = 4;
/// Times of one record of a location.
const STEPS_A_RECORD: i64 = 80;

/// How often each measurement is made; the best counts.
const ROUNDS: u32 = 3;

struct Site {
    tenant: TenantId,
    locations: Vec<(LocationId, RouterId, Vec<DeviceId>)>,
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let options = StoreOptions {
        dir: dir.path().to_owned(),
        partitions: PARTITIONS,
        history: HistoryOptions::default(),
    };
    let store = Store::open_embedded(options, &prometheus::Registry::new()).expect("a new store");
    let site = runtime.block_on(site(&store));
    let steps = READINGS / (LOCATIONS * DEVICES * KEYS.len() as i64);
    let started = Instant::now();
    runtime.block_on(write(&store, &site, steps));
    runtime.block_on(store.history().flush()).expect("a disk with room");
    runtime.block_on(store.history().compact()).expect("whole files");
    line(&format!("{READINGS} readings written in {:.0} s", started.elapsed().as_secs_f64()));
    for (name, profile) in [("limits only", limits()), ("20 rules of all kinds", profile())] {
        for threads in [1, 2] {
            let best = (0..ROUNDS)
                .map(|_| runtime.block_on(run(&store, &site, &profile, steps, threads)))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((rate, wall_rate, readings, alarms)) = best {
                line(&format!(
                    "{name}, {threads} threads: {:.2} M readings a CPU second, {:.2} M/s by the \
                     clock; {readings} readings, {alarms} alarms",
                    rate / 1e6,
                    wall_rate / 1e6,
                ));
            }
        }
    }
    runtime.block_on(store.close());
}

async fn run(
    store: &Store,
    site: &Site,
    profile: &str,
    steps: i64,
    threads: usize,
) -> (f64, f64, u64, u64) {
    let query = BacktestQuery {
        tenant: site.tenant,
        profiles: vec![(DRAFT, alarms::parse_toml(profile).expect("a right profile"))],
        from: TimestampMs(START_MS),
        to: TimestampMs(START_MS + steps * STEP_MS),
        locations: None,
        warm_up_ms: None,
        compare_with: None,
    };
    let options = BacktestOptions { threads, in_background: false, ..Default::default() };
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let outcome = backtest(store, query, options, &Control::default()).await.expect("a result");
    let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    assert_eq!(outcome.readings, READINGS.unsigned_abs(), "all are read, each once");
    let readings = outcome.readings as f64;
    (readings / cpu, readings / wall, outcome.readings, outcome.totals.alarms)
}

async fn site(store: &Store) -> Site {
    let directory = store.directory();
    let create = async |body| directory.create(body).await.expect("a new document").id;
    let tenant = Tenant { name: "Bench".to_owned(), settings: TenantSettings::default() };
    let tenant = TenantId(create(DocumentBody::Tenant(tenant)).await);
    let mut locations = Vec::new();
    for number in 0..LOCATIONS {
        let name = format!("Hall {number}");
        let location = Location { tenant, name, time_zone: "UTC".to_owned(), groups: Vec::new() };
        let location = LocationId(create(DocumentBody::Location(location)).await);
        let credentials = Credentials::AccessToken { hash: format!("{number:064}") };
        let name = format!("router-{number}");
        let router = NewRouter {
            location,
            name,
            credentials,
            enabled: true,
            cloud_host: None,
            send_interval_s: None,
        };
        let made = directory.create_routers(vec![router]).await.expect("a new router");
        let router = RouterId(made[0].id);
        let mut devices = Vec::new();
        for device in 0..DEVICES {
            let name = format!("machine-{number}-{device}");
            devices.push(directory.ensure_device(router, &name, None).await.expect("a device"));
        }
        locations.push((location, router, devices));
    }
    Site { tenant, locations }
}

async fn write(store: &Store, site: &Site, steps: i64) {
    let mut writers = Vec::new();
    for partition in (0..PARTITIONS).map(PartitionId) {
        writers.push(store.history().writer(partition).await.expect("the only writer"));
    }
    let mut next = vec![0u64; writers.len()];
    for first in (0..steps).step_by(usize::try_from(STEPS_A_RECORD).expect("a small number")) {
        for (location, router, devices) in &site.locations {
            let mut builder = RecordBuilder::new(RecordKind::Readings);
            for step in first..(first + STEPS_A_RECORD).min(steps) {
                for (number, device) in (0..).zip(devices) {
                    let origin = Origin { tenant: site.tenant, router: *router, device: *device };
                    let at = TimestampMs(START_MS + step * STEP_MS);
                    for (key, name) in (0..).zip(KEYS) {
                        let key_place = builder.key(name).expect("five keys");
                        let value = Some(Value::Number(value(step, number, key)));
                        builder.push(origin, key_place, at, at, value).expect("a small record");
                    }
                }
            }
            let rows = builder.finish();
            let rows = RecordRows::decode(RECORD_VERSION, &rows.payload).expect("our own record");
            let partition = usize::from(partition_of(site.tenant, *location, PARTITIONS).0);
            writers[partition].write(Position(next[partition]), &rows).expect("records in order");
            next[partition] += 1;
        }
    }
}

/// A slow wave with noise, and now and then a stretch that is too high.
fn value(step: i64, device: i64, key: i64) -> f64 {
    let wave = ((step + 97 * device + 31 * key) as f64 / 700.0).sin() * 10.0;
    let mut noise = (step * 8_191 + device * 131 + key).unsigned_abs();
    noise = (noise ^ (noise >> 13)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let high = (step + 613 * device + 211 * key) % 2_000 < 12;
    let value = 50.0 + wave + (noise >> 40) as f64 / 4_194_304.0 + if high { 45.0 } else { 0.0 };
    (value * 100.0).round() / 100.0
}

/// Four limits a key.
fn limits() -> String {
    let mut text = "name = \"limits\"\n".to_owned();
    for key in KEYS {
        for limit in [80, 85, 90, 95] {
            rule(&mut text, key, &format!("above_{limit}"), &above(key, limit), key);
        }
    }
    text
}

/// A limit, a duration, a repeating condition or a delta, and an inactivity for
/// each key.
fn profile() -> String {
    let mut text = "name = \"all\"\n".to_owned();
    for (place, key) in KEYS.into_iter().enumerate() {
        rule(&mut text, key, "high", &above(key, 90), key);
        let long = format!("for = \"45s\", {}", above(key, 85));
        rule(&mut text, key, "long", &long, key);
        let third = match place % 2 {
            0 => format!("times = 5, within = \"1m\", {}", above(key, 80)),
            _ => format!(
                "when = {{ key = \"{key}\", of = \"delta\", window = \"1m\", operator = \">\", value = 60 }}"
            ),
        };
        rule(&mut text, key, "third", &third, key);
        let silent = format!("key = \"{key}\", no_reading_for = \"10m\"");
        rule(&mut text, key, "silent", &silent, key);
    }
    text
}

fn above(key: &str, limit: i32) -> String {
    format!("when = {{ key = \"{key}\", operator = \">\", value = {limit} }}")
}

fn rule(text: &mut String, key: &str, name: &str, raise: &str, clear_key: &str) {
    let clear = match name {
        "silent" => format!("when = {{ key = \"{clear_key}\", operator = \">\", value = 0 }}"),
        _ => format!("when = {{ key = \"{clear_key}\", operator = \"<\", value = 75 }}"),
    };
    writeln!(
        text,
        "[[rules]]\nkey = \"{key}_{name}\"\nraise.major = {{ {raise} }}\nclear = {{ {clear} }}"
    )
    .expect("text grows");
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[allow(clippy::print_stdout, reason = "this is what the bench is for")]
fn line(text: &str) {
    println!("{text}");
}
