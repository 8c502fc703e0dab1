//! What one partition's writer has gathered, and how far it is committed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schema::{DeviceId, PartitionId, Position, RecordRows};
use tokio::sync::Notify;

use super::PostgresHistoryOptions;
use super::series::{Series, Slot};
use crate::history::HistoryError;
use crate::history::rows::Rows;

/// How long a writer that blocks sleeps before it looks again by itself.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Rows in the order of their arrival, between two positions.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub from: Position,
    /// The position behind its last record.
    pub next: Position,
    /// The series of each row.
    pub slots: Vec<Slot>,
    pub rows: Rows,
    /// When its first record came.
    since: Option<Instant>,
}

impl Batch {
    fn at(position: Position) -> Self {
        Self { from: position, next: position, ..Self::default() }
    }

    pub fn bytes(&self) -> usize {
        self.rows.bytes() + size_of::<Slot>() * self.slots.len()
    }

    fn is_full(&self, options: &PostgresHistoryOptions) -> bool {
        self.rows.len() >= options.batch_rows.max(1) || self.bytes() >= options.batch_bytes.max(1)
    }

    /// When it is to be committed; `None` while there is nothing to commit.
    fn due(&self, options: &PostgresHistoryOptions, is_wanted: bool) -> Option<Instant> {
        let since = self.since?;
        if is_wanted || self.is_full(options) {
            return Some(since);
        }
        let age_ms =
            if self.rows.is_empty() { options.position_age_ms } else { options.batch_age_ms };
        Some(since + Duration::from_millis(age_ms))
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The next record that the writer expects.
    pub next: Position,
    /// All records below it are committed.
    pub durable: Position,
    /// The writer's claim.
    pub epoch: i64,
    pub has_writer: bool,
    pub series: Series,
    gathered: Batch,
    /// True while a batch is on its way.
    pub is_committing: bool,
    /// True where somebody waits for what is gathered.
    pub is_wanted: bool,
    /// Why the last attempt failed, until one has succeeded.
    pub failed: Option<Arc<HistoryError>>,
    /// Why nothing more is taken.
    pub ended: Option<Ended>,
    /// The last batch's buffers, to be used again.
    spare: Option<Batch>,
    local_keys: Vec<u32>,
}

/// Why a writer can't go on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    Closed,
    Fenced,
    /// The database is at another position than this writer has brought it to.
    Moved(Position),
}

#[derive(Debug)]
pub(super) struct Partition {
    pub id: PartitionId,
    state: Mutex<State>,
    changed: Condvar,
    /// Wakes those who wait asynchronously.
    pub moved: Notify,
}

/// What became of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub rows: u64,
    pub new_series: usize,
    /// True if a committer is to look whether something is due.
    pub wakes: bool,
    pub waited: bool,
}

impl Partition {
    pub fn new(id: PartitionId, position: Position) -> Self {
        let gathered = Batch::at(position);
        let state = State { next: position, durable: position, gathered, ..State::default() };
        Self { id, state: Mutex::new(state), changed: Condvar::new(), moved: Notify::new() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all who wait that a commit has ended or the history is closing.
    pub fn notify(&self) {
        self.changed.notify_all();
        self.moved.notify_waiters();
    }

    /// Waits until a predicate holds.
    pub async fn until(&self, mut holds: impl FnMut(&mut State) -> bool) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if holds(&mut self.state()) {
                return;
            }
            moved.await;
        }
    }

    pub fn why(&self, ended: Ended, state: &State) -> HistoryError {
        match ended {
            Ended::Closed => HistoryError::Closed,
            Ended::Fenced => HistoryError::Fenced(self.id),
            Ended::Moved(found) => {
                HistoryError::Moved { partition: self.id, found, known: state.durable }
            }
        }
    }

