//! What was refused of what routers sent, and why: the last messages of each
//! tenant, kept in memory by the broker and gone with the process.

use std::cmp::Reverse;

use axum::extract::State;
use ingest::broker::Rejection;
use schema::TenantId;
use serde::{Deserialize, Serialize};
use store::ListQuery;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::{Json, Query};
use super::paging::{Page, checked_limit};
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which rejections a list holds.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Items at most, 1 to 1000; 100 when not given.
    limit: Option<u32>,
    /// Only what this tenant's routers sent.
    tenant: Option<u64>,
}

/// A message that was refused.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Rejection)]
struct Shown {
    /// Milliseconds since 1970, UTC.
    at: i64,
    tenant: u64,
    router: u64,
    /// What is not UTF-8 in it is replaced, as in the payload.
    topic: String,
    /// Why, in words.
    reason: String,
    /// How it begins.
    payload: String,
}

impl Shown {
    fn of(tenant: TenantId, rejection: Rejection) -> Self {
        Self {
            at: rejection.at.0,
            tenant: tenant.0,
            router: rejection.router.0,
            topic: rejection.topic,
            reason: rejection.reason,
            payload: String::from_utf8_lossy(&rejection.payload).into_owned(),
        }
    }
}

/// The newest messages that were refused since the node started, newest first;
/// some are kept of each tenant, and there is no next page.
#[utoipa::path(
    get,
    operation_id = "list_rejections",
    path = "/rejections",
    tag = "routers",
    params(Filter),
    responses(
        (status = 200, body = Page<Shown>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(state): State<AppState>,
    access: Access,
    Query(filter): Query<Filter>,
) -> ApiResult<Json<Page<Shown>>> {
    let limit = checked_limit(filter.limit)? as usize;
    let mut newest = Newest { limit, found: Vec::new() };
    let directory = state.store.directory();
    match access.filter(filter.tenant.map(TenantId))? {
        Some(tenant) => {
            sight::tenant(directory, &access, tenant)?;
            newest.add(tenant, state.broker.rejections(tenant));
        }
        None => {
            let mut query = ListQuery::default();
            loop {
                let tenants = directory.tenants(&query);
                for tenant in &tenants.items {
                    let tenant = TenantId(tenant.id);
                    newest.add(tenant, state.broker.rejections(tenant));
                }
                match tenants.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
            }
        }
    }
    Ok(Json(Page { items: newest.take(), next: None }))
}

/// The newest rejections of any number of tenants, in little memory.
struct Newest {
    limit: usize,
    found: Vec<Shown>,
}

impl Newest {
    fn add(&mut self, tenant: TenantId, rejections: Vec<Rejection>) {
        self.found.extend(rejections.into_iter().map(|rejection| Shown::of(tenant, rejection)));
        if self.found.len() > 2 * self.limit {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.found.sort_by_key(|shown| Reverse(shown.at));
        self.found.truncate(self.limit);
    }

    fn take(mut self) -> Vec<Shown> {
        self.cut();
        self.found
    }
}

#[cfg(test)]
mod tests {
    use schema::{RouterId, TimestampMs};

    use super::*;

    #[test]
    fn the_newest_of_all_tenants_are_kept() {
        let rejection = |at| Rejection {
            at: TimestampMs(at),
            router: RouterId(1),
            topic: "t".to_owned(),
            reason: "r".to_owned(),
            payload: vec![b'{', 0xff],
        };
        let mut newest = Newest { limit: 3, found: Vec::new() };
        for tenant in 0..10u64 {
            let first = i64::try_from(tenant).unwrap();
            newest.add(TenantId(tenant), vec![rejection(first), rejection(100 - first)]);
        }
        let kept = newest.take();
        let times: Vec<(i64, u64)> = kept.iter().map(|shown| (shown.at, shown.tenant)).collect();
        assert_eq!(times, [(100, 0), (99, 1), (98, 2)]);
        assert_eq!(kept[0].payload, "{\u{fffd}");
    }
}
