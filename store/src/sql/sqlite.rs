//! Opens an SQLite file the one way that all parts of the store open theirs:
//! write-ahead log, fsync at each commit, migrations by `user_version`.
//!
//! A part of the store owns its file and its connections; nothing is shared
//! between parts. Calls here block and belong on a thread of the caller's own.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::SqlError;

/// How long a statement waits for another connection of this process before
/// [`SqlError::is_retryable`] applies.
pub const BUSY_TIMEOUT_MS: u64 = 10_000;

/// Opens or makes the file and brings it to the newest version.
///
/// `migrations` is the SQL text of all versions, oldest first; the file's
/// `user_version` is how many of them it has had. Each runs in a transaction
/// of its own together with the new version number.
///
/// # Errors
/// [`SqlError::Open`], [`SqlError::Newer`] or [`SqlError::Migration`].
pub fn open(path: &Path, migrations: &[&str]) -> Result<Connection, SqlError> {
    let mut connection = connect(path, OpenFlags::default())?;
    migrate(&mut connection, path, migrations)?;
    Ok(connection)
}

/// Opens one more connection that can only read, to a file that [`open`] has
/// already brought to the newest version.
///
/// # Errors
/// [`SqlError::Open`].
pub fn open_reader(path: &Path) -> Result<Connection, SqlError> {
    let connection = connect(path, OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE)?;
    let failed = |source| SqlError::Open { path: path.to_owned(), source };
    connection.pragma_update(None, "query_only", true).map_err(failed)?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, SqlError> {
    let failed = |source| SqlError::Open { path: path.to_owned(), source };
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS)).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), SqlError> {
    let failed = |source| SqlError::Open { path: path.to_owned(), source };
    let found: u32 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let known = u32::try_from(migrations.len()).expect("migrations are a short list");
    if found > known {
        return Err(SqlError::Newer { path: path.to_owned(), found, known });
    }
    for (number, sql) in (1..).zip(migrations).skip(found as usize) {
        let failed = |source| SqlError::Migration { path: path.to_owned(), number, source };
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(sql).map_err(failed)?;
        transaction.pragma_update(None, "user_version", number).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE a (x INTEGER) STRICT;";
    const SECOND: &str = "CREATE TABLE b (y INTEGER) STRICT; INSERT INTO b SELECT x FROM a;";

    #[test]
    fn each_migration_runs_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.db");
        let connection = open(&path, &[FIRST]).unwrap();
        connection.execute("INSERT INTO a VALUES (7)", []).unwrap();
        drop(connection);
        for _ in 0..2 {
            let connection = open(&path, &[FIRST, SECOND]).unwrap();
            let ys: Vec<i64> = connection
                .prepare("SELECT y FROM b")
                .unwrap()
                .query_map([], |row| row.get(0))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert_eq!(ys, [7]);
        }
    }

    #[test]
    fn a_failed_migration_leaves_the_version_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.db");
        let broken = "CREATE TABLE b (y INTEGER) STRICT; CREATE TABLE a (x INTEGER);";
        let error = open(&path, &[FIRST, broken]).unwrap_err();
        assert!(matches!(error, SqlError::Migration { number: 2, .. }), "{error}");
        open(&path, &[FIRST, SECOND]).unwrap();
    }

    #[test]
    fn a_file_of_a_later_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.db");
        drop(open(&path, &[FIRST, SECOND]).unwrap());
        let error = open(&path, &[FIRST]).unwrap_err();
        assert!(matches!(error, SqlError::Newer { found: 2, known: 1, .. }), "{error}");
        assert!(!error.is_retryable());
    }

    #[test]
    fn settings_are_the_durable_ones_and_a_reader_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.db");
        let connection = open(&path, &[FIRST]).unwrap();
        let mode: String =
            connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        let synchronous: i64 =
            connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
        let reader = open_reader(&path).unwrap();
        assert!(reader.execute("INSERT INTO a VALUES (1)", []).is_err());
    }
}
