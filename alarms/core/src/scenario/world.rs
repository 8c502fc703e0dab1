//! The engine with the names that a scenario calls things by.

use std::collections::BTreeMap;
use std::sync::Arc;

use schema::{
    AlarmAction, AlarmId, AlarmProfile, Cause, Command, CommandBody, DeviceId, LocationId,
    Originator, Position, ProfileId, RuleId, Severity, TenantId, TimestampMs, Transition,
    TransitionKind, Value,
};

use super::setup::{LocationLine, Setup};
use crate::{DeviceDescription, DeviceIndex, Engine, EngineOptions, Readings, RestoreError, Tally};

const TENANT: TenantId = TenantId(1);

/// What the alarms of the tenant as a whole are of.
pub(super) const OF_TENANT: &str = "tenant";

/// A value as a line writes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Written {
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Text(String),
    Json(String),
}

impl Written {
    fn as_value(&self) -> Value<'_> {
        match self {
            Self::Integer(integer) => Value::Integer(*integer),
            Self::Number(number) => Value::Number(*number),
            Self::Boolean(boolean) => Value::Boolean(*boolean),
            Self::Text(text) => Value::Text(text),
            Self::Json(text) => Value::Json(text),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Integer(integer) => (*integer).into(),
            Self::Number(number) => (*number).into(),
            Self::Boolean(boolean) => (*boolean).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Json(text) => serde_json::from_str(text).unwrap_or_default(),
        }
    }
}

/// What a line puts into the engine.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Readings {
        device: String,
        values: Vec<(String, Written)>,
    },
    Attribute {
        device: String,
        by_platform: bool,
        key: String,
        value: Option<Written>,
    },
    /// Of a location, by its place, or of the tenant.
    SharedAttribute {
        location: Option<usize>,
        key: String,
        value: Option<Written>,
    },
    Clock,
    Deed {
        device: String,
        rule: String,
        by: String,
        action: AlarmAction,
    },
    /// A profile's next version, or its end.
    Profile {
        name: String,
        body: Option<Arc<AlarmProfile>>,
    },
    /// A device's document has another name and type.
    Describe {
        device: String,
        name: String,
        device_type: Option<String>,
    },
    Delete {
        device: String,
    },
    /// A location, by its place, has another name and time zone, and is in
    /// these groups.
    Place {
        location: usize,
        name: String,
        zone: String,
        groups: Vec<String>,
    },
}

impl Input {
    /// The device that the line is about.
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Readings { device, .. }
            | Self::Attribute { device, .. }
            | Self::Deed { device, .. }
            | Self::Delete { device } => Some(device),
            Self::Describe { name, .. } => Some(name),
            Self::SharedAttribute { .. }
            | Self::Clock
            | Self::Profile { .. }
            | Self::Place { .. } => None,
        }
    }
}

/// An input with its times.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub at: i64,
    pub received: i64,
    pub input: Input,
}

#[derive(Debug)]
struct Met {
    name: String,
    id: DeviceId,
    gone: bool,
}

/// An engine and what it was told.
#[derive(Debug)]
pub(crate) struct World {
    pub engine: Engine,
    setup: Arc<Setup>,
    /// As they are now, with the versions of their documents.
    locations: Vec<(LocationLine, u64)>,
    /// In the order in which they were met.
    devices: Vec<Met>,
    /// Of documents of the directory.
    version: u64,
    /// (id, version) by name.
    profiles: BTreeMap<String, (ProfileId, u64)>,
    position: u64,
    /// All that were raised: (of what, rule, alarm).
    raised: Vec<(Originator, RuleId, AlarmId)>,
    /// Of the engines before a restart.
    tally: Tally,
}

impl World {
    pub(super) fn new(setup: &Arc<Setup>) -> Result<Self, String> {
        let mut world = Self {
            engine: Engine::new(EngineOptions {
                grace_ms: setup.grace_ms,
                ..EngineOptions::default()
            }),
            locations: setup.locations.iter().map(|line| (line.clone(), 1)).collect(),
            devices: Vec::new(),
            version: 1,
            profiles: BTreeMap::new(),
            position: 0,
            raised: Vec::new(),
            tally: Tally::default(),
            setup: setup.clone(),
        };
        for (name, body) in &setup.profiles {
            world.profile(setup.start_ms, name, Some(body.clone()))?;
        }
        for device in &setup.devices {
            world.device(&device.name);
        }
        Ok(world)
    }

