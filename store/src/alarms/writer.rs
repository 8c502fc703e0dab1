//! The one thread that writes `alarms.db`.
//!
//! It takes all requests that wait and makes them durable with one fsync; each
//! stands in a savepoint of its own, so a refused one takes nothing from the
//! others.

mod checkpoint;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use prometheus::Registry;
use schema::{Channel, PartitionId, TimestampMs};
use tokio::sync::{mpsc, oneshot, watch};

use checkpoint::Checkpoints;

use super::messages::{self, Handed, Interrupted, MessageRow, NewMessage, Report};
use super::metrics::Meters;
use super::notices::{self, Decisions};
use super::profiles::{self, ProfileChange, ProfileVersion};
use super::published::{self, PublishedPlace};
use super::{AlarmStoreError, Claim, Commit, commit, events, followed, message_log};
use crate::audit::NewEvent;
use crate::sql::{Database, Session, SqlError, Transaction};

/// Requests that wait before their callers are slowed.
const QUEUE_REQUESTS: usize = 256;

/// Requests that share a transaction at most.
const MAX_GROUP: usize = 256;

/// Held by a transaction that adds events or notices, so that they are seen in
/// the order of their sequences whichever node adds them. The number is the text
/// `baken-al` in ASCII.
const ORDER_LOCK: i64 = 0x62_61_6b_65_6e_2d_61_6c;

/// Where nodes tell one another of events, notices and messages.
const CHANNEL: &str = "baken_alarms";

pub(super) type Answer<T> = oneshot::Sender<Result<T, AlarmStoreError>>;

pub(super) enum Request {
    Claim(PartitionId, Answer<Claim>),
    Commit(Arc<Commit>, Answer<()>),
    ChangeProfile(Box<ProfileChange>, Answer<ProfileVersion>),
    Delivered(u64, Answer<()>),
    Record(Vec<NewEvent>, Answer<()>),
    Followed(&'static str, u64, Answer<()>),
    Decide(Box<Decisions>, Answer<()>),
    TakeMessages {
        channel: Channel,
        now: TimestampMs,
        limit: usize,
        answer: Answer<Vec<MessageRow>>,
    },
    Handed(Vec<Handed>, Answer<()>),
    Report(Box<Report>, Answer<bool>),
    RecoverMessages(TimestampMs, Answer<Interrupted>),
    AddMessage {
        message: Box<NewMessage>,
        at: TimestampMs,
        by: String,
        on_its_way: bool,
        answer: Answer<()>,
    },
    UseLink {
        id: [u8; 16],
        at: TimestampMs,
        expires_at: TimestampMs,
        answer: Answer<bool>,
    },
    Forget(TimestampMs, usize, Answer<u64>),
    BeginPublishing {
        topic: String,
        partitions: u16,
        answer: Answer<()>,
    },
    Published {
        topic: String,
        places: Vec<PublishedPlace>,
        answer: Answer<Vec<PartitionId>>,
    },
    /// Another node may have added events, notices or messages.
    Told,
    Close,
}

/// The handle on the thread.
#[derive(Debug)]
pub(super) struct Writer {
    requests: mpsc::Sender<Request>,
    thread: Mutex<Option<JoinHandle<()>>>,
    meters: Meters,
    latest_event: watch::Receiver<u64>,
    notices: watch::Receiver<u64>,
    messages: watch::Receiver<u64>,
}

impl Writer {
    pub fn start(session: Session, registry: &Registry) -> Result<Self, AlarmStoreError> {
        let meters = Meters::register(registry, QUEUE_REQUESTS)?;
        let (requests, receiver) = mpsc::channel(QUEUE_REQUESTS);
        let (told, latest_event) = watch::channel(events::latest(&session)?);
        let checkpoints = session.as_sqlite().map(Checkpoints::start).transpose()?.flatten();
        let (notices_written, notices) = watch::channel(0);
        let (messages_written, messages) = watch::channel(0);
        let worker = Worker {
            session,
            checkpoints,
            meters: meters.clone(),
            latest_event: told,
            notices: notices_written,
            messages: messages_written,
        };
        let thread = std::thread::Builder::new()
            .name("alarm-store".to_owned())
            .spawn(move || worker.run(receiver))
            .map_err(AlarmStoreError::Thread)?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { requests, thread, meters, latest_event, notices, messages })
    }

