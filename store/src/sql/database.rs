//! Where a part of the store has its tables: a file of its own, or a schema of
//! its own in PostgreSQL.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinError;
use tokio_postgres::AsyncMessage;

use super::postgres::{PostgresOptions, migrate};
use super::session::Session;
use super::{SqlError, sqlite};

/// How long it takes until a lost connection for listening is made again.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A part's tables.
pub(crate) struct Database {
    place: Place,
    migrations: &'static [&'static str],
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Schema { options: Box<PostgresOptions>, schema: &'static str },
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl Database {
    pub fn file(path: PathBuf, migrations: &'static [&'static str]) -> Arc<Self> {
        Arc::new(Self { place: Place::File(path), migrations })
    }

    pub fn schema(
        options: &PostgresOptions,
        schema: &'static str,
        migrations: &'static [&'static str],
    ) -> Arc<Self> {
        let place = Place::Schema { options: Box::new(options.clone()), schema };
        Arc::new(Self { place, migrations })
    }

    /// The first session: makes the tables or brings them to the newest version.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn open(self: &Arc<Self>) -> Result<Session, SqlError> {
        match &self.place {
            Place::File(path) => {
                let connection = sqlite::open(path, self.migrations)?;
                Ok(Session::sqlite(connection, Arc::clone(self)))
            }
            Place::Schema { schema, .. } => self.connect(Some(schema)),
        }
    }

    /// One more session, to tables that are there. Of a file it can only read.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn session(self: &Arc<Self>) -> Result<Session, SqlError> {
        match &self.place {
            Place::File(path) => {
                let connection = sqlite::open_reader(path)?;
                Ok(Session::sqlite(connection, Arc::clone(self)))
            }
            Place::Schema { .. } => self.connect(None),
        }
    }

    fn connect(self: &Arc<Self>, to_migrate: Option<&'static str>) -> Result<Session, SqlError> {
        let Place::Schema { options, schema } = &self.place else {
            unreachable!("only a schema is connected to");
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(SqlError::Runtime)?;
        let client = runtime.block_on(async {
            let (mut client, link) = options.connect(schema).await?;
            // It ends with the runtime or the connection; the client tells of it.
            tokio::spawn(link);
            if let Some(schema) = to_migrate {
                migrate(&mut client, schema, self.migrations).await?;
            }
            Ok::<_, SqlError>(client)
        })?;
        Ok(Session::postgres(runtime, client, Arc::clone(self)))
    }

    /// Puts a word into a writer's queue whenever somebody on any node has said
    /// something on the channel, and after a time in which that could not be
    /// heard. It ends with the queue. Of a file nothing ever comes.
    pub fn follow<T: Send + 'static>(
        &self,
        channel: &'static str,
        queue: &mpsc::Sender<T>,
        word: fn() -> T,
    ) {
        let Place::Schema { options, schema } = &self.place else { return };
        // One word waiting says all that several would.
        let (sender, mut told) = mpsc::channel(1);
        tokio::spawn(listen(options.clone(), schema, channel, sender));
        let queue = queue.downgrade();
        tokio::spawn(async move {
            while told.recv().await.is_some() {
                let Some(queue) = queue.upgrade() else { return };
                if queue.send(word()).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Hears the channel, over one connection after the other, until nobody is told.
async fn listen(
    options: Box<PostgresOptions>,
    schema: &str,
    channel: &str,
    told: mpsc::Sender<()>,
) {
    while !told.is_closed() {
        let heard = tokio::select! {
            heard = hear(&options, schema, channel, &told) => heard,
            () = told.closed() => return,
        };
        if let Err(error) = heard {
            tracing::warn!(%error, channel, "PostgreSQL is not heard for now");
        }
        tokio::time::sleep(LISTEN_AGAIN_AFTER).await;
    }
}

async fn hear(
    options: &PostgresOptions,
    schema: &str,
    channel: &str,
    told: &mpsc::Sender<()>,
) -> Result<(), SqlError> {
    let (client, mut link) = options.connect(schema).await?;
    let (messages, mut heard) = mpsc::channel(16);
    let link = async move {
        loop {
            let message = std::future::poll_fn(|context| link.poll_message(context)).await;
            match message {
                Some(Ok(AsyncMessage::Notification(_))) => {
                    if messages.send(()).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(SqlError::from(error)),
                None => return Ok(()),
            }
        }
    };
    let listen = async {
        client.batch_execute(&format!("LISTEN {channel}")).await?;
        // Whatever was said before.
        let _ = told.try_send(());
        while heard.recv().await.is_some() {
            let _ = told.try_send(());
        }
        Ok(())
    };
    tokio::select! {
        ended = link => ended,
        ended = listen => ended,
    }
}

/// Sessions that read beside the writer, a few at a time.
#[derive(Debug)]
pub(crate) struct Readers {
    database: Arc<Database>,
    idle: Arc<Mutex<Vec<Session>>>,
    /// Sessions that are kept open.
    most_idle: usize,
    places: Arc<Semaphore>,
}

impl Readers {
    pub fn new(database: Arc<Database>, most: usize, most_idle: usize) -> Self {
        Self { database, idle: Arc::default(), most_idle, places: Arc::new(Semaphore::new(most)) }
    }

    /// The turn to run a query, kept as long as it runs.
    pub async fn turn(&self) -> OwnedSemaphorePermit {
        let turn = self.places.clone().acquire_owned().await;
        turn.expect("the semaphore is never closed")
    }

    /// Runs a query on a thread for blocking work, when it is its turn.
    ///
    /// # Errors
    /// The outer one says that the query panicked or the runtime ends.
    pub async fn read<T: Send + 'static, E: From<SqlError> + Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Session) -> Result<T, E> + Send + 'static,
    ) -> Result<Result<T, E>, JoinError> {
        let turn = self.turn().await;
        let readers = Arc::clone(self);
        let work = move || {
            let _turn = turn;
            readers.run(query)
        };
        tokio::task::spawn_blocking(work).await
    }

    /// Runs a query on this thread, which may block.
    ///
    /// # Errors
    /// The query's own, and that no session can be had.
    pub fn run<T, E: From<SqlError>>(
        &self,
        query: impl FnOnce(&Session) -> Result<T, E>,
    ) -> Result<T, E> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session = match idle {
            Some(session) => session,
            None => self.database.session()?,
        };
        session.ready()?;
        let outcome = query(&session);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.most_idle {
            idle.push(session);
        }
        outcome
    }
}
