//! A node's copy of the sessions' table.

use hashbrown::HashMap;
use schema::RouterId;

use super::{ClusterNode, HeldSession, NodeId};

#[derive(Debug, Default)]
pub(super) struct Copy {
    pub nodes: Vec<ClusterNode>,
    /// All changes up to this one are in it.
    pub revision: u64,
    pub is_loaded: bool,
    sessions: HashMap<RouterId, Vec<HeldSession>>,
}

impl Copy {
    /// Takes the next changes, in their order.
    pub fn hear(&mut self, sessions: &[HeldSession]) {
        self.learn(sessions);
        if let Some(last) = sessions.last() {
            self.revision = self.revision.max(last.revision);
        }
    }

    /// Takes how sessions stand, where that is newer than what is known. Changes
    /// in between are still to be heard.
    pub fn learn(&mut self, sessions: &[HeldSession]) {
        for session in sessions {
            let known = self.sessions.entry(session.router).or_default();
            match known.iter_mut().find(|known| known.client_id == session.client_id) {
                Some(known) if known.revision <= session.revision => known.clone_from(session),
                Some(_newer) => {}
                None => known.push(session.clone()),
            }
            // The table keeps the last one that has ended, and no other.
            let ended = known.iter().filter(|known| known.node.is_none());
            if let Some(last) = ended.map(|known| known.revision).max() {
                known.retain(|known| known.node.is_some() || known.revision == last);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The nodes that hold a router, each once.
    pub fn holders(&self, router: RouterId) -> Vec<NodeId> {
        let sessions = self.sessions.get(&router).map_or(&[][..], Vec::as_slice);
        let mut nodes: Vec<NodeId> = sessions.iter().filter_map(|session| session.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    pub fn of(&self, router: RouterId) -> Vec<HeldSession> {
        self.sessions.get(&router).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use schema::TimestampMs;

    use super::*;

    fn session(client_id: &str, node: Option<u64>, revision: u64) -> HeldSession {
        HeldSession {
            router: RouterId(1),
            client_id: client_id.into(),
            node: node.map(NodeId),
            number: revision,
            connected_at: TimestampMs(0),
            said_at: TimestampMs(0),
            silent_since: None,
            shown: "{}".into(),
            revision,
        }
    }

    #[test]
    fn what_is_older_changes_nothing_and_is_heard_all_the_same() {
        let mut copy = Copy::default();
        copy.learn(&[session("a", Some(2), 9)]);
        assert_eq!(copy.revision, 0, "what comes between is still to be heard");
        copy.hear(&[session("a", Some(1), 5), session("b", Some(1), 6)]);
        assert_eq!(copy.revision, 6);
        assert_eq!(copy.of(RouterId(1)), [session("a", Some(2), 9), session("b", Some(1), 6)]);
    }

    #[test]
    fn of_sessions_that_have_ended_the_last_is_kept() {
        let mut copy = Copy::default();
        copy.hear(&[session("a", None, 1), session("b", Some(1), 2), session("c", None, 3)]);
        assert_eq!(copy.of(RouterId(1)), [session("b", Some(1), 2), session("c", None, 3)]);
    }
}
