//! From one machine to many: carries an installation from its folder into
//! PostgreSQL, and to a new journal in Kafka where one is named.
//!
//! It reads the folder as the only process on it, and never changes what is
//! stored there but by letting recorder, alarms and forwarders catch up.

mod drain;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use journal::Journal;
use prometheus::Registry;
use schema::{PartitionId, Position};
use serde::Serialize;
use store::transfer::{
    JournalAfterwards, TransferOptions, TransferProgress, TransferReport, TransferState,
    partitions_of, state, transfer,
};
use tokio::task::JoinHandle;

use crate::command::complain;
use crate::config::{Config, JournalConfig, StoreConfig};
use crate::folder::{DataFolder, MigratedFile};
use crate::host::node_name;
use crate::node::{DIRECTORY_FILE, JOURNAL_DIR, STORE_DIR, open_journal, open_store};
use crate::secret::optional_line;

/// How often it is said how far the copy is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// What a migration is asked for beside the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    pub start_over: bool,
    pub leave_unsent: bool,
    /// How long forwarders may take to send what they have not sent yet.
    pub patience: Duration,
}

/// What was done; `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub partitions: u16,
    /// `same` or `new`: the journal that the installation goes on with.
    pub journal: &'static str,
    pub seconds: f64,
    #[serde(flatten)]
    pub report: TransferReport,
}

/// Carries the folder of the configuration to the store, and the journal, that
/// it names.
pub(crate) async fn migrate(config: &Config, wishes: Wishes) -> anyhow::Result<Summary> {
    crate::install_crypto();
    let started = Instant::now();
    let dir = &config.server.data_dir;
    anyhow::ensure!(
        config.store.url.is_set(),
        "`store.url` is empty, but must name the database: --store postgres://USER@HOST/DATABASE"
    );
    check_folder(dir)?;
    let folder = DataFolder::open(dir)?;
    // The copy can only be read with it, so it is missed now and not then.
    let secret = folder.secret(&config.server.secret_file, true)?;
    let partitions = partitions_of(&folder.path().join(STORE_DIR))?;
    let here = in_folder(config, partitions);
    let ends = ends(&here, folder.path()).await?;
    let mut options = options(config, folder.path(), partitions, ends)?;
    options.start_over = wishes.start_over;
    let found = state(&options).await?;
    options.start_over = false;
    if found != TransferState::Finished {
        check_new_journal(config, partitions).await?;
    }
    if found == TransferState::Empty {
        options.journal = match options.journal {
            // A folder of an older version gets today's tables first.
            JournalAfterwards::Same => {
                let dir = folder.path().join(STORE_DIR);
                open_store(&dir, partitions, &here, &Registry::new()).await?.close().await;
                JournalAfterwards::Same
            }
            JournalAfterwards::New { .. } => {
                let ends = drain::drain(&here, &folder, &secret, wishes.patience).await?;
                JournalAfterwards::New { ends }
            }
        };
    }
    options.leave_unsent = wishes.leave_unsent;
    let progress = TransferProgress::default();
    let telling = tell(progress.clone());
    let report = transfer(&options, &progress).await;
    telling.abort();
    let report = report?;
    let journal = journal_name(config);
    folder.write_migrated(&MigratedFile {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        with_journal: config.journal.url.is_set(),
    })?;
    Ok(Summary { partitions, journal, seconds: started.elapsed().as_secs_f64(), report })
}

fn journal_name(config: &Config) -> &'static str {
    if config.journal.url.is_set() { "new" } else { "same" }
}

/// The same configuration with all in the folder.
fn in_folder(config: &Config, partitions: u16) -> Config {
    let journal = JournalConfig { url: Default::default(), partitions, ..config.journal.clone() };
    Config { journal, store: StoreConfig::default(), ..config.clone() }
}

/// A misspelt folder must not be made.
fn check_folder(dir: &Path) -> anyhow::Result<()> {
    for part in [&Path::new(STORE_DIR).join(DIRECTORY_FILE), Path::new(JOURNAL_DIR)] {
        anyhow::ensure!(
            dir.join(part).exists(),
            "`server.data_dir` is {}, which has no {}: it must be the folder of a node that keeps \
             all in it",
            dir.display(),
            part.display()
        );
    }
    Ok(())
}

/// Where each partition of the folder's journal ends.
async fn ends(here: &Config, folder: &Path) -> anyhow::Result<Vec<Position>> {
    let (kept, name) = (here.journal.keeping_all(), node_name(&here.server));
    let journal = open_journal(&kept, &name, folder, &Registry::new()).await?;
    let ends = ends_of(&journal);
    journal.close().await;
    Ok(ends)
}

fn ends_of(journal: &Journal) -> Vec<Position> {
    (0..journal.partitions()).map(|number| journal.bounds(PartitionId(number)).next).collect()
}

fn options(
    config: &Config,
    folder: &Path,
    partitions: u16,
    ends: Vec<Position>,
) -> anyhow::Result<TransferOptions> {
    let password = optional_line("store.password_file", &config.store.password_file)?;
    Ok(TransferOptions {
        dir: folder.join(STORE_DIR),
        partitions,
        postgres: config.store.postgres_options(&password)?,
        history: config.history.postgres_options(),
        journal: match config.journal.url.is_set() {
            true => JournalAfterwards::New { ends },
            false => JournalAfterwards::Same,
        },
        start_over: false,
        leave_unsent: false,
    })
}

/// A location's partition follows from their number, and a snapshot of alarms
/// is one of a partition: the new journal must have as many, and nothing in it.
async fn check_new_journal(config: &Config, partitions: u16) -> anyhow::Result<()> {
    if !config.journal.url.is_set() {
        return Ok(());
    }
    let password = optional_line("journal.password_file", &config.journal.password_file)?;
    let asked = config.journal.kafka_options(&password)?.partitions;
    anyhow::ensure!(
        asked == partitions,
        "`journal.url` asks for {asked} partitions, but the folder's journal has {partitions}, \
         which an installation keeps for life: put `partitions={partitions}` into the address"
    );
    let name = node_name(&config.server);
    let journal = open_journal(&config.journal, &name, Path::new(""), &Registry::new()).await?;
    let used = ends_of(&journal).into_iter().zip(0..).find(|(end, _)| *end != Position(0));
    journal.close().await;
    if let Some((end, partition)) = used {
        anyhow::bail!(
            "the topic in `journal.url` is in use: its partition {partition} ends at {end}, but \
             must be empty; name a topic that is not there yet"
        );
    }
    Ok(())
}

/// Says on standard error how far the copy is, until it is aborted.
fn tell(progress: TransferProgress) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut last = (String::new(), 0);
        let mut ticks = tokio::time::interval(TELL_EVERY);
        loop {
            ticks.tick().await;
            let (step, rows) = progress.now();
            if step.is_empty() {
                continue;
            }
            let before = if last.0 == step { last.1 } else { 0 };
            let rate = rows.saturating_sub(before) / TELL_EVERY.as_secs();
            // Nobody reads it any more; the copy goes on.
            let _ = complain(&format!("{step}: {rows} rows, {rate} rows/s"));
            last = (step, rows);
        }
    })
}

/// The line before a folder catches up.
fn say(line: &str) -> anyhow::Result<()> {
    complain(line).context("cannot write to standard error")
}
