//! `check(profile, script)`: each line of a script is an input and, behind an
//! arrow, all transitions that it must give, in order.
//!
//! | line | meaning |
//! | --- | --- |
//! | `5s pump temperature 90 pressure 2` | readings of one message, received when observed |
//! | `5s@1h pump temperature 90` | observed at 5 s, received at 1 h |
//! | `1h clock` | the clock comes to 1 h (and 2 s of grace are over by then only where it says so) |
//! | `5s pump shared limit 80`, `… client limit -` | an attribute, or its end |
//! | `5s location limit 80`, `5s tenant limit 80` | one of the location or tenant |
//! | `5s do acknowledge pump too_warm eva` | a deed on the device's active alarm |
//! | `5s describe pump pump-2 fan` | its document has another name and type |
//! | `5s delete pump` | it is gone, and called `gone-pump` from then on |
//! | `5s place Yard Europe/London` | the location has another name and time zone |
//! | `5s profile` / `5s profile gone` | the next profile of the list, or its end |
//!
//! A transition reads `raised critical too_warm`; `@10s` stands behind it where
//! its time is not the line's, and the device before it where it is another.

use std::fmt::Write as _;
use std::sync::Arc;

use schema::{
    AlarmAction, AlarmId, AlarmProfile, Cause, ClearReason, Command, CommandBody, DeviceId,
    DurationMs, LocationId, Originator, Position, ProfileId, RuleId, Severity, TenantId,
    TimestampMs, Transition, TransitionKind, Value,
};

use crate::{DeviceDescription, DeviceIndex, Engine, EngineOptions, Readings, parse_toml};

/// 2026-01-05T00:00:00Z, a Monday, so that schedules can be read.
pub const START_MS: i64 = 1_767_571_200_000;

pub const PROFILE: ProfileId = ProfileId(7);

pub struct World {
    pub engine: Engine,
    pub names: Vec<String>,
    profiles: Vec<Arc<AlarmProfile>>,
    version: u64,
    position: u64,
    /// Active alarms by (device name, rule), and those that are over.
    alarms: Vec<(String, RuleId, AlarmId)>,
}

/// Runs a script and compares each line with what it expects.
pub fn check(profile: &str, script: &str) {
    check_all(&[profile], script);
}

/// The same with further profiles, which `profile` lines bring in.
pub fn check_all(profiles: &[&str], script: &str) {
    let mut world = World::new(profiles);
    let mut seen = String::new();
    let mut expected = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (input, transitions) = line.split_once("->").unwrap_or((line, ""));
        let (input, transitions) = (input.trim(), transitions.trim());
        let given = world.line(input);
        let arrow = if given.is_empty() { "" } else { " -> " };
        writeln!(seen, "{input}{arrow}{given}").unwrap();
        let arrow = if transitions.is_empty() { "" } else { " -> " };
        writeln!(expected, "{input}{arrow}{transitions}").unwrap();
    }
    assert_eq!(seen, expected, "\nwhat came:\n{seen}\nwhat was expected:\n{expected}");
}

fn duration(text: &str) -> i64 {
    text.parse::<DurationMs>().unwrap_or_else(|error| panic!("{error}")).0
}

impl World {
    pub fn new(profiles: &[&str]) -> Self {
        let parse = |text: &&str| {
            Arc::new(parse_toml(text).unwrap_or_else(|report| panic!("{report:#?}\n{text}")))
        };
        let mut world = Self {
            engine: Engine::new(EngineOptions::default()),
            names: Vec::new(),
            profiles: profiles.iter().map(parse).collect(),
            version: 0,
            position: 0,
            alarms: Vec::new(),
        };
        world.profile(0, false);
        world
    }

    fn profile(&mut self, at: i64, gone: bool) -> Vec<Transition> {
        self.version += 1;
        let body = if gone {
            CommandBody::ProfileDeleted { profile: PROFILE, version: self.version }
        } else {
            let body = self.profiles.remove(0);
            CommandBody::ProfileSaved { profile: PROFILE, version: self.version, body }
        };
        self.command(at, body)
    }

