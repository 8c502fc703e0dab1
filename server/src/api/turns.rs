//! Work that is done on request and takes long: so much of it at once, one piece
//! of a tenant, and a queue of a named length, past which a request is refused.
//!
//! Who gives up waiting leaves the queue; work that has begun keeps its turn
//! until it ends, so that nobody makes room by hanging up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use schema::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::{TURNS, TURNS_LIMIT, TURNS_REFUSED_TOTAL};
use super::problem::{ApiResult, Problem};

/// Seconds after which a refused client may try again.
const RETRY_AFTER_S: u32 = 5;

/// How much of one kind of work there may be.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// In the messages of those who are refused.
    noun: &'static str,
    running: usize,
    /// Running or waiting, of all tenants.
    in_all: usize,
    /// Running or waiting, of one tenant.
    per_tenant: usize,
}

/// Periods whose alarm quality is judged, each by a thread that sorts.
const QUALITY: Limits =
    Limits { noun: "judgements of alarm quality", running: 2, in_all: 32, per_tenant: 4 };

/// Alarm profiles that are checked, each by a thread that compares names.
const CHECKS: Limits =
    Limits { noun: "checks of alarm profiles", running: 2, in_all: 64, per_tenant: 8 };

/// Message templates that are checked, each by a thread that renders long facts.
const TEMPLATES: Limits =
    Limits { noun: "checks of message templates", running: 2, in_all: 64, per_tenant: 8 };

/// The kinds of work that take turns; clones share them.
#[derive(Clone, Debug)]
pub struct Work {
    pub quality: Turns,
    pub checks: Turns,
    pub templates: Turns,
}

impl Work {
    /// None yet.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let of = |name, help| IntGaugeVec::new(Opts::new(name, help), &["work"]);
        let open = of(TURNS, "Requests for long work that run or wait for their turn.")?;
        let limit = of(TURNS_LIMIT, "Requests for long work that there may be.")?;
        let refused = IntCounterVec::new(
            Opts::new(TURNS_REFUSED_TOTAL, "Requests for long work refused for its limit."),
            &["work"],
        )?;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(limit.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        let turns = |name: &str, limits: Limits| {
            let most = i64::try_from(limits.in_all).unwrap_or(i64::MAX);
            limit.with_label_values(&[name]).set(most);
            let open = open.with_label_values(&[name]);
            Turns::new(limits, open, refused.with_label_values(&[name]))
        };
        Ok(Self {
            quality: turns("alarm_quality", QUALITY),
            checks: turns("checks", CHECKS),
            templates: turns("templates", TEMPLATES),
        })
    }
}

/// The turns of one kind of work; clones share them.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    room: Arc<Semaphore>,
    tenants: Mutex<HashMap<Option<TenantId>, OfTenant>>,
    open: IntGauge,
    refused: IntCounter,
}

/// What there is of one tenant.
#[derive(Debug)]
struct OfTenant {
    open: usize,
    /// One of it runs at a time, so that others come in between.
    one: Arc<Semaphore>,
}

/// Somebody's turn, over when dropped.
#[derive(Debug)]
pub struct Turn {
    _room: OwnedSemaphorePermit,
    _one: OwnedSemaphorePermit,
    _place: Place,
}

#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    tenant: Option<TenantId>,
}

impl Turns {
    fn new(limits: Limits, open: IntGauge, refused: IntCounter) -> Self {
        let room = Arc::new(Semaphore::new(limits.running));
        Self(Arc::new(Shared { limits, room, tenants: Mutex::default(), open, refused }))
    }

    /// Waits for a turn; work of no tenant's own counts as one tenant's.
    pub async fn take(&self, tenant: Option<TenantId>) -> ApiResult<Turn> {
        let (place, one) = self.enter(tenant)?;
        // The semaphores are never closed.
        let closed = |_| Problem::unavailable("The server is stopping.");
        let one = one.acquire_owned().await.map_err(closed)?;
        let room = self.0.room.clone().acquire_owned().await.map_err(closed)?;
        Ok(Turn { _room: room, _one: one, _place: place })
    }

    fn enter(&self, tenant: Option<TenantId>) -> ApiResult<(Place, Arc<Semaphore>)> {
        let Shared { limits, tenants, open, refused, .. } = &*self.0;
        let mut tenants = tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let in_all: usize = tenants.values().map(|of_tenant| of_tenant.open).sum();
        let own = tenants.get(&tenant).map_or(0, |of_tenant| of_tenant.open);
        let bounds =
            [(in_all, limits.in_all, "The server"), (own, limits.per_tenant, "The tenant")];
        if let Some((_, limit, whose)) = bounds.into_iter().find(|(count, limit, _)| count >= limit)
        {
            refused.inc();
            let noun = limits.noun;
            let detail = format!("{whose} has {limit} {noun} that run or wait, the limit.");
            return Err(Problem::too_many(detail, RETRY_AFTER_S));
        }
        let of_tenant = tenants
            .entry(tenant)
            .or_insert_with(|| OfTenant { open: 0, one: Arc::new(Semaphore::new(1)) });
        of_tenant.open += 1;
        open.inc();
        Ok((Place { shared: self.0.clone(), tenant }, of_tenant.one.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut tenants = self.shared.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_tenant) = tenants.get_mut(&self.tenant) {
            of_tenant.open -= 1;
            if of_tenant.open == 0 {
                tenants.remove(&self.tenant);
            }
        }
        self.shared.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    /// Whether it still waits; starts it where it has not begun.
    async fn waits(turn: &mut Pin<Box<impl Future<Output = ApiResult<Turn>>>>) -> bool {
        tokio::select! {
            biased;
            _ = turn => false,
            () = std::future::ready(()) => true,
        }
    }

    #[tokio::test]
    async fn one_of_a_tenant_runs_the_queue_has_its_length_and_who_gives_up_leaves_it() {
        let Work { quality, .. } = Work::register(&Registry::new()).unwrap();
        let take = |tenant| quality.take(Some(TenantId(tenant)));
        let first = take(1).await.unwrap();
        // Of the first tenant the others wait, though there is room.
        let mut waiting: Vec<_> = (1..QUALITY.per_tenant).map(|_| Box::pin(take(1))).collect();
        for turn in &mut waiting {
            assert!(waits(turn).await);
        }
        assert_eq!(take(1).await.unwrap_err().status, 429);
        // Another tenant has its turn at once, and the third waits for room.
        let other = take(2).await.unwrap();
        let mut third = Box::pin(take(3));
        assert!(waits(&mut third).await);
        drop(other);
        let third = third.await.unwrap();
        drop((first, third));
        let next = waiting.remove(0).await.unwrap();
        assert_eq!(quality.0.open.get(), 3);
        drop(waiting);
        assert_eq!((quality.0.open.get(), quality.0.refused.get()), (1, 1));
        drop(next);
        assert_eq!(quality.0.room.available_permits(), QUALITY.running);
        assert!(quality.0.tenants.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn all_tenants_together_are_bounded_too() {
        let Work { quality, .. } = Work::register(&Registry::new()).unwrap();
        let mut places = Vec::new();
        for tenant in 0..QUALITY.in_all as u64 {
            places.push(quality.enter(Some(TenantId(tenant))).unwrap());
        }
        assert_eq!(quality.take(Some(TenantId(999))).await.unwrap_err().status, 429);
        places.pop();
        assert!(quality.enter(Some(TenantId(999))).is_ok());
    }
}
