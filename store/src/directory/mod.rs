//! Who there is, where, and what they may do: versioned documents, held in
//! memory, written by one thread.
//!
//! The broker asks here at every connect and at every new device name, so reads
//! do no IO and take a lock only for as long as a look-up takes. Writes are
//! checked against the memory, made durable in groups that share one fsync, and
//! seen by readers only after that. Every change goes out on a feed.
//!
//! The module never sees a secret: credentials and tokens come in as hashes.

mod audit;
mod backend;
mod draft;
mod error;
mod groups;
mod index;
pub mod limits;
mod rules;
mod told;
mod writer;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use prometheus::Registry;
use schema::{
    ApiToken, Author, Credentials, Device, DeviceId, Document, DocumentBody, DocumentKind,
    Forwarder, Location, LocationId, Router, RouterId, Tenant, TenantId, TimestampMs, UserId,
};
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast, watch};

pub use error::{DirectoryError, OpenError};
pub use groups::{GroupQuery, LocationGroup};

pub(crate) use backend::postgres as database;

use backend::Backend;
use index::Claim;
use writer::{Request, Shared, Writer};

use crate::audit::NewEvent;
use crate::sql::{Database, PostgresOptions, Readers, SqlError};

/// The directory's file.
pub(crate) const FILE: &str = "directory.db";

/// Reads of changes that run at once.
const MAX_READS: usize = 2;

/// How many changes a subscriber may be behind before it has to read anew.
pub const CHANGE_FEED_CAPACITY: usize = 16_384;

/// The most documents of one page of a list.
pub const MAX_PAGE: usize = 1_000;

/// The most routers that are made in one transaction.
pub const MAX_ROUTERS_AT_ONCE: usize = 1_000;

/// How many documents a list looks at for one page. A filter that few match
/// gives a short page with a `next` rather than holding up the others.
const MAX_SCAN: usize = 20_000;

/// A document as readers hold it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<T> {
    pub id: u64,
    pub version: u64,
    pub changed_at: TimestampMs,
    pub body: T,
}

impl<T> Deref for Entry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.body
    }
}

/// A router to be made; its tenant is its location's, and its own device is
/// made with it under the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRouter {
    pub location: LocationId,
    pub name: String,
    pub credentials: Credentials,
    pub enabled: bool,
    pub cloud_host: Option<String>,
    pub send_interval_s: Option<u32>,
}

/// A document was made, changed or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Rises by one from change to change.
    pub sequence: u64,
    pub id: u64,
    pub kind: DocumentKind,
    /// The version that it has now; of a deleted one, the version after its last.
    pub version: u64,
    pub deleted: bool,
}

/// Which documents a list wants; what is `None` sets no condition, and a
/// condition that the kind has no field for is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    pub tenant: Option<TenantId>,
    pub location: Option<LocationId>,
    pub router: Option<RouterId>,
    /// Whose a subscription is.
    pub user: Option<UserId>,
    /// A location group that the location is in.
    pub group: Option<String>,
    /// What the name begins with.
    pub name: Option<String>,
    /// Only documents with a greater id.
    pub after: Option<u64>,
    /// At most [`MAX_PAGE`]; 0 stands for that.
    pub limit: usize,
}

/// Documents in the order of their ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<Arc<Entry<T>>>,
    /// What to give as `after` for the next page; none when there is no more.
    /// A page may be shorter than its limit, or empty, and still have one.
    pub next: Option<u64>,
}

/// A handle on the directory; clones share it.
#[derive(Clone, Debug)]
pub struct Directory {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
    /// Who makes the changes that this handle makes.
    author: Author,
    /// For those who ask what has changed since a sequence.
    readers: Arc<Readers>,
    /// Held by whoever carries the outbox's events on.
    carrying: Arc<Mutex<()>>,
}

impl Directory {
    /// Opens `directory.db` in `dir` and reads all of it.
    ///
    /// # Errors
    /// [`OpenError`]; a document that cannot be read is never skipped.
    pub fn open_embedded(dir: &Path, registry: &Registry) -> Result<Self, OpenError> {
        Self::open_in(backend::embedded(dir), registry)
    }

    /// Opens the directory's tables in PostgreSQL and reads all of them. What
    /// other nodes change is seen here a moment later. Blocks; on a thread of a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`]; a document that cannot be read is never skipped.
    pub fn open_postgres(
        options: &PostgresOptions,
        registry: &Registry,
    ) -> Result<Self, OpenError> {
        Self::open_in(backend::postgres(options), registry)
    }

