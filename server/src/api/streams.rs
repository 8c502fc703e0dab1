//! How many live streams there are, and that all end with the node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntGauge, Registry};
use schema::TenantId;
use tokio::sync::watch;

use super::metrics::{STREAMS, STREAMS_LIMIT};
use super::problem::{ApiResult, Problem};

/// Streams of one tenant at once; those of tokens of the whole installation
/// count as one tenant's.
pub const MAX_STREAMS_PER_TENANT: usize = 50;

/// Streams at once. Each holds a connection, of which there must be left for
/// requests.
pub const MAX_STREAMS: usize = 500;

/// Seconds after which a refused client may try again.
const RETRY_AFTER_S: u32 = 10;

/// The places of live streams; clones share them.
#[derive(Clone, Debug)]
pub struct Streams {
    open: Arc<Mutex<HashMap<Option<TenantId>, usize>>>,
    gauge: IntGauge,
    closing: watch::Sender<bool>,
}

/// One stream's place, given up when dropped.
#[derive(Debug)]
pub struct StreamPlace {
    streams: Streams,
    tenant: Option<TenantId>,
}

impl Streams {
    /// None yet.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = IntGauge::new(STREAMS, "Live streams of events.")?;
        let limit = IntGauge::new(STREAMS_LIMIT, "Live streams of events that there may be.")?;
        limit.set(i64::try_from(MAX_STREAMS).unwrap_or(i64::MAX));
        registry.register(Box::new(gauge.clone()))?;
        registry.register(Box::new(limit))?;
        Ok(Self { open: Arc::default(), gauge, closing: watch::Sender::new(false) })
    }

    /// A place, or the problem that there is none.
    pub fn enter(&self, tenant: Option<TenantId>) -> ApiResult<StreamPlace> {
        if *self.closing.borrow() {
            return Err(Problem::unavailable("The server is stopping."));
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= MAX_STREAMS {
            return Err(Problem::unavailable(format!(
                "The server has {MAX_STREAMS} live streams, its limit."
            )));
        }
        let of_tenant = open.entry(tenant).or_default();
        if *of_tenant >= MAX_STREAMS_PER_TENANT {
            let detail = format!("There are {MAX_STREAMS_PER_TENANT} live streams, the limit.");
            return Err(Problem::too_many(detail, RETRY_AFTER_S));
        }
        *of_tenant += 1;
        self.gauge.inc();
        Ok(StreamPlace { streams: self.clone(), tenant })
    }

    /// Turns true when all are to end.
    #[must_use]
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Ends all streams; there will be no more.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_tenant) = open.get_mut(&self.tenant) {
            *of_tenant -= 1;
            if *of_tenant == 0 {
                open.remove(&self.tenant);
            }
        }
        self.streams.gauge.dec();
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
        assert_eq!(streams.gauge.get(), 0);
        assert!(streams.open.lock().unwrap().is_empty());
        streams.close();
        assert_eq!(of(1).unwrap_err().status, 503);
    }
}
