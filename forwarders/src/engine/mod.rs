//! The forwarders of a node at work: a task for each partition, a sender for
//! each forwarder, and one that follows the directory.

mod account;
mod context;
mod delivery;
mod flow;
mod lanes;
mod marks;
mod messages;
mod partition;
mod places;
mod prepare;
mod routes;
mod running;
mod sender;
mod slot;
mod spec;
mod status;
mod supervisor;
mod trouble;

pub use account::Account;
pub use context::Context;
pub use prepare::{Opened, Unseal, secret_context};
pub use spec::Scope;
pub use status::{STATES, Standing, State};
pub use store::forwarders::DeadLetterTotals;
pub use trouble::Trouble;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use journal::{Journal, OpenError};
use prometheus::Registry;
use schema::{Forwarder, Networks, PartitionId};
use store::forwarders::{DeadLetter, Fate, ForwarderStoreError, StoredLane};
use store::{Entry, ForwarderStore, Store};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::destinations::{Fault, Platform};
use crate::lane::Counts;
use crate::limits;
use crate::metrics::Metrics;
use crate::outgoing::KeptValue;
use crate::reach::Reach;
use context::Shared;
use messages::{LaneView, Message};
use partition::{HOLD, Partition};
use running::Running;
use sender::Resend;
use supervisor::Supervisor;

/// The pause until it is asked again whether a forwarder has begun.
const BEGUN_PAUSE: Duration = Duration::from_millis(5);

/// The pause before the store is asked again where the forwarders stand.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Messages to a partition's task that wait.
const INBOX: usize = 4_096;

/// How forwarders are run.
#[derive(Clone, Debug)]
pub struct ForwarderOptions {
    /// Threads; 0 takes half of the cores.
    pub threads: usize,
    /// How often progress is stored.
    pub commit_interval_ms: u64,
    /// A forwarder without anything to do has its place stored after so many
    /// records.
    pub idle_records: u64,
    pub queue_values: usize,
    pub queue_bytes: usize,
    /// How long the journal is told to keep what a platform has not taken.
    pub keep_ms: u64,
    pub connects_per_s: u32,
    pub max_dead_letters: u32,
    /// Where forwarders may connect to beside the public Internet.
    pub allowed_networks: Networks,
}

impl Default for ForwarderOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            commit_interval_ms: 500,
            idle_records: 1_000,
            queue_values: limits::QUEUE_VALUES,
            queue_bytes: limits::QUEUE_BYTES,
            keep_ms: 24 * 3_600_000,
            connects_per_s: limits::CONNECTS_PER_S,
            max_dead_letters: limits::MAX_DEAD_LETTERS,
            allowed_networks: Networks::default(),
        }
    }
}

/// Why forwarders could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a metric could not be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the forwarders' threads could not be started: {0}")]
    Threads(#[from] std::io::Error),
    #[error(transparent)]
    Store(#[from] ForwarderStoreError),
    #[error("the forwarders cannot take part in the work: {0}")]
    Assignment(#[from] OpenError),
}

/// Why a forwarder did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ForwarderError {
    #[error("the forwarder is not running")]
    NotRunning,
    #[error("the forwarder is sending dead letters already, or is paused")]
    Busy,
    #[error("the platform has not answered yet; the dead letters stay until it has")]
    NotYet,
    #[error(transparent)]
    Store(#[from] ForwarderStoreError),
}

impl ForwarderError {
    /// Whether the same may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotRunning => false,
            Self::Busy | Self::NotYet => true,
            Self::Store(error) => error.is_retryable(),
        }
    }
}

/// What became of a forwarder's readings, and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounting {
    pub counts: Counts,
    pub queued: u64,
    pub in_flight: u64,
    pub dead_letters: DeadLetterTotals,
    /// Records of the journal that were deleted before it had read them.
    pub expired_records: u64,
    /// Records that it has not dealt with, of its slowest partition.
    pub lag_records: u64,
    /// How long the oldest of them waits, about.
    pub lag_ms: u64,
    /// Why a partition can't be read, if so.
    pub stopped: Option<String>,
}

/// What became of dead letters that were sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resent {
    pub sent: u64,
    pub refused: u64,
    /// Why the first that was refused was.
    pub reason: Option<String>,
}

/// The name of the work, which one node does at a time: a platform takes one
/// connection for a device, and a forwarder's readings may be in every partition.
const ROLE: &str = "forwarders";

