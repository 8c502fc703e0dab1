//! The one thread that writes attributes. What waits for it shares a
//! transaction, so that all partitions together pay for one fsync.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use schema::{DeviceId, PartitionId, Position};
use tokio::sync::{mpsc, oneshot, watch};

use super::sql::{self, Tables};
use super::{AttributeChange, AttributeLimits, AttributesError, Scope};
use crate::{SqlError, metrics};

/// How many batches wait for the writer before the recorders are slowed.
const QUEUE_BATCHES: usize = 1_024;

/// How many changes share a transaction, about.
const MAX_GROUP_CHANGES: usize = 16_384;

/// How long a position may stay unwritten while no changes come with it.
const POSITION_INTERVAL: Duration = Duration::from_secs(1);

/// The same where other nodes may wait for it.
const SHARED_POSITION_INTERVAL: Duration = Duration::from_millis(250);

/// How often it is counted who waits, where other nodes write too.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) enum Request {
    Apply { partition: PartitionId, next: Position, changes: Vec<AttributeChange> },
    Delivered { device: DeviceId, upto: u64 },
    Forget { devices: Vec<DeviceId> },
    TakeOver { partition: PartitionId },
}

impl Request {
    fn size(&self) -> usize {
        match self {
            Self::Apply { changes, .. } => changes.len(),
            Self::Delivered { .. } | Self::TakeOver { .. } => 1,
            Self::Forget { devices } => devices.len(),
        }
    }
}

type Answer = oneshot::Sender<Result<(), AttributesError>>;

enum Envelope {
    Request(Request, Answer),
    Close,
}

#[derive(Debug)]
struct Place {
    durable: Position,
    /// All before it can be seen by readers. It is ahead of `durable` by what
    /// came without changes and is not written yet.
    applied: watch::Sender<Position>,
    written_at: Instant,
}

impl Place {
    fn at(position: Position) -> Self {
        let applied = watch::Sender::new(position);
        Self { durable: position, applied, written_at: Instant::now() }
    }

    fn raise_applied(&self, position: Position) {
        self.applied.send_if_modified(|applied| {
            let raised = *applied < position;
            *applied = (*applied).max(position);
            raised
        });
    }
}

/// What callers and the thread have in common.
#[derive(Debug)]
pub(super) struct Shared {
    places: Vec<Mutex<Place>>,
    /// Devices with something that they have not been given; none where other
    /// nodes write too, so that only the database knows.
    pub waiting: Option<RwLock<HashSet<DeviceId>>>,
}

impl Shared {
    fn place(&self, partition: PartitionId) -> Result<MutexGuard<'_, Place>, AttributesError> {
        let place = self.places.get(usize::from(partition.0));
        let place = place.ok_or(AttributesError::Partition(partition))?;
        Ok(place.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn position(&self, partition: PartitionId) -> Position {
        self.place(partition).expect("the caller names a partition of the installation").durable
    }

    pub fn applied(
        &self,
        partition: PartitionId,
    ) -> Result<watch::Receiver<Position>, AttributesError> {
        Ok(self.place(partition)?.applied.subscribe())
    }

    /// Notes a position that came without changes; false where it is time to
    /// write it.
    pub fn may_wait(
        &self,
        partition: PartitionId,
        next: Position,
    ) -> Result<bool, AttributesError> {
        let place = self.place(partition)?;
        place.raise_applied(next);
        let is_shared = self.waiting.is_none();
        let interval = if is_shared { SHARED_POSITION_INTERVAL } else { POSITION_INTERVAL };
        Ok(next <= place.durable || place.written_at.elapsed() < interval)
    }
}

/// The handle on the thread.
#[derive(Debug)]
pub(super) struct Writer {
    requests: mpsc::Sender<Envelope>,
    thread: Mutex<Option<JoinHandle<()>>>,
    queue: IntGauge,
}

impl Writer {
    pub fn start(
        tables: Tables,
        partitions: u16,
        limits: AttributeLimits,
        registry: &Registry,
    ) -> Result<(Self, Arc<Shared>), AttributesError> {
        let failed = |error: &dyn std::fmt::Display| AttributesError::Start(error.to_string());
        let meters = Meters::register(registry).map_err(|error| failed(&error))?;
        let mut places: Vec<Place> = (0..partitions).map(|_| Place::at(Position(0))).collect();
        for (partition, next) in tables.positions()? {
            let place = places.get_mut(usize::from(partition.0));
            let place = place.ok_or(AttributesError::Partition(partition))?;
            *place = Place::at(next);
        }
        let waiting = tables.waiting()?;
        meters.undelivered.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
        let shared = Arc::new(Shared {
            places: places.into_iter().map(Mutex::new).collect(),
            waiting: (!tables.session.is_postgres()).then(|| RwLock::new(waiting)),
        });
        let queue = meters.queue.clone();
        let (requests, receiver) = mpsc::channel(QUEUE_BATCHES);
        let worker =
            Worker { tables, shared: shared.clone(), limits, meters, counted_at: Instant::now() };
        let thread = std::thread::Builder::new()
            .name("attributes".to_owned())
            .spawn(move || worker.run(receiver))
            .map_err(|error| failed(&error))?;
        Ok((Self { requests, thread: Mutex::new(Some(thread)), queue }, shared))
    }

