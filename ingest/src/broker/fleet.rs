//! This node among others that take routers: whose session is where, and what
//! nodes tell one another.
//!
//! It stands beside a reading's way. A router that comes here is connected at
//! once; that it is held here is said to the others a moment later by
//! [`super::presence`], and whoever held it before ends its own connection when
//! it hears of that. A call to a router, or word of its attributes, goes to the
//! nodes that hold it as a letter.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dashmap::DashMap;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};
use schema::{DeviceId, RouterId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::cluster::{Cluster, ClusterError, HeldSession, NodeId};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::node::Node;
use super::registry::{Connections, RpcError};
use super::session::End;
use crate::metrics as names;

/// How often a node says that it lives.
pub(crate) const BEAT: Duration = Duration::from_secs(2);

/// Calls from other nodes that wait here for routers' answers; more are busy.
const MAX_CALLS: usize = 256;

/// What one node tells another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Letter {
    /// Shared attributes of the device have changed in the store.
    SharedChanged {
        device: DeviceId,
    },
    Call {
        from: u64,
        call: u64,
        device: DeviceId,
        method: String,
        params: Value,
        timeout_ms: u64,
    },
    Answer {
        call: u64,
        answer: Result<String, RpcError>,
    },
}

impl Letter {
    const KINDS: [&str; 3] = ["shared_changed", "call", "answer"];

    fn kind(&self) -> &'static str {
        match self {
            Self::SharedChanged { .. } => "shared_changed",
            Self::Call { .. } => "call",
            Self::Answer { .. } => "answer",
        }
    }
}

/// A session, as other nodes show it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Shown {
    pub peer: std::net::SocketAddr,
    pub is_mqtt5: bool,
    pub is_tls: bool,
}

type Answered = oneshot::Sender<Result<String, RpcError>>;

/// The nodes that share the store, as this one sees them.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub cluster: Cluster,
    name: String,
    takes_routers: bool,
    waiting: DashMap<u64, Answered>,
    calls: Arc<Semaphore>,
    metrics: Metrics,
}

impl Fleet {
    pub fn new(
        cluster: Cluster,
        name: String,
        takes_routers: bool,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::register(registry)?;
        let calls = Arc::new(Semaphore::new(MAX_CALLS));
        Ok(Self { cluster, name, takes_routers, waiting: DashMap::new(), calls, metrics })
    }

    /// The sessions of a router that other nodes hold.
    pub fn elsewhere(&self, router: RouterId) -> Vec<HeldSession> {
        let own = self.cluster.node();
        let mut sessions = self.cluster.of(router);
        sessions.retain(|session| session.node.is_some() && session.node != own);
        sessions
    }

    /// The other nodes that hold a router.
    pub fn holders(&self, router: RouterId) -> Vec<NodeId> {
        let own = self.cluster.node();
        let mut nodes = self.cluster.holders(router);
        nodes.retain(|node| Some(*node) != own);
        nodes
    }

    /// Whether another node is there to which routers can go.
    pub fn has_others(&self) -> bool {
        let (own, nodes) = (self.cluster.node(), self.cluster.nodes());
        nodes.iter().any(|node| node.takes_routers && Some(node.id) != own)
    }

    /// Asks connections to go to another node, so many a second at most: as many
    /// come to the others.
    pub async fn drain(&self, node: &Node, per_s: u32) {
        let mut handles = Vec::new();
        node.registry.for_each(|handle| handles.push(Arc::clone(handle)));
        let per_turn = (per_s / 10).max(1) as usize;
        let mut turns = interval(Duration::from_secs(1) / (per_s.clamp(1, 10)));
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rest = handles.len();
        for some in handles.chunks(per_turn) {
            self.metrics.draining.set(i64::try_from(rest).unwrap_or(i64::MAX));
            turns.tick().await;
            some.iter().for_each(|handle| handle.end(End::Moved));
            rest -= some.len();
        }
        self.metrics.draining.set(0);
    }

    /// Has the nodes that hold a router give it a device's shared attributes.
    pub async fn push_shared(&self, router: RouterId, device: DeviceId) {
        let to = self.holders(router);
        if to.is_empty() {
            return;
        }
        if let Err(error) = self.write(to, &Letter::SharedChanged { device }).await {
            tracing::warn!(%error, %device, "a router gets its attributes when it comes again");
        }
    }

    /// Calls a device of a router that other nodes hold. The caller limits the
    /// time.
    pub async fn call(
        &self,
        call: u64,
        router: RouterId,
        device: DeviceId,
        (method, params): (&str, &Value),
        timeout: Duration,
    ) -> Result<String, RpcError> {
        let Some(own) = self.cluster.node() else { return Err(RpcError::Offline) };
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let mut error = RpcError::Offline;
        for holder in self.holders(router) {
            let (answered, answer) = oneshot::channel();
            self.waiting.insert(call, answered);
            let _forget = Forget { waiting: &self.waiting, call };
            let (method, params) = (method.to_owned(), params.clone());
            let letter = Letter::Call { from: own.0, call, device, method, params, timeout_ms };
            if let Err(cause) = self.write(vec![holder], &letter).await {
                tracing::warn!(error = %cause, %device, "a call cannot be passed on");
                continue;
            }
            match answer.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(refused)) => error = refused,
                Err(_dropped) => error = RpcError::Disconnected,
            }
        }
        Err(error)
    }

    async fn write(&self, to: Vec<NodeId>, letter: &Letter) -> Result<(), ClusterError> {
        let body = serde_json::to_string(letter).expect("a letter is JSON");
        self.cluster.write(to, body).await?;
        self.metrics.letters.with_label_values(&[letter.kind()]).inc();
        Ok(())
    }
}

