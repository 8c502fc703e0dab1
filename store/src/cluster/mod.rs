//! Which nodes share the database, which of them holds which router's session,
//! and what they have to tell one another. Only PostgreSQL has it: a folder is
//! one process's.
//!
//! A node says with one transaction for many routers that it holds their
//! sessions or holds them no more. All such transactions follow one another under
//! one lock, so that two nodes agree on who came later without comparing clocks.
//! Every node keeps a copy of the table in memory and asks only for what has
//! changed.

mod copy;
mod sql;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use schema::{RouterId, TimestampMs};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::sql::{Database, PostgresOptions, Session, SqlError};
use copy::Copy;

/// The channel on which it is said that something has changed.
const CHANNEL: &str = "baken_cluster";

/// Words about changes that wait; one says all that several would.
const WORDS: usize = 1;

/// A node's life: a process that starts again is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

/// A node, as its table tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    pub id: NodeId,
    pub name: String,
    /// Routers may connect to it.
    pub takes_routers: bool,
    /// When it was heard last, by the database's clock.
    pub heard_at: TimestampMs,
}

/// The last session of one client of a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSession {
    pub router: RouterId,
    pub client_id: Box<str>,
    /// Who holds it; none when it has ended.
    pub node: Option<NodeId>,
    /// That node's own number of the connection.
    pub number: u64,
    pub connected_at: TimestampMs,
    /// The time under which it was said last that the router came or went.
    pub said_at: TimestampMs,
    pub silent_since: Option<TimestampMs>,
    /// JSON, as the node wrote it.
    pub shown: Box<str>,
    /// Of the change that made it so.
    pub revision: u64,
}

/// A session that a node has come to hold.
#[derive(Clone, Debug, Serialize)]
pub struct NewSession {
    pub router: RouterId,
    pub client_id: Box<str>,
    pub number: u64,
    pub connected_at: i64,
    /// JSON, for people.
    pub shown: String,
    /// Takes the session over from whoever holds it. One that is told of late
    /// may be the older one, and takes only what nobody holds.
    pub is_fresh: bool,
}

/// A session that a node holds no more.
#[derive(Clone, Debug, Serialize)]
pub struct EndedSession {
    pub router: RouterId,
    pub client_id: Box<str>,
    pub number: u64,
    pub said_at: i64,
}

/// What has changed since the node asked last.
#[derive(Debug, Default)]
pub struct Heard {
    /// Sessions that are otherwise now.
    pub sessions: Vec<HeldSession>,
    /// What other nodes have written to this one, oldest first.
    pub letters: Vec<String>,
}

/// Tells that another node has changed something, for as long as it is kept.
#[derive(Debug)]
pub struct Words {
    words: mpsc::Receiver<()>,
    /// The follower's is a weak one.
    _sender: mpsc::Sender<()>,
}

impl Words {
    /// Waits for the next word. It may be given up and waited for again.
    pub async fn next(&mut self) {
        // None would say that there is no sender, but there is ours.
        let _ = self.words.recv().await;
    }
}

/// Why the nodes' tables could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("the nodes' tables: {0}")]
    Sql(#[from] SqlError),
    #[error("the nodes' tables could not be asked: the process ends")]
    Closed,
}

/// A node's view of all nodes and sessions; clones share it.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Arc<Database>,
    session: Mutex<Session>,
    /// This node, once it has entered; 0 before.
    node: AtomicU64,
    copy: RwLock<Copy>,
}

/// The tables in PostgreSQL.
pub(crate) fn database(options: &PostgresOptions) -> Arc<Database> {
    Database::schema(options, "baken_cluster", sql::MIGRATIONS)
}

impl Cluster {
    /// Opens the nodes' tables. Blocks.
    ///
    /// # Errors
    /// [`ClusterError`] when they cannot be opened.
    pub(crate) fn open_postgres(options: &PostgresOptions) -> Result<Self, ClusterError> {
        let database = database(options);
        let session = Mutex::new(database.open()?);
        let shared = Shared { database, session, node: AtomicU64::new(0), copy: RwLock::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Gets a word whenever another node has changed something.
    #[must_use]
    pub fn follow(&self) -> Words {
        let (sender, words) = mpsc::channel(WORDS);
        self.shared.database.follow(CHANNEL, &sender, || ());
        Words { words, _sender: sender }
    }

    /// Enters a new life of a node.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn enter(&self, name: &str, takes_routers: bool) -> Result<NodeId, ClusterError> {
        let name = name.to_owned();
        let node = self.work(move |session| sql::enter(session, &name, takes_routers)).await?;
        self.shared.node.store(node.0, Ordering::Release);
        Ok(node)
    }

    /// This node, once it has entered.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        let node = self.shared.node.load(Ordering::Acquire);
        (node != 0).then_some(NodeId(node))
    }

