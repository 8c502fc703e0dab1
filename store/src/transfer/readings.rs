//! Copies the history through the one way that readings go into PostgreSQL: a
//! writer for each partition, and binary COPY in transactions that move its
//! position.
//!
//! The position counts the copy's own records while it is at work: the number
//! of a chunk of series, and within it that of a record. A chunk's readings come
//! in one order whenever they are read, so a copy that was broken off leaves out
//! as many records as the position says.

use std::ops::ControlFlow;
use std::sync::Arc;

use prometheus::Registry;
use schema::{
    DeviceId, Origin, PartitionId, Position, RecordBuilder, RecordKind, RouterId, TenantId,
    TimestampMs,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::source::Source;
use super::target::Target;
use super::{JournalAfterwards, TransferError, TransferOptions, TransferProgress};
use crate::history::{
    DEFAULT_SCAN_BYTES, EmbeddedHistory, HistoryError, HistoryOptions, PostgresHistory,
    PostgresWriter, ScanDevice, ScanGroup, ScanQuery,
};

/// The step's name in the database.
const STEP: &str = "history";

/// Series of one chunk, about: their pages are in memory at the same time.
const CHUNK_SERIES: usize = 512;

/// Readings of one record.
const RECORD_ROWS: usize = 5_000;

/// Bits of a position that count the records of a chunk.
const RECORD_BITS: u32 = 24;

/// Partitions that are copied or compared at the same time.
pub(super) const AT_ONCE: usize = 3;

/// Both histories.
pub(super) struct Histories {
    pub from: EmbeddedHistory,
    pub to: PostgresHistory,
    partitions: u16,
}

/// Some series of one partition, and whose they are.
#[derive(Clone)]
pub(super) struct Chunk {
    /// Each key bears its place in its device.
    pub devices: Vec<ScanDevice<u32>>,
    tenants: Vec<TenantId>,
}

impl Chunk {
    pub fn query(&self) -> ScanQuery<u32> {
        let (from, to) = (TimestampMs(i64::MIN), TimestampMs(i64::MAX));
        ScanQuery { devices: self.devices.clone(), from, to }
    }

    pub fn places(&self) -> Vec<usize> {
        (0..self.devices.len()).collect()
    }
}

impl Histories {
    pub async fn open(source: &Source, options: &TransferOptions) -> Result<Self, TransferError> {
        let (dir, partitions) = (source.dir().to_owned(), source.partitions);
        // Nothing may change while it is copied.
        let quiet = HistoryOptions { background_compaction: false, ..HistoryOptions::default() };
        let opened = tokio::task::spawn_blocking(move || {
            EmbeddedHistory::open(&dir, partitions, quiet, &Registry::new())
        });
        let from = opened.await.map_err(|_| TransferError::Thread)??;
        let (postgres, history) = (options.postgres.clone(), options.history.clone());
        // A task of its own, because its opening must not be cut off in between.
        let opened = tokio::spawn(async move {
            PostgresHistory::open(&postgres, partitions, &history, &Registry::new()).await
        });
        let to = opened.await.map_err(|_| TransferError::Thread)??;
        Ok(Self { from, to, partitions })
    }

    pub async fn close(&self) {
        self.to.halt().await;
        self.from.halt().await;
    }

    /// Copies what is not there yet, and then lets positions begin.
    pub async fn copy(
        &self,
        target: &mut Target,
        options: &TransferOptions,
        progress: &TransferProgress,
    ) -> Result<(), TransferError> {
        if target.step(STEP).await?.is_done {
            return Ok(());
        }
        progress.begin("copying the history, readings".to_owned());
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut running: JoinSet<Result<(), TransferError>> = JoinSet::new();
        for partition in (0..self.partitions).map(PartitionId) {
            let turn = Arc::clone(&turns).acquire_owned().await;
            let turn = turn.map_err(|_| TransferError::Thread)?;
            let writer = self.to.writer(partition).await?;
            let (chunks, from) = (self.chunks(partition)?, self.from.clone());
            let progress = progress.clone();
            running.spawn_blocking(move || {
                let _turn = turn;
                Copying { from, writer, progress }.all(&chunks)
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.map_err(|_| TransferError::Thread)??;
        }
        self.to.flush().await?;
        let positions = (0..self.partitions).map(PartitionId).map(|partition| {
            let position = match options.journal {
                JournalAfterwards::Same => self.from.durable_position(partition).0,
                JournalAfterwards::New { .. } => 0,
            };
            let set = "UPDATE baken_history.positions SET epoch = epoch + 1, position = ";
            (format!("{set}{position} WHERE partition = {partition}"), Vec::new())
        });
        target.end_step(STEP, &positions.collect::<Vec<_>>()).await
    }

    /// The series of a partition in an order that is always the same.
    pub fn chunks(&self, partition: PartitionId) -> Result<Vec<Chunk>, HistoryError> {
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut room = 0;
        let series = self.from.series(partition)?;
        for device in series.chunk_by(|a, b| a.1 == b.1) {
            for part in device.chunks(CHUNK_SERIES) {
                if part.len() > room {
                    chunks.push(Chunk { devices: Vec::new(), tenants: Vec::new() });
                    room = CHUNK_SERIES;
                }
                room -= part.len();
                let Some(chunk) = chunks.last_mut() else { continue };
                let (tenant, device, _) = part[0];
                let keys = part.iter().map(|(_, _, key)| Arc::clone(key)).zip(0..).collect();
                chunk.devices.push(ScanDevice { device, keys });
                chunk.tenants.push(tenant);
            }
        }
        Ok(chunks)
    }
}

/// Copies one partition, on a thread of its own.
struct Copying {
    from: EmbeddedHistory,
    writer: PostgresWriter,
    progress: TransferProgress,
}

impl Copying {
    fn all(mut self, chunks: &[Chunk]) -> Result<(), TransferError> {
        let runtime = tokio::runtime::Handle::current();
        for (number, chunk) in (0u64..).zip(chunks) {
            let begin = number << RECORD_BITS;
            if self.writer.position().0 >= begin + (1 << RECORD_BITS) {
                continue;
            }
            let view = runtime.block_on(self.from.view(chunk.query()))?;
            let mut position = begin;
            let mut failed = None;
            let mut record = RecordBuilder::new(RecordKind::Readings);
            view.scan(&chunk.places(), DEFAULT_SCAN_BYTES, |group| {
                let (device, tenant) =
                    (chunk.devices[group.device].device, chunk.tenants[group.device]);
                push(&mut record, chunk, (tenant, device), group);
                if record.len() < RECORD_ROWS {
                    return ControlFlow::Continue(());
                }
                match self.write(&mut record, &mut position) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })?;
            if let Some(error) = failed {
                return Err(error.into());
            }
            self.write(&mut record, &mut position)?;
            self.writer.advance(Position(begin + (1 << RECORD_BITS)))?;
        }
        Ok(())
    }

    /// Hands a record on, unless it is there already.
    fn write(
        &mut self,
        record: &mut RecordBuilder,
        position: &mut u64,
    ) -> Result<(), HistoryError> {
        if record.is_empty() {
            return Ok(());
        }
        let rows = record.finish().decoded.expect("a record that was just built is decoded");
        if *position >= self.writer.position().0 {
            self.writer.write(Position(*position), &rows)?;
        }
        *position += 1;
        self.progress.add(rows.len() as u64);
        Ok(())
    }
}

fn push(
    record: &mut RecordBuilder,
    chunk: &Chunk,
    (tenant, device): (TenantId, DeviceId),
    group: &ScanGroup<'_, u32>,
) {
    let origin = Origin { tenant, router: RouterId(0), device };
    for (key, value) in group.values {
        let name = &chunk.devices[group.device].keys[*key as usize].0;
        let key = record.key(name).expect("a chunk has fewer keys than a record may have");
        record
            .push(origin, key, group.at, group.at, Some(*value))
            .expect("a record is closed long before it is full");
    }
}
