//! What TimescaleDB does where it is there: chunks in place of partitions,
//! compression, and aggregates that are kept.

use tokio_postgres::Client;

use super::PostgresHistoryOptions;
use super::link::SCHEMA;
use crate::history::HistoryError;

/// Held by who sets it up. The number is the text `tsdb` in ASCII.
const SETUP_LOCK: i64 = 0x74_73_64_62;

/// Makes the extension in this database where the server has it loaded, before
/// the tables are made.
pub(super) async fn install(client: &mut Client) -> Result<(), HistoryError> {
    let ask = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
               AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
               AND current_setting('timescaledb.max_background_workers', true) IS NOT NULL";
    if !client.query_one(ask, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(());
    }
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&SETUP_LOCK]).await?;
    let made = transaction
        .batch_execute("CREATE EXTENSION IF NOT EXISTS timescaledb WITH SCHEMA public")
        .await;
    match made {
        Ok(()) => transaction.commit().await?,
        // Its own right to say no: plain partitions do as well.
        Err(error) if error.as_db_error().is_some() => {
            let error = crate::SqlError::from(error);
            tracing::warn!(%error, "TimescaleDB is there but can't be used; plain partitions are");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// True where `readings` is TimescaleDB's, which it becomes here if it is a
/// plain table: that is how it is made where the extension is.
pub(super) async fn setup(
    client: &mut Client,
    options: &PostgresHistoryOptions,
) -> Result<bool, HistoryError> {
    let ask = "SELECT relkind = 'r' FROM pg_class WHERE oid = 'readings'::regclass";
    let is_plain: bool = client.query_one(ask, &[]).await?.try_get(0)?;
    if !is_plain {
        return Ok(false);
    }
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&SETUP_LOCK]).await?;
    let ask = format!(
        "SELECT EXISTS (SELECT FROM timescaledb_information.hypertables
          WHERE hypertable_schema = '{SCHEMA}' AND hypertable_name = 'readings')"
    );
    let is_set_up: bool = transaction.query_one(&ask, &[]).await?.try_get(0)?;
    if !is_set_up {
        let chunk_ms = options.chunk_ms.max(1);
        let compress_ms = options.compress_after_ms.max(1);
        let sql = format!(
            "SELECT create_hypertable('readings', 'observed_at', create_default_indexes => false,
                                      chunk_time_interval => interval '{chunk_ms} milliseconds');
             ALTER TABLE readings SET (timescaledb.compress,
                 timescaledb.compress_segmentby = 'series',
                 timescaledb.compress_orderby = 'observed_at');
             SELECT add_compression_policy('readings', interval '{compress_ms} milliseconds');"
        );
        transaction.batch_execute(&sql).await?;
    }
    transaction.commit().await?;
    Ok(true)
}
