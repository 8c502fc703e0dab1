//! Snapshots of version 3: devices had no version of their document. They are
//! read, never written.

use std::sync::Arc;

use schema::DeviceId;
use serde::Deserialize;

use super::version_4::Tenant4;
use crate::engine::{Cell, Device, Entry, Held, Location, World};
use crate::value::Scalar;

#[derive(Deserialize)]
pub(super) struct World3 {
    devices: Vec<Device3>,
    locations: Vec<Location>,
    tenants: Vec<Tenant4>,
}

#[derive(Deserialize)]
pub(super) struct Device3 {
    received: i64,
    cells: Vec<Cell>,
    states: Vec<Entry>,
    held: Option<Box<Held>>,
    tenant: u32,
    location: u32,
    id: DeviceId,
    name: Arc<str>,
    device_type: Option<Box<str>>,
    attributes: Box<[(u32, bool, Scalar)]>,
}

impl World3 {
    pub fn upgrade(self) -> World {
        let devices = self.devices.into_iter().map(Device3::upgrade).collect();
        let tenants = self.tenants.into_iter().map(Tenant4::upgrade).collect();
        World::of(devices, self.locations, tenants)
    }
}

impl Device3 {
    /// Any document is newer.
    pub fn upgrade(self) -> Device {
        let mut device =
            Device::new(self.id, self.name, self.device_type, self.tenant, self.location);
        device.received = self.received;
        device.cells = self.cells.into();
        device.attributes = self.attributes;
        device.states = self.states;
        device.held = self.held;
        device
    }
}
