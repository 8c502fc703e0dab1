//! Snapshots of version 4: tenants had no alarms of their own. They are read,
//! never written.

use schema::TenantId;
use serde::Deserialize;

use crate::engine::{Device, Location, Tenant, World};
use crate::value::Scalar;

#[derive(Deserialize)]
pub(super) struct World4 {
    devices: Vec<Device>,
    locations: Vec<Location>,
    tenants: Vec<Tenant4>,
}

#[derive(Deserialize)]
pub(super) struct Tenant4 {
    id: TenantId,
    attributes: Vec<(u32, Scalar)>,
}

impl World4 {
    pub fn upgrade(self) -> World {
        let tenants = self.tenants.into_iter().map(Tenant4::upgrade).collect();
        World::of(self.devices, self.locations, tenants)
    }
}

impl Tenant4 {
    pub fn upgrade(self) -> Tenant {
        let mut tenant = Tenant::new(self.id);
        tenant.attributes = self.attributes;
        tenant
    }
}
