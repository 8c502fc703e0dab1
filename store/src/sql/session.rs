//! One connection to either database, with the same statements on both.
//!
//! Statements are written once, in the SQL that SQLite and PostgreSQL share, with
//! `?1` or `?` for parameters; `text` says what little is translated. Calls
//! block and belong on a thread of the caller's own.

#![allow(clippy::needless_pass_by_value, reason = "parameters are made where they are given")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::CachedStatement;
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use super::SqlError;
use super::database::Database;
use super::text;
use super::value::{Column, Parameters, Value, column, from_sqlite};

/// A connection that was idle for so long is asked whether it still stands.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Prepared statements of one connection; past it all are prepared anew.
const MAX_PREPARED: usize = 256;

/// A connection to SQLite or PostgreSQL.
#[derive(Debug)]
pub(crate) struct Session {
    engine: Engine,
    database: Arc<Database>,
}

#[derive(Debug)]
enum Engine {
    Sqlite(rusqlite::Connection),
    Postgres(Box<Server>),
}

/// The connection's own task runs whenever a call waits on this runtime, on the
/// caller's thread: no other thread has to wake for a statement.
#[derive(Debug)]
pub(crate) struct Server {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
    client: Client,
    statements: RefCell<HashMap<Box<str>, tokio_postgres::Statement>>,
    used_at: Cell<Instant>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dropped on a thread of another runtime, which may not block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Server {
    fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, SqlError> {
        let runtime = self.runtime.as_ref().expect("it is there until it is dropped");
        let result = runtime.block_on(work);
        self.used_at.set(Instant::now());
        Ok(result?)
    }

    fn prepare(&self, sql: &str) -> Result<tokio_postgres::Statement, SqlError> {
        if let Some(known) = self.statements.borrow().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.wait(self.client.prepare(&text::of_postgres(sql)))?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= MAX_PREPARED {
            statements.clear();
        }
        statements.insert(sql.into(), statement.clone());
        Ok(statement)
    }

    /// Whether the connection stands, as far as can be known.
    fn stands(&self) -> bool {
        if self.client.is_closed() {
            return false;
        }
        self.used_at.get().elapsed() < TRUSTED_IDLE
            || self.wait(self.client.check_connection()).is_ok()
    }
}

impl Session {
    pub(super) fn sqlite(connection: rusqlite::Connection, database: Arc<Database>) -> Self {
        Self { engine: Engine::Sqlite(connection), database }
    }

    pub(super) fn postgres(runtime: Runtime, client: Client, database: Arc<Database>) -> Self {
        let server = Server {
            runtime: Some(runtime),
            client,
            statements: RefCell::default(),
            used_at: Cell::new(Instant::now()),
        };
        Self { engine: Engine::Postgres(Box::new(server)), database }
    }

    /// SQLite's own connection, if it is one.
    pub fn as_sqlite(&self) -> Option<&rusqlite::Connection> {
        match &self.engine {
            Engine::Sqlite(connection) => Some(connection),
            Engine::Postgres(_) => None,
        }
    }

