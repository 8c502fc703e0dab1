//! Which devices a backtest is of, what is read of them, and in which units
//! they are evaluated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alarm_core::{DeviceDescription, Engine, KeyIndex};
use hashbrown::HashMap;
use schema::{AlarmProfile, Device, DeviceId, LocationId, TenantId};
use store::history::ScanDevice;
use store::{Directory, Entry, ListQuery, Scope, Store};

use super::control::Control;
use super::mentions::Mentions;
use super::unit::{Unit, UnitDevice};
use super::{BacktestError, MAX_BACKTEST_SERIES, UNIT_SERIES};

/// A profile with what it mentions.
#[derive(Debug)]
pub(super) struct Looks {
    pub document: Arc<AlarmProfile>,
    pub mentions: Mentions,
}

/// What is to be read and evaluated.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// In the order of the units and of their devices.
    pub devices: Vec<ScanDevice<KeyIndex>>,
    pub units: Vec<Unit>,
    pub locations: u64,
    pub series: u64,
}

/// The tenant's devices at these locations, or at all, that a profile applies
/// to or looks at. `engine` knows the profiles.
pub(super) async fn plan(
    store: &Store,
    tenant: TenantId,
    locations: Option<Vec<LocationId>>,
    looks: Arc<[Looks]>,
    engine: Engine,
    control: &Control,
) -> Result<Plan, BacktestError> {
    let attributes: BTreeSet<Arc<str>> =
        looks.iter().flat_map(|looks| looks.mentions.attributes.iter().cloned()).collect();
    let (directory, control_of_work) = (store.directory().clone(), control.clone());
    let work = move || {
        let by_location = devices(&directory, tenant, locations.as_deref(), &control_of_work)?;
        let mut planner = Planner {
            plan: Plan::default(),
            lists: HashMap::new(),
            engine,
            control: &control_of_work,
        };
        for (location, mut devices) in by_location {
            devices.sort_by_key(|device| device.id);
            planner.location(&directory, location, &devices, &looks)?;
        }
        Ok::<_, BacktestError>(planner.plan)
    };
    let work = tokio::task::spawn_blocking(work).await;
    let mut plan: Plan = work.map_err(|_| BacktestError::Failed)??;
    if !attributes.is_empty() {
        let devices = plan.units.iter_mut().flat_map(|unit| &mut unit.devices);
        for device in devices {
            control.go_on()?;
            device.attributes = read(store, device.description.device, &attributes).await?;
        }
    }
    Ok(plan)
}

type ByLocation = BTreeMap<LocationId, Vec<Arc<Entry<Device>>>>;

fn devices(
    directory: &Directory,
    tenant: TenantId,
    locations: Option<&[LocationId]>,
    control: &Control,
) -> Result<ByLocation, BacktestError> {
    let mut by_location = ByLocation::new();
    let wanted: Vec<Option<LocationId>> = match locations {
        Some(locations) => locations.iter().copied().map(Some).collect(),
        None => vec![None],
    };
    for location in wanted {
        let mut query = ListQuery { tenant: Some(tenant), location, ..ListQuery::default() };
        loop {
            control.go_on()?;
            let page = directory.devices(&query);
            for device in page.items {
                by_location.entry(device.location).or_default().push(device);
            }
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
    }
    Ok(by_location)
}

type Keys = Arc<[(Arc<str>, KeyIndex)]>;

struct Planner<'a> {
    plan: Plan,
    /// Devices of a kind share their list of keys.
    lists: HashMap<BTreeSet<Arc<str>>, Keys>,
    /// Gives keys their places, the same as in the engine of each unit.
    engine: Engine,
    control: &'a Control,
}

impl Planner<'_> {
    fn location(
        &mut self,
        directory: &Directory,
        location: LocationId,
        devices: &[Arc<Entry<Device>>],
        looks: &[Looks],
    ) -> Result<(), BacktestError> {
        let Some(place) = directory.location(location) else { return Ok(()) };
        let mut found: Vec<(UnitDevice, Keys)> = Vec::new();
        let mut together = false;
        for device in devices {
            self.control.go_on()?;
            let (keys, looked_at) = keys(device, devices, &place.groups, looks);
            if keys.is_empty() {
                continue;
            }
            together |= looked_at;
            let list = keys.iter().map(|key| (key.clone(), self.engine.key(key))).collect();
            let list = self.lists.entry(keys).or_insert(list).clone();
            let description = DeviceDescription {
                device: DeviceId(device.id),
                name: device.name.clone(),
                device_type: device.device_type.clone(),
                tenant: device.tenant,
                location,
                location_name: place.name.clone(),
                time_zone: place.time_zone.clone(),
                version: device.version,
                location_version: place.version,
                location_groups: place.groups.clone(),
            };
            found.push((UnitDevice { place: 0, description, attributes: Vec::new() }, list));
        }
        self.plan.locations += u64::from(!found.is_empty());
        let mut unit = Unit { devices: Vec::new(), series: 0 };
        for (mut device, keys) in found {
            let series = keys.len() as u64;
            if !together && unit.series + series > UNIT_SERIES && !unit.devices.is_empty() {
                let fresh = Unit { devices: Vec::new(), series: 0 };
                self.plan.units.push(std::mem::replace(&mut unit, fresh));
            }
            self.plan.series += series;
            unit.series += series;
            device.place = self.plan.devices.len();
            self.plan.devices.push(ScanDevice { device: device.description.device, keys });
            unit.devices.push(device);
        }
        if !unit.devices.is_empty() {
            self.plan.units.push(unit);
        }
        if self.plan.series > MAX_BACKTEST_SERIES {
            return Err(BacktestError::TooManySeries);
        }
        Ok(())
    }
}

/// The keys that are needed of a device, whose location is in these groups, and
/// whether rules of others look at it.
fn keys(
    device: &Entry<Device>,
    at_location: &[Arc<Entry<Device>>],
    groups: &[String],
    looks: &[Looks],
) -> (BTreeSet<Arc<str>>, bool) {
    let mut keys: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut looked_at = false;
    for Looks { document, mentions } in looks {
        let applies = |device: &Entry<Device>| {
            let kind = device.device_type.as_deref();
            document.applies_to.includes(DeviceId(device.id), device.location, groups, kind)
        };
        if applies(device) {
            keys.extend(mentions.own.iter().cloned());
        }
        let of_it = mentions.others.iter().filter(|(name, _)| **name == *device.name);
        let of_it: Vec<Arc<str>> = of_it.map(|(_, key)| key.clone()).collect();
        if !of_it.is_empty() && at_location.iter().any(|other| applies(other)) {
            keys.extend(of_it);
            looked_at = true;
        }
    }
    (keys, looked_at)
}

/// A device's attributes of these names, both scopes.
async fn read(
    store: &Store,
    device: DeviceId,
    names: &BTreeSet<Arc<str>>,
) -> Result<Vec<(Arc<str>, bool, serde_json::Value)>, BacktestError> {
    let mut found = Vec::new();
    for (scope, by_platform) in [(Scope::Client, false), (Scope::Shared, true)] {
        let wanted = names.iter().map(|name| name.to_string()).collect();
        let kept = store.attributes().get(device, scope, Some(wanted)).await?;
        found.extend(kept.into_iter().map(|one| (one.key.into(), by_platform, one.value)));
    }
    Ok(found)
}
