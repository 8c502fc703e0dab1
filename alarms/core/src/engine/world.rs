//! Who there is and what was last said: devices, locations, tenants, keys.

use std::collections::{BTreeSet, VecDeque};
use std::hint::black_box;
use std::sync::Arc;

use schema::{Cause, DeviceId, LocationId, SYSTEM_KEY_PREFIX, TenantId, Value};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::classes::Class;
use super::state::Entry;
use super::tenant_alarms::TenantAlarm;
use super::{DeviceDescription, EngineOptions, KeyIndex};
use crate::map::Map;
use crate::program::Zones;
use crate::value::Scalar;

/// Names of keys and attributes by their places.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub names: Vec<Arc<str>>,
    /// Beside the names: whether the platform itself writes the key.
    of_system: Vec<bool>,
    index: Map<Arc<str>, u32>,
}

/// Whose time the readings of a group bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Device,
    /// The platform's, which writes keys of its own at the server's time.
    System,
    /// Some are of the one, some of the other.
    Both,
}

impl Keys {
    pub fn intern(&mut self, name: &str) -> u32 {
        if let Some(&known) = self.index.get(name) {
            return known;
        }
        let place = u32::try_from(self.names.len()).expect("tenants' quotas keep keys below 2^32");
        let name: Arc<str> = name.into();
        self.of_system.push(name.starts_with(SYSTEM_KEY_PREFIX));
        self.names.push(name.clone());
        self.index.insert(name, place);
        place
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        self.index.get(name).copied()
    }

    /// Whether the platform itself writes a key.
    #[inline]
    pub fn is_of_system(&self, key: u32) -> bool {
        self.of_system[key as usize]
    }

    #[inline]
    pub fn whose(&self, values: &[(KeyIndex, Value<'_>)]) -> Whose {
        let mut each = values.iter().map(|(key, _)| self.is_of_system(key.0));
        let first = each.next().unwrap_or(false);
        match (first, each.all(|other| other == first)) {
            (false, true) => Whose::Device,
            (true, true) => Whose::System,
            (_, false) => Whose::Both,
        }
    }
}

/// The last value of one key of one device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub key: u32,
    /// The rules that mention the key, in the device's class.
    #[serde(skip)]
    pub list: u32,
    pub at: i64,
    pub value: Scalar,
}

/// Readings that wait for earlier ones.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Held {
    /// In time order; those of one time in the order in which they came.
    pub groups: VecDeque<HeldGroup>,
    pub newest: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HeldGroup {
    pub at: i64,
    pub received_at: i64,
    pub cause: Cause,
    pub values: Vec<(u32, Scalar)>,
}

impl Held {
    pub fn insert(&mut self, group: HeldGroup) {
        self.newest = if self.groups.is_empty() { group.at } else { self.newest.max(group.at) };
        let place = self.groups.partition_point(|held| held.at <= group.at);
        self.groups.insert(place, group);
    }
}

/// Its parts stand in the order of how often they are touched: the first cache
/// line by every reading, the second where rules mention the key, the third
/// when something is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[repr(C, align(64))]
pub(crate) struct Device {
    /// No deadline of its rules comes before this, those over the platform's
    /// keys aside.
    #[serde(skip)]
    pub deadline: i64,
    /// The clock when it was last heard.
    pub received: i64,
    /// Sorted by key; the first stands here, so that a device with one key is
    /// all in one place.
    pub cells: SmallVec<[Cell; 1]>,

    /// Sorted by rule.
    pub states: Vec<Entry>,
    /// Its wake that counts in the engine's queue.
    #[serde(skip)]
    pub queued: i64,
    /// No deadline of its rules over the platform's keys comes before this.
    #[serde(skip)]
    pub system_deadline: i64,
    pub held: Option<Box<Held>>,
    pub tenant: u32,
    pub location: u32,
    /// Its place among the tenant's classes.
    #[serde(skip)]
    pub class: u32,
    /// Other devices' rules look at it.
    #[serde(skip)]
    pub watched: bool,

    pub id: DeviceId,
    pub name: Arc<str>,
    pub device_type: Option<Box<str>>,
    /// (name, set by the platform, value); the platform's goes first.
    pub attributes: Box<[(u32, bool, Scalar)]>,
    /// Of the document that it was described by; 0 where none was.
    pub version: u64,
}

impl Cell {
    /// False for what is late, or said again.
    pub fn takes(&self, at: i64, value: Value<'_>) -> bool {
        at > self.at || (at == self.at && !self.value.is(value))
    }
}

impl Device {
    pub fn new(
        id: DeviceId,
        name: Arc<str>,
        device_type: Option<Box<str>>,
        tenant: u32,
        location: u32,
    ) -> Self {
        Self {
            deadline: i64::MAX,
            received: i64::MIN,
            cells: SmallVec::new(),
            states: Vec::new(),
            queued: i64::MAX,
            system_deadline: i64::MAX,
            held: None,
            tenant,
            location,
            class: 0,
            watched: false,
            id,
            name,
            device_type,
            attributes: Box::default(),
            version: 0,
        }
    }

