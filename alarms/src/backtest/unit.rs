//! One unit of a backtest: some devices of one location through an engine of
//! their own.
//!
//! Rules never look beyond a location, so locations are independent; and where
//! no rule looks at another device, so are devices.

use std::ops::ControlFlow;
use std::sync::Arc;

use alarm_core::{DeviceDescription, DeviceIndex, Engine, EngineOptions, KeyIndex, Readings};
use schema::{
    AlarmProfile, Cause, Command, CommandBody, Position, ProfileId, TenantId, TimestampMs,
    Transition, Value,
};
use store::history::{DEFAULT_SCAN_BYTES, HistoryView, ScanGroup};

use super::BacktestError;
use super::control::{Control, Share};
use super::gather::Gather;

/// Groups between two looks at whether somebody has cancelled.
const GROUPS_BETWEEN_LOOKS: u32 = 4_096;

/// A device with what the engine is told of it.
#[derive(Clone, Debug)]
pub(super) struct UnitDevice {
    /// Its place in the view.
    pub place: usize,
    pub description: DeviceDescription,
    /// (name, set by the platform, JSON scalar).
    pub attributes: Vec<(Arc<str>, bool, serde_json::Value)>,
}

/// Devices that are evaluated together, in the order of their ids and of the
/// view's places, which follow one another.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub devices: Vec<UnitDevice>,
    /// What it weighs in the progress: its series.
    pub series: u64,
}

/// What all units have in common.
#[derive(Debug)]
pub(super) struct Course {
    pub tenant: TenantId,
    pub profiles: Vec<(ProfileId, u64, Arc<AlarmProfile>)>,
    pub warm_up_from: TimestampMs,
    pub from: TimestampMs,
    pub to: TimestampMs,
    pub lateness_ms: i64,
    pub grace_ms: i64,
    /// All keys that are read. Each engine is told of them in this order, so
    /// that a key has one place in all of them.
    pub keys: Vec<Arc<str>>,
}

impl Course {
    /// An engine with the profiles in force and all keys known.
    pub fn engine(&self, out: &mut Vec<Transition>) -> Result<Engine, BacktestError> {
        let mut engine =
            Engine::new(EngineOptions { grace_ms: self.grace_ms, ..EngineOptions::default() });
        for key in &self.keys {
            engine.key(key);
        }
        for (row, (profile, version, body)) in (0u32..).zip(&self.profiles) {
            let (profile, version, body) = (*profile, *version, body.clone());
            let body = CommandBody::ProfileSaved { profile, version, body };
            let command = Command { at: self.warm_up_from, tenant: self.tenant, body };
            let cause = Cause::Record { position: Position(0), row };
            engine.command(&command, cause, out).map_err(BacktestError::Invalid)?;
        }
        Ok(engine)
    }
}

/// A unit on its way.
struct Run<'a> {
    unit: &'a Unit,
    engine: Engine,
    met: Vec<Option<DeviceIndex>>,
    groups: u64,
    readings: u64,
    out: Vec<Transition>,
}

/// Evaluates a unit; gives its readings.
pub(super) fn run(
    course: &Course,
    view: &HistoryView<KeyIndex>,
    unit: &Unit,
    control: &Control,
    gather: &mut Gather,
) -> Result<u64, BacktestError> {
    let mut run = Run::new(course, unit)?;
    let places: Vec<usize> = unit.devices.iter().map(|device| device.place).collect();
    let mut share = Share::new(control, unit.series, (course.warm_up_from, course.to));
    let mut until_look = GROUPS_BETWEEN_LOOKS;
    view.scan(&places, DEFAULT_SCAN_BYTES, |group| {
        run.group(group);
        if !run.out.is_empty() {
            gather.take(&mut run.out);
        }
        until_look -= 1;
        if until_look == 0 {
            until_look = GROUPS_BETWEEN_LOOKS;
            share.at(group.at, run.readings, gather.count());
            if control.is_cancelled() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    if control.is_cancelled() {
        return Err(BacktestError::Cancelled);
    }
    // So far that the deadlines before the end fire, and what lateness holds
    // back is let go. What happens behind the end is not taken.
    let behind = course.grace_ms.saturating_add(course.lateness_ms);
    run.engine.advance(TimestampMs(course.to.0.saturating_add(behind)), &mut run.out);
    gather.take(&mut run.out);
    share.at(course.to, run.readings, gather.count());
    gather.finish();
    Ok(run.readings)
}

impl<'a> Run<'a> {
    fn new(course: &Course, unit: &'a Unit) -> Result<Self, BacktestError> {
        let mut out = Vec::new();
        let engine = course.engine(&mut out)?;
        let met = vec![None; unit.devices.len()];
        Ok(Self { unit, engine, met, groups: 0, readings: 0, out })
    }

    fn group(&mut self, group: &ScanGroup<'_, KeyIndex>) {
        let number = group.device - self.unit.devices[0].place;
        self.groups += 1;
        let cause = Cause::Record { position: Position(self.groups), row: 0 };
        let device = match self.met[number] {
            Some(device) => device,
            None => self.meet(number, group.at, cause),
        };
        self.readings += group.values.len() as u64;
        let ScanGroup { at, values, .. } = *group;
        let readings = Readings { device, at, received_at: at, cause, values };
        self.engine.readings(&readings, &mut self.out);
    }

    /// A device is met with its first reading, and has its attributes by then.
    fn meet(&mut self, number: usize, at: TimestampMs, cause: Cause) -> DeviceIndex {
        let UnitDevice { description, attributes, .. } = &self.unit.devices[number];
        let device = self.engine.meet(description);
        for (name, by_platform, value) in attributes {
            let key = self.engine.key(name);
            let value = scalar(value);
            let (engine, out) = (&mut self.engine, &mut self.out);
            engine.attribute(device, *by_platform, key, value, at, at, cause, out);
        }
        self.met[number] = Some(device);
        device
    }
}

/// The value as the engine takes it; an array or an object is none.
fn scalar(value: &serde_json::Value) -> Option<Value<'_>> {
    match value {
        serde_json::Value::Bool(boolean) => Some(Value::Boolean(*boolean)),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => Some(Value::Integer(integer)),
            None => number.as_f64().map(Value::Number),
        },
        serde_json::Value::String(text) => Some(Value::Text(text)),
        _ => None,
    }
}
