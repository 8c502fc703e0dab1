//! Compares both sides: each table row by row, and each series reading by
//! reading, by numbers that any difference would change.

use std::ops::ControlFlow;
use std::sync::Arc;

use schema::PartitionId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::copy::{Columns, Kept, each_row};
use super::digest::Digest;
use super::readings::{AT_ONCE, Chunk, Histories};
use super::source::Source;
use super::tables::{TABLES, Table};
use super::target::Target;
use super::{JournalAfterwards, PartCount, TransferError, TransferProgress, TransferReport};
use crate::history::{
    DEFAULT_SCAN_BYTES, EmbeddedHistory, HistoryError, PostgresHistory, ScanGroup,
};
use crate::sql::{SqlError, Value, from_sqlite};

/// Differences that are told; more are counted.
const MAX_TOLD: usize = 10;

/// What was found of the history.
#[derive(Default)]
struct Compared {
    series: u64,
    readings: u64,
    differences: Vec<String>,
}

pub(super) async fn all(
    source: &Source,
    target: &Target,
    histories: &Histories,
    journal: &JournalAfterwards,
    progress: &TransferProgress,
) -> Result<TransferReport, TransferError> {
    let mut differences = Vec::new();
    let mut parts = Vec::new();
    for table in TABLES {
        progress.begin(format!("comparing {}", table.title()));
        let (here, there) = digests(source, target, table, journal, progress).await?;
        if here != there {
            let (title, here, there) = (table.title(), here.rows, there.rows);
            differences.push(match here == there {
                true => format!("{title} has other values in some of its {here} rows"),
                false => format!("{title} has {here} rows in the folder and {there} in PostgreSQL"),
            });
        }
        parts.push(PartCount { name: table.title(), rows: here.rows });
    }
    progress.begin("comparing the history, readings".to_owned());
    let compared = history(histories, source.partitions, progress).await?;
    differences.extend(compared.differences);
    differences.extend(totals(target, compared.series, compared.readings).await?);
    if !differences.is_empty() {
        let more = differences.len().saturating_sub(MAX_TOLD);
        differences.truncate(MAX_TOLD);
        if more > 0 {
            differences.push(format!("and {more} differences more"));
        }
        return Err(TransferError::Differs(differences.join("; ")));
    }
    let documents = documents(source).map_err(TransferError::Source)?;
    let (series, readings) = (compared.series, compared.readings);
    Ok(TransferReport { copied: true, parts, documents, series, readings })
}

async fn digests(
    source: &Source,
    target: &Target,
    table: &Table,
    journal: &JournalAfterwards,
    progress: &TransferProgress,
) -> Result<(Digest, Digest), TransferError> {
    let file = source.file(table.file).map_err(TransferError::Source)?;
    let columns = Columns::of(table, &file, &target.client).await?;
    let here = in_folder(&file, &columns, &columns.select(table, journal));
    let here = here.map_err(TransferError::Source)?;
    let mut there = Digest::default();
    each_row(&target.client, table, &columns, |values| {
        there.row(values);
        progress.add(1);
    })
    .await?;
    Ok((here, there))
}

fn in_folder(
    file: &rusqlite::Connection,
    columns: &Columns,
    select: &str,
) -> Result<Digest, SqlError> {
    let mut digest = Digest::default();
    let mut statement = file.prepare(select)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let value = |place| Ok::<_, SqlError>(Kept::of(from_sqlite(row.get_ref(place)?)?));
        let kept: Vec<Kept> = (0..columns.names.len()).map(value).collect::<Result<_, _>>()?;
        let values: Vec<Value<'_>> = kept.iter().map(Kept::value).collect();
        digest.row(&values);
    }
    Ok(digest)
}

fn documents(source: &Source) -> Result<Vec<PartCount>, SqlError> {
    let file = source.file("directory.db")?;
    let mut statement =
        file.prepare("SELECT kind, count(*) FROM documents GROUP BY kind ORDER BY kind")?;
    let counts =
        statement.query_map([], |row| Ok(PartCount { name: row.get(0)?, rows: row.get(1)? }))?;
    Ok(counts.collect::<Result<_, _>>()?)
}

