//! A producer of durable messages, and a new one where one can't go on.
//!
//! It is idempotent and never gives a message up, so that a broker that is away
//! makes messages wait and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{ProducerContext, ThreadedProducer};

use super::KafkaOptions;

/// Says that a producer can't go on; its context has it too.
pub(super) type Broken = Arc<AtomicBool>;

type Make<C> = Box<dyn Fn(Broken) -> Result<ThreadedProducer<C>, KafkaError> + Send + Sync>;

pub(super) struct Renewed<C: ProducerContext + 'static> {
    make: Make<C>,
    held: RwLock<(Arc<ThreadedProducer<C>>, Broken)>,
}

impl<C: ProducerContext + 'static> Renewed<C> {
    /// `make` makes each of the producers.
    pub fn start(
        make: impl Fn(Broken) -> Result<ThreadedProducer<C>, KafkaError> + Send + Sync + 'static,
    ) -> Result<Self, KafkaError> {
        let broken = Broken::default();
        let held = RwLock::new((Arc::new(make(broken.clone())?), broken));
        Ok(Self { make: Box::new(make), held })
    }

    /// The producer as it is.
    pub fn current(&self) -> Arc<ThreadedProducer<C>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The producer, or a new one for one that can't go on.
    pub fn usable(&self) -> Result<Arc<ThreadedProducer<C>>, KafkaError> {
        {
            let (client, broken) = &*self.held.read().unwrap_or_else(PoisonError::into_inner);
            if !broken.load(Ordering::Acquire) {
                return Ok(client.clone());
            }
        }
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.1.load(Ordering::Acquire) {
            let broken = Broken::default();
            *held = (Arc::new((self.make)(broken.clone())?), broken);
        }
        Ok(held.0.clone())
    }

    /// The next message goes to a new producer.
    pub fn give_up(&self) {
        let (_, broken) = &*self.held.read().unwrap_or_else(PoisonError::into_inner);
        broken.store(true, Ordering::Release);
    }
}

pub(super) fn is_fatal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::PurgeQueue)
    )
}

/// Whether the client had no place for a message, which is offered again.
pub(super) fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

/// What such producers have in common.
pub(super) fn config(options: &KafkaOptions) -> ClientConfig {
    let mut config = options.client();
    config.set("enable.idempotence", "true");
    config.set("acks", "all");
    // A message is never given up.
    config.set("message.timeout.ms", "0");
    config.set("retry.backoff.max.ms", "1000");
    config.set("linger.ms", options.linger_ms.to_string());
    config.set("compression.type", "none");
    config.set("message.max.bytes", (options.max_record_bytes + 65_536).to_string());
    config.set("batch.size", "1000000");
    // Our own limit comes first.
    config.set("queue.buffering.max.kbytes", (options.queue_bytes / 512).to_string());
    config.set("queue.buffering.max.messages", "10000000");
    config
}