    fn open_in(database: Arc<Database>, registry: &Registry) -> Result<Self, OpenError> {
        let (backend, index) = Backend::open(&database)?;
        let (writer, shared) = Writer::start(backend, index, registry)?;
        writer.follow(&database);
        let (writer, author) = (Arc::new(writer), Author::installation());
        let readers = Arc::new(Readers::new(database, MAX_READS, 1));
        Ok(Self { shared, writer, author, readers, carrying: Arc::default() })
    }

    /// A handle whose changes are told of this author in the events. Those of
    /// other handles are told of the installation itself.
    #[must_use]
    pub fn by(&self, author: Author) -> Self {
        Self { author, ..self.clone() }
    }

    #[must_use]
    pub fn tenant(&self, id: TenantId) -> Option<Arc<Entry<Tenant>>> {
        self.shared.index().tenants.get(&id.0).cloned()
    }

    #[must_use]
    pub fn location(&self, id: LocationId) -> Option<Arc<Entry<Location>>> {
        self.shared.index().locations.get(&id.0).cloned()
    }

    #[must_use]
    pub fn router(&self, id: RouterId) -> Option<Arc<Entry<Router>>> {
        self.shared.index().routers.get(&id.0).cloned()
    }

    #[must_use]
    pub fn device(&self, id: DeviceId) -> Option<Arc<Entry<Device>>> {
        self.shared.index().devices.get(&id.0).cloned()
    }

    #[must_use]
    pub fn api_token(&self, id: u64) -> Option<Arc<Entry<ApiToken>>> {
        self.shared.index().tokens.get(&id).cloned()
    }

    /// The token with this keyed hash.
    #[must_use]
    pub fn api_token_by_hash(&self, hash: &str) -> Option<Arc<Entry<ApiToken>>> {
        let index = self.shared.index();
        let id = index.holder(&Claim::Token(hash))?;
        index.tokens.get(&id).cloned()
    }

    /// The router that is found by [`Credentials::lookup_key`]; whether its
    /// credentials hold, and whether it is enabled, is the caller's to see.
    #[must_use]
    pub fn router_by_lookup_key(&self, key: &str) -> Option<Arc<Entry<Router>>> {
        let index = self.shared.index();
        let id = index.holder(&Claim::Credentials(key))?;
        index.routers.get(&id).cloned()
    }

    #[must_use]
    pub fn device_by_name(&self, tenant: TenantId, name: &str) -> Option<Arc<Entry<Device>>> {
        let index = self.shared.index();
        let id = index.holder(&Claim::DeviceName(tenant, name))?;
        index.devices.get(&id).cloned()
    }

    #[must_use]
    pub fn tenants(&self, query: &ListQuery) -> Page<Tenant> {
        self.shared.index().list_tenants(query)
    }

    #[must_use]
    pub fn locations(&self, query: &ListQuery) -> Page<Location> {
        self.shared.index().list_locations(query)
    }

    /// Location groups by tenant and name.
    #[must_use]
    pub fn location_groups(&self, query: &GroupQuery) -> Vec<LocationGroup> {
        self.shared.index().groups.list(query)
    }

    #[must_use]
    pub fn routers(&self, query: &ListQuery) -> Page<Router> {
        self.shared.index().list_routers(query)
    }

    #[must_use]
    pub fn devices(&self, query: &ListQuery) -> Page<Device> {
        self.shared.index().list_devices(query)
    }

    /// Tokens of one tenant, or of the whole installation and all tenants.
    #[must_use]
    pub fn api_tokens(&self, query: &ListQuery) -> Page<ApiToken> {
        self.shared.index().list_tokens(query)
    }

    #[must_use]
    pub fn forwarder(&self, id: u64) -> Option<Arc<Entry<Forwarder>>> {
        self.shared.index().forwarders.get(&id).cloned()
    }

    #[must_use]
    pub fn forwarders(&self, query: &ListQuery) -> Page<Forwarder> {
        self.shared.index().list_forwarders(query)
    }

    /// How many devices stand behind the routers of a tenant.
    #[must_use]
    pub fn device_count(&self, tenant: TenantId) -> u32 {
        self.shared.index().count(tenant, DocumentKind::Device)
    }

    /// Makes a document of any kind but a router.
    ///
    /// # Errors
    /// [`DirectoryError::Invalid`] for a router, which
    /// [`Directory::create_routers`] makes; otherwise as the variants say.
    pub async fn create(&self, body: DocumentBody) -> Result<Document, DirectoryError> {
        self.one(Request::Create(body)).await
    }