    pub async fn ask(&self, request: Request) -> Result<(), AttributesError> {
        let (answer, answered) = oneshot::channel();
        let place = self.requests.reserve().await.map_err(|_| AttributesError::Closed)?;
        self.queue.inc();
        place.send(Envelope::Request(request, answer));
        answered.await.unwrap_or(Err(AttributesError::Closed))
    }

    pub async fn close(&self) {
        // An error says that the thread has ended already.
        let _ = self.requests.send(Envelope::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && tokio::task::spawn_blocking(move || thread.join()).await.is_err()
        {
            tracing::error!("the attributes' thread could not be waited for");
        }
    }
}

struct Worker {
    tables: Tables,
    shared: Arc<Shared>,
    limits: AttributeLimits,
    meters: Meters,
    counted_at: Instant,
}

/// What a transaction comes to in memory once it is durable.
#[derive(Default)]
struct Effects {
    positions: Vec<(PartitionId, Position)>,
    /// Devices that wait from now on (true) or no longer, in order.
    waiting: Vec<(DeviceId, bool)>,
    changes: u64,
    refused: Vec<&'static str>,
    sequence: u64,
}

impl Worker {
    fn run(mut self, mut requests: mpsc::Receiver<Envelope>) {
        let mut open = true;
        while open {
            let Some(first) = requests.blocking_recv() else {
                break;
            };
            let (mut group, mut answers, mut size) = (Vec::new(), Vec::new(), 0);
            let mut next = Some(first);
            while let Some(envelope) = next {
                match envelope {
                    Envelope::Request(request, answer) => {
                        size += request.size();
                        group.push(request);
                        answers.push(answer);
                    }
                    Envelope::Close => {
                        open = false;
                        requests.close();
                    }
                }
                next = if size < MAX_GROUP_CHANGES { requests.try_recv().ok() } else { None };
            }
            self.meters.queue.sub(i64::try_from(group.len()).unwrap_or(i64::MAX));
            self.serve(&group, answers);
        }
        self.finish();
    }

    /// Writes the positions that came without changes, and closes the file.
    fn finish(mut self) {
        let seen: Vec<Request> = (0..)
            .map(PartitionId)
            .zip(&self.shared.places)
            .map(|(partition, place)| {
                let place = place.lock().unwrap_or_else(PoisonError::into_inner);
                let next = *place.applied.borrow();
                Request::Apply { partition, next, changes: Vec::new() }
            })
            .collect();
        self.serve(&seen, Vec::new());
        if let Err(error) = self.tables.session.close() {
            tracing::error!(%error, "the attributes' file did not close cleanly");
        }
    }

    fn serve(&mut self, group: &[Request], answers: Vec<Answer>) {
        let started = Instant::now();
        let outcome = self.commit(group);
        let outcome = outcome.map_err(AttributesError::from);
        match &outcome {
            Ok(effects) => {
                self.meters.commit_seconds.observe(started.elapsed().as_secs_f64());
                self.take_in(effects);
            }
            Err(error) => tracing::error!(%error, "attributes could not be written"),
        }
        for answer in answers {
            // Whoever asked may have gone away; what was written stands.
            let _ = answer.send(outcome.as_ref().map(|_| ()).map_err(Clone::clone));
        }
    }

