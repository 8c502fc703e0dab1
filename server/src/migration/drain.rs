//! Lets all that reads the folder's journal come to its end, as a node would
//! that no router reaches.

use std::time::Duration;

use alarms::AlarmWorkers;
use forwarders::Forwarders;
use ingest::recorder::Recorder;
use prometheus::Registry;
use schema::{PartitionId, Position};
use store::{ListQuery, Store};
use tokio::time::{Instant, sleep};

use super::{ends_of, say};
use crate::config::Config;
use crate::folder::DataFolder;
use crate::host::node_name;
use crate::node::{STORE_DIR, open_journal, open_store, start_alarms, start_recorder};
use crate::secret::Secret;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often it is said what is still behind.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How often it is begun anew where the directory's follower has written once
/// more while the alarms were ended.
const ATTEMPTS: u32 = 5;

/// How long nothing may be behind before the alarms are ended.
const QUIET: Duration = Duration::from_millis(500);

/// Where the journal ends then.
pub(super) async fn drain(
    config: &Config,
    folder: &DataFolder,
    secret: &Secret,
    patience: Duration,
) -> anyhow::Result<Vec<Position>> {
    for _ in 1..ATTEMPTS {
        if let Some(ends) = attempt(config, folder, secret, patience).await? {
            return Ok(ends);
        }
    }
    anyhow::bail!(
        "the alarms don't come to the journal's end: start `baken serve` on the folder once, stop \
         it, and try again"
    )
}

/// None where a record was written behind the alarms' end.
async fn attempt(
    config: &Config,
    folder: &DataFolder,
    secret: &Secret,
    patience: Duration,
) -> anyhow::Result<Option<Vec<Position>>> {
    let registry = Registry::new();
    let name = node_name(&config.server);
    let journal = open_journal(&config.journal, &name, folder.path(), &registry).await?;
    let dir = folder.path().join(STORE_DIR);
    let store = open_store(&dir, journal.partitions(), config, &registry).await?;
    let (forwarders, _troubles) =
        crate::forwarding::start(config, secret, &journal, &store, &registry).await?;
    let recorder = start_recorder(config, &journal, &store, &registry)?;
    let alarms = start_alarms(config, &journal, &store, None, &registry)?;
    all_taken(&recorder, &alarms, usize::from(journal.partitions())).await?;
    alarms.stop().await;
    let ends = ends_of(&journal);
    let mut is_whole = true;
    for (partition, end) in (0..).map(PartitionId).zip(&ends) {
        is_whole &= store.alarms().position(partition).await? == *end;
    }
    if is_whole {
        recorded(&recorder).await?;
        sent(&forwarders, &store, patience).await?;
    }
    forwarders.close().await;
    recorder.close().await;
    journal.close().await;
    store.close().await;
    Ok(is_whole.then_some(ends))
}

/// Waits until neither recorder nor alarms are behind, for a moment.
async fn all_taken(
    recorder: &Recorder,
    alarms: &AlarmWorkers,
    partitions: usize,
) -> anyhow::Result<()> {
    let mut quiet_since = Instant::now();
    let mut told = Instant::now();
    loop {
        let mut behind = 0;
        for status in alarms.status() {
            refuse_stopped("the alarms", status.partition.0, status.stopped)?;
            behind += status.behind;
        }
        behind += recorded_behind(recorder)?;
        let is_begun = alarms.status().len() == partitions && recorder.status().len() == partitions;
        if behind > 0 || !is_begun {
            quiet_since = Instant::now();
        }
        if quiet_since.elapsed() >= QUIET {
            return Ok(());
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            say(&format!("catching up: {behind} records of the journal are to be taken"))?;
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn recorded(recorder: &Recorder) -> anyhow::Result<()> {
    while recorded_behind(recorder)? > 0 {
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn recorded_behind(recorder: &Recorder) -> anyhow::Result<u64> {
    let mut behind = 0;
    for status in recorder.status() {
        refuse_stopped("the recorder", status.partition.0, status.stopped)?;
        behind += status.behind;
    }
    Ok(behind)
}

fn refuse_stopped(what: &str, partition: u16, stopped: Option<String>) -> anyhow::Result<()> {
    match stopped {
        None => Ok(()),
        Some(reason) => anyhow::bail!("{what} of partition {partition} can't go on: {reason}"),
    }
}

/// Waits until forwarders have sent all, or for as long as is allowed. What is
/// unsent then is told by the copy.
async fn sent(forwarders: &Forwarders, store: &Store, patience: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + patience;
    let mut told = Instant::now();
    loop {
        let unsent = unsent(forwarders, store).await?;
        if unsent == 0 || Instant::now() >= until {
            return Ok(());
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            say(&format!("catching up: {unsent} forwarders have not sent all"))?;
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn unsent(forwarders: &Forwarders, store: &Store) -> anyhow::Result<usize> {
    let mut unsent = 0;
    let mut query = ListQuery::default();
    loop {
        let page = store.directory().forwarders(&query);
        for entry in page.items.iter().filter(|entry| entry.enabled) {
            let accounting = forwarders.accounting(entry.id).await?;
            let waiting = accounting.lag_records + accounting.queued + accounting.in_flight;
            unsent += usize::from(waiting > 0);
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(unsent),
        }
    }
}
