//! What the platforms that take messages have in common: values of one device
//! and time in one JSON body.

use std::ops::Range;

use hashbrown::HashSet;
use serde::Serialize;

use crate::outgoing::Outgoing;
use crate::value::Datum;

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
    let mut keys: HashSet<&str, foldhash::fast::RandomState> = HashSet::default();
    let mut begin = 0;
    while begin < batch.len() {
        let first = &batch[begin];
        keys.clear();
        let mut bytes = 0;
        let mut end = begin;
        for value in &batch[begin..] {
            bytes += value.wire_bytes();
            let is_of_it = value.source.device == first.source.device
                && value.at_ms == first.at_ms
                && value.id.partition == first.id.partition
                && value.id.position == first.id.position
                && keys.insert(&value.key);
            if end > begin && (!is_of_it || bytes > max_bytes) {
                break;
            }
            end += 1;
        }
        let id = format!("{}-{}", first.id, end - begin);
        let body = body(&batch[begin..end], &id);
        messages.push(Message { values: begin..end, id, body });
        begin = end;
    }
    messages
}

/// The JSON of values that share a message, of which there is at least one.
fn body(values: &[Outgoing], id: &str) -> String {
    let first = &values[0];
    let names = first.source.device_name.len() + first.source.location_name.len();
    let room = 160 + names + values.iter().map(Outgoing::wire_bytes).sum::<usize>();
    let mut out = Vec::with_capacity(room);
    out.extend_from_slice(b"{\"device\":");
    write(&first.source.device_name, &mut out);
    out.extend_from_slice(b",\"id\":");
    write(id, &mut out);
    out.extend_from_slice(b",\"location\":");
    write(&first.source.location_name, &mut out);
    out.extend_from_slice(b",\"sequence\":");
    write(&first.id.sequence(), &mut out);
    out.extend_from_slice(b",\"ts\":");
    write(&first.at_ms, &mut out);
    out.extend_from_slice(b",\"values\":");
    for (place, value) in values.iter().enumerate() {
        out.push(if place == 0 { b'{' } else { b',' });
        write(&*value.key, &mut out);
        out.push(b':');
        datum(&value.datum, &mut out);
    }
    out.extend_from_slice(b"}}");
    String::from_utf8(out).expect("JSON is UTF-8")
}

fn datum(datum: &Datum, out: &mut Vec<u8>) {
    match datum {
        Datum::Number(number) => write(number, out),
        Datum::Integer(integer) => write(integer, out),
        Datum::Boolean(boolean) => write(boolean, out),
        Datum::Text(text) => write(text, out),
        Datum::Json(_) => write(&datum.to_json(), out),
    }
}

fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("memory takes all that is written");
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
    fn every_kind_of_value_is_written_as_the_json_that_it_is() {
        let data = [
            Datum::Number(1.0),
            Datum::Number(-0.1),
            Datum::Number(1e300),
            Datum::Integer(i64::MIN),
            Datum::Boolean(true),
            Datum::Text("say \"x\"\n\u{1}".into()),
            Datum::Json("{\"x\": [1, 2]}".into()),
            Datum::Json("no JSON".into()),
        ];
        let keys = ["a", "b", "c", "d", "e\"", "f", "g", "h"];
        let batch: Vec<Outgoing> =
            keys.iter().zip(&data).map(|(key, datum)| outgoing(key, datum.clone(), 5)).collect();
        let message = messages(&batch, 10_000).pop().unwrap();
        let said: serde_json::Value = serde_json::from_str(&message.body).unwrap();
        for (key, datum) in keys.iter().zip(&data) {
            assert_eq!(said["values"][key], datum.to_json(), "{key}");
        }
        assert_eq!(said["device"], "Pump 1");
        assert_eq!(said.as_object().unwrap().len(), 6);
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
