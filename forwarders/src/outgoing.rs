//! A value on its way out, with all that a platform's message may say of it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schema::{DeviceId, LocationId, PartitionId, Position};
use serde::{Deserialize, Serialize};

use crate::value::{Datum, json_bytes};

/// Names a value for ever: the row of the journal that it stands in. The same
/// value that is sent again, after a crash too, bears the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    pub partition: PartitionId,
    pub position: Position,
    pub row: u32,
}

impl MessageId {
    /// Ascends in the order of the device's readings.
    #[must_use]
    pub fn sequence(self) -> u64 {
        // A record has at most 65,536 rows.
        (self.position.0 << 16) | u64::from(self.row & 0xffff)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.partition, self.position, self.row)
    }
}

impl FromStr for MessageId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a message id is partition-position-row";
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().ok_or(wrong);
        let partition = PartitionId(part()?.parse().map_err(|_| wrong)?);
        let position = Position(part()?.parse().map_err(|_| wrong)?);
        let row = part()?.parse().map_err(|_| wrong)?;
        Ok(Self { partition, position, row })
    }
}

/// What a value is of, in names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub device: DeviceId,
    pub device_name: String,
    pub location: LocationId,
    pub location_name: String,
}

/// A value to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    pub id: MessageId,
    pub source: Arc<Source>,
    pub key: Arc<str>,
    /// The place of the item that selected it in the forwarder's list; none
    /// where the forwarder sends all.
    pub item: Option<u32>,
    /// When the device says that it was, in milliseconds since 1970.
    pub at_ms: i64,
    pub datum: Datum,
}

impl Outgoing {
    /// No value at all: its names stand in for those of real ones.
    pub(crate) fn for_test_of_connection() -> Self {
        let source = Source {
            device: DeviceId(0),
            device_name: "connection-test".to_owned(),
            location: LocationId(0),
            location_name: "connection-test".to_owned(),
        };
        let id = MessageId { partition: PartitionId(0), position: Position(0), row: 0 };
        let (source, key) = (Arc::new(source), "connection-test".into());
        Self { id, source, key, item: None, at_ms: 0, datum: Datum::Boolean(true) }
    }

    /// What it takes in a message, about: engines gather batches by it.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        let key = json_bytes(&self.key);
        72 + key + self.source.device_name.len() + self.datum.json_bytes()
    }
}

/// A value as it is kept when a platform has refused it. Stored as JSON; the
/// names are stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptValue {
    pub id: String,
    #[serde(flatten)]
    pub source: Source,
    pub key: String,
    pub at_ms: i64,
    pub value: Datum,
}

impl KeptValue {
    #[must_use]
    pub fn of(value: &Outgoing) -> Self {
        Self {
            id: value.id.to_string(),
            source: (*value.source).clone(),
            key: value.key.to_string(),
            at_ms: value.at_ms,
            value: value.datum.clone(),
        }
    }

    /// The value to be sent again, by the item that its key has now.
    #[must_use]
    pub fn outgoing(self, item: Option<u32>) -> Outgoing {
        let missing = MessageId { partition: PartitionId(0), position: Position(0), row: 0 };
        Outgoing {
            id: self.id.parse().unwrap_or(missing),
            source: Arc::new(self.source),
            key: self.key.into(),
            item,
            at_ms: self.at_ms,
            datum: self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_reads_back_and_ascends_with_the_journal() {
        let id = MessageId { partition: PartitionId(3), position: Position(12), row: 7 };
        assert_eq!(id.to_string(), "3-12-7");
        assert_eq!("3-12-7".parse(), Ok(id));
        assert!("3-12".parse::<MessageId>().is_err() && "a-1-2".parse::<MessageId>().is_err());
        let next = MessageId { position: Position(13), row: 0, ..id };
        assert!(next.sequence() > MessageId { row: 65_535, ..id }.sequence());
    }

    #[test]
    fn a_kept_value_is_sent_again_as_it_was() {
        let value = Outgoing {
            id: MessageId { partition: PartitionId(1), position: Position(2), row: 3 },
            source: Arc::new(Source {
                device: DeviceId(4),
                device_name: "Pump".to_owned(),
                location: LocationId(5),
                location_name: "North".to_owned(),
            }),
            key: "speed".into(),
            item: Some(0),
            at_ms: 6,
            datum: Datum::Number(1.5),
        };
        let text = serde_json::to_string(&KeptValue::of(&value)).unwrap();
        assert_eq!(
            text,
            r#"{"id":"1-2-3","device":4,"device_name":"Pump","location":5,"location_name":"North","key":"speed","at_ms":6,"value":{"number":1.5}}"#
        );
        let kept: KeptValue = serde_json::from_str(&text).unwrap();
        assert_eq!(kept.outgoing(Some(0)), value);
    }
}
