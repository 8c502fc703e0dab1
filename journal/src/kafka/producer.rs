//! Records on their way to the brokers, bounded in bytes and in the order in which
//! they were taken in.
//!
//! The producer is idempotent and never gives a record up, so that a broker that
//! is away makes submitters wait and nothing else. What it cannot go on from (a
//! broker that has lost what it acknowledged, say) leaves records of which nobody
//! knows whether they are there: they end with [`AppendError::Interrupted`], are
//! acknowledged to nobody, and a new producer takes the next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Statistics};
use schema::{PartitionId, Position, Record, RecordRows};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::shared::Shared;
use super::{topic, wire};
use crate::{AppendError, OpenError, Pending};

/// The pause before a record is offered again that the client's queue had no
/// place for; our own limit is reached before that.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// How long closing waits for the brokers to acknowledge what was taken.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// A record that waits for its acknowledgement.
#[derive(Debug)]
pub(super) struct Delivery {
    partition: u16,
    rows: u32,
    bytes: usize,
    decoded: Option<Arc<RecordRows>>,
    taken_at: Instant,
    done: oneshot::Sender<Result<Position, AppendError>>,
    _room: OwnedSemaphorePermit,
}

/// Takes the brokers' answers.
pub(super) struct Answers {
    shared: Arc<Shared>,
    /// The producer can't go on.
    broken: Arc<AtomicBool>,
}

impl ClientContext for Answers {
    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if is_fatal(&error) {
            self.broken.store(true, Ordering::Release);
            tracing::error!(%error, reason, "the Kafka producer cannot go on and is made anew");
        } else {
            tracing::warn!(%error, reason, "a Kafka broker does not answer the producer");
        }
    }
}

impl ProducerContext for Answers {
    type DeliveryOpaque = Box<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Box<Delivery>) {
        let Delivery { partition, rows, bytes, decoded, taken_at, done, _room } = *delivery;
        let outcome = match result {
            Ok(message) => {
                let position = u64::try_from(message.offset()).unwrap_or(0);
                let state = &self.shared.partitions[usize::from(partition)];
                if let Some(rows) = decoded {
                    state.keep_decoded(position, rows);
                }
                state.next.fetch_max(position + 1, Ordering::AcqRel);
                self.shared.counts.acknowledged(rows, bytes, taken_at.elapsed());
                Ok(Position(position))
            }
            Err((error, _)) => {
                if is_fatal(error) {
                    self.broken.store(true, Ordering::Release);
                }
                self.shared.counts.interrupted.inc();
                match self.shared.is_closed() {
                    true => Err(AppendError::Closed),
                    false => Err(AppendError::Interrupted(error.to_string())),
                }
            }
        };
        self.shared.end_waiting(outcome.is_ok());
        // Whoever submitted it may have gone away.
        let _ = done.send(outcome);
    }
}

fn is_fatal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::PurgeQueue)
    )
}

type Client = ThreadedProducer<Answers>;

pub(super) struct Producer {
    shared: Arc<Shared>,
    client: RwLock<(Arc<Client>, Arc<AtomicBool>)>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

impl Producer {
    pub fn start(shared: &Arc<Shared>) -> Result<Self, OpenError> {
        let client = RwLock::new(connect(shared).map_err(|error| topic::brokers(&error))?);
        Ok(Self { shared: shared.clone(), client })
    }

    pub async fn submit(
        &self,
        partition: PartitionId,
        record: Record,
    ) -> Result<Pending, AppendError> {
        let shared = &self.shared;
        let partitions = u16::try_from(shared.partitions.len()).unwrap_or(u16::MAX);
        if partition.0 >= partitions {
            return Err(AppendError::NoSuchPartition { partition, partitions });
        }
        let (bytes, limit) = (record.payload.len(), shared.options.max_record_bytes);
        if bytes > limit {
            return Err(AppendError::TooLarge { bytes, limit });
        }
        let room = u32::try_from(bytes.max(1)).unwrap_or(u32::MAX);
        // The semaphore is fair, so that submitters keep their order; it is closed
        // with the journal.
        let room = shared.room.clone().acquire_many_owned(room).await;
        let room = room.map_err(|_| AppendError::Closed)?;
        let (done, pending) = oneshot::channel();
        let headers = wire::headers(&record);
        let Record { rows, payload, decoded, .. } = record;
        let delivery = Box::new(Delivery {
            partition: partition.0,
            rows,
            bytes,
            decoded,
            taken_at: Instant::now(),
            done,
            _room: room,
        });
        let mut message =
            BaseRecord::<(), [u8], _>::with_opaque_to(&shared.options.topic, delivery)
                .partition(i32::from(partition.0))
                .payload(&payload[..])
                .headers(headers);
        shared.begin_waiting();
        shared.counts.appends.inc();
        loop {
            if shared.is_closed() {
                shared.end_waiting(false);
                return Err(AppendError::Closed);
            }
            let sent = self.client()?.send(message);
            match sent {
                Ok(()) => return Ok(Pending(pending)),
                Err((error, back)) => {
                    let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    if !is_full && !is_fatal(&error) {
                        shared.end_waiting(false);
                        return Err(AppendError::Interrupted(error.to_string()));
                    }
                    message = back;
                    tokio::time::sleep(FULL_PAUSE).await;
                }
            }
        }
    }

    /// The producer, or a new one for one that can't go on.
    fn client(&self) -> Result<Arc<Client>, AppendError> {
        {
            let (client, broken) = &*self.client.read().unwrap_or_else(PoisonError::into_inner);
            if !broken.load(Ordering::Acquire) {
                return Ok(client.clone());
            }
        }
        let mut held = self.client.write().unwrap_or_else(PoisonError::into_inner);
        if held.1.load(Ordering::Acquire) {
            let made = connect(&self.shared);
            *held = made.map_err(|error| AppendError::Interrupted(error.to_string()))?;
        }
        Ok(held.0.clone())
    }

    /// Waits until what was taken is acknowledged, within limits. Blocks.
    pub fn close(&self) {
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner).0.clone();
        if let Err(error) = client.flush(CLOSE_PATIENCE) {
            tracing::error!(%error, "the brokers have not acknowledged all; nobody was told that they had");
        }
    }
}

fn connect(shared: &Arc<Shared>) -> Result<(Arc<Client>, Arc<AtomicBool>), KafkaError> {
    let options = &shared.options;
    let mut config = options.client();
    config.set("enable.idempotence", "true");
    config.set("acks", "all");
    // A record is never given up.
    config.set("message.timeout.ms", "0");
    config.set("retry.backoff.max.ms", "1000");
    config.set("linger.ms", "1");
    config.set("compression.type", "none");
    config.set("message.max.bytes", (options.max_record_bytes + 65_536).to_string());
    config.set("batch.size", "1000000");
    // Our own limit comes first.
    config.set("queue.buffering.max.kbytes", (options.queue_bytes / 512).to_string());
    config.set("queue.buffering.max.messages", "10000000");
    let broken = Arc::new(AtomicBool::new(false));
    let answers = Answers { shared: shared.clone(), broken: broken.clone() };
    let client: Client = config.create_with_context(answers)?;
    Ok((Arc::new(client), broken))
}
