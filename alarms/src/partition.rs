//! The owner of one partition: takes it over, replays, and goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alarm_core::{Engine, EngineOptions, RestoreError, Tally};
use journal::{Entry, Journal, ReadError, Reader};
use schema::{Cause, PartitionId, Position, Transition, TransitionKind};
use store::alarms::{AlarmStoreError, Claim, Commit, NewNotice, Tick};
use store::{AlarmStore, Directory};
use tokio::sync::watch;

use crate::apply::{Acquaintance, ApplyError, apply};
use crate::audience::Audience;
use crate::clock::now;
use crate::limits::TenantLimits;
use crate::metrics::PartitionMetrics;
use crate::transitions::PublisherHandle;
use crate::workers::{AlarmOptions, Progress};

/// The name under which the journal keeps what the workers still need.
const READER_NAME: &str = "alarms";

/// A snapshot is made at most this share of the time: the pause behind one is
/// so many times as long as it took.
const SNAPSHOT_PAUSE: u32 = 20;

/// How long after a commit the next one begins at the earliest, so that a busy
/// partition writes what came of several records together. The first transition
/// after a pause is committed at once.
const COMMIT_PACE: Duration = Duration::from_millis(8);

/// The same where nothing came but that alarms are true again: they are as many
/// as the readings of an alarm, nobody is told of them, and only the last is kept.
const UPDATE_PACE: Duration = Duration::from_millis(100);

/// Transitions that are gathered for one commit, about; more are committed
/// without regard to the pace.
const MAX_GATHERED_TRANSITIONS: usize = 4_096;

/// Why a partition stopped; each wants a person.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StopReason {
    #[error("the journal can't be read: {0}")]
    Read(#[from] ReadError),
    #[error("record {position}: {source}")]
    Apply { position: Position, source: ApplyError },
    #[error("the store refused: {0}")]
    Store(#[from] AlarmStoreError),
    #[error("the snapshot can't be taken back: {0}")]
    Restore(#[from] RestoreError),
    #[error(
        "the alarms stand at {committed}, behind the journal's end at {next}: the journal was replaced"
    )]
    JournalBehind { committed: Position, next: Position },
}

impl StopReason {
    /// Another node has claimed the partition, and goes on with it.
    fn is_taken_over(&self) -> bool {
        matches!(self, Self::Store(AlarmStoreError::Fenced { .. }))
    }
}

/// What a worker stands on.
#[derive(Debug)]
pub(crate) struct PartitionWorker {
    pub journal: Journal,
    pub directory: Directory,
    pub store: AlarmStore,
    pub partition: PartitionId,
    pub options: AlarmOptions,
    pub progress: watch::Sender<Progress>,
    pub stopping: watch::Receiver<bool>,
    pub metrics: PartitionMetrics,
    /// Where transitions are published for others.
    pub publisher: Option<PublisherHandle>,
}

/// The partition while it is owned.
struct Owned {
    epoch: u64,
    engine: Engine,
    devices: Acquaintance,
    audience: Audience,
    /// The next record to apply.
    position: Position,
    committed: Position,
    transitions: Vec<Transition>,
    /// How many of them were looked at, and whether one of those tells something.
    looked_at: usize,
    is_telling: bool,
    ticks: Vec<Tick>,
    tally: Tally,
    committed_at: Instant,
    snapshot_at: Instant,
    snapshot_took: Duration,
    rows_since_snapshot: u64,
    /// Somebody may wait for the position.
    awaited: bool,
    limits: TenantLimits,
}

impl Owned {
    /// Notes whether a transition that came since tells more than that an alarm
    /// is true again.
    fn look_at_new(&mut self) {
        let new = &self.transitions[self.looked_at..];
        self.is_telling |=
            new.iter().any(|new| !matches!(new.kind, TransitionKind::Updated { .. }));
        self.looked_at = self.transitions.len();
    }
}

impl PartitionWorker {
    /// Runs until it is stopped, or stops itself loudly.
    pub async fn run(mut self) {
        self.progress.send_modify(|progress| (progress.is_owned, progress.stopped) = (true, None));
        if let Err(reason) = self.own().await {
            self.stay_stopped(&reason).await;
        }
        if let Some(publisher) = &self.publisher {
            publisher.leave(self.partition).await;
        }
        self.progress.send_modify(|progress| (progress.is_owned, progress.stopped) = (false, None));
        self.journal.let_go(READER_NAME, self.partition);
        self.metrics.forget();
    }

