//! Which rules a device has. Devices with the same profiles share a class.

use std::sync::Arc;

use schema::ProfileId;

use super::Engine;
use crate::map::Map;

/// The list of a key that no rule mentions.
pub(crate) const NO_RULES: u32 = u32::MAX;

/// The rules of all devices that the same profiles apply to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Class {
    profiles: Vec<ProfileId>,
    /// The longest of the profiles, in milliseconds.
    pub lateness: i64,
    /// All rules, sorted.
    pub rules: Vec<u32>,
    /// Rules by key, each sorted.
    lists: Vec<Box<[u32]>>,
    list_of: Map<u32, u32>,
    /// Rules that look at other devices.
    pub foreign: Vec<u32>,
}

impl Class {
    pub fn list_of(&self, key: u32) -> u32 {
        self.list_of.get(&key).copied().unwrap_or(NO_RULES)
    }

    pub fn list(&self, list: u32) -> &[u32] {
        match self.lists.get(list as usize) {
            Some(rules) => rules,
            None => &[],
        }
    }
}

impl Engine {
    /// Gives a device its class, and its cells their lists.
    pub(crate) fn classify(&mut self, index: u32) {
        let device = &self.world.devices[index as usize];
        let location = self.world.location_of(index);
        let tenant = self.world.tenant_of(index);
        let applying: Vec<ProfileId> = self
            .profiles
            .iter()
            .filter(|(_, profile)| profile.tenant == tenant.id)
            .filter(|(_, profile)| {
                profile.document.as_ref().is_some_and(|document| {
                    let kind = device.device_type.as_deref();
                    document.applies_to.includes(device.id, location.id, &location.groups, kind)
                })
            })
            .map(|(id, _)| *id)
            .collect();
        let known = tenant.classes.iter().position(|class| class.profiles == applying);
        let place = match known {
            Some(place) => place,
            None => {
                let class = self.build_class(applying);
                let classes = &mut self.world.tenants[device.tenant as usize].classes;
                classes.push(class);
                classes.len() - 1
            }
        };
        let device = &mut self.world.devices[index as usize];
        device.class = u32::try_from(place).expect("fewer classes than devices");
        let class = &self.world.tenants[device.tenant as usize].classes[place];
        for cell in &mut device.cells {
            cell.list = class.list_of(cell.key);
        }
    }

    fn build_class(&self, profiles: Vec<ProfileId>) -> Class {
        let mut class = Class::default();
        let mut by_key: Vec<(u32, u32)> = Vec::new();
        for id in &profiles {
            let Some(profile) = self.profiles.get(id) else { continue };
            let lateness = profile.document.as_ref().and_then(|document| document.lateness);
            class.lateness = class.lateness.max(lateness.map_or(0, |lateness| lateness.0));
            for &index in &profile.rules {
                let Some(rule) = &self.rules[index as usize] else { continue };
                class.rules.push(index);
                for key in &rule.keys {
                    match key.device {
                        None => by_key.push((key.key, index)),
                        Some(_) => class.foreign.push(index),
                    }
                }
            }
        }
        class.rules.sort_unstable();
        class.foreign.sort_unstable();
        class.foreign.dedup();
        by_key.sort_unstable();
        by_key.dedup();
        for same in by_key.chunk_by(|a, b| a.0 == b.0) {
            let list = u32::try_from(class.lists.len()).expect("fewer lists than keys");
            class.list_of.insert(same[0].0, list);
            class.lists.push(same.iter().map(|(_, rule)| *rule).collect());
        }
        class.profiles = profiles;
        class
    }

    /// Finds the devices that rules of a location name, and who looks at whom.
    pub(crate) fn wire_location(&mut self, place: u32) {
        let location = &self.world.locations[place as usize];
        let tenant = &self.world.tenants[location.tenant as usize];
        let looked_at = !location.named.is_empty();
        if !looked_at && tenant.classes.iter().all(|class| class.foreign.is_empty()) {
            return;
        }
        let mut looks: Vec<(Arc<str>, u32, u32, u32)> = Vec::new();
        for &owner in &location.devices {
            let device = self.world.device(owner);
            for &index in &tenant.classes[device.class as usize].foreign {
                let Some(rule) = &self.rules[index as usize] else { continue };
                if rule.anchor.as_ref().is_some_and(|anchor| *anchor != device.name) {
                    continue;
                }
                for key in &rule.keys {
                    if let Some(name) = &key.device {
                        looks.push((name.clone(), key.key, owner, index));
                    }
                }
            }
        }
        let mut named = Map::default();
        for &index in &location.devices {
            let name = &self.world.device(index).name;
            if looks.iter().any(|(look, ..)| look == name) {
                named.insert(name.clone(), index);
            }
        }
        let mut watchers: Map<(u32, u32), Vec<(u32, u32)>> = Map::default();
        for (name, key, owner, rule) in looks {
            if let Some(&watched) = named.get(&name) {
                watchers.entry((watched, key)).or_default().push((owner, rule));
            }
        }
        let devices = location.devices.clone();
        for index in devices {
            self.world.devices[index as usize].watched =
                watchers.keys().any(|(watched, _)| *watched == index);
        }
        let location = &mut self.world.locations[place as usize];
        location.named = named;
        location.watchers = watchers;
    }
}
