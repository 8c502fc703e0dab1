//! The pages of all lists.

use std::ops::Bound;

use schema::{
    ApiToken, Device, DocumentKind, Forwarder, ForwarderScope, Location, MessageTemplate,
    OfflineProfile, Router, Subscription, Tenant, User,
};

use super::{Entries, Index};
use crate::directory::{ListQuery, MAX_PAGE, MAX_SCAN, Page};

impl Index {
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

    pub fn list_users(&self, query: &ListQuery) -> Page<User> {
        let parent = query.tenant.map(|t| t.0);
        self.list(query, DocumentKind::User, parent, &self.users, |entry| {
            begins(query, &entry.name) && query.tenant.is_none_or(|t| t == entry.tenant)
        })
    }

    pub fn list_subscriptions(&self, query: &ListQuery) -> Page<Subscription> {
        let parent = query.user.map(|u| u.0).or(query.tenant.map(|t| t.0));
        self.list(query, DocumentKind::Subscription, parent, &self.subscriptions, |entry| {
            query.tenant.is_none_or(|t| t == entry.tenant)
                && query.user.is_none_or(|u| u == entry.user)
        })
    }

    pub fn list_offline_profiles(&self, query: &ListQuery) -> Page<OfflineProfile> {
        let parent = query.tenant.map(|t| t.0);
        self.list(query, DocumentKind::OfflineProfile, parent, &self.offline_profiles, |entry| {
            begins(query, &entry.name) && query.tenant.is_none_or(|t| t == entry.tenant)
        })
    }

    pub fn list_templates(&self, query: &ListQuery) -> Page<MessageTemplate> {
        let parent = query.tenant.map(|t| t.0);
        self.list(query, DocumentKind::MessageTemplate, parent, &self.templates, |entry| {
            query.tenant.is_none_or(|t| t == entry.tenant)
        })
    }

    pub fn list_forwarders(&self, query: &ListQuery) -> Page<Forwarder> {
        let parent = query.location.map(|l| l.0).or(query.tenant.map(|t| t.0));
        self.list(query, DocumentKind::Forwarder, parent, &self.forwarders, |entry| {
            begins(query, &entry.name)
                && query.tenant.is_none_or(|t| t == entry.tenant)
                && query.location.is_none_or(|l| entry.scope == ForwarderScope::Location(l))
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
