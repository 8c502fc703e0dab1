//! The one task that says how routers stand.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use schema::{
    KEY_CONNECTED, KEY_ENABLED, KEY_REFUSED, KEY_SILENT, KEY_SILENT_SINCE, Location, Position,
    RecordKind, Router, RouterId, TimestampMs, partition_of,
};
use store::directory::MAX_PAGE;
use store::history::{Reading, ReadingValue};
use store::{Entry, History, ListQuery};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::super::node::Node;
use super::super::session::End;
use super::ledger::{Edge, Refused};
use super::shared::Sharing;
use super::statement::{Keys, Said, SayError, Statement, told_time};
use super::{Known, Metrics, PresenceOptions, Shared};
use crate::batch::{Rows, Submission};
use crate::recorder::Recorder;

/// How long edges are gathered after the first, so that a storm shares records.
const GATHER: Duration = Duration::from_millis(20);

/// Statements that are submitted before the first is waited for.
const MAX_CHUNK: usize = 4_096;

/// The pause in which the recorder is waited for at the start.
pub(super) const CATCH_UP_PAUSE: Duration = Duration::from_millis(20);

/// What was said last of a router's refused messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    at: Instant,
    clock_offset: bool,
}

pub(super) struct Task {
    pub shared: Arc<Shared>,
    pub keys: Keys,
    pub metrics: Metrics,
    pub recorder: Arc<Recorder>,
    pub history: History,
    pub options: PresenceOptions,
    pub started_at: TimestampMs,
    /// Routers that were said to be silent.
    pub silent: HashSet<RouterId>,
    /// Routers of which messages were refused a short time ago.
    pub refused: HashMap<RouterId, Told>,
    /// Routers that were connected since the start, until its grace is over.
    pub came: HashSet<RouterId>,
    /// Routers whose silent limit has changed since silence was looked for.
    pub limits_changed: HashSet<RouterId>,
    /// Where other nodes take routers too.
    pub sharing: Option<Sharing>,
    pub stopping: watch::Receiver<bool>,
}