    pub async fn ask<T>(
        &self,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, AlarmStoreError> {
        let (answer, answered) = oneshot::channel();
        let place = self.requests.reserve().await.map_err(|_| AlarmStoreError::Closed)?;
        self.meters.queue.inc();
        place.send(request(answer));
        answered.await.unwrap_or(Err(AlarmStoreError::Closed))
    }

    /// Looks whenever another node has added something.
    pub fn follow(&self, database: &Database) {
        database.follow(CHANNEL, &self.requests, || Request::Told);
    }

    pub fn latest_event(&self) -> watch::Receiver<u64> {
        self.latest_event.clone()
    }

    pub fn notices_changed(&self) -> watch::Receiver<u64> {
        self.notices.clone()
    }

    pub fn messages_changed(&self) -> watch::Receiver<u64> {
        self.messages.clone()
    }

    pub async fn close(&self) {
        // An error says that the thread has ended already.
        let _ = self.requests.send(Request::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && tokio::task::spawn_blocking(move || thread.join()).await.is_err()
        {
            tracing::error!("the alarm store's thread could not be waited for");
        }
    }
}

/// Sends an answer once its transaction is durable, or that it failed.
type Reply = Box<dyn FnOnce(bool) + Send>;

struct Worker {
    session: Session,
    checkpoints: Option<Checkpoints>,
    meters: Meters,
    latest_event: watch::Sender<u64>,
    notices: watch::Sender<u64>,
    messages: watch::Sender<u64>,
}

/// What the requests of a transaction have written.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    events: u64,
    notices: u64,
    messages: u64,
}

impl Written {
    fn is_of_interest(&self) -> bool {
        self.events + self.notices + self.messages > 0
    }
}

impl Request {
    /// Whether it may add events or notices, whose order others follow.
    fn adds_in_order(&self) -> bool {
        match self {
            Self::Commit(stretch, _) => {
                !stretch.transitions.is_empty() || !stretch.notices.is_empty()
            }
            Self::ChangeProfile(..) | Self::Record(..) | Self::Decide(..) => true,
            _ => false,
        }
    }

    /// Says that it was not done, because the database is away.
    fn refuse(self) {
        fn refuse<T>(answer: Answer<T>) {
            // A caller that no longer waits needs no answer.
            let _ = answer.send(Err(AlarmStoreError::Sql(SqlError::NotDurable)));
        }
        match self {
            Self::Claim(_, answer) => refuse(answer),
            Self::Commit(_, answer)
            | Self::Delivered(_, answer)
            | Self::Record(_, answer)
            | Self::Followed(_, _, answer)
            | Self::Decide(_, answer)
            | Self::Handed(_, answer)
            | Self::AddMessage { answer, .. }
            | Self::BeginPublishing { answer, .. } => refuse(answer),
            Self::ChangeProfile(_, answer) => refuse(answer),
            Self::TakeMessages { answer, .. } => refuse(answer),
            Self::Report(_, answer) | Self::UseLink { answer, .. } => refuse(answer),
            Self::RecoverMessages(_, answer) => refuse(answer),
            Self::Forget(_, _, answer) => refuse(answer),
            Self::Published { answer, .. } => refuse(answer),
            Self::Told | Self::Close => {}
        }
    }
}

impl Worker {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::new();
        while requests.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
            let last = group.iter().any(|request| matches!(request, Request::Close));
            let told = group.iter().any(|request| matches!(request, Request::Told));
            group.retain(|request| !matches!(request, Request::Close | Request::Told));
            self.meters.queue.sub(i64::try_from(group.len()).unwrap_or(0));
            if told {
                self.told();
            }
            if !group.is_empty() {
                self.commit(std::mem::take(&mut group));
            }
            if last {
                break;
            }
        }
        if let Some(checkpoints) = self.checkpoints.take() {
            checkpoints.close();
        }
    }

    fn commit(&mut self, group: Vec<Request>) {
        let started = Instant::now();
        let mut replies: Vec<Reply> = Vec::with_capacity(group.len());
        let mut written = Written::default();
        let mut group = VecDeque::from(group);
        let result = self.session.transaction().and_then(|mut transaction| {
            if group.iter().any(Request::adds_in_order) {
                transaction.lock(ORDER_LOCK)?;
            }
            while !group.is_empty() {
                let savepoint = transaction.savepoint()?;
                let Some(request) = group.pop_front() else { break };
                replies.push(apply(savepoint, request, &mut written));
            }
            if written.is_of_interest() {
                transaction.notify(CHANNEL)?;
            }
            transaction.commit()
        });
        for request in group {
            request.refuse();
        }
        if let Err(error) = &result {
            tracing::error!(%error, "the alarm store could not commit; its callers try again");
        }
        self.meters.commits.inc();
        self.meters.events.inc_by(written.events);
        self.meters.notices.inc_by(written.notices);
        self.meters.commit_seconds.observe(started.elapsed().as_secs_f64());
        for reply in replies {
            reply(result.is_ok());
        }
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.committed();
        }
        self.tell_of_events();
        for (count, told) in [(written.notices, &self.notices), (written.messages, &self.messages)]
        {
            if count > 0 {
                told.send_modify(|total| *total += count);
            }
        }
    }

    /// Wakes all who wait here for what another node may have added.
    fn told(&mut self) {
        if let Err(error) = self.session.ready() {
            tracing::warn!(%error, "what other nodes have added is not seen for now");
            return;
        }
        self.tell_of_events();
        for told in [&self.notices, &self.messages] {
            told.send_modify(|total| *total += 1);
        }
    }

    /// Wakes those who follow the events, where there are new ones.
    fn tell_of_events(&self) {
        match events::latest(&self.session) {
            Ok(latest) => {
                self.latest_event
                    .send_if_modified(|known| std::mem::replace(known, latest) != latest);
            }
            Err(error) => tracing::error!(%error, "the events' end cannot be read"),
        }
    }
}

