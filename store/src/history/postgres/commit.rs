//! Brings what writers have gathered into PostgreSQL.
//!
//! A few committers, each with a connection, take turns to look what is due.
//! Batches of several partitions share a transaction, which first moves their
//! positions, each from where its batch begins and in its writer's epoch, and
//! then copies the rows. So a batch is in the database once or not at all,
//! whenever a process or a connection ends; whether a commit whose answer was
//! lost took place is seen by the position at the next attempt.
//!
//! Rows that are newer than all of their series go straight into `readings` by
//! COPY. Those that are not may be there already and go by a temporary table,
//! from which they replace what is there. If a row was there after all, which
//! only happens to series that this process has not written before, all rows of
//! that transaction go the second way.

mod arrange;

use std::sync::Arc;
use std::time::{Duration, Instant};

use schema::Position;
use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;

pub(super) use self::arrange::{Arranged, Group, weight};
use super::link::{Link, Statements};
use super::partition::{Batch, Ended};
use super::shared::Shared;
use super::{series, spans};
use crate::history::HistoryError;
use crate::sql::SqlError;

/// How long a committer sleeps at most while nothing is gathered.
const IDLE_WAIT: Duration = Duration::from_secs(60);

const MOVE: &str = "UPDATE positions p SET position = n.next
      FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[]) AS n (partition, was, next, epoch)
     WHERE p.partition = n.partition AND p.position = n.was AND p.epoch = n.epoch
 RETURNING p.partition";
const LOOK: &str = "SELECT partition, position, epoch FROM positions WHERE partition = ANY($1)";
const COPY: &str =
    "COPY readings (series, observed_at, number, integer, boolean, escaped, text, json)
     FROM STDIN BINARY";
const STAGE: &str =
    "CREATE TEMPORARY TABLE IF NOT EXISTS staged (series bigint, observed_at timestamptz,
         number float8, integer bigint, boolean boolean, escaped boolean, text text, json json)
         ON COMMIT DELETE ROWS;
     CREATE TEMPORARY TABLE IF NOT EXISTS staged_odd (series bigint, observed_ms bigint,
         number float8, integer bigint, boolean boolean, escaped boolean, text text, json json)
         ON COMMIT DELETE ROWS";
const COPY_STAGED: &str = "COPY staged FROM STDIN BINARY";
const COPY_ODD: &str = "COPY staged_odd FROM STDIN BINARY";
const REPLACE: &str =
    "INSERT INTO readings (series, observed_at, number, integer, boolean, escaped, text, json)
     SELECT * FROM staged ORDER BY series, observed_at
     ON CONFLICT (series, observed_at) DO UPDATE SET number = excluded.number,
        integer = excluded.integer, boolean = excluded.boolean, escaped = excluded.escaped,
        text = excluded.text, json = excluded.json";
const REPLACE_ODD: &str =
    "INSERT INTO odd_readings (series, observed_ms, number, integer, boolean, escaped, text, json)
     SELECT * FROM staged_odd ORDER BY series, observed_ms
     ON CONFLICT (series, observed_ms) DO UPDATE SET number = excluded.number,
        integer = excluded.integer, boolean = excluded.boolean, escaped = excluded.escaped,
        text = excluded.text, json = excluded.json";
const LOCK_ODD: &str = "LOCK TABLE odd_readings IN ROW EXCLUSIVE MODE";
const VERSION: &str = "SELECT coalesce(max(id), 0) FROM spans";

/// A batch on its way.
#[derive(Debug)]
pub(super) struct OnItsWay {
    /// The partition's place.
    pub partition: usize,
    pub epoch: i64,
    pub batch: Batch,
}

/// What an attempt has come to, where it did not fail.
enum Attempt {
    Committed,
    /// A row is there already: once more, so that it is replaced.
    Conflict,
    /// Spans were made or dropped meanwhile: once more, with those that there are.
    Spans,
    /// Some of the group need no commit or can't have one: the others once more.
    Fewer,
}

/// One of the tasks that commit.
pub(super) struct Committer {
    shared: Arc<Shared>,
    link: Option<Link>,
    arranged: Arranged,
    /// The partitions whose batches it has on their way.
    busy: Vec<usize>,
}

/// A defect of ours must not stop partitions without anybody seeing it: their
/// writers are told instead of waiting for ever.
impl Drop for Committer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(partitions = ?self.busy, "a committer of the history panicked");
            for partition in &self.busy {
                self.shared.abandon(*partition);
            }
        }
    }
}

