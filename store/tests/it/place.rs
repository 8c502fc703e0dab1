//! Where a store under test stands: in a folder, or in a database of its own in
//! a real PostgreSQL. A test that `on_both!` names runs once over each.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::runtime::{Builder, Handle};

use super::postgres::shared;

pub enum Place {
    Folder(TempDir),
    /// Its address.
    Postgres(String),
}

impl Place {
    pub fn folder() -> Self {
        Self::Folder(tempfile::tempdir().unwrap())
    }

    pub fn postgres() -> Self {
        let database = || Builder::new_current_thread().enable_all().build().unwrap();
        Self::Postgres(away(|| database().block_on(shared().database())))
    }

    /// Opens a store, on a thread that may block.
    pub fn open<T: Send>(
        &self,
        embedded: impl FnOnce(&Path) -> T + Send,
        postgres: impl FnOnce(&str) -> T + Send,
    ) -> T {
        match self {
            Self::Folder(dir) => embedded(dir.path()),
            Self::Postgres(url) => away(|| postgres(url)),
        }
    }

    #[allow(dead_code, reason = "of those who include this file only some need it")]
    /// A file of the folder; none in PostgreSQL.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Folder(dir) => Some(dir.path().join(name)),
            Self::Postgres(_) => None,
        }
    }

    /// What PostgreSQL says to a statement in a schema, or the file of an
    /// embedded part.
    pub fn run(&self, file: &str, schema: &str, sql: &str) -> Result<(), String> {
        match self {
            Self::Folder(dir) => {
                let file = rusqlite::Connection::open(dir.path().join(file)).unwrap();
                file.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
                file.execute_batch(sql).map_err(|error| error.to_string())
            }
            Self::Postgres(url) => away(|| {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let (client, link) =
                        tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
                    tokio::spawn(link);
                    client.batch_execute(&format!("SET search_path = {schema}")).await.unwrap();
                    client.batch_execute(sql).await.map_err(|error| match error.as_db_error() {
                        Some(error) => error.message().to_owned(),
                        None => error.to_string(),
                    })
                })
            }),
        }
    }
}

/// Runs on a thread of its own, which knows the test's runtime.
fn away<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let handle = Handle::try_current();
    std::thread::scope(|scope| {
        let work = || {
            let _runtime = handle.as_ref().map(Handle::enter);
            work()
        };
        scope.spawn(work).join().unwrap()
    })
}

/// Makes two tests of a function that is given its place.
macro_rules! on_both {
    ($name:ident) => {
        mod $name {
            #[tokio::test]
            async fn embedded() {
                super::$name(super::Place::folder()).await;
            }

            #[tokio::test]
            async fn postgres() {
                super::$name(super::Place::postgres()).await;
            }
        }
    };
}
pub(crate) use on_both;
