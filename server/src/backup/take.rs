//! Takes a backup.
//!
//! All parts are held as they are at one moment, which takes milliseconds and
//! keeps nobody from working; then they are copied one by one. What is derived
//! from the journal is held first, then the journal's end, then the directory:
//! so a restored node reads on from its positions, and comes to what was there.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use alarms::AlarmCommands;
use journal::{Journal, JournalFile, JournalFiles};
use schema::Position;
use store::Store;
use store::backup::{HeldFile, Snapshot, Source as FileSource, uncarried};

use super::copy::{Pace, check_room, copy, make_folder, sum, sync_folders, written_at_ns};
use super::manifest::{Listed, Manifest, Place, newest};
use super::{BackupError, Progress, io_error};
use crate::clock::now;
use crate::folder::KEPT_FILES;
use crate::node::{JOURNAL_DIR, STORE_DIR};

/// What the copying is taken off the processor's share.
const NICENESS: i32 = 10;

/// A node's parts, of which those in its folder are backed up.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The data folder.
    pub folder: PathBuf,
    pub journal: Journal,
    pub store: Store,
    /// Where they run: they deliver no profile in the moment.
    pub alarms: Option<AlarmCommands>,
    pub secret_is_elsewhere: bool,
    /// 0 sets no bound.
    pub rate_bytes_per_s: u64,
    /// What is left free on the backup's disk.
    pub reserve_bytes: u64,
}

/// What was held.
struct Held {
    store: Option<Snapshot>,
    journal: Option<(JournalFiles, journal::Kept)>,
}

/// Takes a backup to a folder that is not there yet. Broken off by an error, it
/// leaves none.
pub(crate) async fn take(
    source: Source,
    target: PathBuf,
    progress: Progress,
) -> Result<Manifest, BackupError> {
    let in_folder = source.store.cluster().is_none();
    if !in_folder && matches!(source.journal, Journal::Kafka(_)) {
        return Err(BackupError::NothingHere);
    }
    let begun_at = now().0;
    let undelivered = match &source.alarms {
        Some(alarms) => Some(alarms.undelivered().await),
        None => None,
    };
    let quiet = (uncarried(source.store.directory()).await, undelivered);
    let (answer, taken) = tokio::sync::oneshot::channel();
    let work = move || {
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::debug!(%error, "the backup runs at normal priority");
        }
        let held = hold(&source, &quiet.0);
        drop(quiet);
        let taken = held.and_then(|held| {
            make(&target)?;
            let manifest = Manifest::new(source.journal.partitions(), begun_at);
            let taken = Taking::new(&source, &target, &progress, manifest).take(held);
            if taken.is_err()
                && let Err(error) = fs::remove_dir_all(&target)
            {
                let path = target.display();
                tracing::warn!(%path, %error, "what a backup that failed has left stays");
            }
            taken
        });
        // Who asked may be gone.
        let _ = answer.send(taken);
    };
    thread(work)?;
    taken.await.map_err(|_| BackupError::Thread)?
}

fn thread(work: impl FnOnce() + Send + 'static) -> Result<(), BackupError> {
    let spawned = std::thread::Builder::new().name("backup".to_owned()).spawn(work);
    spawned.map(|_| ()).map_err(io_error("start a thread for", Path::new("the backup")))
}

/// Makes the backup's folder, which must not be there.
fn make(target: &Path) -> Result<(), BackupError> {
    if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(target) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(BackupError::Exists { path: target.to_owned() })
        }
        made => made.map_err(io_error("make", target)),
    }
}

/// The moment.
fn hold(source: &Source, uncarried: &store::backup::Uncarried) -> Result<Held, BackupError> {
    // Before all else, so that nothing goes which what is held still needs.
    let kept = match &source.journal {
        Journal::Embedded(journal) => Some((journal, journal.keep())),
        Journal::Kafka(_) => None,
    };
    let end = || match &kept {
        Some((journal, kept)) => journal.files(kept).map(Some),
        None => Ok(None),
    };
    let (store, files) = match source.store.cluster() {
        None => {
            let dir = source.folder.join(STORE_DIR);
            let (store, files) = Snapshot::take(&source.store, &dir, uncarried, end)?;
            (Some(store), files)
        }
        Some(_) => (None, end()),
    };
    let files = files.map_err(BackupError::Damaged)?;
    let journal = files.zip(kept.map(|(_, kept)| kept));
    Ok(Held { store, journal })
}

struct Taking<'a> {
    source: &'a Source,
    target: &'a Path,
    progress: &'a Progress,
    pace: Pace,
    manifest: Manifest,
    /// The newest backup beside this one, and its files by path.
    before: Option<(PathBuf, HashMap<String, Listed>)>,
}

impl<'a> Taking<'a> {
    fn new(
        source: &'a Source,
        target: &'a Path,
        progress: &'a Progress,
        manifest: Manifest,
    ) -> Self {
        let before = target.parent().and_then(newest).map(|(folder, manifest)| {
            let by_path = |file: Listed| (file.path.clone(), file);
            (folder, manifest.files.into_iter().map(by_path).collect())
        });
        let pace = Pace::new(source.rate_bytes_per_s, progress);
        Self { source, target, progress, pace, manifest, before }
    }

