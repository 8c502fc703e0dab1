//! What users, subscriptions and offline profiles have in common on the wire.

use schema::{LocationId, Scope, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Access;
use super::problem::{ApiResult, Problem};
use super::sight;
use super::state::AppState;

/// Of which locations somebody is told; all of the tenant where both lists are
/// empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Scope)]
pub struct ScopeShown {
    /// Ids of locations, each once; with `groups` at most 1,000. A location that is
    /// deleted is taken out.
    locations: Vec<u64>,
    /// Names of location groups, each once.
    groups: Vec<String>,
}

impl From<ScopeShown> for Scope {
    fn from(shown: ScopeShown) -> Self {
        let locations = shown.locations.into_iter().map(LocationId).collect();
        Self { locations, groups: shown.groups }
    }
}

impl From<&Scope> for ScopeShown {
    fn from(scope: &Scope) -> Self {
        let locations = scope.locations.iter().map(|location| location.0).collect();
        Self { locations, groups: scope.groups.clone() }
    }
}

/// The tenant of a document that is to be made: the one given, or a tenant's own
/// token's.
pub fn owner(state: &AppState, access: &Access, tenant: Option<u64>) -> ApiResult<TenantId> {
    let tenant = tenant.map(TenantId).or(access.tenant()).ok_or_else(|| {
        Problem::invalid("tenant", "It is missing; give the id of the tenant that it is for.")
    })?;
    let named = |problem: Problem| problem.with_field("tenant");
    sight::tenant(state.store.directory(), access, tenant).map_err(named)?;
    Ok(tenant)
}
