//! A consumer of published transitions that knows nothing of Baken.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use super::transitions::PARTITIONS;

/// A record as a consumer gets it.
#[derive(Clone, Debug)]
pub struct Read {
    pub partition: u16,
    pub key: String,
    pub headers: BTreeMap<String, String>,
    pub value: Value,
}

impl Read {
    pub fn sequence(&self) -> u64 {
        self.headers["baken-sequence"].parse().unwrap()
    }
}

pub fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "a-consumer");
    config.set("enable.auto.commit", "false");
    config
}

/// All that is in the topic, each partition in its order.
fn read_all(brokers: &str, topic: &str) -> Vec<Read> {
    let patience = Duration::from_secs(30);
    let consumer: BaseConsumer = client(brokers).create().unwrap();
    let mut assigned = TopicPartitionList::new();
    // Of each partition, the first offset that need not be read.
    let mut left: BTreeMap<i32, i64> = BTreeMap::new();
    for partition in 0..i32::from(PARTITIONS) {
        let (oldest, next) = consumer.fetch_watermarks(topic, partition, patience).unwrap();
        if oldest < next {
            left.insert(partition, next);
        }
        assigned.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assigned).unwrap();
    let mut records = Vec::new();
    while !left.is_empty() {
        let message = consumer.poll(patience).expect("what is there is read in time").unwrap();
        if left.get(&message.partition()).is_some_and(|next| message.offset() + 1 >= *next) {
            left.remove(&message.partition());
        }
        let headers = message.headers().unwrap().iter();
        let value = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        records.push(Read {
            partition: u16::try_from(message.partition()).unwrap(),
            key: value(message.key()),
            headers: headers.map(|it| (it.key.to_owned(), value(it.value))).collect(),
            value: serde_json::from_slice(message.payload().unwrap()).unwrap(),
        });
    }
    records
}

pub async fn read(brokers: &str, topic: &str) -> Vec<Read> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read_all(&brokers, &topic)).await.unwrap()
}

/// What a consumer keeps that does as the documentation says, and how many it has
/// dropped.
pub fn consume(records: Vec<Read>) -> (Vec<Read>, usize) {
    let mut last: BTreeMap<u16, u64> = BTreeMap::new();
    let mut kept: BTreeMap<u64, Read> = BTreeMap::new();
    let mut dropped = 0;
    for record in records {
        let sequence = record.sequence();
        let last = last.entry(record.partition).or_insert(0);
        if sequence <= *last {
            assert_eq!(kept[&sequence].value, record.value, "twice is twice the same");
            dropped += 1;
            continue;
        }
        *last = sequence;
        assert!(kept.insert(sequence, record).is_none(), "a sequence is of one partition");
    }
    (kept.into_values().collect(), dropped)
}
