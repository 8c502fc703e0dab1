//! The state of one partition: its catalog, its memtables and its files.
//!
//! One lock guards it. The writer takes it once a record, a query for the
//! moment of copying what it needs, and nothing under it does IO. Partitions
//! share nothing with each other.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use schema::{DeviceId, PartitionId, Position, RecordRows};
use tokio::sync::Notify;

use super::HistoryError;
use super::catalog::{Catalog, Series, SeriesId};
use super::files::FileList;
use super::memtable::{Frozen, Memtable, Slice, slices_of};
use super::metrics::Metrics;
use super::options::HistoryOptions;

/// Rows whose series are fetched from memory together. A record jumps from
/// series to series, so with many series each one is far away; that way their
/// fetches overlap.
const AHEAD: usize = 64;

#[derive(Debug)]
pub(super) struct Partition {
    pub id: PartitionId,
    state: Mutex<State>,
    /// A flush has ended, well or not, or the history is closing.
    changed: Condvar,
    room: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub catalog: Catalog,
    pub active: Memtable,
    /// Older first.
    pub frozen: VecDeque<Arc<Frozen>>,
    pub files: FileList,
    /// The next record to be written.
    pub next: Position,
    /// All below it is in files.
    pub durable: Position,
    /// Flushes so far that wrote a file or moved the position.
    pub flushes: u64,
    /// The number of the catalog's file.
    pub catalog_file: Option<u64>,
    pub has_writer: bool,
    pub closed: bool,
    /// How often a flush has failed, and why it last did.
    pub failures: u64,
    pub failure: Option<Arc<HistoryError>>,
    /// The catalog's numbers of the keys of the record being written.
    local_keys: Vec<u32>,
}

/// What a query sees of one series in one partition.
#[derive(Debug)]
pub(super) struct SeriesView {
    pub id: SeriesId,
    pub series: Series,
    /// Older first; all newer than the files.
    pub memory: Vec<Slice>,
    pub files: FileList,
}

impl State {
    pub fn new(catalog: Catalog, files: FileList, position: Position, flushes: u64) -> Self {
        Self {
            catalog,
            active: Memtable::default(),
            frozen: VecDeque::new(),
            files,
            next: position,
            durable: position,
            flushes,
            catalog_file: None,
            has_writer: false,
            closed: false,
            failures: 0,
            failure: None,
            local_keys: Vec::new(),
        }
    }

    fn is_full(&self, options: &HistoryOptions) -> bool {
        self.active.rows() >= options.memtable_rows || self.active.bytes() >= options.memtable_bytes
    }

    fn has_room(&self, options: &HistoryOptions) -> bool {
        !self.is_full(options) || self.frozen.len() < options.waiting_memtables
    }

    /// Hands the active memtable to the flush, even if it only moves the position.
    pub fn freeze(&mut self, metrics: &Metrics) {
        let bytes = self.active.bytes();
        let (frozen, dropped) = self.active.freeze(self.next);
        metrics.deduplicated.inc_by(dropped as u64);
        metrics.memtable_rows.sub(dropped as i64);
        metrics.memtable_bytes.add(frozen.bytes as i64 - bytes as i64);
        self.frozen.push_back(Arc::new(frozen));
        metrics.waiting.inc();
    }

    /// True if something is written that is neither in files nor on its way.
    pub fn is_dirty(&self) -> bool {
        let behind = self.frozen.back().map_or(self.durable, |frozen| frozen.next);
        !self.active.is_empty() || self.next > behind
    }