    /// Says that this node lives, and learns who else is there. False when
    /// others have taken it for dead: it has to enter anew, and holds nothing.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn beat(&self) -> Result<bool, ClusterError> {
        let Some(node) = self.node() else { return Ok(false) };
        let (is_known, nodes) = self.work(move |session| sql::beat(session, node)).await?;
        self.copy_mut().nodes = nodes;
        Ok(is_known)
    }

    /// Learns what has changed, and takes what was written to this node.
    ///
    /// # Errors
    /// [`ClusterError`]; it is learnt the next time then, but for letters that
    /// were on their way.
    pub async fn hear(&self) -> Result<Heard, ClusterError> {
        let mut heard = Heard::default();
        loop {
            let (after, node) = (self.copy().revision, self.node());
            let (sessions, letters) =
                self.work(move |session| sql::hear(session, node, after)).await?;
            heard.letters.extend(letters);
            let is_all = sessions.len() < sql::MAX_HEARD;
            self.copy_mut().hear(&sessions);
            heard.sessions.extend(sessions);
            if is_all {
                self.copy_mut().is_loaded = true;
                return Ok(heard);
            }
        }
    }

    /// Says which sessions a node holds now and which no more, all or none, and
    /// answers how all sessions of their routers stand then. What another node
    /// has taken over in between is not ended.
    ///
    /// # Errors
    /// [`ClusterError`]; the same may be said again.
    pub async fn say(
        &self,
        node: NodeId,
        new: Vec<NewSession>,
        ended: Vec<EndedSession>,
    ) -> Result<Vec<HeldSession>, ClusterError> {
        let sessions = self.work(move |session| sql::say(session, node, &new, &ended)).await?;
        self.copy_mut().learn(&sessions);
        Ok(sessions)
    }

    /// Notes of routers whose sessions this node holds since when they are
    /// silent, for others to see.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn note_silence(
        &self,
        routers: Vec<(RouterId, Option<TimestampMs>)>,
    ) -> Result<(), ClusterError> {
        let Some(node) = self.node() else { return Ok(()) };
        self.work(move |session| sql::note_silence(session, node, &routers)).await
    }

    /// Sessions that ended before a time of which nobody has said so yet: those
    /// of a node that has died, or that died before it could say it.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn untold(&self, before: TimestampMs) -> Result<Vec<HeldSession>, ClusterError> {
        self.work(move |session| sql::untold(session, before)).await
    }

    /// Notes of routers that it was said, or need not be, that they have gone.
    ///
    /// # Errors
    /// [`ClusterError`]; it is said again then.
    pub async fn told(&self, routers: Vec<RouterId>) -> Result<(), ClusterError> {
        self.work(move |session| sql::told(session, &routers)).await
    }

    /// Ends all sessions of a node that has died, under the time at which it was
    /// heard last, and forgets the node.
    ///
    /// # Errors
    /// [`ClusterError`]; the same may be done again.
    pub async fn bury(&self, dead: &ClusterNode) -> Result<(), ClusterError> {
        let (node, at) = (dead.id, dead.heard_at);
        let bury = move |session: &mut Session| {
            let sessions = sql::bury(session, node, at)?;
            sql::forget(session, node)?;
            Ok(sessions)
        };
        let sessions = self.work(bury).await?;
        self.copy_mut().learn(&sessions);
        Ok(())
    }

    /// Writes to other nodes. Those that die take theirs with them.
    ///
    /// # Errors
    /// [`ClusterError`]; then nothing was written.
    pub async fn write(&self, to: Vec<NodeId>, body: String) -> Result<(), ClusterError> {
        self.work(move |session| sql::write(session, &to, &body)).await
    }

    /// The nodes that hold a router, each once.
    #[must_use]
    pub fn holders(&self, router: RouterId) -> Vec<NodeId> {
        self.copy().holders(router)
    }

    /// The sessions of a router, those that have ended included.
    #[must_use]
    pub fn of(&self, router: RouterId) -> Vec<HeldSession> {
        self.copy().of(router)
    }

    /// The nodes, this one among them, as they were at the last beat.
    #[must_use]
    pub fn nodes(&self) -> Vec<ClusterNode> {
        self.copy().nodes.clone()
    }

    /// Whether all sessions have been learnt once.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.copy().is_loaded
    }

    /// Whether nobody's session is or was ever known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copy().is_empty()
    }

    fn copy(&self) -> std::sync::RwLockReadGuard<'_, Copy> {
        self.shared.copy.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy_mut(&self) -> std::sync::RwLockWriteGuard<'_, Copy> {
        self.shared.copy.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with the one connection, on a thread for blocking work.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, ClusterError> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut shared.session.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(done.await.map_err(|_| ClusterError::Closed)??)
    }
}
