//! Attributes: the latest value of each key of a device, set by the device
//! (client scope) or by the platform (shared scope).
//!
//! On a reading's way the recorder puts here what it finds in the journal, and
//! its position in the same transaction. The order of the journal decides which
//! value is the latest, whatever the clocks say. Shared values that a device
//! has not been given yet are kept, merged by key, until the broker says that
//! they were delivered.

mod sql;
mod writer;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use prometheus::Registry;
use schema::{DeviceId, PartitionId, Position, TimestampMs};
use serde_json::Value;

use crate::sql::{Database, PostgresOptions, Readers, SqlError};
use writer::{Request, Shared, Writer};

/// How often it is looked whether another node has applied what is waited for.
const ELSEWHERE_PAUSE: Duration = Duration::from_millis(25);

/// Who set an attribute. The numbers are part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scope {
    /// The device.
    Client = 1,
    /// The platform.
    Shared = 2,
}

/// A value set or, without one, a key deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeChange {
    pub device: DeviceId,
    pub scope: Scope,
    pub key: String,
    pub value: Option<Value>,
    pub at: TimestampMs,
}

/// One key of a device as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    pub key: String,
    pub value: Value,
    pub updated_at: TimestampMs,
}

/// Shared attributes that a device has not been given yet.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingShared {
    /// The latest change of each key, in the order of the keys; no value is a
    /// deletion.
    pub changes: Vec<(String, Option<Value>)>,
    /// What to tell [`Attributes::mark_delivered`] once the device has them.
    pub upto: u64,
}

/// What is kept of a device at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeLimits {
    /// Keys of one device in one scope.
    pub keys_per_device: u32,
    pub key_bytes: usize,
    /// A value as JSON text.
    pub value_bytes: usize,
}

impl Default for AttributeLimits {
    fn default() -> Self {
        Self { keys_per_device: 1_000, key_bytes: 255, value_bytes: 65_536 }
    }
}

/// Why attributes could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AttributesError {
    #[error(transparent)]
    Sql(Arc<SqlError>),
    #[error("attribute {key:?}: {value} is over the limit: {allowed}")]
    Limit { key: String, value: String, allowed: String },
    #[error("there is no partition {0}")]
    Partition(PartitionId),
    #[error("the stored value of attribute {key:?} of device {device} is not JSON")]
    Damaged { device: DeviceId, key: String },
    #[error("the attributes' thread could not be started or a metric registered: {0}")]
    Start(String),
    #[error("the attributes are closed")]
    Closed,
}

impl AttributesError {
    /// True where the same call may succeed later without any other change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Sql(error) if error.is_retryable())
    }
}

impl From<SqlError> for AttributesError {
    fn from(error: SqlError) -> Self {
        Self::Sql(Arc::new(error))
    }
}

/// A handle on the attributes; clones share it.
#[derive(Clone, Debug)]
pub struct Attributes {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    writer: Arc<Writer>,
    limits: AttributeLimits,
}

/// The tables in PostgreSQL.
pub(crate) fn database(options: &PostgresOptions) -> Arc<Database> {
    Database::schema(options, "baken_attributes", sql::POSTGRES_MIGRATIONS)
}

impl Attributes {
    /// Opens `attributes.db` in `dir`.
    ///
    /// # Errors
    /// [`AttributesError`] when the file cannot be opened.
    pub fn open(
        dir: &Path,
        partitions: u16,
        limits: AttributeLimits,
        registry: &Registry,
    ) -> Result<Self, AttributesError> {
        let database = Database::file(dir.join("attributes.db"), sql::MIGRATIONS);
        Self::open_in(database, partitions, limits, registry)
    }

    /// Opens the attributes' tables in PostgreSQL. Blocks.
    ///
    /// # Errors
    /// [`AttributesError`] when they cannot be opened.
    pub fn open_postgres(
        options: &PostgresOptions,
        partitions: u16,
        limits: AttributeLimits,
        registry: &Registry,
    ) -> Result<Self, AttributesError> {
        Self::open_in(database(options), partitions, limits, registry)
    }

    fn open_in(
        database: Arc<Database>,
        partitions: u16,
        limits: AttributeLimits,
        registry: &Registry,
    ) -> Result<Self, AttributesError> {
        let tables = sql::Tables::open(&database)?;
        let (writer, shared) = Writer::start(tables, partitions, limits, registry)?;
        let readers = Arc::new(Readers::new(database, sql::READERS, sql::READERS));
        Ok(Self { shared, readers, writer: Arc::new(writer), limits })
    }

    /// The next journal position to apply: all before it is durable here. It
    /// may lie a little behind what [`Attributes::apply`] was last given, when
    /// that held no changes.
    ///
    /// # Panics
    /// If the installation has no such partition.
    #[must_use]
    pub fn position(&self, partition: PartitionId) -> Position {
        self.shared.position(partition)
    }

    /// Waits until all before `position` of a partition can be read here. The
    /// caller sets the deadline: a recorder that has stopped applies nothing.
    ///
    /// # Errors
    /// [`AttributesError::Partition`].
    pub async fn wait_applied(
        &self,
        partition: PartitionId,
        position: Position,
    ) -> Result<(), AttributesError> {
        let mut applied = self.shared.applied(partition)?;
        loop {
            let here = async {
                let waited = applied.wait_for(|applied| *applied >= position).await;
                waited.map(|_| ()).map_err(|_| AttributesError::Closed)
            };
            if self.shared.waiting.is_some() {
                return here.await;
            }
            if let Ok(here) = tokio::time::timeout(ELSEWHERE_PAUSE, here).await {
                return here;
            }
            let elsewhere = move |file: &_| Ok(sql::position(file, partition)?);
            if sql::read(&self.readers, elsewhere).await? >= position {
                return Ok(());
            }
        }
    }

