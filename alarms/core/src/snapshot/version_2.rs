//! Snapshots of version 2: locations had neither groups nor the version of
//! their document. They are read, never written.

use std::sync::Arc;

use schema::LocationId;
use serde::Deserialize;

use super::version_3::Device3;
use super::version_4::Tenant4;
use crate::engine::{Location, World};
use crate::value::Scalar;

#[derive(Deserialize)]
pub(super) struct World2 {
    devices: Vec<Device3>,
    locations: Vec<Location2>,
    tenants: Vec<Tenant4>,
}

#[derive(Deserialize)]
pub(super) struct Location2 {
    id: LocationId,
    tenant: u32,
    name: Arc<str>,
    time_zone: Box<str>,
    devices: Vec<u32>,
    attributes: Vec<(u32, Scalar)>,
}

impl World2 {
    pub fn upgrade(self) -> World {
        let locations = self.locations.into_iter().map(Location2::upgrade).collect();
        let devices = self.devices.into_iter().map(Device3::upgrade).collect();
        let tenants = self.tenants.into_iter().map(Tenant4::upgrade).collect();
        World::of(devices, locations, tenants)
    }
}

impl Location2 {
    pub fn upgrade(self) -> Location {
        Location {
            id: self.id,
            tenant: self.tenant,
            // Any document is newer.
            version: 0,
            name: self.name,
            time_zone: self.time_zone,
            zone: 0,
            groups: Box::default(),
            devices: self.devices,
            attributes: self.attributes,
            named: crate::map::Map::default(),
            watchers: crate::map::Map::default(),
        }
    }
}
