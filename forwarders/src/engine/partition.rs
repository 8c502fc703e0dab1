//! One partition's task: reads its journal once for all forwarders, decides what
//! is sent, and stores how far each has come.
//!
//! A lane whose queue is full is left behind: it goes on from its own place, by
//! a second reader that all lanes behind share, and joins the others when it has
//! caught up. So nobody waits for anybody.

use std::collections::HashMap;
use std::time::Duration;

use journal::{Entry, Journal, ReadError, Reader};
use schema::{DecodeError, PartitionId, Position};
use store::forwarders::{ForwarderStoreError, LaneCommit};
use store::{Directory, ForwarderStore};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::ForwarderOptions;
use super::flow::Mode;
use super::marks::Marks;
use super::messages::Message;
use super::routes::{LaneIndex, Routes};
use super::slot::Slot;
use crate::lane::{Keys, Place};
use crate::metrics::PartitionMetrics;
use crate::time::now_ms;

/// The name under which the journal keeps what is still needed here.
pub(super) const HOLD: &str = "forwarders";

/// Records that are taken of one kind before the others have their turn.
const TURN: usize = 64;

/// How long a lane that is behind waits for its next record in one turn.
const CATCH_UP_PATIENCE: Duration = Duration::from_millis(500);

/// The pause before a read that failed is tried again.
const READ_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Partition {
    pub journal: Journal,
    pub partition: PartitionId,
    pub store: ForwarderStore,
    pub options: ForwarderOptions,
    pub metrics: PartitionMetrics,
    pub keys: Keys,
    pub routes: Routes,
    pub slots: Vec<Option<Slot>>,
    pub free: Vec<LaneIndex>,
    /// Places in `slots`.
    pub by_forwarder: HashMap<u64, LaneIndex, foldhash::fast::RandomState>,
    /// Lanes that are not live.
    pub behind: Vec<LaneIndex>,
    /// Lanes that the record in hand brought something, once each.
    pub touched: Vec<LaneIndex>,
    /// The next record to be read for live lanes.
    pub live: Position,
    catch_up: Option<Reader>,
    storing: Option<JoinHandle<Result<(), ForwarderStoreError>>>,
    pub marks: Marks,
    pub stopped: Option<String>,
}

/// Why a partition's task ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("asked to stop")]
    Asked,
    #[error("journal: {0}")]
    Journal(ReadError),
    #[error("journal record at position {position}: {source}")]
    Record { position: Position, source: DecodeError },
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::Asked,
            error => Self::Journal(error),
        }
    }
}

impl Partition {
    pub fn new(
        journal: Journal,
        partition: PartitionId,
        store: ForwarderStore,
        directory: Directory,
        options: ForwarderOptions,
        metrics: PartitionMetrics,
    ) -> Self {
        let (live, marks) = (journal.bounds(partition).next, Marks::new(options.keep_ms));
        Self {
            journal,
            partition,
            store,
            options,
            metrics,
            keys: Keys::default(),
            routes: Routes::new(directory),
            slots: Vec::new(),
            free: Vec::new(),
            by_forwarder: HashMap::default(),
            behind: Vec::new(),
            touched: Vec::new(),
            live,
            catch_up: None,
            storing: None,
            marks,
            stopped: None,
        }
    }