    /// This node applies a partition's records from now on: it goes on where
    /// another has stopped. One that still applies does no harm, because both
    /// apply the same in the same order.
    ///
    /// # Errors
    /// [`AttributesError`] when the database cannot be asked.
    pub async fn take_over(&self, partition: PartitionId) -> Result<(), AttributesError> {
        self.shared.applied(partition)?;
        self.writer.ask(Request::TakeOver { partition }).await
    }

    /// Applies what a partition's records up to `next` say, in their order, and
    /// moves the partition's position to `next`, in one transaction.
    ///
    /// This is a compare-and-set: where the position is `next` or further, the
    /// changes are in already and nothing happens, so a record that is read
    /// again after a crash changes nothing. Changes over a limit are not kept;
    /// they are counted by reason. Calls of many partitions share a
    /// transaction; those of one partition come one after another. A call without changes is written at most once a second.
    ///
    /// # Errors
    /// [`AttributesError`]; then neither changes nor position were written.
    pub async fn apply(
        &self,
        partition: PartitionId,
        next: Position,
        changes: Vec<AttributeChange>,
    ) -> Result<(), AttributesError> {
        if changes.is_empty() && self.shared.may_wait(partition, next)? {
            return Ok(());
        }
        self.writer.ask(Request::Apply { partition, next, changes }).await
    }

    /// The attributes of one scope in the order of their keys: those asked for,
    /// or all.
    ///
    /// # Errors
    /// [`AttributesError`] when the file cannot be read.
    pub async fn get(
        &self,
        device: DeviceId,
        scope: Scope,
        keys: Option<Vec<String>>,
    ) -> Result<Vec<Attribute>, AttributesError> {
        sql::read(&self.readers, move |file| sql::get(file, device, scope, keys.as_deref())).await
    }

    /// Whether the changes would be kept: asked at the edge, before they go
    /// into the journal, so that whoever sends too much is told.
    ///
    /// # Errors
    /// [`AttributesError::Limit`] names the key, the value and the limit.
    pub async fn admit(
        &self,
        device: DeviceId,
        scope: Scope,
        changes: &[(String, Option<Value>)],
    ) -> Result<(), AttributesError> {
        for (key, value) in changes {
            let text = value.as_ref().map(Value::to_string);
            sql::check_size(key, text.as_deref(), &self.limits)
                .map_err(|over| over.explain(key, text.as_deref(), &self.limits))?;
        }
        let (mut set, mut deleted) = (HashSet::new(), HashSet::new());
        for (key, value) in changes {
            let side = if value.is_some() { &mut set } else { &mut deleted };
            side.insert(key.clone());
        }
        if set.is_empty() {
            return Ok(());
        }
        let limit = self.limits.keys_per_device as usize;
        let after = sql::read(&self.readers, move |file| {
            let keys = sql::keys(file, device, scope)?;
            let kept = keys.iter().filter(|&key| !set.contains(key) && !deleted.contains(key));
            Ok(kept.count() + set.len())
        })
        .await?;
        if after <= limit {
            return Ok(());
        }
        let key = changes.last().map(|(key, _)| key.clone()).unwrap_or_default();
        let value = format!("with it the device would have {after} keys, which");
        Err(AttributesError::Limit { key, value, allowed: format!("{limit} keys at most") })
    }

    /// What the device has not been given yet; cheap when there is nothing.
    ///
    /// # Errors
    /// [`AttributesError`] when the file cannot be read.
    pub async fn undelivered(
        &self,
        device: DeviceId,
    ) -> Result<Option<PendingShared>, AttributesError> {
        Ok(self.undelivered_of(vec![device]).await?.pop().map(|(_, pending)| pending))
    }

    /// The same for several devices, such as all behind a router; those with
    /// nothing to be given are left out.
    ///
    /// # Errors
    /// [`AttributesError`] when the file cannot be read.
    pub async fn undelivered_of(
        &self,
        mut devices: Vec<DeviceId>,
    ) -> Result<Vec<(DeviceId, PendingShared)>, AttributesError> {
        if let Some(waiting) = &self.shared.waiting {
            let waiting = waiting.read().unwrap_or_else(PoisonError::into_inner);
            devices.retain(|device| waiting.contains(device));
        }
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        sql::read(&self.readers, move |file| sql::undelivered(file, &devices)).await
    }

    /// The device has what [`PendingShared::upto`] stood for; what changed
    /// since stays.
    ///
    /// # Errors
    /// [`AttributesError`]; then it will be given them once more.
    pub async fn mark_delivered(&self, device: DeviceId, upto: u64) -> Result<(), AttributesError> {
        self.writer.ask(Request::Delivered { device, upto }).await
    }

    /// The devices of which anything is kept, in order of their ids. Cheap: it
    /// steps from device to device and reads no values.
    ///
    /// # Errors
    /// [`AttributesError`] when the file cannot be read.
    pub async fn devices(&self) -> Result<Vec<DeviceId>, AttributesError> {
        sql::read(&self.readers, sql::devices).await
    }

    /// Forgets all of devices that were deleted from the directory.
    ///
    /// # Errors
    /// [`AttributesError`]; then what is left takes room and nothing else,
    /// because a device's id is never used again.
    pub async fn forget(&self, devices: Vec<DeviceId>) -> Result<(), AttributesError> {
        self.writer.ask(Request::Forget { devices }).await
    }

    #[must_use]
    pub fn limits(&self) -> AttributeLimits {
        self.limits
    }

    /// Finishes what is queued and closes the file.
    pub async fn close(&self) {
        self.writer.close().await;
    }
}
