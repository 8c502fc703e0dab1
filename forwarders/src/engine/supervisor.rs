//! Follows the directory: begins, changes and ends forwarders as their documents
//! say, and tells partitions of devices and locations that were changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use journal::Journal;
use schema::{DocumentKind, Forwarder, PartitionId, partition_of};
use store::forwarders::{ForwarderStoreError, StoredLane};
use store::{Change, Directory, Entry, ForwarderStore, ListQuery};
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::context::Shared;
use super::messages::{LaneView, Message, Put};
use super::prepare::{Opened, Unseal, scope};
use super::running::Running;
use super::sender::{Ends, Queued, Sender};
use super::spec::{Scope, Spec};
use super::status::{STATES, State, Status};
use super::trouble::{Trouble, is_trouble};
use crate::destinations::Fault;
use crate::metrics::Metrics;
use crate::pace::Backoff;
use crate::time::now_ms;

/// How long changes are gathered after the first.
const GATHER: Duration = Duration::from_millis(20);

/// How often it is looked how forwarders stand.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often all values are added up for the metrics, in looks.
const ADD_UP_EVERY: u32 = 10;

/// The pause before a store that refused is asked again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Supervisor {
    pub directory: Directory,
    pub store: ForwarderStore,
    pub journal: Journal,
    pub inboxes: Vec<mpsc::Sender<Message>>,
    pub running: Arc<Mutex<HashMap<u64, Running>>>,
    pub shared: Arc<Shared>,
    pub unseal: Unseal,
    pub metrics: Metrics,
    pub queue_values: usize,
    pub max_dead_letters: u32,
    pub stopping: watch::Receiver<bool>,
    pub senders: JoinSet<()>,
    pub epoch: u64,
    pub troubles: mpsc::Sender<Trouble>,
    pub runtime: Handle,
}

