//! What goes out of the journal: entries, and the promise of durability.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use schema::{DecodeError, Position, RecordKind, RecordRows, TimestampMs};
use tokio::sync::oneshot;

use crate::AppendError;

/// A durable record with its place.
#[derive(Clone, Debug)]
pub struct Entry {
    pub position: Position,
    pub kind: RecordKind,
    /// `schema::RECORD_VERSION` of the program that wrote it.
    pub version: u8,
    pub rows: u32,
    /// When this node took it in; not monotonic if its clock was set.
    pub appended_at: TimestampMs,
    pub payload: Bytes,
    /// What `payload` decodes to, as whoever appended it had it at hand; only
    /// while the entry is read from memory.
    pub decoded: Option<Arc<RecordRows>>,
}

impl Entry {
    /// The rows of an entry that is no command.
    ///
    /// # Errors
    /// The payload is no record of ours.
    pub fn record_rows(&self) -> Result<Arc<RecordRows>, DecodeError> {
        match &self.decoded {
            Some(rows) => Ok(Arc::clone(rows)),
            None => RecordRows::decode(self.version, &self.payload).map(Arc::new),
        }
    }

    /// What it takes of memory, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        let decoded = self.decoded.as_ref().map_or(0, |rows| rows.memory_bytes());
        size_of::<Self>() + self.payload.len() + decoded
    }
}

/// The same record at the same place; whether it stands decoded beside is no
/// part of it.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        let place = |entry: &Self| (entry.position, entry.kind, entry.version, entry.rows);
        place(self) == place(other)
            && self.appended_at == other.appended_at
            && self.payload == other.payload
    }
}

impl Eq for Entry {}

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
