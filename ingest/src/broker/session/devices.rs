//! The devices behind one router, by name.
//!
//! A router speaks for its devices in turns, mostly in the same order. With
//! thousands of devices no name is in the processor's cache when its turn
//! comes, so the names lie one behind the other in one text, and the device
//! that followed last time is looked at first: memory is then read in order.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use schema::DeviceId;

/// Bytes of names that are gone at which the text is written anew, if they are
/// also half of it.
const WASTED_BYTES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Devices {
    entries: Vec<Known>,
    /// The names, in whatever order; those that are gone too.
    names: String,
    /// Bytes of `names` whose devices are gone.
    wasted: usize,
    /// Places in `entries`, by name.
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The place behind the one that was last asked for.
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    device: DeviceId,
    start: u32,
    end: u32,
}

impl Known {
    fn name<'a>(&self, names: &'a str) -> &'a str {
        &names[self.start as usize..self.end as usize]
    }
}

impl Devices {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The device of this name.
    pub fn find(&mut self, name: &str) -> Option<DeviceId> {
        let guess = if self.next < self.entries.len() { self.next } else { 0 };
        let known = self.entries.get(guess)?;
        if known.name(&self.names) == name {
            self.next = guess + 1;
            return Some(known.device);
        }
        let (entries, names) = (&self.entries, &self.names);
        let is_it = |place: &u32| entries[*place as usize].name(names) == name;
        let place = *self.places.find(self.hasher.hash_one(name), is_it)? as usize;
        self.next = place + 1;
        Some(self.entries[place].device)
    }

    /// Adds a device, or gives its name to another one.
    pub fn insert(&mut self, name: &str, device: DeviceId) {
        let Self { entries, names, places, hasher, .. } = self;
        let name_at = |place: &u32| entries[*place as usize].name(names);
        let is_it = |place: &u32| name_at(place) == name;
        let rehash = |place: &u32| hasher.hash_one(name_at(place));
        match places.entry(hasher.hash_one(name), is_it, rehash) {
            Entry::Occupied(place) => entries[*place.get() as usize].device = device,
            Entry::Vacant(room) => {
                room.insert(offset(entries.len()));
                let start = offset(names.len());
                names.push_str(name);
                entries.push(Known { device, start, end: offset(names.len()) });
            }
        }
    }

    pub fn remove(&mut self, name: &str) {
        let (entries, names) = (&self.entries, &self.names);
        let is_it = |place: &u32| entries[*place as usize].name(names) == name;
        let Ok(found) = self.places.find_entry(self.hasher.hash_one(name), is_it) else { return };
        let place = found.remove().0;
        let gone = self.entries.swap_remove(place as usize);
        if let Some(moved) = self.entries.get(place as usize) {
            let was_at = offset(self.entries.len());
            let hash = self.hasher.hash_one(moved.name(&self.names));
            if let Some(its_place) = self.places.find_mut(hash, |other| *other == was_at) {
                *its_place = place;
            }
        }
        self.wasted += (gone.end - gone.start) as usize;
        if self.wasted > WASTED_BYTES && 2 * self.wasted > self.names.len() {
            self.rebuild(|_, _| true);
        }
    }

    /// Forgets the devices that `keep` is false for.
    pub fn retain(&mut self, keep: impl Fn(&str, DeviceId) -> bool) {
        if !self.iter().all(|(name, device)| keep(name, device)) {
            self.rebuild(keep);
        }
    }

    fn rebuild(&mut self, keep: impl Fn(&str, DeviceId) -> bool) {
        let before = std::mem::take(self);
        for (name, device) in before.iter().filter(|(name, device)| keep(name, *device)) {
            self.insert(name, device);
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// All names with their devices.
    pub fn iter(&self) -> impl Iterator<Item = (&str, DeviceId)> {
        self.entries.iter().map(|known| (known.name(&self.names), known.device))
    }
}

fn offset(place: usize) -> u32 {
    u32::try_from(place).expect("the cached names of a session are far fewer than 2^32 bytes")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_answers_as_a_map_does_in_any_order() {
        let (mut devices, mut map) = (Devices::default(), BTreeMap::new());
        let mut random = 7u64;
        for step in 0..60_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let name = format!("{}-meter", (random >> 33) % 500);
            match (random >> 20) % 16 {
                0..3 => {
                    devices.insert(&name, DeviceId(step));
                    map.insert(name.clone(), DeviceId(step));
                }
                3..5 => {
                    devices.remove(&name);
                    map.remove(&name);
                }
                5 if step % 97 == 0 => {
                    devices.retain(|_, device| device.0 % 3 != 0);
                    map.retain(|_, device| device.0 % 3 != 0);
                }
                _ => {}
            }
            assert_eq!(devices.find(&name), map.get(&name).copied(), "{name} in step {step}");
            assert_eq!(devices.len(), map.len(), "step {step}");
            assert!(devices.names.len() <= 2 * (16 * map.len() + WASTED_BYTES), "step {step}");
        }
        let mut known: Vec<_> = devices.iter().collect();
        known.sort_unstable();
        assert!(known.into_iter().eq(map.iter().map(|(name, device)| (&**name, *device))));
        for name in map.keys().rev().chain(map.keys()).cycle().take(4 * map.len()) {
            assert_eq!(devices.find(name), map.get(name).copied());
        }
        devices.clear();
        assert_eq!((devices.len(), devices.find("1-meter")), (0, None));
    }
}
