//! Records on their way to the brokers, bounded in bytes and in the order in which
//! they were taken in.
//!
//! The producer is idempotent and never gives a record up, so that a broker that
//! is away makes submitters wait and nothing else. What it cannot go on from (a
//! broker that has lost what it acknowledged, say) leaves records of which nobody
//! knows whether they are there: they end with [`AppendError::Interrupted`], are
//! acknowledged to nobody, and a new producer takes the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Statistics};
use schema::{PartitionId, Position, Record, RecordRows};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::renewed::{self, Broken, Renewed, is_fatal, is_full};
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
    broken: Broken,
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

pub(super) struct Producer {
    shared: Arc<Shared>,
    client: Renewed<Answers>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

impl Producer {
    pub fn start(shared: &Arc<Shared>) -> Result<Self, OpenError> {
        let of_clients = shared.clone();
        let make = move |broken| {
            let answers = Answers { shared: of_clients.clone(), broken };
            renewed::config(&of_clients.options).create_with_context(answers)
        };
        let client = Renewed::start(make).map_err(|error| topic::brokers(&error))?;
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
            let client = self.client.usable();
            let client = client.map_err(|error| AppendError::Interrupted(error.to_string()))?;
            match client.send(message) {
                Ok(()) => return Ok(Pending(pending)),
                Err((error, back)) => {
                    if !is_full(&error) && !is_fatal(&error) {
                        shared.end_waiting(false);
                        return Err(AppendError::Interrupted(error.to_string()));
                    }
                    message = back;
                    tokio::time::sleep(FULL_PAUSE).await;
                }
            }
        }
    }

    /// Waits until what was taken is acknowledged, within limits. Blocks.
    pub fn close(&self) {
        if let Err(error) = self.client.current().flush(CLOSE_PATIENCE) {
            tracing::error!(%error, "the brokers have not acknowledged all; nobody was told that they had");
        }
    }
}
