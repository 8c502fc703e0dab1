//! Attributes that are set or end, of a device, a location or a tenant: the
//! rules whose limits come from them run again.

use schema::{Cause, Command, LocationId, TimestampMs, Transition, Value};

use super::scene::Trigger;
use super::world::{LocationText, set_attribute};
use super::{DeviceIndex, Engine, KeyIndex};
use crate::value::Scalar;

impl Engine {
    /// An attribute of a device was set, or deleted where there is no value.
    /// `by_platform` tells ThingsBoard's shared scope from its client scope.
    #[allow(clippy::too_many_arguments, reason = "the columns of one row of the journal")]
    pub fn attribute(
        &mut self,
        device: DeviceIndex,
        by_platform: bool,
        key: KeyIndex,
        value: Option<Value<'_>>,
        at: TimestampMs,
        received_at: TimestampMs,
        cause: Cause,
        out: &mut Vec<Transition>,
    ) {
        self.advance(received_at, out);
        let rules = self.rules_on_attribute(device.0, key.0);
        for &rule in &rules {
            self.catch_up(device.0, rule, at.0, out);
        }
        let attributes = &mut self.world.devices[device.0 as usize].attributes;
        let mut list = std::mem::take(attributes).into_vec();
        list.retain(|(known, platform, _)| *known != key.0 || *platform != by_platform);
        if let Some(value) = value {
            list.push((key.0, by_platform, value.into()));
        }
        *attributes = list.into_boxed_slice();
        let trigger = Trigger::change(cause, received_at.0);
        for rule in rules {
            self.round(device.0, rule, at.0, trigger, &[], device.0, out);
        }
    }

    /// An attribute of a location or a tenant changed.
    pub(super) fn shared_attribute(
        &mut self,
        command: &Command,
        location: Option<LocationId>,
        key: &str,
        value: Option<Scalar>,
        cause: Cause,
        out: &mut Vec<Transition>,
    ) {
        let name = self.keys.intern(key);
        let tenant = self.world.tenant(command.tenant);
        let place = match location {
            None => None,
            Some(id) => {
                Some(self.world.location(id, tenant, &LocationText::UNKNOWN, &mut self.zones))
            }
        };
        let devices = match place {
            None => self.devices_of(tenant),
            Some(place) => self.world.locations[place as usize].devices.clone(),
        };
        let at = command.at.0;
        let mut affected: Vec<(u32, u32)> = Vec::new();
        for device in devices {
            for rule in self.rules_on_attribute(device, name) {
                self.catch_up(device, rule, at, out);
                affected.push((device, rule));
            }
        }
        let attributes = match place {
            None => &mut self.world.tenants[tenant as usize].attributes,
            Some(place) => &mut self.world.locations[place as usize].attributes,
        };
        set_attribute(attributes, name, value);
        let trigger = Trigger::change(cause, at);
        for (device, rule) in affected {
            self.round(device, rule, at, trigger, &[], device, out);
        }
    }

    /// The rules that run for a device and whose limits come from an attribute.
    fn rules_on_attribute(&self, device: u32, attribute: u32) -> Vec<u32> {
        let class = self.world.device(device).class as usize;
        let Some(class) = self.world.tenant_of(device).classes.get(class) else {
            return Vec::new();
        };
        let looks = |index: &u32| {
            let rule = self.rules[*index as usize].as_ref();
            rule.is_some_and(|rule| rule.attributes.contains(&attribute))
                && self.is_for(device, *index)
        };
        class.rules.iter().copied().filter(looks).collect()
    }
}
