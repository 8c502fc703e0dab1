//! What goes out of the journal: entries, and the promise of durability.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use schema::{Position, RecordKind, TimestampMs};
use tokio::sync::oneshot;

use crate::AppendError;

/// A durable record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub position: Position,
    pub kind: RecordKind,
    /// `schema::RECORD_VERSION` of the program that wrote it.
    pub version: u8,
    pub rows: u32,
    /// When this node took it in; not monotonic if its clock was set.
    pub appended_at: TimestampMs,
    pub payload: Bytes,
}

/// What a partition holds: `oldest..next`, empty if they are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first position that is kept.
    pub oldest: Position,
    /// The first position that is not durable yet.
    pub next: Position,
}

/// Resolves to the record's position once it is durable.
#[derive(Debug)]
#[must_use = "the record is durable only once this resolves"]
pub struct Pending(pub(crate) oneshot::Receiver<Result<Position, AppendError>>);

impl Future for Pending {
    type Output = Result<Position, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(AppendError::Closed)))
    }
}
