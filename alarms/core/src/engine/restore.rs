//! Puts a snapshot's parts back in their places.

use std::borrow::Cow;

use super::state::NONE;
use super::world::GONE;
use super::{Engine, Place, RuleState, World};
use crate::snapshot::RestoreError;

impl Engine {
    /// All states in the order of devices and their entries.
    pub(crate) fn ordered_states(&self) -> impl Iterator<Item = Cow<'_, RuleState>> {
        let devices = (0..).zip(&self.world.devices);
        let entries =
            devices.flat_map(|(index, device)| device.states.iter().map(move |it| (index, it)));
        entries.filter_map(|(device, entry)| self.states.whole(device, entry))
    }

    /// Takes devices and states over, and finds all that follows from them.
    pub(crate) fn restore_world(
        &mut self,
        mut world: World,
        states: Vec<RuleState>,
    ) -> Result<(), RestoreError> {
        let mut states = states.into_iter();
        for device in &mut world.devices {
            device.queued = i64::MAX;
            (device.deadline, device.system_deadline) = (i64::MAX, i64::MAX);
            for entry in &mut device.states {
                if self.rules.len() <= entry.rule as usize {
                    return Err(RestoreError::Rule);
                }
                if entry.state != NONE {
                    let state = states.next().ok_or(RestoreError::Rule)?;
                    let rule = self.rules[entry.rule as usize].as_ref();
                    entry.state = self.states.add(state, rule);
                }
            }
        }
        for location in &mut world.locations {
            location.zone = self.zones.or_utc(&location.time_zone);
        }
        world.rebuild_index();
        world.partition = self.options.partition;
        world.gathers_updates = self.options.gathers_updates;
        self.world = world;
        for index in 0..u32::try_from(self.world.devices.len()).unwrap_or(u32::MAX) {
            let id = self.world.device(index).id;
            if id == GONE {
                continue;
            }
            self.device_index.insert(id, Place::new(index));
            self.classify(index);
        }
        for place in 0..u32::try_from(self.world.locations.len()).unwrap_or(u32::MAX) {
            self.wire_location(place);
        }
        for index in 0..u32::try_from(self.world.devices.len()).unwrap_or(u32::MAX) {
            self.find_deadlines(index);
            self.queue(index);
        }
        self.find_end_of_shelving();
        Ok(())
    }
}
