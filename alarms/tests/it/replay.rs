//! Killed and opened again at random points, the workers leave the same events
//! as a run that was never killed: none missing, none doubled, none with
//! another id or time.

use alarms::AlarmOptions;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::alarms::AlarmQuery;

use crate::node::{FAR_MS, Node, Place};

const PROFILE: &str = r#"
    name = "Machines"
    [[rules]]
    key = "hot"
    description = "${device}: ${temperature}"
    off_delay = "3s"
    raise.critical = { for = "5s", when = { key = "temperature", operator = ">", value = 90 } }
    raise.major = { when = { key = "temperature", operator = ">", value = 80 } }
    clear = { when = { key = "temperature", operator = "<", value = 70 } }
    [[rules]]
    key = "silent"
    raise.warning = { key = "temperature", no_reading_for = "20s" }
    clear = { when = { key = "temperature", of = "age", operator = "<", value = "1s" } }
"#;

const RECORDS: usize = 300;
const DEVICES: usize = 8;

fn options(seed: u64) -> AlarmOptions {
    AlarmOptions {
        threads: 1,
        max_batch_records: 1 + usize::try_from(seed % 5).unwrap(),
        commit_interval_ms: 5,
        idle_ms: 5,
        snapshot_rows: 40,
        snapshot_interval_ms: 20,
        ..AlarmOptions::default()
    }
}

/// About one reading in fifty begins or ends an excursion.
fn history(seed: u64) -> Vec<Vec<(usize, i64, f64)>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut hot = [false; DEVICES];
    let mut at = FAR_MS;
    (0..RECORDS)
        .map(|_| {
            at += rng.random_range(200..1_500);
            let readings = rng.random_range(1..6);
            (0..readings)
                .map(|offset| {
                    let device = rng.random_range(0..DEVICES);
                    if rng.random_bool(0.1) {
                        hot[device] = !hot[device];
                    }
                    let value = rng.random_range(0..15);
                    let value = f64::from(value) + if hot[device] { 80.0 } else { 60.0 };
                    (device, at + offset, value)
                })
                .collect()
        })
        .collect()
}

type Told = Vec<(String, String, i64, String)>;

async fn told(node: &Node) -> Told {
    let events = node.events().await.into_iter();
    let told =
        events.map(|event| (event.id.to_string(), event.kind, event.at.0, event.body.to_string()));
    let mut told: Told = told.collect();
    told.sort();
    told
}

async fn begin(dir: &std::path::Path, options: &AlarmOptions) -> (Node, Place) {
    let node = Node::open(dir, options);
    let place = node.place(DEVICES).await;
    let commands = node.workers.commands();
    commands.save_profile(place.tenant, None, None, PROFILE.to_owned(), "eva").await.unwrap();
    (node, place)
}

async fn straight(seed: u64) -> (Told, u64) {
    let dir = tempfile::tempdir().unwrap();
    let (node, place) = begin(dir.path(), &options(seed)).await;
    for readings in history(seed) {
        node.append(&place, place.record(&readings)).await;
    }
    node.settle().await;
    let told = told(&node).await;
    let updates = updates(&node).await;
    node.stop().await;
    (told, updates)
}

async fn updates(node: &Node) -> u64 {
    let query = AlarmQuery { limit: 1_000, ..AlarmQuery::default() };
    let alarms = node.store.alarms().alarms(query).await.unwrap();
    alarms.iter().map(|alarm| alarm.updates).sum()
}

async fn killed(seed: u64) -> (Told, u64) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xdead);
    let dir = tempfile::tempdir().unwrap();
    let (mut node, place) = begin(dir.path(), &options(seed)).await;
    for readings in history(seed) {
        node.append(&place, place.record(&readings)).await;
        if rng.random_bool(0.06) {
            // Somewhere between the last record and the one before: at once, or
            // when the worker has come a little further.
            for _ in 0..rng.random_range(0..20) {
                tokio::task::yield_now().await;
            }
            node.kill().await;
            node = Node::open(dir.path(), &options(seed));
        }
    }
    node.settle().await;
    let told = told(&node).await;
    let updates = updates(&node).await;
    node.stop().await;
    (told, updates)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_points_it_tells_what_a_straight_run_tells() {
    for seed in 0..4 {
        let (expected, expected_updates) = straight(seed).await;
        assert!(expected.len() > 50, "seed {seed}: too little happens: {}", expected.len());
        let (seen, seen_updates) = killed(seed).await;
        assert_eq!(seen, expected, "seed {seed}");
        assert_eq!(seen_updates, expected_updates, "seed {seed}");
    }
}