    /// Puts one input in; what came of it.
    pub(super) fn apply(&mut self, step: &Step) -> Result<Vec<Transition>, String> {
        let (at, received) = (TimestampMs(step.at), TimestampMs(step.received));
        let mut out = Vec::new();
        match &step.input {
            Input::Readings { device, values } => {
                let (device, cause) = (self.device(device), self.cause());
                let values: Vec<_> = values
                    .iter()
                    .map(|(key, value)| (self.engine.key(key), value.as_value()))
                    .collect();
                let readings =
                    Readings { device, at, received_at: received, cause, values: &values };
                self.engine.readings(&readings, &mut out);
            }
            Input::Attribute { device, by_platform, key, value } => {
                let (device, cause) = (self.device(device), self.cause());
                let key = self.engine.key(key);
                let value = value.as_ref().map(Written::as_value);
                self.engine.attribute(
                    device,
                    *by_platform,
                    key,
                    value,
                    at,
                    received,
                    cause,
                    &mut out,
                );
            }
            Input::SharedAttribute { location, key, value } => {
                let location = location.map(|place| self.setup.locations[place].id);
                let value = value.as_ref().map(Written::to_json);
                let key = key.clone();
                out = self.command(step.at, CommandBody::Attribute { location, key, value })?;
            }
            Input::Clock => {
                self.engine.advance(at, &mut out);
            }
            Input::Deed { device, rule, by, action } => {
                out = self.deed(step.at, (device, rule), by, action)?;
            }
            Input::Profile { name, body } => out = self.profile(step.at, name, body.clone())?,
            Input::Describe { .. } | Input::Delete { .. } | Input::Place { .. } => {
                let body = self.document(&step.input)?;
                out = self.command(step.at, body)?;
            }
        }
        self.note(&out);
        Ok(out)
    }

    /// What the directory says anew.
    fn document(&mut self, input: &Input) -> Result<CommandBody, String> {
        self.version += 1;
        let version = self.version;
        let unknown = |device: &str| format!("there is no device `{device}` yet");
        match input {
            Input::Describe { device, name, device_type } => {
                let known = self.devices.iter_mut().rev().find(|met| met.name == *device);
                let known = known.ok_or_else(|| unknown(device))?;
                known.name.clone_from(name);
                let (device, name) = (known.id, name.clone());
                let device_type = device_type.clone();
                Ok(CommandBody::DeviceChanged { device, version, name, device_type })
            }
            Input::Delete { device } => {
                let known = self.devices.iter_mut().rev().find(|met| met.name == *device);
                let known = known.ok_or_else(|| unknown(device))?;
                known.gone = true;
                Ok(CommandBody::DeviceDeleted { device: known.id })
            }
            Input::Place { location, name, zone, groups } => {
                let (line, known) = &mut self.locations[*location];
                let (name, zone, groups) = (name.clone(), zone.clone(), groups.clone());
                *line = LocationLine { id: line.id, name, zone, groups };
                *known = version;
                Ok(CommandBody::LocationChanged {
                    location: line.id,
                    version,
                    name: line.name.clone(),
                    time_zone: line.zone.clone(),
                    groups: line.groups.clone(),
                })
            }
            _ => Err("only documents of the directory are told so".to_owned()),
        }
    }

    fn cause(&mut self) -> Cause {
        self.position += 1;
        Cause::Record { position: Position(self.position), row: 0 }
    }

    fn command(&mut self, at: i64, body: CommandBody) -> Result<Vec<Transition>, String> {
        let mut out = Vec::new();
        let command = Command { at: TimestampMs(at), tenant: TENANT, body };
        let cause = self.cause();
        let told = self.engine.command(&command, cause, &mut out);
        told.map_err(|report| format!("the profile is refused: {:?}", report.errors))?;
        Ok(out)
    }

    fn profile(
        &mut self,
        at: i64,
        name: &str,
        body: Option<Arc<AlarmProfile>>,
    ) -> Result<Vec<Transition>, String> {
        let next = ProfileId(self.profiles.len() as u64 + 1);
        let (profile, version) = self.profiles.entry(name.to_owned()).or_insert((next, 0));
        *version += 1;
        let (profile, version) = (*profile, *version);
        self.command(
            at,
            match body {
                Some(body) => CommandBody::ProfileSaved { profile, version, body },
                None => CommandBody::ProfileDeleted { profile, version },
            },
        )
    }

