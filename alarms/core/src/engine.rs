//! One partition's alarm state, and the way of an input through it.
//!
//! Event time belongs to a device: its deadlines fire before its own next input
//! at or after them. While a device is silent the clock takes over, after a
//! grace, so that an upload which is still coming in is never cut short by what
//! other devices send. The clock itself is an input too.
//!
//! What the platform itself says of a device, under keys of its own, bears the
//! server's time. It is kept apart from the device's: neither moves the other.

mod attributes;
mod classes;
mod commands;
mod condition;
mod directory;
mod evaluate;
mod intake;
mod lifecycle;
mod limit;
mod restore;
mod scene;
mod state;
mod states;
mod tenant_alarms;
mod timers;
mod world;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::num::NonZeroU32;
use std::sync::Arc;

use schema::{
    AlarmProfile, Cause, DeviceId, DeviceMap, LocationId, ProfileId, TenantId, TimestampMs, Value,
};
use serde::{Deserialize, Serialize};

pub(crate) use limit::RuleCount as StoredCount;
pub use limit::{LIMIT_ALARM_VALUE, LimitStanding, limit_alarm_key, limit_alarm_text};
pub(crate) use state::{Active, Entry, Flaps, On, RuleState};
pub(crate) use world::{Cell, Device, Held, Keys, Location, Tenant, World};

use crate::limits::DEFAULT_GRACE_MS;
use crate::program::{Rule, Touch, Zones};
use limit::RuleCount;
use states::States;

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
    /// Of the device's document; any is newer than 0.
    #[serde(default)]
    pub version: u64,
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
    /// Where there are several engines: which one this is. Such a one does not
    /// tell by itself that a limit of alarms is reached, since it is the tenant's.
    pub partition: Option<schema::PartitionId>,
    /// Whether an alarm that is true again changes its last `updated` transition,
    /// as long as the caller has not taken it and nothing else was told of the
    /// alarm since; else each reading is told by a transition of its own. How
    /// they are gathered then depends on how often the caller takes them; their
    /// number and the last one do not.
    pub gathers_updates: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { grace_ms: DEFAULT_GRACE_MS, partition: None, gathers_updates: false }
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
    /// Rules that have begun to refuse, until somebody asks.
    refused: Vec<u32>,
    pub(crate) world: World,
    pub(crate) states: States,
    device_index: DeviceMap<Place>,
    /// (wake, device), lazily corrected.
    wakes: BinaryHeap<Reverse<(i64, u32)>>,
    /// When the next shelving of a tenant's own alarm ends.
    shelving_ends: i64,
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
            refused: Vec::new(),
            world: World::with(&options),
            states: States::default(),
            device_index: DeviceMap::default(),
            wakes: BinaryHeap::new(),
            shelving_ends: i64::MAX,
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
        let of_tenants: usize = self.world.tenants.iter().map(|tenant| tenant.alarms.len()).sum();
        limits + of_tenants + self.counts.iter().map(|count| count.active as usize).sum::<usize>()
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
}
