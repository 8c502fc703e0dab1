//! One partition's batcher: submissions in, journal records out, completions back.
//!
//! It never lingers while the journal is idle: a lone message is a record of its
//! own, at once. While the journal has a record of the partition in hand, what
//! comes gathers until that one is durable or there are rows enough for another
//! one beside it. So a fleet that sends one message here and one there pays for
//! a record per fsync, and not for one per message, and records grow by
//! themselves when the journal is what limits.

use std::sync::{Arc, OnceLock};

use journal::{Journal, Pending};
use schema::{LocalKey, Origin, PartitionId, Record, RecordBuilder, RecordKind, RouterId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::metrics::PartitionMetrics;
use super::submitter::{Queued, Waiter};
use super::{BatchOptions, KeyId, KeyTable, SubmitError};

/// The most submissions gathered in one go, so that a runtime thread is not
/// kept for more than about a millisecond.
const MAX_GATHERED: usize = 1_024;

#[derive(Debug)]
pub(super) struct Batcher {
    journal: Journal,
    partition: PartitionId,
    options: BatchOptions,
    keys: KeyTable,
    metrics: PartitionMetrics,
    /// The key table's names as far as they were needed, read without a lock.
    names: Vec<Arc<str>>,
    /// The record being built of each kind.
    open: [Open; 3],
    closed: Vec<Closed>,
}

/// A record being built.
#[derive(Debug)]
struct Open {
    builder: RecordBuilder,
    /// Each key's place in this record, by [`KeyId`]; of another record unless
    /// the stamp is this record's.
    places: Vec<Option<(u64, LocalKey)>>,
    stamp: u64,
    /// Whose rows the record holds, one for each submission.
    routers: Vec<RouterId>,
    /// The submissions that end in this record.
    waiters: Vec<Pair>,
}

/// A submission's waiter, and where an earlier part of it reports a failure.
#[derive(Debug)]
struct Pair {
    waiter: Waiter,
    earlier: Option<Failure>,
}

type Failure = Arc<OnceLock<SubmitError>>;

/// A record ready for the journal.
#[derive(Debug)]
struct Closed {
    record: Record,
    waiters: Vec<Pair>,
    /// Where to report if this record fails and a submission goes on in the next.
    goes_on: Option<Failure>,
}

/// A record that the journal has in hand.
struct InFlight {
    pending: Pending,
    waiters: Vec<Pair>,
    goes_on: Option<Failure>,
    _place: OwnedSemaphorePermit,
}

/// From the gathering half of the task to the completing one.
struct Handing<'a> {
    records: mpsc::Sender<InFlight>,
    /// How many records the journal has in hand.
    in_hand: &'a watch::Sender<usize>,
}

impl Batcher {
    pub(super) fn new(
        journal: Journal,
        partition: PartitionId,
        options: BatchOptions,
        keys: KeyTable,
        metrics: PartitionMetrics,
    ) -> Self {
        let open =
            [RecordKind::Readings, RecordKind::ClientAttributes, RecordKind::SharedAttributes]
                .map(Open::new);
        let (names, closed) = (Vec::new(), Vec::new());
        Self { journal, partition, options, keys, metrics, names, open, closed }
    }

    /// Runs until `closing` says so and all submissions taken are answered.
    pub(super) async fn run(
        self,
        submissions: mpsc::Receiver<Queued>,
        closing: watch::Receiver<bool>,
    ) {
        let metrics = self.metrics.clone();
        let (records, in_flight) = mpsc::channel(self.options.max_records_in_flight);
        let in_hand = watch::Sender::new(0);
        let gather = self.gather(submissions, closing, Handing { records, in_hand: &in_hand });
        tokio::join!(gather, complete(in_flight, &in_hand, metrics));
    }

    async fn gather(
        mut self,
        mut submissions: mpsc::Receiver<Queued>,
        mut closing: watch::Receiver<bool>,
        handing: Handing<'_>,
    ) {
        let places = Arc::new(Semaphore::new(self.options.max_records_in_flight));
        let mut idle = handing.in_hand.subscribe();
        let mut gathered = Vec::new();
        loop {
            // First a place for the record, so that it gathers all that comes meanwhile.
            let mut place = Some(take_place(&places).await);
            let mut rows = 0;
            loop {
                let before = gathered.len();
                tokio::select! {
                    biased;
                    count = submissions.recv_many(&mut gathered, MAX_GATHERED) => {
                        if count == 0 && gathered.is_empty() {
                            return;
                        }
                        rows += gathered[before..].iter().map(Queued::rows).sum::<usize>();
                        if count == 0 || rows >= self.options.pipelined_rows {
                            break;
                        }
                    }
                    // An error can't be: the sender stands in the caller.
                    _ = idle.wait_for(|in_hand| *in_hand == 0), if !gathered.is_empty() => break,
                    // An error means that nobody is left to submit anything.
                    _ = closing.wait_for(|closing| *closing), if !submissions.is_closed() => {
                        submissions.close();
                    }
                }
            }
            for queued in gathered.drain(..) {
                self.add(queued);
            }
            self.close_all();
            for closed in std::mem::take(&mut self.closed) {
                let place = match place.take() {
                    Some(place) => place,
                    None => take_place(&places).await,
                };
                self.hand_over(closed, place, &handing).await;
            }
        }
    }

