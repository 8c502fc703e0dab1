//! Keys of a profile that no device has ever sent, and location groups that no
//! location is in: most often a slip of the pen, which the alarm core can't see
//! because it knows neither history nor directory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use alarms::Problem;
use schema::{
    AlarmProfile, AppliesTo, Condition, Device, DeviceId, Filter, LocationId, Operand, TenantId,
};
use store::{Directory, Entry, GroupQuery, History, ListQuery};
use tokio::runtime::Handle;

use super::nearest::Suggestions;

/// The devices whose keys are looked at for one profile.
const MAX_DEVICES: usize = 1_000;

/// The devices that are looked through to find those that a profile is for.
const MAX_LISTED_DEVICES: usize = 20_000;

/// The keys, or location groups, that are kept to find the nearest one.
const MAX_NEAR_KEYS: usize = 10_000;

/// A place in a profile that names a telemetry key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mention {
    field: String,
    /// Another device at the location; none is the rule's own.
    device: Option<String>,
    key: String,
}

/// A warning for each place that names a key which none of the tenant's devices
/// has sent that the profile is for. Says nothing while none of them has sent
/// anything at all.
pub(super) fn unknown(
    directory: &Directory,
    history: &History,
    tenant: TenantId,
    profile: &AlarmProfile,
    suggestions: &mut Suggestions,
) -> Vec<Problem> {
    let mentions = mentions(profile);
    let devices = Devices::of(directory, tenant, profile);
    let mut missing: BTreeSet<&str> =
        mentions.iter().filter(|m| m.device.is_none()).map(|m| m.key.as_str()).collect();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for id in &devices.ids {
        if missing.is_empty() || suggestions.gone.is() {
            break;
        }
        for key in keys_of(history, *id) {
            missing.remove(key.as_str());
            if known.len() < MAX_NEAR_KEYS {
                known.insert(key);
            }
        }
    }
    let mut named: BTreeMap<&str, Option<Vec<String>>> = BTreeMap::new();
    // However often a key is named, its nearest is looked for once.
    let mut said: HashMap<(Option<&str>, &str), Option<String>> = HashMap::new();
    let mut problems = Vec::new();
    for mention in &mentions {
        let name = (mention.device.as_deref(), mention.key.as_str());
        let message = said.entry(name).or_insert_with(|| match name {
            (None, key) if known.is_empty() || !missing.contains(key) => None,
            (None, key) => {
                let near = nearest(key, known.iter().map(String::as_str), suggestions);
                Some(devices.lack(&near))
            }
            (Some(device), key) => {
                let keys = named.entry(device).or_insert_with(|| {
                    let found = directory.device_by_name(tenant, device);
                    found.map(|entry| keys_of(history, DeviceId(entry.id)))
                });
                of_another(device, key, keys.as_deref(), suggestions)
            }
        });
        let Some(message) = message.clone() else { continue };
        let value = match &mention.device {
            Some(device) => format!("{device}/{}", mention.key),
            None => mention.key.clone(),
        };
        problems.push(Problem { field: mention.field.clone(), value, message });
    }
    problems
}

/// The keys of a device; none where the history can't say. Called on a thread
/// that may block.
fn keys_of(history: &History, device: DeviceId) -> Vec<String> {
    match Handle::current().block_on(history.keys(device)) {
        Ok(keys) => keys,
        Err(error) => {
            tracing::warn!(%error, "a profile's keys are not compared with what devices sent");
            Vec::new()
        }
    }
}

/// A warning for each location group that none of the tenant's locations is in.
pub(super) fn empty_groups(
    directory: &Directory,
    tenant: TenantId,
    profile: &AlarmProfile,
    suggestions: &mut Suggestions,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let query = GroupQuery { tenant: Some(tenant), limit: MAX_NEAR_KEYS, ..GroupQuery::default() };
    let known = std::cell::OnceCell::new();
    for (place, group) in profile.applies_to.location_groups.iter().enumerate() {
        if !at_group(directory, tenant, group, None, 1).0.is_empty() {
            continue;
        }
        let known = known.get_or_init(|| directory.location_groups(&query));
        let near = suggestions.nearest(group, known.iter().map(|group| group.name.as_str()));
        let near = near.map_or_else(String::new, |near| format!("; the nearest one is `{near}`"));
        problems.push(Problem {
            field: format!("applies_to.location_groups[{place}]"),
            value: group.clone(),
            message: format!("none of the tenant's locations is in this group{near}"),
        });
    }
    problems
}