    /// Tells why it stopped until the partition is another's.
    async fn stay_stopped(&mut self, reason: &StopReason) {
        let partition = self.partition;
        if reason.is_taken_over() {
            tracing::warn!(%partition, %reason, "another node evaluates the partition");
            if let Some(publisher) = &self.publisher {
                publisher.leave(partition).await;
            }
        } else {
            tracing::error!(%partition, %reason, "the alarm worker of a partition stopped");
            self.metrics.stopped.inc();
        }
        self.progress.send_modify(|progress| progress.stopped = Some(reason.to_string()));
        // Whoever sends may be gone, which is the end as well.
        let _ = self.stopping.wait_for(|is_stopping| *is_stopping).await;
        if !reason.is_taken_over() {
            self.metrics.stopped.dec();
        }
    }

    async fn own(&mut self) -> Result<(), StopReason> {
        let claim = self.claim().await?;
        if let Some(publisher) = &self.publisher {
            publisher.enter(self.partition, claim.epoch).await;
        }
        let Some((mut owned, mut reader)) = self.take_over(claim).await? else { return Ok(()) };
        owned.limits.begin(&mut owned.engine);
        self.publish(&mut owned);
        while !*self.stopping.borrow() {
            let mut records = 0;
            while records < self.options.max_batch_records {
                let Some(entry) = reader.try_next()? else { break };
                self.apply(&mut owned, &entry)?;
                records += 1;
            }
            if records == 0 {
                self.tick(&mut owned);
            }
            owned.look_at_new();
            if self.is_commit_due(&owned) {
                self.commit(&mut owned).await?;
            }
            if owned.limits.due() <= tokio::time::Instant::now() {
                owned.limits.look(&owned.engine).await;
            }
            if records > 0 {
                // Other partitions share the threads.
                tokio::task::yield_now().await;
                continue;
            }
            let pause = self.pause(&owned);
            tokio::select! {
                entry = reader.next() => self.apply(&mut owned, &entry?)?,
                () = tokio::time::sleep(pause) => {}
                // The sender lives as long as the workers.
                _ = self.stopping.changed() => {}
            }
        }
        owned.rows_since_snapshot = u64::MAX;
        owned.snapshot_took = Duration::ZERO;
        self.commit(&mut owned).await
    }

    async fn claim(&mut self) -> Result<Claim, StopReason> {
        loop {
            match self.store.claim(self.partition).await {
                Err(error) if error.is_retryable() && !*self.stopping.borrow() => {
                    tracing::warn!(%error, "claiming a partition is tried again");
                    tokio::time::sleep(Duration::from_millis(self.options.retry_ms)).await;
                }
                other => return Ok(other?),
            }
        }
    }

    /// Restores the snapshot and replays up to what is committed, telling
    /// nothing. None when it was stopped before the end.
    async fn take_over(&mut self, claim: Claim) -> Result<Option<(Owned, Reader)>, StopReason> {
        let partition = Some(self.partition);
        let options =
            EngineOptions { grace_ms: self.options.grace_ms, partition, gathers_updates: true };
        let oldest = self.journal.bounds(self.partition).oldest;
        let (engine, from) = match &claim.snapshot {
            Some(snapshot) => (Engine::restore(options, &snapshot.bytes)?, snapshot.position),
            // A partition whose alarms begin today begins at what is kept.
            None if claim.position == Position(0) => (Engine::new(options), oldest),
            None => (Engine::new(options), Position(0)),
        };
        let Some(mut reader) = self.reader(from, claim.position).await? else { return Ok(None) };
        self.journal.hold(READER_NAME, self.partition, from);
        let tally = engine.tally();
        let mut owned = Owned {
            epoch: claim.epoch,
            engine,
            devices: Acquaintance::new(self.directory.clone(), claim.met, claim.position),
            audience: Audience::new(self.directory.clone(), self.store.clone()),
            position: from,
            committed: claim.position,
            transitions: Vec::new(),
            looked_at: 0,
            is_telling: false,
            ticks: Vec::new(),
            tally,
            committed_at: Instant::now(),
            snapshot_at: Instant::now(),
            snapshot_took: Duration::ZERO,
            rows_since_snapshot: 0,
            awaited: false,
            limits: TenantLimits::new(self.journal.clone(), self.store.clone()),
        };
        let mut ticks = claim.ticks.iter().peekable();
        loop {
            while let Some(tick) = ticks.next_if(|tick| tick.position <= owned.position) {
                owned.engine.advance(tick.clock, &mut owned.transitions);
            }
            owned.transitions.clear();
            if owned.position >= claim.position {
                break;
            }
            if *self.stopping.borrow() {
                return Ok(None);
            }
            let Some(entry) = reader.next_durable().await? else {
                return Err(StopReason::JournalBehind {
                    committed: claim.position,
                    next: owned.position,
                });
            };
            self.apply(&mut owned, &entry)?;
            if owned.position.0.is_multiple_of(64) {
                tokio::task::yield_now().await;
            }
        }
        owned.committed = owned.committed.max(owned.position);
        // Where nothing was ever committed the position is the journal's start.
        owned.committed = if claim.position == Position(0) { Position(0) } else { owned.committed };
        Ok(Some((owned, reader)))
    }

