//! Carries an installation from a folder into PostgreSQL: `baken migrate`.
//!
//! It copies what is stored, table by table and then the history, and compares
//! both sides before it says that it is done. Each step is a transaction that
//! notes how far it is, so a copy that was broken off goes on where it was. It
//! never changes the folder, and writes only to a database that is empty or
//! holds a copy of this very folder that is not finished.
//!
//! Positions of the journal mean nothing in another journal. Where the
//! installation gets a new one, all positions begin at 0, which is right only
//! if everything was taken from the old one: that is looked at first.

mod check;
mod copy;
mod digest;
mod readings;
mod source;
mod tables;
mod target;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use schema::{PartitionId, Position};
use serde::{Deserialize, Serialize};

use self::source::Source;
use self::target::Target;
use crate::history::HistoryError;
use crate::sql::SqlError;
use crate::{PostgresHistoryOptions, PostgresOptions};

pub(crate) use self::target::is_unfinished;

/// What is copied, and to where.
#[derive(Clone, Debug)]
pub struct TransferOptions {
    /// The store's folder, which no process has open.
    pub dir: PathBuf,
    pub partitions: u16,
    pub postgres: PostgresOptions,
    pub history: PostgresHistoryOptions,
    pub journal: JournalAfterwards,
    /// Takes a copy that is not finished out of the database first.
    pub start_over: bool,
    /// Carries on though forwarders have not sent all; they never will then.
    pub leave_unsent: bool,
}

/// Which journal the installation has afterwards.
#[derive(Clone, Debug)]
pub enum JournalAfterwards {
    /// The same one: positions stay as they are.
    Same,
    /// A new and empty one. The old one ends at these positions, a partition
    /// each, and nothing of it may be left to be taken.
    New { ends: Vec<Position> },
}

impl JournalAfterwards {
    fn name(&self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::New { .. } => "new",
        }
    }
}

/// What a database holds of a folder's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferState {
    Empty,
    Begun,
    Finished,
}

/// Why nothing, or not all, was copied.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error("cannot read the folder's store: {0}")]
    Source(#[source] SqlError),
    #[error("the database: {0}")]
    Target(#[source] SqlError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("cannot make the database's tables: {0}")]
    Tables(#[source] SqlError),
    #[error(
        "the database is in use: `{table}` has rows, and they are no copy of this folder that \
         could be gone on with; name another, empty database"
    )]
    NotEmpty { table: String },
    #[error(
        "the database holds a copy that is not finished, of another folder or of this folder as \
         it was before it was used again; run this again with --start-over to take that copy out \
         and begin anew, or name another, empty database"
    )]
    OtherCopy,
    #[error(
        "the copy in the database was begun for {begun} journal, and now {asked} one is asked \
         for; ask for the same, or run this again with --start-over"
    )]
    OtherJournal { begun: String, asked: &'static str },
    #[error("another migration into this database is at work")]
    Busy,
    #[error(
        "{what} of partition {partition} stand at {found}, but its journal ends at {end}: start \
         `baken serve` on the folder once and stop it, so that they catch up"
    )]
    Behind { what: &'static str, partition: PartitionId, found: Position, end: Position },
    #[error(
        "forwarder {forwarder} has not sent all of partition {partition}: it stands at {found}, \
         and the journal ends at {end}; let it catch up with `baken serve`, disable it, or leave \
         that unsent with --leave-unsent"
    )]
    Unsent { forwarder: u64, partition: PartitionId, found: Position, end: Position },
    #[error("`{table}` has other columns in the folder ({folder}) than in PostgreSQL ({postgres})")]
    Columns { table: &'static str, folder: String, postgres: String },
    #[error("the copy differs from the folder: {0}")]
    Differs(String),
    #[error("a thread of the copy ended early")]
    Thread,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferReport {
    /// False if the database had the whole copy before.
    pub copied: bool,
    /// Each table and the history with its rows, which are the same on both
    /// sides.
    pub parts: Vec<PartCount>,
    /// Documents of the directory by kind, deleted ones included.
    pub documents: Vec<PartCount>,
    pub series: u64,
    pub readings: u64,
}

/// Rows of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartCount {
    pub name: String,
    pub rows: u64,
}

/// How far a copy is, for whoever watches it; clones watch the same.
#[derive(Clone, Debug, Default)]
pub struct TransferProgress {
    step: Arc<Mutex<String>>,
    rows: Arc<AtomicU64>,
}

impl TransferProgress {
    /// What is being done, and how many of its rows are done.
    #[must_use]
    pub fn now(&self) -> (String, u64) {
        let step = self.step.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (step, self.rows.load(Ordering::Relaxed))
    }

    fn begin(&self, step: String) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
        self.rows.store(0, Ordering::Relaxed);
    }

    fn add(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }
}

/// How many partitions the store in a folder was made for.
///
/// # Errors
/// [`TransferError::Source`].
pub fn partitions_of(dir: &Path) -> Result<u16, TransferError> {
    source::partitions(dir).map_err(TransferError::Source)
}

/// What the database holds of the folder's copy.
///
/// # Errors
/// [`TransferError`] if it holds anything else.
pub async fn state(options: &TransferOptions) -> Result<TransferState, TransferError> {
    let source = Source::open(options)?;
    let mut target = Target::connect(&options.postgres).await?;
    if options.start_over {
        target.take_out_unfinished().await?;
    }
    target.found(&source.fingerprint, options.journal.name()).await
}

/// Copies all, or the rest of it, and compares. Cancelled at any moment, it goes
/// on from there the next time. On a runtime with several threads.
///
/// # Errors
/// [`TransferError`]; the database then holds a copy that is not finished, with
/// which no node starts.
pub async fn transfer(
    options: &TransferOptions,
    progress: &TransferProgress,
) -> Result<TransferReport, TransferError> {
    let source = Source::open(options)?;
    let mut target = Target::connect(&options.postgres).await?;
    if options.start_over {
        target.take_out_unfinished().await?;
    }
    match target.found(&source.fingerprint, options.journal.name()).await? {
        TransferState::Finished => return target.report().await,
        TransferState::Begun => {}
        TransferState::Empty => {
            source.check_positions(options)?;
            target.begin(&source.fingerprint, options.journal.name()).await?;
        }
    }
    target.make_tables(&options.postgres).await?;
    let histories = readings::Histories::open(&source, options).await?;
    for table in tables::TABLES {
        copy::table(&source, &mut target, table, &options.journal, progress).await?;
    }
    let copied = async {
        histories.copy(&mut target, options, progress).await?;
        check::all(&source, &target, &histories, &options.journal, progress).await
    };
    let report = copied.await;
    histories.close().await;
    let report = report?;
    target.finish(&report).await?;
    Ok(report)
}
