//! The one thread that changes the directory.
//!
//! It takes all requests that wait, stages them one after another in a draft,
//! commits what came of them with one fsync, and only then shows it to readers,
//! tells the feed and answers. A refused request takes nothing from the others
//! in its group.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use prometheus::{Opts, Registry};
use schema::{Author, Document, DocumentBody, RouterId, TimestampMs};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::backend::{Backend, CHANNEL, Committed, Foreign, Write};
use super::draft::Draft;
use super::index::Index;
use super::{CHANGE_FEED_CAPACITY, Change, DirectoryError, NewRouter, OpenError, rules};
use crate::audit::NewEvent;
use crate::sql::Database;
use crate::{SqlError, metrics};

/// How many requests wait for the writer before their callers are slowed.
const QUEUE_REQUESTS: usize = 4_096;

/// How many requests share a transaction at most.
const MAX_GROUP: usize = 4_096;

/// Ids reserved at once; what a crash leaves unused is never given out.
const ID_BLOCK: u64 = 4_096;

/// How often a group is staged anew because another node was quicker.
const MAX_ATTEMPTS: usize = 20;

#[derive(Clone, Debug)]
pub(super) enum Request {
    Create(DocumentBody),
    Update { id: u64, expected_version: Option<u64>, body: DocumentBody },
    Delete { id: u64, expected_version: Option<u64> },
    CreateRouters(Vec<NewRouter>),
    EnsureDevice { router: RouterId, name: String, device_type: Option<String> },
}

impl Request {
    fn ids_needed(&self) -> u64 {
        match self {
            Self::Create(_) | Self::EnsureDevice { .. } => 1,
            Self::Update { .. } | Self::Delete { .. } => 0,
            Self::CreateRouters(routers) => 2 * routers.len() as u64,
        }
    }
}

type Answer = Result<Vec<Document>, DirectoryError>;

type Outbox = Result<Vec<(u64, NewEvent)>, DirectoryError>;

enum Envelope {
    Request(Box<Request>, Author, oneshot::Sender<Answer>),
    Outbox(usize, oneshot::Sender<Outbox>),
    Carried(u64, oneshot::Sender<Result<(), DirectoryError>>),
    /// Another node has changed something.
    CatchUp,
    Close,
}

/// What readers and the writer have in common.
#[derive(Debug)]
pub(super) struct Shared {
    index: RwLock<Index>,
    pub changes: broadcast::Sender<Change>,
    /// How many transactions have put events into the outbox.
    pub outbox: watch::Sender<u64>,
}

impl Shared {
    pub fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
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
        backend: Backend,
        index: Index,
        registry: &Registry,
    ) -> Result<(Self, Arc<Shared>), OpenError> {
        let meters = Meters::register(registry)?;
        meters.count_documents(&index);
        let queue = meters.queue.clone();
        let shared = Arc::new(Shared {
            index: RwLock::new(index),
            changes: broadcast::Sender::new(CHANGE_FEED_CAPACITY),
            outbox: watch::Sender::new(0),
        });
        let (requests, receiver) = mpsc::channel(QUEUE_REQUESTS);
        let worker = Worker { backend, shared: shared.clone(), ids: 0..0, meters };
        let thread = std::thread::Builder::new()
            .name("directory".to_owned())
            .spawn(move || worker.run(receiver))?;
        Ok((Self { requests, thread: Mutex::new(Some(thread)), queue }, shared))
    }

    pub async fn ask(&self, author: &Author, request: Request) -> Answer {
        let (answer, answered) = oneshot::channel();
        let place = self.requests.reserve().await.map_err(|_| DirectoryError::Closed)?;
        self.queue.inc();
        place.send(Envelope::Request(Box::new(request), author.clone(), answer));
        answered.await.unwrap_or(Err(DirectoryError::Closed))
    }

    pub async fn outbox(&self, limit: usize) -> Outbox {
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send(Envelope::Outbox(limit, answer)).await;
        sent.map_err(|_| DirectoryError::Closed)?;
        answered.await.unwrap_or(Err(DirectoryError::Closed))
    }

    pub async fn carried(&self, last: u64) -> Result<(), DirectoryError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send(Envelope::Carried(last, answer)).await;
        sent.map_err(|_| DirectoryError::Closed)?;
        answered.await.unwrap_or(Err(DirectoryError::Closed))
    }

    /// Catches up whenever another node has changed something.
    pub fn follow(&self, database: &Database) {
        database.follow(CHANNEL, &self.requests, || Envelope::CatchUp);
    }

    pub async fn close(&self) {
        // An error says that the thread has ended already.
        let _ = self.requests.send(Envelope::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && tokio::task::spawn_blocking(move || thread.join()).await.is_err()
        {
            tracing::error!("the directory's thread could not be waited for");
        }
    }
}