    fn add(&mut self, queued: Queued) {
        let Queued { submission, waiter } = queued;
        let kind = index(submission.kind);
        let router = submission.router;
        // What one router sends of several kinds stays in the order it was sent.
        let elsewhere = |open: &Open| open.routers.contains(&router);
        if self.open.iter().enumerate().any(|(other, open)| other != kind && elsewhere(open)) {
            self.close_all();
        }
        let mut earlier: Option<Failure> = None;
        self.open[kind].routers.push(router);
        for row in submission.rows.as_slice() {
            let open = &mut self.open[kind];
            if open.builder.len() >= self.options.max_record_rows
                || open.builder.size_bytes() >= self.options.max_record_bytes
            {
                let failure = earlier.get_or_insert_default();
                self.closed.push(open.close(Some(Arc::clone(failure))));
                open.routers.push(router);
            }
            if row.key.index() >= self.names.len() {
                self.keys.extend_names(&mut self.names);
                self.metrics.keys.set(i64::try_from(self.names.len()).unwrap_or(i64::MAX));
            }
            let key = open.key(row.key, &self.names);
            let origin = Origin { tenant: submission.tenant, router, device: row.device };
            let value = submission.rows.value(row);
            open.builder
                .push(origin, key, row.observed_at, submission.received_at, value)
                .expect("a record is closed before it is full");
        }
        self.open[kind].waiters.push(Pair { waiter, earlier });
    }

    fn close_all(&mut self) {
        for open in &mut self.open {
            if !open.builder.is_empty() {
                self.closed.push(open.close(None));
            }
        }
    }

    async fn hand_over(&self, closed: Closed, place: OwnedSemaphorePermit, handing: &Handing<'_>) {
        let Closed { record, waiters, goes_on } = closed;
        self.metrics.records.inc();
        self.metrics.rows.inc_by(u64::from(record.rows));
        self.metrics.record_rows.observe(f64::from(record.rows));
        match self.journal.submit(self.partition, record).await {
            Ok(pending) => {
                let in_flight = InFlight { pending, waiters, goes_on, _place: place };
                handing.in_hand.send_modify(|in_hand| *in_hand += 1);
                let sent = handing.records.send(in_flight).await;
                assert!(sent.is_ok(), "the other half of this task takes records until we end");
            }
            Err(error) => answer(waiters, goes_on.as_ref(), &Err(error.into()), &self.metrics),
        }
    }
}

impl Open {
    fn new(kind: RecordKind) -> Self {
        Self {
            builder: RecordBuilder::new(kind),
            places: Vec::new(),
            stamp: 1,
            routers: Vec::new(),
            waiters: Vec::new(),
        }
    }

    fn key(&mut self, id: KeyId, names: &[Arc<str>]) -> LocalKey {
        let index = id.index();
        if index >= self.places.len() {
            self.places.resize(names.len(), None);
        }
        if let Some((stamp, place)) = self.places[index]
            && stamp == self.stamp
        {
            return place;
        }
        let place = self.builder.key(&names[index]).expect("no more keys than rows");
        self.places[index] = Some((self.stamp, place));
        place
    }

    fn close(&mut self, goes_on: Option<Failure>) -> Closed {
        self.stamp += 1;
        self.routers.clear();
        let waiters = std::mem::take(&mut self.waiters);
        Closed { record: self.builder.finish(), waiters, goes_on }
    }
}

fn index(kind: RecordKind) -> usize {
    match kind {
        RecordKind::Readings => 0,
        RecordKind::ClientAttributes => 1,
        RecordKind::SharedAttributes => 2,
        RecordKind::Commands => unreachable!("refused when it was submitted"),
    }
}

async fn take_place(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(places).acquire_owned().await.expect("the places are never closed")
}

/// Answers submissions in the order of their records.
async fn complete(
    mut in_flight: mpsc::Receiver<InFlight>,
    in_hand: &watch::Sender<usize>,
    metrics: PartitionMetrics,
) {
    while let Some(InFlight { pending, waiters, goes_on, _place }) = in_flight.recv().await {
        let result = pending.await.map(drop).map_err(SubmitError::from);
        in_hand.send_modify(|in_hand| *in_hand -= 1);
        if let Some(first) = waiters.first() {
            metrics.durable_seconds.observe(first.waiter.since.elapsed().as_secs_f64());
        }
        answer(waiters, goes_on.as_ref(), &result, &metrics);
    }
}

fn answer(
    waiters: Vec<Pair>,
    goes_on: Option<&Failure>,
    result: &Result<(), SubmitError>,
    metrics: &PartitionMetrics,
) {
    if let (Some(failure), Err(error)) = (goes_on, result) {
        failure.get_or_init(|| error.clone());
    }
    let mut bytes = 0;
    for Pair { waiter, earlier } in waiters {
        let Waiter { done, room, .. } = waiter;
        bytes += room.num_permits();
        let of_earlier = earlier.as_ref().and_then(|failure| failure.get());
        let result = of_earlier.map_or_else(|| result.clone(), |error| Err(error.clone()));
        metrics.failed.inc_by(u64::from(result.is_err()));
        // A session that has gone needs no answer.
        done.send(result).unwrap_or_default();
    }
    metrics.queue_bytes.sub(i64::try_from(bytes).unwrap_or(i64::MAX));
}