    fn take(mut self, held: Held) -> Result<Manifest, BackupError> {
        let Held { store, journal } = held;
        let partitions = self.source.journal.partitions();
        let needed = match &store {
            Some(store) => store.needed(partitions)?,
            // What a dump of the database needs nobody knows here.
            None => vec![Position(0); usize::from(partitions)],
        };
        let (databases, history) = store.map(Snapshot::into_parts).unwrap_or_default();
        let segments = journal.as_ref().map(|(files, _)| files.needed(&needed)).unwrap_or_default();
        let mut total = segments.iter().map(|file| file.bytes).sum::<u64>();
        for database in &databases {
            total += database.bytes()?;
        }
        let (linked, copied) = self.divide(&history)?;
        total += copied;
        check_room(self.target, total, self.source.reserve_bytes)?;

        let store_dir = self.target.join(STORE_DIR);
        self.progress.begin("store", total);
        for database in databases {
            self.manifest.store = Place::Folder;
            make_folder(&store_dir)?;
            let name = database.name();
            let path = store_dir.join(name);
            database.copy_to(&path, |bytes| self.pace.took(bytes))?;
            self.list_written(&path, &format!("{STORE_DIR}/{name}"))?;
        }
        for (file, is_linked) in history.iter().zip(linked) {
            self.history_file(file, is_linked)?;
        }
        drop(history);
        for file in &segments {
            self.manifest.journal = Place::Folder;
            self.segment(file)?;
        }
        drop(journal);
        self.own_files()?;
        self.manifest.secret_is_elsewhere = self.source.secret_is_elsewhere;
        sync_folders(self.target)?;
        self.manifest.finished_at = now().0;
        self.manifest.write(self.target)?;
        if let Some(parent) = self.target.parent().filter(|it| !it.as_os_str().is_empty()) {
            File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(io_error("sync", parent))?;
        }
        Ok(self.manifest)
    }

    /// Which of the history's files the backup before has, and the bytes of the
    /// others.
    fn divide(&self, history: &[HeldFile]) -> Result<(Vec<bool>, u64), BackupError> {
        let (mut linked, mut copied) = (Vec::with_capacity(history.len()), 0);
        for file in history {
            let meta = meta(file)?;
            let path = format!("{STORE_DIR}/{}", file.name.display());
            let is_linked = self.same_before(&path, &meta).is_some();
            copied += if is_linked { 0 } else { meta.len() };
            linked.push(is_linked);
        }
        Ok((linked, copied))
    }

    /// The same file in the backup before.
    fn same_before(&self, path: &str, meta: &fs::Metadata) -> Option<(PathBuf, &Listed)> {
        let (folder, files) = self.before.as_ref()?;
        let listed = files.get(path)?;
        let is_same = listed.bytes == meta.len()
            && listed.written_at_ns == Some(written_at_ns(meta))
            && fs::metadata(folder.join(path)).is_ok_and(|found| found.len() == listed.bytes);
        is_same.then(|| (folder.join(path), listed))
    }

    fn history_file(&mut self, file: &HeldFile, is_linked: bool) -> Result<(), BackupError> {
        let meta = meta(file)?;
        let path = format!("{STORE_DIR}/{}", file.name.display());
        let to = self.target.join(&path);
        if let Some(parent) = to.parent() {
            make_folder(parent)?;
        }
        if is_linked && let Some((from, listed)) = self.same_before(&path, &meta) {
            let listed = listed.clone();
            if fs::hard_link(from, &to).is_ok() {
                self.manifest.files.push(listed);
                return Ok(());
            }
        }
        let (from, opened);
        let source = match &file.source {
            FileSource::Open(file) => (to.as_path(), file),
            FileSource::Path(path) => {
                opened = File::open(path).map_err(io_error("open", path))?;
                from = path;
                (from.as_path(), &opened)
            }
        };
        let sha256 = copy(source, &to, meta.len(), &mut self.pace)?;
        let written_at_ns = Some(written_at_ns(&meta));
        self.manifest.files.push(Listed { path, bytes: meta.len(), sha256, written_at_ns });
        Ok(())
    }

    fn segment(&mut self, file: &JournalFile) -> Result<(), BackupError> {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dir = self.target.join(JOURNAL_DIR);
        make_folder(&dir)?;
        let source = File::open(&file.path).map_err(io_error("open", &file.path))?;
        let sha256 = copy((&file.path, &source), &dir.join(&name), file.bytes, &mut self.pace)?;
        let path = format!("{JOURNAL_DIR}/{name}");
        let bytes = file.bytes;
        self.manifest.files.push(Listed { path, bytes, sha256, written_at_ns: None });
        Ok(())
    }

    /// The secret and what else stands in the folder itself.
    fn own_files(&mut self) -> Result<(), BackupError> {
        for name in KEPT_FILES {
            let path = self.source.folder.join(name);
            let file = match File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.map_err(io_error("open", &path))?,
            };
            let bytes = file.metadata().map_err(io_error("read", &path))?.len();
            let sha256 = copy((&path, &file), &self.target.join(name), bytes, &mut self.pace)?;
            let path = name.to_owned();
            self.manifest.files.push(Listed { path, bytes, sha256, written_at_ns: None });
        }
        Ok(())
    }

    /// A file that others have written: makes it durable and private, and lists it.
    fn list_written(&mut self, file: &Path, path: &str) -> Result<(), BackupError> {
        use std::os::unix::fs::PermissionsExt as _;
        let seal = || {
            let opened = File::open(file)?;
            opened.set_permissions(fs::Permissions::from_mode(0o600))?;
            opened.sync_all()?;
            Ok(opened.metadata()?.len())
        };
        let bytes = seal().map_err(io_error("sync", file))?;
        let sha256 = sum(file, bytes, &mut Pace::new(0, &Progress::default()))?;
        let path = path.to_owned();
        self.manifest.files.push(Listed { path, bytes, sha256, written_at_ns: None });
        Ok(())
    }
}

fn meta(file: &HeldFile) -> Result<fs::Metadata, BackupError> {
    match &file.source {
        FileSource::Open(open) => open.metadata().map_err(io_error("read", &file.name)),
        FileSource::Path(path) => fs::metadata(path).map_err(io_error("read", path)),
    }
}
