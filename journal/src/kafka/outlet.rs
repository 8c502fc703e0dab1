//! A topic beside the journal's in which something is published for others, a
//! partition for a partition.
//!
//! What belongs to one partition is published by one process at a time, a piece
//! after the other, so that it lies there in the order in which it was given.
//! Nobody knows of a piece that was interrupted how much of it is there; the last
//! message of the partition says it. What a message means is not known here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{
    BorrowedMessage, DeliveryResult, Header, Headers as _, Message as _, OwnedHeaders,
};
use rdkafka::producer::{
    BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use schema::PartitionId;
use tokio::sync::oneshot;

use super::renewed::{self, Broken, Renewed, is_fatal, is_full};
use super::{KafkaOptions, feed, topic};
use crate::OpenError;

/// The pause before a message is offered again that the client's queue had no
/// place for.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// How long the brokers may take to say what one partition ends with …
const ASK_PATIENCE: Duration = Duration::from_secs(2);

/// … and all that are asked for at once.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// How long one look for a message waits.
const POLL: Duration = Duration::from_millis(50);

/// Bytes of all partitions that wait for the brokers at most, about.
const QUEUE_BYTES: usize = 32 << 20;

/// The largest message; a topic whose limit nobody has changed takes it, and so do
/// consumers.
const MAX_MESSAGE_BYTES: usize = 1_000_000;

/// Key, headers and what Kafka puts around a message.
const AROUND_VALUE_BYTES: usize = 2_048;

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutletMessage {
    pub key: String,
    /// Names and their values, in this order.
    pub headers: Vec<(&'static str, String)>,
    pub value: Vec<u8>,
}

/// The last message of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastMessage {
    pub offset: u64,
    /// Those whose values are text.
    pub headers: BTreeMap<String, String>,
}

/// Something was not published, or nobody knows.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OutletError {
    #[error("the brokers have not said how much is published: {0}")]
    Interrupted(String),
    /// What others read lacks something.
    #[error("a message was refused and one behind it was taken: {0}")]
    Hole(String),
    #[error("the brokers do not say what the partition ends with: {0}")]
    Last(String),
}

/// A handle to the topic. Clones are handles to the same one.
#[derive(Clone)]
pub struct Outlet {
    inner: Arc<Inner>,
}

struct Inner {
    options: KafkaOptions,
    producer: Renewed<Answers>,
}

type Answer = oneshot::Sender<Result<(), KafkaError>>;

/// Takes the brokers' answers.
struct Answers {
    broken: Broken,
}

impl ClientContext for Answers {
    fn error(&self, error: KafkaError, reason: &str) {
        if is_fatal(&error) {
            self.broken.store(true, Ordering::Release);
        }
        tracing::warn!(%error, reason, "a Kafka broker does not answer an outlet's producer");
    }
}

impl ProducerContext for Answers {
    type DeliveryOpaque = Box<Answer>;

    fn delivery(&self, result: &DeliveryResult<'_>, answer: Box<Answer>) {
        let outcome = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => {
                // Nothing may follow what was not taken.
                self.broken.store(true, Ordering::Release);
                Err(error.clone())
            }
        };
        // Whoever published it may have been ended.
        let _ = answer.send(outcome);
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").field("topic", &self.topic()).finish_non_exhaustive()
    }
}

impl Outlet {
    pub(super) async fn open(
        journal: &KafkaOptions,
        topic: &str,
        retention_ms: u64,
    ) -> Result<Self, OpenError> {
        let options = KafkaOptions {
            topic: topic.to_owned(),
            retention_ms,
            max_record_bytes: MAX_MESSAGE_BYTES,
            queue_bytes: QUEUE_BYTES,
            ..journal.clone()
        };
        options.check()?;
        topic::prepare(&options).await?;
        let of_producers = options.clone();
        let make = move |broken| {
            let mut config = renewed::config(&of_producers);
            // What was not taken has nothing taken behind it.
            config.set("enable.gapless.guarantee", "true");
            config.create_with_context(Answers { broken })
        };
        let producer = Renewed::start(make).map_err(|error| topic::brokers(&error))?;
        tracing::info!(topic, "opened an outlet");
        Ok(Self { inner: Arc::new(Inner { options, producer }) })
    }

    #[must_use]
    pub fn topic(&self) -> &str {
        &self.inner.options.topic
    }

    /// The largest value that the topic takes.
    #[must_use]
    pub fn max_value_bytes(&self) -> usize {
        self.inner.options.max_record_bytes - AROUND_VALUE_BYTES
    }

