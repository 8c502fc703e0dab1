//! One partition's alarm state, and the way of an input through it.
//!
//! Event time belongs to a device: its deadlines fire before its own next input
//! at or after them. While a device is silent the clock takes over, after a
//! grace, so that an upload which is still coming in is never cut short by what
//! other devices send. The clock itself is an input too.

mod classes;
mod commands;
mod condition;
mod directory;
mod evaluate;
mod lifecycle;
mod restore;
mod scene;
mod state;
mod timers;
mod world;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::num::NonZeroU32;
use std::sync::Arc;

use schema::{
    AlarmProfile, Cause, DeviceId, DeviceMap, LocationId, ProfileId, TenantId, TimestampMs,
    Transition, Value,
};
use serde::{Deserialize, Serialize};

pub(crate) use state::{Active, Entry, Flaps, On, RuleCount as StoredCount, RuleState};
pub(crate) use world::{Cell, Device, Held, HeldGroup, Keys, Location, Tenant, World};

use crate::limits::{DEFAULT_GRACE_MS, MAX_HELD};
use crate::program::{Rule, Touch, Zones};
use crate::value::Scalar;
use scene::Trigger;
use state::{RuleCount, States};

/// A device's place in its engine; stable for the engine's life and across
/// snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceIndex(pub(crate) u32);

/// A key's place in its engine; stable as a [`DeviceIndex`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyIndex(pub(crate) u32);

/// What the engine is told of a device when it first meets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceDescription {
    pub device: DeviceId,
    pub name: String,
    pub device_type: Option<String>,
    pub tenant: TenantId,
    pub location: LocationId,
    pub location_name: String,
    /// An IANA name; one that is unknown counts as UTC.
    pub time_zone: String,
    /// Of the location's document.
    #[serde(default)]
    pub location_version: u64,
    /// The location groups that the location is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub location_groups: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// How long a device must be silent before its deadlines fire by the clock.
    pub grace_ms: i64,
    /// Where there are several engines: which one this is. It stands in the
    /// rule of the alarm that says that a limit is reached here.
    pub partition: Option<schema::PartitionId>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { grace_ms: DEFAULT_GRACE_MS, partition: None }
    }
}

/// The values that one device observed at one time: what one message said.
/// Rules see them all at once, never half of them.
#[derive(Clone, Copy, Debug)]
pub struct Readings<'a> {
    pub device: DeviceIndex,
    pub at: TimestampMs,
    pub received_at: TimestampMs,
    pub cause: Cause,
    pub values: &'a [(KeyIndex, Value<'a>)],
}

/// What became of the readings since the engine was made; for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub evaluated: u64,
    /// Older than the last one evaluated for their key.
    pub late: u64,
    /// The same value at the same time again.
    pub repeated: u64,
    /// Rounds of rules.
    pub rounds: u64,
    /// Groups let go before their lateness because too many were held.
    pub released_early: u64,
}

#[derive(Debug)]
pub(crate) struct Profile {
    pub tenant: TenantId,
    pub version: u64,
    /// None once it is deleted; the version stays, so that an older one that
    /// comes late is ignored.
    pub document: Option<Arc<AlarmProfile>>,
    pub rules: Vec<u32>,
}

/// A device's index and one, so that no index takes no bytes of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(NonZeroU32);

impl Place {
    pub(crate) fn new(index: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    fn index(self) -> u32 {
        self.0.get() - 1
    }
}

/// The engine of one partition.
#[derive(Debug)]
pub struct Engine {
    pub(crate) options: EngineOptions,
    pub(crate) keys: Keys,
    pub(crate) zones: Zones,
    pub(crate) profiles: BTreeMap<ProfileId, Profile>,
    pub(crate) rules: Vec<Option<Rule>>,
    pub(crate) counts: Vec<RuleCount>,
    pub(crate) world: World,
    pub(crate) states: States,
    device_index: DeviceMap<Place>,
    /// (wake, device), lazily corrected.
    wakes: BinaryHeap<Reverse<(i64, u32)>>,
    pub(crate) clock: i64,
    tally: Tally,
    touches: Vec<Touch>,
    affected: Vec<u32>,
    /// (device, rule) pairs that look at another device.
    watchers: Vec<(u32, u32)>,
}

impl Engine {
    #[must_use]
    pub fn new(options: EngineOptions) -> Self {
        Self {
            options,
            keys: Keys::default(),
            zones: Zones::default(),
            profiles: BTreeMap::new(),
            rules: Vec::new(),
            counts: Vec::new(),
            world: World::in_partition(options.partition),
            states: States::default(),
            device_index: DeviceMap::default(),
            wakes: BinaryHeap::new(),
            clock: i64::MIN,
            tally: Tally::default(),
            touches: Vec::new(),
            affected: Vec::new(),
            watchers: Vec::new(),
        }
    }