async fn history(
    histories: &Histories,
    partitions: u16,
    progress: &TransferProgress,
) -> Result<Compared, TransferError> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut running: JoinSet<Result<Compared, HistoryError>> = JoinSet::new();
    for partition in (0..partitions).map(PartitionId) {
        let turn = Arc::clone(&turns).acquire_owned().await;
        let turn = turn.map_err(|_| TransferError::Thread)?;
        let (chunks, from, to) =
            (histories.chunks(partition)?, histories.from.clone(), histories.to.clone());
        let progress = progress.clone();
        running.spawn_blocking(move || {
            let _turn = turn;
            let mut compared = Compared::default();
            chunks
                .iter()
                .try_for_each(|chunk| compare(&from, &to, chunk, &mut compared, &progress))?;
            Ok(compared)
        });
    }
    let mut all = Compared::default();
    while let Some(ended) = running.join_next().await {
        let one = ended.map_err(|_| TransferError::Thread)??;
        all.series += one.series;
        all.readings += one.readings;
        all.differences.extend(one.differences);
    }
    Ok(all)
}

fn compare(
    from: &EmbeddedHistory,
    to: &PostgresHistory,
    chunk: &Chunk,
    compared: &mut Compared,
    progress: &TransferProgress,
) -> Result<(), HistoryError> {
    let runtime = tokio::runtime::Handle::current();
    let places = chunk.places();
    let here = runtime.block_on(from.view(chunk.query()))?;
    let mut of_folder = digests_of(chunk);
    here.scan(&places, DEFAULT_SCAN_BYTES, |group| take(&mut of_folder, group))?;
    let there = runtime.block_on(to.view(chunk.query()))?;
    let mut of_postgres = digests_of(chunk);
    there.scan(&places, DEFAULT_SCAN_BYTES, |group| take(&mut of_postgres, group))?;
    let both = of_folder.iter().zip(&of_postgres);
    for (device, (here, there)) in chunk.devices.iter().zip(both) {
        for ((name, _), (here, there)) in device.keys.iter().zip(here.iter().zip(there)) {
            compared.series += u64::from(here.rows > 0);
            compared.readings += here.rows;
            progress.add(here.rows);
            if here != there {
                let (device, here, there) = (device.device, here.rows, there.rows);
                compared.differences.push(format!(
                    "key `{name}` of device {device} has {here} readings in the folder and \
                     {there} in PostgreSQL, or others"
                ));
            }
        }
    }
    Ok(())
}

fn digests_of(chunk: &Chunk) -> Vec<Vec<Digest>> {
    chunk.devices.iter().map(|device| vec![Digest::default(); device.keys.len()]).collect()
}

fn take(digests: &mut [Vec<Digest>], group: &ScanGroup<'_, u32>) -> ControlFlow<()> {
    for (key, value) in group.values {
        digests[group.device][*key as usize].reading(group.at.0, *value);
    }
    ControlFlow::Continue(())
}

/// What PostgreSQL has beyond the folder's series would be seen nowhere else.
async fn totals(
    target: &Target,
    series: u64,
    readings: u64,
) -> Result<Option<String>, TransferError> {
    let count = "SELECT (SELECT count(*) FROM baken_history.series),
                        (SELECT count(*) FROM baken_history.readings)
                      + (SELECT count(*) FROM baken_history.odd_readings)";
    let found = target.client.query_one(count, &[]).await;
    let found = found.map_err(|error| TransferError::Target(error.into()))?;
    let count = |place: usize| found.get::<_, i64>(place).cast_unsigned();
    let (found_series, found_readings) = (count(0), count(1));
    let is_equal = (found_series, found_readings) == (series, readings);
    Ok((!is_equal).then(|| {
        format!(
            "the history has {series} series with {readings} readings in the folder, and \
             {found_series} with {found_readings} in PostgreSQL"
        )
    }))
}
