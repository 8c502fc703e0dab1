//! Transitions published for others, read by a consumer that knows nothing of
//! Baken, from real brokers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rustix::process::Signal;
use schema::{LocationId, TenantId, home_partition_of, partition_of};
use serde_json::{Value, json};

use super::brokers::{Brokers, shared};
use super::consumer::{Read, client, consume, read};
use super::harness::{Baken, recent_ms, run, text, until};
use super::mqtt::Mqtt;
use super::nodes::{Installation, ROUTERS, metric, owned, publish, routers};
use super::outside::kafka;

pub const PARTITIONS: u16 = 3;

/// The kinds of events that are an alarm's transitions.
const KINDS: &str = "alarm_raised,alarm_severity_changed,alarm_acknowledged,alarm_unacknowledged,\
    alarm_cleared,alarm_shelved,alarm_unshelved,alarm_suppressed,alarm_commented,alarm_assigned";

const PROFILE: &str = r#"
    name = "Machines"
    [[rules]]
    key = "hot"
    raise.critical = { when = { key = "t", operator = ">", value = 90 } }
    raise.major = { when = { key = "t", operator = ">", value = 80 } }
    clear = { when = { key = "t", operator = "<", value = 70 } }
"#;

/// The name of a topic that no other test has, and the setting that names it.
fn topic() -> (String, String) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let topic = format!("transitions-{}-{number}", std::process::id());
    let setting = format!("alarms.transitions_topic={topic}");
    (topic, setting)
}

/// Every transition that the API shows, oldest first.
async fn events(baken: &Baken) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().map_or_else(String::new, |it| format!("&after={}", it["sequence"]));
        let path = format!("/events?kind={KINDS}&order=asc&limit=1000{after}");
        let page = baken.client().get(&path).await.unwrap();
        let items = page["items"].as_array().unwrap();
        all.extend(items.iter().cloned());
        if items.len() < 1_000 {
            return all;
        }
    }
}

/// Waits until so many transitions of alarms with the rule have happened.
async fn happened(baken: &Baken, wanted: i64) {
    until(&format!("{wanted} transitions"), async || {
        let events = events(baken).await;
        let own = events.iter().filter(|event| event["body"]["rule"] == "hot").count();
        (i64::try_from(own) == Ok(wanted)).then_some(())
    })
    .await;
}

fn partition(event: &Value) -> u16 {
    let tenant = TenantId(event["tenant"].as_u64().unwrap());
    match event["location"].as_u64() {
        Some(location) => partition_of(tenant, LocationId(location), PARTITIONS).0,
        None => home_partition_of(tenant, PARTITIONS).0,
    }
}

