//! Backups of a running node: one at a time, each to a folder of its own below
//! the one that the configuration names.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::{Gauge, IntCounterVec, IntGauge, Opts, Registry};
use schema::Author;
use serde_json::json;
use tokio::task::JoinHandle;

use super::manifest::newest;
use super::{BackupError, Manifest, Progress, Source, take};
use crate::audit::Audit;
use crate::clock::now;

/// When the newest backup was finished, in seconds since 1970; 0 where there is
/// none. There only where `backup.folder` is set.
const LAST_SUCCESS: &str = "baken_backup_last_success_timestamp_seconds";
/// Backups that were taken or failed, by `outcome`: `taken`, `failed`.
const TOTAL: &str = "baken_backups_total";
/// Bytes of the newest backup, files that it shares with the one before included.
const BYTES: &str = "baken_backup_bytes";
/// How long the newest one took.
const SECONDS: &str = "baken_backup_duration_seconds";
/// 1 while one is taken.
const RUNNING: &str = "baken_backup_running";

/// What a backup may be called.
const NAME_RULE: &str = "must be 1 to 64 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`, of which the first is no `.`";

const MAX_NAME_CHARS: usize = 64;

/// Why a backup was not begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("`backup.folder` is not set, so backups of the running node have no place to go to")]
    NoFolder,
    #[error("a backup, {0}, is being taken already")]
    Busy(String),
    #[error("the name {0:?} {NAME_RULE}")]
    Name(String),
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
}

/// A backup that is being taken.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub name: String,
    pub begun_at: i64,
    pub progress: Progress,
}

/// What came of the last one of this process.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub name: String,
    pub ended_at: i64,
    /// Why it failed.
    pub failure: Option<String>,
}

/// Clones are handles on the same.
#[derive(Clone, Debug)]
pub(crate) struct Backups(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Empty where no backups of the running node are wished.
    folder: PathBuf,
    source: Source,
    audit: Audit,
    metrics: Option<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Running>,
    last: Option<Outcome>,
    task: Option<JoinHandle<()>>,
    is_closed: bool,
}

#[derive(Debug)]
struct Metrics {
    last_success: Gauge,
    total: IntCounterVec,
    bytes: IntGauge,
    seconds: Gauge,
    running: IntGauge,
}

impl Metrics {
    fn register(folder: &Path, registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            last_success: Gauge::new(LAST_SUCCESS, "When the newest backup was finished")?,
            total: IntCounterVec::new(
                Opts::new(TOTAL, "Backups by what came of them"),
                &["outcome"],
            )?,
            bytes: IntGauge::new(BYTES, "Bytes of the newest backup")?,
            seconds: Gauge::new(SECONDS, "How long the newest backup took")?,
            running: IntGauge::new(RUNNING, "1 while a backup is taken")?,
        };
        registry.register(Box::new(metrics.last_success.clone()))?;
        registry.register(Box::new(metrics.total.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.running.clone()))?;
        for outcome in ["taken", "failed"] {
            let _ = metrics.total.with_label_values(&[outcome]);
        }
        // Those of processes before count, so that a restart raises no alert.
        if let Some((_, manifest)) = newest(folder) {
            metrics.show(&manifest);
        }
        Ok(metrics)
    }

    #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 53 bits")]
    fn show(&self, manifest: &Manifest) {
        self.last_success.set(manifest.finished_at as f64 / 1e3);
        self.seconds.set((manifest.finished_at - manifest.begun_at) as f64 / 1e3);
        self.bytes.set(i64::try_from(manifest.bytes()).unwrap_or(i64::MAX));
    }
}

impl Backups {
    /// Nothing is taken until somebody asks.
    pub fn new(
        folder: &Path,
        source: Source,
        audit: &Audit,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let metrics = match folder.as_os_str().is_empty() {
            true => None,
            false => Some(Metrics::register(folder, registry)?),
        };
        Ok(Self(Arc::new(Shared {
            folder: folder.to_owned(),
            source,
            audit: audit.clone(),
            metrics,
            state: Mutex::default(),
        })))
    }

