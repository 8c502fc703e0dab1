//! What a subscription must hold to. Whether the rules that it chooses are there
//! is asked by who takes it in, for profiles are not in the directory.

use std::collections::HashSet;

use schema::{DocumentKind, Moment, RuleChoice, Subscription};

use super::super::draft::Draft;
use super::super::limits::{MAX_RULE_CHOICES, MAX_SUBSCRIPTIONS};
use super::recipients::{check_channels, check_reached, check_scope, check_some, check_wait};
use super::{DirectoryError, check_count, check_text, refuse, tenant, user};

pub(super) fn check_subscription(
    draft: &Draft<'_>,
    new: &Subscription,
    id: Option<u64>,
) -> Result<(), DirectoryError> {
    tenant(draft, new.tenant)?;
    let user = user(draft, new.user)?;
    if user.tenant != new.tenant {
        return refuse("user", new.user.to_string(), "a user of the same tenant");
    }
    check_count(draft, new.tenant, DocumentKind::Subscription, MAX_SUBSCRIPTIONS, id)?;
    check_channels(&new.channels)?;
    check_reached(new.user, &user, &new.channels)?;
    check_scope(draft, new.tenant, &new.scope)?;
    check_rules(&new.rules)?;
    let all = "raised, severity_changed, acknowledged and cleared";
    check_some("on", &new.on, |moment| name(moment).to_owned(), all)?;
    check_wait("unacknowledged_for_s", new.unacknowledged_for_s)?;
    check_wait("repeat_s", new.repeat_s)?;
    if new.unacknowledged_for_s > 0 && !new.on.contains(&Moment::Raised) {
        let shown: Vec<&str> = new.on.iter().map(|moment| name(*moment)).collect();
        let allowed = "an escalation (`unacknowledged_for_s`) is counted from when the alarm was \
                       raised, so that raised must be among them";
        return refuse("on", shown.join(", "), allowed);
    }
    Ok(())
}

fn check_rules(rules: &[RuleChoice]) -> Result<(), DirectoryError> {
    if rules.len() > MAX_RULE_CHOICES {
        let allowed = format!("at most {MAX_RULE_CHOICES}");
        return refuse("rules", format!("a list of {}", rules.len()), allowed);
    }
    let mut seen = HashSet::with_capacity(rules.len());
    for RuleChoice { profile, key } in rules {
        if let Some(key) = key {
            check_text("rules.key", key)?;
        }
        if !seen.insert((profile, key)) {
            let key = key.as_ref().map_or("all rules".to_owned(), |key| format!("rule {key:?}"));
            let value = format!("a list with {key} of profile {profile} twice");
            return refuse("rules", value, "each is chosen once");
        }
    }
    Ok(())
}

fn name(moment: Moment) -> &'static str {
    match moment {
        Moment::Raised => "raised",
        Moment::SeverityChanged => "severity_changed",
        Moment::Acknowledged => "acknowledged",
        Moment::Cleared => "cleared",
    }
}