    #[must_use]
    pub fn is_postgres(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_))
    }

    /// Connects again where the connection is lost. Call it before the first
    /// statement of whatever belongs together.
    ///
    /// # Errors
    /// [`SqlError::Connect`].
    pub fn ready(&mut self) -> Result<(), SqlError> {
        if let Engine::Postgres(server) = &self.engine
            && !server.stands()
        {
            *self = self.database.session()?;
        }
        Ok(())
    }

    /// Begins a transaction, which ends without a trace unless it is committed.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn transaction(&mut self) -> Result<Transaction<'_>, SqlError> {
        self.ready()?;
        self.run("BEGIN")?;
        Ok(Transaction { session: self, open: true, is_savepoint: false })
    }

    /// A transaction whose statements all see the same moment, and which changes
    /// nothing.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn moment(&self) -> Result<Transaction<'_>, SqlError> {
        self.run(match self.engine {
            Engine::Sqlite(_) => "BEGIN",
            Engine::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        })?;
        Ok(Transaction { session: self, open: true, is_savepoint: false })
    }

    /// A statement of which the connection keeps the plan.
    ///
    /// # Errors
    /// [`SqlError`] if the database does not understand it.
    pub fn prepare_cached(&self, sql: &str) -> Result<Statement<'_>, SqlError> {
        match &self.engine {
            Engine::Sqlite(connection) => Ok(Statement::Sqlite(connection.prepare_cached(sql)?)),
            Engine::Postgres(server) => Ok(Statement::Postgres(server, server.prepare(sql)?)),
        }
    }

    /// How many rows a statement has changed.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn execute(&self, sql: &str, values: impl Parameters) -> Result<usize, SqlError> {
        self.prepare_cached(sql)?.execute(values)
    }

    /// The first row of a query.
    ///
    /// # Errors
    /// [`SqlError::NoRows`] and the others.
    pub fn query_row<T>(
        &self,
        sql: &str,
        values: impl Parameters,
        read: impl FnOnce(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        self.prepare_cached(sql)?.query_row(values, read)
    }

    /// Statements without parameters and answers.
    fn run(&self, sql: &str) -> Result<(), SqlError> {
        match &self.engine {
            Engine::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Engine::Postgres(server) => server.wait(server.client.batch_execute(sql)),
        }
    }

    /// Closes a file, where it is one.
    ///
    /// # Errors
    /// [`SqlError`] if the file does not close cleanly.
    pub fn close(self) -> Result<(), SqlError> {
        match self.engine {
            Engine::Sqlite(connection) => connection.close().map_err(|(_, error)| error.into()),
            Engine::Postgres(_) => Ok(()),
        }
    }
}

/// A transaction, or a part of one that can be taken back by itself.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    session: &'a Session,
    open: bool,
    is_savepoint: bool,
}

impl Deref for Transaction<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session
    }
}

impl Transaction<'_> {
    /// A part that can be taken back by itself. One at a time.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn savepoint(&mut self) -> Result<Transaction<'_>, SqlError> {
        self.session.run("SAVEPOINT part")?;
        Ok(Transaction { session: self.session, open: true, is_savepoint: true })
    }

    /// Makes the transaction durable, or the part one with the rest.
    ///
    /// # Errors
    /// [`SqlError`]; of a lost connection to PostgreSQL nobody knows whether the
    /// transaction was made durable.
    pub fn commit(mut self) -> Result<(), SqlError> {
        self.session.run(if self.is_savepoint { "RELEASE SAVEPOINT part" } else { "COMMIT" })?;
        self.open = false;
        Ok(())
    }

    /// Waits until no other node's transaction has this lock, and keeps it to the
    /// transaction's end. A file has one writer anyway.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn lock(&self, number: i64) -> Result<(), SqlError> {
        if self.session.is_postgres() {
            let mut statement = self.session.prepare_cached("SELECT pg_advisory_xact_lock(?1)")?;
            statement.query([number])?;
        }
        Ok(())
    }

    /// Wakes those on other nodes who listen to the channel, once it is durable.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn notify(&self, channel: &str) -> Result<(), SqlError> {
        if self.session.is_postgres() {
            self.session.run(&format!("NOTIFY {channel}"))
        } else {
            Ok(())
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            let back = if self.is_savepoint {
                "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part"
            } else {
                "ROLLBACK"
            };
            // Of a lost connection the server takes it back itself.
            let _ = self.session.run(back);
        }
    }
}

