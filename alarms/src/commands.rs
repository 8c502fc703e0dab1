//! The way in for people: profiles, and deeds on alarms. All of it goes through
//! the journal, and the answer comes when it has taken effect.
//!
//! A saved profile and the commands that follow from it are written in one
//! transaction; then the commands are appended to every partition, in order. A
//! crash in between loses none: what is not delivered is delivered at the next
//! start. A command that comes twice changes nothing, because the core ignores
//! a version that it has already.

mod many;
mod system;
mod tenant;

use std::sync::Arc;
use std::time::Duration;

use alarm_core::{Report, check, parse_toml};
use journal::{AppendError, Journal};
use schema::{
    AlarmAction, AlarmId, AlarmProfile, Author, Command, CommandBody, LocationId, PartitionId,
    Position, ProfileId, TenantId, TimestampMs, encode_commands, home_partition_of, partition_of,
};
use store::AlarmStore;
use store::alarms::{
    AlarmStatus, AlarmStoreError, AlarmTarget, Delivery, ProfileChange, ProfileVersion,
};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::Instant;

use crate::clock::now;
use crate::workers::Progress;

pub use many::{MAX_ACTED_ALARMS, ManyOutcome};

/// How long a caller waits for the effect of what is durable already.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is looked whether another node has come to it.
const ELSEWHERE_PAUSE: Duration = Duration::from_millis(25);

/// The pause before deliveries are tried again at start.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Why a command was refused or has not taken effect.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The profile has errors; nothing was saved.
    #[error("the profile has {} errors", .0.errors.len())]
    Invalid(Report),
    #[error(transparent)]
    Store(#[from] AlarmStoreError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("there is no such alarm")]
    NoSuchAlarm,
    /// Nothing was appended.
    #[error("the key of a tenant's alarm `{0}` is too long, empty, or a limit's")]
    TenantAlarmKey(Arc<str>),
    #[error("the alarm is {0} already")]
    Already(&'static str),
    /// It is saved and durable, and takes effect when the worker goes on.
    #[error("it is saved, but partition {partition} has not come to it yet{}", .stopped.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    NotYet { partition: PartitionId, stopped: Option<String> },
}

impl CommandError {
    /// True where the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Append(error) => error.is_retryable(),
            Self::NotYet { .. } => true,
            Self::Invalid(_) | Self::NoSuchAlarm | Self::TenantAlarmKey(_) | Self::Already(_) => {
                false
            }
        }
    }
}

/// A profile that is in force, and what is doubtful about it.
#[derive(Clone, Debug)]
pub struct SavedProfile {
    pub profile: ProfileVersion,
    pub report: Report,
}

/// Clones are handles on the same way in.
#[derive(Clone, Debug)]
pub struct AlarmCommands {
    journal: Journal,
    store: AlarmStore,
    progress: Arc<[watch::Receiver<Progress>]>,
    /// Deliveries go one after another, so that versions keep their order.
    delivering: Arc<Mutex<()>>,
}

/// No profile is delivered while it lives.
#[derive(Debug)]
pub struct Undelivered {
    _guard: OwnedMutexGuard<()>,
}

fn saved(profile: &ProfileVersion, body: &[u8]) -> Result<Command, String> {
    let body: AlarmProfile = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let (id, version) = (profile.id, profile.version);
    let body = CommandBody::ProfileSaved { profile: id, version, body: Arc::new(body) };
    Ok(Command { at: profile.changed_at, tenant: profile.tenant, body })
}

fn deleted(profile: &ProfileVersion, _: &[u8]) -> Result<Command, String> {
    let body = CommandBody::ProfileDeleted { profile: profile.id, version: profile.version };
    Ok(Command { at: profile.changed_at, tenant: profile.tenant, body })
}

/// The state that an action would bring about, where the alarm is in it.
fn already(status: AlarmStatus, is_shelved: bool, action: &AlarmAction) -> Option<&'static str> {
    match action {
        AlarmAction::Acknowledge if status.acknowledged => Some("acknowledged"),
        AlarmAction::Unacknowledge if !status.acknowledged => Some("unacknowledged"),
        AlarmAction::Clear | AlarmAction::Shelve { .. } if !status.active => Some("cleared"),
        AlarmAction::Unshelve if !is_shelved => Some("unshelved"),
        _ => None,
    }
}

fn deed(target: AlarmTarget, action: AlarmAction, author: &Author, at: TimestampMs) -> Command {
    let body = CommandBody::Alarm {
        alarm: target.id,
        device: target.device,
        location: target.location,
        rule: target.rule,
        severity: target.severity,
        by: author.by.clone(),
        provenance: author.provenance.clone(),
        action,
    };
    Command { at, tenant: target.tenant, body }
}

impl AlarmCommands {
    pub(crate) fn new(
        journal: Journal,
        store: AlarmStore,
        progress: Arc<[watch::Receiver<Progress>]>,
    ) -> Self {
        Self { journal, store, progress, delivering: Arc::default() }
    }

    /// Checks and saves a profile in TOML text; new where there is no id.
    /// Returns once every partition evaluates by it.
    ///
    /// # Errors
    /// [`CommandError::Invalid`] names each wrong field.
    pub async fn save_profile(
        &self,
        tenant: TenantId,
        id: Option<ProfileId>,
        expected_version: Option<u64>,
        source: String,
        author: impl Into<Author>,
    ) -> Result<SavedProfile, CommandError> {
        let document = parse_toml(&source).map_err(CommandError::Invalid)?;
        let report = check(&document);
        if !report.errors.is_empty() {
            return Err(CommandError::Invalid(report));
        }
        let body = serde_json::to_vec(&document)
            .map_err(|error| AlarmStoreError::Stored(error.to_string()))?;
        let change = ProfileChange {
            tenant,
            system: false,
            id,
            expected_version,
            rules: document.rules.len() as u64,
            document: Some((document.name, source)),
            at: now(),
            author: author.into(),
            command: saved,
            body,
            partitions: self.journal.partitions(),
        };
        let profile = self.store.change_profile(change).await?;
        self.deliver_and_wait().await?;
        Ok(SavedProfile { profile, report })
    }

