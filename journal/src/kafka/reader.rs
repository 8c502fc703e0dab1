//! Reading a partition: from memory while a reader keeps up, else by a consumer
//! that it has for as long, a piece at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use schema::{PartitionId, Position};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinHandle;

use super::consumers::Lent;
use super::feed::{is_out_of_range, note_watermarks};
use super::shared::{Shared, View, lock};
use super::wire;
use crate::{Entry, ReadError};

/// The most entries that are taken at once.
const PIECE_ENTRIES: usize = 256;

/// How long one look for a message waits.
const POLL: Duration = Duration::from_millis(100);

/// After so long without an answer it is said that the brokers are waited for.
const PIECE_PATIENCE: Duration = Duration::from_secs(5);

/// How long the brokers may take to say what a partition holds.
const WATERMARK_PATIENCE: Duration = Duration::from_secs(5);

/// The pause before they are asked again.
const ASK_PAUSE: Duration = Duration::from_millis(250);

/// How long a position that was reached before may be missing.
const REACHED_PATIENCE: Duration = Duration::from_secs(30);

/// Reads the durable entries of one partition in order, each once.
pub struct KafkaReader {
    shared: Arc<Shared>,
    partition: u16,
    next: u64,
    /// Entries from `next` on.
    buffer: VecDeque<Entry>,
    view: watch::Receiver<View>,
    behind: Option<Behind>,
    /// The piece that is being read. It is not begun anew by each call of `next`:
    /// one whose caller looks elsewhere all the time would never have it.
    reading: Option<JoinHandle<Piece>>,
}

/// What a reader has that is behind what is in memory.
struct Behind {
    client: Lent,
    /// What the client gives next.
    next: u64,
    _permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for KafkaReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (partition, next) = (self.partition, self.next);
        f.debug_struct("KafkaReader").field("partition", &partition).field("next", &next).finish()
    }
}

impl KafkaReader {
    /// Waits until the brokers say what the partition holds. What they say may
    /// for a moment be less than what was read of it before, while another broker
    /// takes the partition over: `reached` is waited for a while.
    pub(super) async fn open(
        shared: &Arc<Shared>,
        partition: PartitionId,
        from: Position,
        reached: Position,
    ) -> Result<Self, ReadError> {
        let began = Instant::now();
        loop {
            if shared.is_closed() {
                return Err(ReadError::Closed);
            }
            let has_answered = asked(shared, partition).await;
            let bounds = shared.partitions[usize::from(partition.0)].bounds();
            let is_waited_for = bounds.next < reached && began.elapsed() < REACHED_PATIENCE;
            if has_answered && !is_waited_for {
                check(partition, reached, Position(0), bounds.next)?;
                return Self::attach(shared, partition, from);
            }
            tokio::time::sleep(ASK_PAUSE).await;
        }
    }

    /// Asks the brokers where `from` lies beyond what is known to be there; then
    /// it blocks for as long as they take.
    pub(super) fn new(
        shared: &Arc<Shared>,
        partition: PartitionId,
        from: Position,
    ) -> Result<Self, ReadError> {
        let state = &shared.partitions[usize::from(partition.0)];
        if from > state.bounds().next || state.readers.load(Ordering::Acquire) == 0 {
            ask(shared, partition.0);
        }
        Self::attach(shared, partition, from)
    }

