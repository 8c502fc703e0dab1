//! Brings the schema `baken_history` forward, and finds out what it is.

use schema::Position;
use tokio_postgres::Client;

use super::link::SCHEMA;
use super::{PostgresHistoryOptions, timescale};
use crate::history::HistoryError;
use crate::sql::postgres::migrate;

const MIGRATIONS: &[&str] =
    &[include_str!("../../../../schema/migrations/postgres/history/0001-readings.sql")];

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub is_timescale: bool,
    /// Where each partition is.
    pub positions: Vec<Position>,
}

pub(super) async fn setup(
    client: &mut Client,
    partitions: u16,
    options: &PostgresHistoryOptions,
) -> Result<Found, HistoryError> {
    timescale::install(client).await?;
    migrate(client, SCHEMA, MIGRATIONS).await.map_err(HistoryError::Postgres)?;
    let is_timescale = timescale::setup(client, options).await?;
    let positions = positions(client, partitions).await?;
    Ok(Found { is_timescale, positions })
}

/// The positions, which are made at the first start.
async fn positions(client: &mut Client, partitions: u16) -> Result<Vec<Position>, HistoryError> {
    let transaction = client.transaction().await?;
    // Against another node that starts at the same time.
    transaction.batch_execute("LOCK TABLE positions IN SHARE ROW EXCLUSIVE MODE").await?;
    let make = "INSERT INTO positions (partition, position, epoch)
         SELECT number, 0, 0 FROM generate_series(0, $1 - 1) AS made (number)
          WHERE NOT EXISTS (SELECT FROM positions)";
    transaction.execute(make, &[&i32::from(partitions)]).await?;
    let found = transaction.query("SELECT position FROM positions ORDER BY partition", &[]).await?;
    transaction.commit().await?;
    if found.len() != usize::from(partitions) {
        let known = u16::try_from(found.len()).unwrap_or(u16::MAX);
        return Err(HistoryError::Partitions { known, asked: partitions });
    }
    found.iter().map(|row| Ok(Position(row.try_get::<_, i64>(0)?.cast_unsigned()))).collect()
}
