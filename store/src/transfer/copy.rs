//! Copies one table, some thousand rows in a transaction.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use rusqlite::Connection;
use tokio_postgres::Client;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use super::source::Source;
use super::tables::Table;
use super::target::Target;
use super::{JournalAfterwards, TransferError, TransferProgress};
use crate::sql::{SqlError, Value, from_sqlite};

/// Rows of one transaction.
const CHUNK_ROWS: usize = 10_000;

/// The columns of a table on both sides, in the folder's order.
pub(super) struct Columns {
    pub names: Vec<String>,
    pub types: Vec<Type>,
}

impl Columns {
    pub async fn of(
        table: &Table,
        file: &Connection,
        client: &Client,
    ) -> Result<Self, TransferError> {
        let names = folder_columns(table, file).map_err(TransferError::Source)?;
        let list = names.join(", ");
        let select = format!("SELECT * FROM {} LIMIT 0", table.in_postgres());
        let statement = client.prepare(&select).await.map_err(failed)?;
        let there: Vec<&str> = statement.columns().iter().map(|column| column.name()).collect();
        let kind = |name: &String| {
            let column = statement.columns().iter().find(|column| column.name() == name)?;
            Some(column.type_().clone())
        };
        let types: Option<Vec<Type>> = names.iter().map(kind).collect();
        match types {
            Some(types) if types.len() == there.len() => Ok(Self { names, types }),
            _ => {
                let (table, postgres) = (table.name, there.join(", "));
                Err(TransferError::Columns { table, folder: list, postgres })
            }
        }
    }

    pub fn list(&self) -> String {
        self.names.join(", ")
    }

    /// What is read in the folder.
    pub fn select(&self, table: &Table, journal: &JournalAfterwards) -> String {
        let is_new = matches!(journal, JournalAfterwards::New { .. });
        let columns: Vec<&str> =
            self.names.iter().map(|name| table.expression(name, is_new)).collect();
        format!("SELECT {} FROM {} ORDER BY {}", columns.join(", "), table.name, table.order)
    }
}

fn folder_columns(table: &Table, file: &Connection) -> Result<Vec<String>, SqlError> {
    let mut statement = file.prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?;
    let names = statement.query_map([table.name], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn failed(error: tokio_postgres::Error) -> TransferError {
    TransferError::Target(error.into())
}

/// A value that outlives its row. PostgreSQL's text has no character 0.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Kept {
    pub fn of(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(value) => Self::Integer(value),
            Value::Real(value) => Self::Real(value),
            Value::Text(value) => Self::Text(value.replace('\0', "\u{fffd}")),
            Value::Blob(value) => Self::Blob(value.to_vec()),
        }
    }

    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(value) => Value::Integer(*value),
            Self::Real(value) => Value::Real(*value),
            Self::Text(value) => Value::Text(value),
            Self::Blob(value) => Value::Blob(value),
        }
    }
}

/// Copies the rows that are not there yet.
pub(super) async fn table(
    source: &Source,
    target: &mut Target,
    table: &Table,
    journal: &JournalAfterwards,
    progress: &TransferProgress,
) -> Result<(), TransferError> {
    let title = table.title();
    let step = target.step(&title).await?;
    if step.is_done {
        return Ok(());
    }
    progress.begin(format!("copying {title}"));
    progress.add(step.rows);
    let file = source.file(table.file).map_err(TransferError::Source)?;
    let columns = Columns::of(table, &file, &target.client).await?;
    let mut done = step.rows;
    if table.seeded && done == 0 {
        let empty = format!("DELETE FROM {}", table.in_postgres());
        target.client.execute(empty.as_str(), &[]).await.map_err(failed)?;
    }
    let mut statement = file
        .prepare(&columns.select(table, journal))
        .map_err(|error| TransferError::Source(error.into()))?;
    let mut rows = statement.query([]).map_err(|error| TransferError::Source(error.into()))?;
    // Nothing changes the folder meanwhile, so the first are those that are there.
    for _ in 0..done {
        rows.next().map_err(|error| TransferError::Source(error.into()))?;
    }
    loop {
        let chunk = chunk(&mut rows, columns.names.len()).map_err(TransferError::Source)?;
        if chunk.is_empty() {
            break;
        }
        done += chunk.len() as u64;
        write(target, table, &columns, &chunk, done).await?;
        progress.add(chunk.len() as u64);
    }
    drop(rows);
    drop(statement);
    let counter = counter(table, &file).map_err(TransferError::Source)?;
    let statements = counter.into_iter().map(|statement| (statement, Vec::new()));
    target.end_step(&title, &statements.collect::<Vec<_>>()).await
}

fn chunk(rows: &mut rusqlite::Rows<'_>, columns: usize) -> Result<Vec<Vec<Kept>>, SqlError> {
    let mut chunk = Vec::new();
    while chunk.len() < CHUNK_ROWS {
        let Some(row) = rows.next()? else { break };
        let value = |place| Ok::<_, SqlError>(Kept::of(from_sqlite(row.get_ref(place)?)?));
        chunk.push((0..columns).map(value).collect::<Result<_, _>>()?);
    }
    Ok(chunk)
}

async fn write(
    target: &mut Target,
    table: &Table,
    columns: &Columns,
    chunk: &[Vec<Kept>],
    done: u64,
) -> Result<(), TransferError> {
    let copy = format!("COPY {} ({}) FROM STDIN BINARY", table.in_postgres(), columns.list());
    let transaction = target.client.transaction().await.map_err(failed)?;
    let sink = transaction.copy_in(copy.as_str()).await.map_err(failed)?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &columns.types));
    for row in chunk {
        let values: Vec<Value<'_>> = row.iter().map(Kept::value).collect();
        writer.as_mut().write_raw(values).await.map_err(failed)?;
    }
    writer.finish().await.map_err(failed)?;
    let note = "INSERT INTO baken_migration.steps (name, rows, is_done) VALUES ($1, $2, false)
                ON CONFLICT (name) DO UPDATE SET rows = excluded.rows";
    transaction.execute(note, &[&table.title(), &done.cast_signed()]).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// Lets numbers go on behind the highest that was ever given out.
fn counter(table: &Table, file: &Connection) -> Result<Option<String>, SqlError> {
    let Some(column) = table.counted else { return Ok(None) };
    let (name, place) = (table.name, table.in_postgres());
    let highest: i64 =
        file.query_row(&format!("SELECT coalesce(max({column}), 0) FROM {name}"), [], |row| {
            row.get(0)
        })?;
    // There is such a table where any table of the file has AUTOINCREMENT.
    let given: Option<i64> =
        file.prepare("SELECT max(seq) FROM sqlite_sequence WHERE name = ?1")
            .and_then(|mut statement| statement.query_row([name], |row| row.get(0)))?;
    let next = given.unwrap_or(0).max(highest) + 1;
    Ok(Some(format!("SELECT setval(pg_get_serial_sequence('{place}', '{column}'), {next}, false)")))
}

/// All rows of a table in PostgreSQL, one after another.
pub(super) async fn each_row(
    client: &Client,
    table: &Table,
    columns: &Columns,
    mut visit: impl FnMut(&[Value<'_>]),
) -> Result<(), TransferError> {
    let select = format!("SELECT {} FROM {}", columns.list(), table.in_postgres());
    let none: [Value<'_>; 0] = [];
    let mut rows = pin!(client.query_raw(select.as_str(), none).await.map_err(failed)?);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let values: Result<Vec<Value<'_>>, _> =
            (0..columns.names.len()).map(|place| row.try_get(place)).collect();
        visit(&values.map_err(failed)?);
    }
    Ok(())
}