    /// Takes a record. Blocks while there is no room.
    pub fn write(
        &self,
        epoch: i64,
        position: Position,
        rows: &RecordRows,
        options: &PostgresHistoryOptions,
    ) -> Result<Taken, HistoryError> {
        let mut state = self.open(epoch, position)?;
        let mut waited = false;
        while state.gathered.is_full(options) {
            waited = true;
            let waiting = self.changed.wait_timeout(state, LOOK_INTERVAL);
            drop(waiting.unwrap_or_else(PoisonError::into_inner));
            state = self.open(epoch, position)?;
        }
        let was_idle = state.gathered.since.is_none() || state.gathered.rows.is_empty();
        let known = state.series.len();
        let taken = state.take(rows).ok_or(HistoryError::SeriesLimit(self.id))?;
        state.reach(position.next());
        let wakes = was_idle || state.gathered.is_full(options);
        Ok(Taken { rows: taken, new_series: state.series.len() - known, wakes, waited })
    }

    /// Notes that the history has no concern with the records below `next`;
    /// true if a committer is to look whether something is due.
    pub fn advance(&self, epoch: i64, next: Position) -> Result<bool, HistoryError> {
        let mut state = self.open(epoch, next)?;
        let was_idle = state.gathered.since.is_none();
        if next > state.next {
            state.reach(next);
        }
        Ok(was_idle)
    }

    /// The state, if the writer may go on from `position`.
    fn open(&self, epoch: i64, position: Position) -> Result<MutexGuard<'_, State>, HistoryError> {
        let state = self.state();
        if state.epoch != epoch {
            return Err(HistoryError::Fenced(self.id));
        }
        if let Some(ended) = state.ended {
            return Err(self.why(ended, &state));
        }
        if position < state.next {
            let (partition, next) = (self.id, state.next);
            return Err(HistoryError::Position { partition, got: position, next });
        }
        Ok(state)
    }
}

impl State {
    pub fn has_room(&self, options: &PostgresHistoryOptions) -> bool {
        self.ended.is_some() || !self.gathered.is_full(options)
    }

    /// When a committer is to take what is gathered.
    pub fn due(&self, options: &PostgresHistoryOptions) -> Option<Instant> {
        if self.is_committing || self.ended.is_some() {
            return None;
        }
        self.gathered.due(options, self.is_wanted)
    }

    pub fn gathered(&self) -> (usize, usize) {
        (self.gathered.rows.len(), self.gathered.bytes())
    }

    /// What is gathered, for a committer that has it on its way then.
    pub fn begin_commit(&mut self) -> Batch {
        let mut fresh = self.spare.take().unwrap_or_default();
        (fresh.from, fresh.next, fresh.since) = (self.next, self.next, None);
        self.is_committing = true;
        self.is_wanted = false;
        std::mem::replace(&mut self.gathered, fresh)
    }

    /// Notes that the batch is committed.
    pub fn committed(&mut self, mut batch: Batch) {
        for (slot, row) in batch.slots.iter().zip(&batch.rows.rows) {
            let known = self.series.known_mut(*slot);
            known.newest = known.newest.max(row.observed_at);
        }
        self.durable = batch.next;
        self.is_committing = false;
        self.failed = None;
        batch.slots.clear();
        batch.rows.clear();
        self.spare = Some(batch);
    }

    /// Begins anew where the database is; what was gathered comes again from
    /// the journal.
    pub fn begin(&mut self, position: Position, epoch: i64) {
        (self.next, self.durable, self.epoch) = (position, position, epoch);
        self.gathered = Batch::at(position);
        (self.failed, self.ended, self.is_wanted) = (None, None, false);
    }

    fn reach(&mut self, next: Position) {
        self.next = next;
        self.gathered.next = next;
        self.gathered.since.get_or_insert_with(Instant::now);
    }

    /// `None` if there is no number for a new series.
    fn take(&mut self, rows: &RecordRows) -> Option<u64> {
        let mut local = std::mem::take(&mut self.local_keys);
        local.clear();
        local.extend((0..rows.key_count()).map(|key| self.series.key(rows.key_name(key))));
        let (devices, keys, times) = (rows.devices(), rows.key_indexes(), rows.observed_at_ms());
        let mut taken = 0;
        for row in 0..rows.len() {
            let Some(value) = rows.value(row) else { continue };
            let key = local[usize::from(keys[row])];
            let slot = self.series.slot(DeviceId(devices[row]), key, || rows.origin(row).tenant)?;
            self.gathered.slots.push(slot);
            self.gathered.rows.push(times[row], value);
            taken += 1;
        }
        self.local_keys = local;
        Some(taken)
    }
}
