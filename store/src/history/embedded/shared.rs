//! What all handles on the history share, and its two background threads:
//! one flushes, one compacts.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use prometheus::Registry;
use schema::{PartitionId, TenantId};
use tokio::sync::Semaphore;

use super::cache::Cache;
use super::catalog::Catalog;
use super::file::io_error;
use super::files::{FileEntry, catalog_name, file_name, remove_orphans, sorted};
use super::manifest::Manifest;
use super::metrics::Metrics;
use super::options::{DAY_MS, HistoryOptions};
use super::partition::{Partition, State};
use super::{HistoryError, compact, flush, snapshot};

/// How often the flush thread looks for memtables that have become old.
const AGE_CHECK_MS: u64 = 1_000;
/// How often the compaction thread looks for readings that have expired.
const RETENTION_CHECK_MS: u64 = 600_000;
/// What is taken off the compaction thread's share of the processor.
const COMPACTION_NICENESS: i32 = 10;

#[derive(Debug)]
pub(super) struct Shared {
    pub dir: PathBuf,
    pub options: HistoryOptions,
    pub partitions: Vec<Partition>,
    pub manifest: Manifest,
    pub cache: Cache,
    pub metrics: Metrics,
    /// How many queries may read files at once.
    pub queries: Arc<Semaphore>,
    /// Held by the one compaction that runs.
    pub compacting: Mutex<()>,
    /// Held while the manifest changes, what queries see with it, and a catalog
    /// that is replaced goes; so whoever has it sees a manifest all of whose files
    /// are there. For moments only.
    publishing: Mutex<()>,
    retention_days: RwLock<HashMap<TenantId, u32>>,
    signal: Arc<Signal>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Wakes the background threads. Apart from [`Shared`], so that they need not
/// keep it alive while they wait.
#[derive(Debug, Default)]
struct Signal {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    flush: bool,
    compaction: bool,
    end: bool,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Flush,
    Compaction,
}

impl Shared {
    pub fn open(
        dir: &Path,
        partitions: u16,
        options: HistoryOptions,
        registry: &Registry,
    ) -> Result<Arc<Self>, HistoryError> {
        let files_dir = dir.join("history");
        std::fs::create_dir_all(&files_dir)
            .map_err(|source| io_error("make", &files_dir, source))?;
        let manifest = Manifest::open(&dir.join("history.db"), partitions)?;
        let mut known = HashSet::new();
        let metrics = Metrics::new(registry, &options, partitions);
        let mut opened = Vec::new();
        for partition in (0..partitions).map(PartitionId) {
            opened.push(open_partition(&files_dir, partition, &manifest, &mut known)?);
        }
        remove_orphans(&files_dir, &known)?;
        let series: usize = opened.iter().map(|partition| partition.state().catalog.len()).sum();
        metrics.series.set(i64::try_from(series).unwrap_or(i64::MAX));
        let shared = Arc::new(Self {
            dir: files_dir,
            partitions: opened,
            manifest,
            cache: Cache::new(options.cache_bytes),
            metrics,
            queries: Arc::new(Semaphore::new(options.concurrent_queries.max(1))),
            compacting: Mutex::new(()),
            publishing: Mutex::new(()),
            retention_days: RwLock::default(),
            signal: Arc::default(),
            threads: Mutex::default(),
            options,
        });
        shared.count_files();
        shared.start(Work::Flush)?;
        if shared.options.background_compaction {
            shared.start(Work::Compaction)?;
        }
        Ok(shared)
    }

    pub fn partition(&self, asked: PartitionId) -> Result<&Partition, HistoryError> {
        let known = u16::try_from(self.partitions.len()).unwrap_or(u16::MAX);
        self.partitions.get(usize::from(asked.0)).ok_or(HistoryError::Partition { asked, known })
    }

    /// For who changes the manifest's files, or wants none of them to change.
    pub fn publishing(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readings of the tenant before this time are neither shown nor kept.
    pub fn cutoff(&self, tenant: TenantId) -> i64 {
        let days = self.retention_days.read().expect("no panic while it is held");
        match days.get(&tenant) {
            None | Some(0) => i64::MIN,
            Some(days) => self.options.clock.now().0.saturating_sub(i64::from(*days) * DAY_MS),
        }
    }

    pub fn set_retention(&self, tenant: TenantId, days: u32) {
        self.retention_days.write().expect("no panic while it is held").insert(tenant, days);
    }

    pub fn want_flush(&self) {
        self.signal.wanted().flush = true;
        self.signal.changed.notify_all();
    }

    pub fn want_compaction(&self) {
        self.signal.wanted().compaction = true;
        self.signal.changed.notify_all();
    }

    pub fn count_files(&self) {
        let (mut files, mut bytes) = (0, 0);
        for partition in &self.partitions {
            let state = partition.state();
            files += state.files.len();
            bytes += state.files.iter().map(|file| file.record.bytes).sum::<u64>();
        }
        self.metrics.files.set(i64::try_from(files).unwrap_or(i64::MAX));
        self.metrics.file_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Refuses writes from now on and ends the threads; blocks until they have.
    pub fn end(&self) {
        for partition in &self.partitions {
            partition.state().closed = true;
            partition.notify();
        }
        self.queries.close();
        self.signal.end();
        let threads = std::mem::take(&mut *self.threads.lock().expect("no panic under it"));
        let here = std::thread::current().id();
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != here) {
            if thread.join().is_err() {
                tracing::error!("a background thread of the history has panicked");
            }
        }
    }

    fn start(self: &Arc<Self>, work: Work) -> Result<(), HistoryError> {
        let (signal, shared) = (self.signal.clone(), Arc::downgrade(self));
        let name = match work {
            Work::Flush => "history-flush",
            Work::Compaction => "history-compact",
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(work, &signal, &shared))
            .map_err(|source| io_error("start a thread for", &self.dir, source))?;
        self.threads.lock().expect("no panic under it").push(thread);
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.signal.end();
    }
}

impl Signal {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().expect("no panic while it is held")
    }

