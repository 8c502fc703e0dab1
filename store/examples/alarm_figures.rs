//! How long an operator waits: lists, counts, events and quality over many
//! alarms. Prints a table.
//!
//! `cargo run -p store --example alarm_figures [ALARMS]`, 100,000 by default:
//! all open, at 1,000 locations, raised over 30 days, each with three events.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::Registry;
use schema::{
    AlarmId, Cause, DeviceId, LocationId, Originator, PartitionId, Position, ProfileId, RuleId,
    Severity, TenantId, TimestampMs, Transition, TransitionId, TransitionKind,
};
use store::AlarmStore;
use store::alarms::quality::QualityQuery;
use store::alarms::{AlarmOrder, AlarmQuery, Commit, EventQuery};

const DAY_MS: i64 = 24 * 3_600_000;
const TENANT: TenantId = TenantId(1);

fn transition(number: u64, step: u128, kind: TransitionKind, span: i64, all: u64) -> Transition {
    let at =
        TimestampMs(span / i64::try_from(all).unwrap_or(1) * i64::try_from(number).unwrap_or(0));
    Transition {
        id: TransitionId((u128::from(number) << 8) + step + 1),
        alarm: AlarmId(u128::from(number) + 1),
        tenant: TENANT,
        location: Some(LocationId(1 + number % 1_000)),
        originator: Originator::Device(DeviceId(1 + number)),
        rule: RuleId {
            profile: ProfileId(1 + number % 7),
            key: format!("rule{}", number % 50).into(),
        },
        kind,
        at,
        received_at: at,
        severity: Severity::WORST_FIRST[usize::try_from(number % 5).unwrap_or(0)],
        cause: Cause::Deadline,
        by: None,
        provenance: None,
        description: format!("Press {number} is at 95 degrees"),
        values: vec![("temperature".into(), serde_json::json!(95.5))],
    }
}

async fn fill(store: &AlarmStore, alarms: u64) -> Result<(), Box<dyn std::error::Error>> {
    let claim = store.claim(PartitionId(0)).await?;
    let span = 30 * DAY_MS;
    for first in (0..alarms).step_by(1_000) {
        let numbers = first..(first + 1_000).min(alarms);
        let transitions = numbers
            .flat_map(|number| {
                let text = format!("seen {number}");
                [
                    transition(number, 0, TransitionKind::Raised, span, alarms),
                    transition(number, 1, TransitionKind::Commented { text }, span, alarms),
                    transition(number, 2, TransitionKind::Assigned { to: None }, span, alarms),
                ]
            })
            .collect();
        let (expected, next) = (Position(first), Position(first + 1_000));
        let (epoch, partition) = (claim.epoch, PartitionId(0));
        let (ticks, met, snapshot) = (Vec::new(), Vec::new(), None);
        let at = TimestampMs(0);
        let commit = Commit {
            partition,
            epoch,
            expected,
            next,
            transitions,
            notices: Vec::new(),
            ticks,
            met,
            snapshot,
            at,
        };
        store.commit(Arc::new(commit)).await?;
    }
    Ok(())
}

/// The median of some tries, after one that warms the cache.
async fn timed<T, E: std::fmt::Display>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) {
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..11 {
        let started = Instant::now();
        if let Err(error) = ask().await {
            println!("{what}: {error}");
            return;
        }
        took.push(started.elapsed());
    }
    took.remove(0);
    took.sort_unstable();
    println!("{what:<44} {:>9.2} ms", took[5].as_secs_f64() * 1_000.0);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let alarms: u64 = std::env::args().nth(1).map_or(Ok(100_000), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let store = AlarmStore::open(dir.path(), &Registry::new())?;
    let started = Instant::now();
    fill(&store, alarms).await?;
    println!("{alarms} alarms written in {:.1} s", started.elapsed().as_secs_f64());
    let page = || AlarmQuery { tenant: Some(TENANT), limit: 100, ..AlarmQuery::default() };
    let list = async |query: AlarmQuery| store.alarms(query).await.map(|rows| rows.len());
    timed("counts of all open alarms", async || store.open_alarms(Some(TENANT), Vec::new()).await)
        .await;
    timed("page, newest", async || list(page()).await).await;
    let active = || AlarmQuery { active: Some(true), ..page() };
    timed("page, active, the worst first", async || {
        list(AlarmQuery { order: AlarmOrder::Severity, ..active() }).await
    })
    .await;
    timed("page, active and unacknowledged, critical", async || {
        let severities = vec![Severity::Critical];
        list(AlarmQuery { acknowledged: Some(false), severities, ..active() }).await
    })
    .await;
    timed("page of one location", async || {
        list(AlarmQuery { locations: vec![LocationId(500)], ..page() }).await
    })
    .await;
    timed("page, a text that one alarm has", async || {
        list(AlarmQuery { text: Some("press 7 is".to_owned()), ..page() }).await
    })
    .await;
    timed("total of all", async || store.count_alarms(page()).await).await;
    timed("10,000 targets of a deed", async || store.alarm_targets(page(), 10_000).await).await;
    let events = || EventQuery { tenant: Some(TENANT), limit: 100, ..EventQuery::default() };
    timed("events, newest", async || store.events(events()).await).await;
    timed("events of two kinds, one of them absent", async || {
        let kinds = vec!["router_changed".to_owned(), "alarm_commented".to_owned()];
        store.events(EventQuery { kinds, ..events() }).await
    })
    .await;
    timed("events of the first hour, newest first", async || {
        let to = Some(TimestampMs(DAY_MS / 24));
        store.events(EventQuery { to, ..events() }).await
    })
    .await;
    timed("quality of 30 days", async || {
        let (from, to) = (TimestampMs(0), TimestampMs(30 * DAY_MS));
        let query = QualityQuery { tenant: Some(TENANT), location: None, from, to, now: to };
        store.quality(query).await
    })
    .await;
    store.close().await;
    Ok(())
}
