//! The journal in Kafka, for nodes that share one: a topic of ours, a partition
//! for a partition, an offset for a position.
//!
//! Submitters hand records to an idempotent [`producer`]; a record is durable when
//! all copies that must be in step have it. One thread follows the partitions
//! that are read here ([`feed`]) and keeps the newest records in memory for all
//! their readers ([`reader`]). Positions belong to whoever reads: nothing is
//! committed to Kafka, which only says which process works on which partitions
//! ([`group`]). An [`outlet`] is a topic beside the journal's, for others to read
//! what we publish. [`topic`] makes the topics and refuses one that would
//! lose records; [`wire`] is how a record lies in a message.

mod consumers;
mod feed;
mod group;
mod metrics;
mod options;
mod outlet;
mod producer;
mod reader;
mod renewed;
mod shared;
mod topic;
mod wire;

pub(crate) use group::Membership;
pub use options::{KafkaOptions, SaslMechanism, Secret};
pub use outlet::{LastMessage, Outlet, OutletError, OutletMessage};
pub use reader::KafkaReader;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::Registry;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use schema::{PartitionId, Position, Record};

use self::feed::Feed;
use self::metrics::Counts;
use self::producer::Producer;
use self::shared::Shared;
use crate::metrics::{Gauges, ReaderLag, State};
use crate::{AppendError, Assignment, Bounds, JournalStatus, OpenError, Pending, ReadError};

/// Readers that are behind and read for themselves at the same time; each has a
/// client with threads of its own. More wait for their turn.
const MAX_CATCHING_UP: usize = 32;

/// How long the brokers may take to say what a partition holds at opening.
const WATERMARK_PATIENCE: Duration = Duration::from_secs(30);

/// What a partition holds. Of a topic that was just made, or of one whose broker
/// has just died, the broker that is asked may not be the leader yet, or know
/// none: it is asked again for as long as brokers may take.
#[allow(clippy::disallowed_methods, reason = "it runs on a thread for blocking work")]
fn watermarks(
    client: &BaseConsumer<impl ConsumerContext>,
    topic: &str,
    partition: u16,
) -> KafkaResult<(i64, i64)> {
    let until = Instant::now() + WATERMARK_PATIENCE;
    loop {
        let held = client.fetch_watermarks(topic, i32::from(partition), WATERMARK_PATIENCE);
        let is_passing = matches!(
            held.as_ref().err().and_then(KafkaError::rdkafka_error_code),
            Some(
                RDKafkaErrorCode::NotLeaderForPartition
                    | RDKafkaErrorCode::LeaderNotAvailable
                    | RDKafkaErrorCode::UnknownTopicOrPartition
            )
        );
        if !is_passing || Instant::now() >= until {
            return held;
        }
        std::thread::sleep(topic::ASK_AGAIN);
    }
}

/// A handle to the journal in Kafka.
#[derive(Clone, Debug)]
pub struct KafkaJournal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    producer: Producer,
    feed: Mutex<Option<JoinHandle<()>>>,
}

impl State for Weak<Shared> {
    fn look(&self) -> Option<(JournalStatus, Vec<ReaderLag>)> {
        let shared = self.upgrade()?;
        Some((shared.status(), shared.lags()))
    }
}

impl KafkaJournal {
    pub(crate) async fn open(
        options: KafkaOptions,
        registry: &Registry,
    ) -> Result<Self, OpenError> {
        options.check()?;
        topic::prepare(&options).await?;
        let counts = Counts::register(registry)?;
        let registry = registry.clone();
        let opened = tokio::task::spawn_blocking(move || Self::start(options, counts, &registry));
        opened.await.unwrap_or_else(|error| Err(OpenError::Brokers(error.to_string())))
    }

    fn start(
        options: KafkaOptions,
        counts: Counts,
        registry: &Registry,
    ) -> Result<Self, OpenError> {
        let (topic, partitions) = (options.topic.clone(), options.partitions);
        let shared = Shared::new(options, &vec![(0, 0); usize::from(partitions)], counts);
        let asker = shared.consumers.asker(&shared.options);
        let client = asker.map_err(|error| topic::brokers(&error))?;
        for partition in 0..partitions {
            let held = watermarks(&client, &topic, partition);
            let (oldest, next) = held.map_err(|error| topic::brokers(&error))?;
            feed::note_watermarks(&shared, partition, oldest, next);
        }
        let shared = Arc::new(shared);
        registry.register(Box::new(Gauges::new(Arc::downgrade(&shared))?))?;
        let producer = Producer::start(&shared)?;
        let feed = Feed::new(&shared)?;
        let feed = std::thread::Builder::new()
            .name("journal-feed".into())
            .spawn(move || feed.run())
            .map_err(|error| OpenError::Brokers(error.to_string()))?;
        tracing::info!(topic, partitions, "opened the journal in Kafka");
        Ok(Self { inner: Arc::new(Inner { shared, producer, feed: Mutex::new(Some(feed)) }) })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.shared().options.partitions
    }

    pub(crate) async fn submit(
        &self,
        partition: PartitionId,
        record: Record,
    ) -> Result<Pending, AppendError> {
        self.inner.producer.submit(partition, record).await
    }

    pub(crate) fn reader(
        &self,
        partition: PartitionId,
        from: Position,
    ) -> Result<KafkaReader, ReadError> {
        let partitions = self.partitions();
        if partition.0 >= partitions {
            return Err(ReadError::NoSuchPartition { partition, partitions });
        }
        KafkaReader::new(self.shared(), partition, from)
    }

    pub(crate) async fn reader_from(
        &self,
        partition: PartitionId,
        from: Position,
        reached: Position,
    ) -> Result<KafkaReader, ReadError> {
        let partitions = self.partitions();
        if partition.0 >= partitions {
            return Err(ReadError::NoSuchPartition { partition, partitions });
        }
        KafkaReader::open(self.shared(), partition, from, reached).await
    }

    pub(crate) async fn end(&self, partition: PartitionId) -> Position {
        reader::asked(self.shared(), partition).await;
        self.bounds(partition).next
    }

    pub(crate) fn let_go(&self, name: &'static str, partition: PartitionId) {
        self.shared().let_go(name, partition);
    }

    pub(crate) fn assignment(
        &self,
        role: &str,
        registry: &Registry,
    ) -> Result<Assignment, OpenError> {
        group::join(self.shared(), role, registry)
    }

    pub(crate) async fn outlet(&self, topic: &str, retention_ms: u64) -> Result<Outlet, OpenError> {
        Outlet::open(&self.shared().options, topic, retention_ms).await
    }

    pub(crate) fn bounds(&self, partition: PartitionId) -> Bounds {
        self.shared().partitions[usize::from(partition.0)].bounds()
    }

    pub(crate) fn hold(&self, name: &'static str, partition: PartitionId, needed: Position) {
        self.shared().hold(name, partition, needed);
    }

    pub(crate) fn status(&self) -> JournalStatus {
        self.shared().status()
    }

    pub(crate) async fn close(&self) {
        let inner = self.inner.clone();
        let closed = tokio::task::spawn_blocking(move || inner.close());
        if closed.await.is_err() {
            tracing::error!("the journal in Kafka could not be closed in order");
        }
    }
}

impl Inner {
    fn close(&self) {
        self.shared.room.close();
        self.shared.catching_up.close();
        self.producer.close();
        self.shared.closed.store(true, Ordering::Release);
        let feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(feed) = feed
            && feed.join().is_err()
        {
            tracing::error!("the feed of the journal failed");
        }
        self.shared.consumers.end();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
    }
}