    #[inline]
    pub fn cell(&self, key: u32) -> Option<&Cell> {
        let cells = self.cells.as_slice();
        let guess = key.wrapping_sub(cells.first()?.key) as usize;
        match cells.get(guess) {
            Some(cell) if cell.key == key => Some(cell),
            _ => self.cell_place(key).ok().map(|place| &self.cells[place]),
        }
    }

    /// Keys are numbered as they come, so those of one device mostly follow each
    /// other: the first guess nearly always saves the search.
    pub fn cell_place(&self, key: u32) -> Result<usize, usize> {
        let cells = self.cells.as_slice();
        let first = cells.first().map_or(0, |cell| cell.key);
        let guess = key.wrapping_sub(first) as usize;
        if cells.get(guess).is_some_and(|cell| cell.key == key) {
            return Ok(guess);
        }
        cells.binary_search_by_key(&key, |cell| cell.key)
    }

    /// Reads what a reading looks at: the device's first two cache lines, and the cell.
    pub fn bring_near(&self, key: u32) {
        let times = (self.deadline, self.received, self.queued);
        let places = (self.tenant, self.class, self.watched, self.held.is_some());
        let first = self.cells.first().map_or(0, |cell| cell.key);
        let cell = self.cells.get(key.wrapping_sub(first) as usize);
        black_box((times, places, cell.map(|cell| (cell.list, cell.at))));
    }

    /// Adds a cell where [`Device::cell_place`] says that there is none.
    pub fn put_cell(&mut self, place: usize, cell: Cell) {
        if self.cells.len() == self.cells.capacity() {
            self.cells.reserve_exact(room_for_more(self.cells.len()));
        }
        self.cells.insert(place, cell);
    }

    /// Puts a rule's entry where [`Device::state_place`] says; returns its place.
    pub fn put_entry(&mut self, place: Result<usize, usize>, entry: Entry) -> usize {
        match place {
            Ok(place) => {
                self.states[place] = entry;
                place
            }
            Err(place) => {
                if self.states.len() == self.states.capacity() {
                    self.states.reserve_exact(room_for_more(self.states.len()));
                }
                self.states.insert(place, entry);
                place
            }
        }
    }

