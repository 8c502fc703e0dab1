//! What all connections of a node share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use dashmap::DashMap;
use journal::Journal;
use schema::{PartitionId, Position, TenantId, TimestampMs};
use store::{Attributes, Directory};

use super::fleet::Fleet;
use super::limiter::Limiter;
use super::logins::Logins;
use super::metering::Metrics;
use super::options::BrokerOptions;
use super::presence::Ledger;
use super::registry::Registry;
use super::rejections::Rejections;
use super::session::{Now, Rules, Tenancy, TenantMeter};
use super::tls::Tls;
use super::unauthenticated::Unauthenticated;
use crate::auth::Authenticator;
use crate::batch::Submitter;

#[derive(Debug)]
pub(crate) struct Node {
    pub options: BrokerOptions,
    pub rules: Arc<Rules>,
    pub journal: Journal,
    pub submitter: Submitter,
    pub directory: Directory,
    pub attributes: Attributes,
    pub authenticator: Authenticator,
    pub registry: Arc<Registry>,
    /// The other nodes, where there are any.
    pub fleet: Option<Arc<Fleet>>,
    pub rejections: Rejections,
    pub logins: Logins,
    /// What is to be journaled of routers that come and go.
    pub ledger: Ledger,
    pub metrics: Metrics,
    pub tls: Option<Tls>,
    pub unauthenticated: Unauthenticated,
    pub limiter: Mutex<Limiter>,
    /// Rises when a document that sessions hold has changed.
    pub tenants_epoch: AtomicU64,
    pub devices_epoch: AtomicU64,
    pub meters: DashMap<TenantId, Arc<TenantMeter>>,
    /// Turns true when nobody is let in any more.
    pub closing: tokio::sync::watch::Sender<bool>,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Microseconds since the process first asked, on a clock that only goes forward.
pub(crate) fn monotonic_us() -> u64 {
    u64::try_from(START.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Node {
    pub(crate) fn now() -> Now {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let ms = since_1970.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        Now { wall: TimestampMs(ms), us: monotonic_us() }
    }

    /// The tenant as it is now; none if it was deleted.
    pub(crate) fn tenancy(&self, tenant: TenantId) -> Option<Tenancy> {
        let meter = Arc::clone(&self.meters.entry(tenant).or_default());
        Some(Tenancy { tenant: self.directory.tenant(tenant)?, meter })
    }

    /// How long a router may be connected without telemetry, in milliseconds.
    pub(crate) fn silent_after_ms(&self, router: &schema::Router) -> i64 {
        let tenant = self.directory.tenant(router.tenant);
        tenant.and_then(|it| router.silent_after_ms(&it.settings)).unwrap_or(i64::MAX)
    }

    pub(crate) fn limiter(&self) -> std::sync::MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn epochs(&self) -> (u64, u64) {
        let load = |epoch: &AtomicU64| epoch.load(Ordering::Acquire);
        (load(&self.tenants_epoch), load(&self.devices_epoch))
    }

    /// The position behind all that is durable now.
    pub(crate) fn durable(&self, partition: PartitionId) -> Position {
        self.journal.bounds(partition).next
    }

    /// Waits until the attributes hold all before `position`, for as long as
    /// the limit says. True if they do.
    pub(crate) async fn applied(&self, partition: PartitionId, position: Position) -> bool {
        let limit = Duration::from_millis(self.options.session.attribute_wait_ms);
        let applied = self.attributes.wait_applied(partition, position);
        matches!(tokio::time::timeout(limit, applied).await, Ok(Ok(())))
    }
}
