//! Follows the partitions that somebody reads here, once for all their readers,
//! and keeps the newest records in memory. It is a thread of its own.
//!
//! A reader that is behind what is in memory reads for itself (`reader`), so a
//! record that is missed here is missed by nobody: what comes next is taken as
//! the beginning of what is in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{ClientConfig, ClientContext};
use schema::{RecordKind, RecordRows};

use super::KafkaOptions;
use super::shared::{Shared, View, lock};
use super::{topic, wire};
use crate::OpenError;

/// How long the feed waits for a message before it looks whether it is to follow
/// others.
const POLL: Duration = Duration::from_millis(20);

/// How long a broker gathers what it has for the feed, unless that is
/// [`GATHERED_BYTES`] already. An answer for each message, and readers that are
/// woken for each, would be most of what a message costs where few come.
const GATHER: Duration = Duration::from_millis(10);
const GATHERED_BYTES: usize = 64 << 10;

/// Bytes that are taken before readers are woken, and one record more. A
/// partition's share of memory must hold it, or who keeps up would fall behind.
const PIECE_BYTES: usize = 256 << 10;

/// How often it is asked what one partition holds, in turns.
const WATERMARK_INTERVAL: Duration = Duration::from_secs(1);

/// How long the brokers may take to say what a partition holds.
const WATERMARK_PATIENCE: Duration = Duration::from_secs(2);

/// Says of trouble with brokers once, and once when it is over.
#[derive(Debug, Default)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "a Kafka broker does not answer a reader");
    }
}

impl ConsumerContext for Quiet {}

pub(super) type Client = BaseConsumer<Quiet>;

/// A consumer that belongs to no group and commits nothing.
pub(super) fn consumer(options: &KafkaOptions) -> Result<Client, KafkaError> {
    config(options, "error").create_with_context(Quiet)
}

/// As [`consumer`]; `reset` is what to do about a position that there is not.
fn config(options: &KafkaOptions, reset: &str) -> ClientConfig {
    let mut config = options.client();
    // It is asked for and never used: partitions are assigned by hand.
    config.set("group.id", format!("{}-reader", options.topic));
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", reset);
    config.set("check.crcs", "true");
    let piece = options.read_ahead_bytes.max(options.max_record_bytes);
    config.set("fetch.message.max.bytes", piece.to_string());
    config.set("queued.max.messages.kbytes", (2 * piece / 1_024).max(1_024).to_string());
    config
}

pub(super) fn place(topic: &str, partition: u16, position: u64) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    let offset = Offset::Offset(i64::try_from(position).unwrap_or(i64::MAX));
    list.add_partition_offset(topic, i32::from(partition), offset)
        .expect("a position is an offset that Kafka knows");
    list
}

/// The thread's state.
pub(super) struct Feed {
    shared: Arc<Shared>,
    client: Client,
    followed: Vec<u16>,
    /// What readers are still to be told of partitions.
    news: HashMap<u16, View>,
    asked: usize,
    asked_at: Instant,
}

impl Feed {
    pub fn new(shared: &Arc<Shared>) -> Result<Self, OpenError> {
        let mut config = config(&shared.options, "latest");
        config.set("fetch.wait.max.ms", GATHER.as_millis().to_string());
        config.set("fetch.min.bytes", GATHERED_BYTES.to_string());
        let client = config.create_with_context(Quiet).map_err(|error| topic::brokers(&error))?;
        Ok(Self {
            shared: shared.clone(),
            client,
            followed: Vec::new(),
            news: HashMap::new(),
            asked: 0,
            asked_at: Instant::now(),
        })
    }

    pub fn run(mut self) {
        while !self.shared.is_closed() {
            self.follow_wanted();
            self.take_piece();
            self.tell();
            if self.asked_at.elapsed() >= WATERMARK_INTERVAL {
                self.asked_at = Instant::now();
                self.ask_one();
            }
        }
        for partition in &self.shared.partitions {
            partition.view.send_modify(|view| view.closed = true);
        }
    }

