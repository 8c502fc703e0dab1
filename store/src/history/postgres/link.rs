//! Connections to PostgreSQL: one with its prepared statements, and those that
//! answer questions, of which there is a bounded number.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{Client, Statement};

use crate::history::HistoryError;
use crate::sql::PostgresOptions;

pub(super) const SCHEMA: &str = "baken_history";

/// Statements that a connection has prepared, by their texts.
#[derive(Default)]
pub(super) struct Statements {
    prepared: HashMap<&'static str, Statement>,
}

impl Statements {
    pub async fn get(
        &mut self,
        client: &Client,
        sql: &'static str,
    ) -> Result<Statement, HistoryError> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = client.prepare(sql).await?;
        self.prepared.insert(sql, statement.clone());
        Ok(statement)
    }
}

/// A connection with what it has prepared.
pub(super) struct Link {
    pub client: Client,
    pub statements: Statements,
    /// The server's process that works for it.
    process: i32,
}

impl Link {
    /// Connects; the connection is driven on the history's own threads.
    pub async fn connect(server: &PostgresOptions, runtime: &Handle) -> Result<Self, HistoryError> {
        let server = server.clone();
        let connecting = runtime.spawn(async move {
            let (client, link) = server.connect(SCHEMA).await.map_err(HistoryError::Postgres)?;
            tokio::spawn(async move {
                if let Err(error) = link.await {
                    // Whoever uses it is told, and handles it.
                    tracing::debug!(%error, "a connection of the history to PostgreSQL ended");
                }
            });
            let process = client.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?;
            Ok(Self { client, statements: Statements::default(), process })
        });
        connecting.await.unwrap_or(Err(HistoryError::Closed))
    }
}

/// The connections that answer.
pub(super) struct Pool {
    server: PostgresOptions,
    runtime: Handle,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Link>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("server", &self.server).finish_non_exhaustive()
    }
}

/// A connection in use. Dropped before [`Lease::done`], what it was asked is
/// cancelled and it is not used again.
pub(super) struct Lease {
    pool: Arc<Pool>,
    link: Option<Link>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub fn new(server: PostgresOptions, runtime: Handle, connections: usize) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(connections.max(1)));
        Arc::new(Self { server, runtime, permits, idle: Mutex::default() })
    }

    pub async fn lease(self: &Arc<Self>) -> Result<Lease, HistoryError> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| HistoryError::Closed)?;
        let idle = self.idle().pop().filter(|link| !link.client.is_closed());
        let link = match idle {
            Some(link) => link,
            None => Link::connect(&self.server, &self.runtime).await?,
        };
        Ok(Lease { pool: self.clone(), link: Some(link), _permit: permit })
    }

    /// Lets go of all that is not in use; nothing more is given out.
    pub fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub fn link(&mut self) -> &mut Link {
        self.link.as_mut().expect("it is there until it is given back")
    }

    /// Gives the connection back: all that was asked is answered.
    pub fn done(mut self) {
        if let Some(link) = self.link.take()
            && !link.client.is_closed()
            && !self.pool.permits.is_closed()
        {
            self.pool.idle().push(link);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(link) = self.link.take().filter(|link| !link.client.is_closed()) else { return };
        let pool = self.pool.clone();
        self.pool.runtime.spawn(async move {
            let other = Link::connect(&pool.server, &pool.runtime).await;
            let cancelled = match &other {
                Ok(other) => {
                    let ask = "SELECT pg_cancel_backend($1)";
                    other.client.execute(ask, &[&link.process]).await.map_err(HistoryError::from)
                }
                Err(_) => return,
            };
            if let Err(error) = cancelled {
                tracing::debug!(%error, "a question to PostgreSQL could not be cancelled");
            }
            // Held until now, so that the process was still its own.
            drop(link);
        });
    }
}
