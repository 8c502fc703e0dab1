//! What people and routers did, on its way into the events.
//!
//! A change of the directory leaves its event in an outbox, in the transaction
//! of the change; from there it is carried to the events, where its id makes it
//! one however often it comes, and is only then taken out of the outbox. So a
//! crash at any point neither loses an event nor doubles one.

use std::time::Duration;

use schema::{Author, DeviceId, LocationId, Provenance, TenantId, TimestampMs, TransitionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::alarms::AlarmStoreError;
use crate::{AlarmStore, Directory, DirectoryError};

/// Events that are carried at once.
pub(crate) const CARRIED_AT_ONCE: usize = 1_000;

/// The pause behind a carrying, so that many changes share one: each costs
/// both databases an fsync.
const PACE: Duration = Duration::from_millis(100);

/// The pause before a failed carrying is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// An event to be written, of anything but an alarm. Its JSON is what the
/// directory's outbox holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewEvent {
    /// Follows from the cause, or is random where nothing could repeat it.
    pub id: TransitionId,
    /// None where it is of the installation as a whole.
    pub tenant: Option<TenantId>,
    pub at: TimestampMs,
    /// One of [`crate::alarms::EVENT_KINDS`].
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<LocationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// The directory's document that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(default)]
    pub provenance: Provenance,
    /// An object; never a secret.
    pub body: Value,
}

impl NewEvent {
    /// Who did it.
    #[must_use]
    pub fn with_author(mut self, author: &Author) -> Self {
        self.actor = Some(author.by.to_string());
        self.provenance = author.provenance.as_deref().cloned().unwrap_or_default();
        self
    }
}

/// Why events stay in the outbox for now.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Events(#[from] AlarmStoreError),
}

/// Carries what is in the outbox; how many events that were.
///
/// # Errors
/// One of the two databases refuses; what is left is carried later.
pub async fn carry(directory: &Directory, alarms: &AlarmStore) -> Result<usize, CarryError> {
    let _one_at_a_time = directory.carrying().await;
    let mut carried = 0;
    loop {
        let waiting = directory.outbox(CARRIED_AT_ONCE).await?;
        let Some(last) = waiting.last().map(|(sequence, _)| *sequence) else { return Ok(carried) };
        carried += waiting.len();
        alarms.record(waiting.into_iter().map(|(_, event)| event).collect()).await?;
        directory.carried(last).await?;
    }
}

/// Carries for as long as the directory is open.
pub async fn keep_carrying(directory: Directory, alarms: AlarmStore) {
    let mut changed = directory.outbox_changed();
    loop {
        changed.mark_unchanged();
        match carry(&directory, &alarms).await {
            Ok(_) => {
                tokio::time::sleep(PACE).await;
                if changed.changed().await.is_err() {
                    return;
                }
            }
            Err(
                CarryError::Directory(DirectoryError::Closed)
                | CarryError::Events(AlarmStoreError::Closed),
            ) => return,
            Err(error) => {
                tracing::error!(%error, "events of changes wait in the directory's outbox");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}