    /// None when it was stopped while it waited for the journal.
    async fn reader(
        &mut self,
        from: Position,
        committed: Position,
    ) -> Result<Option<Reader>, StopReason> {
        let opening = self.journal.reader_from(self.partition, from, committed);
        tokio::select! {
            opened = opening => match opened {
                Ok(reader) => Ok(Some(reader)),
                Err(ReadError::Ahead { next, .. }) if committed > next => {
                    Err(StopReason::JournalBehind { committed, next })
                }
                Err(error) => Err(error.into()),
            },
            _ = self.stopping.wait_for(|is_stopping| *is_stopping) => Ok(None),
        }
    }

    fn apply(&self, owned: &mut Owned, entry: &Entry) -> Result<(), StopReason> {
        let position = entry.position;
        let applied = apply(&mut owned.engine, &mut owned.devices, entry, &mut owned.transitions)
            .map_err(|source| StopReason::Apply { position, source })?;
        owned.position = position.next();
        owned.rows_since_snapshot = owned.rows_since_snapshot.saturating_add(applied.rows);
        owned.awaited |= applied.commands;
        self.metrics.unknown_device.inc_by(applied.unknown_device);
        Ok(())
    }

    /// Lets the wall clock move a partition to which nothing comes. The move is
    /// kept, so that a replay makes it at the same place.
    fn tick(&self, owned: &mut Owned) {
        let clock = now();
        if owned.engine.next_deadline().is_some_and(|due| due <= clock) {
            owned.engine.advance(clock, &mut owned.transitions);
            owned.ticks.push(Tick { position: owned.position, clock });
        }
    }

    /// How long nothing can become due.
    fn pause(&self, owned: &Owned) -> Duration {
        let idle = Duration::from_millis(self.options.idle_ms);
        let longest = self.commit_wait(owned).map_or(idle, |wait| wait.min(idle));
        let until_due = owned.engine.next_deadline().map_or(idle, |due| {
            Duration::from_millis(u64::try_from(due.0.saturating_sub(now().0)).unwrap_or(0))
        });
        let until_limits =
            owned.limits.due().saturating_duration_since(tokio::time::Instant::now());
        longest.min(until_due).min(until_limits).max(Duration::from_millis(1))
    }

    fn is_commit_due(&self, owned: &Owned) -> bool {
        self.commit_wait(owned).is_some_and(|wait| wait.is_zero())
    }

    /// How long the next commit waits; none where there is nothing to commit.
    fn commit_wait(&self, owned: &Owned) -> Option<Duration> {
        let interval = Duration::from_millis(self.options.commit_interval_ms);
        let moved = owned.position > owned.committed || !owned.ticks.is_empty();
        let pace = match owned.transitions.len() {
            MAX_GATHERED_TRANSITIONS.. => Duration::ZERO,
            _ if owned.is_telling || owned.awaited => COMMIT_PACE.min(interval),
            1.. => UPDATE_PACE.min(interval),
            0 if moved => interval,
            0 => return None,
        };
        Some(pace.saturating_sub(owned.committed_at.elapsed()))
    }

    fn is_snapshot_due(&self, owned: &Owned) -> bool {
        let since = owned.snapshot_at.elapsed();
        owned.rows_since_snapshot > 0
            && since >= owned.snapshot_took * SNAPSHOT_PAUSE
            && (owned.rows_since_snapshot >= self.options.snapshot_rows
                || since >= Duration::from_millis(self.options.snapshot_interval_ms))
    }

