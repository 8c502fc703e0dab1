//! How transitions are published for others: where, and as what.

use std::sync::Arc;

use alarms::{Publishing, RenderTransition, TRANSITION_SCHEMA};
use anyhow::Context as _;
use journal::Journal;
use serde::Serialize;
use serde_json::json;
use store::Store;
use store::alarms::EventRow;

use crate::api::events::EventShown;
use crate::config::{Config, Role};

/// What others read of a transition: the event as the API shows it.
#[derive(Serialize)]
struct Shown {
    /// The version of all of this.
    schema: u8,
    #[serde(flatten)]
    event: EventShown,
}

/// Makes the topic or looks whether it fits, where one is named and this node has
/// transitions to publish.
pub(crate) async fn open(
    config: &Config,
    journal: &Journal,
    store: &Store,
) -> anyhow::Result<Option<Publishing>> {
    let topic = config.alarms.transitions_topic.as_str();
    if topic.is_empty() || !config.server.roles.has(Role::Alarms) {
        return Ok(None);
    }
    let failed = || format!("cannot publish transitions in alarms.transitions_topic = {topic:?}");
    let retention_ms = config.alarms.transitions_retention_ms();
    let outlet = journal.outlet(topic, retention_ms).await.with_context(failed)?;
    // Before anything happens that is to be in it.
    let began = store.alarms().begin_publishing(topic, journal.partitions()).await;
    began.with_context(failed)?;
    let render = renderer(outlet.max_value_bytes());
    Ok(Some(Publishing { outlet, render }))
}

fn renderer(most_bytes: usize) -> RenderTransition {
    Arc::new(move |event| render(event, most_bytes))
}

/// A transition as JSON. Of one that Kafka would refuse for its size, description
/// and values are left out; the API has them.
fn render(event: &EventRow, most_bytes: usize) -> Vec<u8> {
    let whole = text(event.clone());
    if whole.len() <= most_bytes {
        return whole;
    }
    let body = json!({
        "rule": event.body["rule"],
        "profile": event.body["profile"],
        "received_at": event.body["received_at"],
        "omitted_bytes": whole.len(),
    });
    text(EventRow { body, ..event.clone() })
}

fn text(event: EventRow) -> Vec<u8> {
    let shown = Shown { schema: TRANSITION_SCHEMA, event: EventShown::of(event) };
    serde_json::to_vec(&shown).expect("an event is text keys and plain values")
}

#[cfg(test)]
mod tests {
    use schema::{AlarmId, DeviceId, LocationId, Provenance, Severity, TenantId};
    use schema::{TimestampMs, TransitionId};
    use serde_json::Value;
    use store::alarms::EVENT_KINDS;

    use super::*;

    fn raised(description: &str) -> EventRow {
        EventRow {
            sequence: 7,
            id: TransitionId(1),
            tenant: Some(TenantId(2)),
            at: TimestampMs(50),
            kind: "alarm_raised".to_owned(),
            location: Some(LocationId(3)),
            device: Some(DeviceId(4)),
            alarm: Some(AlarmId(5)),
            document: None,
            severity: Some(Severity::Major),
            actor: None,
            provenance: Provenance::default(),
            body: json!({
                "rule": "hot",
                "profile": 6,
                "description": description,
                "received_at": 51,
                "values": { "t": 91.5 },
            }),
        }
    }

    #[test]
    fn the_json_that_others_read_is_stable() {
        let text = String::from_utf8(render(&raised("Hot"), 10_000)).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"schema":1,"sequence":7,"id":"00000000000000000000000000000001","tenant":2,"#,
                r#""at":50,"kind":"alarm_raised","location":3,"device":4,"#,
                r#""alarm":"00000000000000000000000000000005","severity":"major","#,
                r#""body":{"description":"Hot","profile":6,"received_at":51,"rule":"hot","#,
                r#""values":{"t":91.5}}}"#,
            )
        );
    }

    #[test]
    fn the_schema_that_is_documented_knows_all_fields_and_kinds() {
        let schema = include_str!("../../docs/reference/transition.schema.json");
        let schema: Value = serde_json::from_str(schema).unwrap();
        let mut event = raised("Hot");
        event.actor = Some("eva".to_owned());
        event.provenance = Provenance { token: Some(1), from: Some("::1".to_owned()) };
        for most_bytes in [10_000, 0] {
            let shown: Value = serde_json::from_slice(&render(&event, most_bytes)).unwrap();
            for (shown, schema) in
                [(&shown, &schema), (&shown["body"], &schema["properties"]["body"])]
            {
                for name in shown.as_object().unwrap().keys() {
                    assert!(schema["properties"][name].is_object(), "{name}");
                }
                for name in schema["required"].as_array().unwrap() {
                    assert!(shown.get(name.as_str().unwrap()).is_some(), "{name}");
                }
            }
        }
        let kinds = schema["properties"]["kind"]["enum"].as_array().unwrap().iter();
        let of_alarms = EVENT_KINDS.iter().filter(|kind| kind.starts_with("alarm_"));
        assert!(kinds.map(|kind| kind.as_str().unwrap()).eq(of_alarms.copied()));
    }

    #[test]
    fn what_is_too_large_for_kafka_comes_without_its_values() {
        let long = render(&raised(&"x".repeat(10_000)), 1_000);
        let shown: Value = serde_json::from_slice(&long).unwrap();
        assert_eq!(
            (&shown["id"], &shown["body"]["rule"]),
            (&json!(TransitionId(1).to_string()), &json!("hot"))
        );
        assert_eq!(shown["body"]["description"], Value::Null);
        assert!(shown["body"]["omitted_bytes"].as_u64() > Some(10_000), "{shown}");
    }
}
