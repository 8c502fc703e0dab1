//! Takes the records of one partition in.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use schema::{PartitionId, Position, RecordRows};

use super::{FULL_ROWS, State, Tables};
use crate::history::HistoryError;

impl Tables {
    /// Makes the caller the partition's one writer in this process.
    pub fn take_writer(&self, partition: PartitionId) -> Result<(), HistoryError> {
        let mut state = self.partition(partition)?.state();
        if std::mem::replace(&mut state.has_writer, true) {
            return Err(HistoryError::WriterTaken(partition));
        }
        Ok(())
    }

    pub fn leave_writer(&self, partition: PartitionId) {
        if let Ok(partition) = self.partition(partition) {
            partition.state().has_writer = false;
        }
    }

    pub fn next(&self, partition: PartitionId) -> Position {
        self.partition(partition).map_or(Position(0), |partition| partition.state().next)
    }

    /// Waits until [`Tables::write`] would not wait.
    pub async fn ready(&self, partition: PartitionId) {
        let Ok(partition) = self.partition(partition) else { return };
        loop {
            let room = partition.room.notified();
            let mut room = std::pin::pin!(room);
            room.as_mut().enable();
            if !partition.state().is_full() || self.has_ended() {
                return;
            }
            self.metrics.blocked.inc();
            room.await;
        }
    }

    pub fn write(
        &self,
        partition: PartitionId,
        position: Position,
        rows: &RecordRows,
    ) -> Result<(), HistoryError> {
        let held = self.partition(partition)?;
        let mut state = held.state();
        while state.is_full() && !self.has_ended() {
            let waited = held.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.check(&state, partition, position)?;
        let State { gathered, series, .. } = &mut *state;
        gathered.take(series, rows);
        state.next = position.next();
        state.since.get_or_insert_with(Instant::now);
        self.metrics.rows.inc_by(rows.len() as u64);
        let is_full = state.gathered.rows() >= FULL_ROWS;
        drop(state);
        if is_full {
            self.wanted.notify_one();
        }
        Ok(())
    }

    pub fn advance(&self, partition: PartitionId, next: Position) -> Result<(), HistoryError> {
        let mut state = self.partition(partition)?.state();
        self.check(&state, partition, next)?;
        state.next = next;
        state.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn check(
        &self,
        state: &State,
        partition: PartitionId,
        got: Position,
    ) -> Result<(), HistoryError> {
        if self.ended.load(Ordering::Relaxed) {
            return Err(HistoryError::Closed);
        }
        if state.fenced {
            return Err(HistoryError::Fenced(partition));
        }
        if got < state.next {
            return Err(HistoryError::Position { partition, got, next: state.next });
        }
        Ok(())
    }
}