    fn command(&mut self, at: i64, body: CommandBody) -> Vec<Transition> {
        let mut out = Vec::new();
        let command = Command { at: TimestampMs(START_MS + at), tenant: TenantId(1), body };
        let cause = self.cause();
        self.engine
            .command(&command, cause, &mut out)
            .unwrap_or_else(|report| panic!("{report:#?}"));
        out
    }

    fn cause(&mut self) -> Cause {
        self.position += 1;
        Cause::Record { position: Position(self.position), row: 0 }
    }

    pub fn device(&mut self, name: &str) -> DeviceIndex {
        let place = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        let kind = name.split('-').next().map(str::to_owned);
        self.engine.meet(&DeviceDescription {
            device: DeviceId(place as u64 + 1),
            name: name.to_owned(),
            device_type: kind,
            tenant: TenantId(1),
            location: LocationId(2),
            location_name: "Hall 3".to_owned(),
            time_zone: "Europe/Amsterdam".to_owned(),
        })
    }

    /// Applies one input and describes what came of it.
    pub fn line(&mut self, input: &str) -> String {
        let (at, out) = self.apply(input);
        let described: Vec<String> = out.iter().map(|t| self.describe(t, at)).collect();
        described.join("; ")
    }

    pub fn apply(&mut self, input: &str) -> (i64, Vec<Transition>) {
        let words: Vec<&str> = input.split_whitespace().collect();
        let (at, received) = match words[0].split_once('@') {
            Some((at, received)) => (duration(at), duration(received)),
            None => (duration(words[0]), duration(words[0])),
        };
        let mut out = Vec::new();
        match words[1..] {
            ["clock"] => {
                self.engine.advance(TimestampMs(START_MS + at), &mut out);
            }
            ["profile"] => out = self.profile(at, false),
            ["profile", "gone"] => out = self.profile(at, true),
            ["describe", device, name, kind] => out = self.redescribe(at, device, name, kind),
            ["delete", device] => out = self.delete(at, device),
            ["place", name, zone] => {
                let (name, time_zone) = (name.to_owned(), zone.to_owned());
                let (location, version) = (LocationId(2), 2);
                let body = CommandBody::LocationChanged { location, version, name, time_zone };
                out = self.command(at, body);
            }
            ["do", ref deed @ ..] => out = self.deed(at, deed),
            [scope @ ("location" | "tenant"), key, value] => {
                let location = (scope == "location").then_some(LocationId(2));
                let value = (value != "-").then(|| serde_json::from_str(value).unwrap());
                let body = CommandBody::Attribute { location, key: key.to_owned(), value };
                out = self.command(at, body);
            }
            [device, scope @ ("shared" | "client"), key, value] => {
                self.attribute(at, device, scope == "shared", key, value, &mut out);
            }
            [device, ref pairs @ ..] => self.readings(at, received, device, pairs, &mut out),
            [] => panic!("no input: {input}"),
        }
        self.note(&out);
        (at, out)
    }

    fn redescribe(&mut self, at: i64, device: &str, name: &str, kind: &str) -> Vec<Transition> {
        let place = self.names.iter().position(|known| known == device).unwrap();
        name.clone_into(&mut self.names[place]);
        let body = CommandBody::DeviceChanged {
            device: DeviceId(place as u64 + 1),
            version: 2,
            name: name.to_owned(),
            device_type: Some(kind.to_owned()),
        };
        self.command(at, body)
    }

    fn delete(&mut self, at: i64, device: &str) -> Vec<Transition> {
        let place = self.names.iter().position(|known| known == device).unwrap();
        self.names[place] = format!("gone-{device}");
        self.command(at, CommandBody::DeviceDeleted { device: DeviceId(place as u64 + 1) })
    }

    fn readings(
        &mut self,
        at: i64,
        received: i64,
        device: &str,
        pairs: &[&str],
        out: &mut Vec<Transition>,
    ) {
        let device = self.device(device);
        let cause = self.cause();
        let values: Vec<_> =
            pairs.chunks(2).map(|pair| (self.engine.key(pair[0]), value(pair[1]))).collect();
        self.engine.readings(
            &Readings {
                device,
                at: TimestampMs(START_MS + at),
                received_at: TimestampMs(START_MS + received),
                cause,
                values: &values,
            },
            out,
        );
    }