    fn attach(
        shared: &Arc<Shared>,
        partition: PartitionId,
        from: Position,
    ) -> Result<Self, ReadError> {
        let state = &shared.partitions[usize::from(partition.0)];
        let bounds = state.bounds();
        check(partition, from, bounds.oldest, bounds.next)?;
        let view = state.view.subscribe();
        // The feed learns of readers in the order in which they come and go.
        let mut wanted = lock(&shared.wanted);
        if state.readers.fetch_add(1, Ordering::AcqRel) == 0 {
            // Nobody read it here so far.
            let base = bounds.next.0;
            state.view.send_modify(|view| (view.base, view.next) = (base, base));
            wanted.push((partition.0, Some(base)));
        }
        drop(wanted);
        Ok(Self {
            shared: shared.clone(),
            partition: partition.0,
            next: from.0,
            buffer: VecDeque::new(),
            view,
            behind: None,
            reading: None,
        })
    }

    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.next)
    }

    /// See [`crate::Reader::next`].
    pub(crate) async fn next(&mut self) -> Result<Entry, ReadError> {
        loop {
            if let Some(entry) = self.take_from_memory() {
                return Ok(entry);
            }
            let view = *self.view.borrow_and_update();
            if view.closed {
                return Err(ReadError::Closed);
            }
            if self.reading.is_none() && self.next >= view.base {
                self.view.changed().await.map_err(|_| ReadError::Closed)?;
                continue;
            }
            let reading = match &mut self.reading {
                Some(reading) => reading,
                none => {
                    let behind = self.behind.take().filter(|behind| behind.next == self.next);
                    let read = read_behind(self.shared.clone(), self.partition, self.next, behind);
                    none.insert(tokio::spawn(read))
                }
            };
            let read = reading.await;
            self.reading = None;
            (self.buffer, self.behind) = read.map_err(closed)??;
            // What came from memory while this was read.
            let next = self.next;
            self.buffer.retain(|entry| entry.position.0 >= next);
        }
    }

    /// Whether an entry is durable at [`KafkaReader::position`], as far as is known.
    pub(crate) fn has_more(&self) -> bool {
        self.next < self.shared.partitions[usize::from(self.partition)].bounds().next.0
    }

    /// See [`crate::Reader::try_next`].
    pub(crate) fn try_next(&mut self) -> Result<Option<Entry>, ReadError> {
        if let Some(entry) = self.take_from_memory() {
            return Ok(Some(entry));
        }
        if self.view.borrow().closed { Err(ReadError::Closed) } else { Ok(None) }
    }

    fn take_from_memory(&mut self) -> Option<Entry> {
        if self.buffer.is_empty() {
            let partition = &self.shared.partitions[usize::from(self.partition)];
            lock(&partition.tail).copy(self.next, PIECE_ENTRIES, &mut self.buffer);
            if !self.buffer.is_empty() {
                self.behind = None;
            }
        }
        let entry = self.buffer.pop_front()?;
        self.next = entry.position.0 + 1;
        Some(entry)
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        let state = &self.shared.partitions[usize::from(self.partition)];
        let mut wanted = lock(&self.shared.wanted);
        if state.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            wanted.push((self.partition, None));
        }
    }
}

fn check(
    partition: PartitionId,
    position: Position,
    oldest: Position,
    next: Position,
) -> Result<(), ReadError> {
    if position < oldest {
        return Err(ReadError::Expired { partition, position, oldest });
    }
    if position > next {
        return Err(ReadError::Ahead { partition, position, next });
    }
    Ok(())
}

/// Asks the brokers what a partition holds, elsewhere than on the caller's thread.
pub(super) async fn asked(shared: &Arc<Shared>, partition: PartitionId) -> bool {
    let shared = shared.clone();
    let asked = tokio::task::spawn_blocking(move || ask(&shared, partition.0));
    asked.await.unwrap_or(false)
}

/// Asks the brokers what a partition holds. Where they don't answer, what was
/// known stands; a position that isn't there is found when it is read.
fn ask(shared: &Shared, partition: u16) -> bool {
    let held = shared.consumers.asker(&shared.options).and_then(|client| {
        let topic = &shared.options.topic;
        client.fetch_watermarks(topic, i32::from(partition), WATERMARK_PATIENCE)
    });
    match held {
        Ok((oldest, next)) => {
            note_watermarks(shared, partition, oldest, next);
            true
        }
        Err(error) => {
            tracing::warn!(%error, partition, "the brokers don't say what a partition holds");
            false
        }
    }
}

