//! A backtest beside the worker that raised the alarms: the same readings give
//! the same alarms, and where they can't, it is known why.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use alarms::backtest::{
    BacktestError, BacktestOptions, BacktestQuery, Backtests, Control, DRAFT, JobStatus, KEPT_FOR,
    MAX_KEPT_PER_TENANT, MAX_RUNNING_PER_TENANT, Outcome, Render, backtest,
};
use alarms::{AlarmOptions, parse_toml};
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use schema::{
    DocumentBody, Origin, Position, ProfileId, RECORD_VERSION, Record, RecordBuilder, RecordKind,
    RecordRows, TimestampMs, Value,
};
use store::history::HistoryWriter;

use crate::node::{FAR_MS, Node, Place};

const PROFILE: &str = r#"
    name = "Machines"
    [[rules]]
    key = "hot"
    description = "${device} is at ${temperature}"
    raise.critical = { when = { key = "temperature", operator = ">", value = 95 } }
    raise.major = { when = { key = "temperature", operator = ">", value = 85 } }
    clear = { when = { key = "temperature", operator = "<", value = 80 } }
    [[rules]]
    key = "long"
    raise.minor = { for = "3m", when = { key = "temperature", operator = ">", value = 60 } }
    clear = { for = "1m", when = { key = "temperature", operator = "<=", value = 60 } }
    [[rules]]
    key = "often"
    raise.warning = { times = 3, within = "5m", when = { key = "pressure", operator = ">", value = 5 } }
    clear = { when = { key = "pressure", operator = "<", value = 2 } }
    [[rules]]
    key = "silent"
    raise.major = { key = "pressure", no_reading_for = "4m" }
    clear = { when = { key = "pressure", operator = ">=", value = 0 } }
    [[rules]]
    key = "both"
    raise.major = { when = { all = [{ key = "temperature", operator = ">", value = 70 }, { key = "machine-0/pressure", operator = ">", value = 6 }] } }
    clear = { when = { key = "temperature", operator = "<", value = 65 } }
    [[rules]]
    key = "unsteady"
    flapping = { low = 20, high = 40 }
    raise.warning = { when = { key = "pressure", operator = ">", value = 5 } }
    clear = { when = { key = "pressure", operator = "<=", value = 5 } }
"#;

/// (device, time after the start, temperature, pressure); one message each.
type Message = (usize, i64, Option<f64>, Option<f64>);

fn record(place: &Place, messages: &[Message]) -> Record {
    let mut builder = RecordBuilder::new(RecordKind::Readings);
    for &(device, at, temperature, pressure) in messages {
        let device = place.devices[device];
        let origin = Origin { tenant: place.tenant, router: place.router, device };
        let at = TimestampMs(FAR_MS + at);
        for (name, value) in [("temperature", temperature), ("pressure", pressure)] {
            let Some(value) = value else { continue };
            let key = builder.key(name).unwrap();
            builder.push(origin, key, at, at, Some(Value::Number(value))).unwrap();
        }
    }
    builder.finish()
}

/// Readings as they come in, to the worker and to the history.
struct Feed<'a> {
    node: &'a Node,
    place: &'a Place,
    writer: HistoryWriter,
    next: u64,
}

impl<'a> Feed<'a> {
    async fn new(node: &'a Node, place: &'a Place) -> Self {
        let writer = node.store.history().writer(place.partition()).await.unwrap();
        Self { node, place, writer, next: 0 }
    }

    async fn send(&mut self, messages: &[Message]) {
        let record = record(self.place, messages);
        let rows = RecordRows::decode(RECORD_VERSION, &record.payload).unwrap();
        self.writer.write(Position(self.next), &rows).unwrap();
        self.next += 1;
        self.node.append(self.place, record).await;
    }
}

