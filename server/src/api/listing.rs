//! The query of all lists of documents, and their pages.

use std::sync::Arc;

use schema::{LocationId, RouterId, TenantId};
use serde::Deserialize;
use store::{DirectoryPage, Entry, ListQuery};
use utoipa::IntoParams;

use super::auth::Access;
use super::paging::{Page, Paging};
use super::problem::ApiResult;
use crate::standing::LocationStatus;

/// Which documents a list holds.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Items of a page, 1 to 1000; 100 when not given.
    limit: Option<u32>,
    /// What `next` of the page before said.
    after: Option<String>,
    /// Only what belongs to this tenant.
    tenant: Option<u64>,
    /// Only names that begin so.
    name: Option<String>,
}

/// Which locations a list holds.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LocationFilter {
    /// Items of a page, 1 to 1000; 100 when not given. With `status` a page may be
    /// shorter and still have a `next`.
    limit: Option<u32>,
    /// What `next` of the page before said.
    after: Option<String>,
    /// Only what belongs to this tenant.
    tenant: Option<u64>,
    /// Only names that begin so.
    name: Option<String>,
    /// Only those in this location group.
    group: Option<String>,
    /// Only those that stand so.
    status: Option<LocationStatus>,
}

/// Which routers a list holds.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RouterFilter {
    /// Items of a page, 1 to 1000; 100 when not given.
    limit: Option<u32>,
    /// What `next` of the page before said.
    after: Option<String>,
    /// Only those of this tenant.
    tenant: Option<u64>,
    /// Only those at this location.
    location: Option<u64>,
    /// Only names that begin so.
    name: Option<String>,
}

/// Which devices a list holds.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeviceFilter {
    /// Items of a page, 1 to 1000; 100 when not given.
    limit: Option<u32>,
    /// What `next` of the page before said.
    after: Option<String>,
    /// Only those of this tenant.
    tenant: Option<u64>,
    /// Only those at this location.
    location: Option<u64>,
    /// Only this router's own and those behind it.
    router: Option<u64>,
    /// Only names that begin so.
    name: Option<String>,
}

impl Filter {
    /// What to ask the directory.
    pub fn query(self, access: &Access) -> ApiResult<ListQuery> {
        let Self { limit, after, tenant, name } = self;
        DeviceFilter { limit, after, tenant, name, location: None, router: None }.query(access)
    }
}

impl LocationFilter {
    /// What to ask the directory, and how those must stand that are wanted.
    pub fn query(self, access: &Access) -> ApiResult<(ListQuery, Option<LocationStatus>)> {
        let Self { limit, after, tenant, name, group, status } = self;
        let query = Filter { limit, after, tenant, name }.query(access)?;
        Ok((ListQuery { group, ..query }, status))
    }
}

impl RouterFilter {
    /// What to ask the directory.
    pub fn query(self, access: &Access) -> ApiResult<ListQuery> {
        let Self { limit, after, tenant, location, name } = self;
        DeviceFilter { limit, after, tenant, name, location, router: None }.query(access)
    }
}

impl DeviceFilter {
    /// What to ask the directory.
    pub fn query(self, access: &Access) -> ApiResult<ListQuery> {
        let paging = Paging::by_id(self.limit, self.after.as_deref())?;
        Ok(ListQuery {
            tenant: access.filter(self.tenant.map(TenantId))?,
            location: self.location.map(LocationId),
            router: self.router.map(RouterId),
            user: None,
            group: None,
            name: self.name,
            after: paging.after,
            limit: paging.limit as usize,
        })
    }
}

/// A page of the directory as it is shown.
pub fn page<T, U>(found: DirectoryPage<T>, show: impl Fn(&Entry<T>) -> U) -> Page<U> {
    let show = |entry: Arc<Entry<T>>| show(&entry);
    Page {
        items: found.items.into_iter().map(show).collect(),
        next: found.next.map(|id| id.to_string()),
    }
}