    /// Publishes messages of one partition in their order, behind all that this
    /// process has published there before; on return all are in the topic, in all
    /// copies that must be in step. One call for a partition at a time. While the
    /// brokers are away it waits. Who drops the call calls [`Outlet::give_up`].
    ///
    /// # Errors
    /// [`OutletError::Interrupted`]: the first of them are in the topic, and
    /// [`Outlet::last`] says which. [`OutletError::Hole`] should not be possible.
    pub async fn publish(
        &self,
        partition: PartitionId,
        messages: Vec<OutletMessage>,
    ) -> Result<(), OutletError> {
        let interrupted = |error: &KafkaError| OutletError::Interrupted(error.to_string());
        // One and the same for all: a new one would not know what the former has
        // not brought there.
        let client = self.inner.producer.usable().map_err(|error| interrupted(&error))?;
        let mut sent = Vec::with_capacity(messages.len());
        let mut refused: Option<KafkaError> = None;
        for message in messages {
            match self.send(&client, partition, &message).await {
                Ok(answer) => sent.push(answer),
                Err(error) => {
                    self.inner.producer.give_up();
                    refused = Some(error);
                    break;
                }
            }
        }
        let mut failed: Option<KafkaError> = None;
        let mut is_hole = false;
        for answer in sent {
            match (answer.await.unwrap_or(Err(KafkaError::Canceled)), &failed) {
                (Ok(()), None) => {}
                (Ok(()), Some(_)) => is_hole = true,
                (Err(error), _) => failed = Some(failed.unwrap_or(error)),
            }
        }
        match failed.or(refused) {
            None => Ok(()),
            Some(error) if is_hole => Err(OutletError::Hole(error.to_string())),
            Some(error) => Err(interrupted(&error)),
        }
    }

    async fn send(
        &self,
        client: &ThreadedProducer<Answers>,
        partition: PartitionId,
        message: &OutletMessage,
    ) -> Result<oneshot::Receiver<Result<(), KafkaError>>, KafkaError> {
        let headers = OwnedHeaders::new_with_capacity(message.headers.len());
        let headers = message.headers.iter().fold(headers, |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let (answer, answered) = oneshot::channel();
        let mut record: BaseRecord<'_, str, [u8], _> =
            BaseRecord::with_opaque_to(self.topic(), Box::new(answer))
                .partition(i32::from(partition.0))
                .key(message.key.as_str())
                .payload(&message.value[..])
                .headers(headers);
        loop {
            match client.send(record) {
                Ok(()) => return Ok(answered),
                Err((error, back)) if is_full(&error) => {
                    record = back;
                    tokio::time::sleep(FULL_PAUSE).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Ends what is being published, as far as it is not there yet: calls that
    /// wait end with [`OutletError::Interrupted`], those of other partitions too.
    pub async fn give_up(&self) {
        let inner = self.inner.clone();
        let given_up = tokio::task::spawn_blocking(move || {
            inner.producer.give_up();
            inner.producer.current().purge(PurgeConfig::default().queue().inflight());
        });
        if given_up.await.is_err() {
            tracing::error!("an outlet's producer could not be given up");
        }
    }

    /// What each of these partitions ends with, none where it is empty. What a
    /// process has published that was ended a moment ago may still be missing.
    pub async fn last(
        &self,
        partitions: Vec<PartitionId>,
    ) -> Vec<(PartitionId, Result<Option<LastMessage>, OutletError>)> {
        let (inner, asked) = (self.inner.clone(), partitions.clone());
        let read = tokio::task::spawn_blocking(move || inner.last(&asked));
        let mut found = read.await.unwrap_or_default();
        let answer = |partition| {
            let unsaid = || Err(OutletError::Last(format!("nothing within {LAST_PATIENCE:?}")));
            (partition, found.remove(&partition).unwrap_or_else(unsaid))
        };
        partitions.into_iter().map(answer).collect()
    }
}

impl Inner {
    /// Partitions of which nothing is said in time are left out. Blocks.
    fn last(
        &self,
        partitions: &[PartitionId],
    ) -> BTreeMap<PartitionId, Result<Option<LastMessage>, OutletError>> {
        let failed = |error: &KafkaError| OutletError::Last(error.to_string());
        let mut found = BTreeMap::new();
        let client = match feed::consumer(&self.options) {
            Ok(client) => client,
            Err(error) => {
                return partitions.iter().map(|it| (*it, Err(failed(&error)))).collect();
            }
        };
        let until = Instant::now() + LAST_PATIENCE;
        let mut waited_for = 0;
        for partition in partitions {
            if Instant::now() >= until {
                break;
            }
            let topic = &self.options.topic;
            let held = client.fetch_watermarks(topic, i32::from(partition.0), ASK_PATIENCE);
            let last = match held {
                Err(error) => Err(failed(&error)),
                Ok((oldest, next)) if oldest >= next => Ok(None),
                Ok((_, next)) => {
                    let last = u64::try_from(next - 1).unwrap_or(0);
                    let assigned =
                        client.incremental_assign(&feed::place(topic, partition.0, last));
                    if assigned.is_ok() {
                        waited_for += 1;
                        continue;
                    }
                    assigned.map(|()| None).map_err(|error| failed(&error))
                }
            };
            found.insert(*partition, last);
        }
        while waited_for > 0 && Instant::now() < until {
            // What goes wrong with one partition is seen by its missing.
            let Some(Ok(message)) = client.poll(POLL) else { continue };
            let partition = PartitionId(u16::try_from(message.partition()).unwrap_or(u16::MAX));
            if found.insert(partition, Ok(Some(last_message(&message)))).is_none() {
                waited_for -= 1;
            }
        }
        found
    }
}

fn last_message(message: &BorrowedMessage<'_>) -> LastMessage {
    let text = |header: Header<'_, &[u8]>| {
        let value = std::str::from_utf8(header.value?).ok()?;
        Some((header.key.to_owned(), value.to_owned()))
    };
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter().filter_map(text));
    LastMessage { offset: u64::try_from(message.offset()).unwrap_or(0), headers: headers.collect() }
}
