//! The directory in memory: what readers ask and what the writer checks against.
//!
//! Each document is held once, by its id. Names and credentials are found by a
//! table of hashes that points to ids and holds no text, and lists by ordered
//! pairs of parent and child, so that a million devices take little more than
//! their documents.

mod lists;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::{HashMap, HashTable};
use schema::{
    ApiToken, Channel, Device, DeviceId, Document, DocumentBody, DocumentKind, Forwarder,
    ForwarderScope, Language, Location, MessageTemplate, OfflineProfile, Router, RouterId,
    Subscription, TemplateKind, Tenant, TenantId, TimestampMs, User,
};

use self::told::Told;
use super::groups::Groups;
use super::{DirectoryError, Entry};

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
    UserName(TenantId, &'a str),
    OfflineProfileName(TenantId, &'a str),
    Template(TenantId, Channel, Language, TemplateKind),
    ForwarderName(TenantId, &'a str),
    /// A `Forwarder::identity`.
    ForwarderIdentity(&'a str),
}

type Entries<T> = BTreeMap<u64, Arc<Entry<T>>>;

/// Ids of children behind the id of a tenant, a location, a router or a user; ids
/// are unique over all kinds, so that these need no telling apart.
type Children = BTreeSet<(u64, u64)>;

#[derive(Debug, Default)]
pub(super) struct Index {
    pub tenants: Entries<Tenant>,
    pub locations: Entries<Location>,
    pub routers: Entries<Router>,
    pub devices: Entries<Device>,
    pub tokens: Entries<ApiToken>,
    pub users: Entries<User>,
    pub subscriptions: Entries<Subscription>,
    pub offline_profiles: Entries<OfflineProfile>,
    pub templates: Entries<MessageTemplate>,
    pub forwarders: Entries<Forwarder>,
    locations_of: Children,
    routers_of: Children,
    devices_of: Children,
    tokens_of: Children,
    users_of: Children,
    subscriptions_of: Children,
    offline_profiles_of: Children,
    templates_of: Children,
    forwarders_of: Children,
    pub groups: Groups,
    told_by_subscription: Told<Subscription>,
    told_by_offline_profile: Told<OfflineProfile>,
    /// How many a tenant has of what [`counted`] names.
    counts: HashMap<(TenantId, DocumentKind), u32, RandomState>,
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
            Claim::UserName(tenant, name) => {
                self.users.get(&id).is_some_and(|u| u.tenant == tenant && u.name == name)
            }
            Claim::OfflineProfileName(tenant, name) => {
                self.offline_profiles.get(&id).is_some_and(|p| p.tenant == tenant && p.name == name)
            }
            Claim::Template(tenant, channel, language, kind) => {
                self.templates.get(&id).is_some_and(|t| {
                    (t.tenant, t.channel, t.language, t.kind) == (tenant, channel, language, kind)
                })
            }
            Claim::ForwarderName(tenant, name) => {
                self.forwarders.get(&id).is_some_and(|f| f.tenant == tenant && f.name == name)
            }
            Claim::ForwarderIdentity(identity) => {
                self.forwarders.get(&id).is_some_and(|f| f.identity.as_deref() == Some(identity))
            }
        }
    }

    /// How many a tenant has of a kind that [`counted`] names.
    pub fn count(&self, tenant: TenantId, kind: DocumentKind) -> u32 {
        self.counts.get(&(tenant, kind)).copied().unwrap_or(0)
    }

    /// The enabled subscriptions of a tenant.
    pub fn subscriptions_of(&self, tenant: TenantId) -> Arc<[Arc<Entry<Subscription>>]> {
        self.told_by_subscription.of(tenant, || {
            let ids = self.children(tenant.0, DocumentKind::Subscription);
            ids.map(|id| &self.subscriptions[&id]).filter(|it| it.enabled).cloned().collect()
        })
    }

    /// The enabled offline profiles of a tenant.
    pub fn offline_profiles_of(&self, tenant: TenantId) -> Arc<[Arc<Entry<OfflineProfile>>]> {
        self.told_by_offline_profile.of(tenant, || {
            let ids = self.children(tenant.0, DocumentKind::OfflineProfile);
            ids.map(|id| &self.offline_profiles[&id]).filter(|it| it.enabled).cloned().collect()
        })
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
            .or_else(|| of(&self.subscriptions, id, DocumentBody::Subscription))
            .or_else(|| of(&self.users, id, DocumentBody::User))
            .or_else(|| of(&self.offline_profiles, id, DocumentBody::OfflineProfile))
            .or_else(|| of(&self.templates, id, DocumentBody::MessageTemplate))
            .or_else(|| of(&self.forwarders, id, DocumentBody::Forwarder))
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
            DocumentKind::User => &self.users_of,
            DocumentKind::Subscription => &self.subscriptions_of,
            DocumentKind::OfflineProfile => &self.offline_profiles_of,
            DocumentKind::MessageTemplate => &self.templates_of,
            DocumentKind::Forwarder => &self.forwarders_of,
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
        type Head = (u64, u64, TimestampMs);
        fn hold<T>(entries: &mut Entries<T>, (id, version, changed_at): Head, body: T) {
            entries.insert(id, Arc::new(Entry { id, version, changed_at, body }));
        }
        let head = (id, version, changed_at);
        match body {
            DocumentBody::Tenant(body) => hold(&mut self.tenants, head, body),
            DocumentBody::Location(body) => hold(&mut self.locations, head, body),
            DocumentBody::Router(body) => hold(&mut self.routers, head, body),
            DocumentBody::Device(body) => hold(&mut self.devices, head, body),
            DocumentBody::ApiToken(body) => hold(&mut self.tokens, head, body),
            DocumentBody::User(body) => hold(&mut self.users, head, body),
            DocumentBody::Subscription(body) => hold(&mut self.subscriptions, head, body),
            DocumentBody::OfflineProfile(body) => hold(&mut self.offline_profiles, head, body),
            DocumentBody::MessageTemplate(body) => hold(&mut self.templates, head, body),
            DocumentBody::Forwarder(body) => hold(&mut self.forwarders, head, body),
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
            DocumentKind::User => drop(self.users.remove(&id)),
            DocumentKind::Subscription => drop(self.subscriptions.remove(&id)),
            DocumentKind::OfflineProfile => drop(self.offline_profiles.remove(&id)),
            DocumentKind::MessageTemplate => drop(self.templates.remove(&id)),
            DocumentKind::Forwarder => drop(self.forwarders.remove(&id)),
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
        let children = match body {
            DocumentBody::Tenant(_) => {
                // One that is changed is removed and added again, and keeps what it has.
                self.told_by_subscription.tenant(TenantId(id), add);
                self.told_by_offline_profile.tenant(TenantId(id), add);
                return;
            }
            DocumentBody::Location(_) => &mut self.locations_of,
            DocumentBody::Router(_) => &mut self.routers_of,
            DocumentBody::Device(_) => &mut self.devices_of,
            DocumentBody::ApiToken(_) => &mut self.tokens_of,
            DocumentBody::User(_) => &mut self.users_of,
            DocumentBody::Subscription(_) => &mut self.subscriptions_of,
            DocumentBody::OfflineProfile(_) => &mut self.offline_profiles_of,
            DocumentBody::MessageTemplate(_) => &mut self.templates_of,
            DocumentBody::Forwarder(_) => &mut self.forwarders_of,
        };
        with_parents(body, |parent| {
            match add {
                true => children.insert((parent, id)),
                false => children.remove(&(parent, id)),
            };
        });
        match body {
            DocumentBody::Location(location) if add => self.groups.add(id, location),
            DocumentBody::Location(location) => self.groups.remove(id, location),
            DocumentBody::Subscription(it) => self.told_by_subscription.changed(it.tenant),
            DocumentBody::OfflineProfile(it) => self.told_by_offline_profile.changed(it.tenant),
            _ => {}
        }
        if let Some(counted) = counted(body) {
            let count = self.counts.entry(counted).or_insert(0);
            *count = if add { *count + 1 } else { *count - 1 };
            if *count == 0 {
                self.counts.remove(&counted);
            }
        }
    }

    /// Live documents, by kind.
    pub fn counts(&self) -> [(DocumentKind, usize); 10] {
        [
            (DocumentKind::Tenant, self.tenants.len()),
            (DocumentKind::Location, self.locations.len()),
            (DocumentKind::Router, self.routers.len()),
            (DocumentKind::Device, self.devices.len()),
            (DocumentKind::ApiToken, self.tokens.len()),
            (DocumentKind::User, self.users.len()),
            (DocumentKind::Subscription, self.subscriptions.len()),
            (DocumentKind::OfflineProfile, self.offline_profiles.len()),
            (DocumentKind::MessageTemplate, self.templates.len()),
            (DocumentKind::Forwarder, self.forwarders.len()),
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
        DocumentBody::User(user) => visit(&Claim::UserName(user.tenant, &user.name)),
        DocumentBody::Subscription(_) => {}
        DocumentBody::OfflineProfile(profile) => {
            visit(&Claim::OfflineProfileName(profile.tenant, &profile.name));
        }
        DocumentBody::MessageTemplate(it) => {
            visit(&Claim::Template(it.tenant, it.channel, it.language, it.kind));
        }
        DocumentBody::Forwarder(forwarder) => {
            visit(&Claim::ForwarderName(forwarder.tenant, &forwarder.name));
            if let Some(identity) = &forwarder.identity {
                visit(&Claim::ForwarderIdentity(identity));
            }
        }
    }
}

/// The tenant and the kind as one of which a document of this body is counted:
/// what a tenant may have only so many of. A router's own device is not counted.
pub(super) fn counted(body: &DocumentBody) -> Option<(TenantId, DocumentKind)> {
    let tenant = match body {
        DocumentBody::Device(device) if device.behind_router => device.tenant,
        DocumentBody::User(user) => user.tenant,
        DocumentBody::Subscription(subscription) => subscription.tenant,
        DocumentBody::OfflineProfile(profile) => profile.tenant,
        DocumentBody::MessageTemplate(template) => template.tenant,
        DocumentBody::Forwarder(forwarder) => forwarder.tenant,
        DocumentBody::Tenant(_)
        | DocumentBody::Location(_)
        | DocumentBody::Router(_)
        | DocumentBody::Device(_)
        | DocumentBody::ApiToken(_) => return None,
    };
    Some((tenant, body.kind()))
}

/// Calls `visit` with the ids of all that a document stands under, and of the users
/// and locations that it names: who deletes one of those finds it by them.
pub(super) fn with_parents(body: &DocumentBody, mut visit: impl FnMut(u64)) {
    match body {
        DocumentBody::Tenant(_) => {}
        DocumentBody::Location(location) => visit(location.tenant.0),
        DocumentBody::Router(router) => {
            visit(router.tenant.0);
            visit(router.location.0);
        }
        DocumentBody::Device(device) => {
            visit(device.tenant.0);
            visit(device.location.0);
            visit(device.router.0);
        }
        DocumentBody::ApiToken(token) => token.tenant.iter().for_each(|tenant| visit(tenant.0)),
        DocumentBody::User(user) => visit(user.tenant.0),
        DocumentBody::Subscription(subscription) => {
            visit(subscription.tenant.0);
            visit(subscription.user.0);
            subscription.scope.locations.iter().for_each(|location| visit(location.0));
        }
        DocumentBody::OfflineProfile(profile) => {
            visit(profile.tenant.0);
            profile.users.iter().for_each(|user| visit(user.0));
            profile.scope.locations.iter().for_each(|location| visit(location.0));
        }
        DocumentBody::MessageTemplate(template) => visit(template.tenant.0),
        DocumentBody::Forwarder(forwarder) => {
            visit(forwarder.tenant.0);
            if let ForwarderScope::Location(location) = forwarder.scope {
                visit(location.0);
            }
        }
    }
}
