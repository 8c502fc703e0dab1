//! What the platforms that take messages have in common: values of one device
//! and time in one JSON body.

use std::ops::Range;

use serde_json::{Map, Value, json};

use crate::outgoing::Outgoing;

/// A message and the values of a batch that it bears.
#[derive(Debug)]
pub(super) struct Message {
    pub values: Range<usize>,
    /// The row of the first value and how many follow in the journal's order. Two
    /// messages of the same id bear the same values, after a crash too.
    pub id: String,
    pub body: String,
}

/// Values that stand together in the journal and are of one device and time
/// make one message, each key once, as long as it stays below `max_bytes`.
pub(super) fn messages(batch: &[Outgoing], max_bytes: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut begin = 0;
    while begin < batch.len() {
        let first = &batch[begin];
        let mut fields = Map::new();
        let mut bytes = 0;
        let mut end = begin;
        for value in &batch[begin..] {
            bytes += value.wire_bytes();
            let is_of_it = value.source.device == first.source.device
                && value.at_ms == first.at_ms
                && value.id.partition == first.id.partition
                && value.id.position == first.id.position
                && !fields.contains_key(&*value.key);
            if end > begin && (!is_of_it || bytes > max_bytes) {
                break;
            }
            fields.insert(value.key.to_string(), value.datum.to_json());
            end += 1;
        }
        let id = format!("{}-{}", first.id, end - begin);
        let body = body(first, &id, &fields);
        messages.push(Message { values: begin..end, id, body });
        begin = end;
    }
    messages
}

fn body(first: &Outgoing, id: &str, values: &Map<String, Value>) -> String {
    json!({
        "id": id,
        "sequence": first.id.sequence(),
        "device": first.source.device_name,
        "location": first.source.location_name,
        "ts": first.at_ms,
        "values": values,
    })
    .to_string()
}

/// Everything but letters, digits and `-_.~` as `%XX`.
pub(super) fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use schema::Position;

    use super::*;
    use crate::outgoing::MessageId;
    use crate::testing::{outgoing, outgoing_of};
    use crate::value::Datum;

    #[test]
    fn values_of_one_device_and_time_share_a_message() {
        let integer = |key, at| outgoing(key, Datum::Integer(1), at);
        let mut later = integer("c", 5);
        later.id = MessageId { position: Position(8), ..later.id };
        let batch = [
            integer("a", 5),
            outgoing("b", Datum::Json("{\"x\":[1]}".into()), 5),
            integer("a", 5),
            integer("a", 6),
            outgoing_of("Other", "b", Datum::Text("t".into()), 6),
            later,
        ];
        let messages = messages(&batch, 10_000);
        let ranges: Vec<_> = messages.iter().map(|message| message.values.clone()).collect();
        // The test's devices share an id, so that the fifth joins the fourth.
        assert_eq!(ranges, [0..2, 2..3, 3..5, 5..6]);
        assert_eq!(messages[0].id, "0-7-3-2");
        assert_eq!(
            messages[0].body,
            r#"{"device":"Pump 1","id":"0-7-3-2","location":"North","sequence":458755,"ts":5,"values":{"a":1,"b":{"x":[1]}}}"#
        );
    }

    #[test]
    fn a_message_stays_below_its_size_unless_one_value_is_larger() {
        let long = || Datum::Text("x".repeat(1_000).into());
        let batch: Vec<Outgoing> =
            ["a", "b", "c"].into_iter().map(|key| outgoing(key, long(), 5)).collect();
        assert_eq!(messages(&batch, 2_500).len(), 2);
        assert_eq!(messages(&batch, 10).len(), 3);
    }

    #[test]
    fn what_is_not_plain_is_percent_encoded() {
        assert_eq!(percent("a b/é~$.ct"), "a%20b%2F%C3%A9~%24.ct");
    }
}
