//! Presence where several nodes take routers: what one node sees is not all.
//!
//! A node notes in the cluster's table which sessions it holds before it says
//! that a router has come, and says that one has gone only when no node holds it
//! any more. The table also orders what different nodes say of one router: each
//! statement is later than the one before, whatever the clocks show. Of a node
//! that has died, the first of the others says where its routers are.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::{HashMap, HashSet};
use schema::{Router, RouterId, TimestampMs};
use store::Entry;
use store::cluster::{ClusterNode, EndedSession, HeldSession, NewSession, NodeId};

use super::super::fleet::{Fleet, Shown, yield_session};
use super::super::frame::Version;
use super::super::node::Node;
use super::super::registry::Handle;
use super::super::session::End;
use super::Known;
use super::ledger::Edge;
use super::statement::{SayError, Statement};
use super::task::Task;

/// A session that is told of later than this after it came may be older than one
/// on another node, and takes nothing over.
const FRESH_MS: i64 = 5_000;

/// What a node knows of the others, beside the table.
#[derive(Debug)]
pub(super) struct Sharing {
    pub fleet: Arc<Fleet>,
    /// Nobody had a session in the table when the node started.
    is_new: bool,
    /// Under which this node has noted its sessions.
    life: Option<NodeId>,
    /// The sessions that this node has noted.
    noted: HashMap<RouterId, Vec<(Box<str>, u64)>>,
    pulses: Pulses,
}

impl Sharing {
    pub fn new(fleet: Arc<Fleet>) -> Self {
        let (noted, pulses) = (HashMap::new(), Pulses::default());
        Self { fleet, is_new: false, life: None, noted, pulses }
    }
}

/// How long nodes have not been heard, by the database's clock alone.
#[derive(Debug, Default)]
struct Pulses {
    /// Our own last beat.
    own: i64,
    /// When each was heard last, and our own beat when that was seen first.
    heard: HashMap<NodeId, (TimestampMs, i64)>,
}

impl Pulses {
    /// Looks at the nodes of the last beat. After a time in which this node
    /// could not beat either, nobody is older than that beat. False where that was
    /// looked at before.
    fn look(&mut self, own: NodeId, nodes: &[ClusterNode], dead_ms: i64) -> bool {
        let Some(beat) = nodes.iter().find(|node| node.id == own).map(|node| node.heard_at.0)
        else {
            return false;
        };
        if beat == self.own {
            return false;
        }
        if beat - self.own > dead_ms / 2 {
            self.heard.clear();
        }
        self.own = beat;
        self.heard.retain(|id, _| nodes.iter().any(|node| node.id == *id));
        for node in nodes {
            let seen = self.heard.entry(node.id).or_insert((node.heard_at, beat));
            if seen.0 != node.heard_at {
                *seen = (node.heard_at, beat);
            }
        }
        true
    }

    fn silent_ms(&self, node: NodeId) -> i64 {
        self.heard.get(&node).map_or(0, |(_, since)| self.own - since)
    }
}

/// What there is to say of one router.
struct Move {
    entry: Arc<Entry<Router>>,
    connected: bool,
    at: TimestampMs,
    cause: Option<End>,
}

impl Task {
    /// Waits until the node has entered and knows who holds what.
    pub(super) async fn enter(&mut self) {
        let Some(sharing) = &mut self.sharing else { return };
        let cluster = sharing.fleet.cluster.clone();
        while cluster.node().is_none() || !cluster.is_loaded() {
            tokio::time::sleep(super::task::CATCH_UP_PAUSE).await;
        }
        sharing.is_new = cluster.is_empty();
    }

