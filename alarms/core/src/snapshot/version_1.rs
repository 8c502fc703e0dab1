//! Snapshots of version 1: every condition had a timer, and what a rule
//! remembers of its keys stood in other shapes. They are read, never written.

use std::collections::VecDeque;
use std::sync::Arc;

use schema::DeviceId;
use serde::Deserialize;

use super::version_2::Location2;
use super::version_4::Tenant4;
use super::version_5::Count5;
use super::{Head, RestoreError};
use crate::engine::{Active, Cell, Device, Engine, Entry, Flaps, Held, On, RuleState, World};
use crate::program::{Delta, History, HistoryKind, Rule};
use crate::value::Scalar;

#[derive(Deserialize)]
pub(super) struct Stored {
    pub head: Head<Count5>,
    pub world: World1,
    pub states: Vec<State1>,
}

#[derive(Deserialize)]
pub(super) struct World1 {
    devices: Vec<Device1>,
    locations: Vec<Location2>,
    tenants: Vec<Tenant4>,
}

#[derive(Deserialize)]
struct Device1 {
    id: DeviceId,
    name: Arc<str>,
    device_type: Option<Box<str>>,
    tenant: u32,
    location: u32,
    cells: Vec<Cell>,
    attributes: Vec<(u32, bool, Scalar)>,
    states: Vec<Entry>,
    held: Option<Box<Held>>,
    received: i64,
}

#[derive(Deserialize)]
pub(super) struct State1 {
    device: u32,
    rule: u32,
    at: i64,
    wake: i64,
    on: Option<On>,
    alarm: Option<Active>,
    cleared_at: Option<i64>,
    flaps: Flaps,
    conditions: Vec<Temporal1>,
    histories: Vec<History1>,
}

#[derive(Deserialize)]
struct Temporal1 {
    since: i64,
    last: i64,
    /// When its schedule next ended; a schedule now says so itself.
    _until: i64,
    times: VecDeque<i64>,
}

#[derive(Deserialize)]
enum History1 {
    /// (part of the window, time, number).
    Delta(VecDeque<(i64, i64, f64)>),
    Rate {
        before: Option<(i64, f64)>,
        rate: Option<f64>,
    },
    Changed(bool),
}

impl World1 {
    pub fn upgrade(self) -> World {
        let devices = self.devices.into_iter().map(Device1::upgrade).collect();
        let locations = self.locations.into_iter().map(Location2::upgrade).collect();
        let tenants = self.tenants.into_iter().map(Tenant4::upgrade).collect();
        World::of(devices, locations, tenants)
    }
}

impl Device1 {
    fn upgrade(self) -> Device {
        let mut device =
            Device::new(self.id, self.name, self.device_type, self.tenant, self.location);
        device.received = self.received;
        device.cells = self.cells.into();
        device.attributes = self.attributes.into();
        device.states = self.states;
        device.held = self.held;
        device
    }
}

impl State1 {
    /// The same state for the rule as it is compiled now.
    pub fn upgrade(self, engine: &Engine) -> Result<RuleState, RestoreError> {
        let rule = engine.rules.get(self.rule as usize).and_then(|rule| rule.as_ref());
        let rule = rule.ok_or(RestoreError::Rule)?;
        let mut state = RuleState::new(rule, self.device, self.rule, self.at);
        state.wake = self.wake;
        state.on = self.on.map(Box::new);
        state.alarm = self.alarm.map(Box::new);
        state.cleared_at = self.cleared_at;
        state.flaps = self.flaps;
        let timed = has_timer(rule);
        if timed.len() != self.conditions.len() || rule.histories.len() != self.histories.len() {
            return Err(RestoreError::Rule);
        }
        let kept = self.conditions.into_iter().zip(timed).filter(|(_, timed)| *timed);
        for (temporal, old) in state.conditions.iter_mut().zip(kept.map(|(old, _)| old)) {
            (temporal.since, temporal.last) = (old.since, old.last);
            temporal.times = (!old.times.is_empty()).then(|| Box::new(old.times));
        }
        let specs = rule.histories.iter().zip(&mut state.histories);
        for ((spec, history), old) in specs.zip(self.histories) {
            *history = old.upgrade(spec.kind)?;
        }
        Ok(state)
    }
}

/// In the order in which conditions are written, whether each has a timer or a
/// counter.
fn has_timer(rule: &Rule) -> Vec<bool> {
    let source = &rule.source;
    let conditions = source.raise.values().chain(source.clear_by_severity.values());
    let conditions = conditions.chain(&source.clear);
    conditions.map(|text| text.holds_for.is_some() || text.times.is_some()).collect()
}

impl History1 {
    fn upgrade(self, kind: HistoryKind) -> Result<History, RestoreError> {
        match (self, kind) {
            (Self::Delta(parts), HistoryKind::Delta(_)) => {
                let parts = parts.into_iter().map(|(_, at, number)| (at, number));
                Ok(History::Delta(Delta::of(parts.collect())))
            }
            (Self::Rate { before, rate }, HistoryKind::Rate) => Ok(History::rate(before, rate)),
            (Self::Changed(changed), HistoryKind::Changed) => Ok(History::Changed(changed)),
            _ => Err(RestoreError::Rule),
        }
    }
}