    /// Deletes a profile; its alarms are cleared with that reason.
    ///
    /// # Errors
    /// No such profile, or another version in force.
    pub async fn delete_profile(
        &self,
        tenant: TenantId,
        id: ProfileId,
        expected_version: Option<u64>,
        author: impl Into<Author>,
    ) -> Result<(), CommandError> {
        let change = ProfileChange {
            tenant,
            system: false,
            id: Some(id),
            expected_version,
            document: None,
            rules: 0,
            at: now(),
            author: author.into(),
            command: deleted,
            body: Vec::new(),
            partitions: self.journal.partitions(),
        };
        self.store.change_profile(change).await?;
        self.deliver_and_wait().await
    }

    /// Does something to one alarm; returns once it is done.
    ///
    /// # Errors
    /// No such alarm, or nothing to do.
    pub async fn act(
        &self,
        id: AlarmId,
        action: AlarmAction,
        author: impl Into<Author>,
    ) -> Result<(), CommandError> {
        let alarm = self.store.alarm(id).await?.ok_or(CommandError::NoSuchAlarm)?;
        if let Some(state) = already(alarm.status, alarm.shelved_until.is_some(), &action) {
            return Err(CommandError::Already(state));
        }
        let target = AlarmTarget {
            sequence: alarm.sequence,
            id,
            tenant: alarm.tenant,
            location: alarm.location,
            device: alarm.device,
            rule: alarm.rule,
            severity: alarm.severity,
            status: alarm.status,
            is_shelved: alarm.shelved_until.is_some(),
        };
        let partition = self.partition_of(target.tenant, target.location);
        let command = deed(target, action, &author.into(), now());
        let record = encode_commands(std::slice::from_ref(&command));
        let position = self.journal.submit(partition, record).await?.await?;
        self.wait(partition, position).await
    }

    /// The partition of a location, or of the alarms of a whole tenant.
    fn partition_of(&self, tenant: TenantId, location: Option<LocationId>) -> PartitionId {
        let partitions = self.journal.partitions();
        match location {
            Some(location) => partition_of(tenant, location, partitions),
            None => home_partition_of(tenant, partitions),
        }
    }

    async fn deliver_and_wait(&self) -> Result<(), CommandError> {
        for (partition, position) in self.deliver().await? {
            self.wait(partition, position).await?;
        }
        Ok(())
    }

    /// Appends what is not delivered yet; the last position of each partition.
    async fn deliver(&self) -> Result<Vec<(PartitionId, Position)>, CommandError> {
        let _one_at_a_time = self.delivering.lock().await;
        let mut pending = Vec::new();
        for Delivery { sequence, partition, command } in self.store.deliveries().await? {
            let record = encode_commands(std::slice::from_ref(&command));
            pending.push((sequence, partition, self.journal.submit(partition, record).await?));
        }
        let mut positions = Vec::new();
        for (sequence, partition, pending) in pending {
            positions.push((partition, pending.await?));
            self.store.delivered(sequence).await?;
        }
        if positions.is_empty() {
            // Another caller has delivered ours: it is before the journal's end.
            for partition in (0..self.journal.partitions()).map(PartitionId) {
                let next = self.journal.end(partition).await.0;
                positions.extend(next.checked_sub(1).map(|last| (partition, Position(last))));
            }
        }
        Ok(positions)
    }

    /// Waits until what came of the record at `position` is committed.
    async fn wait(&self, partition: PartitionId, position: Position) -> Result<(), CommandError> {
        self.wait_until(partition, position, Instant::now() + EFFECT_TIMEOUT).await
    }

    async fn wait_until(
        &self,
        partition: PartitionId,
        position: Position,
        deadline: Instant,
    ) -> Result<(), CommandError> {
        let mut progress = self.progress[usize::from(partition.0)].clone();
        loop {
            let now = progress.borrow_and_update().clone();
            if now.position > position {
                return Ok(());
            }
            if now.stopped.is_some() {
                return Err(CommandError::NotYet { partition, stopped: now.stopped });
            }
            let elsewhere = async {
                if now.is_owned {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(ELSEWHERE_PAUSE).await;
            };
            tokio::select! {
                changed = progress.changed() => if changed.is_err() {
                    // The workers are gone.
                    break;
                },
                () = elsewhere => {
                    if self.store.position(partition).await? > position {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        Err(CommandError::NotYet { partition, stopped: None })
    }

    /// While it is held, no profile goes into the journal that the store has not
    /// had before.
    pub async fn undelivered(&self) -> Undelivered {
        Undelivered { _guard: Arc::clone(&self.delivering).lock_owned().await }
    }

    /// Delivers what a crash left behind.
    pub(crate) async fn deliver_at_start(self, mut stopping: watch::Receiver<bool>) {
        while !*stopping.borrow() {
            match self.deliver().await {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, "delivering alarm profiles is tried again");
                    tokio::select! {
                        () = tokio::time::sleep(RETRY_PAUSE) => {}
                        _ = stopping.changed() => {}
                    }
                }
            }
        }
    }
}