    /// Notes what has come and gone here, and says what follows from that.
    pub(super) async fn share_edges(&mut self, edges: &[(RouterId, Edge)]) -> Result<(), SayError> {
        let node = Arc::clone(&self.shared.node);
        let Some(sharing) = &mut self.sharing else { return Ok(()) };
        let own = sharing.fleet.cluster.node().ok_or(SayError::NotEntered)?;
        if sharing.life != Some(own) {
            // What an earlier life had noted is not this one's.
            (sharing.life, sharing.noted) = (Some(own), HashMap::new());
            self.shared.known.clear();
        }
        let (mut new, mut ended) = (Vec::new(), Vec::new());
        let mut came: HashMap<RouterId, Vec<Arc<Handle>>> = HashMap::new();
        for (id, edge) in edges {
            let handles = node.registry.of(*id);
            let noted = sharing.noted.get(id).map_or(&[][..], Vec::as_slice);
            let is_noted = |handle: &Arc<Handle>| noted.iter().any(|it| it.1 == handle.number);
            for handle in handles.iter().filter(|handle| !is_noted(handle)) {
                new.push(announcement(*id, handle));
                came.entry(*id).or_default().push(Arc::clone(handle));
            }
            // Who was asked to go elsewhere is taken over there, or has gone
            // when this node is not heard any more.
            if edge.cause == Some(End::Moved) {
                continue;
            }
            let is_here = |number| handles.iter().any(|handle| handle.number == number);
            for (client_id, number) in noted.iter().filter(|(_, number)| !is_here(*number)) {
                let (client_id, number) = (client_id.clone(), *number);
                // Where the client came again here, that takes its place.
                if !handles.iter().any(|handle| handle.client_id == client_id) {
                    ended.push(EndedSession { router: *id, client_id, number, said_at: edge.at.0 });
                }
            }
        }
        let gone: HashSet<RouterId> = ended.iter().map(|session| session.router).collect();
        let mut sessions: HashMap<RouterId, Vec<HeldSession>> = HashMap::new();
        if !new.is_empty() || !ended.is_empty() {
            let said = sharing.fleet.cluster.say(own, new, ended).await?;
            for session in said {
                sessions.entry(session.router).or_default().push(session);
            }
        }
        for (id, held) in &sessions {
            let mine = held.iter().filter(|session| session.node == Some(own));
            let mine: Vec<_> = mine.map(|it| (it.client_id.clone(), it.number)).collect();
            for handle in came.get(id).into_iter().flatten() {
                // What another node holds was told too late.
                let of_client = held.iter().find(|it| it.client_id == handle.client_id);
                match of_client {
                    Some(session) if session.node == Some(own) => {
                        handle.announced.store(session.revision, Ordering::Release);
                    }
                    Some(session) => {
                        handle.announced.store(1, Ordering::Release);
                        yield_session(&node, &sharing.fleet, session);
                    }
                    None => {}
                }
            }
            match mine.is_empty() {
                true => sharing.noted.remove(id),
                false => sharing.noted.insert(*id, mine),
            };
        }
        self.say_moves(edges, &came, &gone, &sessions, own).await
    }

    async fn say_moves(
        &mut self,
        edges: &[(RouterId, Edge)],
        came: &HashMap<RouterId, Vec<Arc<Handle>>>,
        gone: &HashSet<RouterId>,
        sessions: &HashMap<RouterId, Vec<HeldSession>>,
        own: NodeId,
    ) -> Result<(), SayError> {
        let (mut statements, mut told) = (Vec::new(), Vec::new());
        let is_first = self.is_first(own);
        for (id, edge) in edges {
            let Some(entry) = self.shared.node.directory.router(*id) else {
                self.forget(*id);
                if gone.contains(id) {
                    told.push(*id);
                }
                continue;
            };
            let held = sessions.get(id).map_or(&[][..], Vec::as_slice);
            let at = held.iter().map(|it| it.said_at).max().unwrap_or(edge.at);
            let is_mine = held.iter().any(|it| it.node == Some(own));
            let is_held = held.iter().any(|it| it.node.is_some());
            if came.contains_key(id) && is_mine {
                // Another session of a router that is here already says nothing new.
                if !self.shared.known.get(id).is_some_and(|known| known.connected) {
                    let step = Move { entry, connected: true, at, cause: None };
                    statements.extend(self.moved(*id, step));
                }
            } else if gone.contains(id) {
                told.push(*id);
                if is_mine {
                    continue;
                }
                // Another node speaks for it from now on.
                self.shared.known.remove(id);
                self.silent.remove(id);
                if !is_held {
                    let step = Move { entry, connected: false, at, cause: edge.cause };
                    statements.extend(self.moved(*id, step));
                }
            } else {
                statements.extend(self.look_again(*id, entry, edge, is_first).await?);
            }
        }
        if let Some(error) = self.say(statements).await.error {
            // What has come is noted once more, and said then; of what has gone
            // the table knows that it was not said.
            if let Some(sharing) = &mut self.sharing {
                came.keys().for_each(|id| drop(sharing.noted.remove(id)));
            }
            return Err(error);
        }
        let Some(sharing) = &self.sharing else { return Ok(()) };
        if !told.is_empty() {
            sharing.fleet.cluster.told(told).await?;
        }
        Ok(())
    }