struct Worker {
    backend: Backend,
    shared: Arc<Shared>,
    ids: Range<u64>,
    meters: Meters,
}

type Waiting = (Request, Author);

impl Worker {
    fn run(mut self, mut requests: mpsc::Receiver<Envelope>) {
        let mut open = true;
        while open {
            let Some(first) = requests.blocking_recv() else {
                break;
            };
            let (mut group, mut answers) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(envelope) = next {
                match envelope {
                    Envelope::Request(request, author, answer) => {
                        group.push((*request, author));
                        answers.push(answer);
                    }
                    // Whoever asked may have gone away.
                    Envelope::Outbox(limit, answer) => {
                        let _ = answer.send(self.backend.outbox(limit).map_err(refused));
                    }
                    Envelope::Carried(last, answer) => {
                        let _ = answer.send(self.backend.carried(last).map_err(refused));
                    }
                    Envelope::CatchUp => {
                        if let Err(error) = self.catch_up() {
                            tracing::error!(%error, "what other nodes have changed is not seen");
                        }
                    }
                    Envelope::Close => {
                        open = false;
                        requests.close();
                    }
                }
                next = if group.len() < MAX_GROUP { requests.try_recv().ok() } else { None };
            }
            self.meters.queue.sub(i64::try_from(group.len()).unwrap_or(i64::MAX));
            if !group.is_empty() {
                self.serve(&group, answers);
            }
        }
        if let Err(error) = self.backend.close() {
            tracing::error!(%error, "the directory's file did not close cleanly");
        }
    }

    fn serve(&mut self, group: &[Waiting], answers: Vec<oneshot::Sender<Answer>>) {
        match self.stage_and_commit(group) {
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    if let Err(error) = &outcome {
                        self.meters.refused.with_label_values(&[error.reason()]).inc();
                    }
                    // Whoever asked may have gone away; the change stands.
                    let _ = answer.send(outcome);
                }
            }
            Err(error) => {
                tracing::error!(%error, "the directory could not be written");
                let error = Arc::new(error);
                for answer in answers {
                    self.meters.refused.with_label_values(&["backend"]).inc();
                    let _ = answer.send(Err(DirectoryError::Backend(error.clone())));
                }
            }
        }
    }

    /// What came of each request, once all that is to last is durable.
    fn stage_and_commit(&mut self, group: &[Waiting]) -> Result<Vec<Answer>, SqlError> {
        for _ in 0..MAX_ATTEMPTS {
            // A request is refused for what stands, not for what stood.
            if self.backend.is_shared() {
                self.catch_up()?;
            }
            let (writes, outcomes) = self.stage(group)?;
            if writes.is_empty() {
                return Ok(outcomes);
            }
            let started = Instant::now();
            if let Committed::From(first) = self.backend.commit(&writes)? {
                self.meters.commit_seconds.observe(started.elapsed().as_secs_f64());
                self.meters.commits.inc();
                self.meters.changes.inc_by(writes.len() as u64);
                let audited = writes.iter().any(|write| write.event.is_some());
                self.publish(first, writes);
                if audited {
                    self.shared.outbox.send_modify(|transactions| *transactions += 1);
                }
                return Ok(outcomes);
            }
        }
        Err(SqlError::Overtaken(MAX_ATTEMPTS))
    }

    fn stage(&mut self, group: &[Waiting]) -> Result<(Vec<Write>, Vec<Answer>), SqlError> {
        let needed: u64 = group.iter().map(|(request, _)| request.ids_needed()).sum();
        if self.ids.end - self.ids.start < needed {
            self.ids = self.backend.reserve_ids(needed.max(ID_BLOCK))?;
        }
        let index = self.shared.index();
        let mut draft = Draft::new(&index, &mut self.ids, now());
        let outcomes = group.iter().map(|(request, author)| {
            draft.author = author.clone();
            rules::apply(&mut draft, request.clone())
        });
        let outcomes = outcomes.collect();
        Ok((draft.into_writes(), outcomes))
    }

    /// Takes in what other nodes have changed.
    fn catch_up(&mut self) -> Result<(), SqlError> {
        let changes = match self.backend.catch_up() {
            Ok(changes) => changes,
            Err(OpenError::Sql(error)) => return Err(error),
            // Of a later version of Baken; its own nodes will see to it.
            Err(error) => {
                let reason = error.to_string();
                return Err(SqlError::Unreadable { column: 0, reason });
            }
        };
        if changes.is_empty() {
            return Ok(());
        }
        let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
        // All that is over first, so that what one document let go and another
        // took is free, in whatever order that was.
        for Foreign { change, .. } in &changes {
            index.remove(change.id);
        }
        let mut told = Vec::with_capacity(changes.len());
        for Foreign { change, document } in changes {
            if let Some(document) = document {
                index.insert(document);
            }
            told.push(change);
        }
        self.meters.count_documents(&index);
        drop(index);
        for change in told {
            // An error says that nobody has subscribed.
            let _ = self.shared.changes.send(change);
        }
        self.shared.outbox.send_modify(|transactions| *transactions += 1);
        Ok(())
    }

    fn publish(&self, first: u64, writes: Vec<Write>) {
        let mut changes = Vec::with_capacity(writes.len());
        let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
        for (sequence, Write { document, deleted, .. }) in (first..).zip(writes) {
            changes.push(Change {
                sequence,
                id: document.id,
                kind: document.body.kind(),
                version: document.version,
                deleted,
            });
            if deleted {
                index.remove(document.id);
            } else {
                index.put(document);
            }
        }
        self.meters.count_documents(&index);
        drop(index);
        for change in changes {
            // An error says that nobody has subscribed.
            let _ = self.shared.changes.send(change);
        }
    }
}