    /// Makes all that came since the last time durable, in one transaction.
    async fn commit(&mut self, owned: &mut Owned) -> Result<(), StopReason> {
        let snapshot = self.is_snapshot_due(owned).then(|| {
            let started = Instant::now();
            let bytes = owned.engine.snapshot();
            owned.snapshot_took = started.elapsed();
            self.metrics.snapshot_seconds.observe(owned.snapshot_took.as_secs_f64());
            self.metrics.snapshot_bytes.set(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
            bytes
        });
        let has_snapshot = snapshot.is_some();
        let notices = self.notices(owned).await?;
        // As many come again, about: a list that grows is copied each time.
        let room = owned.transitions.len().min(MAX_GATHERED_TRANSITIONS);
        let stretch = Arc::new(Commit {
            partition: self.partition,
            epoch: owned.epoch,
            expected: owned.committed,
            next: owned.position.max(owned.committed),
            transitions: std::mem::replace(&mut owned.transitions, Vec::with_capacity(room)),
            notices,
            ticks: std::mem::take(&mut owned.ticks),
            met: std::mem::take(&mut owned.devices.met),
            snapshot,
            at: now(),
        });
        while let Err(error) = self.store.commit(stretch.clone()).await {
            if !error.is_retryable() || *self.stopping.borrow() {
                return Err(error.into());
            }
            tracing::warn!(%error, "a commit of alarms is tried again");
            tokio::time::sleep(Duration::from_millis(self.options.retry_ms)).await;
        }
        owned.committed = stretch.next;
        owned.committed_at = Instant::now();
        owned.awaited = false;
        (owned.looked_at, owned.is_telling) = (0, false);
        if has_snapshot {
            owned.snapshot_at = Instant::now();
            owned.rows_since_snapshot = 0;
            self.journal.hold(READER_NAME, self.partition, stretch.next);
        }
        owned.limits.note(&mut owned.engine, &stretch.transitions);
        self.count(&stretch.transitions);
        self.publish(owned);
        Ok(())
    }

    /// Who is to be told of what is committed now.
    async fn notices(&self, owned: &mut Owned) -> Result<Vec<NewNotice>, StopReason> {
        loop {
            match owned.audience.notices(&owned.transitions, now()).await {
                Err(error) if error.is_retryable() && !*self.stopping.borrow() => {
                    tracing::warn!(%error, "who is to be told is looked up again");
                    tokio::time::sleep(Duration::from_millis(self.options.retry_ms)).await;
                }
                other => return Ok(other?),
            }
        }
    }

    fn count(&self, transitions: &[Transition]) {
        let now = now();
        for transition in transitions {
            let times = match transition.kind {
                TransitionKind::Updated { times } => u64::from(times),
                _ => 1,
            };
            let counter = &self.metrics.transitions;
            counter.with_label_values(&[transition.kind.as_str()]).inc_by(times);
            if transition.kind == TransitionKind::Raised {
                self.metrics.raised.with_label_values(&[transition.severity.as_str()]).inc();
            }
            // A deadline was received by nobody.
            let by_record = matches!(transition.cause, Cause::Record { .. });
            if by_record && !matches!(transition.kind, TransitionKind::Updated { .. }) {
                let ms = now.0.saturating_sub(transition.received_at.0).max(0);
                let whole = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
                self.metrics.time_to_alarm.observe(whole.as_secs_f64());
            }
        }
    }

    fn publish(&self, owned: &mut Owned) {
        let tally = owned.engine.tally();
        self.metrics.evaluated.inc_by(tally.evaluated - owned.tally.evaluated);
        self.metrics.late.inc_by(tally.late - owned.tally.late);
        self.metrics.repeated.inc_by(tally.repeated - owned.tally.repeated);
        self.metrics.rounds.inc_by(tally.rounds - owned.tally.rounds);
        owned.tally = tally;
        let behind = self.journal.bounds(self.partition).next.0.saturating_sub(owned.position.0);
        self.metrics.lag.set(i64::try_from(behind).unwrap_or(i64::MAX));
        let active = owned.engine.active_alarms();
        self.metrics.active.set(i64::try_from(active).unwrap_or(i64::MAX));
        self.progress.send_modify(|progress| progress.position = owned.committed);
    }
}
