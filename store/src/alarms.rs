//! Alarms, their events, and how far each partition's alarm worker has come.
//!
//! The end of a reading's way to an alarm: the worker hands over what came of a
//! stretch of the journal, and alarms, events and position become durable in
//! one transaction. This module never decides whether something is an alarm,
//! and never reads the journal.

mod bounds;
mod commit;
mod counts;
mod events;
mod followed;
mod message_log;
mod messages;
mod metrics;
mod notices;
mod profiles;
mod published;
pub mod quality;
mod query;
mod writer;

use std::path::Path;
use std::sync::Arc;

use prometheus::Registry;
use schema::{PartitionId, Position, TimestampMs, Transition};

pub use counts::{OpenBySeverity, OpenCount};
pub use events::{EVENT_KINDS, EventQuery, EventRow};
pub use message_log::{
    MessageLogEntry, MessageQuery, NoticeQuery, NoticeRow, NoticeState, NoticeTotal, Waiting,
};
pub use messages::{
    Handed, Interrupted, MessageRow, MessageState, NewMessage, Report, ReportedMessage, ToldLately,
};
pub use notices::{
    Decisions, DueNotice, DueRecipient, NewNotice, NoticeAlarm, NoticeEvent, message_id,
};
pub use profiles::{
    Delivery, MAX_PROFILES_PER_TENANT, MAX_RULES_PER_TENANT, ProfileChange, ProfileVersion,
};
pub use published::{Published, PublishedPlace};
pub use query::{
    AlarmMoment, AlarmOrder, AlarmPlace, AlarmQuery, AlarmRow, AlarmStatus, AlarmTarget,
};

use crate::sql::{Database, Optional as _, PostgresOptions, Readers, Session, SqlError};
use metrics::ReadMeters;
use writer::{Request, Writer};

const MIGRATIONS: &[&str] = &[
    include_str!("../../schema/migrations/embedded/alarms/0001-alarms.sql"),
    include_str!("../../schema/migrations/embedded/alarms/0002-audit.sql"),
    include_str!("../../schema/migrations/embedded/alarms/0003-followers.sql"),
    include_str!("../../schema/migrations/embedded/alarms/0004-events-by-time.sql"),
    include_str!("../../schema/migrations/embedded/alarms/0005-events-by-tenant.sql"),
    include_str!("../../schema/migrations/embedded/alarms/0006-profile-rules.sql"),
    include_str!("../../schema/migrations/embedded/alarms/0007-notifications.sql"),
    include_str!("../../schema/migrations/embedded/alarms/0008-uncleared-by-rule.sql"),
    include_str!("../../schema/migrations/embedded/alarms/0009-published.sql"),
];

const POSTGRES_MIGRATIONS: &[&str] = &[
    include_str!("../../schema/migrations/postgres/alarms/0001-alarms.sql"),
    include_str!("../../schema/migrations/postgres/alarms/0002-published.sql"),
];

/// The most items of one answer: one more than a page of the API has, so that it
/// knows whether more follow.
pub const MAX_PAGE: usize = 1_001;

/// Reading statements that run at once, each on a thread and a connection of its
/// own; further ones wait their turn.
const MAX_READS: usize = 8;

/// Connections for reading that are kept open.
const MAX_IDLE_READERS: usize = 4;

/// Why the alarm store refused.
#[derive(Debug, thiserror::Error)]
pub enum AlarmStoreError {
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error("a metric of the alarm store is registered already: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the thread of the alarm store can't be started: {0}")]
    Thread(std::io::Error),
    /// Another worker owns the partition now, or this one has lost its place.
    #[error(
        "partition {partition} is owned by another worker, or stands elsewhere than {expected}"
    )]
    Fenced { partition: PartitionId, expected: Position },
    #[error("there is no such profile")]
    NoSuchProfile,
    #[error(
        "the profile of the system alarms is written by Baken itself, from the tenant's settings"
    )]
    SystemProfile,
    #[error("the profile has version {found}, not {expected}")]
    VersionConflict { expected: u64, found: u64 },
    #[error("the tenant has another profile with the name `{name}`")]
    NameTaken { name: String },
    #[error("the tenant has {MAX_PROFILES_PER_TENANT} profiles, the most it may have")]
    TooManyProfiles,
    #[error(
        "the tenant's other profiles have {others} rules and this one {rules}; a tenant has at \
         most {MAX_RULES_PER_TENANT}"
    )]
    TooManyRules { others: u64, rules: u64 },
    /// Two notifiers are at work on the same store.
    #[error("another notifier has decided on the same notices")]
    DecidedElsewhere,
    #[error("what is stored can't be read: {0}")]
    Stored(String),
    #[error("the alarm store is closed")]
    Closed,
}

impl AlarmStoreError {
    /// True where the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Sql(error) if error.is_retryable())
    }
}