    pub fn state_place(&self, rule: u32) -> Result<usize, usize> {
        let first = self.states.first().map_or(0, |entry| entry.rule);
        let guess = rule.wrapping_sub(first) as usize;
        if self.states.get(guess).is_some_and(|entry| entry.rule == rule) {
            return Ok(guess);
        }
        self.states.binary_search_by_key(&rule, |entry| entry.rule)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Location {
    pub id: LocationId,
    pub tenant: u32,
    /// Of the document that it was described by; 0 where none was.
    pub version: u64,
    pub name: Arc<str>,
    pub time_zone: Box<str>,
    #[serde(skip)]
    pub zone: u32,
    /// The location groups that it is in.
    pub groups: Box<[Box<str>]>,
    pub devices: Vec<u32>,
    pub attributes: Vec<(u32, Scalar)>,
    /// Devices that rules name, by name.
    #[serde(skip)]
    pub named: Map<Arc<str>, u32>,
    /// (device, key) to the (device, rule) pairs that look at it.
    #[serde(skip)]
    pub watchers: Map<(u32, u32), Vec<(u32, u32)>>,
}

/// What a location's document says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocationText<'a> {
    pub version: u64,
    pub name: &'a str,
    pub time_zone: &'a str,
    pub groups: &'a [String],
}

impl LocationText<'_> {
    /// For a location of which only attributes are known so far.
    pub const UNKNOWN: Self = Self { version: 0, name: "", time_zone: "UTC", groups: &[] };
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tenant {
    pub id: TenantId,
    pub attributes: Vec<(u32, Scalar)>,
    /// Those of the tenant as a whole that commands raise, sorted by key.
    pub alarms: Vec<TenantAlarm>,
    #[serde(skip)]
    pub classes: Vec<Class>,
}

impl Tenant {
    pub fn new(id: TenantId) -> Self {
        Self { id, attributes: Vec::new(), alarms: Vec::new(), classes: Vec::new() }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct World {
    pub devices: Vec<Device>,
    pub locations: Vec<Location>,
    pub tenants: Vec<Tenant>,
    #[serde(skip)]
    location_index: Map<u64, u32>,
    #[serde(skip)]
    tenant_index: Map<u64, u32>,
    /// Places of devices that are gone.
    #[serde(skip)]
    free: BTreeSet<u32>,
    /// Of the engine, where there are several.
    #[serde(skip)]
    pub partition: Option<schema::PartitionId>,
    /// Of the engine's options.
    #[serde(skip)]
    pub gathers_updates: bool,
}

/// Stands where a device is gone; the directory gives no document this id.
pub(crate) const GONE: DeviceId = DeviceId(0);

impl World {
    /// An empty one.
    pub fn with(options: &EngineOptions) -> Self {
        let EngineOptions { partition, gathers_updates, .. } = *options;
        Self { partition, gathers_updates, ..Self::default() }
    }

    pub fn of(devices: Vec<Device>, locations: Vec<Location>, tenants: Vec<Tenant>) -> Self {
        Self { devices, locations, tenants, ..Self::default() }
    }

    /// Finds locations and tenants again after a restore.
    pub fn rebuild_index(&mut self) {
        let locations = self.locations.iter().enumerate();
        self.location_index = locations.map(|(place, l)| (l.id.0, index(place))).collect();
        let tenants = self.tenants.iter().enumerate();
        self.tenant_index = tenants.map(|(place, t)| (t.id.0, index(place))).collect();
        let gone = self.devices.iter().enumerate().filter(|(_, device)| device.id == GONE);
        self.free = gone.map(|(place, _)| index(place)).collect();
    }

    pub fn device(&self, index: u32) -> &Device {
        &self.devices[index as usize]
    }

    pub fn location_of(&self, index: u32) -> &Location {
        &self.locations[self.device(index).location as usize]
    }

    pub fn tenant_of(&self, index: u32) -> &Tenant {
        &self.tenants[self.device(index).tenant as usize]
    }

    pub fn tenant(&mut self, id: TenantId) -> u32 {
        if let Some(&known) = self.tenant_index.get(&id.0) {
            return known;
        }
        let place = index(self.tenants.len());
        self.tenants.push(Tenant::new(id));
        self.tenant_index.insert(id.0, place);
        place
    }

    /// The place of a location; what is said of it counts when it is new.
    pub fn location(
        &mut self,
        id: LocationId,
        tenant: u32,
        text: &LocationText<'_>,
        zones: &mut Zones,
    ) -> u32 {
        if let Some(known) = self.location_place(id) {
            if self.locations[known as usize].name.is_empty() {
                // So far only its attributes were known.
                self.describe_location(known, text, zones);
            }
            return known;
        }
        let place = index(self.locations.len());
        self.locations.push(Location {
            id,
            tenant,
            version: text.version,
            name: text.name.into(),
            time_zone: text.time_zone.into(),
            zone: zones.or_utc(text.time_zone),
            groups: boxed(text.groups),
            devices: Vec::new(),
            attributes: Vec::new(),
            named: Map::default(),
            watchers: Map::default(),
        });
        self.location_index.insert(id.0, place);
        place
    }

    /// The place of a location that is known.
    pub fn location_place(&self, id: LocationId) -> Option<u32> {
        self.location_index.get(&id.0).copied()
    }

    /// Says of a location what its document says. Its devices' classes follow
    /// from its groups, and are the caller's to find again.
    pub fn describe_location(&mut self, place: u32, text: &LocationText<'_>, zones: &mut Zones) {
        let location = &mut self.locations[place as usize];
        location.version = text.version;
        location.name = text.name.into();
        location.time_zone = text.time_zone.into();
        location.zone = zones.or_utc(text.time_zone);
        location.groups = boxed(text.groups);
    }

    /// Forgets a device, and says at which location it was.
    pub fn remove(&mut self, place: u32) -> u32 {
        let device = &mut self.devices[place as usize];
        let location = device.location;
        *device = Device::new(GONE, "".into(), None, device.tenant, location);
        self.locations[location as usize].devices.retain(|known| *known != place);
        self.free.insert(place);
        location
    }

    /// Adds a device that is not there yet.
    pub fn add(&mut self, description: &DeviceDescription, zones: &mut Zones) -> u32 {
        let tenant = self.tenant(description.tenant);
        let text = LocationText {
            version: description.location_version,
            name: &description.location_name,
            time_zone: &description.time_zone,
            groups: &description.location_groups,
        };
        let location = self.location(description.location, tenant, &text, zones);
        let device_type = description.device_type.as_deref().map(Into::into);
        let name = description.name.as_str().into();
        let mut device = Device::new(description.device, name, device_type, tenant, location);
        device.version = description.version;
        let place = match self.free.pop_first() {
            Some(place) => {
                self.devices[place as usize] = device;
                place
            }
            None => {
                self.devices.push(device);
                index(self.devices.len() - 1)
            }
        };
        self.locations[location as usize].devices.push(place);
        place
    }
}

fn index(place: usize) -> u32 {
    u32::try_from(place).expect("quotas keep devices, locations and tenants below 2^32")
}

/// By how many a device's short list grows: it does so in its first minutes and
/// then stays as it is for years, so room to spare costs more than growing often.
fn room_for_more(len: usize) -> usize {
    (len / 8).max(2)
}

fn boxed(groups: &[String]) -> Box<[Box<str>]> {
    groups.iter().map(|group| group.as_str().into()).collect()
}

/// Sets or deletes an attribute in a short list.
pub(crate) fn set_attribute(list: &mut Vec<(u32, Scalar)>, name: u32, value: Option<Scalar>) {
    list.retain(|(known, _)| *known != name);
    if let Some(value) = value {
        list.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn what_a_reading_touches_stands_in_its_own_cache_lines() {
        assert_eq!((size_of::<Device>(), size_of::<Cell>()), (192, 32));
        assert_eq!(offset_of!(Device, states), 64);
        assert!(offset_of!(Device, watched) < 128);
        assert_eq!(offset_of!(Device, id), 128);
    }
}