impl Task {
    pub async fn run(mut self) {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            () = self.watch() => {}
            _ = stopping.wait_for(|is_stopping| *is_stopping) => {}
        }
    }

    async fn watch(&mut self) {
        let grace = Duration::from_millis(self.options.start_grace_ms);
        let settled_at = Instant::now() + grace;
        self.catch_up().await;
        self.enter().await;
        let mut ticks = interval(Duration::from_millis(self.options.check_interval_ms.max(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_settled = false;
        loop {
            let node = Arc::clone(&self.shared.node);
            let done = tokio::select! {
                () = node.ledger.wake.notified() => {
                    sleep(GATHER).await;
                    self.take_edges().await
                }
                _ = ticks.tick() => self.look().await,
                () = sleep_until(settled_at), if !is_settled => {
                    let settled = self.settle().await;
                    is_settled = settled.is_ok();
                    settled
                }
            };
            if let Err(error) = done {
                self.metrics.retries.inc();
                tracing::warn!(%error, "whether routers are there is written later");
                sleep(Duration::from_millis(self.options.retry_ms)).await;
                node.ledger.wake.notify_one();
            }
            let waiting = self.shared.node.ledger.waiting();
            self.metrics.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
    }

    /// Waits until the history holds what was durable when the node started, or
    /// can't come to hold it.
    async fn catch_up(&self) {
        let journal = &self.shared.node.journal;
        let ends: Vec<Position> =
            self.recorder.status().iter().map(|it| journal.bounds(it.partition).next).collect();
        loop {
            let status = self.recorder.status();
            let behind = |(status, end): (&crate::recorder::PartitionStatus, &Position)| {
                status.position < *end && status.stopped.is_none()
            };
            if !status.iter().zip(&ends).any(behind) {
                return self.history.settled().await;
            }
            sleep(CATCH_UP_PAUSE).await;
        }
    }

    /// What was said of a router in the life of an earlier process.
    pub(super) async fn recall(
        &mut self,
        id: RouterId,
        router: &Router,
    ) -> Result<Option<Known>, SayError> {
        if let Some(known) = self.shared.known.get(&id) {
            return Ok(Some(*known));
        }
        let keys = [KEY_CONNECTED, KEY_ENABLED, KEY_SILENT, KEY_SILENT_SINCE, KEY_REFUSED];
        let keys = keys.map(str::to_owned);
        let said = self.history.latest(router.device, Some(keys.to_vec())).await?;
        let find = |key: &str| said.iter().find(|reading| reading.key == key);
        let is = |reading: &Reading| reading.value == ReadingValue::Boolean(true);
        if find(KEY_REFUSED).is_some_and(|reading| reading.value != ReadingValue::Integer(0)) {
            self.refused.insert(id, Told { at: Instant::now(), clock_offset: true });
        }
        let Some(connected) = find(KEY_CONNECTED) else { return Ok(None) };
        let silent = find(KEY_SILENT).filter(|reading| is(reading));
        let silent_since = silent.map(|silent| {
            let place = self.place(router);
            let since = match find(KEY_SILENT_SINCE).map(|reading| &reading.value) {
                Some(ReadingValue::Text(text)) => {
                    place.and_then(|it| told_time(text, &it.time_zone))
                }
                _ => None,
            };
            // The limit was over by then.
            since.unwrap_or(silent.observed_at)
        });
        if silent_since.is_some() {
            self.silent.insert(id);
        }
        let known = Known {
            connected: is(connected),
            enabled: find(KEY_ENABLED).is_some_and(is),
            since: connected.observed_at,
            silent_since,
            said_at: said.iter().map(|it| it.observed_at).max().unwrap_or(connected.observed_at),
        };
        self.shared.known.insert(id, known);
        Ok(Some(known))
    }

    /// Says of all that came or went how they stand now.
    pub(super) async fn take_edges(&mut self) -> Result<(), SayError> {
        let mut edges = self.shared.node.ledger.take_edges().into_iter();
        loop {
            let chunk: Vec<(RouterId, Edge)> = edges.by_ref().take(MAX_CHUNK).collect();
            if chunk.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.say_edges(&chunk).await {
                let ledger = &self.shared.node.ledger;
                chunk.into_iter().chain(edges).for_each(|(router, edge)| {
                    ledger.put_back(router, edge);
                });
                return Err(error);
            }
        }
    }

    async fn say_edges(&mut self, edges: &[(RouterId, Edge)]) -> Result<(), SayError> {
        if self.sharing.is_some() {
            return self.share_edges(edges).await;
        }
        let mut statements = Vec::new();
        for (id, edge) in edges {
            let Some(entry) = self.shared.node.directory.router(*id) else {
                self.forget(*id);
                continue;
            };
            let mut before = self.recall(*id, &entry).await?;
            let handles = self.shared.node.registry.of(*id);
            let connected_at = handles.iter().map(|handle| handle.connected_at).min();
            let at = connected_at.unwrap_or(edge.at);
            let connected = connected_at.is_some();
            if (connected || edge.came_at.is_some()) && !self.is_settled() {
                self.came.insert(*id);
            }
            // One that was connected when the node went down may yet come back.
            let may_come =
                !connected && edge.cause.is_none() && !self.is_settled() && !self.came.contains(id);
            // Where the going could not be said, the coming was perhaps.
            let came_at = edge.came_at.filter(|at| before.is_none_or(|known| known.said_at < *at));
            if let (false, Some(came_at)) = (connected, came_at) {
                // It came and went before either was said.
                let came = self.stand(*id, Arc::clone(&entry), before, (true, came_at), None);
                before = came.as_ref().map_or(before, |came| came.after);
                statements.extend(came);
            }
            if !may_come {
                statements.extend(self.stand(*id, entry, before, (connected, at), edge.cause));
            }
        }
        self.say_all(statements).await
    }

    fn is_settled(&self) -> bool {
        self.shared.is_settled.load(Ordering::Acquire)
    }

    pub(super) fn forget(&mut self, id: RouterId) {
        self.shared.known.remove(&id);
        self.silent.remove(&id);
        self.refused.remove(&id);
    }

    pub(super) fn place(&self, router: &Router) -> Option<Arc<Entry<Location>>> {
        self.shared.node.directory.location(router.location)
    }

    /// The statement that a router stands otherwise than was said, if it does.
    pub(super) fn stand(
        &self,
        id: RouterId,
        entry: Arc<Entry<Router>>,
        before: Option<Known>,
        (connected, at): (bool, TimestampMs),
        cause: Option<End>,
    ) -> Option<Statement> {
        let enabled = entry.enabled;
        let same = |known: Known| (known.connected, known.enabled) == (connected, enabled);
        // Of a router that was never there it is not said that it has gone.
        if before.is_none_or(same) && (before.is_some() || !connected) {
            return None;
        }
        let moved = before.is_none_or(|known| known.connected != connected);
        // It came long before its document changed.
        let at = if connected && !moved { Node::now().wall } else { at };
        let said_at = at.max(before.map_or(at, |known| TimestampMs(known.said_at.0 + 1)));
        let after = Known {
            connected,
            enabled,
            since: if moved { said_at } else { before.map_or(said_at, |known| known.since) },
            silent_since: before.and_then(|known| known.silent_since).filter(|_| connected),
            said_at,
        };
        let location = self.place(&entry)?;
        let zone = &location.time_zone;
        let rows = self.keys.standing(entry.device, before.as_ref(), &after, cause, zone);
        Some(Statement { router: id, entry, rows, after: Some(after) })
    }

    pub(super) async fn say_all(&mut self, statements: Vec<Statement>) -> Result<(), SayError> {
        self.say(statements).await.error.map_or(Ok(()), Err)
    }

    /// Makes statements durable, and remembers those that are.
    pub(super) async fn say(&mut self, statements: Vec<Statement>) -> Said {
        let node = Arc::clone(&self.shared.node);
        let mut said = Said { routers: Vec::with_capacity(statements.len()), error: None };
        let mut completions = Vec::with_capacity(statements.len());
        for Statement { router, entry, rows, after } in statements {
            let partition = partition_of(entry.tenant, entry.location, node.journal.partitions());
            let count = rows.len() as u64;
            let submission = Submission {
                tenant: entry.tenant,
                router,
                received_at: Node::now().wall,
                kind: RecordKind::Readings,
                rows,
            };
            match node.submitter.submit(partition, submission).await {
                Ok(completion) => completions.push((router, after, count, completion)),
                Err(error) => {
                    said.error = Some(error.into());
                    break;
                }
            }
        }
        for (router, after, count, completion) in completions {
            if let Err(error) = completion.await {
                said.error.get_or_insert(error.into());
                continue;
            }
            self.metrics.rows.inc_by(count);
            said.routers.push(router);
            let Some(after) = after else { continue };
            self.shared.known.insert(router, after);
            match after.silent_since {
                Some(_) => self.silent.insert(router),
                None => self.silent.remove(&router),
            };
        }
        self.metrics.silent.set(i64::try_from(self.silent.len()).unwrap_or(i64::MAX));
        said
    }

    /// What time alone brings about.
    async fn look(&mut self) -> Result<(), SayError> {
        self.take_edges().await?;
        if self.shared.node.ledger.take_stale_limits() {
            self.renew_limits();
        }
        self.look_for_silence().await?;
        self.look_for_the_dead().await?;
        self.tell_refused().await
    }

    /// The silent limits of all connections, as the directory has them now.
    fn renew_limits(&mut self) {
        let (node, changed) = (&self.shared.node, &mut self.limits_changed);
        node.registry.for_each(|handle| {
            let id = RouterId(handle.router.id);
            let Some(router) = node.directory.router(id) else { return };
            let limit_ms = node.silent_after_ms(&router);
            if handle.silent_after_ms() != limit_ms {
                handle.set_silent_after(limit_ms);
                changed.insert(id);
            }
        });
    }

    pub(super) async fn look_for_silence(&mut self) -> Result<(), SayError> {
        let now = Node::now().wall;
        let mut changed = Vec::new();
        self.shared.node.registry.for_each_router(|router, handles| {
            let heard = handles.iter().map(|handle| handle.last_heard_ms()).max();
            let limits = handles.iter().map(|handle| handle.silent_after_ms()).max();
            let (Some(heard), Some(limit)) = (heard, limits) else { return };
            let due = heard.saturating_add(limit);
            if (due <= now.0) != self.silent.contains(&router) {
                changed.push((router, TimestampMs(heard), TimestampMs(due)));
            }
        });
        for chunk in changed.chunks(MAX_CHUNK) {
            let statements = chunk.iter().filter_map(|&(id, heard, due)| {
                let entry = self.shared.node.directory.router(id)?;
                // Only of one that is said to be connected.
                let before = self.shared.known.get(&id).filter(|known| known.connected)?;
                let silent_since = (due <= now).then_some(heard);
                let at = match silent_since {
                    // By the limit of before it was not silent until now, ...
                    Some(_) if self.limits_changed.contains(&id) => now,
                    Some(_) => due,
                    // ... or was, and nothing was heard of it since.
                    None if before.silent_since.is_some_and(|since| heard <= since) => now,
                    None => heard,
                };
                let said_at = at.max(TimestampMs(before.said_at.0 + 1));
                let after = Known { silent_since, said_at, ..*before };
                let zone = self.place(&entry)?;
                let zone = &zone.time_zone;
                let rows = self.keys.silence(entry.device, said_at, silent_since, zone);
                Some(Statement { router: id, entry, rows, after: Some(after) })
            });
            let statements: Vec<Statement> = statements.collect();
            let silence = |it: &Statement| Some((it.router, it.after.as_ref()?.silent_since));
            let silences = statements.iter().filter_map(silence).collect();
            self.say_all(statements).await?;
            self.share_silence(silences).await;
        }
        self.limits_changed.clear();
        Ok(())
    }

    /// Tells what was refused, of each router at most once in the interval, and
    /// once that nothing was.
    async fn tell_refused(&mut self) -> Result<(), SayError> {
        let now = Instant::now();
        let interval = Duration::from_millis(self.options.refused_interval_ms);
        let rests = |told: &Told| now.duration_since(told.at) < interval;
        let ledger = &self.shared.node.ledger;
        let due = ledger.take_refused(|id| !self.refused.get(&id).is_some_and(rests));
        let told: HashSet<RouterId> = due.iter().map(|(id, _)| *id).collect();
        let over = self.refused.iter().filter(|(id, it)| !rests(it) && !told.contains(*id));
        let over: Vec<(RouterId, Told)> = over.map(|(id, told)| (*id, *told)).collect();
        let mut due = due.into_iter();
        loop {
            let chunk: Vec<(RouterId, Refused)> = due.by_ref().take(MAX_CHUNK).collect();
            if chunk.is_empty() {
                break;
            }
            let rows = |keys: &Keys, router: &Router, refused: &Refused| {
                keys.refused(router.device, refused)
            };
            let statements = self.of_routers(&chunk, rows);
            let said = self.say(statements).await;
            if let Err(error) = self.note_told(chunk, said, now) {
                due.for_each(|(id, refused)| self.shared.node.ledger.add_refused(id, &refused));
                return Err(error);
            }
        }
        let at = Node::now().wall;
        for chunk in over.chunks(MAX_CHUNK) {
            let rows = |keys: &Keys, router: &Router, told: &Told| {
                keys.none_refused(router.device, at, told.clock_offset)
            };
            let statements = self.of_routers(chunk, rows);
            self.say_all(statements).await?;
            for (id, _) in chunk {
                self.refused.remove(id);
            }
        }
        Ok(())
    }

    /// Remembers of which routers it was told what was refused; of the others it
    /// is still to be told.
    pub(super) fn note_told(
        &mut self,
        chunk: Vec<(RouterId, Refused)>,
        said: Said,
        now: Instant,
    ) -> Result<(), SayError> {
        let routers: HashSet<RouterId> = said.routers.into_iter().collect();
        for (id, refused) in chunk {
            if said.error.is_none() || routers.contains(&id) {
                let clock_offset = refused.clock_offset_ms.is_some();
                self.refused.insert(id, Told { at: now, clock_offset });
            } else {
                self.shared.node.ledger.add_refused(id, &refused);
            }
        }
        said.error.map_or(Ok(()), Err)
    }

    /// A statement for each router that is still there.
    pub(super) fn of_routers<T>(
        &self,
        routers: &[(RouterId, T)],
        rows: impl Fn(&Keys, &Router, &T) -> Rows,
    ) -> Vec<Statement> {
        let statement = |(id, what): &(RouterId, T)| {
            let entry = self.shared.node.directory.router(*id)?;
            let rows = rows(&self.keys, &entry, what);
            Some(Statement { router: *id, entry, rows, after: None })
        };
        routers.iter().filter_map(statement).collect()
    }

    /// The start's grace is over: who was connected before and has not come back
    /// has been away since the node started.
    pub(super) async fn settle(&mut self) -> Result<(), SayError> {
        self.take_edges().await?;
        if self.settles_all()? {
            self.look_at_all().await?;
        }
        self.shared.is_settled.store(true, Ordering::Release);
        self.came = HashSet::new();
        Ok(())
    }

    pub(super) async fn look_at_all(&mut self) -> Result<(), SayError> {
        let directory = self.shared.node.directory.clone();
        let mut query = ListQuery { limit: MAX_PAGE, ..ListQuery::default() };
        loop {
            let page = directory.routers(&query);
            let mut statements = Vec::new();
            for entry in page.items {
                let id = RouterId(entry.id);
                if self.is_held(id) {
                    continue;
                }
                let before = self.recall(id, &entry).await?;
                let handles = self.shared.node.registry.of(id);
                // Of one that was here since the start its edges tell. They are
                // noted after it is out of the registry, or before it was in it.
                if self.came.contains(&id) || self.shared.node.ledger.has_moved(id) {
                    continue;
                }
                let connected_at = handles.iter().map(|handle| handle.connected_at).min();
                let was_there = before.is_some_and(|known| known.connected);
                let gone_at = if was_there { self.started_at } else { Node::now().wall };
                let stands = (connected_at.is_some(), connected_at.unwrap_or(gone_at));
                statements.extend(self.stand(id, entry, before, stands, None));
            }
            self.say_all(statements).await?;
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(()),
            }
        }
    }
}