    /// Where backups go; none where nobody said.
    pub fn folder(&self) -> Option<&Path> {
        Some(self.0.folder.as_path()).filter(|folder| !folder.as_os_str().is_empty())
    }

    /// What is being taken, and what came of the last one.
    pub fn now(&self) -> (Option<Running>, Option<Outcome>) {
        let state = self.state();
        (state.running.clone(), state.last.clone())
    }

    /// Begins one, of this name or of one that tells the time; its name.
    pub fn start(&self, name: Option<String>, author: &Author) -> Result<Running, StartError> {
        let Some(folder) = self.folder() else { return Err(StartError::NoFolder) };
        let name = name.unwrap_or_else(default_name);
        if !is_name(&name) {
            return Err(StartError::Name(name));
        }
        let target = folder.join(&name);
        if target.symlink_metadata().is_ok() {
            return Err(StartError::Exists(target));
        }
        let mut state = self.state();
        if let Some(running) = &state.running {
            return Err(StartError::Busy(running.name.clone()));
        }
        let running = Running { name, begun_at: now().0, progress: Progress::default() };
        if state.is_closed {
            running.progress.cancel();
        }
        state.running = Some(running.clone());
        let work = self.clone().run(running.clone(), target, author.clone());
        state.task = Some(tokio::spawn(work));
        Ok(running)
    }

    async fn run(self, running: Running, target: PathBuf, author: Author) {
        if let Some(metrics) = &self.0.metrics {
            metrics.running.set(1);
        }
        let began = Instant::now();
        let taken = take(self.0.source.clone(), target, running.progress.clone()).await;
        self.tell(&running, &taken, &author, began).await;
        if let Some(metrics) = &self.0.metrics {
            metrics.running.set(0);
            let outcome = if taken.is_ok() { "taken" } else { "failed" };
            metrics.total.with_label_values(&[outcome]).inc();
            if let Ok(manifest) = &taken {
                metrics.show(manifest);
            }
        }
        let failure = taken.err().map(|error| error.to_string());
        let mut state = self.state();
        state.last = Some(Outcome { name: running.name, ended_at: now().0, failure });
        state.running = None;
    }

    /// In the log and among the events.
    async fn tell(
        &self,
        running: &Running,
        taken: &Result<Manifest, BackupError>,
        author: &Author,
        began: Instant,
    ) {
        let (name, took) = (&running.name, began.elapsed());
        let (kind, body) = match taken {
            Ok(manifest) => {
                let (files, bytes) = (manifest.files.len(), manifest.bytes());
                tracing::info!(name, files, bytes, ?took, "a backup was taken");
                ("backup_taken", json!({ "name": name, "files": files, "bytes": bytes }))
            }
            Err(error) => {
                tracing::error!(name, %error, "a backup failed");
                ("backup_failed", json!({ "name": name, "reason": error.to_string() }))
            }
        };
        if let Err(error) = self.0.audit.of_installation(kind, author, body).await {
            tracing::error!(%error, "what came of a backup is not among the events");
        }
    }

    /// Ends the one that is being taken, if one is, and waits for its end.
    pub async fn stop(&self) {
        let task = {
            let mut state = self.state();
            state.is_closed = true;
            if let Some(running) = &state.running {
                running.progress.cancel();
            }
            state.task.take()
        };
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the task of a backup failed");
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names that sort as their times do.
pub(crate) fn default_name() -> String {
    jiff::Timestamp::now().strftime("baken-%Y%m%dT%H%M%SZ").to_string()
}

fn is_name(name: &str) -> bool {
    let is_fine = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    (1..=MAX_NAME_CHARS).contains(&name.len())
        && !name.starts_with('.')
        && name.chars().all(is_fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_no_other_folder() {
        for name in ["", ".", "..", "a/b", "/a", "ä", ".hidden", "a b", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name(&default_name()), "{}", default_name());
        assert!(is_name("before-1.2_upgrade"));
    }
}
