//! Which locations are in which location groups.
//!
//! A group has no document of its own: it is there as long as a location is in
//! it. There are at most 32 for each location.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use schema::{Location, TenantId};

/// Which location groups a list wants; what is `None` sets no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupQuery {
    pub tenant: Option<TenantId>,
    /// What the name begins with.
    pub name: Option<String>,
    /// Only groups behind this one, by tenant and name.
    pub after: Option<(TenantId, String)>,
    /// The most groups that are listed.
    pub limit: usize,
}

/// A location group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocationGroup {
    pub tenant: TenantId,
    pub name: String,
    /// How many locations are in it.
    pub locations: usize,
}

/// The ids of the locations of each group.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<(TenantId, String), BTreeSet<u64>>);

impl Groups {
    pub fn add(&mut self, id: u64, location: &Location) {
        for group in &location.groups {
            self.0.entry((location.tenant, group.clone())).or_default().insert(id);
        }
    }

    pub fn remove(&mut self, id: u64, location: &Location) {
        for group in &location.groups {
            let key = (location.tenant, group.clone());
            if let Some(members) = self.0.get_mut(&key) {
                members.remove(&id);
                if members.is_empty() {
                    self.0.remove(&key);
                }
            }
        }
    }

    /// The locations of a group behind this id, in the order of their ids.
    pub fn members(
        &self,
        tenant: TenantId,
        group: &str,
        after: Option<u64>,
    ) -> impl Iterator<Item = u64> + '_ {
        let members = self.0.get(&(tenant, group.to_owned()));
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        members.into_iter().flat_map(move |members| members.range(behind).copied())
    }

    /// Groups by tenant and name.
    pub fn list(&self, query: &GroupQuery) -> Vec<LocationGroup> {
        let prefix = query.name.as_deref().unwrap_or_default();
        let from = query.tenant.map(|tenant| (tenant, prefix.to_owned()));
        let first = match (from, query.after.clone()) {
            (Some(from), Some(after)) if from > after => Bound::Included(from),
            (_, Some(after)) => Bound::Excluded(after),
            (Some(from), None) => Bound::Included(from),
            (None, None) => Bound::Unbounded,
        };
        let groups = self.0.range((first, Bound::Unbounded));
        let groups = groups.take_while(|((tenant, name), _)| match query.tenant {
            Some(wanted) => *tenant == wanted && name.starts_with(prefix),
            None => true,
        });
        let groups = groups.filter(|((_, name), _)| name.starts_with(prefix));
        let show = |((tenant, name), members): (&(TenantId, String), &BTreeSet<u64>)| {
            LocationGroup { tenant: *tenant, name: name.clone(), locations: members.len() }
        };
        groups.take(query.limit).map(show).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(tenant: u64, groups: &[&str]) -> Location {
        Location {
            tenant: TenantId(tenant),
            name: "l".to_owned(),
            time_zone: "UTC".to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        }
    }

    fn listed(groups: &Groups, query: &GroupQuery) -> Vec<(u64, String, usize)> {
        groups.list(query).into_iter().map(|g| (g.tenant.0, g.name, g.locations)).collect()
    }

    #[test]
    fn a_group_is_there_as_long_as_a_location_is_in_it() {
        let mut groups = Groups::default();
        groups.add(3, &location(1, &["Coast", "Cold"]));
        groups.add(5, &location(1, &["Coast"]));
        groups.add(4, &location(2, &["Coast"]));
        let all = GroupQuery { limit: 10, ..GroupQuery::default() };
        let named = |tenant: u64, name: &str, count| (tenant, name.to_owned(), count);
        let expected = [named(1, "Coast", 2), named(1, "Cold", 1), named(2, "Coast", 1)];
        assert_eq!(listed(&groups, &all), expected);
        assert_eq!(groups.members(TenantId(1), "Coast", None).collect::<Vec<_>>(), [3, 5]);
        assert_eq!(groups.members(TenantId(1), "Coast", Some(3)).collect::<Vec<_>>(), [5]);
        assert_eq!(groups.members(TenantId(1), "coast", None).count(), 0);

        groups.remove(3, &location(1, &["Coast", "Cold"]));
        assert_eq!(listed(&groups, &all), [named(1, "Coast", 1), named(2, "Coast", 1)]);
        groups.remove(5, &location(1, &["Coast"]));
        groups.remove(4, &location(2, &["Coast"]));
        assert!(groups.0.is_empty());
    }

    #[test]
    fn pages_and_prefixes_meet_each_group_once() {
        let mut groups = Groups::default();
        for tenant in 1..=3 {
            groups.add(tenant, &location(tenant, &["a", "ab", "abc", "b", "ba"]));
        }
        for tenant in [None, Some(TenantId(2))] {
            for name in [None, Some("ab"), Some("b"), Some("c")] {
                let name = name.map(str::to_owned);
                let mut query = GroupQuery { tenant, name, after: None, limit: 100 };
                let whole = groups.list(&query);
                let kept = groups.0.keys().filter(|(of, key)| {
                    tenant.is_none_or(|tenant| tenant == *of)
                        && query.name.as_ref().is_none_or(|name| key.starts_with(name))
                });
                let seen = |group: &LocationGroup| (group.tenant, group.name.clone());
                assert!(kept.eq(whole.iter().map(seen).collect::<Vec<_>>().iter()), "{query:?}");
                query.limit = 2;
                let mut paged = Vec::new();
                loop {
                    let page = groups.list(&query);
                    let Some(last) = page.last() else { break };
                    query.after = Some(seen(last));
                    paged.extend(page);
                }
                assert_eq!(paged, whole, "{query:?}");
            }
        }
    }
}