/// Hours of machines that are mostly well, in order of time, and at last a
/// reading of each long after all deadlines.
fn hours(random: &mut StdRng, devices: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut level = vec![(50.0f64, 3.0f64); devices];
    for minute in 0..400i64 {
        for (device, (temperature, pressure)) in level.iter_mut().enumerate() {
            *temperature = (*temperature + random.random_range(-9.0..9.5)).clamp(20.0, 105.0);
            *pressure = (*pressure + random.random_range(-1.5..1.5)).clamp(0.0, 8.0);
            let at = minute * 60_000 + random.random_range(0..50) * 1_000;
            // Now and then a machine is silent for a while.
            let silent = (minute / 9 + device as i64) % 7 == 3;
            let temperature = random.random_bool(0.9).then_some(*temperature);
            let pressure = (!silent && random.random_bool(0.8)).then_some(*pressure);
            messages.push((device, at, temperature, pressure));
        }
    }
    messages.sort_by_key(|(device, at, ..)| (*at, *device));
    messages.extend((0..devices).map(|device| (device, END_MS, Some(30.0), Some(1.0))));
    messages
}

const END_MS: i64 = 10 * 3_600_000;

fn query(place: &Place, profile: &str, compare_with: Option<ProfileId>) -> BacktestQuery {
    BacktestQuery {
        tenant: place.tenant,
        profiles: vec![(compare_with.unwrap_or(DRAFT), parse_toml(profile).unwrap())],
        from: TimestampMs(FAR_MS),
        to: TimestampMs(FAR_MS + END_MS + 1),
        locations: None,
        warm_up_ms: None,
        compare_with,
    }
}

async fn run(node: &Node, query: BacktestQuery) -> Outcome {
    let options = BacktestOptions { threads: 2, in_background: false, ..Default::default() };
    backtest(&node.store, query, options, &Control::default()).await.unwrap()
}

/// (device, rule, what happened, when) of all alarms, in this order.
async fn real_story(node: &Node) -> Vec<(u64, String, String, i64)> {
    let events = node.events().await;
    let mut story: Vec<_> = events
        .into_iter()
        .map(|event| {
            let rule = event.body["rule"].as_str().unwrap().to_owned();
            (event.device.unwrap().0, rule, event.kind, event.at.0)
        })
        .collect();
    story.sort();
    story
}

