//! What connections note of their routers for [`super::Presence`] to journal.
//!
//! One entry for each router, however often it comes and goes, so a storm of
//! reconnects takes no more memory than there are routers. Nothing is noted
//! while nobody takes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use schema::{RouterId, TimestampMs};
use tokio::sync::Notify;

use super::super::session::{Counts, End, Refusal};

/// A router may stand otherwise than was said last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub at: TimestampMs,
    /// When it last came, if that was not taken yet.
    pub came_at: Option<TimestampMs>,
    /// Of the connection that ended.
    pub cause: Option<End>,
}

impl Edge {
    /// The router came or went; else it is only to be looked at.
    fn is_of_connection(&self) -> bool {
        self.came_at.is_some() || self.cause.is_some()
    }
}

/// What was refused of a router since it was last said.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub counts: [u32; Refusal::COUNT],
    pub clock_offset_ms: Option<i64>,
    /// Of the last one.
    pub at: TimestampMs,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    is_on: AtomicBool,
    edges: Mutex<HashMap<RouterId, Edge>>,
    refused: Mutex<HashMap<RouterId, Refused>>,
    /// A router's or a tenant's settings have changed.
    are_limits_stale: AtomicBool,
    pub(super) wake: Notify,
}

impl Ledger {
    pub(super) fn switch(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Release);
    }

    fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    pub(crate) fn connected(&self, router: RouterId, at: TimestampMs) {
        self.note(router, Edge { at, came_at: Some(at), cause: None });
    }

    pub(crate) fn disconnected(&self, router: RouterId, at: TimestampMs, end: End) {
        self.note(router, Edge { at, came_at: None, cause: Some(end) });
    }

    fn note(&self, router: RouterId, edge: Edge) {
        if self.is_on() {
            let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
            let known = edges.entry(router).or_insert(edge);
            *known = Edge { came_at: edge.came_at.or(known.came_at), ..edge };
            drop(edges);
            self.wake.notify_one();
        }
    }

    /// The router's document has changed, or is gone.
    pub(crate) fn changed(&self, router: RouterId, at: TimestampMs) {
        if self.is_on() {
            self.are_limits_stale.store(true, Ordering::Release);
            self.look_again(router, at);
        }
    }

    /// The router may stand otherwise, without a session that has come or gone.
    pub(crate) fn look_again(&self, router: RouterId, at: TimestampMs) {
        if self.is_on() {
            let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
            edges.entry(router).or_insert(Edge { at, came_at: None, cause: None });
            drop(edges);
            self.wake.notify_one();
        }
    }

    /// A tenant's settings have changed.
    pub(crate) fn settings_changed(&self) {
        self.are_limits_stale.store(true, Ordering::Release);
    }

    pub(super) fn take_stale_limits(&self) -> bool {
        self.are_limits_stale.swap(false, Ordering::AcqRel)
    }

    pub(super) fn take_edges(&self) -> HashMap<RouterId, Edge> {
        std::mem::take(&mut *self.edges.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An edge to be looked at again. Of a newer one that is there it keeps that
    /// the router came before, and stands in place of one that only says that the
    /// document has changed.
    pub(super) fn put_back(&self, router: RouterId, edge: Edge) {
        let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = edges.entry(router).or_insert(edge);
        if newer.is_of_connection() {
            newer.came_at = newer.came_at.or(edge.came_at);
        } else {
            *newer = edge;
        }
    }

    /// Whether the router has come or gone and that was not taken yet.
    pub(super) fn has_moved(&self, router: RouterId) -> bool {
        let edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        edges.get(&router).is_some_and(Edge::is_of_connection)
    }

    pub(super) fn waiting(&self) -> usize {
        self.edges.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Adds what one socket read had refused.
    #[cold]
    pub(crate) fn refused(&self, router: RouterId, counts: &Counts, at: TimestampMs) {
        if self.is_on() {
            let (counts, clock_offset_ms) = (counts.refused, counts.clock_offset_ms);
            self.add_refused(router, &Refused { counts, clock_offset_ms, at });
        }
    }

    pub(super) fn add_refused(&self, router: RouterId, more: &Refused) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let known = refused.entry(router).or_insert_with(|| Refused {
            counts: [0; Refusal::COUNT],
            clock_offset_ms: None,
            at: more.at,
        });
        for (count, more) in known.counts.iter_mut().zip(more.counts) {
            *count = count.saturating_add(more);
        }
        known.clock_offset_ms = more.clock_offset_ms.or(known.clock_offset_ms);
        known.at = known.at.max(more.at);
    }

    /// Takes out those that `is_due`.
    pub(super) fn take_refused(
        &self,
        is_due: impl Fn(RouterId) -> bool,
    ) -> Vec<(RouterId, Refused)> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let due: Vec<RouterId> = refused.keys().copied().filter(|router| is_due(*router)).collect();
        due.into_iter().filter_map(|router| refused.remove_entry(&router)).collect()
    }
}
