//! Takes the same steps through the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use schema::{
    AlarmAction, AlarmId, AlarmProfile, Cause, Command, CommandBody, DeviceId, LocationId,
    Originator, Position, ProfileId, RuleId, Severity, TenantId, TimestampMs, Transition,
    TransitionKind, Value,
};
use serde_json::Value as Json;

use super::naive::Told;
use super::steps::{Deed, Scope, Step};
use crate::tests::harness::START_MS;
use crate::{DeviceDescription, DeviceIndex, Engine, EngineOptions, Readings};

const PROFILE: ProfileId = ProfileId(7);

pub struct Driven {
    pub engine: Engine,
    devices: Vec<DeviceIndex>,
    version: u64,
    position: u64,
    /// The last alarm of each device and rule.
    alarms: BTreeMap<(usize, String), AlarmId>,
}

fn time(second: i64) -> TimestampMs {
    TimestampMs(START_MS + second * 1_000)
}

fn value(json: &Json) -> Value<'_> {
    match json {
        Json::Bool(boolean) => Value::Boolean(*boolean),
        Json::String(text) => Value::Text(text),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Number(number.as_f64().unwrap()),
        },
        other => panic!("{other}"),
    }
}

impl Driven {
    pub fn new(profile: &AlarmProfile, names: &[&str]) -> Self {
        Self::with(EngineOptions::default(), profile, names)
    }

    pub fn with(options: EngineOptions, profile: &AlarmProfile, names: &[&str]) -> Self {
        let mut engine = Engine::new(options);
        let devices = names.iter().zip(1..).map(|(name, id)| {
            engine.meet(&DeviceDescription {
                device: DeviceId(id),
                name: (*name).to_owned(),
                device_type: None,
                tenant: TenantId(1),
                location: LocationId(2),
                location_name: "Hall 3".to_owned(),
                time_zone: "Europe/Amsterdam".to_owned(),
                version: 1,
                location_version: 1,
                location_groups: Vec::new(),
            })
        });
        let devices = devices.collect();
        let alarms = BTreeMap::new();
        let mut driven = Self { engine, devices, version: 0, position: 0, alarms };
        assert_eq!(driven.step(&Step::Profile { document: Some(profile.clone()), at: 0 }), []);
        driven
    }

    pub fn step(&mut self, step: &Step) -> Vec<Transition> {
        let mut out = Vec::new();
        self.step_into(step, &mut out);
        out
    }

    /// Takes a step; `out` may hold what came of earlier ones.
    pub fn step_into(&mut self, step: &Step, out: &mut Vec<Transition>) {
        self.position += 1;
        let cause = Cause::Record { position: Position(self.position), row: 0 };
        let before = out.len();
        match step {
            Step::Message { device, at, received, values } => {
                let values: Vec<_> =
                    values.iter().map(|(key, json)| (self.engine.key(key), value(json))).collect();
                let device = self.devices[*device];
                let (at, received_at) = (time(*at), time(*received));
                let group = Readings { device, at, received_at, cause, values: &values };
                self.engine.readings(&group, out);
            }
            Step::Attribute { scope, key, value: json, at } => match scope {
                Scope::Shared(device) | Scope::Client(device) => {
                    let key = self.engine.key(key);
                    let shared = matches!(scope, Scope::Shared(_));
                    let (at, json) = (time(*at), json.as_ref().map(value));
                    let device = self.devices[*device];
                    self.engine.attribute(device, shared, key, json, at, at, cause, out);
                }
                Scope::Location | Scope::Tenant => {
                    let location = matches!(scope, Scope::Location).then_some(LocationId(2));
                    let (key, value) = ((*key).to_owned(), json.clone());
                    let body = CommandBody::Attribute { location, key, value };
                    self.command(*at, body, cause, out);
                }
            },
            Step::Do { device, rule, deed, at } => {
                if let Some(alarm) = self.alarms.get(&(*device, (*rule).to_owned())) {
                    let body = CommandBody::Alarm {
                        alarm: *alarm,
                        device: Some(DeviceId(*device as u64 + 1)),
                        location: Some(LocationId(2)),
                        rule: RuleId { profile: PROFILE, key: (*rule).into() },
                        severity: Severity::Major,
                        by: "eva".into(),
                        provenance: None,
                        action: deed.action(),
                    };
                    self.command(*at, body, cause, out);
                }
            }
            Step::Profile { document, at } => {
                self.version += 1;
                let (profile, version) = (PROFILE, self.version);
                let body = match document {
                    Some(document) => {
                        let body = Arc::new(document.clone());
                        CommandBody::ProfileSaved { profile, version, body }
                    }
                    None => CommandBody::ProfileDeleted { profile, version },
                };
                self.command(*at, body, cause, out);
            }
            Step::Clock { at } => {
                self.engine.advance(time(*at), out);
            }
        }
        self.note(&out[before..]);
    }

    /// Keeps which alarms were raised, so that they can be found again.
    fn note(&mut self, out: &[Transition]) {
        for transition in out {
            if let (Originator::Device(device), TransitionKind::Raised) =
                (transition.originator, &transition.kind)
            {
                let key = (device.0 as usize - 1, transition.rule.key.to_string());
                self.alarms.insert(key, transition.alarm);
            }
        }
    }

    /// The location is in these groups from now on.
    pub fn place(&mut self, groups: &[&str], at: i64) -> Vec<Transition> {
        self.position += 1;
        let cause = Cause::Record { position: Position(self.position), row: 0 };
        let body = CommandBody::LocationChanged {
            location: LocationId(2),
            version: self.position,
            name: "Hall 3".to_owned(),
            time_zone: "Europe/Amsterdam".to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        let mut out = Vec::new();
        self.command(at, body, cause, &mut out);
        self.note(&out);
        out
    }

    fn command(&mut self, at: i64, body: CommandBody, cause: Cause, out: &mut Vec<Transition>) {
        let command = Command { at: time(at), tenant: TenantId(1), body };
        self.engine.command(&command, cause, out).unwrap_or_else(|report| panic!("{report:#?}"));
    }

    /// Stops, and goes on from a snapshot.
    pub fn restart(&mut self) {
        let bytes = self.engine.snapshot();
        self.engine = Engine::restore(EngineOptions::default(), &bytes).unwrap();
        assert_eq!(self.engine.snapshot(), bytes);
    }
}

impl Deed {
    fn action(self) -> AlarmAction {
        match self {
            Self::Acknowledge => AlarmAction::Acknowledge,
            Self::Unacknowledge => AlarmAction::Unacknowledge,
            Self::Clear => AlarmAction::Clear,
            Self::Shelve(until) => AlarmAction::Shelve { until: time(until) },
            Self::Unshelve => AlarmAction::Unshelve,
            Self::Comment => AlarmAction::Comment { text: "seen".to_owned() },
            Self::Assign => AlarmAction::Assign { to: Some("eva".to_owned()) },
        }
    }
}

/// A transition in the words of the naive evaluator.
pub fn told(transition: &Transition) -> Told {
    let behind = transition.at.0 - START_MS;
    assert_eq!(behind % 1_000, 0, "{transition:?}");
    Told {
        device: match transition.originator {
            Originator::Device(device) => Some(usize::try_from(device.0).unwrap() - 1),
            Originator::Tenant(_) => None,
        },
        rule: transition.rule.key.to_string(),
        at: behind / 1_000,
        severity: transition.severity,
        kind: transition.kind.clone(),
    }
}