/// What a worker takes over with its partition.
#[derive(Debug)]
pub struct Claim {
    /// Goes with each commit; a later claim makes this one's commits fail.
    pub epoch: u64,
    /// All that came of records before it is committed.
    pub position: Position,
    pub snapshot: Option<Snapshot>,
    /// Clock moves since the snapshot, in order.
    pub ticks: Vec<Tick>,
    /// Devices met since the snapshot.
    pub met: Vec<MetDevice>,
}

/// The state of a partition before it applies `position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub position: Position,
    pub bytes: Vec<u8>,
}

/// The wall clock moved an idle partition to `clock` before it applied `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    pub position: Position,
    pub clock: TimestampMs,
}

/// What was known of a device when a record at `position` first named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetDevice {
    pub device: schema::DeviceId,
    pub position: Position,
    /// JSON text, the worker's own.
    pub body: String,
}

/// What came of a stretch of the journal.
#[derive(Debug)]
pub struct Commit {
    pub partition: PartitionId,
    pub epoch: u64,
    /// Where the store must stand.
    pub expected: Position,
    /// Where it stands from then on; may be the same for a tick.
    pub next: Position,
    pub transitions: Vec<Transition>,
    /// Who is to be told of them.
    pub notices: Vec<NewNotice>,
    pub ticks: Vec<Tick>,
    pub met: Vec<MetDevice>,
    /// The state at `next`; takes the place of the ticks and devices so far.
    pub snapshot: Option<Vec<u8>>,
    pub at: TimestampMs,
}

/// The alarms' file; clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct AlarmStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    writer: Writer,
    readers: Readers,
    read_meters: ReadMeters,
}

/// The tables in PostgreSQL.
pub(crate) fn database(options: &PostgresOptions) -> Arc<Database> {
    Database::schema(options, "baken_alarms", POSTGRES_MIGRATIONS)
}

impl AlarmStore {
    /// Opens or makes `alarms.db` in the folder.
    ///
    /// # Errors
    /// The file can't be opened or its metrics are registered twice.
    pub fn open(dir: &Path, registry: &Registry) -> Result<Self, AlarmStoreError> {
        Self::open_in(Database::file(dir.join("alarms.db"), MIGRATIONS), registry)
    }

    /// Opens the alarms' tables in PostgreSQL, which several nodes share. Blocks;
    /// on a thread of a tokio runtime.
    ///
    /// # Errors
    /// The tables can't be opened or the metrics are registered twice.
    pub fn open_postgres(
        options: &PostgresOptions,
        registry: &Registry,
    ) -> Result<Self, AlarmStoreError> {
        Self::open_in(database(options), registry)
    }

    fn open_in(database: Arc<Database>, registry: &Registry) -> Result<Self, AlarmStoreError> {
        let session = database.open()?;
        let writer = Writer::start(session, registry)?;
        writer.follow(&database);
        let readers = Readers::new(database, MAX_READS, MAX_IDLE_READERS);
        let read_meters = ReadMeters::register(registry, MAX_READS)?;
        Ok(Self { shared: Arc::new(Shared { writer, readers, read_meters }) })
    }

    /// Takes a partition over: its former owner's commits fail from now on.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn claim(&self, partition: PartitionId) -> Result<Claim, AlarmStoreError> {
        self.shared.writer.ask(|answer| Request::Claim(partition, answer)).await
    }

    /// Where a partition stands, whichever node works on it: all that came of
    /// records before it is committed.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn position(&self, partition: PartitionId) -> Result<Position, AlarmStoreError> {
        self.read(move |sql| {
            let found = sql
                .prepare_cached("SELECT position FROM partitions WHERE partition = ?1")?
                .query_row([partition.0], |row| row.get(0))
                .optional()?;
            Ok(Position(found.unwrap_or(0)))
        })
        .await
    }

    /// Makes a stretch durable, whole or not at all. What a transition's id
    /// says was written before is not written again.
    ///
    /// # Errors
    /// [`AlarmStoreError::Fenced`] when position or epoch are others.
    pub async fn commit(&self, commit: Arc<Commit>) -> Result<(), AlarmStoreError> {
        self.shared.writer.ask(|answer| Request::Commit(commit, answer)).await
    }

    /// Finishes what is queued and ends the thread. Later calls are refused.
    pub async fn close(&self) {
        self.shared.writer.close().await;
    }

    /// Runs a reading statement on a thread that may block. Who gives up waiting
    /// for its turn costs nothing; a statement that runs keeps its turn to its
    /// end, whether or not somebody still waits for it.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Session) -> Result<T, AlarmStoreError> + Send + 'static,
    ) -> Result<T, AlarmStoreError> {
        let shared = self.shared.clone();
        let turn = {
            let _waiting = shared.read_meters.wait();
            shared.readers.turn().await
        };
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let _running = shared.read_meters.run();
            shared.readers.run(query)
        });
        work.await.unwrap_or(Err(AlarmStoreError::Closed))
    }
}

#[cfg(test)]
mod tests;
