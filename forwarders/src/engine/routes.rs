//! Which lanes a device's readings go to. Worked out once for a device that is
//! met, from its place in the directory, so that a reading costs one look-up
//! however many forwarders there are.

use std::sync::Arc;

use hashbrown::HashMap;
use schema::{DeviceId, LocationId, TenantId};
use store::Directory;

use super::spec::{Scope, Spec};
use crate::outgoing::Source;

/// A lane's place in its partition.
pub(super) type LaneIndex = u32;

type Lanes = Vec<LaneIndex>;

/// Where a device's readings go.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// None if no lane wants any of its readings.
    pub to: Option<(Arc<Source>, Arc<[LaneIndex]>)>,
}

/// All devices that were met, and who wants what.
#[derive(Debug)]
pub(super) struct Routes {
    directory: Directory,
    devices: HashMap<DeviceId, Route, foldhash::fast::RandomState>,
    by_location: HashMap<LocationId, Lanes>,
    by_group: HashMap<(TenantId, String), Lanes>,
    by_tenant: HashMap<TenantId, Lanes>,
}

impl Routes {
    pub fn new(directory: Directory) -> Self {
        Self {
            directory,
            devices: HashMap::default(),
            by_location: HashMap::new(),
            by_group: HashMap::new(),
            by_tenant: HashMap::new(),
        }
    }

    pub fn add(&mut self, spec: &Spec, lane: LaneIndex) {
        self.lanes_of(spec).push(lane);
        self.devices.clear();
    }

    pub fn remove(&mut self, spec: &Spec, lane: LaneIndex) {
        self.lanes_of(spec).retain(|other| *other != lane);
        self.devices.clear();
    }

    pub fn forget_device(&mut self, device: DeviceId) {
        self.devices.remove(&device);
    }

    pub fn forget_all(&mut self) {
        self.devices.clear();
    }

    pub fn of(&mut self, device: DeviceId) -> &Route {
        if !self.devices.contains_key(&device) {
            let route = self.find(device);
            self.devices.insert(device, route);
        }
        &self.devices[&device]
    }

    fn lanes_of(&mut self, spec: &Spec) -> &mut Lanes {
        match &spec.scope {
            Scope::Location(location) => self.by_location.entry(*location).or_default(),
            Scope::Group(group) => self.by_group.entry((spec.tenant, group.clone())).or_default(),
            Scope::Tenant => self.by_tenant.entry(spec.tenant).or_default(),
        }
    }

    fn find(&self, id: DeviceId) -> Route {
        let nowhere = Route { to: None };
        let Some(device) = self.directory.device(id) else { return nowhere };
        let Some(location) = self.directory.location(device.location) else { return nowhere };
        let mut lanes = Lanes::new();
        lanes.extend(self.by_location.get(&device.location).into_iter().flatten());
        for group in &location.groups {
            let group = self.by_group.get(&(device.tenant, group.clone()));
            lanes.extend(group.into_iter().flatten());
        }
        lanes.extend(self.by_tenant.get(&device.tenant).into_iter().flatten());
        if lanes.is_empty() {
            return nowhere;
        }
        let source = Source {
            device: id,
            device_name: device.name.clone(),
            location: device.location,
            location_name: location.name.clone(),
        };
        Route { to: Some((Arc::new(source), lanes.into())) }
    }
}
