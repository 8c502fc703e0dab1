//! Carries what changes in the directory into the partitions' journals, so that
//! the engines know devices and locations as they are, and each tenant has its
//! system alarms.
//!
//! It keeps the directory's sequence of the last change that it has seen to;
//! after a crash it goes on from there. A change that is carried twice changes
//! nothing, because it says how a document is, not what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use journal::{AppendError, Journal};
use prometheus::IntCounter;
use schema::{
    Command, CommandBody, DeviceId, DocumentKind, LocationId, PartitionId, TenantId,
    encode_commands, partition_of,
};
use store::alarms::AlarmStoreError;
use store::{AlarmStore, Change, Directory, ListQuery, SqlError};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::clock::now;
use crate::commands::{AlarmCommands, CommandError};

/// The follower's name beside its place.
const NAME: &str = "alarms";

/// Changes that are looked at together.
const PAGE: usize = 1_000;

/// Changes without any effect on alarms after which the place is stored anyway.
const MAX_UNSTORED: u64 = 10_000;

/// How long changes are gathered after the first.
const GATHER: Duration = Duration::from_millis(20);

/// The pause until the directory shows what it has made durable.
const SHOWN_PAUSE: Duration = Duration::from_millis(2);

/// Why changes are not carried yet; it is tried again.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("the directory's changes cannot be read: {0}")]
    Directory(#[from] SqlError),
    #[error(transparent)]
    Store(#[from] AlarmStoreError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("system alarms: {0}")]
    Profile(#[from] CommandError),
}

#[derive(Debug)]
pub(crate) struct Follower {
    pub journal: Journal,
    pub directory: Directory,
    pub store: AlarmStore,
    pub commands: AlarmCommands,
    pub retry: Duration,
    pub refused_repeat: Duration,
    pub carried: IntCounter,
    pub stopping: watch::Receiver<bool>,
}

impl Follower {
    pub async fn run(self) {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            () = self.follow() => {}
            _ = stopping.wait_for(|is_stopping| *is_stopping) => {}
        }
    }

    async fn follow(&self) {
        let mut changes = self.directory.subscribe();
        let mut place = loop {
            match self.begin().await {
                Ok(place) => break place,
                Err(error) => self.rest(&error).await,
            }
        };
        loop {
            if let Err(error) = self.catch_up(&mut place).await {
                self.rest(&error).await;
                continue;
            }
            match changes.recv().await {
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
            tokio::time::sleep(GATHER).await;
            // What came meanwhile is read from the directory with the first.
            changes = changes.resubscribe();
        }
    }

    async fn rest(&self, error: &FollowError) {
        tracing::warn!(%error, "telling the alarms of the directory is tried again");
        tokio::time::sleep(self.retry).await;
    }

    /// Gives each tenant its system alarms; a later program may write others.
    async fn begin(&self) -> Result<Place, FollowError> {
        let mut query = ListQuery::default();
        loop {
            let tenants = self.directory.tenants(&query);
            for tenant in &tenants.items {
                let settings = Some(&tenant.settings);
                let (id, repeat) = (TenantId(tenant.id), self.refused_repeat);
                self.commands.settle_system_profile(id, settings, repeat).await?;
            }
            match tenants.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        let sequence = self.store.followed(NAME).await?;
        Ok(Place { sequence, stored: sequence })
    }

    async fn catch_up(&self, place: &mut Place) -> Result<(), FollowError> {
        loop {
            let mut page = self.directory.changes_since(place.sequence, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            page.truncate(page.iter().take_while(|change| self.is_shown(change)).count());
            let Some(last) = page.last() else {
                tokio::time::sleep(SHOWN_PAUSE).await;
                continue;
            };
            let sequence = last.sequence;
            let carried = self.carry(&page).await?;
            place.sequence = sequence;
            if carried || place.sequence - place.stored >= MAX_UNSTORED {
                self.store.set_followed(NAME, place.sequence).await?;
                place.stored = place.sequence;
            }
        }
    }

    /// Whether readers of the directory see the change, or a later one. Until
    /// then an engine could still meet a device as it was before.
    fn is_shown(&self, change: &Change) -> bool {
        let id = change.id;
        let version = match change.kind {
            DocumentKind::Tenant => self.directory.tenant(TenantId(id)).map(|it| it.version),
            DocumentKind::Location => self.directory.location(LocationId(id)).map(|it| it.version),
            DocumentKind::Device => self.directory.device(DeviceId(id)).map(|it| it.version),
            // The engines know nothing of these.
            DocumentKind::Router
            | DocumentKind::ApiToken
            | DocumentKind::User
            | DocumentKind::Subscription
            | DocumentKind::OfflineProfile
            | DocumentKind::MessageTemplate
            | DocumentKind::Forwarder => return true,
        };
        match version {
            Some(version) => !change.deleted && version >= change.version,
            None => change.deleted,
        }
    }

    /// Whether anything had to be said.
    async fn carry(&self, changes: &[Change]) -> Result<bool, FollowError> {
        let mut records: BTreeMap<PartitionId, Vec<Command>> = BTreeMap::new();
        let mut is_any = false;
        for change in changes {
            is_any |= match change.kind {
                DocumentKind::Tenant => {
                    let id = TenantId(change.id);
                    let tenant = self.directory.tenant(id);
                    let settings = tenant.as_ref().map(|tenant| &tenant.settings);
                    let repeat = self.refused_repeat;
                    self.commands.settle_system_profile(id, settings, repeat).await?
                }
                DocumentKind::Location => self.location(change, &mut records),
                DocumentKind::Device => self.device(change, &mut records),
                DocumentKind::Router
                | DocumentKind::ApiToken
                | DocumentKind::User
                | DocumentKind::Subscription
                | DocumentKind::OfflineProfile
                | DocumentKind::MessageTemplate
                | DocumentKind::Forwarder => false,
            };
        }
        let mut appended = Vec::new();
        for (partition, commands) in records {
            self.carried.inc_by(commands.len() as u64);
            appended.push(self.journal.submit(partition, encode_commands(&commands)).await?);
        }
        for pending in appended {
            pending.await?;
        }
        Ok(is_any)
    }

    fn location(&self, change: &Change, records: &mut BTreeMap<PartitionId, Vec<Command>>) -> bool {
        // One that is new is told of with its first device, and one that is
        // deleted has none.
        let Some(entry) = self.directory.location(LocationId(change.id)) else { return false };
        if entry.version == 1 {
            return false;
        }
        let location = LocationId(change.id);
        let body = CommandBody::LocationChanged {
            location,
            version: entry.version,
            name: entry.name.clone(),
            time_zone: entry.time_zone.clone(),
            groups: entry.groups.clone(),
        };
        let partition = partition_of(entry.tenant, location, self.journal.partitions());
        let command = Command { at: entry.changed_at, tenant: entry.tenant, body };
        records.entry(partition).or_default().push(command);
        true
    }

    fn device(&self, change: &Change, records: &mut BTreeMap<PartitionId, Vec<Command>>) -> bool {
        let device = DeviceId(change.id);
        let Some(entry) = self.directory.device(device) else {
            // Where it was is not known any more, so all are told.
            let (at, tenant) = (now(), TenantId::default());
            for partition in (0..self.journal.partitions()).map(PartitionId) {
                let body = CommandBody::DeviceDeleted { device };
                records.entry(partition).or_default().push(Command { at, tenant, body });
            }
            return true;
        };
        if entry.version == 1 {
            return false;
        }
        let body = CommandBody::DeviceChanged {
            device,
            version: entry.version,
            name: entry.name.clone(),
            device_type: entry.device_type.clone(),
        };
        let partition = partition_of(entry.tenant, entry.location, self.journal.partitions());
        let command = Command { at: entry.changed_at, tenant: entry.tenant, body };
        records.entry(partition).or_default().push(command);
        true
    }
}

/// Up to where the directory was followed, and up to where that is stored.
#[derive(Clone, Copy, Debug)]
struct Place {
    sequence: u64,
    stored: u64,
}
