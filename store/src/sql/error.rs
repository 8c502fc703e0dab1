//! What may go wrong with a database.

use std::fmt;
use std::path::PathBuf;

use rusqlite::ErrorCode;
use tokio_postgres::error::SqlState;

/// What may go wrong with an SQLite file or with PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    #[error("cannot open the database {}: {source}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error(
        "the database {} has version {found}, but this program knows versions up to {known} only: \
         it was written by a later version of Baken",
        path.display()
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("migration {number} of the database {} failed: {source}", path.display())]
    Migration { path: PathBuf, number: u32, source: rusqlite::Error },
    #[error("the database refused a statement: {0}")]
    Statement(#[from] rusqlite::Error),
    #[error("cannot connect to PostgreSQL: {0}")]
    Connect(#[source] PostgresError),
    #[error(
        "the schema `{schema}` in PostgreSQL has version {found}, but this program knows versions \
         up to {known} only, which can't go on with it: a later version of Baken brought it forward"
    )]
    SchemaNewer { schema: &'static str, found: u32, known: u32 },
    #[error("migration {number} of the schema `{schema}` in PostgreSQL failed: {source}")]
    SchemaMigration { schema: &'static str, number: u32, source: PostgresError },
    #[error("PostgreSQL refused a statement: {0}")]
    Postgres(#[from] PostgresError),
    #[error("a thread for PostgreSQL cannot be started: {0}")]
    Runtime(#[source] std::io::Error),
    /// The transaction of several callers failed under one that was in order.
    #[error("the transaction could not be made durable")]
    NotDurable,
    #[error(
        "the database holds a copy of a folder that is not finished; run `baken migrate` again, \
         which goes on with it"
    )]
    UnfinishedCopy,
    #[error("column {column} has {found}, where {wanted} is expected")]
    Column { column: usize, found: &'static str, wanted: &'static str },
    #[error("column {column} cannot be read: {reason}")]
    Unreadable { column: usize, reason: String },
    #[error("other nodes were quicker {0} times; nothing was written")]
    Overtaken(usize),
    #[error("the query gave no row")]
    NoRows,
    #[error("the statement changed {0} rows, where it must change one")]
    ChangedRows(usize),
}

/// PostgreSQL's error with all that it says; the library's own shows the rest
/// only as its source.
pub struct PostgresError(pub tokio_postgres::Error);

/// As it is shown: what the library would print repeats values.
impl fmt::Debug for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(error) = self.0.as_db_error() else {
            write!(f, "{}", self.0)?;
            let mut source = std::error::Error::source(&self.0);
            while let Some(error) = source {
                write!(f, ": {error}")?;
                source = error.source();
            }
            return Ok(());
        };
        // Not the detail: it repeats values.
        write!(f, "{} ({})", error.message(), error.code().code())
    }
}

impl std::error::Error for PostgresError {}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(error)
    }
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(PostgresError(error))
    }
}

impl PostgresError {
    /// True where PostgreSQL may say otherwise later: it is away, starting or
    /// full, or another transaction was in the way.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        let Some(state) = self.0.code() else {
            // Not from the server: the connection is gone, unless a value of
            // ours did not fit.
            return self.is_connection();
        };
        // Classes: connection, rollback, resources, operator, system.
        let class = &state.code()[..2];
        matches!(class, "08" | "40" | "53" | "57" | "58") || *state == SqlState::LOCK_NOT_AVAILABLE
    }

    /// True where the connection, and with it all that was not committed, is lost.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        use std::error::Error as _;
        let is_io = |error: &(dyn std::error::Error + 'static)| error.is::<std::io::Error>();
        self.0.is_closed() || self.0.source().is_some_and(is_io)
    }
}

impl SqlError {
    /// True where the same call may succeed later: the file is busy, the disk is
    /// full or failing for now, or PostgreSQL is away.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Open { source, .. }
            | Self::Migration { source, .. }
            | Self::Statement(source) => matches!(
                source.sqlite_error_code(),
                Some(
                    ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                )
            ),
            Self::Connect(source)
            | Self::SchemaMigration { source, .. }
            | Self::Postgres(source) => source.is_retryable(),
            Self::NotDurable | Self::Overtaken(_) => true,
            Self::Newer { .. }
            | Self::SchemaNewer { .. }
            | Self::Runtime(_)
            | Self::UnfinishedCopy
            | Self::Column { .. }
            | Self::Unreadable { .. }
            | Self::NoRows
            | Self::ChangedRows(_) => false,
        }
    }

    /// True where a row is there already that must be the only one of its kind.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        match self {
            Self::Statement(source) => {
                source.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
            }
            Self::Postgres(source) => source.0.code() == Some(&SqlState::UNIQUE_VIOLATION),
            _ => false,
        }
    }
}
