//! The journal in Kafka, against real brokers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use journal::{
    AppendError, Assignment, AssignmentChange, Journal, KafkaOptions, OpenError, ReadError, Writing,
};
use prometheus::Registry;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use schema::{PartitionId, Position};
use tokio::sync::watch;

use crate::brokers::{Brokers, open, shared};
use crate::conformance::conforms;
use crate::support::{P0, P1, append, record};

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let options = shared().options();
    conforms(async || open(&options).await).await;
}

async fn refusal(options: &KafkaOptions) -> String {
    match Journal::open_kafka(options.clone(), &Registry::new()).await {
        Err(error @ OpenError::TopicShape { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn make_topic(options: &KafkaOptions, partitions: i32, settings: &[(&str, &str)]) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.brokers);
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let mut topic = NewTopic::new(&options.topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    let made = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_would_lose_records_or_is_of_another_shape_is_refused() {
    let week = 7 * 24 * 3_600_000;
    for (partitions, settings, what) in [
        (3, vec![], "partitions 3 and must have 2"),
        (2, vec![("cleanup.policy", "compact")], "cleanup.policy compact and must have delete"),
        (2, vec![("retention.ms", "60000")], "retention.ms 60000 and must have 604800000 or more"),
        (2, vec![("max.message.bytes", "1000")], "max.message.bytes 1000"),
        (
            2,
            vec![("unclean.leader.election.enable", "true")],
            "unclean.leader.election.enable true and must have false",
        ),
    ] {
        let options = KafkaOptions { retention_ms: week, ..shared().options() };
        make_topic(&options, partitions, &settings).await;
        let error = refusal(&options).await;
        assert!(error.contains(what), "{error}");
        assert!(error.contains(&options.topic), "{error}");
    }
    // One that keeps more than is asked for fits.
    let options = shared().options();
    let generous = [("retention.ms", "-1"), ("max.message.bytes", "20000000")];
    make_topic(&options, 2, &generous).await;
    open(&options).await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_refused_by_its_size_before_it_is_sent() {
    let options = KafkaOptions { max_record_bytes: 1_000, ..shared().options() };
    let journal = open(&options).await;
    let error = journal.submit(P0, record(vec![1; 1_001])).await.unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { bytes: 1_001, limit: 1_000 }), "{error}");
    assert_eq!(append(&journal, P0, &[2; 1_000]).await, Position(0));
    journal.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_behind_what_is_in_memory_reads_all_the_same() {
    // Memory for a few records only, and pieces of a few.
    let tail = KafkaOptions { tail_bytes: 2_000, read_ahead_bytes: 4_096, ..shared().options() };
    let journal = open(&tail).await;
    let mut live = journal.reader(P0, Position(0)).unwrap();
    for number in 0..400_u64 {
        append(&journal, P0, &number.to_le_bytes()).await;
    }
    for expected in 0..400_u64 {
        let entry = live.next().await.unwrap();
        assert_eq!(
            (entry.position, &entry.payload[..]),
            (Position(expected), &expected.to_le_bytes()[..])
        );
    }
    // It has caught up and goes on with what comes.
    append(&journal, P0, b"new").await;
    assert_eq!(&live.next().await.unwrap().payload[..], b"new");
    let mut second = journal.reader(P0, Position(200)).unwrap();
    assert_eq!(second.next().await.unwrap().position, Position(200));
    journal.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_append_and_read_one_order() {
    let options = shared().options();
    let (one, other) = (open(&options).await, open(&options).await);
    let mut readers =
        [one.reader(P1, Position(0)).unwrap(), other.reader(P1, Position(0)).unwrap()];
    for round in 0..50_u8 {
        let journal = if round % 2 == 0 { &one } else { &other };
        assert_eq!(append(journal, P1, &[round]).await, Position(u64::from(round)));
    }
    for round in 0..50_u8 {
        for reader in &mut readers {
            let entry = reader.next().await.unwrap();
            assert_eq!((entry.position.0, &entry.payload[..]), (u64::from(round), &[round][..]));
        }
    }
    assert_eq!(other.bounds(P1).next, Position(50));
    one.close().await;
    other.close().await;
}

/// The next partitions that are assigned, or none if nothing is within a moment.
async fn assigned(assignment: &mut Assignment) -> Vec<PartitionId> {
    match tokio::time::timeout(Duration::from_secs(60), assignment.next()).await {
        Ok(AssignmentChange::Assigned(partitions)) => partitions,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_divided_among_processes_and_given_back() {
    let options = shared().options();
    let (one, other) = (open(&options).await, open(&options).await);
    let (of_one, of_other) = (Registry::new(), Registry::new());
    let mut first = one.assignment("work", &of_one).unwrap();
    assert_eq!(assigned(&mut first).await, [P0, P1]);
    let mut alone = one.assignment("other-work", &of_one).unwrap();
    assert_eq!(assigned(&mut alone).await, [P0, P1], "each role is divided by itself");

    let mut second = other.assignment("work", &of_other).unwrap();
    let AssignmentChange::Revoked(revoked, release) = first.next().await else { panic!() };
    assert_eq!(revoked.len(), 1, "only what moves is interrupted: {revoked:?}");
    let early = tokio::time::timeout(Duration::from_secs(2), second.next()).await;
    assert!(early.is_err(), "it is not given away before it is released: {early:?}");
    drop(release);
    assert_eq!(assigned(&mut second).await, revoked);

    second.leave().await;
    assert_eq!(assigned(&mut first).await, revoked, "who leaves gives back at once");
    first.leave().await;
    alone.leave().await;
    one.close().await;
    other.close().await;
}

/// What is to hold of (who, what) runs.
type Holds<'a> = &'a dyn Fn(&[(u8, PartitionId)]) -> bool;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_for_each_partition_that_is_ours() {
    let options = shared().options();
    let (one, other) = (open(&options).await, open(&options).await);
    let running: Arc<Mutex<Vec<(u8, PartitionId)>>> = Arc::default();
    let work = |of: u8, journal: &Journal| {
        let (stop, stopping) = watch::channel(false);
        let assignment = journal.assignment("work", &Registry::new()).unwrap();
        let running = running.clone();
        let begin = move |partition, mut ending: watch::Receiver<bool>| {
            let running = running.clone();
            async move {
                running.lock().unwrap().push((of, partition));
                ending.wait_for(|is_ending| *is_ending).await.unwrap();
                running.lock().unwrap().retain(|it| *it != (of, partition));
            }
        };
        (stop, tokio::spawn(assignment.run(stopping, begin)))
    };
    let until = async |what: &str, holds: Holds| {
        for _ in 0..600 {
            let now = running.lock().unwrap().clone();
            let mut partitions: Vec<_> = now.iter().map(|(_, partition)| *partition).collect();
            partitions.sort_unstable();
            let all = partitions.len();
            partitions.dedup();
            assert_eq!(partitions.len(), all, "a partition has one task at a time: {now:?}");
            if holds(&now) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{what}: {:?}", running.lock().unwrap());
    };
    let count = |of: u8, now: &[(u8, PartitionId)]| now.iter().filter(|it| it.0 == of).count();
    let (stop_one, one_ends) = work(1, &one);
    until("all are of the first", &|now| count(1, now) == 2).await;
    let (stop_other, other_ends) = work(2, &other);
    until("each has one", &|now| count(1, now) == 1 && count(2, now) == 1).await;
    stop_one.send_replace(true);
    one_ends.await.unwrap();
    until("all are of the second", &|now| count(2, now) == 2).await;
    stop_other.send_replace(true);
    other_ends.await.unwrap();
    assert_eq!(*running.lock().unwrap(), []);
    one.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_wrote_into_the_topic_stops_its_readers_there() {
    let options = shared().options();
    let journal = open(&options).await;
    append(&journal, P0, b"ours").await;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.brokers);
    let stranger: BaseProducer = config.create().unwrap();
    let message = BaseRecord::<(), [u8]>::to(&options.topic).partition(0).payload(&b"theirs"[..]);
    stranger.send(message).map_err(|(error, _)| error).unwrap();
    stranger.flush(Duration::from_secs(20)).unwrap();
    assert_eq!(append(&journal, P0, b"ours again").await, Position(2));
    let mut reader = journal.reader(P0, Position(0)).unwrap();
    assert_eq!(reader.next().await.unwrap().position, Position(0));
    for _ in 0..2 {
        let error = reader.next().await.unwrap_err();
        assert!(matches!(error, ReadError::Foreign { position: Position(1), .. }), "{error}");
        assert!(!error.is_retryable());
    }
    journal.close().await;
}

/// Submitters go on while a broker is killed and comes back; what was
/// acknowledged is there, once and in its order, and nothing failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_makes_submitters_wait_and_loses_nothing() {
    let brokers = Brokers::start(1);
    let options = brokers.options();
    let journal = open(&options).await;
    let mut reader = journal.reader(P0, Position(0)).unwrap();
    let submitting = tokio::spawn({
        let journal = journal.clone();
        async move {
            let mut pending = std::collections::VecDeque::new();
            let mut acknowledged = Vec::new();
            let until = tokio::time::Instant::now() + Duration::from_secs(14);
            let mut number = 0_u64;
            while tokio::time::Instant::now() < until {
                let record = record(number.to_le_bytes().to_vec());
                pending.push_back((number, journal.submit(P0, record).await.unwrap()));
                number += 1;
                if pending.len() >= 500 {
                    let (number, pending) = pending.pop_front().unwrap();
                    acknowledged.push((number, pending.await.unwrap()));
                }
                tokio::task::yield_now().await;
            }
            for (number, pending) in pending {
                acknowledged.push((number, pending.await.unwrap()));
            }
            acknowledged
        }
    });
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        brokers.kill(1);
        tokio::time::sleep(Duration::from_millis(500)).await;
        brokers.restart(1);
    }
    let acknowledged = submitting.await.unwrap();
    assert!(acknowledged.len() > 1_000, "{}", acknowledged.len());
    for (number, position) in &acknowledged {
        let entry = reader.next().await.unwrap();
        assert_eq!(entry.position, *position);
        assert_eq!(&entry.payload[..], number.to_le_bytes(), "at {position}");
    }
    assert_eq!(journal.status().writing, Writing::Writable);
    assert_eq!(journal.bounds(P0).next.0, acknowledged.len() as u64, "none is there twice");
    journal.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_not_there_are_told() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = KafkaOptions { brokers: format!("127.0.0.1:{port}"), ..shared().options() };
    let registry = Registry::new();
    let opening = Journal::open_kafka(options, &registry);
    let error = tokio::time::timeout(Duration::from_secs(90), opening).await.unwrap().unwrap_err();
    assert!(matches!(error, OpenError::Brokers(_)) && error.is_retryable(), "{error}");
}
