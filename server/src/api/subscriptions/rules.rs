//! The rules that a subscription chooses, which must be there when it is written.
//! One that goes later, with its profile or out of it, is told of no more.

use std::collections::BTreeMap;

use alarms::parse_toml;
use schema::{ProfileId, RuleChoice, TenantId};
use serde::{Deserialize, Serialize};
use store::directory::limits::MAX_RULE_CHOICES;
use utoipa::ToSchema;

use crate::api::problem::{ApiResult, Problem};
use crate::api::state::AppState;

/// What the keys of the alarms about limits of alarms begin with; one follows from
/// each rule that has such a limit.
const LIMIT_KEYS: &str = "alarm_limit/";

/// One rule, or all of an alarm profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RuleChoice)]
pub struct RuleShown {
    /// An alarm profile of the tenant; 0 stands for its system alarms.
    profile: u64,
    /// The rule's key; all rules of the profile when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl From<&RuleChoice> for RuleShown {
    fn from(rule: &RuleChoice) -> Self {
        Self { profile: rule.profile.0, key: rule.key.clone() }
    }
}

/// The rules as they are stored; one that the tenant doesn't have is refused.
pub async fn checked_rules(
    state: &AppState,
    tenant: TenantId,
    rules: Vec<RuleShown>,
) -> ApiResult<Vec<RuleChoice>> {
    if rules.len() > MAX_RULE_CHOICES {
        let detail = format!("It has {}, and may have at most {MAX_RULE_CHOICES}.", rules.len());
        return Err(Problem::invalid("rules", detail));
    }
    let mut keys: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (place, RuleShown { profile, key }) in rules.iter().enumerate() {
        if !keys.contains_key(profile) {
            let found = keys_of(state, tenant, ProfileId(*profile)).await?.ok_or_else(|| {
                let detail = format!(
                    "It is {profile}, and must be the id of an alarm profile of the tenant, or 0 \
                     for its system alarms."
                );
                Problem::invalid(format!("rules[{place}].profile"), detail)
            })?;
            keys.insert(*profile, found);
        }
        let Some(key) = key else { continue };
        let is_limit = *profile == ProfileId::SYSTEM.0 && key.starts_with(LIMIT_KEYS);
        if !is_limit && !keys[profile].contains(key) {
            let key: String = key.chars().take(64).collect();
            let detail = format!("It is {key:?}, and profile {profile} has no such rule.");
            return Err(Problem::invalid(format!("rules[{place}].key"), detail));
        }
    }
    let stored = |rule: RuleShown| RuleChoice { profile: ProfileId(rule.profile), key: rule.key };
    Ok(rules.into_iter().map(stored).collect())
}

/// The keys of a profile's rules; none where the tenant has no such profile. The
/// system alarms have one name only, so that two choices of the same look the same.
async fn keys_of(
    state: &AppState,
    tenant: TenantId,
    id: ProfileId,
) -> ApiResult<Option<Vec<String>>> {
    let alarms = state.store.alarms();
    let found = match id {
        ProfileId::SYSTEM => alarms.system_profile(tenant).await?,
        id => alarms.profile(id).await?.filter(|found| found.tenant == tenant && !found.system),
    };
    let Some(found) = found else {
        // A tenant that is new gets its own in a moment.
        return Ok((id == ProfileId::SYSTEM).then(Vec::new));
    };
    let keys = match parse_toml(&found.source) {
        Ok(profile) => profile.rules.into_iter().map(|rule| rule.key).collect(),
        // It was read when it was saved.
        Err(_) => Vec::new(),
    };
    Ok(Some(keys))
}