    /// What is in memory of some series from `from` to before `to`, older first.
    pub fn memory_of<T>(
        &self,
        wanted: &HashMap<u32, T>,
        from: i64,
        to: i64,
    ) -> HashMap<u32, Vec<Slice>> {
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.runs.iter().cloned());
        let runs: Vec<_> = frozen.chain(self.active.runs_of(wanted)).collect();
        let of = |id: &u32| {
            let mut slices = Vec::new();
            slices_of(&runs, SeriesId(*id), from, to, &mut slices);
            (*id, slices)
        };
        wanted.keys().map(of).collect()
    }

    /// Takes the rows of a record. An error leaves the position where it was.
    fn take(
        &mut self,
        rows: &RecordRows,
        options: &HistoryOptions,
        metrics: &Metrics,
    ) -> Result<(), Unwritten> {
        let keys = std::mem::take(&mut self.local_keys);
        let mut local = keys;
        local.clear();
        local.extend((0..rows.key_count()).map(|key| self.catalog.key(rows.key_name(key))));
        let (bytes, series) = (self.active.bytes(), self.catalog.len());
        let (devices, keys) = (rows.devices(), rows.key_indexes());
        let times = rows.observed_at_ms();
        let (mut taken, mut dropped) = (0u64, 0);
        let mut ahead = [None; AHEAD];
        for row in 0..rows.len() {
            if row % AHEAD == 0 {
                let next = devices[row..].iter().zip(&keys[row..]);
                let next = next.map(|(id, key)| (DeviceId(*id), local[usize::from(*key)]));
                self.catalog.look_ahead(next, &mut ahead);
            }
            let Some(value) = rows.value(row) else { continue };
            let id = match ahead[row % AHEAD] {
                Some(id) => id,
                None => {
                    let key = local[usize::from(keys[row])];
                    let tenant = || rows.origin(row).tenant;
                    self.catalog
                        .resolve(DeviceId(devices[row]), key, tenant)
                        .map_err(|_| Unwritten)?
                }
            };
            self.catalog.observe(id, times[row], value);
            dropped += self.active.push(id, times[row], value, options.chunk_rows);
            taken += 1;
        }
        self.local_keys = local;
        metrics.rows.inc_by(taken);
        metrics.deduplicated.inc_by(dropped as u64);
        metrics.memtable_rows.add(taken as i64 - dropped as i64);
        metrics.memtable_bytes.add(self.active.bytes() as i64 - bytes as i64);
        metrics.series.add((self.catalog.len() - series) as i64);
        Ok(())
    }
}

/// The partition has no number left for a new series.
struct Unwritten;

impl Partition {
    pub fn new(id: PartitionId, state: State) -> Self {
        Self { id, state: Mutex::new(state), changed: Condvar::new(), room: Notify::new() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }

    /// Tells all who wait that a flush has ended or the history is closing.
    pub fn notify(&self) {
        self.changed.notify_all();
        self.room.notify_waiters();
    }

    /// Waits for [`Partition::notify`], for a while at most.
    pub fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        timeout: Duration,
    ) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, timeout).expect("no panic while it is held").0
    }

    /// Waits until a write will find room.
    pub async fn ready(&self, options: &HistoryOptions) {
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            {
                let state = self.state();
                if state.closed || state.has_room(options) {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Takes a record; true if a memtable was handed to the flush.
    pub fn write(
        &self,
        position: Position,
        rows: &RecordRows,
        options: &HistoryOptions,
        metrics: &Metrics,
    ) -> Result<bool, HistoryError> {
        let (mut state, mut frozen) = self.make_room(self.state(), position, options, metrics)?;
        if state.active.since.is_none() {
            state.active.since = Some(Instant::now());
        }
        state.take(rows, options, metrics).map_err(|_| HistoryError::SeriesLimit(self.id))?;
        state.next = position.next();
        if state.is_full(options) && state.frozen.len() < options.waiting_memtables {
            state.freeze(metrics);
            frozen = true;
        }
        Ok(frozen)
    }

    fn make_room<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        position: Position,
        options: &HistoryOptions,
        metrics: &Metrics,
    ) -> Result<(MutexGuard<'a, State>, bool), HistoryError> {
        if position < state.next {
            let (partition, next) = (self.id, state.next);
            return Err(HistoryError::Position { partition, got: position, next });
        }
        if !state.has_room(options) {
            metrics.blocked.inc();
        }
        while !state.closed && !state.has_room(options) {
            state = self.wait(state, Duration::from_secs(1));
        }
        if state.closed {
            return Err(HistoryError::Closed);
        }
        let full = state.is_full(options);
        if full {
            state.freeze(metrics);
        }
        Ok((state, full))
    }

    /// Notes that the history has no concern with the records below `next`.
    pub fn advance(&self, next: Position) -> Result<(), HistoryError> {
        let mut state = self.state();
        if state.closed {
            return Err(HistoryError::Closed);
        }
        if next < state.next {
            let (partition, known) = (self.id, state.next);
            return Err(HistoryError::Position { partition, got: next, next: known });
        }
        if next > state.next {
            state.next = next;
            state.active.since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// What there is of a series from `from` to before `to`.
    pub fn view(&self, device: DeviceId, key: &str, from: i64, to: i64) -> Option<SeriesView> {
        let state = self.state();
        let id = state.catalog.find(device, key)?;
        let mut memory = Vec::new();
        for frozen in &state.frozen {
            frozen.slices(id, from, to, &mut memory);
        }
        state.active.slices(id, from, to, &mut memory);
        Some(SeriesView {
            id,
            series: state.catalog.series(id),
            memory,
            files: state.files.clone(),
        })
    }
}
