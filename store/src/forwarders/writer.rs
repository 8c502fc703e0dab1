//! The one thread that writes the forwarders' progress. What waits for it
//! shares a transaction, so that all partitions together pay for one fsync.

use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};
use tokio::sync::{mpsc, oneshot};

use super::{Fate, ForwarderStoreError, LaneCommit, sql};
use crate::metrics;
use crate::sql::{Session, SqlError};

/// How many requests wait for the writer before their callers are slowed.
const QUEUE_REQUESTS: usize = 256;

/// How many requests share a transaction.
const MAX_GROUP: usize = 64;

#[derive(Debug)]
pub(super) enum Request {
    Commit { steps: Vec<LaneCommit>, max_dead_letters: u32 },
    Rest(u64),
    Forget(u64),
    Settle { forwarder: u64, sequences: Vec<u64>, fate: Fate },
}

type Answer = oneshot::Sender<Result<u64, ForwarderStoreError>>;

enum Envelope {
    Request(Request, Answer),
    Close,
}

/// The handle on the thread.
#[derive(Debug)]
pub(super) struct Writer {
    requests: mpsc::Sender<Envelope>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub fn start(session: Session, registry: &Registry) -> Result<Self, ForwarderStoreError> {
        let failed = |error: &dyn std::fmt::Display| ForwarderStoreError::Start(error.to_string());
        let meters = Meters::register(registry).map_err(|error| failed(&error))?;
        let (requests, receiver) = mpsc::channel(QUEUE_REQUESTS);
        let worker = Worker { session, meters };
        let thread = std::thread::Builder::new()
            .name("forwarder store".to_owned())
            .spawn(move || worker.run(receiver))
            .map_err(|error| failed(&error))?;
        Ok(Self { requests, thread: Mutex::new(Some(thread)) })
    }

    pub async fn ask(&self, request: Request) -> Result<u64, ForwarderStoreError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send(Envelope::Request(request, answer)).await;
        sent.map_err(|_| ForwarderStoreError::Closed)?;
        answered.await.unwrap_or(Err(ForwarderStoreError::Closed))
    }

    pub async fn close(&self) {
        // An error says that the thread has ended already.
        let _ = self.requests.send(Envelope::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && tokio::task::spawn_blocking(move || thread.join()).await.is_err()
        {
            tracing::error!("the forwarders' thread could not be waited for");
        }
    }
}

struct Worker {
    session: Session,
    meters: Meters,
}

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
                    Envelope::Request(request, answer) => {
                        group.push(request);
                        answers.push(answer);
                    }
                    Envelope::Close => {
                        open = false;
                        requests.close();
                    }
                }
                next = if group.len() < MAX_GROUP { requests.try_recv().ok() } else { None };
            }
            self.meters.queue.set(i64::try_from(requests.len()).unwrap_or(i64::MAX));
            self.serve(&group, answers);
        }
        if let Err(error) = self.session.close() {
            tracing::error!(%error, "the forwarders' file did not close cleanly");
        }
    }

    fn serve(&mut self, group: &[Request], answers: Vec<Answer>) {
        let started = Instant::now();
        match self.write(group) {
            Ok(outcomes) => {
                self.meters.commit_seconds.observe(started.elapsed().as_secs_f64());
                self.meters.commits.inc();
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    // Whoever asked may have gone away; what was written stands.
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                let error = ForwarderStoreError::from(error);
                tracing::error!(%error, "the forwarders' progress could not be written");
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn write(&mut self, group: &[Request]) -> Result<Vec<u64>, SqlError> {
        let transaction = self.session.transaction()?;
        let mut outcomes = Vec::with_capacity(group.len());
        for request in group {
            let mut outcome = 0;
            match request {
                Request::Commit { steps, max_dead_letters } => {
                    for step in steps {
                        sql::commit(&transaction, step, *max_dead_letters)?;
                    }
                }
                Request::Rest(forwarder) => sql::rest(&transaction, *forwarder)?,
                Request::Forget(forwarder) => sql::forget(&transaction, *forwarder)?,
                Request::Settle { forwarder, sequences, fate } => {
                    outcome = sql::settle(&transaction, *forwarder, sequences, *fate)?;
                }
            }
            outcomes.push(outcome);
        }
        transaction.commit()?;
        Ok(outcomes)
    }
}

struct Meters {
    commits: IntCounter,
    commit_seconds: Histogram,
    queue: IntGauge,
}

impl Meters {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let commits = IntCounter::new(
            metrics::FORWARDERS_COMMITS,
            "Transactions of forwarders' progress that were made durable",
        )?;
        let commit_seconds = Histogram::with_opts(
            HistogramOpts::new(
                metrics::FORWARDERS_COMMIT_SECONDS,
                "How long a transaction of forwarders' progress took, fsync included",
            )
            .buckets(prometheus::exponential_buckets(0.000_5, 2.0, 14)?),
        )?;
        let queue = IntGauge::new(
            metrics::FORWARDERS_STORE_QUEUE,
            "Requests waiting for the writer of forwarders' progress",
        )?;
        let limit = IntGauge::new(
            metrics::FORWARDERS_STORE_QUEUE_LIMIT,
            "Requests that may wait before forwarders are slowed",
        )?;
        limit.set(i64::try_from(QUEUE_REQUESTS).unwrap_or(i64::MAX));
        registry.register(Box::new(commits.clone()))?;
        registry.register(Box::new(commit_seconds.clone()))?;
        registry.register(Box::new(queue.clone()))?;
        registry.register(Box::new(limit))?;
        Ok(Self { commits, commit_seconds, queue })
    }
}
