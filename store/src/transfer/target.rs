//! The database that is copied into, and what it says of the copy.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::tables::TABLES;
use super::{TransferError, TransferReport, TransferState};
use crate::sql::SqlError;
use crate::sql::postgres::PostgresOptions;
use crate::{alarms, attributes, directory, forwarders};

/// The schema of what is noted of the copy.
const SCHEMA: &str = "baken_migration";

/// Held as long as a copy is at work. The number is the text `baken-mi` in ASCII.
const WORK_LOCK: i64 = 0x62_61_6b_65_6e_2d_6d_69;

const NOTES: &str = "CREATE SCHEMA IF NOT EXISTS baken_migration;
     CREATE TABLE IF NOT EXISTS baken_migration.copy (
         id          INTEGER PRIMARY KEY CHECK (id = 1),
         -- Tells the folder, as it was, from all others.
         fingerprint TEXT NOT NULL,
         -- `same` or `new`: which journal the installation has afterwards.
         journal     TEXT NOT NULL,
         begun_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
         finished_at TIMESTAMPTZ,
         -- JSON.
         report      TEXT
     );
     -- Rows of each step that are there, noted in their transaction.
     CREATE TABLE IF NOT EXISTS baken_migration.steps (
         name    TEXT PRIMARY KEY,
         rows    BIGINT NOT NULL,
         is_done BOOLEAN NOT NULL
     );";

const COPY: &str = "SELECT fingerprint, journal, finished_at IS NOT NULL FROM baken_migration.copy";

pub(super) struct Target {
    pub client: Client,
}

/// A copy, as the database has noted it.
struct Noted {
    fingerprint: String,
    journal: String,
    is_finished: bool,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    pub rows: u64,
    pub is_done: bool,
}

fn failed(error: tokio_postgres::Error) -> TransferError {
    TransferError::Target(error.into())
}

impl Target {
    /// Connects; nobody else copies into this database meanwhile.
    pub async fn connect(options: &PostgresOptions) -> Result<Self, TransferError> {
        let (client, link) = options.connect(SCHEMA).await.map_err(TransferError::Target)?;
        tokio::spawn(async move {
            if let Err(error) = link.await {
                // Whoever uses it is told, and handles it.
                tracing::debug!(%error, "the copy's connection to PostgreSQL ended");
            }
        });
        let lock = client.query_one("SELECT pg_try_advisory_lock($1)", &[&WORK_LOCK]).await;
        if !lock.map_err(failed)?.get::<_, bool>(0) {
            return Err(TransferError::Busy);
        }
        // A step may take longer than a node's statement.
        client.batch_execute("SET statement_timeout = 0").await.map_err(failed)?;
        Ok(Self { client })
    }

    async fn noted(&self) -> Result<Option<Noted>, TransferError> {
        noted(&self.client).await.map_err(TransferError::Target)
    }

    /// What the database holds.
    ///
    /// # Errors
    /// Anything but a copy of this folder for this journal.
    pub async fn found(
        &self,
        fingerprint: &str,
        journal: &'static str,
    ) -> Result<TransferState, TransferError> {
        match self.noted().await? {
            None => self.check_empty().await.map(|()| TransferState::Empty),
            Some(noted) if noted.fingerprint != fingerprint && noted.is_finished => {
                Err(TransferError::NotEmpty { table: format!("{SCHEMA}.copy") })
            }
            Some(noted) if noted.fingerprint != fingerprint => Err(TransferError::OtherCopy),
            Some(noted) if noted.journal != journal => {
                Err(TransferError::OtherJournal { begun: noted.journal, asked: journal })
            }
            Some(noted) if noted.is_finished => Ok(TransferState::Finished),
            Some(_) => Ok(TransferState::Begun),
        }
    }

    async fn check_empty(&self) -> Result<(), TransferError> {
        let tables =
            TABLES.iter().filter(|table| !table.seeded).map(super::tables::Table::in_postgres);
        for table in tables.chain(["baken_history.series".to_owned()]) {
            let there = "SELECT to_regclass($1) IS NOT NULL";
            let is_there = self.client.query_one(there, &[&table]).await.map_err(failed)?;
            if !is_there.get::<_, bool>(0) {
                continue;
            }
            let any = format!("SELECT EXISTS (SELECT 1 FROM {table})");
            let any = self.client.query_one(&any, &[]).await.map_err(failed)?;
            if any.get(0) {
                return Err(TransferError::NotEmpty { table });
            }
        }
        Ok(())
    }

