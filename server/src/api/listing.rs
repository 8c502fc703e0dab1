//! The query of all lists of documents, and their pages.

use std::sync::Arc;

use schema::{LocationId, RouterId, TenantId};
use serde::Deserialize;
use store::{DirectoryPage, Entry, ListQuery};
use utoipa::IntoParams;

use super::auth::Access;
use super::paging::{Page, Paging};
use super::problem::{ApiResult, Problem};

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
    /// Only what stands at this location.
    location: Option<u64>,
    /// Only what is behind this router, and its own device.
    router: Option<u64>,
    /// Only names that begin so.
    name: Option<String>,
}

/// The filters that a list has beside `tenant`, `name` and the paging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub location: bool,
    pub router: bool,
}

impl Filter {
    /// What to ask the directory. A filter that the list does not have is
    /// refused rather than taken for none.
    pub fn query(self, access: &Access, allowed: Allowed) -> ApiResult<ListQuery> {
        for (field, given, allowed) in [
            ("location", self.location.is_some(), allowed.location),
            ("router", self.router.is_some(), allowed.router),
        ] {
            if given && !allowed {
                return Err(Problem::invalid(field, "This list cannot be filtered by it."));
            }
        }
        let paging = Paging::by_id(self.limit, self.after.as_deref())?;
        Ok(ListQuery {
            tenant: access.filter(self.tenant.map(TenantId))?,
            location: self.location.map(LocationId),
            router: self.router.map(RouterId),
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