/// The forwarders, where they are this node's to run; dropped, they end without
/// being waited for.
pub struct Forwarders {
    inboxes: Inboxes,
    running: Arc<Mutex<HashMap<u64, Running>>>,
    shared: Arc<Shared>,
    unseal: Unseal,
    store: ForwarderStore,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
    runtime: Option<Runtime>,
}

/// The ways to the partitions' tasks; none while the forwarders are another node's.
type Inboxes = Arc<Mutex<Vec<mpsc::Sender<Message>>>>;

/// What the forwarders are run with.
struct Workshop {
    journal: Journal,
    store: Store,
    unseal: Unseal,
    troubles: mpsc::Sender<Trouble>,
    options: ForwarderOptions,
    metrics: Metrics,
    inboxes: Inboxes,
    running: Arc<Mutex<HashMap<u64, Running>>>,
    shared: Arc<Shared>,
}

impl Forwarders {
    /// Runs all forwarders of the directory, with a task for each partition, from
    /// when they are this node's and for as long. Troubles go into the channel,
    /// which is never waited for.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(
        journal: &Journal,
        store: &Store,
        unseal: Unseal,
        troubles: mpsc::Sender<Trouble>,
        options: &ForwarderOptions,
        registry: &Registry,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::register(registry, options.queue_values)?;
        let assignment = journal.assignment(ROLE, registry)?;
        // In a journal of our own, whose retention knows no reader that has not spoken.
        if assignment.is_whole() {
            hold_what_is_needed(journal, &store.forwarders().lanes().await?);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads(options))
            .thread_name("forwarders")
            .enable_all()
            .build()?;
        let mut forwarders = Self::elsewhere(store, unseal, options);
        let workshop = Arc::new(Workshop {
            journal: journal.clone(),
            store: store.clone(),
            unseal: Arc::clone(&forwarders.unseal),
            troubles,
            options: options.clone(),
            metrics,
            inboxes: Arc::clone(&forwarders.inboxes),
            running: Arc::clone(&forwarders.running),
            shared: Arc::clone(&forwarders.shared),
        });
        let begin = move |ending| {
            let workshop = Arc::clone(&workshop);
            async move { workshop.work(ending).await }
        };
        let work = assignment.run_once(forwarders.stop.subscribe(), begin);
        let task = forwarders.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        task.replace(runtime.spawn(work));
        forwarders.runtime = Some(runtime);
        Ok(forwarders)
    }

    /// Runs no forwarder: another node does.
    #[must_use]
    pub fn elsewhere(store: &Store, unseal: Unseal, options: &ForwarderOptions) -> Self {
        let reach = Reach::new(options.allowed_networks.clone());
        Self {
            inboxes: Arc::default(),
            running: Arc::default(),
            shared: Shared::new(options.connects_per_s, reach),
            unseal,
            store: store.forwarders().clone(),
            stop: watch::Sender::new(false),
            task: Mutex::default(),
            runtime: None,
        }
    }

    /// Waits until a forwarder runs as its document of this version says, so that
    /// whoever made it knows that nothing which comes from then on is missed. A
    /// node that is busy for longer than the patience is not waited for.
    pub async fn begun(&self, forwarder: u64, version: u64, patience: Duration) {
        let is_begun = || {
            let running = self.lock();
            running.get(&forwarder).is_some_and(|running| running.version >= version)
        };
        let begun = async {
            while !is_begun() {
                tokio::time::sleep(BEGUN_PAUSE).await;
            }
            // Its lanes were told before it was said to run; an answer of theirs
            // says that they have heard.
            supervisor::views(&self.inboxes(), Some(forwarder)).await;
        };
        let _ = tokio::time::timeout(patience, begun).await;
    }

    /// How a forwarder stands; none until it was begun.
    #[must_use]
    pub fn standing(&self, forwarder: u64) -> Option<Standing> {
        self.lock().get(&forwarder).map(|running| running.status.standing())
    }

    /// Lets a forwarder that its platform's answers have paused go on.
    pub fn resume(&self, forwarder: u64) {
        if let Some(running) = self.lock().get(&forwarder) {
            running.resume.send_modify(|times| *times += 1);
        }
    }

    /// What became of a forwarder's readings.
    ///
    /// # Errors
    /// [`ForwarderError::Store`].
    pub async fn accounting(&self, forwarder: u64) -> Result<Accounting, ForwarderError> {
        let dead_letters = self.store.dead_letter_totals(forwarder).await?;
        let mut views = supervisor::views(&self.inboxes(), Some(forwarder)).await;
        if views.is_empty() {
            let lanes = self.store.lanes().await?;
            views = lanes.iter().filter(|lane| lane.forwarder == forwarder).map(at_rest).collect();
        }
        let in_flight = self.lock().get(&forwarder).map_or(0, |running| running.status.in_flight());
        Ok(account_for(&views, in_flight, dead_letters))
    }

    /// Dead letters of a forwarder behind `after`, oldest first.
    ///
    /// # Errors
    /// [`ForwarderError::Store`].
    pub async fn dead_letters(
        &self,
        forwarder: u64,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, ForwarderError> {
        Ok(self.store.dead_letters(forwarder, after, limit).await?)
    }

    /// Takes dead letters away; how many there were.
    ///
    /// # Errors
    /// [`ForwarderError::Store`].
    pub async fn discard(&self, forwarder: u64, letters: Vec<u64>) -> Result<u64, ForwarderError> {
        Ok(self.store.settle(forwarder, letters, Fate::Discarded).await?)
    }

    /// Sends dead letters again; what the platform takes is a dead letter no
    /// more. Waits `patience` for its answers.
    ///
    /// # Errors
    /// [`ForwarderError`].
    pub async fn resend(
        &self,
        forwarder: &Entry<Forwarder>,
        letters: &[DeadLetter],
        patience: Duration,
    ) -> Result<Resent, ForwarderError> {
        let resends = self.lock().get(&forwarder.id).map(|running| running.resends.clone());
        let resends = resends.ok_or(ForwarderError::NotRunning)?;
        let item = |key: &str| {
            let place = forwarder.items.iter().position(|item| item.key == key);
            place.and_then(|place| u32::try_from(place).ok())
        };
        let mut values = Vec::new();
        let mut sequences = Vec::new();
        let mut resent = Resent::default();
        for letter in letters {
            let Ok(kept) = serde_json::from_str::<KeptValue>(&letter.value) else { continue };
            let item = item(&kept.key);
            if item.is_none() && !forwarder.items.is_empty() {
                resent.refused += 1;
                resent.reason.get_or_insert("the key is not selected any more".to_owned());
                continue;
            }
            values.push(kept.outgoing(item));
            sequences.push(letter.sequence);
        }
        if values.is_empty() {
            return Ok(resent);
        }
        let (answer, answered) = oneshot::channel();
        resends.try_send(Resend { values, answer }).map_err(|_| ForwarderError::Busy)?;
        let outcomes = tokio::time::timeout(patience, answered).await;
        let outcomes = outcomes.ok().and_then(Result::ok).ok_or(ForwarderError::NotYet)?;
        let mut taken = Vec::new();
        for (sequence, outcome) in sequences.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => taken.push(sequence),
                Err(reason) => {
                    resent.refused += 1;
                    resent.reason.get_or_insert(reason);
                }
            }
        }
        resent.sent = self.store.settle(forwarder.id, taken, Fate::Resent).await?;
        Ok(resent)
    }

    /// A document, opened and checked as it would be run.
    ///
    /// # Errors
    /// [`Fault`] names the field that is wrong.
    pub fn opened(&self, forwarder: &Forwarder) -> Result<Opened, Fault> {
        Opened::of(forwarder, &self.unseal, self.shared.reach())
    }

    /// Tries whether a forwarder's platform would take its values.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub async fn test(&self, forwarder: &Forwarder) -> Result<String, String> {
        let opened = self.opened(forwarder).map_err(|fault| fault.to_string())?;
        let context = self.shared.context(&opened.checked.account);
        let limit = Duration::from_millis(limits::TEST_TIMEOUT_MS);
        let platform: &'static dyn Platform = opened.platform;
        let test = platform.test(&opened.config, &context);
        tokio::time::timeout(limit, test)
            .await
            .unwrap_or_else(|_| Err("the platform did not answer in time".to_owned()))
    }

    /// Ends all senders, and stores how far they came. What they had in hand is
    /// sent again at the next start, unless it was acknowledged.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the forwarders failed");
        }
    }

    fn inboxes(&self) -> Vec<mpsc::Sender<Message>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Forwarders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarders").field("running", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Drop for Forwarders {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Workshop {
    /// Runs all forwarders until `ending` turns true.
    async fn work(&self, mut ending: watch::Receiver<bool>) {
        let Some(stored) = self.stored(&mut ending).await else { return };
        hold_what_is_needed(&self.journal, &stored);
        let (stop_partitions, stopping) = watch::channel(false);
        let mut partitions = JoinSet::new();
        let mut inboxes = Vec::new();
        for partition in (0..self.journal.partitions()).map(PartitionId) {
            let (inbox, messages) = mpsc::channel(INBOX);
            let task = Partition::new(
                self.journal.clone(),
                partition,
                self.store.forwarders().clone(),
                self.store.directory().clone(),
                self.options.clone(),
                self.metrics.of_partition(partition),
            );
            partitions.spawn(task.run(messages, stopping.clone()));
            inboxes.push(inbox);
        }
        self.set_inboxes(inboxes.clone());
        let supervisor = Supervisor {
            directory: self.store.directory().clone(),
            store: self.store.forwarders().clone(),
            journal: self.journal.clone(),
            inboxes,
            running: Arc::clone(&self.running),
            shared: Arc::clone(&self.shared),
            unseal: Arc::clone(&self.unseal),
            metrics: self.metrics.clone(),
            queue_values: self.options.queue_values,
            max_dead_letters: self.options.max_dead_letters,
            stopping: ending,
            senders: JoinSet::new(),
            epoch: 0,
            troubles: self.troubles.clone(),
            runtime: Handle::current(),
        };
        // A defect of one forwarder must not keep the others' progress from being stored.
        if let Err(error) = tokio::spawn(supervisor.run(stored)).await {
            tracing::error!(%error, "the forwarders' supervisor failed");
        }
        stop_partitions.send_replace(true);
        while let Some(ended) = partitions.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the forwarders failed");
            }
        }
        self.set_inboxes(Vec::new());
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for partition in (0..self.journal.partitions()).map(PartitionId) {
            self.journal.let_go(HOLD, partition);
        }
    }

    /// Where the forwarders stand; none where it was stopped before that was known.
    async fn stored(&self, ending: &mut watch::Receiver<bool>) -> Option<Vec<StoredLane>> {
        loop {
            match self.store.forwarders().lanes().await {
                Ok(stored) => return Some(stored),
                Err(error) => tracing::warn!(%error, "the forwarders' progress is read again"),
            }
            tokio::select! {
                () = tokio::time::sleep(STORE_PAUSE) => {}
                _ = ending.wait_for(|is_ending| *is_ending) => return None,
            }
        }
    }

    fn set_inboxes(&self, inboxes: Vec<mpsc::Sender<Message>>) {
        *self.inboxes.lock().unwrap_or_else(PoisonError::into_inner) = inboxes;
    }
}

