//! Whether routers are there, journaled as readings of their own devices.
//!
//! It stands beside a reading's way: connections note in the [`ledger`] that a
//! router came or went, and one task turns that into rows that take the same way
//! as all telemetry, so that alarms over them are raised once, at their own
//! time, and can be replayed. It never touches a connection and never delays one.
//!
//! After a restart nothing is said of a router until the history holds what the
//! journal held, and of one that is away until the start's grace is over: a
//! fleet that comes back at once has not been away.

mod ledger;
mod shared;
mod statement;
mod task;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use prometheus::{IntCounter, IntGauge};
use schema::{RouterId, TimestampMs};
use serde::{Deserialize, Serialize};
use store::History;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Broker;
use super::node::Node;
use crate::metrics as names;
use crate::recorder::Recorder;
pub(crate) use ledger::Ledger;
use statement::Keys;
use task::Task;

/// How presence is watched. Part of the server's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceOptions {
    /// How long after the start a router that is away is not yet said to be so.
    pub start_grace_ms: u64,
    /// How often it is looked for routers that have fallen silent.
    pub check_interval_ms: u64,
    /// At most so often it is said what was refused of a router.
    pub refused_interval_ms: u64,
    /// The pause before a write that failed is tried again.
    pub retry_ms: u64,
    /// A node that shares the store and is not heard for so long has died; its
    /// routers are said to have gone after the start's grace, unless they have
    /// come to another.
    pub node_dead_ms: u64,
}

impl Default for PresenceOptions {
    fn default() -> Self {
        Self {
            start_grace_ms: 10_000,
            check_interval_ms: 1_000,
            refused_interval_ms: 60_000,
            retry_ms: 1_000,
            node_dead_ms: 10_000,
        }
    }
}

impl PresenceOptions {
    /// The longest time from one reading that tells of a router's refused
    /// messages to the next, while they go on: what was refused just after one
    /// waits for the interval, and each of the two waits to be looked at.
    #[must_use]
    pub fn refused_repeat_ms(&self) -> u64 {
        self.refused_interval_ms.saturating_add(self.check_interval_ms.saturating_mul(2))
    }
}

/// Whether a router can be reached, as far as the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The node has just started and the router is not connected yet.
    Unknown,
    Offline,
    /// Connected, without telemetry for longer than its limit.
    Silent,
    Active,
}

/// How a router stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterPresence {
    pub reach: Reach,
    /// Since when, where that is known: not of a router that was never connected.
    pub since: Option<TimestampMs>,
}

/// What was said of a router last; all of it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    connected: bool,
    enabled: bool,
    /// When it came or went.
    since: TimestampMs,
    /// The last telemetry before the silence that goes on.
    silent_since: Option<TimestampMs>,
    /// The time of the last statement; the next is later.
    said_at: TimestampMs,
}

#[derive(Debug)]
struct Shared {
    node: Arc<Node>,
    known: DashMap<RouterId, Known>,
    /// The start's grace is over, and all routers were looked at.
    is_settled: std::sync::atomic::AtomicBool,
}

/// Watches the routers of a broker. Dropped, it ends without being waited for.
#[derive(Debug)]
pub struct Presence {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Presence {
    /// Starts to watch, on the current runtime.
    ///
    /// # Errors
    /// When a metric of the same name is registered already.
    pub fn start(
        broker: &Broker,
        recorder: Arc<Recorder>,
        history: History,
        options: PresenceOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let node = Arc::clone(&broker.node);
        node.ledger.switch(true);
        let shared = Arc::new(Shared {
            node: Arc::clone(&node),
            known: DashMap::new(),
            is_settled: false.into(),
        });
        // Those who were let in before the ledger was on.
        node.registry.for_each(|handle| {
            node.ledger.connected(RouterId(handle.router.id), handle.connected_at);
        });
        let (stop, stopping) = watch::channel(false);
        let task = Task {
            shared: Arc::clone(&shared),
            keys: Keys::new(node.submitter.keys()),
            metrics: Metrics::register(registry)?,
            recorder,
            history,
            options,
            started_at: Node::now().wall,
            silent: Default::default(),
            refused: Default::default(),
            came: Default::default(),
            limits_changed: Default::default(),
            sharing: node.fleet.clone().map(shared::Sharing::new),
            stopping,
        };
        let task = Mutex::new(Some(tokio::spawn(task.run())));
        Ok(Self { shared, stop, task })
    }