    fn end(&self) {
        self.wanted().end = true;
        self.changed.notify_all();
    }

    /// Waits for work or a while; false at the end.
    fn wait(&self, work: Work, timeout: Duration) -> bool {
        let pick = |wanted: &mut Wanted| match work {
            Work::Flush => std::mem::take(&mut wanted.flush),
            Work::Compaction => std::mem::take(&mut wanted.compaction),
        };
        let mut wanted = self.wanted();
        if !wanted.end && !pick(&mut wanted) {
            wanted = self
                .changed
                .wait_timeout_while(wanted, timeout, |wanted| !wanted.end && !pick(wanted))
                .expect("no panic while it is held")
                .0;
        }
        !wanted.end
    }

    /// Waits a while whatever work comes; false at the end.
    fn pause(&self, timeout: Duration) -> bool {
        let wanted = self.wanted();
        let (wanted, _) = self
            .changed
            .wait_timeout_while(wanted, timeout, |wanted| !wanted.end)
            .expect("no panic while it is held");
        !wanted.end
    }
}

fn run(work: Work, signal: &Signal, shared: &Weak<Shared>) {
    let timeout = match work {
        Work::Flush => Duration::from_millis(AGE_CHECK_MS),
        Work::Compaction => {
            if let Err(error) = rustix::process::nice(COMPACTION_NICENESS) {
                tracing::debug!(%error, "compaction runs at normal priority");
            }
            Duration::from_millis(RETENTION_CHECK_MS)
        }
    };
    let mut failing = false;
    while signal.wait(work, timeout) {
        loop {
            let Some(shared) = shared.upgrade() else { return };
            let retry = Duration::from_millis(shared.options.retry_ms);
            let result = match work {
                Work::Flush => flush_all(&shared),
                Work::Compaction => compact::run_all(&shared).map(|_| ()),
            };
            let done = report(&shared, work, result, &mut failing);
            drop(shared);
            if done {
                break;
            }
            if !signal.pause(retry) {
                return;
            }
        }
    }
}

/// One clear error when attempts begin to fail, one note when they work again.
fn report(
    shared: &Shared,
    work: Work,
    result: Result<(), HistoryError>,
    failing: &mut bool,
) -> bool {
    let name = match work {
        Work::Flush => "flush",
        Work::Compaction => "compaction",
    };
    match result {
        Ok(()) => {
            if std::mem::take(failing) {
                tracing::info!(work = name, "the history goes on");
            }
            true
        }
        // The end of the node broke it off; the next start takes it up again.
        Err(HistoryError::Closed) => true,
        Err(error) => {
            shared.metrics.failures.with_label_values(&[name]).inc();
            if !std::mem::replace(failing, true) {
                tracing::error!(work = name, %error, "the history is stuck and tries again");
            }
            // A damaged file will not mend: the next flush asks again.
            matches!(work, Work::Compaction) && !error.is_retryable()
        }
    }
}

fn flush_all(shared: &Shared) -> Result<(), HistoryError> {
    let mut first_error = None;
    for partition in &shared.partitions {
        flush::freeze_if_due(shared, partition, false);
        loop {
            match flush::flush_one(shared, partition) {
                Ok(true) => shared.want_compaction(),
                Ok(false) => break,
                Err(error) => {
                    first_error.get_or_insert(error);
                    break;
                }
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn open_partition(
    dir: &Path,
    id: PartitionId,
    manifest: &Manifest,
    known: &mut HashSet<String>,
) -> Result<Partition, HistoryError> {
    let record = manifest.partition(id)?;
    let files = manifest.files(id)?;
    known.extend(files.iter().map(|file| file_name(id.0, file.id)));
    let mut catalog = Catalog::default();
    if let Some(file) = &record.catalog {
        let name = catalog_name(id.0, file.file);
        catalog = snapshot::read(&dir.join(&name), file)?;
        known.insert(name);
    }
    let entries = files.into_iter().map(|file| Arc::new(FileEntry::new(dir, file))).collect();
    let mut state = State::new(catalog, sorted(entries), record.position, record.flushes);
    state.catalog_file = record.catalog.map(|file| file.file);
    Ok(Partition::new(id, state))
}