fn refused(error: SqlError) -> DirectoryError {
    DirectoryError::Backend(Arc::new(error))
}

fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

struct Meters {
    documents: IntGaugeVec,
    commits: IntCounter,
    changes: IntCounter,
    commit_seconds: Histogram,
    queue: IntGauge,
    refused: IntCounterVec,
}

impl Meters {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let documents = IntGaugeVec::new(
            Opts::new(metrics::DIRECTORY_DOCUMENTS, "Live documents of the directory by kind"),
            &["kind"],
        )?;
        let commits = IntCounter::new(
            metrics::DIRECTORY_COMMITS,
            "Transactions of the directory that were made durable",
        )?;
        let changes = IntCounter::new(
            metrics::DIRECTORY_CHANGES,
            "Documents written to the directory, deletions included",
        )?;
        let commit_seconds = Histogram::with_opts(
            HistogramOpts::new(
                metrics::DIRECTORY_COMMIT_SECONDS,
                "How long a transaction of the directory took, fsync included",
            )
            .buckets(prometheus::exponential_buckets(0.000_5, 2.0, 14)?),
        )?;
        let queue =
            IntGauge::new(metrics::DIRECTORY_QUEUE, "Requests waiting for the directory's writer")?;
        let queue_limit = IntGauge::new(
            metrics::DIRECTORY_QUEUE_LIMIT,
            "Requests that may wait before their callers are slowed",
        )?;
        queue_limit.set(i64::try_from(QUEUE_REQUESTS).unwrap_or(i64::MAX));
        let refused = IntCounterVec::new(
            Opts::new(metrics::DIRECTORY_REFUSED, "Changes of the directory refused, by reason"),
            &["reason"],
        )?;
        registry.register(Box::new(documents.clone()))?;
        registry.register(Box::new(commits.clone()))?;
        registry.register(Box::new(changes.clone()))?;
        registry.register(Box::new(commit_seconds.clone()))?;
        registry.register(Box::new(queue.clone()))?;
        registry.register(Box::new(queue_limit))?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self { documents, commits, changes, commit_seconds, queue, refused })
    }

    fn count_documents(&self, index: &Index) {
        for (kind, count) in index.counts() {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.documents.with_label_values(&[kind.as_str()]).set(count);
        }
    }
}