    /// Watches nobody: routers are taken in by other nodes, whose table says how
    /// they stand.
    #[must_use]
    pub fn elsewhere(broker: &Broker) -> Self {
        let shared = Arc::new(Shared {
            node: Arc::clone(&broker.node),
            known: DashMap::new(),
            is_settled: broker.node.fleet.is_some().into(),
        });
        Self { shared, stop: watch::Sender::new(false), task: Mutex::default() }
    }

    /// How a router stands now.
    #[must_use]
    pub fn of(&self, router: RouterId) -> RouterPresence {
        let known = self.shared.known.get(&router).map(|known| *known);
        let is_settled = self.shared.is_settled.load(std::sync::atomic::Ordering::Acquire);
        let handles = self.shared.node.registry.of(router);
        if let Some(fleet) = self.shared.node.fleet.as_ref().filter(|_| handles.is_empty()) {
            return of_sessions(&fleet.cluster, router, is_settled);
        }
        let connected_at = handles.iter().map(|handle| handle.connected_at).min();
        let (reach, since) = match (connected_at, known) {
            (None, Some(known)) if !known.connected => (Reach::Offline, Some(known.since)),
            // It has just gone, or was there when the node went down.
            (None, Some(_)) if !is_settled => (Reach::Unknown, None),
            (None, None) if !is_settled => (Reach::Unknown, None),
            (None, _) => (Reach::Offline, None),
            (Some(_), Some(Known { silent_since: Some(since), .. })) => {
                (Reach::Silent, Some(since))
            }
            (Some(_), Some(known)) if known.connected => (Reach::Active, Some(known.since)),
            (Some(at), _) => (Reach::Active, Some(at)),
        };
        RouterPresence { reach, since }
    }

    /// Ends with what is in hand. Connections that end later are not noted: a
    /// node that stops says of nobody that they have gone.
    pub async fn stop(&self) {
        self.shared.node.ledger.switch(false);
        self.stop.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && task.await.is_err()
        {
            tracing::error!("the task that watches routers failed");
        }
    }
}

/// How a router stands that is not connected to this node.
fn of_sessions(cluster: &store::Cluster, router: RouterId, is_settled: bool) -> RouterPresence {
    let (held, ended): (Vec<_>, Vec<_>) =
        cluster.of(router).into_iter().partition(|session| session.node.is_some());
    let silent_since = held.iter().filter_map(|session| session.silent_since).max();
    let (reach, since) = match held.iter().map(|session| session.connected_at).min() {
        Some(_) if held.iter().all(|it| it.silent_since.is_some()) => (Reach::Silent, silent_since),
        Some(connected_at) => (Reach::Active, Some(connected_at)),
        // It may yet come back, for the first time that the nodes' tables see it.
        None if !cluster.is_loaded() || (ended.is_empty() && !is_settled) => (Reach::Unknown, None),
        None => (Reach::Offline, ended.iter().map(|session| session.said_at).max()),
    };
    RouterPresence { reach, since }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.shared.node.ledger.switch(false);
        self.stop.send_replace(true);
    }
}

#[derive(Debug)]
struct Metrics {
    rows: IntCounter,
    retries: IntCounter,
    waiting: IntGauge,
    silent: IntGauge,
}

impl Metrics {
    fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            rows: IntCounter::new(
                names::PRESENCE_READINGS_TOTAL,
                "Readings written of whether routers are there",
            )?,
            retries: IntCounter::new(
                names::PRESENCE_RETRIES_TOTAL,
                "Writes of presence that failed and are tried again",
            )?,
            waiting: IntGauge::new(
                names::PRESENCE_WAITING,
                "Routers that came or went and of which it is not written yet",
            )?,
            silent: IntGauge::new(
                names::PRESENCE_SILENT,
                "Routers that are connected and silent past their limit",
            )?,
        };
        registry.register(Box::new(metrics.rows.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.silent.clone()))?;
        Ok(metrics)
    }
}
