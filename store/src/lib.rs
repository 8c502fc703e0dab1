//! The only code that speaks SQL: the directory, the attributes, the history,
//! the alarms and the forwarders' progress of one installation.
//!
//! On a reading's way this is where the recorder and the alarm workers put what
//! they made of the journal, each with its position in the same transaction.
//! The crate never reads the journal and never opens a socket. Each part keeps
//! a file of its own and knows nothing of the others.

pub mod alarms;
pub mod attributes;
pub mod audit;
pub mod backup;
pub mod cluster;
pub mod directory;
pub mod forwarders;
pub mod history;
pub mod metrics;
pub mod sql;
pub mod transfer;

#[cfg(test)]
#[path = "../tests/it/place.rs"]
mod place;
#[cfg(test)]
#[path = "../tests/it/postgres.rs"]
#[allow(dead_code, reason = "the tests over the public face use the rest")]
mod postgres;

use std::path::PathBuf;
use std::sync::Arc;

use prometheus::Registry;

pub use alarms::AlarmStore;
pub use attributes::{Attribute, AttributeChange, Attributes, AttributesError, Scope};
pub use audit::NewEvent;
pub use cluster::{Cluster, ClusterError};
pub use directory::{
    Change, Directory, DirectoryError, Entry, GroupQuery, ListQuery, LocationGroup, NewRouter,
    Page as DirectoryPage,
};
pub use forwarders::ForwarderStore;
pub use history::{History, HistoryOptions, PostgresHistoryOptions};
pub use sql::{PostgresOptions, PostgresUrlError, SqlError};

/// Where the store is and how its parts are kept.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The folder of the store's files; made if it is not there.
    pub dir: PathBuf,
    /// As many as the journal has.
    pub partitions: u16,
    pub history: HistoryOptions,
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot make the folder {}: {source}", dir.display())]
    Folder { dir: PathBuf, source: std::io::Error },
    #[error("cannot open the database: {0}")]
    Copy(#[source] SqlError),
    #[error("cannot open the directory: {0}")]
    Directory(#[source] directory::OpenError),
    #[error("cannot open the attributes: {0}")]
    Attributes(#[source] AttributesError),
    #[error("cannot open the history: {0}")]
    History(#[source] history::HistoryError),
    #[error("cannot open the alarms: {0}")]
    Alarms(#[source] alarms::AlarmStoreError),
    #[error("cannot open the forwarders: {0}")]
    Forwarders(#[source] forwarders::ForwarderStoreError),
    #[error("cannot open the nodes' tables: {0}")]
    Cluster(#[source] ClusterError),
}

/// All parts of the store; clones are handles on the same files.
#[derive(Clone, Debug)]
pub struct Store {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    directory: Directory,
    attributes: Attributes,
    history: History,
    alarms: AlarmStore,
    forwarders: ForwarderStore,
    /// Where nodes share the store.
    cluster: Option<Cluster>,
}

impl Store {
    /// Opens the embedded store in a folder that no other process has open;
    /// the caller holds the folder's lock.
    ///
    /// # Errors
    /// [`OpenError`] names the part that would not open, and why.
    pub fn open_embedded(options: StoreOptions, registry: &Registry) -> Result<Self, OpenError> {
        let StoreOptions { dir, partitions, history } = options;
        std::fs::create_dir_all(&dir)
            .map_err(|source| OpenError::Folder { dir: dir.clone(), source })?;
        let directory = Directory::open_embedded(&dir, registry).map_err(OpenError::Directory)?;
        let attributes =
            Attributes::open(&dir, partitions, attributes::AttributeLimits::default(), registry)
                .map_err(OpenError::Attributes)?;
        let history =
            History::open(&dir, partitions, history, registry).map_err(OpenError::History)?;
        let alarms = AlarmStore::open(&dir, registry).map_err(OpenError::Alarms)?;
        let forwarders = ForwarderStore::open(&dir, registry).map_err(OpenError::Forwarders)?;
        let parts = Parts { directory, attributes, history, alarms, forwarders, cluster: None };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// Opens the store in PostgreSQL, which several nodes may have open.
    ///
    /// # Errors
    /// [`OpenError`] names the part that would not open, and why.
    pub async fn open_postgres(
        postgres: &PostgresOptions,
        partitions: u16,
        history: &PostgresHistoryOptions,
        registry: &Registry,
    ) -> Result<Self, OpenError> {
        let is_unfinished = transfer::is_unfinished(postgres).await.map_err(OpenError::Copy)?;
        if is_unfinished {
            return Err(OpenError::Copy(SqlError::UnfinishedCopy));
        }
        let (options, registry_of_parts) = (postgres.clone(), registry.clone());
        let open = move || open_parts(&options, partitions, &registry_of_parts);
        let opened = tokio::task::spawn_blocking(open).await;
        let (directory, attributes, alarms, forwarders, cluster) = match opened {
            Ok(opened) => opened?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let history = History::open_postgres(postgres, partitions, history, registry).await;
        let history = history.map_err(OpenError::History)?;
        let cluster = Some(cluster);
        let parts = Parts { directory, attributes, history, alarms, forwarders, cluster };
        Ok(Self { parts: Arc::new(parts) })
    }

    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.parts.directory
    }

    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        &self.parts.attributes
    }

    #[must_use]
    pub fn history(&self) -> &History {
        &self.parts.history
    }

    #[must_use]
    pub fn alarms(&self) -> &AlarmStore {
        &self.parts.alarms
    }

    #[must_use]
    pub fn forwarders(&self) -> &ForwarderStore {
        &self.parts.forwarders
    }

    /// The nodes that share the store; none in a folder, which is one process's.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        self.parts.cluster.as_ref()
    }

    /// Finishes what is queued and closes the files. Calls after it are
    /// refused; who writes to the store ends before it.
    pub async fn close(&self) {
        self.parts.forwarders.close().await;
        self.parts.alarms.close().await;
        self.parts.history.close().await;
        self.parts.attributes.close().await;
        self.parts.directory.close().await;
    }
}

/// The parts whose statements block.
fn open_parts(
    postgres: &PostgresOptions,
    partitions: u16,
    registry: &Registry,
) -> Result<(Directory, Attributes, AlarmStore, ForwarderStore, Cluster), OpenError> {
    let directory = Directory::open_postgres(postgres, registry).map_err(OpenError::Directory)?;
    let limits = attributes::AttributeLimits::default();
    let attributes = Attributes::open_postgres(postgres, partitions, limits, registry)
        .map_err(OpenError::Attributes)?;
    let alarms = AlarmStore::open_postgres(postgres, registry).map_err(OpenError::Alarms)?;
    let forwarders =
        ForwarderStore::open_postgres(postgres, registry).map_err(OpenError::Forwarders)?;
    let cluster = Cluster::open_postgres(postgres).map_err(OpenError::Cluster)?;
    Ok((directory, attributes, alarms, forwarders, cluster))
}