impl Supervisor {
    pub async fn run(mut self, stored: Vec<StoredLane>) {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => {}
            () = self.follow(stored) => {}
        }
        while self.senders.join_next().await.is_some() {}
    }

    async fn follow(&mut self, stored: Vec<StoredLane>) {
        let mut changes = self.directory.subscribe();
        self.forget_deleted(&stored).await;
        self.settle().await;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count: u32 = 0;
        loop {
            let change = tokio::select! {
                _ = looks.tick() => {
                    self.look();
                    if count.is_multiple_of(ADD_UP_EVERY) {
                        self.add_up().await;
                    }
                    count = count.wrapping_add(1);
                    continue;
                }
                change = changes.recv() => change,
            };
            let mut is_settled = true;
            match change {
                Ok(change) => is_settled &= self.pass_on(change).await,
                Err(RecvError::Lagged(_)) => {
                    self.tell_all(|| Message::Places).await;
                    is_settled = false;
                }
                Err(RecvError::Closed) => return,
            }
            if !is_settled {
                tokio::time::sleep(GATHER).await;
                self.settle().await;
            }
        }
    }

    /// Tells partitions of a change that they must know of; false where it is a
    /// forwarder's.
    async fn pass_on(&self, change: Change) -> bool {
        let is_new = change.version == 1 && !change.deleted;
        match change.kind {
            DocumentKind::Forwarder => return false,
            // A device may have been met before its document could be seen.
            DocumentKind::Device => {
                let (device, is_gone) = (schema::DeviceId(change.id), change.deleted);
                self.tell_all(|| Message::Device { device, is_gone }).await;
            }
            DocumentKind::Location if !is_new => self.tell_all(|| Message::Places).await,
            _ => {}
        }
        true
    }

    async fn tell_all(&self, message: impl Fn() -> Message) {
        for inbox in &self.inboxes {
            // An error says that the partition's task has ended.
            let _ = inbox.send(message()).await;
        }
    }

    /// What a crash left of forwarders that were deleted.
    async fn forget_deleted(&self, stored: &[StoredLane]) {
        let ids: HashSet<u64> = stored.iter().map(|lane| lane.forwarder).collect();
        for id in ids {
            if self.directory.forwarder(id).is_none() {
                self.patiently(|| self.store.forget(id)).await;
            }
        }
    }

    /// Makes what runs what the documents say.
    async fn settle(&mut self) {
        let mut wanted: BTreeMap<u64, Arc<Entry<Forwarder>>> = BTreeMap::new();
        let mut query = ListQuery::default();
        loop {
            let page = self.directory.forwarders(&query);
            wanted.extend(page.items.into_iter().map(|entry| (entry.id, entry)));
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        let gone: Vec<u64> =
            self.lock().keys().filter(|id| !wanted.contains_key(*id)).copied().collect();
        for id in gone {
            self.end(id).await;
            self.patiently(|| self.store.forget(id)).await;
            self.tell_end_of_trouble(id);
            self.lock().remove(&id);
        }
        for entry in wanted.into_values() {
            let version = self.lock().get(&entry.id).map(|running| running.version);
            if version != Some(entry.version) {
                self.begin(&entry).await;
            }
        }
    }

    /// Begins a forwarder, or begins it anew as its document says now.
    async fn begin(&mut self, entry: &Entry<Forwarder>) {
        let id = entry.id;
        let partitions = self.partitions_of(entry);
        let is_elsewhere =
            self.lock().get(&id).is_some_and(|running| running.partitions != partitions);
        if !entry.enabled || is_elsewhere {
            self.end(id).await;
            self.patiently(|| self.store.rest(id)).await;
        }
        self.epoch += 1;
        let opened = Opened::of(entry, &self.unseal, self.shared.reach());
        let (status, queue, mut running) = self.new_running(entry, &opened, &partitions);
        if entry.enabled {
            let (queue_sender, queue_receiver) = queue;
            let (resends, resend_receiver) = mpsc::channel(1);
            let ends = Ends {
                queue: queue_receiver,
                resends: resend_receiver,
                partitions: self.inboxes.clone(),
                resumed: running.resume.subscribe(),
                stopping: self.stopping.clone(),
            };
            let before = self.lock().get_mut(&id).and_then(|running| running.stop.take());
            if let Some(before) = before {
                before.abort();
            }
            running.resends = resends;
            self.put(entry, &opened, queue_sender, &partitions).await;
            running.stop = Some(self.spawn(entry, opened, &status, ends));
        }
        if let Some(before) = self.lock().get(&id) {
            running.told = before.told;
        }
        self.lock().insert(id, running);
    }

    fn new_running(
        &self,
        entry: &Entry<Forwarder>,
        opened: &Result<Opened, Fault>,
        partitions: &[usize],
    ) -> (Arc<Status>, (mpsc::Sender<Queued>, mpsc::Receiver<Queued>), Running) {
        let (state, detail) = match opened {
            _ if !entry.enabled => (State::Disabled, None),
            _ if entry.paused => (State::Paused, Some("paused by a person".to_owned())),
            Err(fault) => (State::Paused, Some(format!("its settings are wrong: {fault}"))),
            Ok(_) => (State::Connecting, None),
        };
        let status = Arc::new(Status::new(state, detail));
        // As many messages as all lanes together may have values outstanding.
        let queue = mpsc::channel(self.queue_values.saturating_mul(partitions.len()).max(1));
        let running = Running {
            version: entry.version,
            tenant: entry.tenant,
            name: entry.name.clone(),
            status: Arc::clone(&status),
            resume: watch::Sender::new(0),
            resends: mpsc::channel(1).0,
            stop: None,
            partitions: if entry.enabled { partitions.to_vec() } else { Vec::new() },
            told: false,
        };
        (status, queue, running)
    }

    /// Gives each partition its lane.
    async fn put(
        &self,
        entry: &Entry<Forwarder>,
        opened: &Result<Opened, Fault>,
        queue: mpsc::Sender<Queued>,
        partitions: &[usize],
    ) {
        let id = entry.id;
        let has_lanes = self.lock().get(&id).is_some_and(|running| !running.partitions.is_empty());
        let number = |partition: &usize| PartitionId(u16::try_from(*partition).unwrap_or(u16::MAX));
        let mut places = match has_lanes {
            true => HashMap::new(),
            false => {
                let numbers: Vec<PartitionId> = partitions.iter().map(number).collect();
                self.places(id, &numbers).await
            }
        };
        let spec =
            Arc::new(Spec::new((id, entry.tenant, scope(entry)), entry, opened.as_ref().ok()));
        for partition in partitions {
            let put = Put {
                spec: Arc::clone(&spec),
                epoch: self.epoch,
                queue: queue.clone(),
                stored: places.remove(&number(partition)),
            };
            let _ = self.inboxes[*partition].send(Message::Put(Box::new(put))).await;
        }
    }

    /// The sender; for a forwarder that is paused, only somebody who keeps its
    /// queue.
    fn spawn(
        &mut self,
        entry: &Entry<Forwarder>,
        opened: Result<Opened, Fault>,
        status: &Arc<Status>,
        ends: Ends,
    ) -> AbortHandle {
        let runtime = self.runtime.clone();
        let sender = opened.ok().filter(|_| !entry.paused).and_then(|opened| {
            let context = self.shared.context(&opened.checked.account);
            let destination = opened.platform.open(&opened.config, &context).ok()?;
            Some(Sender {
                forwarder: entry.id,
                epoch: self.epoch,
                destination,
                batch: opened.checked.batch,
                account: context.account,
                status: Arc::clone(status),
                metrics: self.metrics.of_platform(opened.platform.name()),
                backoff: Backoff::default(),
                ends,
            })
        });
        match sender {
            Some(sender) => self.senders.spawn_on(sender.run(), &runtime),
            None => {
                let mut stopping = self.stopping.clone();
                let parked = async move {
                    let _ = stopping.wait_for(|stopping| *stopping).await;
                };
                self.senders.spawn_on(parked, &runtime)
            }
        }
    }

    /// Ends a forwarder's sender and takes its lanes away.
    async fn end(&self, id: u64) {
        let (stop, partitions) = {
            let mut running = self.lock();
            let Some(running) = running.get_mut(&id) else { return };
            (running.stop.take(), std::mem::take(&mut running.partitions))
        };
        if let Some(stop) = stop {
            stop.abort();
        }
        for partition in partitions {
            let (done, is_done) = oneshot::channel();
            let _ = self.inboxes[partition].send(Message::Remove { forwarder: id, done }).await;
            let _ = is_done.await;
        }
    }

    fn partitions_of(&self, forwarder: &Forwarder) -> Vec<usize> {
        let count = u16::try_from(self.inboxes.len()).unwrap_or(u16::MAX);
        match scope(forwarder) {
            Scope::Location(location) => {
                vec![usize::from(partition_of(forwarder.tenant, location, count).0)]
            }
            Scope::Group(_) | Scope::Tenant => (0..self.inboxes.len()).collect(),
        }
    }

    /// Tells others of forwarders whose trouble began or ended, and counts.
    fn look(&mut self) {
        while self.senders.try_join_next().is_some() {}
        let now_ms = now_ms();
        let mut counts: HashMap<State, i64> = HashMap::new();
        for (id, running) in self.lock().iter_mut() {
            let standing = running.status.standing();
            *counts.entry(standing.state).or_default() += 1;
            let is_trouble = is_trouble(&standing, running.told, now_ms);
            if is_trouble == running.told {
                continue;
            }
            let reason = is_trouble.then(|| standing.detail.unwrap_or_default());
            let trouble = Trouble {
                tenant: running.tenant,
                forwarder: *id,
                name: running.name.clone(),
                reason,
                at_ms: now_ms,
            };
            // A full channel is asked again at the next look.
            if self.troubles.try_send(trouble).is_ok() {
                running.told = is_trouble;
            }
        }
        for state in STATES {
            let count = counts.get(&state).copied().unwrap_or(0);
            self.metrics.forwarders.with_label_values(&[state.as_str()]).set(count);
        }
    }

    fn tell_end_of_trouble(&self, id: u64) {
        let running = self.lock();
        if let Some(running) = running.get(&id).filter(|running| running.told) {
            let (tenant, name) = (running.tenant, running.name.clone());
            let trouble = Trouble { tenant, forwarder: id, name, reason: None, at_ms: now_ms() };
            let _ = self.troubles.try_send(trouble);
        }
    }

    /// Adds up what became of all values.
    async fn add_up(&self) {
        let mut sums = [0_u64; 7];
        for view in views(&self.inboxes, None).await {
            let counts = view.counts;
            let suppressed = counts.same + counts.within_tolerance;
            let dropped = counts.settled() - counts.sent - suppressed - counts.dead_letters;
            let fates = [
                counts.selected,
                counts.sent,
                suppressed,
                view.outstanding as u64,
                counts.dead_letters,
                dropped,
                view.expired,
            ];
            for (sum, more) in sums.iter_mut().zip(fates) {
                *sum += more;
            }
        }
        for (fate, sum) in crate::metrics::VALUES_FATES.iter().zip(sums) {
            let sum = i64::try_from(sum).unwrap_or(i64::MAX);
            self.metrics.values.with_label_values(&[fate]).set(sum);
        }
    }

    /// Asks the store until it does as asked, or never will.
    pub(super) async fn patiently<T, F>(&self, ask: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, ForwarderStoreError>>,
    {
        loop {
            match ask().await {
                Ok(done) => return Some(done),
                Err(error) if error.is_retryable() => tokio::time::sleep(STORE_PAUSE).await,
                Err(error) => {
                    tracing::error!(%error, "the forwarders' store refused");
                    return None;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a forwarder, or each, stands in all partitions.
pub(super) async fn views(
    inboxes: &[mpsc::Sender<Message>],
    forwarder: Option<u64>,
) -> Vec<LaneView> {
    let mut asked = Vec::new();
    for inbox in inboxes {
        let (answer, answered) = oneshot::channel();
        if inbox.send(Message::View { forwarder, answer }).await.is_ok() {
            asked.push(answered);
        }
    }
    let mut views = Vec::new();
    for answered in asked {
        views.extend(answered.await.unwrap_or_default());
    }
    views
}