/// A page of the locations in a group, and where the next one begins.
fn at_group(
    directory: &Directory,
    tenant: TenantId,
    group: &str,
    after: Option<u64>,
    limit: usize,
) -> (Vec<LocationId>, Option<u64>) {
    let group = Some(group.to_owned());
    let query = ListQuery { tenant: Some(tenant), group, after, limit, ..ListQuery::default() };
    let page = directory.locations(&query);
    (page.items.iter().map(|location| LocationId(location.id)).collect(), page.next)
}

/// What is doubtful about a key of a named device; its keys where there is one.
fn of_another(
    device: &str,
    key: &str,
    keys: Option<&[String]>,
    suggestions: &mut Suggestions,
) -> Option<String> {
    let Some(keys) = keys else {
        return Some(format!("the tenant has no device `{device}`"));
    };
    if keys.is_empty() || keys.iter().any(|known| known == key) {
        return None;
    }
    let near = nearest(key, keys.iter().map(String::as_str), suggestions);
    Some(format!("the device `{device}` has never sent this key{near}"))
}

/// The devices that a profile is for, as far as they are looked at.
struct Devices {
    ids: Vec<DeviceId>,
    /// There are, or may be, more.
    more: bool,
}

impl Devices {
    fn of(directory: &Directory, tenant: TenantId, profile: &AlarmProfile) -> Self {
        let to = &profile.applies_to;
        let mut found = Self { ids: Vec::new(), more: false };
        let includes = |device: &Arc<Entry<Device>>| {
            let location = directory.location(device.location);
            let groups = location.as_ref().map_or(&[][..], |location| &location.groups);
            let kind = device.device_type.as_deref();
            device.tenant == tenant
                && to.includes(DeviceId(device.id), device.location, groups, kind)
        };
        if !to.devices.is_empty() {
            let named = to.devices.iter().take(MAX_DEVICES).filter_map(|id| directory.device(*id));
            found.ids = named.filter(includes).map(|device| DeviceId(device.id)).collect();
            found.more = to.devices.len() > MAX_DEVICES;
            return found;
        }
        let mut listed = 0;
        for location in places(directory, tenant, to) {
            let mut query = ListQuery { tenant: Some(tenant), location, ..ListQuery::default() };
            loop {
                // A location without devices counts too.
                listed += 1;
                let page = directory.devices(&query);
                listed += page.items.len();
                for device in page.items.iter().filter(|device| includes(device)) {
                    if found.ids.len() == MAX_DEVICES {
                        found.more = true;
                        return found;
                    }
                    found.ids.push(DeviceId(device.id));
                }
                if listed >= MAX_LISTED_DEVICES {
                    found.more = true;
                    return found;
                }
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
        }
        found
    }

    fn lack(&self, near: &str) -> String {
        let which = if self.more { "that were looked at" } else { "that the profile is for" };
        match self.ids.len() {
            1 => format!("the one device {which} has never sent this key{near}"),
            count => format!("none of the {count} devices {which} has ever sent this key{near}"),
        }
    }
}

/// The locations whose devices are looked through; `None` is all of the tenant's.
fn places(directory: &Directory, tenant: TenantId, to: &AppliesTo) -> Vec<Option<LocationId>> {
    if !to.locations.is_empty() {
        let named: BTreeSet<LocationId> = to.locations.iter().copied().collect();
        return named.into_iter().take(MAX_LISTED_DEVICES).map(Some).collect();
    }
    if to.location_groups.is_empty() {
        return vec![None];
    }
    let mut found: BTreeSet<LocationId> = BTreeSet::new();
    for group in &to.location_groups {
        let mut after = None;
        while found.len() < MAX_LISTED_DEVICES {
            let (locations, next) = at_group(directory, tenant, group, after, 0);
            found.extend(locations);
            after = next;
            if after.is_none() {
                break;
            }
        }
    }
    found.into_iter().map(Some).collect()
}

/// Says which key was meant, where one is near.
fn nearest<'a>(
    key: &str,
    known: impl Iterator<Item = &'a str>,
    suggestions: &mut Suggestions,
) -> String {
    let near = suggestions.nearest(key, known);
    near.map_or_else(String::new, |known| format!("; the nearest one sent is `{known}`"))
}