    fn attribute(
        &mut self,
        at: i64,
        device: &str,
        by_platform: bool,
        key: &str,
        text: &str,
        out: &mut Vec<Transition>,
    ) {
        let device = self.device(device);
        let (key, cause) = (self.engine.key(key), self.cause());
        let time = TimestampMs(START_MS + at);
        let value = (text != "-").then(|| value(text));
        self.engine.attribute(device, by_platform, key, value, time, time, cause, out);
    }

    fn deed(&mut self, at: i64, words: &[&str]) -> Vec<Transition> {
        let action = match words[0] {
            "acknowledge" => AlarmAction::Acknowledge,
            "unacknowledge" => AlarmAction::Unacknowledge,
            "clear" => AlarmAction::Clear,
            "unshelve" => AlarmAction::Unshelve,
            "comment" => AlarmAction::Comment { text: words[4].to_owned() },
            "assign" => AlarmAction::Assign { to: Some(words[4].to_owned()) },
            "shelve" => AlarmAction::Shelve { until: TimestampMs(START_MS + duration(words[4])) },
            other => panic!("no deed: {other}"),
        };
        let (_, rule, alarm) = self
            .alarms
            .iter()
            .rev()
            .find(|(device, rule, _)| device == words[1] && &*rule.key == words[2])
            .unwrap_or_else(|| panic!("no alarm {words:?}"))
            .clone();
        let device = self.names.iter().position(|name| name == words[1]);
        let body = CommandBody::Alarm {
            alarm,
            device: device.map(|place| DeviceId(place as u64 + 1)),
            location: Some(LocationId(2)),
            rule,
            severity: Severity::Major,
            by: words[3].into(),
            provenance: None,
            action,
        };
        self.command(at, body)
    }

    fn note(&mut self, out: &[Transition]) {
        for transition in out {
            if transition.kind == TransitionKind::Raised {
                let device = self.originator(transition);
                self.alarms.push((device, transition.rule.clone(), transition.alarm));
            }
        }
    }

    fn originator(&self, transition: &Transition) -> String {
        match transition.originator {
            Originator::Device(device) => {
                self.names[usize::try_from(device.0).unwrap() - 1].clone()
            }
            Originator::Tenant(_) => "tenant".to_owned(),
        }
    }

    fn describe(&self, transition: &Transition, at: i64) -> String {
        let device = self.originator(transition);
        let mut text = if device == self.names.first().cloned().unwrap_or_default() {
            String::new()
        } else {
            format!("{device} ")
        };
        let (severity, rule) = (transition.severity, &transition.rule.key);
        match &transition.kind {
            TransitionKind::Cleared { reason } => {
                let reason = match reason {
                    ClearReason::Condition => "by rule",
                    ClearReason::Time => "by time",
                    ClearReason::Person => "by person",
                    ClearReason::RuleRemoved => "rule removed",
                    ClearReason::DeviceRemoved => "device removed",
                };
                write!(text, "cleared {rule} {reason}").unwrap();
            }
            TransitionKind::SeverityChanged { from } => {
                write!(text, "{from} to {severity} {rule}").unwrap();
            }
            TransitionKind::Unshelved { by_time } => {
                let by = if *by_time { "time" } else { "person" };
                write!(text, "unshelved {rule} by {by}").unwrap();
            }
            TransitionKind::Raised => write!(text, "raised {severity} {rule}").unwrap(),
            other => write!(text, "{} {rule}", other.as_str()).unwrap(),
        }
        let own = transition.at.0 - START_MS;
        if own != at {
            write!(text, " @{}", DurationMs(own)).unwrap();
        }
        text
    }
}

fn value(text: &str) -> Value<'_> {
    if let Ok(integer) = text.parse() {
        Value::Integer(integer)
    } else if let Ok(number) = text.parse() {
        Value::Number(number)
    } else if let Ok(boolean) = text.parse() {
        Value::Boolean(boolean)
    } else {
        Value::Text(text.trim_matches('"'))
    }
}
