//! The task that publishes what is durable, for all partitions of this node.

use std::collections::BTreeMap;
use std::time::Duration;

use journal::{OutletError, OutletMessage};
use schema::PartitionId;
use store::AlarmStore;
use store::alarms::{AlarmStoreError, EventRow, Published, PublishedPlace};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::handle::{LEAVE_PATIENCE, PublisherHandle, Word, words};
use super::lanes::{Lanes, Opened, Phase, Piece};
use super::metrics::Metrics;
use super::opening::{self, Found, Unopened};
use super::{
    HEADER_ID, HEADER_SCHEMA, HEADER_SEQUENCE, HEADER_TENANT, Publishing, TRANSITION_SCHEMA,
};

/// Transitions that are read at once.
const PAGE: usize = 500;

/// The least time between two looks at the store.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// How long partitions that are through wait for those that are not, so that they
/// are read for together.
const TOGETHER: Duration = Duration::from_millis(250);

/// How often the store is told how far it is published, at most. A crash costs
/// nothing by it, since the topic's last record goes before it.
const NOTE_EVERY: Duration = Duration::from_secs(2);

/// The pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often it is counted what waits, once something has waited for so long.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Up to how many are counted.
const MOST_COUNTED: usize = 1_000;

/// What was done beside the task.
#[derive(Debug)]
enum Done {
    Found(Result<Vec<Found>, AlarmStoreError>),
    Read {
        from: u64,
        latest: u64,
        leaving: Vec<(PartitionId, u64)>,
        page: Result<Page, AlarmStoreError>,
    },
    Sent {
        partition: PartitionId,
        epoch: u64,
        then: Published,
        count: usize,
        outcome: Result<(), OutletError>,
    },
    Noted {
        places: Vec<PublishedPlace>,
        others: Result<Vec<PartitionId>, AlarmStoreError>,
    },
    Counted(Result<Vec<EventRow>, AlarmStoreError>),
}

#[derive(Debug)]
struct Page {
    rows: Vec<EventRow>,
    /// Who had which partition after that; not asked where there are no rows.
    epochs: Vec<(PartitionId, u64)>,
}

/// All up to `target` is to be published; the oldest of it has waited since `since`.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    target: u64,
    since: Instant,
    /// When `target` was the last that was known.
    seen: Instant,
}

/// Someone who gives a partition away.
#[derive(Debug)]
struct Leaver {
    done: oneshot::Sender<()>,
    until: Instant,
}

pub(crate) struct Publisher {
    store: AlarmStore,
    publishing: Publishing,
    metrics: Metrics,
    words: mpsc::Receiver<Word>,
    latest: watch::Receiver<u64>,
    lanes: Lanes,
    jobs: JoinSet<Done>,
    sending: BTreeMap<PartitionId, AbortHandle>,
    leavers: BTreeMap<PartitionId, Leaver>,
    waiting: Option<Waiting>,
    is_opening: bool,
    is_reading: bool,
    is_noting: bool,
    is_counting: bool,
    open_at: Instant,
    read_at: Instant,
    together_until: Instant,
    note_at: Instant,
    count_at: Instant,
}

impl Publisher {
    pub fn new(
        store: &AlarmStore,
        publishing: Publishing,
        partitions: u16,
        registry: &prometheus::Registry,
    ) -> Result<(Self, PublisherHandle), prometheus::Error> {
        let (handle, words) = words();
        let now = Instant::now();
        let publisher = Self {
            store: store.clone(),
            publishing,
            metrics: Metrics::register(registry)?,
            words,
            latest: store.latest_event(),
            lanes: Lanes::new(partitions),
            jobs: JoinSet::new(),
            sending: BTreeMap::new(),
            leavers: BTreeMap::new(),
            waiting: None,
            is_opening: false,
            is_reading: false,
            is_noting: false,
            is_counting: false,
            open_at: now,
            read_at: now,
            together_until: now,
            note_at: now,
            count_at: now,
        };
        Ok((publisher, handle))
    }