fn threads(options: &ForwarderOptions) -> usize {
    match options.threads {
        0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
        threads => threads,
    }
}

/// Before the first record comes.
fn hold_what_is_needed(journal: &Journal, stored: &[StoredLane]) {
    for partition in (0..journal.partitions()).map(PartitionId) {
        let lanes = stored.iter().filter(|lane| lane.partition == partition);
        let needed = lanes.filter_map(|lane| lane.place).map(|place| place.position).min();
        let next = journal.bounds(partition).next;
        journal.hold(HOLD, partition, needed.unwrap_or(next).min(next));
    }
}

/// A forwarder that is switched off, as it was stored.
fn at_rest(lane: &StoredLane) -> LaneView {
    LaneView {
        counts: serde_json::from_str(&lane.counts).unwrap_or_default(),
        outstanding: 0,
        lag_records: 0,
        oldest_ms: None,
        expired: lane.expired,
        stopped: None,
    }
}

fn account_for(views: &[LaneView], in_flight: usize, letters: DeadLetterTotals) -> Accounting {
    let mut accounting = Accounting { dead_letters: letters, ..Accounting::default() };
    let mut outstanding = 0;
    let mut oldest = i64::MAX;
    for view in views {
        accounting.counts.add(&view.counts);
        outstanding += view.outstanding;
        accounting.expired_records += view.expired;
        accounting.lag_records = accounting.lag_records.max(view.lag_records);
        oldest = oldest.min(view.oldest_ms.unwrap_or(i64::MAX));
        accounting.stopped = accounting.stopped.take().or_else(|| view.stopped.clone());
    }
    // What is in flight may have been acknowledged a moment ago.
    let in_flight = in_flight.min(outstanding);
    accounting.in_flight = in_flight as u64;
    accounting.queued = (outstanding - in_flight) as u64;
    if oldest != i64::MAX {
        accounting.lag_ms = u64::try_from(crate::time::now_ms() - oldest).unwrap_or(0);
    }
    accounting
}
