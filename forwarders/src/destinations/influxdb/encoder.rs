//! Values to line protocol: `measurement,tag=… field=value time`, a line each.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::{Fault, Item, Template, read_item, typed};
use super::config::{ItemSettings, Settings};
use crate::outgoing::Outgoing;
use crate::value::{Datum, shortest};

/// The tags that say what a value is of; a tag of the settings by the same name
/// takes its place.
const DEVICE: &str = "device";
const LOCATION: &str = "location";

/// Writes lines for a forwarder's items.
#[derive(Debug)]
pub struct Encoder {
    items: Vec<(Template, String)>,
    tags: BTreeMap<String, String>,
}

impl Encoder {
    pub(super) fn new(settings: &Settings, items: &[Item]) -> Result<Self, Fault> {
        let mut encoded = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            typed(index, item)?;
            let ItemSettings { measurement, field } = read_item(index, item)?;
            let path = |name: &str| format!("items[{index}].settings.{name}");
            let measurement = Template::parse(&path("measurement"), &measurement)?;
            let field = field.unwrap_or_else(|| item.key.clone());
            if field.is_empty() || field.chars().any(char::is_control) {
                let message = "It must not be empty or hold control characters.";
                return Err(Fault::new(path("field"), message));
            }
            encoded.push((measurement, escape(&field, &[',', '=', ' '])));
        }
        Ok(Self { items: encoded, tags: settings.tags.clone() })
    }

    /// Adds the line of a value, with its line feed.
    pub fn line(&self, value: &Outgoing, lines: &mut String) {
        let index = value.item.map_or(usize::MAX, |item| item as usize);
        let Some((measurement, field)) = self.items.get(index) else {
            unreachable!("this platform sends selected items only")
        };
        lines.push_str(&measurement.fill(value, |name| name.to_owned()).escaped());
        let of = [(DEVICE, &value.source.device_name), (LOCATION, &value.source.location_name)];
        let own = of.iter().filter(|(name, _)| !self.tags.contains_key(*name));
        let mut tags: Vec<(&str, &str)> =
            own.map(|(name, value)| (*name, value.as_str())).collect();
        tags.extend(self.tags.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        // Sorted tags spare the server sorting them.
        tags.sort_unstable();
        for (name, value) in tags {
            let _ = write!(lines, ",{}={}", tag(name), tag(value));
        }
        let _ = writeln!(lines, " {field}={} {}", field_value(&value.datum), value.at_ms);
    }
}

trait Escaped {
    fn escaped(&self) -> String;
}

impl Escaped for String {
    fn escaped(&self) -> String {
        escape(self, &[',', ' '])
    }
}

fn tag(text: &str) -> String {
    escape(text, &[',', '=', ' '])
}

/// Line protocol has no way to end a name with a backslash: it would escape
/// what follows. A slash stands for it then.
fn escape(text: &str, special: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if special.contains(&c) => {
                escaped.push('\\');
                escaped.push(c);
            }
            c if c.is_control() => escaped.push('_'),
            c => escaped.push(c),
        }
    }
    if escaped.ends_with('\\') {
        escaped.pop();
        escaped.push('/');
    }
    escaped
}

fn field_value(datum: &Datum) -> String {
    match datum {
        Datum::Number(number) => shortest(*number),
        Datum::Integer(integer) => format!("{integer}i"),
        Datum::Boolean(boolean) => boolean.to_string(),
        Datum::Text(text) | Datum::Json(text) => {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }
    }
}