    /// Replaces a document's body.
    ///
    /// What it belongs to never changes: a location keeps its tenant, a router
    /// its location and device, a device its router, a subscription its user.
    /// Renaming a router renames its own device with it.
    ///
    /// # Errors
    /// [`DirectoryError::VersionConflict`] when `expected_version` is given and
    /// is not the current one; otherwise as the variants say.
    pub async fn update(
        &self,
        id: u64,
        expected_version: Option<u64>,
        body: DocumentBody,
    ) -> Result<Document, DirectoryError> {
        self.one(Request::Update { id, expected_version, body }).await
    }

    /// Deletes a document. A router takes its devices with it, a user their
    /// subscriptions, and a tenant its users, subscriptions, offline profiles,
    /// message templates and API tokens; a tenant with locations or a location with
    /// routers is refused.
    ///
    /// A user is taken out of offline profiles and a location out of the scopes that
    /// name it. A user who is the last recipient of an offline profile is refused; a
    /// subscription or an offline profile whose scope names nothing else goes with
    /// the location, because without any it would mean all of the tenant.
    ///
    /// # Errors
    /// [`DirectoryError::HasChildren`], [`DirectoryError::LastRecipient`] and the
    /// other variants.
    pub async fn delete(
        &self,
        id: u64,
        expected_version: Option<u64>,
    ) -> Result<(), DirectoryError> {
        let request = Request::Delete { id, expected_version };
        self.writer.ask(&self.author, request).await.map(|_| ())
    }

    /// Makes routers and their own devices, all or none, in one transaction.
    /// The documents are the routers', in the order given.
    ///
    /// # Errors
    /// [`DirectoryError::Item`] names the first that is refused, and why.
    pub async fn create_routers(
        &self,
        routers: Vec<NewRouter>,
    ) -> Result<Vec<Document>, DirectoryError> {
        self.writer.ask(&self.author, Request::CreateRouters(routers)).await
    }

    /// The device of this name, made behind `router` if there is none.
    ///
    /// Many calls at once for one name make one device. Another router of the
    /// same location gets the same device, so that a machine may have two ways
    /// in; one of another location is refused, because the device's readings
    /// would change partition and lose their order.
    ///
    /// # Errors
    /// [`DirectoryError::DeviceQuota`], [`DirectoryError::DeviceElsewhere`],
    /// [`DirectoryError::NotFound`] for the router, [`DirectoryError::Invalid`]
    /// for the name, or that the directory could not be written.
    pub async fn ensure_device(
        &self,
        router: RouterId,
        name: &str,
        device_type: Option<&str>,
    ) -> Result<DeviceId, DirectoryError> {
        if let Some(found) = self.shared.index().known_device(router, name)? {
            return Ok(found);
        }
        let document = self
            .one(Request::EnsureDevice {
                router,
                name: name.to_owned(),
                device_type: device_type.map(str::to_owned),
            })
            .await?;
        Ok(DeviceId(document.id))
    }

    /// Every change from now on, in order, after it is durable. A subscriber
    /// that falls [`CHANGE_FEED_CAPACITY`] behind is told so and reads anew.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// The latest change of each document that was changed after the sequence
    /// `after`, in order: what a reader missed that keeps the sequence of the
    /// last change it has seen to. Of a document that changed several times only
    /// the last change is there. They are durable, and may be a moment ahead of
    /// what the other methods show.
    ///
    /// # Errors
    /// The file can't be read.
    pub async fn changes_since(&self, after: u64, limit: usize) -> Result<Vec<Change>, SqlError> {
        let read = self.readers.read(move |session| backend::changes_since(session, after, limit));
        // Only a panic in there, which would be a defect, could end it otherwise.
        read.await.expect("reading changes does not panic")
    }

    /// The oldest events of changes that are not carried yet, with their places.
    pub(crate) async fn outbox(
        &self,
        limit: usize,
    ) -> Result<Vec<(u64, NewEvent)>, DirectoryError> {
        self.writer.outbox(limit).await
    }

    /// Takes the events up to this place out of the outbox.
    pub(crate) async fn carried(&self, last: u64) -> Result<(), DirectoryError> {
        self.writer.carried(last).await
    }

    /// While it is held, no event leaves the outbox.
    pub(crate) async fn carrying(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.carrying).lock_owned().await
    }

    /// Changes when there are new events to carry.
    pub(crate) fn outbox_changed(&self) -> watch::Receiver<u64> {
        self.shared.outbox.subscribe()
    }

    /// Finishes what is queued and closes the file; reads go on from memory.
    pub async fn close(&self) {
        self.writer.close().await;
    }

    async fn one(&self, request: Request) -> Result<Document, DirectoryError> {
        let mut documents = self.writer.ask(&self.author, request).await?;
        Ok(documents.pop().expect("a request that makes or changes a document answers with it"))
    }
}