    /// The router's document has changed, or it is only to be looked at.
    async fn look_again(
        &mut self,
        id: RouterId,
        entry: Arc<Entry<Router>>,
        edge: &Edge,
        is_first: bool,
    ) -> Result<Option<Statement>, SayError> {
        if !self.shared.node.registry.of(id).is_empty() {
            let known = self.shared.known.get(&id).map(|known| *known);
            return Ok(known.and_then(|known| {
                self.stand(id, entry, Some(known), (known.connected, edge.at), None)
            }));
        }
        // Of a router that is nowhere the first node speaks.
        if !is_first || self.is_held(id) {
            return Ok(None);
        }
        self.shared.known.remove(&id);
        let known = self.recall(id, &entry).await?;
        self.shared.known.remove(&id);
        Ok(known.and_then(|it| self.stand(id, entry, Some(it), (false, edge.at), None)))
    }

    /// Whether any node holds the router; where this one is alone, the registry knows.
    pub(super) fn is_held(&self, id: RouterId) -> bool {
        self.sharing.as_ref().is_some_and(|it| !it.fleet.cluster.holders(id).is_empty())
    }

    /// What is said of a router that has come or gone. Who said something before
    /// may have been another node, so it is said whatever this one remembers.
    fn moved(&self, id: RouterId, step: Move) -> Option<Statement> {
        let Move { entry, connected, at, cause } = step;
        let location = self.place(&entry)?;
        let said = |connected, at| Known {
            connected,
            enabled: entry.enabled,
            since: at,
            silent_since: None,
            said_at: at,
        };
        let (before, after) = (said(!connected, at), said(connected, at));
        let (device, zone) = (entry.device, &location.time_zone);
        let mut rows = self.keys.standing(device, Some(&before), &after, cause, zone);
        self.keys.not_silent(&mut rows, device, at);
        // Of one that has gone the table knows.
        Some(Statement { router: id, entry, rows, after: connected.then_some(after) })
    }

    /// Looks for nodes that have died, and says where their routers are, if this
    /// node is the first of those that live.
    pub(super) async fn look_for_the_dead(&mut self) -> Result<(), SayError> {
        let dead_ms = i64::try_from(self.options.node_dead_ms).unwrap_or(i64::MAX);
        let grace_ms = i64::try_from(self.options.start_grace_ms).unwrap_or(i64::MAX);
        let Some(sharing) = &mut self.sharing else { return Ok(()) };
        let cluster = sharing.fleet.cluster.clone();
        let Some(own) = cluster.node() else { return Ok(()) };
        let nodes = cluster.nodes();
        let is_new = sharing.pulses.look(own, &nodes, dead_ms);
        if !is_new || !self.is_first(own) {
            return Ok(());
        }
        let Some(sharing) = &self.sharing else { return Ok(()) };
        let limit_ms = dead_ms.saturating_add(grace_ms);
        let dead = nodes.iter().filter(|node| sharing.pulses.silent_ms(node.id) > limit_ms);
        for dead in dead {
            tracing::warn!(node = dead.name, id = dead.id.0, "a node has died");
            cluster.bury(dead).await?;
        }
        let before = TimestampMs(Node::now().wall.0.saturating_sub(limit_ms));
        let ended = cluster.untold(before).await?;
        let mut gone: HashMap<RouterId, TimestampMs> = HashMap::new();
        for session in ended {
            let at = gone.entry(session.router).or_insert(session.said_at);
            *at = session.said_at.max(*at);
        }
        let mut statements = Vec::new();
        for (id, at) in &gone {
            let Some(entry) = self.shared.node.directory.router(*id) else { continue };
            if !self.is_held(*id) {
                let step = Move { entry, connected: false, at: *at, cause: None };
                statements.extend(self.moved(*id, step));
            }
        }
        self.say_all(statements).await?;
        if !gone.is_empty() {
            cluster.told(gone.into_keys().collect()).await?;
        }
        Ok(())
    }