/// A prepared statement.
pub(crate) enum Statement<'a> {
    Sqlite(CachedStatement<'a>),
    Postgres(&'a Server, tokio_postgres::Statement),
}

impl Statement<'_> {
    /// How many rows it has changed.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn execute(&mut self, values: impl Parameters) -> Result<usize, SqlError> {
        let values = values.values();
        match self {
            Self::Sqlite(statement) => {
                bind(statement, &values)?;
                Ok(statement.raw_execute()?)
            }
            Self::Postgres(server, statement) => {
                let changed = server.wait(server.client.execute_raw(statement, values))?;
                Ok(usize::try_from(changed).unwrap_or(usize::MAX))
            }
        }
    }

    /// Its rows.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn query(&mut self, values: impl Parameters) -> Result<Rows<'_>, SqlError> {
        let values = values.values();
        match self {
            Self::Sqlite(statement) => {
                bind(statement, &values)?;
                Ok(Rows::Sqlite(statement.raw_query()))
            }
            Self::Postgres(server, statement) => {
                use futures_util::TryStreamExt as _;
                let rows = server.wait(async {
                    let rows = server.client.query_raw(statement, values).await?;
                    rows.try_collect::<Vec<_>>().await
                })?;
                Ok(Rows::Postgres(rows.into_iter()))
            }
        }
    }

    /// Its first row.
    ///
    /// # Errors
    /// [`SqlError::NoRows`] and the others.
    pub fn query_row<T>(
        &mut self,
        values: impl Parameters,
        read: impl FnOnce(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let mut rows = self.query(values)?;
        let row = rows.next()?.ok_or(SqlError::NoRows)?;
        read(&row)
    }

    /// All its rows, as `read` makes them.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn query_map<T>(
        &mut self,
        values: impl Parameters,
        mut read: impl FnMut(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        let mut rows = self.query(values)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(&row)?);
        }
        Ok(found)
    }
}

fn bind(statement: &mut CachedStatement<'_>, values: &[Value<'_>]) -> Result<(), SqlError> {
    let expected = statement.parameter_count();
    if expected != values.len() {
        return Err(rusqlite::Error::InvalidParameterCount(values.len(), expected).into());
    }
    for (place, value) in (1..).zip(values) {
        statement.raw_bind_parameter(place, value)?;
    }
    Ok(())
}

/// The rows of a query.
pub(crate) enum Rows<'a> {
    Sqlite(rusqlite::Rows<'a>),
    Postgres(std::vec::IntoIter<tokio_postgres::Row>),
}

impl Rows<'_> {
    /// The next row, until there is none.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn next(&mut self) -> Result<Option<Row<'_>>, SqlError> {
        match self {
            Self::Sqlite(rows) => Ok(rows.next()?.map(Row::Sqlite)),
            Self::Postgres(rows) => Ok(rows.next().map(Row::Postgres)),
        }
    }
}

/// A row of a query.
pub(crate) enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(tokio_postgres::Row),
}

impl Row<'_> {
    fn value(&self, place: usize) -> Result<Value<'_>, SqlError> {
        match self {
            Self::Sqlite(row) => from_sqlite(row.get_ref(place)?),
            Self::Postgres(row) => Ok(row.try_get(place)?),
        }
    }

    /// A column, counted from 0.
    ///
    /// # Errors
    /// [`SqlError::Column`] if it has something else.
    pub fn get<T: Column>(&self, place: usize) -> Result<T, SqlError> {
        column(place, self.value(place)?)
    }

    /// A text, without a copy.
    ///
    /// # Errors
    /// [`SqlError::Column`] if it is none.
    pub fn text(&self, place: usize) -> Result<&str, SqlError> {
        match self.value(place)? {
            Value::Text(text) => Ok(text),
            other => column::<String>(place, other).map(|_| ""),
        }
    }
}

/// A query that may have no row.
pub(crate) trait Optional<T> {
    fn optional(self) -> Result<Option<T>, SqlError>;
}

impl<T> Optional<T> for Result<T, SqlError> {
    fn optional(self) -> Result<Option<T>, SqlError> {
        match self {
            Ok(found) => Ok(Some(found)),
            Err(SqlError::NoRows) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
