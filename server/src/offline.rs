//! A data folder's journal and store without a node: for commands that read a
//! folder which no server has open. The folder is locked as `baken serve` locks
//! it, and what only the journal has so far is carried into the history first.
//!
//! It takes no connection and raises no alarm.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use ingest::recorder::Recorder;
use journal::Journal;
use prometheus::Registry;
use schema::TenantId;
use store::{ListQuery, Store};

use crate::config::Config;
use crate::folder::DataFolder;
use crate::node::{self, DIRECTORY_FILE, STORE_DIR};
use crate::upkeep::Upkeep;

/// How often it looks whether the history has caught up.
const POLL: Duration = Duration::from_millis(20);

/// The parts of a folder that is open.
#[derive(Debug)]
pub(crate) struct Offline {
    pub store: Store,
    journal: Journal,
    recorder: Recorder,
    upkeep: Upkeep,
    folder: DataFolder,
}

impl Offline {
    /// Opens a folder that a node has used.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let dir: &Path = &config.server.data_dir;
        let directory = dir.join(STORE_DIR).join(DIRECTORY_FILE);
        anyhow::ensure!(
            directory.exists(),
            "{} is no folder of baken: {} is not there",
            dir.display(),
            directory.display()
        );
        let folder = DataFolder::open(dir)?;
        let registry = Registry::new();
        let journal = node::open_journal(&config.journal, folder.path(), &registry).await?;
        let store_dir = folder.path().join(STORE_DIR);
        let partitions = journal.partitions();
        let store = node::open_store(&store_dir, partitions, config, &registry).await?;
        let upkeep = Upkeep::start(&store);
        let recorder = node::start_recorder(config, &journal, &store, &registry)?;
        let offline = Self { store, journal, recorder, upkeep, folder };
        offline.catch_up().await?;
        Ok(offline)
    }

    /// Waits until the history has all that the journal has.
    async fn catch_up(&self) -> anyhow::Result<()> {
        loop {
            let status = self.recorder.status();
            if let Some(stopped) = status.iter().find_map(|status| status.stopped.as_ref()) {
                anyhow::bail!("the journal can't be carried into the history: {stopped}");
            }
            let is_whole = status.len() == usize::from(self.journal.partitions());
            if is_whole && status.iter().all(|status| status.behind == 0) {
                self.store.history().settled().await;
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The tenant that is meant: the one that is named, or the only one.
    pub fn tenant(&self, named: Option<u64>) -> anyhow::Result<TenantId> {
        let directory = self.store.directory();
        if let Some(id) = named {
            let id = TenantId(id);
            return directory.tenant(id).map(|_| id).with_context(|| format!("no tenant {id}"));
        }
        let query = ListQuery { limit: 2, ..ListQuery::default() };
        match directory.tenants(&query).items.as_slice() {
            [only] => Ok(TenantId(only.id)),
            [] => anyhow::bail!("the folder has no tenant"),
            _ => anyhow::bail!("the folder has several tenants: say which with --tenant"),
        }
    }

    pub async fn close(self) {
        let Self { store, journal, recorder, upkeep, folder } = self;
        recorder.close().await;
        journal.close().await;
        drop(upkeep);
        store.close().await;
        drop(folder);
    }
}
