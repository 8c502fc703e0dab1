//! A rule's limit of active alarms where the tenant has several partitions.

use std::sync::Arc;

use schema::{
    Cause, Command, CommandBody, DeviceId, LocationId, PartitionId, Position, ProfileId, RuleId,
    TenantId, TimestampMs, Transition, TransitionKind, Value,
};

use crate::{
    DeviceDescription, DeviceIndex, Engine, EngineOptions, LimitStanding, Readings,
    limit_alarm_key, parse_toml,
};

const TENANT: TenantId = TenantId(1);

const PROFILE: &str = r#"
    name = "p"
    [[rules]]
    key = "hot"
    max_active = 2
    raise.major = { when = { key = "t", operator = ">", value = 80 } }
    clear = { when = { key = "t", operator = "<", value = 70 } }
"#;

fn rule() -> RuleId {
    RuleId { profile: ProfileId(7), key: "hot".into() }
}

/// One partition's engine with three devices.
struct Partition {
    engine: Engine,
    devices: Vec<DeviceIndex>,
    position: u64,
}

fn options() -> EngineOptions {
    EngineOptions { partition: Some(PartitionId(3)), ..EngineOptions::default() }
}

impl Partition {
    fn new() -> Self {
        let mut engine = Engine::new(options());
        let meet = |id| {
            engine.meet(&DeviceDescription {
                device: DeviceId(id),
                name: format!("d{id}"),
                device_type: None,
                tenant: TENANT,
                location: LocationId(2),
                location_name: "Hall".to_owned(),
                time_zone: "UTC".to_owned(),
                version: 1,
                location_version: 1,
                location_groups: Vec::new(),
            })
        };
        let devices = (1..=3).map(meet).collect();
        let mut partition = Self { engine, devices, position: 0 };
        let body = Arc::new(parse_toml(PROFILE).unwrap());
        let saved = CommandBody::ProfileSaved { profile: ProfileId(7), version: 1, body };
        assert_eq!(partition.command(saved), []);
        partition
    }

    fn next(&mut self) -> (TimestampMs, Cause) {
        self.position += 1;
        let at = TimestampMs(1_000 * i64::try_from(self.position).unwrap());
        (at, Cause::Record { position: Position(self.position), row: 0 })
    }

    fn command(&mut self, body: CommandBody) -> Vec<Transition> {
        let (at, cause) = self.next();
        let mut out = Vec::new();
        self.engine.command(&Command { at, tenant: TENANT, body }, cause, &mut out).unwrap();
        out
    }

    fn elsewhere(&mut self, active: u32) -> Vec<Transition> {
        self.command(CommandBody::ActiveElsewhere { rule: rule(), active })
    }

    /// A reading of a device, and whether it raised (true) or cleared an alarm.
    fn read(&mut self, device: usize, value: f64) -> Option<bool> {
        let (at, cause) = self.next();
        let key = self.engine.key("t");
        let values = [(key, Value::Number(value))];
        let device = self.devices[device];
        let mut out = Vec::new();
        let readings = Readings { device, at, received_at: at, cause, values: &values };
        self.engine.readings(&readings, &mut out);
        assert!(out.len() <= 1, "{out:#?}");
        let told = out.first()?;
        assert_eq!((&told.rule, told.at), (&rule(), at));
        Some(told.kind == TransitionKind::Raised)
    }

    fn standing(&self) -> (u32, u32, bool) {
        let standing = self.engine.limit_standing(&rule()).unwrap();
        let LimitStanding { tenant, active, elsewhere, most, refusing } = standing;
        assert_eq!((tenant, most), (TENANT, 2));
        (active, elsewhere, refusing)
    }

    fn restart(&mut self) {
        let bytes = self.engine.snapshot();
        self.engine = Engine::restore(options(), &bytes).unwrap();
        assert_eq!(self.engine.snapshot(), bytes);
    }
}

/// The same, from a snapshot before each step too.
fn both(script: impl Fn(&mut Partition, &dyn Fn(&mut Partition))) {
    script(&mut Partition::new(), &|_| {});
    script(&mut Partition::new(), &Partition::restart);
}

#[test]
fn what_others_have_counts_against_the_limit() {
    both(|partition, pause| {
        assert_eq!(partition.read(0, 90.0), Some(true));
        pause(partition);
        assert_eq!(partition.elsewhere(1), []);
        assert_eq!(partition.standing(), (1, 1, false));
        pause(partition);
        assert_eq!(partition.read(1, 90.0), None, "two are active in all");
        assert_eq!(partition.standing(), (1, 1, true));
        pause(partition);
        assert_eq!(partition.elsewhere(0), [], "the system alarm is the home partition's");
        assert_eq!(partition.standing(), (1, 0, false));
        pause(partition);
        assert_eq!(partition.read(1, 91.0), Some(true), "still bad, and there is room");
        pause(partition);
        assert_eq!(partition.read(2, 90.0), None);
        assert_eq!(partition.read(0, 60.0), Some(false));
        assert_eq!(partition.standing(), (1, 0, false));
        pause(partition);
        assert_eq!(partition.read(2, 90.0), Some(true));
    });
}

#[test]
fn a_partition_says_once_that_it_has_begun_to_refuse() {
    let mut partition = Partition::new();
    assert_eq!(partition.elsewhere(2), []);
    for _ in 0..3 {
        assert_eq!(partition.read(0, 90.0), None);
    }
    assert_eq!(partition.engine.take_refused(), [rule()]);
    assert_eq!(partition.engine.take_refused(), []);
    assert_eq!(partition.engine.counted_rules(), [rule()]);
    assert_eq!(partition.elsewhere(0), []);
    assert_eq!(partition.engine.counted_rules(), []);
    assert_eq!(partition.elsewhere(2), []);
    assert_eq!(partition.read(0, 90.0), None);
    assert_eq!(partition.engine.take_refused(), [rule()], "it has begun again");
}

#[test]
fn a_home_knows_of_which_rules_it_says_so() {
    let mut home = Partition::new();
    let alarm = |key: String, active| CommandBody::TenantAlarm {
        key: key.into(),
        active,
        severity: schema::Severity::Major,
        description: String::new(),
        values: Vec::new(),
    };
    home.command(alarm(limit_alarm_key(&rule()), true));
    home.command(alarm("forwarder_failing/7".to_owned(), true));
    assert_eq!(home.engine.limit_alarms(), [(TENANT, rule())]);
    home.command(alarm(limit_alarm_key(&rule()), false));
    assert_eq!(home.engine.limit_alarms(), []);
}

#[test]
fn a_rule_that_is_gone_has_no_standing() {
    let mut partition = Partition::new();
    partition.command(CommandBody::ProfileDeleted { profile: ProfileId(7), version: 2 });
    assert_eq!(partition.elsewhere(5), []);
    assert_eq!(partition.engine.limit_standing(&rule()), None);
}