    /// The place of a key; a new one is given a place.
    pub fn key(&mut self, name: &str) -> KeyIndex {
        KeyIndex(self.keys.intern(name))
    }

    /// The place of a device that was met before.
    #[must_use]
    pub fn device(&self, device: DeviceId) -> Option<DeviceIndex> {
        self.device_index.get(device).map(Place::index).map(DeviceIndex)
    }

    /// Meets a device; one that was met before keeps what was said of it then.
    pub fn meet(&mut self, description: &DeviceDescription) -> DeviceIndex {
        if let Some(known) = self.device(description.device) {
            return known;
        }
        let index = self.world.add(description, &mut self.zones);
        self.device_index.insert(description.device, Place::new(index));
        self.classify(index);
        self.wire_location(self.world.device(index).location);
        DeviceIndex(index)
    }

    /// The clock: the latest time at which anything was received.
    #[must_use]
    pub fn clock(&self) -> TimestampMs {
        TimestampMs(self.clock)
    }

    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Alarms that are active now, system alarms included.
    #[must_use]
    pub fn active_alarms(&self) -> usize {
        let limits = self.counts.iter().filter(|count| count.limit.is_some()).count();
        limits + self.counts.iter().map(|count| count.active as usize).sum::<usize>()
    }

    /// Devices met, and series that have a last value.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        let series = self.world.devices.iter().map(|device| device.cells.len()).sum();
        (self.device_index.len(), series)
    }

    /// Brings what [`Engine::readings`] looks at first into the processor's
    /// cache. It changes nothing, and several calls in a row overlap.
    pub fn bring_near(&self, device: DeviceIndex, key: KeyIndex) {
        self.world.device(device.0).bring_near(key.0);
    }

    /// Takes in what one device observed at one time.
    pub fn readings(&mut self, readings: &Readings<'_>, out: &mut Vec<Transition>) {
        self.advance(readings.received_at, out);
        let index = readings.device.0;
        let clock = self.clock;
        let device = &mut self.world.devices[index as usize];
        device.received = clock;
        let lateness =
            self.world.tenants[device.tenant as usize].classes[device.class as usize].lateness;
        if lateness == 0 && device.held.is_none() {
            let trigger = Trigger::reading(readings.cause, readings.received_at.0);
            self.take_in(index, readings.at.0, trigger, readings.values, out);
        } else {
            self.hold(index, lateness, readings, out);
        }
    }

    /// Holds a group back, and takes in all whose time has come.
    fn hold(
        &mut self,
        index: u32,
        lateness: i64,
        readings: &Readings<'_>,
        out: &mut Vec<Transition>,
    ) {
        let group = HeldGroup {
            at: readings.at.0,
            received_at: readings.received_at.0,
            cause: readings.cause,
            values: readings.values.iter().map(|(key, value)| (key.0, (*value).into())).collect(),
        };
        let held = self.world.devices[index as usize].held.get_or_insert_default();
        held.insert(group);
        let over = held.groups.len() > MAX_HELD;
        let mut until = held.newest.saturating_sub(lateness);
        if over {
            until = until.max(held.groups.front().map_or(until, |group| group.at));
            self.tally.released_early += 1;
        }
        self.release(index, until, out);
        self.queue(index);
    }

    /// Takes in, in time order, what is held at or before `until`.
    pub(crate) fn release(&mut self, index: u32, until: i64, out: &mut Vec<Transition>) {
        let mut values: Vec<(u32, Scalar)>;
        loop {
            let device = &mut self.world.devices[index as usize];
            let Some(held) = &mut device.held else { return };
            if held.groups.front().is_none_or(|group| group.at > until) {
                if held.groups.is_empty() {
                    device.held = None;
                }
                return;
            }
            let Some(group) = held.groups.pop_front() else { return };
            values = group.values;
            let borrowed: Vec<(KeyIndex, Value<'_>)> =
                values.iter().map(|(key, value)| (KeyIndex(*key), value.as_value())).collect();
            let trigger = Trigger::reading(group.cause, group.received_at);
            self.take_in(index, group.at, trigger, &borrowed, out);
        }
    }
}