    fn commit(&mut self, group: &[Request]) -> Result<Effects, SqlError> {
        let mut effects = Effects { sequence: self.tables.sequence, ..Effects::default() };
        let transaction = self.tables.session.transaction()?;
        for request in group {
            match request {
                Request::Apply { partition, next, changes } => {
                    if !sql::advance(&transaction, *partition, *next)? {
                        continue;
                    }
                    effects.positions.push((*partition, *next));
                    for change in changes {
                        effects.sequence += 1;
                        let sequence = effects.sequence;
                        match sql::change(&transaction, change, sequence, &self.limits)? {
                            Ok(()) if change.scope == Scope::Shared => {
                                effects.waiting.push((change.device, true));
                                effects.changes += 1;
                            }
                            Ok(()) => effects.changes += 1,
                            Err(over) => effects.refused.push(over.reason()),
                        }
                    }
                }
                Request::Delivered { device, upto } => {
                    if sql::delivered(&transaction, *device, *upto)? {
                        effects.waiting.push((*device, false));
                    }
                }
                Request::Forget { devices } => {
                    for device in devices {
                        sql::forget(&transaction, *device)?;
                        effects.waiting.push((*device, false));
                    }
                }
                Request::TakeOver { partition } => {
                    effects.positions.push((*partition, sql::position(&transaction, *partition)?));
                    effects.sequence = effects.sequence.max(sql::sequence(&transaction)?);
                }
            }
        }
        transaction.commit()?;
        Ok(effects)
    }

    fn take_in(&mut self, effects: &Effects) {
        self.tables.sequence = effects.sequence;
        if !effects.waiting.is_empty() {
            self.note_waiting(&effects.waiting);
        }
        for (partition, next) in &effects.positions {
            if let Ok(mut place) = self.shared.place(*partition) {
                place.durable = *next;
                place.raise_applied(*next);
                place.written_at = Instant::now();
            }
        }
        self.meters.commits.inc();
        self.meters.changes.inc_by(effects.changes);
        for reason in &effects.refused {
            self.meters.refused.with_label_values(&[reason]).inc();
        }
    }
}

impl Worker {
    fn note_waiting(&mut self, changes: &[(DeviceId, bool)]) {
        let count = if let Some(waiting) = &self.shared.waiting {
            let mut waiting = waiting.write().unwrap_or_else(PoisonError::into_inner);
            for &(device, waits) in changes {
                if waits {
                    waiting.insert(device);
                } else {
                    waiting.remove(&device);
                }
            }
            waiting.len()
        } else if self.counted_at.elapsed() >= COUNT_INTERVAL {
            self.counted_at = Instant::now();
            // A figure for people: where it can't be had, the last one stands.
            let Ok(waiting) = self.tables.waiting() else { return };
            waiting.len()
        } else {
            return;
        };
        self.meters.undelivered.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

struct Meters {
    commits: IntCounter,
    changes: IntCounter,
    commit_seconds: Histogram,
    refused: IntCounterVec,
    undelivered: IntGauge,
    queue: IntGauge,
}

impl Meters {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let commits = IntCounter::new(
            metrics::ATTRIBUTES_COMMITS,
            "Transactions of attributes that were made durable",
        )?;
        let changes = IntCounter::new(metrics::ATTRIBUTES_CHANGES, "Attributes set and deleted")?;
        let commit_seconds = Histogram::with_opts(
            HistogramOpts::new(
                metrics::ATTRIBUTES_COMMIT_SECONDS,
                "How long a transaction of attributes took, fsync included",
            )
            .buckets(prometheus::exponential_buckets(0.000_5, 2.0, 14)?),
        )?;
        let refused = IntCounterVec::new(
            Opts::new(metrics::ATTRIBUTES_REFUSED, "Attribute changes not kept, by reason"),
            &["reason"],
        )?;
        let undelivered = IntGauge::new(
            metrics::ATTRIBUTES_UNDELIVERED,
            "Devices with shared attributes that they have not been given yet",
        )?;
        let queue =
            IntGauge::new(metrics::ATTRIBUTES_QUEUE, "Batches waiting for the attributes' writer")?;
        let queue_limit = IntGauge::new(
            metrics::ATTRIBUTES_QUEUE_LIMIT,
            "Batches that may wait before recorders are slowed",
        )?;
        queue_limit.set(i64::try_from(QUEUE_BATCHES).unwrap_or(i64::MAX));
        registry.register(Box::new(commits.clone()))?;
        registry.register(Box::new(changes.clone()))?;
        registry.register(Box::new(commit_seconds.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(undelivered.clone()))?;
        registry.register(Box::new(queue.clone()))?;
        registry.register(Box::new(queue_limit))?;
        Ok(Self { commits, changes, commit_seconds, refused, undelivered, queue })
    }
}