    pub async fn run(mut self, mut inbox: mpsc::Receiver<Message>, stop: watch::Receiver<bool>) {
        let mut stopping = stop.clone();
        let end = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => End::Asked,
            end = self.work(&mut inbox) => end,
        };
        if !matches!(end, End::Asked) {
            let partition = self.partition;
            tracing::error!(%partition, reason = %end, "forwarding has stopped; the data stays in the journal");
            self.metrics.stopped.set(1);
            self.stopped = Some(end.to_string());
            // Questions are still answered, and what was sent is still noted.
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = self.only_answer(&mut inbox) => {}
            }
        }
        while let Ok(message) = inbox.try_recv() {
            self.hear(message).await;
        }
        self.store_all(true).await;
        self.finish_storing().await;
    }

    async fn only_answer(&mut self, inbox: &mut mpsc::Receiver<Message>) {
        while let Some(message) = inbox.recv().await {
            self.hear(message).await;
        }
    }

    async fn work(&mut self, inbox: &mut mpsc::Receiver<Message>) -> End {
        match self.forward(inbox).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn forward(
        &mut self,
        inbox: &mut mpsc::Receiver<Message>,
    ) -> Result<std::convert::Infallible, End> {
        let mut tick =
            tokio::time::interval(Duration::from_millis(self.options.commit_interval_ms));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.rest(inbox, &mut tick).await?;
            self.follow(inbox, &mut tick).await?;
        }
    }

    fn has_lanes(&self) -> bool {
        self.slots.iter().any(Option::is_some)
    }

    /// Reads nothing as long as nobody wants any of it. A lane begins with what
    /// comes after it was made, or where it stood before.
    async fn rest(
        &mut self,
        inbox: &mut mpsc::Receiver<Message>,
        tick: &mut tokio::time::Interval,
    ) -> Result<(), End> {
        while !self.has_lanes() {
            tokio::select! {
                biased;
                _ = tick.tick() => {
                    self.pass(self.journal.bounds(self.partition).next);
                    self.store_all(false).await;
                }
                message = inbox.recv() => {
                    let message = message.ok_or(End::Asked)?;
                    self.pass(self.journal.end(self.partition).await);
                    self.hear(message).await;
                }
            }
        }
        Ok(())
    }

    /// What is before `end` was for nobody.
    fn pass(&mut self, end: Position) {
        self.live = self.live.max(end);
        self.metrics.position.set(i64::try_from(self.live.0).unwrap_or(i64::MAX));
    }

    /// Reads for lanes, as long as there are any.
    async fn follow(
        &mut self,
        inbox: &mut mpsc::Receiver<Message>,
        tick: &mut tokio::time::Interval,
    ) -> Result<(), End> {
        let mut reader = self.journal.reader(self.partition, self.live)?;
        while self.has_lanes() {
            for _ in 0..TURN {
                let Ok(message) = inbox.try_recv() else { break };
                self.hear(message).await;
            }
            let is_behind = self.catch_up().await?;
            if is_behind {
                for _ in 0..TURN {
                    let Some(entry) = self.next_live(&mut reader)? else { break };
                    self.take_live(&entry)?;
                }
                if tick_is_due(tick) {
                    self.store_all(false).await;
                }
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                _ = tick.tick() => self.store_all(false).await,
                message = inbox.recv() => match message {
                    Some(message) => self.hear(message).await,
                    None => return Err(End::Asked),
                },
                entry = reader.next() => match entry {
                    Ok(entry) => {
                        self.take_live(&entry)?;
                        for _ in 0..TURN {
                            let Some(entry) = self.next_live(&mut reader)? else { break };
                            self.take_live(&entry)?;
                        }
                        tokio::task::yield_now().await;
                    }
                    Err(error) => {
                        self.recover(&mut reader, error)?;
                        tokio::time::sleep(READ_PAUSE).await;
                    }
                },
            }
        }
        Ok(())
    }

    fn next_live(&mut self, reader: &mut Reader) -> Result<Option<Entry>, End> {
        match reader.try_next() {
            Ok(entry) => Ok(entry),
            Err(error) => self.recover(reader, error).map(|()| None),
        }
    }

    /// Goes on where reading is possible again, if it is.
    fn recover(&mut self, reader: &mut Reader, error: ReadError) -> Result<(), End> {
        match error {
            ReadError::Expired { oldest, .. } => {
                for slot in self.slots.iter_mut().flatten().filter(|slot| slot.is_live) {
                    slot.expired += oldest.0 - self.live.0;
                }
                self.live = oldest;
                *reader = self.journal.reader(self.partition, oldest)?;
                Ok(())
            }
            error if error.is_retryable() => {
                let partition = self.partition;
                tracing::warn!(%partition, %error, "forwarding waits and will read again");
                Ok(())
            }
            error => Err(error.into()),
        }
    }

    fn take_live(&mut self, entry: &Entry) -> Result<(), End> {
        self.marks.note(entry.appended_at.0, entry.position);
        self.route(entry, Mode::Live)?;
        self.live = entry.position.next();
        self.metrics.position.set(i64::try_from(self.live.0).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Reads for lanes that are behind; whether there is more to do at once.
    async fn catch_up(&mut self) -> Result<bool, End> {
        for _ in 0..TURN {
            let Some(target) = self.catch_up_from() else {
                return Ok(false);
            };
            if target >= self.live {
                self.join();
                continue;
            }
            let mut reader = match self.catch_up.take() {
                Some(reader) if reader.position() == target => reader,
                _ => match self.journal.reader(self.partition, target) {
                    Ok(reader) => reader,
                    Err(ReadError::Expired { oldest, .. }) => {
                        self.pass_over(oldest);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            // Those that keep up don't wait for it longer than that.
            let Ok(read) = tokio::time::timeout(CATCH_UP_PATIENCE, reader.next_durable()).await
            else {
                self.catch_up = Some(reader);
                return Ok(false);
            };
            match read {
                Ok(Some(entry)) => {
                    self.catch_up = Some(reader);
                    self.route(&entry, Mode::Behind)?;
                }
                Ok(None) => return Ok(false),
                Err(ReadError::Expired { oldest, .. }) => self.pass_over(oldest),
                Err(error) if error.is_retryable() => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The first record that a lane behind waits for and has room for. Half of
    /// its queue is to be empty, so that it is not gone back to for each value.
    fn catch_up_from(&self) -> Option<Position> {
        let (values, bytes) = (self.options.queue_values / 2, self.options.queue_bytes / 2);
        let slots = self.behind.iter().filter_map(|index| self.slots[*index as usize].as_ref());
        let with_room = slots.filter(|slot| !slot.is_full(values.max(1), bytes));
        with_room.map(|slot| slot.read.position).min()
    }

    /// Lanes that have caught up take part again.
    fn join(&mut self) {
        let (live, slots) = (self.live, &mut self.slots);
        self.behind.retain(|index| {
            let Some(slot) = &mut slots[*index as usize] else { return false };
            slot.is_live = slot.read.position >= live;
            !slot.is_live
        });
        if self.behind.is_empty() {
            self.catch_up = None;
        }
    }

    /// The journal keeps nothing before `oldest` any more.
    fn pass_over(&mut self, oldest: Position) {
        for index in &self.behind {
            let Some(slot) = &mut self.slots[*index as usize] else { continue };
            if slot.read.position < oldest {
                let lost = oldest.0 - slot.read.position.0;
                slot.expired += lost;
                slot.read = Place::at(oldest);
                self.metrics.expired.inc_by(lost);
                tracing::warn!(
                    forwarder = slot.spec.forwarder,
                    partition = %self.partition,
                    records = lost,
                    "the journal has deleted what a forwarder had not sent yet"
                );
            }
        }
    }

    /// Stores all that has changed, beside the reading; one store at a time.
    async fn store_all(&mut self, is_last: bool) {
        let is_storing = self.storing.as_ref().is_some_and(|storing| !storing.is_finished());
        if is_storing && !is_last {
            return;
        }
        self.finish_storing().await;
        self.hold();
        let (live, partition) = (self.live, self.partition);
        let mut steps: Vec<LaneCommit> = Vec::new();
        for slot in self.slots.iter_mut().flatten() {
            slot.lane.settled();
            // The place of one that has nothing to do moves as well, but more
            // seldom, because the journal is held by it.
            let place = slot.place(live).position.0;
            let stored = slot.stored.map(|stored| stored.position.0);
            let is_due = stored.is_none_or(|stored| {
                place >= stored + self.options.idle_records || (is_last && place > stored)
            });
            if is_due || slot.lane.is_changed() || !slot.letters.is_empty() {
                steps.push(slot.commit(partition, live, &self.keys));
            }
        }
        if !steps.is_empty() {
            self.store_steps(steps);
        }
    }

    /// Begins to store; nothing else may be being stored.
    pub fn store_steps(&mut self, steps: Vec<LaneCommit>) {
        let (store, most) = (self.store.clone(), self.options.max_dead_letters);
        self.storing = Some(tokio::spawn(store_until_done(store, steps, most)));
    }

    pub async fn finish_storing(&mut self) {
        if let Some(storing) = self.storing.take()
            && let Ok(Err(error)) = storing.await
        {
            tracing::error!(partition = %self.partition, %error, "forwarders' progress is not stored");
        }
    }

    /// Tells the journal what is still needed: all that somebody has to send, as
    /// long as it is not older than what is kept for a platform that is away.
    fn hold(&self) {
        let slots = self.slots.iter().flatten();
        let needed = slots.map(|slot| {
            slot.stored.map_or(slot.read.position, |stored| stored.position).min(self.live)
        });
        let needed = needed.min().unwrap_or(self.live);
        let kept_from = now_ms() - i64::try_from(self.options.keep_ms).unwrap_or(i64::MAX);
        let oldest_kept = self.marks.before(kept_from).unwrap_or(Position(0));
        self.journal.hold(HOLD, self.partition, needed.max(oldest_kept));
    }
}

async fn store_until_done(
    store: ForwarderStore,
    steps: Vec<LaneCommit>,
    max_dead_letters: u32,
) -> Result<(), ForwarderStoreError> {
    loop {
        match store.commit(steps.clone(), max_dead_letters).await {
            Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_secs(1)).await,
            done => return done,
        }
    }
}

/// Whether a tick is due, without waiting for it.
fn tick_is_due(tick: &mut tokio::time::Interval) -> bool {
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    tick.poll_tick(&mut context).is_ready()
}
