//! What the double took, compared with the plan as it comes: a device's messages
//! are a millisecond apart and come in their order, so that a number for each
//! device says which it has. It knows no socket.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::swing::Swing;
use crate::values::{self, Stored};

/// Each how-many-th message is compared with the plan value by value; of the
/// others the values are counted. All of them would cost more than the server
/// spends on them, on the same machine.
const COMPARE_EVERY: u64 = 16;

/// The name of a router, before its number.
const ROUTER: &str = "router-";

/// What was taken in all, since the round began but for the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Connections that are up now.
    pub connected: u64,
    /// Times that one came up.
    pub connects: u64,
    /// Messages, each counted once.
    pub messages: u64,
    /// Values in them.
    pub values: u64,
    /// Messages that came once more.
    pub doubled: u64,
    /// Messages that were overtaken by the next one of their device.
    pub skipped: u64,
    /// Messages that are not as the plan says, or not to be read.
    pub wrong: u64,
    /// Publishes over the rate, discarded as AWS does; of all rounds.
    pub discarded: u64,
}

/// What comes in, message by message.
#[derive(Debug)]
pub struct Taken {
    pub tally: Tally,
    base_ms: i64,
    selected_keys: usize,
    /// By the router's number, the number of its next message.
    next: Vec<u64>,
}

#[derive(Deserialize)]
struct Body<'a> {
    device: &'a str,
    ts: i64,
    #[serde(borrow)]
    values: Values<'a>,
}

struct Values<'a>(Vec<(&'a str, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Values<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Values<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("values by key")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values<'de>, A::Error> {
                let mut entries = Vec::with_capacity(16);
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Values(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Taken {
    /// Nothing yet.
    #[must_use]
    pub fn new(base_ms: i64, selected_keys: u32) -> Self {
        Self {
            tally: Tally::default(),
            base_ms,
            selected_keys: selected_keys as usize,
            next: Vec::new(),
        }
    }

    /// A round begins, whose messages begin at this time.
    pub fn begin(&mut self, base_ms: i64, selected_keys: u32) {
        let Tally { connected, connects, discarded, .. } = self.tally;
        let tally = Tally { connected, connects, discarded, ..Tally::default() };
        *self = Self { tally, ..Self::new(base_ms, selected_keys) };
    }

    /// Takes a message.
    pub fn take(&mut self, body: &[u8]) {
        let Some((router, number, values)) = self.read(body) else {
            self.tally.wrong += 1;
            return;
        };
        let place = router as usize;
        if self.next.len() <= place {
            self.next.resize(place + 1, 0);
        }
        let next = &mut self.next[place];
        if number < *next {
            self.tally.doubled += 1;
            return;
        }
        self.tally.skipped += number - *next;
        *next = number + 1;
        self.tally.messages += 1;
        self.tally.values += values;
    }

    /// The router's number, the message's and how many values it has.
    fn read(&self, body: &[u8]) -> Option<(u32, u64, u64)> {
        let body: Body<'_> = serde_json::from_slice(body).ok()?;
        let router: u32 = body.device.strip_prefix(ROUTER)?.parse().ok()?;
        let number = u64::try_from(body.ts.checked_sub(self.base_ms)?).ok()?;
        let Values(values) = &body.values;
        if values.len() != self.selected_keys {
            return None;
        }
        if number.is_multiple_of(COMPARE_EVERY) {
            let series = values::series(router, 0, false);
            let is_as_planned = |(key, raw): &(&str, &RawValue)| {
                let key: Option<u32> = key.strip_prefix('k').and_then(|key| key.parse().ok());
                key.is_some_and(|key| is_sample(series, key, number, raw.get()))
            };
            if !values.iter().all(is_as_planned) {
                return None;
            }
        }
        Some((router, number, values.len() as u64))
    }
}

fn is_sample(series: u64, key: u32, number: u64, json: &str) -> bool {
    let sample = Swing::default().sample(series, key, number);
    match serde_json::from_str(json) {
        Ok(serde_json::Value::Number(found)) => match found.as_i64() {
            Some(integer) => {
                // Hundredths that are a whole number may be written without a point.
                sample.is(Stored::Integer(integer)) || sample.is(Stored::Number(number_of(&found)))
            }
            None => sample.is(Stored::Number(number_of(&found))),
        },
        Ok(serde_json::Value::Bool(boolean)) => sample.is(Stored::Boolean(boolean)),
        Ok(serde_json::Value::String(text)) => sample.is(Stored::Text(&text)),
        _ => false,
    }
}

fn number_of(found: &serde_json::Number) -> f64 {
    found.as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::MAX_WIDTH_BYTES;

    const BASE: i64 = 1_764_000_000_000;

    /// A message of all five kinds of values.
    fn body(router: u32, number: u64) -> Vec<u8> {
        let series = values::series(router, 0, false);
        let values: Vec<String> = (0..5)
            .map(|key| {
                let mut text = [b' '; MAX_WIDTH_BYTES];
                let width = values::Sample::width(key);
                Swing::default().sample(series, key, number).write(&mut text[..width]);
                format!("\"k{key}\":{}", str::from_utf8(&text).unwrap().trim())
            })
            .collect();
        let ts = BASE + number.cast_signed();
        format!(
            "{{\"device\":\"router-{router:06}\",\"id\":\"x\",\"ts\":{ts},\"values\":{{{}}}}}",
            values.join(",")
        )
        .into_bytes()
    }

    #[test]
    fn each_message_counts_once_and_what_is_missing_or_double_is_known() {
        let mut taken = Taken::new(BASE, 5);
        for number in [0, 1, 2, 4, 1, 5] {
            taken.take(&body(3, number));
        }
        taken.take(&body(0, 0));
        let tally = taken.tally;
        assert_eq!((tally.messages, tally.values), (6, 30));
        assert_eq!((tally.doubled, tally.skipped, tally.wrong), (1, 1, 0));
        taken.tally.connected = 2;
        taken.begin(BASE + 100, 5);
        assert_eq!(taken.tally, Tally { connected: 2, ..Tally::default() });
    }

    #[test]
    fn a_message_that_is_not_as_planned_is_wrong() {
        let good = String::from_utf8(body(3, 16)).unwrap();
        let mut taken = Taken::new(BASE, 5);
        taken.take(good.as_bytes());
        assert_eq!(taken.tally.messages, 1);
        let later = (BASE + 16).to_string();
        for wrong in [
            // Another router's values, and another time's.
            good.replace("router-000003", "router-000004"),
            good.replace(&later, &(BASE + 32).to_string()),
            good.replace(&later, &(BASE - 1).to_string()),
            good.replace("\"k4\"", "\"k9\""),
            good.replacen("\"k0\":", "\"k7\":1,\"k0\":", 1),
            good.replace("router-", "machine-"),
            good[..good.len() - 1].to_owned(),
        ] {
            let before = taken.tally.wrong;
            taken.take(wrong.as_bytes());
            assert_eq!(taken.tally.wrong, before + 1, "{wrong}");
        }
        assert_eq!(taken.tally.messages, 1);
    }
}