    pub async fn begin(&mut self, fingerprint: &str, journal: &str) -> Result<(), TransferError> {
        let transaction = self.client.transaction().await.map_err(failed)?;
        transaction.batch_execute(NOTES).await.map_err(failed)?;
        let note = "INSERT INTO baken_migration.copy (id, fingerprint, journal) VALUES (1, $1, $2)";
        transaction.execute(note, &[&fingerprint, &journal]).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// Takes a copy out that is not finished; of anything else nothing.
    pub async fn take_out_unfinished(&mut self) -> Result<(), TransferError> {
        match self.noted().await? {
            Some(noted) if !noted.is_finished => {}
            _ => return Ok(()),
        }
        let schemas: std::collections::BTreeSet<_> = TABLES.iter().map(|it| it.schema).collect();
        let schemas = schemas.into_iter().chain(["baken_history", SCHEMA]);
        let statements = schemas.map(|it| format!("DROP SCHEMA IF EXISTS {it} CASCADE;"));
        let statements: String = statements.collect();
        let transaction = self.client.transaction().await.map_err(failed)?;
        transaction.batch_execute(&statements).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// Makes the tables of all parts but the history, whose opening makes its own.
    pub async fn make_tables(&self, options: &PostgresOptions) -> Result<(), TransferError> {
        let databases = [
            directory::database(options),
            attributes::database(options),
            alarms::database(options),
            forwarders::database(options),
        ];
        let made = tokio::task::spawn_blocking(move || {
            databases.iter().try_for_each(|database| database.open().map(|_| ()))
        });
        made.await.map_err(|_| TransferError::Thread)?.map_err(TransferError::Tables)
    }

    pub async fn step(&self, name: &str) -> Result<Step, TransferError> {
        let step = "SELECT rows, is_done FROM baken_migration.steps WHERE name = $1";
        let found = self.client.query_opt(step, &[&name]).await.map_err(failed)?;
        Ok(found.map_or_else(Step::default, |row| Step {
            rows: row.get::<_, i64>(0).cast_unsigned(),
            is_done: row.get(1),
        }))
    }

    /// The report of a copy that is finished.
    pub async fn report(&self) -> Result<TransferReport, TransferError> {
        let report = "SELECT coalesce(report, '') FROM baken_migration.copy";
        let row = self.client.query_one(report, &[]).await.map_err(failed)?;
        let text: &str = row.get(0);
        let unreadable = |error: serde_json::Error| {
            let reason = error.to_string();
            TransferError::Target(SqlError::Unreadable { column: 0, reason })
        };
        let report: TransferReport = serde_json::from_str(text).map_err(unreadable)?;
        Ok(TransferReport { copied: false, ..report })
    }

    pub async fn finish(&self, report: &TransferReport) -> Result<(), TransferError> {
        let text = serde_json::to_string(report).expect("texts and numbers always become JSON");
        let note = "UPDATE baken_migration.copy SET finished_at = now(), report = $1";
        self.client.execute(note, &[&text]).await.map_err(failed)?;
        Ok(())
    }

    /// Statements in one transaction with a step's note.
    pub async fn end_step(
        &mut self,
        step: &str,
        statements: &[(String, Vec<&(dyn ToSql + Sync)>)],
    ) -> Result<(), TransferError> {
        let transaction = self.client.transaction().await.map_err(failed)?;
        for (statement, values) in statements {
            transaction.execute(statement.as_str(), values).await.map_err(failed)?;
        }
        let done = "INSERT INTO baken_migration.steps (name, rows, is_done) VALUES ($1, 0, true)
                    ON CONFLICT (name) DO UPDATE SET is_done = true";
        transaction.execute(done, &[&step]).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }
}

async fn noted(client: &Client) -> Result<Option<Noted>, SqlError> {
    let there = "SELECT to_regclass('baken_migration.copy') IS NOT NULL";
    if !client.query_one(there, &[]).await?.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = client.query_opt(COPY, &[]).await?;
    Ok(row.map(|row| Noted {
        fingerprint: row.get(0),
        journal: row.get(1),
        is_finished: row.get(2),
    }))
}

/// Whether the database holds a copy that is not finished: no node may write
/// there.
///
/// # Errors
/// [`SqlError`].
pub(crate) async fn is_unfinished(options: &PostgresOptions) -> Result<bool, SqlError> {
    let (client, link) = options.connect(SCHEMA).await?;
    let link = tokio::spawn(link);
    let noted = noted(&client).await?;
    drop(client);
    let _ = link.await;
    Ok(noted.is_some_and(|noted| !noted.is_finished))
}
