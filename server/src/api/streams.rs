//! How many live streams and exports there are, and that all end with the node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge, Registry};
use schema::TenantId;
use store::{Change, Directory};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::metrics::{
    EXPORTS, EXPORTS_LIMIT, EXPORTS_REFUSED_TOTAL, STREAMS, STREAMS_LIMIT, STREAMS_REFUSED_TOTAL,
};
use super::problem::{ApiResult, Problem};

/// Streams of one tenant at once; those of tokens of the whole installation
/// count as one tenant's.
pub const MAX_STREAMS_PER_TENANT: usize = 50;

/// Streams at once. Each holds a connection, of which there must be left for
/// requests.
pub const MAX_STREAMS: usize = 500;

/// Exports of one tenant at once, counted in the same way.
pub const MAX_EXPORTS_PER_TENANT: usize = 4;

/// Exports at once. Each reads without a pause.
pub const MAX_EXPORTS: usize = 16;

/// Seconds after which a refused client may try again.
const RETRY_AFTER_S: u32 = 10;

/// The places of live streams and of exports; clones share them.
#[derive(Clone, Debug)]
pub struct Streams {
    live: Places,
    exports: Places,
    closing: watch::Sender<bool>,
}

/// So many of a kind, of one tenant and in all.
#[derive(Clone, Debug)]
struct Places {
    noun: &'static str,
    per_tenant: usize,
    in_all: usize,
    open: Arc<Mutex<HashMap<Option<TenantId>, usize>>>,
    gauge: IntGauge,
    refused: IntCounter,
}

/// The place of one stream or export, given up when dropped.
#[derive(Debug)]
pub struct StreamPlace {
    places: Places,
    tenant: Option<TenantId>,
}

impl Streams {
    /// None yet.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let live = Places::register(
            registry,
            "live streams",
            (MAX_STREAMS_PER_TENANT, MAX_STREAMS),
            [STREAMS, STREAMS_LIMIT, STREAMS_REFUSED_TOTAL],
        )?;
        let exports = Places::register(
            registry,
            "exports",
            (MAX_EXPORTS_PER_TENANT, MAX_EXPORTS),
            [EXPORTS, EXPORTS_LIMIT, EXPORTS_REFUSED_TOTAL],
        )?;
        Ok(Self { live, exports, closing: watch::Sender::new(false) })
    }

    /// A stream's place, or the problem that there is none.
    pub fn enter(&self, tenant: Option<TenantId>) -> ApiResult<StreamPlace> {
        self.enter_one(&self.live, tenant)
    }

    /// An export's place, or the problem that there is none.
    pub fn enter_export(&self, tenant: Option<TenantId>) -> ApiResult<StreamPlace> {
        self.enter_one(&self.exports, tenant)
    }

    fn enter_one(&self, places: &Places, tenant: Option<TenantId>) -> ApiResult<StreamPlace> {
        if *self.closing.borrow() {
            return Err(Problem::unavailable("The server is stopping."));
        }
        places.enter(tenant)
    }

    /// Resolves when the token is revoked or the node stops.
    pub(super) fn ended(
        &self,
        directory: &Directory,
        token: u64,
    ) -> impl Future<Output = ()> + Send + use<> {
        // Before the token is looked for again, so that no deletion falls between.
        let changes = directory.subscribe();
        ended(changes, directory.clone(), token, self.closing.subscribe())
    }

    /// Ends all; there will be no more.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

async fn ended(
    mut changes: Receiver<Change>,
    directory: Directory,
    token: u64,
    mut closing: watch::Receiver<bool>,
) {
    let revoked = async {
        while directory.api_token(token).is_some() {
            loop {
                match changes.recv().await {
                    Ok(change) if change.id == token => break,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    };
    tokio::select! {
        () = revoked => {}
        // An error says that the node is gone.
        _ = closing.wait_for(|closing| *closing) => {}
    }
}

impl Places {
    fn register(
        registry: &Registry,
        noun: &'static str,
        (per_tenant, in_all): (usize, usize),
        [gauge, limit, refused]: [&str; 3],
    ) -> Result<Self, prometheus::Error> {
        let gauge = IntGauge::new(gauge, format!("Events: {noun}."))?;
        let limit = IntGauge::new(limit, format!("Events: {noun} that there may be."))?;
        let refused =
            IntCounter::new(refused, format!("Events: {noun} refused, for their limit."))?;
        limit.set(i64::try_from(in_all).unwrap_or(i64::MAX));
        registry.register(Box::new(gauge.clone()))?;
        registry.register(Box::new(limit))?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self { noun, per_tenant, in_all, open: Arc::default(), gauge, refused })
    }

    fn enter(&self, tenant: Option<TenantId>) -> ApiResult<StreamPlace> {
        let Self { noun, per_tenant, in_all, .. } = *self;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= in_all {
            self.refused.inc();
            let detail = format!("The server has {in_all} {noun}, its limit.");
            return Err(Problem::unavailable(detail));
        }
        if open.get(&tenant).is_some_and(|of_tenant| *of_tenant >= per_tenant) {
            self.refused.inc();
            let detail = format!("There are {per_tenant} {noun}, the limit.");
            return Err(Problem::too_many(detail, RETRY_AFTER_S));
        }
        *open.entry(tenant).or_default() += 1;
        self.gauge.inc();
        Ok(StreamPlace { places: self.clone(), tenant })
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.places.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_tenant) = open.get_mut(&self.tenant) {
            *of_tenant -= 1;
            if *of_tenant == 0 {
                open.remove(&self.tenant);
            }
        }
        self.places.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_bounded_by_tenant_and_in_all_and_give_their_place_back() {
        let streams = Streams::register(&Registry::new()).unwrap();
        let of = |tenant| streams.enter(Some(TenantId(tenant)));
        let mut places: Vec<_> = (0..MAX_STREAMS_PER_TENANT).map(|_| of(1).unwrap()).collect();
        assert_eq!(of(1).unwrap_err().status, 429);
        places.extend(
            (2..).flat_map(|tenant| (0..10).map(move |_| tenant)).map_while(|t| of(t).ok()),
        );
        assert_eq!(places.len(), MAX_STREAMS);
        assert_eq!(of(999).unwrap_err().status, 503);
        places.remove(0);
        let again = of(1).unwrap();
        drop((places, again));
        assert_eq!(streams.live.gauge.get(), 0);
        assert_eq!(streams.live.refused.get(), 3);
        assert!(streams.live.open.lock().unwrap().is_empty());
        streams.close();
        assert_eq!(of(1).unwrap_err().status, 503);
    }

    #[test]
    fn exports_have_a_limit_of_their_own() {
        let streams = Streams::register(&Registry::new()).unwrap();
        let of = |tenant| streams.enter_export(Some(TenantId(tenant)));
        let mut places: Vec<_> = (0..MAX_EXPORTS_PER_TENANT).map(|_| of(1).unwrap()).collect();
        assert_eq!(of(1).unwrap_err().status, 429);
        assert!(streams.enter(Some(TenantId(1))).is_ok());
        places.extend((2..).map_while(|tenant| of(tenant).ok()));
        assert_eq!(places.len(), MAX_EXPORTS);
        assert_eq!((streams.exports.gauge.get(), streams.exports.refused.get()), (16, 2));
        drop(places);
        assert!(of(1).is_ok());
    }
}
