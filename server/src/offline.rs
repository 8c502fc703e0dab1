//! A data folder's journal and store without a node: for commands that read a
//! folder which no server has open. The folder is locked as `baken serve` locks
//! it, and what only the journal has so far is carried into the history first.
//!
//! It takes no connection and raises no alarm.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use ingest::recorder::Recorder;
use journal::Journal;
use prometheus::Registry;
use schema::TenantId;
use store::transfer::partitions_of;
use store::{ListQuery, Store};

use crate::backup::{BackupError, Manifest, Progress, Source, take};
use crate::config::Config;
use crate::folder::DataFolder;
use crate::host::node_name;
use crate::node::{self, DIRECTORY_FILE, JOURNAL_DIR, STORE_DIR};
use crate::upkeep::Upkeep;

fn refuse_missing(dir: &Path, part: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        part.exists(),
        "{} is no folder of baken: {} is not there",
        dir.display(),
        part.display()
    );
    Ok(())
}

/// A misspelt folder must not be made, and one that holds nothing of the
/// installation is none to be backed up.
pub(crate) fn check_folder(config: &Config) -> anyhow::Result<()> {
    let dir: &Path = &config.server.data_dir;
    match (config.store.url.is_set(), config.journal.url.is_set()) {
        (true, true) => Err(BackupError::NothingHere.into()),
        (true, false) => refuse_missing(dir, &dir.join(JOURNAL_DIR)),
        (false, _) => refuse_missing(dir, &dir.join(STORE_DIR).join(DIRECTORY_FILE)),
    }
}

/// Takes a backup of a folder, as it was left.
pub(crate) async fn back_up(
    config: &Config,
    folder: DataFolder,
    target: PathBuf,
    progress: Progress,
) -> anyhow::Result<Manifest> {
    let registry = Registry::new();
    let store_dir = folder.path().join(STORE_DIR);
    let mut journal = config.journal.keeping_all();
    if !config.store.url.is_set() {
        journal.partitions = partitions_of(&store_dir)?;
    }
    let name = node_name(&config.server);
    let journal = node::open_journal(&journal, &name, folder.path(), &registry).await?;
    let store = node::open_store(&store_dir, journal.partitions(), config, &registry).await?;
    let source = Source {
        folder: folder.path().to_owned(),
        journal: journal.clone(),
        store: store.clone(),
        alarms: None,
        secret_is_elsewhere: !config.server.secret_file.as_os_str().is_empty(),
        rate_bytes_per_s: 0,
        reserve_bytes: config.journal.reserve_bytes,
    };
    let taken = take(source, target, progress).await;
    journal.close().await;
    store.close().await;
    drop(folder);
    Ok(taken?)
}

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
        refuse_missing(dir, &directory)?;
        let folder = DataFolder::open(dir)?;
        let registry = Registry::new();
        let kept = config.journal.keeping_all();
        let name = node_name(&config.server);
        let journal = node::open_journal(&kept, &name, folder.path(), &registry).await?;
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
