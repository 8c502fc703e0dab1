//! Consumers that are made once and used again.
//!
//! One costs threads, a connection to each broker, and what is known of all
//! partitions. A node that takes hundreds of partitions over asks for each what it
//! holds, and reads each for a moment.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;

use super::KafkaOptions;
use super::feed::{Client, consumer, place};
use super::shared::{Shared, lock};

/// Consumers that nobody has now and that are kept, at most.
const MAX_IDLE: usize = 4;

#[derive(Default)]
pub(super) struct Consumers {
    idle: Mutex<Vec<Client>>,
    asker: Mutex<Option<Arc<Client>>>,
}

impl std::fmt::Debug for Consumers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumers").field("idle", &lock(&self.idle).len()).finish_non_exhaustive()
    }
}

impl Consumers {
    /// The one by which brokers are asked what partitions hold.
    ///
    /// # Errors
    /// Only what is wrong with our own settings can fail here, or memory.
    pub fn asker(&self, options: &KafkaOptions) -> Result<Arc<Client>, KafkaError> {
        let mut asker = lock(&self.asker);
        if let Some(client) = &*asker {
            return Ok(client.clone());
        }
        Ok(asker.insert(Arc::new(consumer(options)?)).clone())
    }

    /// Ends those that are kept. Blocks.
    pub fn end(&self) {
        lock(&self.idle).clear();
        *lock(&self.asker) = None;
    }
}

/// A consumer that reads one partition, and goes back to the others when that is
/// over.
pub(super) struct Lent {
    client: Option<Client>,
    shared: Arc<Shared>,
}

impl Lent {
    /// It begins at a position.
    ///
    /// # Errors
    /// As [`Consumers::asker`].
    pub fn at(shared: &Arc<Shared>, partition: u16, position: u64) -> Result<Self, KafkaError> {
        let idle = lock(&shared.consumers.idle).pop();
        let client = match idle {
            Some(client) => client,
            None => consumer(&shared.options)?,
        };
        client.assign(&place(&shared.options.topic, partition, position))?;
        Ok(Self { client: Some(client), shared: shared.clone() })
    }

    pub fn poll(&self, patience: Duration) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
        self.client.as_ref()?.poll(patience)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let mut idle = lock(&self.shared.consumers.idle);
        // One that can't be told to stop is not used again.
        if idle.len() < MAX_IDLE && !self.shared.is_closed() && client.unassign().is_ok() {
            idle.push(client);
        }
    }
}