fn apply(savepoint: Transaction<'_>, request: Request, written: &mut Written) -> Reply {
    match request {
        Request::Claim(partition, answer) => {
            reply(savepoint, answer, |sql| commit::claim(sql, partition))
        }
        Request::Commit(stretch, answer) => reply(savepoint, answer, |sql| {
            commit::commit(sql, &stretch, &mut written.events)?;
            written.notices += notices::insert(sql, &stretch.notices)?;
            written.notices += notices::unshelve(sql, &stretch.transitions)?;
            Ok(())
        }),
        Request::ChangeProfile(change, answer) => {
            reply(savepoint, answer, |sql| profiles::change(sql, &change))
        }
        Request::Delivered(sequence, answer) => {
            reply(savepoint, answer, |sql| profiles::delivered(sql, sequence))
        }
        Request::Followed(follower, sequence, answer) => {
            reply(savepoint, answer, |sql| followed::set(sql, follower, sequence))
        }
        Request::Record(new, answer) => reply(savepoint, answer, |sql| {
            written.events += events::record(sql, &new)?;
            Ok(())
        }),
        Request::Decide(decisions, answer) => reply(savepoint, answer, |sql| {
            written.messages += decisions.messages.len() as u64;
            written.notices += decisions.later.len() as u64;
            notices::decide(sql, &decisions)
        }),
        Request::UseLink { id, at, expires_at, answer } => {
            reply(savepoint, answer, |sql| notices::use_link(sql, id, at, expires_at))
        }
        Request::TakeMessages { channel, now, limit, answer } => {
            reply(savepoint, answer, |sql| messages::take(sql, channel, now, limit))
        }
        Request::Handed(handed, answer) => {
            written.messages += 1;
            reply(savepoint, answer, |sql| messages::handed(sql, &handed))
        }
        Request::Report(report, answer) => {
            reply(savepoint, answer, |sql| messages::report(sql, &report))
        }
        Request::RecoverMessages(at, answer) => {
            reply(savepoint, answer, |sql| messages::recover(sql, at))
        }
        Request::AddMessage { message, at, by, on_its_way, answer } => {
            written.messages += 1;
            reply(savepoint, answer, |sql| messages::add(sql, &message, at, &by, on_its_way))
        }
        Request::Forget(before, limit, answer) => {
            reply(savepoint, answer, |sql| message_log::forget(sql, before, limit))
        }
        Request::BeginPublishing { topic, partitions, answer } => {
            reply(savepoint, answer, |sql| published::begin(sql, &topic, partitions))
        }
        Request::Published { topic, places, answer } => {
            reply(savepoint, answer, |sql| published::set(sql, &topic, &places))
        }
        Request::Told | Request::Close => Box::new(|_| {}),
    }
}

fn reply<T: Send + 'static>(
    savepoint: Transaction<'_>,
    answer: Answer<T>,
    work: impl FnOnce(&Session) -> Result<T, AlarmStoreError>,
) -> Reply {
    // A savepoint that is dropped takes back what was done in it.
    let result = work(&savepoint).and_then(|value| {
        savepoint.commit()?;
        Ok(value)
    });
    Box::new(move |durable| {
        let result = match result {
            Ok(_) if !durable => Err(AlarmStoreError::Sql(SqlError::NotDurable)),
            other => other,
        };
        // A caller that no longer waits needs no answer.
        let _ = answer.send(result);
    })
}
