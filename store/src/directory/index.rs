//! The directory in memory: what readers ask and what the writer checks against.
//!
//! Each document is held once, by its id. Names and credentials are found by a
//! table of hashes that points to ids and holds no text, and lists by ordered
//! pairs of parent and child, so that a million devices take little more than
//! their documents.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::{HashMap, HashTable};
use schema::{
    ApiToken, Device, DeviceId, Document, DocumentBody, DocumentKind, Location, Router, RouterId,
    Tenant, TenantId,
};

use super::groups::Groups;
use super::{DirectoryError, Entry, ListQuery, MAX_PAGE, MAX_SCAN, Page};

/// Something that one document at most may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim<'a> {
    TenantName(&'a str),
    LocationName(TenantId, &'a str),
    DeviceName(TenantId, &'a str),
    /// A `Credentials::lookup_key`.
    Credentials(&'a str),
    /// The keyed hash of an API token.
    Token(&'a str),
}

type Entries<T> = BTreeMap<u64, Arc<Entry<T>>>;

/// Ids of children behind the id of a tenant, a location or a router; ids are
/// unique over all kinds, so that the three need no telling apart.
type Children = BTreeSet<(u64, u64)>;

#[derive(Debug, Default)]
pub(super) struct Index {
    pub tenants: Entries<Tenant>,
    pub locations: Entries<Location>,
    pub routers: Entries<Router>,
    pub devices: Entries<Device>,
    pub tokens: Entries<ApiToken>,
    locations_of: Children,
    routers_of: Children,
    devices_of: Children,
    tokens_of: Children,
    pub groups: Groups,
    /// Devices behind routers, by tenant.
    device_counts: HashMap<TenantId, u32, RandomState>,
    /// The hash of a claim, and the document that has it.
    claims: HashTable<(u64, u64)>,
    hasher: RandomState,
}

impl Index {
    /// The document that has `claim`.
    pub fn holder(&self, claim: &Claim<'_>) -> Option<u64> {
        let hash = self.hasher.hash_one(claim);
        self.claims
            .find(hash, |&(found, id)| found == hash && self.has(id, claim))
            .map(|&(_, id)| id)
    }

    fn has(&self, id: u64, claim: &Claim<'_>) -> bool {
        match *claim {
            Claim::TenantName(name) => self.tenants.get(&id).is_some_and(|t| t.name == name),
            Claim::LocationName(tenant, name) => {
                self.locations.get(&id).is_some_and(|l| l.tenant == tenant && l.name == name)
            }
            Claim::DeviceName(tenant, name) => {
                self.devices.get(&id).is_some_and(|d| d.tenant == tenant && d.name == name)
            }
            Claim::Credentials(key) => {
                self.routers.get(&id).is_some_and(|r| r.credentials.lookup_key() == key)
            }
            Claim::Token(hash) => self.tokens.get(&id).is_some_and(|t| t.hash == hash),
        }
    }

    pub fn device_count(&self, tenant: TenantId) -> u32 {
        self.device_counts.get(&tenant).copied().unwrap_or(0)
    }

    /// The device that `router` may report under `name`, if there is one.
    pub fn known_device(
        &self,
        router: RouterId,
        name: &str,
    ) -> Result<Option<DeviceId>, DirectoryError> {
        let entry = self
            .routers
            .get(&router.0)
            .ok_or(DirectoryError::NotFound { kind: Some(DocumentKind::Router), id: router.0 })?;
        let Some(id) = self.holder(&Claim::DeviceName(entry.tenant, name)) else {
            return Ok(None);
        };
        let location = self.devices[&id].location;
        if location != entry.location {
            let name = name.to_owned();
            return Err(DirectoryError::DeviceElsewhere { name, location, router });
        }
        Ok(Some(DeviceId(id)))
    }

    /// The document as it is stored.
    pub fn document(&self, id: u64) -> Option<Document> {
        fn of<T: Clone>(
            entries: &Entries<T>,
            id: u64,
            body: fn(T) -> DocumentBody,
        ) -> Option<Document> {
            let entry = entries.get(&id)?;
            Some(Document {
                id,
                version: entry.version,
                changed_at: entry.changed_at,
                body: body(entry.body.clone()),
            })
        }
        of(&self.devices, id, DocumentBody::Device)
            .or_else(|| of(&self.routers, id, DocumentBody::Router))
            .or_else(|| of(&self.locations, id, DocumentBody::Location))
            .or_else(|| of(&self.tenants, id, DocumentBody::Tenant))
            .or_else(|| of(&self.tokens, id, DocumentBody::ApiToken))
    }

    /// Children of one kind, in the order of their ids.
    pub fn children(&self, parent: u64, kind: DocumentKind) -> impl Iterator<Item = u64> + '_ {
        self.children_of(kind).range((parent, 0)..=(parent, u64::MAX)).map(|&(_, id)| id)
    }

    fn children_of(&self, kind: DocumentKind) -> &Children {
        match kind {
            DocumentKind::Location => &self.locations_of,
            DocumentKind::Router => &self.routers_of,
            DocumentKind::Device => &self.devices_of,
            DocumentKind::ApiToken => &self.tokens_of,
            DocumentKind::Tenant => unreachable!("a tenant is nobody's child"),
        }
    }

    /// Takes in a document as it is now.
    pub fn put(&mut self, document: Document) {
        self.remove(document.id);
        self.insert(document);
    }

    /// Takes in a document that is not there yet.
    pub fn insert(&mut self, document: Document) {
        let Document { id, version, changed_at, body } = document;
        self.claim_all(id, &body);
        self.link(id, &body, true);
        match body {
            DocumentBody::Tenant(body) => {
                self.tenants.insert(id, Arc::new(Entry { id, version, changed_at, body }));
            }
            DocumentBody::Location(body) => {
                self.locations.insert(id, Arc::new(Entry { id, version, changed_at, body }));
            }
            DocumentBody::Router(body) => {
                self.routers.insert(id, Arc::new(Entry { id, version, changed_at, body }));
            }
            DocumentBody::Device(body) => {
                self.devices.insert(id, Arc::new(Entry { id, version, changed_at, body }));
            }
            DocumentBody::ApiToken(body) => {
                self.tokens.insert(id, Arc::new(Entry { id, version, changed_at, body }));
            }
        }
    }

    /// Forgets a document; one that is not there is no error.
    pub fn remove(&mut self, id: u64) {
        let Some(Document { body, .. }) = self.document(id) else {
            return;
        };
        with_claims(&body, |claim| {
            let hash = self.hasher.hash_one(claim);
            if let Ok(entry) = self.claims.find_entry(hash, |slot| *slot == (hash, id)) {
                entry.remove();
            }
        });
        self.link(id, &body, false);
        match body.kind() {
            DocumentKind::Tenant => drop(self.tenants.remove(&id)),
            DocumentKind::Location => drop(self.locations.remove(&id)),
            DocumentKind::Router => drop(self.routers.remove(&id)),
            DocumentKind::Device => drop(self.devices.remove(&id)),
            DocumentKind::ApiToken => drop(self.tokens.remove(&id)),
        }
    }

    fn claim_all(&mut self, id: u64, body: &DocumentBody) {
        with_claims(body, |claim| {
            let hash = self.hasher.hash_one(claim);
            self.claims.insert_unique(hash, (hash, id), |slot| slot.0);
        });
    }

    /// Adds or removes what leads from parents to a child.
    fn link(&mut self, id: u64, body: &DocumentBody, add: bool) {
        fn set(children: &mut Children, parent: u64, id: u64, add: bool) {
            if add {
                children.insert((parent, id));
            } else {
                children.remove(&(parent, id));
            }
        }
        match body {
            DocumentBody::Tenant(_) => {}
            DocumentBody::Location(location) => {
                set(&mut self.locations_of, location.tenant.0, id, add);
                match add {
                    true => self.groups.add(id, location),
                    false => self.groups.remove(id, location),
                }
            }
            DocumentBody::Router(router) => {
                set(&mut self.routers_of, router.tenant.0, id, add);
                set(&mut self.routers_of, router.location.0, id, add);
            }
            DocumentBody::Device(device) => {
                for parent in [device.tenant.0, device.location.0, device.router.0] {
                    set(&mut self.devices_of, parent, id, add);
                }
                if device.behind_router {
                    let count = self.device_counts.entry(device.tenant).or_insert(0);
                    *count = if add { *count + 1 } else { *count - 1 };
                }
            }
            DocumentBody::ApiToken(token) => {
                if let Some(tenant) = token.tenant {
                    set(&mut self.tokens_of, tenant.0, id, add);
                }
            }
        }
    }

    pub fn list_tenants(&self, query: &ListQuery) -> Page<Tenant> {
        let named = |entry: &Tenant| begins(query, &entry.name);
        let ids = self.tenants.range(after(query)).map(|(&id, _)| id);
        page(query, ids, &self.tenants, named)
    }

    pub fn list_locations(&self, query: &ListQuery) -> Page<Location> {
        let wanted = |entry: &Location| {
            begins(query, &entry.name)
                && query.tenant.is_none_or(|t| t == entry.tenant)
                && query.group.as_ref().is_none_or(|group| entry.groups.contains(group))
        };
        if let (Some(tenant), Some(group)) = (query.tenant, &query.group) {
            let ids = self.groups.members(tenant, group, query.after);
            return page(query, ids, &self.locations, wanted);
        }
        let (kind, parent) = (DocumentKind::Location, query.tenant.map(|t| t.0));
        self.list(query, kind, parent, &self.locations, wanted)
    }

    pub fn list_routers(&self, query: &ListQuery) -> Page<Router> {
        let parent = query.location.map(|l| l.0).or(query.tenant.map(|t| t.0));
        self.list(query, DocumentKind::Router, parent, &self.routers, |entry| {
            begins(query, &entry.name)
                && query.tenant.is_none_or(|t| t == entry.tenant)
                && query.location.is_none_or(|l| l == entry.location)
        })
    }

    pub fn list_devices(&self, query: &ListQuery) -> Page<Device> {
        let parent = query.router.map(|r| r.0);
        let parent = parent.or(query.location.map(|l| l.0)).or(query.tenant.map(|t| t.0));
        self.list(query, DocumentKind::Device, parent, &self.devices, |entry| {
            begins(query, &entry.name)
                && query.tenant.is_none_or(|t| t == entry.tenant)
                && query.location.is_none_or(|l| l == entry.location)
                && query.router.is_none_or(|r| r == entry.router)
        })
    }

    pub fn list_tokens(&self, query: &ListQuery) -> Page<ApiToken> {
        let kind = DocumentKind::ApiToken;
        self.list(query, kind, query.tenant.map(|t| t.0), &self.tokens, |entry| {
            begins(query, &entry.name) && query.tenant.is_none_or(|t| Some(t) == entry.tenant)
        })
    }

    fn list<T>(
        &self,
        query: &ListQuery,
        kind: DocumentKind,
        parent: Option<u64>,
        entries: &Entries<T>,
        wanted: impl Fn(&T) -> bool,
    ) -> Page<T> {
        let Some(parent) = parent else {
            return page(query, entries.range(after(query)).map(|(&id, _)| id), entries, wanted);
        };
        let start =
            query.after.map_or(Bound::Included((parent, 0)), |id| Bound::Excluded((parent, id)));
        let end = Bound::Included((parent, u64::MAX));
        let ids = self.children_of(kind).range((start, end)).map(|&(_, id)| id);
        page(query, ids, entries, wanted)
    }

    /// Live documents, by kind.
    pub fn counts(&self) -> [(DocumentKind, usize); 5] {
        [
            (DocumentKind::Tenant, self.tenants.len()),
            (DocumentKind::Location, self.locations.len()),
            (DocumentKind::Router, self.routers.len()),
            (DocumentKind::Device, self.devices.len()),
            (DocumentKind::ApiToken, self.tokens.len()),
        ]
    }
}

/// Calls `visit` with all that a document of this body has to itself. A
/// router's name is not among it: its own device has it already.
pub(super) fn with_claims(body: &DocumentBody, mut visit: impl FnMut(&Claim<'_>)) {
    match body {
        DocumentBody::Tenant(tenant) => visit(&Claim::TenantName(&tenant.name)),
        DocumentBody::Location(location) => {
            visit(&Claim::LocationName(location.tenant, &location.name));
        }
        DocumentBody::Router(router) => {
            visit(&Claim::Credentials(&router.credentials.lookup_key()));
        }
        DocumentBody::Device(device) => visit(&Claim::DeviceName(device.tenant, &device.name)),
        DocumentBody::ApiToken(token) => visit(&Claim::Token(&token.hash)),
    }
}

fn after(query: &ListQuery) -> (Bound<u64>, Bound<u64>) {
    (query.after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

fn begins(query: &ListQuery, name: &str) -> bool {
    query.name.as_deref().is_none_or(|prefix| name.starts_with(prefix))
}

fn page<T>(
    query: &ListQuery,
    ids: impl Iterator<Item = u64>,
    entries: &Entries<T>,
    wanted: impl Fn(&T) -> bool,
) -> Page<T> {
    let limit = if query.limit == 0 { MAX_PAGE } else { query.limit.min(MAX_PAGE) };
    let mut items = Vec::new();
    let mut last = None;
    for (looked_at, id) in ids.enumerate() {
        if items.len() == limit || looked_at == MAX_SCAN {
            return Page { items, next: last };
        }
        last = Some(id);
        let entry = &entries[&id];
        if wanted(&entry.body) {
            items.push(entry.clone());
        }
    }
    Page { items, next: None }
}