fn story(outcome: &Outcome) -> Vec<(u64, String, String, i64)> {
    let mut story = Vec::new();
    for alarm in &outcome.alarms {
        for transition in &alarm.transitions {
            let kind = format!("alarm_{}", transition.kind.as_str());
            story.push((alarm.device.0, alarm.rule.key.to_string(), kind, transition.at.0));
        }
    }
    story.sort();
    story
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backtest_gives_the_alarms_that_were_raised() {
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let place = node.place(3).await;
    let saved = node.workers.commands();
    let saved = saved.save_profile(place.tenant, None, None, PROFILE.to_owned(), "eva").await;
    let saved = saved.unwrap().profile;
    let mut feed = Feed::new(&node, &place).await;
    let messages = hours(&mut random, 3);
    for part in messages.chunks(7) {
        feed.send(part).await;
    }
    node.settle().await;

    let outcome = run(&node, query(&place, PROFILE, Some(saved.id))).await;
    let difference = outcome.difference.clone().unwrap();
    assert_eq!(story(&outcome), real_story(&node).await, "seed {seed}: {difference:#?}");
    let others = (difference.only_in_backtest, difference.only_in_reality, difference.changed);
    assert_eq!((others, difference.same), ((0, 0, 0), outcome.totals.alarms), "seed {seed}");
    let rules: Vec<&str> = outcome.totals.rules.keys().map(|rule| &*rule.key).collect();
    assert_eq!(rules, ["both", "hot", "long", "often", "silent", "unsteady"], "seed {seed}");
    let readings: usize =
        messages.iter().map(|m| usize::from(m.2.is_some()) + usize::from(m.3.is_some())).sum();
    assert_eq!(outcome.readings, readings as u64, "seed {seed}");
    // The router is a device too.
    assert_eq!((outcome.devices, outcome.locations, outcome.truncated), (4, 1, false));
    let active: i64 = outcome
        .alarms
        .iter()
        .map(|alarm| alarm.cleared_at.unwrap_or(outcome.to).0 - alarm.raised_at.0)
        .sum();
    assert_eq!(outcome.totals.active_ms, u64::try_from(active).unwrap());

    // A file gives what memory gives.
    node.store.history().flush().await.unwrap();
    assert_eq!(run(&node, query(&place, PROFILE, Some(saved.id))).await, outcome);
    drop(feed);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_tried_before_it_is_saved_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let place = node.place(2).await;
    let mut feed = Feed::new(&node, &place).await;
    feed.send(&[(0, 0, Some(90.0), None), (1, 0, Some(50.0), None)]).await;
    feed.send(&[(0, 60_000, Some(96.0), None), (0, 120_000, Some(70.0), None)]).await;
    feed.send(&[(0, 180_000, Some(90.0), None)]).await;
    node.settle().await;
    let outcome = run(&node, query(&place, PROFILE, None)).await;
    let hot: Vec<_> = outcome.alarms.iter().filter(|alarm| &*alarm.rule.key == "hot").collect();
    assert_eq!(hot.len(), 2);
    assert_eq!((hot[0].severity.as_str(), hot[0].peak.as_str()), ("major", "critical"));
    assert_eq!(hot[0].cleared_at, Some(TimestampMs(FAR_MS + 120_000)));
    assert_eq!(hot[0].description, "machine-0 is at 90.0");
    assert_eq!(hot[0].transitions[1].description, "machine-0 is at 96.0");
    assert_eq!(hot[1].cleared_at, None);
    assert_eq!(outcome.difference, None, "there is nothing to compare with");
    assert_eq!(node.events().await, []);

    // What was raised before the period is no alarm of the period.
    let later = BacktestQuery {
        from: TimestampMs(FAR_MS + 30_000),
        to: TimestampMs(FAR_MS + 150_000),
        ..query(&place, PROFILE, None)
    };
    let outcome = run(&node, later.clone()).await;
    assert_eq!((outcome.totals.alarms, outcome.totals.active_at_start), (0, 1));
    let cold = BacktestQuery { warm_up_ms: Some(0), ..later };
    let outcome = run(&node, cold).await;
    assert_eq!((outcome.totals.alarms, outcome.totals.active_at_start), (1, 0));
    drop(feed);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_tried_on_its_location_groups_only() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let place = node.place(2).await;
    let directory = node.store.directory();
    let mut location = directory.location(place.location).unwrap().body.clone();
    location.groups = vec!["Coast".to_owned()];
    directory.update(place.location.0, None, DocumentBody::Location(location)).await.unwrap();
    let mut feed = Feed::new(&node, &place).await;
    feed.send(&[(0, 0, Some(90.0), None), (1, 0, Some(96.0), None)]).await;
    node.settle().await;
    for (groups, hot) in [("\"Coast\", \"North\"", 2), ("\"North\"", 0)] {
        let profile = format!("applies_to = {{ location_groups = [{groups}] }}\n{PROFILE}");
        let outcome = run(&node, query(&place, &profile, None)).await;
        let alarms = outcome.alarms.iter().filter(|alarm| &*alarm.rule.key == "hot").count();
        assert_eq!(alarms, hot, "{groups}");
    }
    drop(feed);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_came_late_are_seen_in_order_by_a_backtest_only() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let place = node.place(1).await;
    let commands = node.workers.commands();
    let saved = commands.save_profile(place.tenant, None, None, PROFILE.to_owned(), "eva");
    let saved = saved.await.unwrap().profile;
    let mut feed = Feed::new(&node, &place).await;
    feed.send(&[(0, 0, Some(50.0), None), (0, 60_000, Some(51.0), None)]).await;
    // Older than what is evaluated by now: stored, not evaluated.
    feed.send(&[(0, 30_000, Some(90.0), None)]).await;
    node.settle().await;
    let outcome = run(&node, query(&place, PROFILE, Some(saved.id))).await;
    let difference = outcome.difference.unwrap();
    assert_eq!((difference.only_in_backtest, difference.only_in_reality), (1, 0));
    let only = &difference.backtest_only[0];
    assert_eq!((&*only.rule, only.raised_at.0 - FAR_MS), ("hot", 30_000));
    assert_eq!(only.cleared_at, Some(TimestampMs(FAR_MS + 60_000)));
    assert!(outcome.assumptions[0].contains("arrived late"));

    // With enough lateness the worker sees the same; so does the backtest of it.
    let patient = PROFILE.replace("name = \"Machines\"", "name = \"Patient\"\nlateness = \"1m\"");
    let saved = commands.save_profile(place.tenant, None, None, patient.clone(), "eva");
    let saved = saved.await.unwrap().profile;
    let start = 600_000;
    feed.send(&[(0, start, Some(50.0), None), (0, start + 60_000, Some(51.0), None)]).await;
    feed.send(&[(0, start + 30_000, Some(90.0), None)]).await;
    feed.send(&[(0, END_MS, Some(50.0), None), (0, END_MS + 120_000, Some(50.0), None)]).await;
    node.settle().await;
    let mut of_then = query(&place, &patient, Some(saved.id));
    of_then.from = TimestampMs(FAR_MS + start);
    let outcome = run(&node, of_then).await;
    let difference = outcome.difference.unwrap();
    assert_eq!((difference.only_in_backtest, difference.only_in_reality), (0, 0), "{difference:?}");
    assert!(difference.same > 0);
    drop(feed);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_bounded_cancelled_and_kept_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let place = node.place(2).await;
    let mut feed = Feed::new(&node, &place).await;
    feed.send(&[(0, 0, Some(90.0), None)]).await;
    let rendered = Arc::new(AtomicUsize::new(0));
    let counter = rendered.clone();
    let render: Render = Arc::new(move |job, outcome| {
        counter.fetch_add(1, Ordering::Relaxed);
        format!("{} {}", job.id.0, outcome.totals.alarms).into()
    });
    let options = BacktestOptions::default();
    let jobs = Backtests::new(node.store.clone(), options, render, &Registry::new()).unwrap();
    let start = || jobs.start(query(&place, PROFILE, None), TimestampMs(0));
    let first = start().unwrap();
    let done = || matches!(jobs.job(first.id).unwrap().status, JobStatus::Done(_));
    node.until("the first has ended", done).await;
    let job = jobs.job(first.id).unwrap();
    // It is hot, and three minutes later it has been so for long.
    assert_eq!((job.progress.readings, job.progress.alarms), (1, 2));
    assert!((job.progress.share - 1.0).abs() < 1e-9, "{job:?}");
    let JobStatus::Done(answer) = job.status else { panic!("{job:?}") };
    assert_eq!(answer, format!("{} 2", first.id.0));
    assert_eq!(rendered.load(Ordering::Relaxed), 1, "however often it is asked for");

    // No more than may run at once, whatever has ended meanwhile.
    let mut running = 0;
    let refused = loop {
        match start() {
            Ok(_) => running += 1,
            Err(refused) => break refused,
        }
        assert!(running < 10_000, "never refused");
    };
    assert_eq!((refused.running, refused.limit), (MAX_RUNNING_PER_TENANT, MAX_RUNNING_PER_TENANT));
    jobs.stop().await;
    for _ in 0..MAX_KEPT_PER_TENANT {
        let job = start().unwrap();
        let ended = || !matches!(jobs.job(job.id).unwrap().status, JobStatus::Running);
        node.until("one more has ended", ended).await;
    }
    assert!(jobs.job(first.id).is_none(), "the oldest makes room");
    assert!(!jobs.remove(first.id));
    let last = start().unwrap();
    jobs.stop().await;
    let now = Instant::now();
    jobs.forget_old(now);
    assert!(jobs.job(last.id).is_some());
    jobs.forget_old(now + KEPT_FOR);
    assert!(jobs.job(last.id).is_none(), "an hour later it is forgotten");

    let control = Control::default();
    control.cancel();
    let cancelled =
        backtest(&node.store, query(&place, PROFILE, None), BacktestOptions::default(), &control);
    assert!(matches!(cancelled.await, Err(BacktestError::Cancelled)));
    let mut backwards = query(&place, PROFILE, None);
    backwards.to = backwards.from;
    let control = Control::default();
    let refused = backtest(&node.store, backwards, BacktestOptions::default(), &control);
    assert!(matches!(refused.await, Err(BacktestError::Period { .. })));
    drop(feed);
    node.stop().await;
}
