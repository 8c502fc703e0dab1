//! Values and configurations for the tests of this crate.

use std::collections::BTreeMap;
use std::sync::Arc;

use schema::{DeviceId, LocationId, PartitionId, Position};
use serde_json::{Map, Value};

use crate::destinations::{Config, Item};
use crate::outgoing::{MessageId, Outgoing, Source};
use crate::value::Datum;

/// A value of the first item.
pub(crate) fn outgoing(key: &str, datum: Datum, at_ms: i64) -> Outgoing {
    outgoing_of("Pump 1", key, datum, at_ms)
}

pub(crate) fn outgoing_of(device: &str, key: &str, datum: Datum, at_ms: i64) -> Outgoing {
    Outgoing {
        id: MessageId { partition: PartitionId(0), position: Position(7), row: 3 },
        source: Arc::new(Source {
            device: DeviceId(11),
            device_name: device.to_owned(),
            location: LocationId(10),
            location_name: "North".to_owned(),
        }),
        key: key.into(),
        item: Some(0),
        at_ms,
        datum,
    }
}

/// A configuration without secrets. Of each item, `key` and `data_type` are
/// taken out and the rest is what the platform asks.
pub(crate) fn config(settings: &Value, items: &Value) -> Config {
    let item = |item: &Value| {
        let mut settings: Map<String, Value> = item.as_object().unwrap().clone();
        let key = settings.remove("key").unwrap().as_str().unwrap().to_owned();
        let data_type = settings.remove("data_type");
        let data_type = data_type.map(|text| serde_json::from_value(text).unwrap());
        Item { key, data_type, tolerance: None, settings }
    };
    Config {
        settings: settings.as_object().unwrap().clone(),
        secrets: BTreeMap::new(),
        items: items.as_array().unwrap().iter().map(item).collect(),
    }
}