/// Waits until a consumer has all transitions behind `began` that the API shows, in
/// their order, each once, and nothing else; how many came twice.
async fn told(baken: &Baken, brokers: &str, topic: &str, began: u64) -> (Vec<Value>, usize) {
    until("all transitions are published", async || {
        let mut events = events(baken).await;
        events.retain(|event| event["sequence"].as_u64() > Some(began));
        let (records, dropped) = consume(read(brokers, topic).await);
        let of_topic = records.iter().map(Read::sequence);
        let of_api = events.iter().map(|event| event["sequence"].as_u64().unwrap());
        if !of_topic.eq(of_api) {
            return None;
        }
        for (record, event) in records.iter().zip(&events) {
            let mut expected = event.clone();
            expected["schema"] = json!(1);
            assert_eq!(record.value, expected);
            assert_eq!(record.partition, partition(event), "{event}");
            assert_eq!(record.key, event["alarm"].as_str().unwrap());
            let header = |name: &str| record.headers[name].clone();
            assert_eq!(header("baken-id"), event["id"].as_str().unwrap());
            assert_eq!(header("baken-tenant"), event["tenant"].to_string());
            assert_eq!(header("baken-sequence"), event["sequence"].to_string());
            assert_eq!(header("baken-schema"), "1");
        }
        Some((events, dropped))
    })
    .await
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

/// A router with the profile; it is connected.
async fn site(baken: &Baken) -> (Value, Mqtt) {
    let router = baken.router().await;
    let profiles = format!("/alarm-profiles?tenant={}", router["tenant"]);
    let profile = PROFILE.to_owned();
    baken.client().post_text(&profiles, "application/toml", profile).await.unwrap();
    let token = router["token"].as_str().unwrap();
    let mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    (router, mqtt)
}

async fn alarm(baken: &Baken, holds: impl Fn(&Value) -> bool) -> Value {
    until("the alarm", async || {
        let page = baken.client().get("/alarms").await.unwrap();
        page["items"].as_array().unwrap().iter().find(|alarm| holds(alarm)).cloned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_transition_is_published_once_in_the_order_in_which_it_happened() {
    let (installation, (topic, setting)) = (Installation::new().await, topic());
    let baken = installation.node("one", &["--set", &setting]).await;
    let (_, mut mqtt) = site(&baken).await;
    let ts = recent_ms();
    let mut at = 0;
    let mut say = async |value: f64| {
        at += 1_000;
        mqtt.telemetry(&format!(r#"{{"ts":{},"values":{{"t":{value}}}}}"#, ts + at)).await;
    };
    say(85.0).await;
    say(86.0).await;
    say(95.0).await;
    let hot = alarm(&baken, |it| it["severity"] == "critical").await;
    let actions = format!("/alarms/{}/actions", hot["id"].as_str().unwrap());
    for action in [
        json!({ "action": "acknowledge" }),
        json!({ "action": "comment", "text": "Op de fiets" }),
        json!({ "action": "assign", "to": "eva" }),
    ] {
        baken.client().post(&actions, &action).await.unwrap();
    }
    say(60.0).await;
    alarm(&baken, |it| it["active"] == json!(false)).await;
    let (all, dropped) = told(&baken, &shared().addresses, &topic, 0).await;
    assert_eq!(dropped, 0);
    let own: Vec<Value> = all.into_iter().filter(|event| event["body"]["rule"] == "hot").collect();
    assert_eq!(
        kinds(&own),
        [
            "alarm_raised",
            "alarm_severity_changed",
            "alarm_acknowledged",
            "alarm_commented",
            "alarm_assigned",
            "alarm_cleared"
        ],
        "that it was true again is no transition of its own"
    );
    let published = metric(&baken, "baken_transitions_published_total").await;
    assert!(published >= Some(6.0), "{published:?}");
    until("nothing waits", async || {
        let behind = metric(&baken, "baken_transitions_behind").await;
        let oldest = metric(&baken, "baken_transitions_oldest_unpublished_seconds").await;
        (behind == Some(0.0) && oldest == Some(0.0)).then_some(())
    })
    .await;

    // A stop and a start publish nothing twice and leave nothing out.
    let (status, log) = baken.stop().await;
    assert!(status.success(), "{status}:\n{log}");
    assert!(!log.contains(" ERROR "), "{log}");
    let baken = installation.node("one", &["--set", &setting]).await;
    alarm(&baken, |it| it["active"] == json!(false)).await;
    let (_, dropped) = told(&baken, &shared().addresses, &topic, 0).await;
    assert_eq!(dropped, 0);
    baken.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_begins_with_what_happens_once_it_is_named() {
    let (installation, (topic, setting)) = (Installation::new().await, topic());
    let baken = installation.node("one", &[]).await;
    let (router, mut mqtt) = site(&baken).await;
    let ts = recent_ms();
    mqtt.telemetry(&format!(r#"{{"ts":{ts},"values":{{"t":85}}}}"#)).await;
    alarm(&baken, |it| it["active"] == json!(true)).await;
    assert_eq!(metric(&baken, "baken_transitions_published_total").await, None);
    baken.stop().await;

    let baken = installation.node("one", &["--set", &setting]).await;
    let token = router["token"].as_str().unwrap();
    let mut mqtt = Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), token).await;
    mqtt.telemetry(&format!(r#"{{"ts":{},"values":{{"t":60}}}}"#, ts + 1_000)).await;
    alarm(&baken, |it| it["active"] == json!(false)).await;
    let all = events(&baken).await;
    let raised = all.iter().find(|event| event["kind"] == "alarm_raised").unwrap();
    let first = until("what comes", async || {
        read(&shared().addresses, &topic).await.into_iter().min_by_key(Read::sequence)
    })
    .await;
    assert!(Some(first.sequence()) > raised["sequence"].as_u64());
    let (all, dropped) = told(&baken, &shared().addresses, &topic, first.sequence() - 1).await;
    assert_eq!(dropped, 0);
    assert!(kinds(&all).contains(&"alarm_cleared"), "{all:#?}");
    baken.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_leaves_nothing_out_and_nothing_that_a_consumer_counts_twice() {
    let (installation, (topic, setting)) = (Installation::new().await, topic());
    let roles = ["--set", setting.as_str(), "--roles", "recorder,alarms,api"];
    let one = installation.node("one", &["--set", &setting]).await;
    let mut two = installation.node("two", &roles).await;
    let routers = routers(&one).await;
    let mut connections = Vec::new();
    for router in &routers {
        let token = router["token"].as_str().unwrap();
        connections.push(Mqtt::connect(one.run.mqtt.as_deref().unwrap(), token).await);
    }
    let ts = recent_ms();
    let mut round = 0;
    // Each round raises an alarm of each router, or clears it.
    let mut load = async |rounds: i64| {
        for _ in 0..rounds {
            let value = if round % 2 == 0 { 91.5 } else { 60.5 };
            publish(&mut connections, ts + round * 1_000, value).await;
            round += 1;
        }
    };
    for _ in 0..2 {
        until("both have partitions", async || {
            (owned(&one, "alarms").await >= 1.0 && owned(&two, "alarms").await >= 1.0).then_some(())
        })
        .await;
        load(40).await;
        // In the midst of what came of it.
        two.kill().await;
        load(40).await;
        two = installation.node("two", &roles).await;
    }
    load(1).await;
    happened(&one, 161 * ROUTERS).await;
    let (all, dropped) = told(&one, &shared().addresses, &topic, 0).await;
    let changes = kinds(&all).into_iter().filter(|kind| *kind != "alarm_raised").count();
    say(&format!("{} transitions, {changes} of them no raises, {dropped} came twice", all.len()));
    let (status, log) = two.stop().await;
    assert!(status.success(), "{status}:\n{log}");
    let (status, log) = one.stop().await;
    assert!(status.success(), "{status}:\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stood_still_publishes_nothing_that_a_consumer_counts_twice() {
    let (installation, (topic, setting)) = (Installation::new().await, topic());
    let roles = ["--set", setting.as_str(), "--roles", "recorder,alarms,api"];
    let one = installation.node("one", &["--set", &setting]).await;
    let two = installation.node("two", &roles).await;
    let routers = routers(&one).await;
    let mut connections = Vec::new();
    for router in &routers {
        let token = router["token"].as_str().unwrap();
        connections.push(Mqtt::connect(one.run.mqtt.as_deref().unwrap(), token).await);
    }
    until("both have partitions", async || {
        (owned(&one, "alarms").await >= 1.0 && owned(&two, "alarms").await >= 1.0).then_some(())
    })
    .await;
    let ts = recent_ms();
    for round in 0..40 {
        let value = if round % 2 == 0 { 91.5 } else { 60.5 };
        publish(&mut connections, ts + round * 1_000, value).await;
        if round == 20 {
            two.signal(Signal::STOP);
        }
    }
    until("it is taken for dead", async || (owned(&one, "alarms").await == 3.0).then_some(()))
        .await;
    happened(&one, 40 * ROUTERS).await;
    told(&one, &shared().addresses, &topic, 0).await;
    two.signal(Signal::CONT);
    for round in 40..61 {
        let value = if round % 2 == 0 { 91.5 } else { 60.5 };
        publish(&mut connections, ts + round * 1_000, value).await;
    }
    happened(&one, 61 * ROUTERS).await;
    until("it has partitions again", async || (owned(&two, "alarms").await >= 1.0).then_some(()))
        .await;
    let (all, dropped) = told(&one, &shared().addresses, &topic, 0).await;
    say(&format!("{} transitions beside a node that stood still, {dropped} came twice", all.len()));
    let (status, log) = two.stop().await;
    assert!(status.success(), "{status}:\n{log}");
    let (status, log) = one.stop().await;
    assert!(status.success(), "{status}:\n{log}");
}

#[allow(clippy::print_stdout, reason = "the figures that the documentation is written from")]
fn say(line: &str) {
    println!("{line}");
}

async fn make_topic(topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = client(&shared().addresses).create().unwrap();
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let made = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_another_shape_is_refused_by_name() {
    for (partitions, settings, told) in [
        (5, vec![], "has partitions 5 and must have 3"),
        (3, vec![("retention.ms", "60000")], "has retention.ms 60000 and must have 604800000"),
        (3, vec![("cleanup.policy", "compact")], "has cleanup.policy compact and must have delete"),
    ] {
        let ((topic, setting), folder) = (topic(), tempfile::tempdir().unwrap());
        make_topic(&topic, partitions, &settings).await;
        let (data, journal) = (folder.path().to_str().unwrap(), kafka());
        let listen = ["--mqtt-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"];
        let flags = ["serve", "--data", data, "--journal", &journal, "--set", &setting];
        let output = run(&[&flags[..], &listen[..]].concat()).await;
        assert!(!output.status.success());
        let log = text(&output.stderr);
        assert!(log.contains(&format!("topic {topic} {told}")), "{log}");
        assert!(log.contains("alarms.transitions_topic"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_in_which_others_write_keeps_no_alarm_from_being_raised() {
    let (topic, setting) = topic();
    make_topic(&topic, i32::from(PARTITIONS), &[]).await;
    let producer: BaseProducer = client(&shared().addresses).create().unwrap();
    for partition in 0..i32::from(PARTITIONS) {
        let record: BaseRecord<'_, [u8], str> = BaseRecord::to(&topic).payload("hello");
        producer.send(record.partition(partition)).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let baken = Baken::start_in(folder.path(), &["--journal", &kafka(), "--set", &setting]).await;
    let (_, mut mqtt) = site(&baken).await;
    mqtt.telemetry(&format!(r#"{{"ts":{},"values":{{"t":85}}}}"#, recent_ms())).await;
    alarm(&baken, |it| it["active"] == json!(true)).await;
    until("it is told how much waits", async || {
        let behind = metric(&baken, "baken_transitions_behind").await;
        (behind >= Some(1.0)).then_some(())
    })
    .await;
    let (status, log) = baken.stop().await;
    assert!(status.success(), "{status}:\n{log}");
    let told = format!("topic {topic} ends in partition 0 at offset 0 with a record that is no");
    assert!(log.contains(&told), "{log}");
    let len = read_lengths(&topic);
    assert_eq!(len, 3, "nothing was published behind it");
}

/// How many records a topic has.
fn read_lengths(topic: &str) -> i64 {
    let consumer: BaseConsumer = client(&shared().addresses).create().unwrap();
    let held = (0..i32::from(PARTITIONS))
        .map(|it| consumer.fetch_watermarks(topic, it, Duration::from_secs(30)).unwrap());
    held.map(|(oldest, next)| next - oldest).sum()
}

/// The journal's topic is with the first broker, that for transitions with the third.
async fn apart(brokers: &Brokers, journal: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = client(&brokers.addresses).create().unwrap();
    for (topic, broker) in [(journal, 1), (topic, 3)] {
        let replicas: &[&[i32]] = &[&[broker], &[broker], &[broker]];
        let new = NewTopic::new(topic, i32::from(PARTITIONS), TopicReplication::Variable(replicas))
            .set("min.insync.replicas", "1")
            .set("max.message.bytes", "9000000");
        let made = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_topics_broker_is_away_alarms_go_on_and_what_waited_is_published_then() {
    let brokers = tokio::task::spawn_blocking(|| Brokers::start(3)).await.unwrap();
    let options = brokers.options();
    let journal = format!(
        "kafka://{}/{}?partitions={PARTITIONS}&replication_factor=1&min_insync_replicas=1",
        options.brokers, options.topic
    );
    let (topic, setting) = topic();
    apart(&brokers, &options.topic, &topic).await;
    let installation = Installation::with(&journal).await;
    let baken = installation.node("one", &["--set", &setting]).await;
    let (_, mut mqtt) = site(&baken).await;
    let ts = recent_ms();
    let mut at = 0;
    let mut say = async |value: f64| {
        at += 1_000;
        mqtt.telemetry(&format!(r#"{{"ts":{},"values":{{"t":{value}}}}}"#, ts + at)).await;
    };
    say(85.0).await;
    alarm(&baken, |it| it["active"] == json!(true)).await;
    told(&baken, &brokers.addresses, &topic, 0).await;
    let brokers = tokio::task::spawn_blocking(move || {
        brokers.kill(3);
        brokers
    });
    let brokers = brokers.await.unwrap();
    // Raised, worse and cleared again and again, while nothing can be published.
    for _ in 0..20 {
        for value in [60.0, 85.0, 95.0] {
            say(value).await;
        }
    }
    say(60.0).await;
    until("all alarms are over", async || {
        let page = baken.client().get("/alarms?limit=100").await.unwrap();
        let alarms = page["items"].as_array().unwrap().iter();
        let own: Vec<&Value> = alarms.filter(|alarm| alarm["rule"] == "hot").collect();
        let is_over = own.iter().all(|alarm| alarm["active"] == json!(false));
        (own.len() == 21 && is_over).then_some(())
    })
    .await;
    until("it is told what waits", async || {
        let behind = metric(&baken, "baken_transitions_behind").await;
        let oldest = metric(&baken, "baken_transitions_oldest_unpublished_seconds").await;
        (behind >= Some(61.0) && oldest > Some(1.0)).then_some(())
    })
    .await;
    let brokers = tokio::task::spawn_blocking(move || {
        brokers.restart(3);
        brokers
    });
    let brokers = brokers.await.unwrap();
    let (all, dropped) = told(&baken, &brokers.addresses, &topic, 0).await;
    assert!(all.len() >= 62, "{}", all.len());
    assert_eq!(dropped, 0);
    until("nothing waits", async || {
        let behind = metric(&baken, "baken_transitions_behind").await;
        (behind == Some(0.0)).then_some(())
    })
    .await;
    let (status, log) = baken.stop().await;
    assert!(status.success(), "{status}:\n{log}");
    tokio::task::spawn_blocking(move || drop(brokers)).await.unwrap();
}
