//! A reading that raises nothing takes no memory of its own, whatever the rules
//! that look at it are.

use schema::{Cause, Command, CommandBody, Value};
use schema::{DeviceId, LocationId, Position, ProfileId, TenantId, TimestampMs};

use crate::{DeviceDescription, Engine, EngineOptions, Readings, parse_toml};

const CLEAR: &str = r#"clear = { when = { key = "t", operator = "between", value = [0, 70] } }"#;

/// (what it is, the raise condition).
const CONDITIONS: [(&str, &str); 13] = [
    ("simple", r#"when = { key = "t", operator = ">", value = 80 }"#),
    (
        "duration that starts and ends",
        r#"for = "1h", when = { key = "t", operator = ">", value = 25 }"#,
    ),
    ("duration that goes on", r#"for = "1000d", when = { key = "t", operator = ">", value = 1 }"#),
    (
        "repeating",
        r#"times = 1000, within = "10s", when = { key = "t", operator = ">", value = 25 }"#,
    ),
    ("rate", r#"when = { key = "t", of = "rate", operator = ">", value = 1000 }"#),
    (
        "delta",
        r#"when = { key = "t", of = "delta", window = "10s", operator = ">", value = 1000 }"#,
    ),
    (
        "changed",
        r#"when = { all = [{ key = "t", operator = "changed" }, { key = "t", operator = ">", value = 80 }] }"#,
    ),
    ("age", r#"when = { key = "t", of = "age", operator = ">", value = "1h" }"#),
    ("inactivity", r#"key = "t", no_reading_for = "1h""#),
    (
        "tree",
        r#"when = { any = [{ key = "t", operator = "in", value = [1, 2, 3] }, { key = "t", operator = ">", value = { key = "limit" } }] }"#,
    ),
    (
        "schedule",
        r#"schedule = { days = ["mon"], from = "08:00", to = "17:00" }, when = { key = "t", operator = ">", value = 80 }"#,
    ),
    (
        "of another device",
        r#"when = { all = [{ key = "t", operator = ">", value = 1 }, { key = "pump/t", operator = ">", value = 80 }] }"#,
    ),
    ("text", r#"when = { key = "state", operator = "contains", value = "fault" }"#),
];

fn engine(condition: &str) -> Engine {
    let mut engine = Engine::new(EngineOptions::default());
    let text =
        format!("name = \"p\"\n[[rules]]\nkey = \"r\"\nraise.major = {{ {condition} }}\n{CLEAR}");
    let body = parse_toml(&text).unwrap_or_else(|report| panic!("{report:?}\n{text}")).into();
    let body = CommandBody::ProfileSaved { profile: ProfileId(1), version: 1, body };
    let command = Command { at: TimestampMs(0), tenant: TenantId(1), body };
    let cause = Cause::Record { position: Position(0), row: 0 };
    engine.command(&command, cause, &mut Vec::new()).unwrap();
    engine
}

#[test]
fn a_reading_that_raises_nothing_allocates_nothing() {
    for (name, condition) in CONDITIONS {
        let mut engine = engine(condition);
        let [device, _] = [(1, "pump"), (2, "fan")].map(|(id, name)| {
            engine.meet(&DeviceDescription {
                device: DeviceId(id),
                name: name.to_owned(),
                device_type: None,
                tenant: TenantId(1),
                location: LocationId(1),
                location_name: "Hall".to_owned(),
                time_zone: "UTC".to_owned(),
                version: 1,
                location_version: 1,
                location_groups: Vec::new(),
            })
        });
        let keys = ["t", "state", "limit"].map(|key| engine.key(key));
        let mut out = Vec::new();
        let mut run = |rounds: std::ops::Range<i64>| {
            for round in rounds {
                let value = [20.0, 21.0, 30.0, 31.0][usize::try_from(round % 4).unwrap()];
                let text = ["running", "stopped"][usize::try_from(round % 2).unwrap()];
                let values = [
                    (keys[0], Value::Number(value)),
                    (keys[1], Value::Text(text)),
                    (keys[2], Value::Integer(90)),
                ];
                let at = TimestampMs(round * 1_000);
                let cause = Cause::Record { position: Position(round.unsigned_abs()), row: 0 };
                for values in [&values[..1], &values[1..]] {
                    let group = Readings { device, at, received_at: at, cause, values };
                    engine.readings(&group, &mut out);
                }
            }
        };
        // The first rounds fill the cells and let the lists grow.
        run(1..200);
        let counted = allocation_counter::measure(|| run(200..5_000));
        assert!(out.is_empty(), "{name}: {out:?}");
        assert_eq!(counted.count_total, 0, "{name}: {counted:?}");
    }
}