    /// Whether this is the first of the nodes that take routers and live.
    fn is_first(&self, own: NodeId) -> bool {
        let dead_ms = i64::try_from(self.options.node_dead_ms).unwrap_or(i64::MAX);
        self.sharing.as_ref().is_some_and(|sharing| {
            let nodes = sharing.fleet.cluster.nodes();
            let lives = |node: &&ClusterNode| {
                node.takes_routers && sharing.pulses.silent_ms(node.id) <= dead_ms
            };
            nodes.iter().filter(lives).map(|node| node.id).min() == Some(own)
        })
    }

    /// Whether this node says of all routers how they stand when the start's grace
    /// is over: it is alone, or the first of a cluster whose history came from one
    /// machine.
    pub(super) fn settles_all(&self) -> Result<bool, SayError> {
        let Some(sharing) = &self.sharing else { return Ok(true) };
        let own = sharing.fleet.cluster.node().ok_or(SayError::NotEntered)?;
        Ok(sharing.is_new && self.is_first(own))
    }

    /// Tells the other nodes since when routers here are silent.
    pub(super) async fn share_silence(&self, silences: Vec<(RouterId, Option<TimestampMs>)>) {
        let Some(sharing) = self.sharing.as_ref().filter(|_| !silences.is_empty()) else { return };
        if let Err(error) = sharing.fleet.cluster.note_silence(silences).await {
            // It is said; only how the router stands is shown late elsewhere.
            tracing::warn!(%error, "other nodes do not learn of silent routers");
        }
    }
}

fn announcement(id: RouterId, handle: &Handle) -> NewSession {
    let is_mqtt5 = handle.version == Version::V5;
    let shown = Shown { peer: handle.peer, is_mqtt5, is_tls: handle.is_tls };
    let age_ms = Node::now().wall.0 - handle.connected_at.0;
    NewSession {
        router: id,
        client_id: handle.client_id.clone(),
        number: handle.number,
        connected_at: handle.connected_at.0,
        shown: serde_json::to_string(&shown).expect("an address is JSON"),
        is_fresh: age_ms < FRESH_MS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(heard: &[(u64, i64)]) -> Vec<ClusterNode> {
        let node = |&(id, heard_at)| ClusterNode {
            id: NodeId(id),
            name: String::new(),
            takes_routers: true,
            heard_at: TimestampMs(heard_at),
        };
        heard.iter().map(node).collect()
    }

    #[test]
    fn a_node_is_silent_as_long_as_it_is_not_heard_while_this_one_beats() {
        let mut pulses = Pulses::default();
        for beat in [100_000, 102_000, 104_000] {
            pulses.look(NodeId(1), &nodes(&[(1, beat), (2, 99_000)]), 10_000);
        }
        assert_eq!(pulses.silent_ms(NodeId(2)), 4_000);
        assert_eq!(pulses.silent_ms(NodeId(1)), 0);
        pulses.look(NodeId(1), &nodes(&[(1, 106_000), (2, 105_000)]), 10_000);
        assert_eq!(pulses.silent_ms(NodeId(2)), 0);
    }

    #[test]
    fn while_the_database_is_away_nobody_dies() {
        let mut pulses = Pulses::default();
        pulses.look(NodeId(1), &nodes(&[(1, 100_000), (2, 99_000)]), 10_000);
        pulses.look(NodeId(1), &nodes(&[(1, 200_000), (2, 99_000)]), 10_000);
        assert_eq!(pulses.silent_ms(NodeId(2)), 0, "it could not beat either");
        pulses.look(NodeId(1), &nodes(&[(1, 202_000), (2, 99_000)]), 10_000);
        assert_eq!(pulses.silent_ms(NodeId(2)), 2_000);
    }
}