/// All places that name a key, in the order in which they are written.
fn mentions(profile: &AlarmProfile) -> Vec<Mention> {
    let mut found = Vec::new();
    for (index, rule) in profile.rules.iter().enumerate() {
        let path = format!("rules[{index}]");
        for (severity, condition) in &rule.raise {
            of_condition(&format!("{path}.raise.{severity}"), condition, &mut found);
        }
        if let Some(condition) = &rule.clear {
            of_condition(&format!("{path}.clear"), condition, &mut found);
        }
        for (severity, condition) in &rule.clear_by_severity {
            of_condition(&format!("{path}.clear_by_severity.{severity}"), condition, &mut found);
        }
    }
    found
}

fn mention(field: String, written: &str) -> Mention {
    let (device, key) = match written.split_once('/') {
        Some((device, key)) => (Some(device.to_owned()), key),
        None => (None, written),
    };
    Mention { field, device, key: key.to_owned() }
}

fn of_condition(path: &str, condition: &Condition, found: &mut Vec<Mention>) {
    if let Some(key) = &condition.key {
        found.push(mention(format!("{path}.key"), key));
    }
    if let Some(filter) = &condition.when {
        of_filter(&format!("{path}.when"), filter, found);
    }
}

fn of_filter(path: &str, filter: &Filter, found: &mut Vec<Mention>) {
    for (name, filters) in [("all", &filter.all), ("any", &filter.any)] {
        for (index, filter) in filters.iter().flatten().enumerate() {
            of_filter(&format!("{path}.{name}[{index}]"), filter, found);
        }
    }
    if let Some(key) = &filter.key {
        found.push(mention(format!("{path}.key"), key));
    }
    if let Some(value) = &filter.value {
        of_operand(&format!("{path}.value"), value, found);
    }
}

fn of_operand(path: &str, operand: &Operand, found: &mut Vec<Mention>) {
    match operand {
        Operand::Reference(reference) => {
            if let Some(key) = &reference.key {
                found.push(mention(format!("{path}.key"), key));
            }
        }
        Operand::List(list) => {
            for (index, operand) in list.iter().enumerate() {
                of_operand(&format!("{path}[{index}]"), operand, found);
            }
        }
        Operand::Boolean(_) | Operand::Integer(_) | Operand::Number(_) | Operand::Text(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_that_names_a_key_is_found() {
        let text = r#"
            name = "p"
            [[rules]]
            key = "r"
            raise.major = { when = { all = [{ key = "a", operator = ">", value = { key = "pump/b" } }, { any = [{ key = "c", operator = "between", value = [1, { key = "d" }] }] }] } }
            clear = { key = "e", no_reading_for = "1m" }
            clear_by_severity.major = { when = { key = "f", operator = ">", value = { attribute = "g" } } }
        "#;
        let found = mentions(&alarms::parse_toml(text).unwrap());
        let found: Vec<(&str, Option<&str>, &str)> =
            found.iter().map(|m| (&*m.field, m.device.as_deref(), &*m.key)).collect();
        let expected = [
            ("rules[0].raise.major.when.all[0].key", None, "a"),
            ("rules[0].raise.major.when.all[0].value.key", Some("pump"), "b"),
            ("rules[0].raise.major.when.all[1].any[0].key", None, "c"),
            ("rules[0].raise.major.when.all[1].any[0].value[1].key", None, "d"),
            ("rules[0].clear.key", None, "e"),
            ("rules[0].clear_by_severity.major.when.key", None, "f"),
        ];
        assert_eq!(found, expected);
    }
}