/// A call is waited for only as long as somebody waits.
struct Forget<'a> {
    waiting: &'a DashMap<u64, Answered>,
    call: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.waiting.remove(&self.call);
    }
}

/// Says that this node lives and hears the others, until it is aborted.
pub(super) async fn run(node: Arc<Node>, fleet: Arc<Fleet>, connections: Connections) {
    let mut words = fleet.cluster.follow();
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_beat = tokio::select! {
            () = words.next() => false,
            _ = beats.tick() => true,
        };
        if let Err(error) = turn(&node, &fleet, &connections, is_beat).await {
            fleet.metrics.failures.inc();
            tracing::warn!(%error, "other nodes are not heard for now");
        }
    }
}

async fn turn(
    node: &Arc<Node>,
    fleet: &Arc<Fleet>,
    connections: &Connections,
    is_beat: bool,
) -> Result<(), ClusterError> {
    let cluster = &fleet.cluster;
    if is_beat {
        if !cluster.beat().await? {
            let is_first = cluster.node().is_none();
            cluster.enter(&fleet.name, fleet.takes_routers).await?;
            cluster.beat().await?;
            if !is_first {
                enter_again(node);
            }
        }
        let nodes = cluster.nodes().len();
        fleet.metrics.nodes.set(i64::try_from(nodes).unwrap_or(i64::MAX));
    }
    let heard = cluster.hear().await?;
    for session in &heard.sessions {
        yield_session(node, fleet, session);
    }
    for letter in heard.letters {
        match serde_json::from_str(&letter) {
            Ok(letter) => read(letter, fleet, connections),
            // Of a later version: whoever wrote it gets no answer.
            Err(error) => tracing::warn!(%error, "a node's letter cannot be read"),
        }
    }
    Ok(())
}

/// Others took this node for dead: all that it holds is said again.
fn enter_again(node: &Node) {
    tracing::warn!("other nodes took this one for dead; it enters anew");
    node.registry.for_each(|handle| {
        handle.announced.store(0, Ordering::Release);
        node.ledger.connected(RouterId(handle.router.id), handle.connected_at);
    });
}

/// Ends a connection here whose client has come to another node since.
pub(super) fn yield_session(node: &Node, fleet: &Fleet, session: &HeldSession) {
    if session.node.is_none() || session.node == fleet.cluster.node() {
        return;
    }
    for handle in node.registry.of(session.router) {
        let announced = handle.announced.load(Ordering::Acquire);
        // One that is not announced yet may have come later.
        if handle.client_id == session.client_id && announced != 0 && announced < session.revision {
            fleet.metrics.yielded.inc();
            handle.end(End::TakenOver);
        }
    }
}

fn read(letter: Letter, fleet: &Arc<Fleet>, connections: &Connections) {
    match letter {
        Letter::SharedChanged { device } => connections.push_shared_here(device),
        Letter::Answer { call, answer } => {
            if let Some((_, waiting)) = fleet.waiting.remove(&call) {
                // The caller may have stopped waiting.
                let _ = waiting.send(answer);
            }
        }
        Letter::Call { from, call, device, method, params, timeout_ms } => {
            let turn = Arc::clone(&fleet.calls).try_acquire_owned();
            let (fleet, connections) = (Arc::clone(fleet), connections.clone());
            tokio::spawn(async move {
                let answer = match turn {
                    Ok(_turn) => {
                        let timeout = Duration::from_millis(timeout_ms);
                        connections.call_here(device, &method, &params, timeout).await
                    }
                    Err(_full) => Err(RpcError::Busy),
                };
                let answer = Letter::Answer { call, answer: answer.map(String::from) };
                if let Err(error) = fleet.write(vec![NodeId(from)], &answer).await {
                    tracing::warn!(%error, "the answer to a call cannot be passed on");
                }
            });
        }
    }
}

#[derive(Debug)]
struct Metrics {
    nodes: IntGauge,
    draining: IntGauge,
    failures: IntCounter,
    yielded: IntCounter,
    letters: IntCounterVec,
}

impl Metrics {
    fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let letters =
            Opts::new(names::CLUSTER_LETTERS_TOTAL, "What was written to other nodes, by kind");
        let metrics = Self {
            nodes: IntGauge::new(
                names::CLUSTER_NODES,
                "Nodes that share the store, those that have just died included",
            )?,
            draining: IntGauge::new(
                names::CONNECTIONS_DRAINING,
                "Connections that are still to be asked to go to another node",
            )?,
            failures: IntCounter::new(
                names::CLUSTER_FAILURES_TOTAL,
                "Times that other nodes could not be heard",
            )?,
            yielded: IntCounter::new(
                names::CLUSTER_YIELDED_TOTAL,
                "Connections that ended because their client came to another node",
            )?,
            letters: IntCounterVec::new(letters, &["kind"])?,
        };
        for kind in Letter::KINDS {
            metrics.letters.with_label_values(&[kind]);
        }
        registry.register(Box::new(metrics.nodes.clone()))?;
        registry.register(Box::new(metrics.draining.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.yielded.clone()))?;
        registry.register(Box::new(metrics.letters.clone()))?;
        Ok(metrics)
    }
}