impl Committer {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, link: None, arranged: Arranged::default(), busy: Vec::new() }
    }

    /// Runs until the history is closed.
    pub async fn run(mut self) {
        while let Some(group) = self.next_group().await {
            self.busy.extend(group.iter().map(|one| one.partition));
            self.commit(group).await;
            self.busy.clear();
        }
    }

    /// Waits until something is due. One committer at a time looks.
    async fn next_group(&self) -> Option<Group> {
        let shared = &*self.shared;
        let _turn = shared.turn.lock().await;
        loop {
            let woken = shared.gathered.notified();
            if shared.is_closed() {
                return None;
            }
            let (group, next) = shared.take_due();
            if !group.is_empty() {
                return Some(group);
            }
            let wait = next.map_or(IDLE_WAIT, |at| at.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Tries until all of the group is committed or the history is closed.
    async fn commit(&mut self, mut group: Group) {
        let shared = self.shared.clone();
        let started = Instant::now();
        let mut pause = Duration::from_millis(shared.options.retry_min_ms.max(1));
        let mut replaces = false;
        let mut is_logged = false;
        let weight = shared.metrics.started(&group);
        while !group.is_empty() && !shared.is_closed() {
            match self.attempt(&mut group, replaces).await {
                Ok(Attempt::Committed) => {
                    shared.metrics.committed(&self.arranged, started.elapsed());
                    for one in group.drain(..) {
                        shared.committed(one);
                    }
                }
                Ok(Attempt::Conflict) => {
                    shared.metrics.conflicts.inc();
                    replaces = true;
                }
                Ok(Attempt::Spans | Attempt::Fewer) => {}
                Err(error) => {
                    shared.metrics.retries.inc();
                    if !is_logged {
                        is_logged = true;
                        tracing::warn!(%error, "readings wait for PostgreSQL; tried again until it takes them");
                    }
                    self.link = None;
                    shared.failed(&group, error);
                    tokio::select! {
                        () = shared.closing() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause =
                        (pause * 2).min(Duration::from_millis(shared.options.retry_max_ms.max(1)));
                }
            }
        }
        shared.metrics.landed(weight);
        if is_logged && group.is_empty() {
            tracing::info!(
                seconds = started.elapsed().as_secs_f64(),
                "PostgreSQL has taken the readings"
            );
        }
        for one in group {
            shared.give_up(&one);
        }
    }

    async fn attempt(
        &mut self,
        group: &mut Group,
        replaces: bool,
    ) -> Result<Attempt, HistoryError> {
        if self.link.as_ref().is_none_or(|link| link.client.is_closed()) {
            let link = Link::connect(&self.shared.server, self.shared.runtime()).await?;
            link.client.batch_execute(STAGE).await?;
            self.link = Some(link);
        }
        let Some(Link { client, statements, .. }) = &mut self.link else {
            return Ok(Attempt::Fewer);
        };
        let shared = &*self.shared;
        let wanted = arrange::unknown(shared, group);
        if !wanted.is_empty() {
            let names: Vec<_> = wanted.iter().map(|(_, wanted)| wanted.clone()).collect();
            let ids = series::resolve(client, statements, &names).await?;
            arrange::learn(shared, &wanted, &ids);
        }
        self.arranged.order(shared, group);
        let mut known = shared.spans();
        loop {
            let missing = self.arranged.without_span(&known, shared);
            if missing.is_empty() {
                break;
            }
            known = spans::make(client, &missing, shared.is_timescale, &shared.options).await?;
            shared.set_spans(known.clone());
        }
        self.arranged.encode(group, &known, replaces);
        let copy = Copies::prepare(client, statements).await?;
        let transaction = client.transaction().await?;
        let moved = move_positions(&transaction, &copy, group).await?;
        if moved.len() < group.len() {
            let found = look(&transaction, &copy, group).await?;
            transaction.rollback().await?;
            settle(shared, group, &moved, &found);
            return Ok(Attempt::Fewer);
        }
        let written = write(&transaction, &copy, &self.arranged, known.version).await;
        match written {
            Ok(true) => {}
            Ok(false) => {
                transaction.rollback().await?;
                let found = spans::Spans::load(client).await?;
                shared.set_spans(Arc::new(found));
                return Ok(Attempt::Spans);
            }
            Err(error) => return refused(shared, transaction, error, replaces).await,
        }
        transaction.commit().await?;
        Ok(Attempt::Committed)
    }
}

/// The statements of a commit.
struct Copies {
    moves: tokio_postgres::Statement,
    look: tokio_postgres::Statement,
    copy: tokio_postgres::Statement,
    staged: tokio_postgres::Statement,
    odd: tokio_postgres::Statement,
    replace: tokio_postgres::Statement,
    replace_odd: tokio_postgres::Statement,
    version: tokio_postgres::Statement,
}

impl Copies {
    async fn prepare(
        client: &tokio_postgres::Client,
        statements: &mut Statements,
    ) -> Result<Self, HistoryError> {
        Ok(Self {
            moves: statements.get(client, MOVE).await?,
            look: statements.get(client, LOOK).await?,
            copy: statements.get(client, COPY).await?,
            staged: statements.get(client, COPY_STAGED).await?,
            odd: statements.get(client, COPY_ODD).await?,
            replace: statements.get(client, REPLACE).await?,
            replace_odd: statements.get(client, REPLACE_ODD).await?,
            version: statements.get(client, VERSION).await?,
        })
    }
}

fn number(partition: usize) -> i32 {
    i32::try_from(partition).expect("partitions are counted with 16 bits")
}

fn stored(position: Position) -> i64 {
    position.0.cast_signed()
}

/// Moves the positions that are where they should be; gives their partitions.
async fn move_positions(
    transaction: &Transaction<'_>,
    copy: &Copies,
    group: &Group,
) -> Result<Vec<i32>, HistoryError> {
    let partitions: Vec<i32> = group.iter().map(|one| number(one.partition)).collect();
    let was: Vec<i64> = group.iter().map(|one| stored(one.batch.from)).collect();
    let next: Vec<i64> = group.iter().map(|one| stored(one.batch.next)).collect();
    let epochs: Vec<i64> = group.iter().map(|one| one.epoch).collect();
    let moved = transaction.query(&copy.moves, &[&partitions, &was, &next, &epochs]).await?;
    moved.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Where some partitions are in the database: partition, position, epoch.
async fn look(
    transaction: &Transaction<'_>,
    copy: &Copies,
    group: &Group,
) -> Result<Vec<(i32, i64, i64)>, HistoryError> {
    let partitions: Vec<i32> = group.iter().map(|one| number(one.partition)).collect();
    let rows = transaction.query(&copy.look, &[&partitions]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
}

/// Takes out of the group what can't be or needs not be committed.
fn settle(shared: &Shared, group: &mut Group, moved: &[i32], found: &[(i32, i64, i64)]) {
    for one in std::mem::take(group) {
        let partition = number(one.partition);
        if moved.contains(&partition) {
            group.push(one);
            continue;
        }
        match found.iter().find(|(found, _, _)| *found == partition) {
            Some((_, _, epoch)) if *epoch != one.epoch => shared.end(&one, Ended::Fenced),
            // The commit whose answer was lost.
            Some((_, position, _)) if *position == stored(one.batch.next) => shared.committed(one),
            Some((_, position, _)) => {
                shared.end(&one, Ended::Moved(Position(position.cast_unsigned())));
            }
            None => shared.end(&one, Ended::Moved(Position(0))),
        }
    }
}

/// Writes the rows; false if the spans are no longer those that were looked at.
async fn write(
    transaction: &Transaction<'_>,
    copy: &Copies,
    arranged: &Arranged,
    version: i64,
) -> Result<bool, HistoryError> {
    if arranged.odd.rows() > 0 {
        transaction.batch_execute(LOCK_ODD).await?;
        let found: i64 = transaction.query_one(&copy.version, &[]).await?.try_get(0)?;
        if found != version {
            return Ok(false);
        }
        arranged.odd.send(transaction, &copy.odd).await?;
        transaction.execute(&copy.replace_odd, &[]).await?;
    }
    if arranged.fresh.rows() > 0 {
        arranged.fresh.send(transaction, &copy.copy).await?;
    }
    if arranged.replacing.rows() > 0 {
        arranged.replacing.send(transaction, &copy.staged).await?;
        transaction.execute(&copy.replace, &[]).await?;
    }
    Ok(true)
}

/// What is to be done about a refusal.
async fn refused(
    shared: &Shared,
    transaction: Transaction<'_>,
    error: HistoryError,
    replaces: bool,
) -> Result<Attempt, HistoryError> {
    let state = match &error {
        HistoryError::Postgres(SqlError::Postgres(error)) => error.0.code().cloned(),
        _ => None,
    };
    if state == Some(SqlState::UNIQUE_VIOLATION) && !replaces {
        transaction.rollback().await?;
        return Ok(Attempt::Conflict);
    }
    if state == Some(SqlState::CHECK_VIOLATION) {
        // A span of it was dropped meanwhile.
        transaction.rollback().await?;
        shared.forget_spans();
    }
    Err(error)
}
