//! The way into the partitions' batchers, bounded in bytes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use journal::Journal;
use schema::{PartitionId, RecordKind, RouterId, TenantId, TimestampMs};
use serde::{Deserialize, Serialize};

use super::{KeyTable, Rows};

/// What one socket read of one router brought, of one kind.
#[derive(Debug)]
pub struct Submission {
    pub tenant: TenantId,
    pub router: RouterId,
    /// When the broker read it from its socket.
    pub received_at: TimestampMs,
    pub kind: RecordKind,
    pub rows: Rows,
}

/// How submissions are gathered. Part of the server's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchOptions {
    /// The most bytes of submissions of one partition that wait for a record
    /// or for the journal. Past it submitters wait, and so their sockets.
    pub queue_bytes: usize,
    /// A record is closed once it has as many rows.
    pub max_record_rows: usize,
    /// A record is closed once it has as many bytes before compression.
    pub max_record_bytes: usize,
    /// Records of one partition that the journal may have in hand while the
    /// next is being gathered.
    pub max_records_in_flight: usize,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            queue_bytes: 16 * 1024 * 1024,
            max_record_rows: 16_384,
            max_record_bytes: 4 * 1024 * 1024,
            max_records_in_flight: 4,
        }
    }
}

/// Why a submission is not durable. Nothing of it may be acknowledged; the
/// publisher keeps it and sends it again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the journal can't take the readings: {0}")]
    Journal(#[from] journal::AppendError),
    #[error("the journal is being closed")]
    Closed,
}

/// The node's queues into its partitions; a cheap handle.
#[derive(Clone, Debug)]
pub struct Submitter {
    keys: KeyTable,
}

impl Submitter {
    /// Starts a batcher for each partition of `journal` on the current runtime.
    ///
    /// # Errors
    /// When a metric of the same name is registered already.
    pub fn start(
        journal: &Journal,
        options: &BatchOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let _ = (journal, options, registry);
        Ok(Self { keys: KeyTable::new() })
    }

    /// The keys of the node; every [`super::KeyCache`] is made from it.
    #[must_use]
    pub fn keys(&self) -> &KeyTable {
        &self.keys
    }

    /// Waits for room in the partition's queue. The submissions of one caller
    /// keep their order. Dropping this future before it is ready submits nothing.
    ///
    /// # Errors
    /// [`SubmitError::Closed`] once [`Submitter::close`] was called.
    pub async fn submit(
        &self,
        partition: PartitionId,
        submission: Submission,
    ) -> Result<Completion, SubmitError> {
        let _ = (partition, submission);
        Err(SubmitError::Closed)
    }

    /// Takes no more submissions and waits until those taken are durable or
    /// have failed.
    pub async fn close(&self) {}
}

/// Resolves once all of a submission's rows are durable, or can't be.
#[derive(Debug)]
#[must_use = "nothing may be acknowledged before it resolves"]
pub struct Completion {
    done: tokio::sync::oneshot::Receiver<Result<(), SubmitError>>,
}

impl Future for Completion {
    type Output = Result<(), SubmitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done)
            .poll(context)
            .map(|result| result.unwrap_or(Err(SubmitError::Closed)))
    }
}