    /// Takes what is there; waits a while if that is nothing.
    fn take_piece(&mut self) {
        let Self { shared, client, news, .. } = self;
        let (mut bytes, mut patience) = (0, POLL);
        while bytes < PIECE_BYTES {
            match client.poll(patience) {
                None => return,
                Some(Ok(message)) => {
                    // A message's headers and its place in memory count too.
                    bytes += 100 + message.payload_len();
                    take(shared, news, &message);
                }
                // The client tries again by itself; its context has said so.
                Some(Err(error)) => tracing::debug!(%error, "the feed of the journal waits"),
            }
            patience = Duration::ZERO;
        }
    }

    /// Tells readers of what came.
    fn tell(&mut self) {
        for (partition, View { base, next, .. }) in self.news.drain() {
            let state = &self.shared.partitions[usize::from(partition)];
            state.view.send_modify(|view| (view.base, view.next) = (base, next));
        }
    }

    /// Begins with partitions that are read from now on, and leaves others.
    fn follow_wanted(&mut self) {
        let wanted = std::mem::take(&mut *lock(&self.shared.wanted));
        for (partition, from) in wanted {
            let topic = &self.shared.options.topic;
            let state = &self.shared.partitions[usize::from(partition)];
            let done = match from {
                Some(from) => {
                    lock(&state.tail).clear();
                    // What came for those who read it before is not in memory any more.
                    state.view.send_modify(|view| (view.base, view.next) = (from, from));
                    self.followed.push(partition);
                    self.client.incremental_assign(&place(topic, partition, from))
                }
                None => {
                    self.followed.retain(|followed| *followed != partition);
                    self.client.incremental_unassign(&place(topic, partition, 0))
                }
            };
            if let Err(error) = done {
                tracing::error!(%error, partition, "the feed of the journal cannot follow a partition");
            }
        }
    }

    /// Asks what one of the followed partitions holds.
    fn ask_one(&mut self) {
        if self.followed.is_empty() {
            return;
        }
        self.asked = (self.asked + 1) % self.followed.len();
        let partition = self.followed[self.asked];
        let topic = &self.shared.options.topic;
        let held = self.client.fetch_watermarks(topic, i32::from(partition), WATERMARK_PATIENCE);
        if let Ok((oldest, next)) = held {
            note_watermarks(&self.shared, partition, oldest, next);
        }
    }
}

/// Notes what a partition holds.
pub(super) fn note_watermarks(shared: &Shared, partition: u16, oldest: i64, next: i64) {
    let state = &shared.partitions[usize::from(partition)];
    let position = |offset: i64| u64::try_from(offset).unwrap_or(0);
    state.oldest.fetch_max(position(oldest), Ordering::AcqRel);
    state.next.fetch_max(position(next), Ordering::AcqRel);
}

fn take(shared: &Shared, news: &mut HashMap<u16, View>, message: &BorrowedMessage<'_>) {
    let Ok(number) = u16::try_from(message.partition()) else { return };
    let Some(state) = shared.partitions.get(usize::from(number)) else { return };
    let mut entry = match wire::entry(message) {
        Ok(entry) => entry,
        Err(error) => {
            // Its readers find it for themselves, and stop there.
            tracing::error!(%error, "the journal's topic holds what is no record");
            return;
        }
    };
    let position = entry.position.0;
    entry.decoded = state.take_decoded(position);
    if entry.decoded.is_none() && entry.kind != RecordKind::Commands {
        // Once for all its readers; one that can't be decoded is theirs to tell.
        entry.decoded = RecordRows::decode(entry.version, &entry.payload).ok().map(Arc::new);
    }
    let base = {
        let mut tail = lock(&state.tail);
        let next = news.get(&number).map_or_else(|| state.view.borrow().next, |view| view.next);
        if position < next && tail.oldest().is_some() {
            return;
        }
        if position > next {
            tail.clear();
        }
        tail.extend(std::iter::once(entry));
        tail.oldest().unwrap_or(position + 1)
    };
    shared.counts.fetched.inc();
    state.next.fetch_max(position + 1, Ordering::AcqRel);
    news.insert(number, View { base, next: position + 1, closed: false });
}

/// Whether a position is none that the partition has.
pub(super) fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
    )
}