    /// Who has no line of its own is met when first named, at the first
    /// location; its type stands before the hyphen of its name.
    fn device(&mut self, name: &str) -> DeviceIndex {
        let line = self.setup.devices.iter().find(|line| line.name == name);
        let (location, version) = &self.locations[line.map_or(0, |line| line.location)];
        let id = match (self.find_device(name), line) {
            (Some(id), _) => id,
            (None, Some(line)) if self.devices.iter().all(|met| met.id != line.id) => line.id,
            (None, _) => self.free_id(),
        };
        let device_type = match line {
            Some(line) => line.device_type.clone(),
            None => name.split('-').next().map(str::to_owned),
        };
        let description = DeviceDescription {
            device: id,
            name: name.to_owned(),
            device_type,
            tenant: TENANT,
            location: location.id,
            location_name: location.name.clone(),
            time_zone: location.zone.clone(),
            version: 1,
            location_version: *version,
            location_groups: location.groups.clone(),
        };
        if self.find_device(name).is_none() {
            self.devices.push(Met { name: name.to_owned(), id, gone: false });
        }
        self.engine.meet(&description)
    }

    fn find_device(&self, name: &str) -> Option<DeviceId> {
        self.devices.iter().find(|met| met.name == name && !met.gone).map(|met| met.id)
    }

    fn free_id(&self) -> DeviceId {
        let lines = self.setup.devices.iter().map(|line| line.id.0);
        let highest = self.devices.iter().map(|met| met.id.0).chain(lines).max().unwrap_or(0);
        DeviceId(highest + 1)
    }

    fn deed(
        &mut self,
        at: i64,
        (of, rule): (&str, &str),
        by: &str,
        action: &AlarmAction,
    ) -> Result<Vec<Transition>, String> {
        let mut raised = self.raised.iter().rev();
        let found = raised.find(|(known, id, _)| self.originator(*known) == of && &*id.key == rule);
        let Some((originator, rule, alarm)) = found else {
            return Err(format!("no alarm of `{of}` for `{rule}` was raised before"));
        };
        let device = match originator {
            Originator::Device(device) => Some(*device),
            Originator::Tenant(_) => None,
        };
        let location = device.map(|id| self.location_of(id));
        let body = CommandBody::Alarm {
            alarm: *alarm,
            device,
            location,
            rule: rule.clone(),
            severity: Severity::Major,
            by: by.into(),
            provenance: None,
            action: action.clone(),
        };
        self.command(at, body)
    }

    fn location_of(&self, device: DeviceId) -> LocationId {
        let line = self.setup.devices.iter().find(|line| line.id == device);
        self.setup.locations[line.map_or(0, |line| line.location)].id
    }

    fn note(&mut self, out: &[Transition]) {
        for transition in out {
            if transition.kind == TransitionKind::Raised {
                let raised = (transition.originator, transition.rule.clone(), transition.alarm);
                self.raised.push(raised);
            }
        }
    }

    /// The name of what an alarm is of.
    pub fn originator(&self, originator: Originator) -> String {
        let Originator::Device(device) = originator else { return OF_TENANT.to_owned() };
        let known = self.devices.iter().find(|met| met.id == device);
        known.map_or_else(|| format!("device {device}"), |met| met.name.clone())
    }

    /// The device that a line without one is about.
    pub fn first_device(&self) -> Option<&str> {
        self.devices.first().map(|met| met.name.as_str())
    }

    /// Late and repeated readings, through restarts.
    pub fn late_and_repeated(&self) -> (u64, u64) {
        let tally = self.engine.tally();
        (self.tally.late + tally.late, self.tally.repeated + tally.repeated)
    }

    /// Goes on from a snapshot, which must say the same again.
    pub fn restart(&mut self) -> Result<(), String> {
        let bytes = self.engine.snapshot();
        let options = EngineOptions { grace_ms: self.setup.grace_ms, ..EngineOptions::default() };
        let restored =
            Engine::restore(options, &bytes).map_err(|error: RestoreError| error.to_string())?;
        if restored.snapshot() != bytes {
            return Err("the engine that was restored has another state".to_owned());
        }
        (self.tally.late, self.tally.repeated) = self.late_and_repeated();
        self.engine = restored;
        Ok(())
    }
}
