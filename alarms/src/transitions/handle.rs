//! How the owners of partitions speak to the task that publishes.

use std::time::Duration;

use schema::PartitionId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long a partition that is given away may take; less than what the journal
/// grants its owner.
pub(super) const LEAVE_PATIENCE: Duration = Duration::from_secs(4);

/// Words that wait to be heard.
const WORDS: usize = 64;

#[derive(Debug)]
pub(super) enum Word {
    Enter(PartitionId, u64),
    Leave(PartitionId, oneshot::Sender<()>),
}

/// How the owners of partitions speak to the task, which ends when nobody can any
/// more.
#[derive(Clone, Debug)]
pub(crate) struct PublisherHandle {
    words: mpsc::Sender<Word>,
}

impl PublisherHandle {
    /// The partition is this node's, claimed with this epoch.
    pub async fn enter(&self, partition: PartitionId, epoch: u64) {
        if self.words.send(Word::Enter(partition, epoch)).await.is_err() {
            tracing::error!(%partition, "nobody publishes the transitions of a partition");
        }
    }

    /// Publishes what is durable by now, as far as the brokers answer soon, and
    /// nothing more of the partition.
    pub async fn leave(&self, partition: PartitionId) {
        let (done, is_done) = oneshot::channel();
        if self.words.send(Word::Leave(partition, done)).await.is_ok()
            && timeout(LEAVE_PATIENCE + LEAVE_PATIENCE / 4, is_done).await.is_err()
        {
            tracing::error!(%partition, "a partition's transitions were not let go of in time");
        }
    }
}

pub(super) fn words() -> (PublisherHandle, mpsc::Receiver<Word>) {
    let (words, heard) = mpsc::channel(WORDS);
    (PublisherHandle { words }, heard)
}
