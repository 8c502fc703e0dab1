//! What TimescaleDB does where it is there: chunks in place of partitions,
//! compression, and aggregates that are kept.

use tokio_postgres::Client;

use super::PostgresHistoryOptions;
use super::link::{Link, SCHEMA};
use super::time::{Interval, Micros};
use crate::history::HistoryError;
use crate::history::options::DAY_MS;

const HOUR_MS: i64 = 3_600_000;

/// The aggregates that are kept, the widest first: the width of their buckets.
const KEPT: [(&str, i64); 2] = [("readings_daily", DAY_MS), ("readings_hourly", HOUR_MS)];

/// Numbers from here on are not summed up in what is kept: PostgreSQL refuses
/// sums that are none, and nothing would be kept at all.
const HUGE: &str = "1e290";

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
        for (name, width_ms) in KEPT {
            transaction.batch_execute(&keep(name, width_ms)).await?;
        }
    }
    transaction.commit().await?;
    Ok(true)
}

/// Keeps what is older than a day, and looks every ten minutes what has come
/// late to it. What is newer is always taken from the readings.
fn keep(name: &str, width_ms: i64) -> String {
    let columns = ["number", "integer", "boolean", "escaped", "text", "json"];
    let of = |end: &str| {
        columns.map(|column| format!("{end}({column}, observed_at) AS {end}_{column}")).join(", ")
    };
    let value = "coalesce(number, integer::float8, boolean::int::float8)";
    format!(
        "CREATE MATERIALIZED VIEW {name}
            WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
         SELECT series, time_bucket(interval '{width_ms} milliseconds', observed_at) AS bucket,
                count(*) AS readings, count({value}) AS numbers,
                min({value}) AS least, max({value}) AS greatest,
                sum(CASE WHEN abs({value}) < {HUGE} THEN {value} END) AS total,
                bool_or(abs({value}) >= {HUGE}) AS is_huge, {}, {}
           FROM readings GROUP BY 1, 2 WITH NO DATA;
         SELECT add_continuous_aggregate_policy('{name}', start_offset => NULL,
             end_offset => interval '1 day', schedule_interval => interval '10 minutes');",
        of("first"),
        of("last")
    )
}

/// Drops what is kept of times that are no longer.
pub(super) async fn drop_before(client: &Client, before: i64) -> Result<(), HistoryError> {
    for name in ["readings"].into_iter().chain(KEPT.map(|(name, _)| name)) {
        let drop = format!("SELECT drop_chunks('{name}', older_than => $1::timestamptz)");
        client.query(&drop, &[&Micros::bound(before)]).await?;
    }
    Ok(())
}

/// The question for buckets that what is kept can answer; `None` where their
/// bounds are not its own. The columns are those of the question to the
/// readings, and behind them whether a number was too large for a sum.
pub(super) fn question(width: i64, from: i64, to: i64) -> Option<&'static str> {
    let fits = |unit: i64| [width, from, to].iter().all(|bound| bound % unit == 0);
    let (name, _) = KEPT.into_iter().find(|(_, unit)| fits(*unit))?;
    Some(if name == "readings_daily" { DAILY } else { HOURLY })
}

macro_rules! question {
    ($name:literal) => {
        concat!(
            "SELECT date_bin($4, bucket, $2) AS start, sum(readings)::bigint, sum(numbers)::bigint,
                    min(least), max(greatest), sum(total),
                    first(first_number, bucket), first(first_integer, bucket),
                    first(first_boolean, bucket), first(first_escaped, bucket),
                    first(first_text, bucket), first(first_json, bucket),
                    last(last_number, bucket), last(last_integer, bucket),
                    last(last_boolean, bucket), last(last_escaped, bucket),
                    last(last_text, bucket), last(last_json, bucket),
                    coalesce(bool_or(is_huge), false)
               FROM ",
            $name,
            " WHERE series = $1 AND bucket >= $2 AND bucket < $3 GROUP BY 1 ORDER BY 1"
        )
    };
}

const DAILY: &str = question!("readings_daily");
const HOURLY: &str = question!("readings_hourly");

/// Asks what is kept; `None` where it can't say because a number is too large.
pub(super) async fn kept(
    link: &mut Link,
    question: &'static str,
    series: i64,
    (from, to): (Micros, Micros),
    stride: Interval,
) -> Result<Option<Vec<tokio_postgres::Row>>, HistoryError> {
    const HUGE_COLUMN: usize = 18;
    let question = link.statements.get(&link.client, question).await?;
    let rows = link.client.query(&question, &[&series, &from, &to, &stride]).await?;
    for row in &rows {
        if row.try_get::<_, bool>(HUGE_COLUMN)? {
            return Ok(None);
        }
    }
    Ok(Some(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_hours_and_days_are_kept() {
        assert_eq!(question(DAY_MS, -DAY_MS, 9 * DAY_MS), Some(DAILY));
        assert_eq!(question(2 * HOUR_MS, 0, DAY_MS), Some(HOURLY));
        assert_eq!(question(DAY_MS, HOUR_MS, DAY_MS + HOUR_MS), Some(HOURLY));
        assert_eq!(question(HOUR_MS, 1, HOUR_MS + 1), None);
        assert_eq!(question(HOUR_MS / 2, 0, DAY_MS), None);
    }
}
