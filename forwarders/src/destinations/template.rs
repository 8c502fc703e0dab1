//! Names with places for what a value is of: `{device}`, `{location}`, `{key}`.

use super::Fault;
use crate::outgoing::Outgoing;

/// A text with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Device,
    Location,
    Key,
}

impl Template {
    /// # Errors
    /// [`Fault`] for a place that there is none of, at `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self, Fault> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').ok_or_else(|| unknown(field, behind))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match name {
                "device" => Part::Device,
                "location" => Part::Location,
                "key" => Part::Key,
                other => return Err(unknown(field, other)),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        match parts.is_empty() {
            true => Err(Fault::new(field, "It must not be empty.")),
            false => Ok(Self(parts)),
        }
    }

    /// The text for a value; names go through `clean` first.
    pub fn fill(&self, value: &Outgoing, clean: impl Fn(&str) -> String) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Device => text.push_str(&clean(&value.source.device_name)),
                Part::Location => text.push_str(&clean(&value.source.location_name)),
                Part::Key => text.push_str(&clean(&value.key)),
            }
        }
        text
    }
}

fn unknown(field: &str, name: &str) -> Fault {
    let name: String = name.chars().take(40).collect();
    Fault::new(
        field,
        format!("There is no place {{{name}}}: use {{device}}, {{location}} or {{key}}."),
    )
}