    /// Publishes until all who could give it a partition are gone. It waits for
    /// words, for events and for what it has begun; while all is published nothing
    /// is looked at.
    pub async fn run(mut self) {
        loop {
            self.let_go_of_left().await;
            let wake_at = self.begin_due();
            tokio::select! {
                word = self.words.recv() => match word {
                    Some(word) => self.hear(word).await,
                    None => break,
                },
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.take(done).await,
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => {
                        tracing::error!(%error, "publishing of transitions failed and begins anew");
                        self.begin_anew().await;
                    }
                },
                // The store is there for longer than this.
                Ok(()) = self.latest.changed() => {}
                () = sleep_until(wake_at) => {}
            }
        }
        self.jobs.shutdown().await;
    }

    async fn hear(&mut self, word: Word) {
        match word {
            Word::Enter(partition, epoch) => {
                self.let_go(partition).await;
                self.lanes.enter(partition, epoch);
                self.open_at = Instant::now();
            }
            Word::Leave(partition, done) => {
                if !self.lanes.leave(partition) {
                    // It went before, or never came: there is nothing to wait for.
                    let _ = done.send(());
                    return;
                }
                let until = Instant::now() + LEAVE_PATIENCE;
                self.leavers.insert(partition, Leaver { done, until });
            }
        }
    }

    /// Begins what is due, and says when something else will be.
    fn begin_due(&mut self) -> Instant {
        let now = Instant::now();
        let mut wake_at = now + Duration::from_secs(3_600);
        let mut is_due = |at: Instant| {
            if at > now {
                wake_at = wake_at.min(at);
            }
            at <= now
        };
        let latest = *self.latest.borrow_and_update();
        let (opening, to_note) = (self.lanes.opening(), self.lanes.to_note());
        let is_leaving = !self.leavers.is_empty();
        let opens = !self.is_opening && !opening.is_empty() && is_due(self.open_at);
        let wants = self.lanes.wants(latest).filter(|_| !self.is_reading);
        let reads = wants.filter(|_| {
            is_due(self.read_at) && (!self.lanes.is_sending() || is_due(self.together_until))
        });
        let notes = !self.is_noting && !to_note.is_empty() && (is_leaving || is_due(self.note_at));
        self.look_at_waiting(latest, now);
        let counts = self.waiting.is_some() && !self.is_counting && is_due(self.count_at);
        if self.waiting.is_some() {
            is_due(now + Duration::from_secs(1));
        }
        for leaver in self.leavers.values() {
            is_due(leaver.until);
        }
        if opens {
            self.find(opening);
        }
        if let Some(from) = reads {
            self.read(from, latest, now);
        }
        if notes {
            self.note(to_note);
        }
        if counts {
            self.count();
        }
        wake_at
    }

    /// Says how long what is not published has waited.
    fn look_at_waiting(&mut self, latest: u64, now: Instant) {
        if let Some(waiting) = self.waiting
            && self.lanes.have(waiting.target)
        {
            // What came behind it came since.
            let (target, since) = (latest, waiting.seen);
            let is_all = self.lanes.have(latest);
            self.waiting = (!is_all).then_some(Waiting { target, since, seen: now });
        } else if self.waiting.is_none() && !self.lanes.have(latest) {
            self.waiting = Some(Waiting { target: latest, since: now, seen: now });
            self.count_at = now + RETRY;
        }
        let waited = self.waiting.map(|waiting| now.duration_since(waiting.since));
        self.metrics.oldest.set(waited.unwrap_or_default().as_secs_f64());
        let on_their_way = i64::try_from(self.lanes.on_their_way()).unwrap_or(i64::MAX);
        if waited.is_none_or(|waited| waited < RETRY) || on_their_way > self.metrics.behind.get() {
            self.metrics.behind.set(on_their_way);
        }
    }

    fn find(&mut self, opening: Vec<(PartitionId, u64)>) {
        self.is_opening = true;
        let (store, outlet) = (self.store.clone(), self.publishing.outlet.clone());
        self.jobs.spawn(async move { Done::Found(opening::find(&store, &outlet, opening).await) });
    }

    fn read(&mut self, from: u64, latest: u64, now: Instant) {
        self.is_reading = true;
        self.read_at = now + LOOK_PAUSE;
        let (store, leaving) = (self.store.clone(), self.lanes.leaving());
        self.jobs.spawn(async move {
            let page = page(&store, from).await;
            Done::Read { from, latest, leaving, page }
        });
    }

    fn send(&mut self, piece: Piece) {
        let Piece { partition, epoch, transitions, end } = piece;
        let Publishing { outlet, render } = self.publishing.clone();
        let job = self.jobs.spawn(async move {
            let count = transitions.len();
            let last = transitions.last().map_or(end, |transition| transition.sequence);
            let then = Published { sequence: end, last };
            let messages = transitions.iter().map(|it| message(it, render(it))).collect();
            let outcome = outlet.publish(partition, messages).await;
            Done::Sent { partition, epoch, then, count, outcome }
        });
        self.sending.insert(partition, job);
    }

    fn note(&mut self, places: Vec<PublishedPlace>) {
        self.is_noting = true;
        let (store, topic) = (self.store.clone(), self.publishing.outlet.topic().to_owned());
        self.jobs.spawn(async move {
            let others = store.set_published(&topic, places.clone()).await;
            Done::Noted { places, others }
        });
    }

    fn count(&mut self) {
        let Some(from) = self.lanes.least() else { return };
        self.is_counting = true;
        let store = self.store.clone();
        self.jobs
            .spawn(async move { Done::Counted(store.transitions_after(from, MOST_COUNTED).await) });
    }

    async fn take(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Found(found) => {
                self.is_opening = false;
                self.open_at = now + RETRY;
                self.take_found(found);
            }
            Done::Read { from, latest, leaving, page } => {
                self.is_reading = false;
                self.take_read(from, latest, &leaving, page).await;
            }
            Done::Sent { partition, epoch, then, count, outcome } => {
                self.sending.remove(&partition);
                self.take_sent((partition, epoch), then, count, outcome);
            }
            Done::Noted { places, others } => {
                self.is_noting = false;
                self.note_at = now + NOTE_EVERY;
                self.take_noted(&places, others).await;
            }
            Done::Counted(rows) => {
                self.is_counting = false;
                self.count_at = now + COUNT_EVERY;
                if let Ok(rows) = rows {
                    let count = rows.iter().filter(|row| self.lanes.lack(row)).count();
                    self.metrics.behind.set(i64::try_from(count).unwrap_or(i64::MAX));
                }
            }
        }
    }

    fn take_found(&mut self, found: Result<Vec<Found>, AlarmStoreError>) {
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.again(&error, "the store does not say what is published"),
        };
        for Found { partition, epoch, stored, ends_with } in found {
            self.lanes.note_stored(partition, epoch, stored);
            match ends_with {
                Ok(ends_with) => match self.lanes.open(partition, epoch, ends_with) {
                    Opened::Yes => {}
                    Opened::Doubted => self.metrics.retries.inc(),
                    Opened::Lost => tracing::error!(
                        %partition, ?ends_with, had = stored.last,
                        "the topic has lost transitions that it had; they are published again"
                    ),
                },
                Err(Unopened::Unknown(reason)) => {
                    let what = "it is not known yet what is published of a partition";
                    tracing::warn!(%partition, reason, "{what}");
                    self.metrics.retries.inc();
                }
                Err(reason) => {
                    tracing::error!(%partition, %reason, "transitions of a partition are not published");
                    self.lanes.stop(partition, epoch);
                }
            }
        }
    }

    async fn take_read(
        &mut self,
        from: u64,
        latest: u64,
        leaving: &[(PartitionId, u64)],
        page: Result<Page, AlarmStoreError>,
    ) {
        let Page { rows, epochs } = match page {
            Ok(page) => page,
            Err(error) => {
                self.read_at = Instant::now() + RETRY;
                return self.again(&error, "transitions cannot be read");
            }
        };
        // A node that stood still for a while does not know it otherwise.
        for partition in self.lanes.lost(&epochs) {
            self.let_go_to_another(partition).await;
        }
        let last = rows.last().map_or(from, |row| row.sequence);
        let is_all = rows.len() < PAGE;
        let end = if is_all { last.max(latest) } else { last };
        let looked_for = if is_all { leaving } else { &[] };
        for piece in self.lanes.divide(from, rows, end, looked_for) {
            self.send(piece);
        }
        self.together_until = Instant::now() + TOGETHER;
    }

    fn take_sent(
        &mut self,
        (partition, epoch): (PartitionId, u64),
        then: Published,
        count: usize,
        outcome: Result<(), OutletError>,
    ) {
        match outcome {
            Ok(()) => {
                self.metrics.published.inc_by(count as u64);
                self.lanes.sent(partition, epoch, then);
            }
            Err(error @ OutletError::Hole(_)) => {
                tracing::error!(%partition, %error, "transitions of a partition are not published");
                self.lanes.stop(partition, epoch);
            }
            Err(error) => {
                self.again(&error, "publishing transitions of a partition was interrupted");
                self.lanes.reopen(partition, epoch);
            }
        }
    }

    async fn take_noted(
        &mut self,
        places: &[PublishedPlace],
        others: Result<Vec<PartitionId>, AlarmStoreError>,
    ) {
        let others = match others {
            Ok(others) => others,
            Err(error) => return self.again(&error, "it is not noted what is published"),
        };
        for PublishedPlace { partition, epoch, published } in places {
            if others.contains(partition) {
                self.let_go_to_another(*partition).await;
            } else {
                self.lanes.note_stored(*partition, *epoch, *published);
            }
        }
    }

    fn again(&self, error: &dyn std::error::Error, what: &str) {
        tracing::warn!(error = %error, "{what}; it is tried again");
        self.metrics.retries.inc();
    }

    /// Lets go of partitions that are given away: where all is done, and where it
    /// has taken too long.
    async fn let_go_of_left(&mut self) {
        if self.leavers.is_empty() {
            return;
        }
        let (left, to_note) = (self.lanes.left(), self.lanes.to_note());
        let now = Instant::now();
        let is_done = |(partition, leaver): (&PartitionId, &Leaver)| {
            let is_noted = to_note.iter().all(|place| place.partition != *partition);
            (leaver.until <= now || left.contains(partition) && is_noted).then_some(*partition)
        };
        let done: Vec<PartitionId> = self.leavers.iter().filter_map(is_done).collect();
        for partition in done {
            self.let_go(partition).await;
        }
    }

    async fn let_go_to_another(&mut self, partition: PartitionId) {
        tracing::warn!(%partition, "another node publishes the transitions of a partition");
        self.let_go(partition).await;
    }

    /// Publishes nothing of the partition any more. What is on its way may get
    /// there all the same; then it is what its next owner finds, or publishes again.
    async fn let_go(&mut self, partition: PartitionId) {
        let phase = self.lanes.remove(partition);
        if let Some(job) = self.sending.remove(&partition) {
            job.abort();
        }
        if matches!(phase, Some(Phase::Sending(_))) {
            tracing::warn!(%partition, "a partition is given away while transitions are on their way");
            self.publishing.outlet.give_up().await;
        }
        if let Some(leaver) = self.leavers.remove(&partition) {
            // Who gives it away may have lost patience.
            let _ = leaver.done.send(());
        }
        if self.lanes.is_empty() {
            self.metrics.behind.set(0);
        }
    }

    async fn begin_anew(&mut self) {
        self.jobs.shutdown().await;
        self.sending.clear();
        self.publishing.outlet.give_up().await;
        (self.is_opening, self.is_reading) = (false, false);
        (self.is_noting, self.is_counting) = (false, false);
        self.lanes.reopen_all();
        self.open_at = Instant::now() + RETRY;
    }
}

async fn page(store: &AlarmStore, from: u64) -> Result<Page, AlarmStoreError> {
    let rows = store.transitions_after(from, PAGE).await?;
    let epochs = if rows.is_empty() { Vec::new() } else { store.epochs().await? };
    Ok(Page { rows, epochs })
}

fn message(transition: &EventRow, value: Vec<u8>) -> OutletMessage {
    let alarm = transition.alarm.map(|id| id.to_string());
    let tenant = transition.tenant.map(|id| id.to_string());
    OutletMessage {
        key: alarm.unwrap_or_default(),
        headers: vec![
            (HEADER_ID, transition.id.to_string()),
            (HEADER_TENANT, tenant.unwrap_or_default()),
            (HEADER_SEQUENCE, transition.sequence.to_string()),
            (HEADER_SCHEMA, TRANSITION_SCHEMA.to_string()),
        ],
        value,
    }
}