/// Entries, and the client where it goes on behind them; or an error that stays.
type Piece = Result<(VecDeque<Entry>, Option<Behind>), ReadError>;

/// What no longer answers has ended with the journal.
fn closed<E>(_: E) -> ReadError {
    ReadError::Closed
}

/// A consumer that begins at a position. It blocks.
fn fall_behind(
    shared: &Arc<Shared>,
    partition: u16,
    next: u64,
    permit: OwnedSemaphorePermit,
) -> Result<Behind, ReadError> {
    shared.counts.catch_ups.inc();
    // Only what is wrong with our own settings can fail here, or memory.
    let client = Lent::at(shared, partition, next);
    let client = client.map_err(|error| ReadError::Client(error.to_string()))?;
    Ok(Behind { client, next, _permit: permit })
}

/// Reads a piece from `next` on, by a consumer that stands there or else by
/// another, once it is the reader's turn to have one.
async fn read_behind(
    shared: Arc<Shared>,
    partition: u16,
    next: u64,
    behind: Option<Behind>,
) -> Piece {
    let begun = match behind {
        Some(behind) => Ok(behind),
        None => Err(shared.catching_up.clone().acquire_owned().await.map_err(closed)?),
    };
    let read = tokio::task::spawn_blocking(move || {
        let behind = begun.or_else(|permit| fall_behind(&shared, partition, next, permit))?;
        read_piece(&shared, partition, behind)
    });
    read.await.map_err(closed)?
}

/// Reads entries that are there: at least one, or an error.
fn read_piece(shared: &Shared, partition: u16, mut behind: Behind) -> Piece {
    let (mut entries, mut bytes) = (VecDeque::new(), 0);
    let mut began = Instant::now();
    while entries.len() < PIECE_ENTRIES && bytes < shared.options.read_ahead_bytes {
        if shared.is_closed() {
            return Err(ReadError::Closed);
        }
        let patience = if entries.is_empty() { POLL } else { Duration::ZERO };
        let entry = match behind.client.poll(patience) {
            None if !entries.is_empty() => break,
            None => {
                if began.elapsed() >= PIECE_PATIENCE {
                    began = Instant::now();
                    shared.counts.read_waits.inc();
                    let position = behind.next;
                    tracing::warn!(partition, position, "a reader waits for the brokers");
                }
                continue;
            }
            // Of what it read for somebody else.
            Some(Ok(message)) if message.partition() != i32::from(partition) => continue,
            Some(Ok(message)) => wire::entry(&message),
            Some(Err(error)) if is_out_of_range(&error) => {
                Err(out_of_range(shared, partition, behind.next, &error))
            }
            Some(Err(error)) => {
                tracing::debug!(%error, partition, "a reader waits for the brokers");
                continue;
            }
        };
        let expected = Position(behind.next);
        let error = match entry {
            Ok(entry) if entry.position == expected => {
                behind.next += 1;
                bytes += entry.payload.len();
                entries.push_back(entry);
                continue;
            }
            Ok(Entry { position: found, .. }) => {
                let partition = PartitionId(partition);
                ReadError::Gap { partition, position: expected, found }
            }
            Err(error) => error,
        };
        // What was read before it comes first. The client is past what it could
        // not read, so another one meets that again.
        return if entries.is_empty() { Err(error) } else { Ok((entries, None)) };
    }
    Ok((entries, Some(behind)))
}

/// Why a position that was to be read is none that the partition has.
fn out_of_range(shared: &Shared, partition: u16, position: u64, error: &KafkaError) -> ReadError {
    ask(shared, partition);
    let bounds = shared.partitions[usize::from(partition)].bounds();
    let found = check(PartitionId(partition), Position(position), bounds.oldest, bounds.next);
    found.err().unwrap_or_else(|| ReadError::Client(error.to_string()))
}
