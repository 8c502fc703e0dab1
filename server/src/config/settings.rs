//! The settings one by one, read out of the structs' own schema: path, type,
//! bounds, default and meaning. What is checked and what the reference says
//! come from here, so they cannot differ from what is deserialized.

use serde_json::Value;
use utoipa::PartialSchema as _;
use utoipa::openapi::{RefOr, Schema};

use super::Config;

/// One setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Sections and name, as in `mqtt.tls.listen`.
    pub path: String,
    /// What it means.
    pub meaning: String,
    pub kind: Kind,
    pub default: Value,
}

/// What values a setting takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    Choice(Vec<String>),
    /// Text; `form` says of what form where that is known.
    Text {
        form: Option<String>,
    },
}

impl Setting {
    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("BAKEN_{}", self.path.replace('.', "__").to_uppercase())
    }

    /// What is allowed, in words.
    #[must_use]
    pub fn allowed(&self) -> String {
        match &self.kind {
            Kind::Boolean => "true or false".to_owned(),
            Kind::Integer { min, max: i64::MAX } => format!("a whole number, {min} or more"),
            Kind::Integer { min, max } => format!("a whole number, {min} to {max}"),
            Kind::Choice(choices) => choices.join(" or "),
            Kind::Text { form: Some(form) } => form.clone(),
            Kind::Text { form: None } => "text".to_owned(),
        }
    }

    /// Whether `value` has the right type and lies within the bounds.
    #[must_use]
    pub fn admits(&self, value: &Value) -> bool {
        match &self.kind {
            Kind::Boolean => value.is_boolean(),
            Kind::Integer { min, max } => {
                value.as_i64().is_some_and(|number| (*min..=*max).contains(&number))
            }
            Kind::Choice(choices) => {
                value.as_str().is_some_and(|text| choices.iter().any(|choice| choice == text))
            }
            Kind::Text { .. } => value.is_string(),
        }
    }

    /// The value that text from a variable or a flag stands for; text that is
    /// none stays text, and is refused by [`Setting::admits`].
    #[must_use]
    pub fn parse(&self, text: &str) -> Value {
        let parsed = match &self.kind {
            Kind::Boolean => text.parse::<bool>().ok().map(Value::from),
            Kind::Integer { .. } => text.replace('_', "").parse::<i64>().ok().map(Value::from),
            Kind::Choice(_) | Kind::Text { .. } => None,
        };
        parsed.unwrap_or_else(|| Value::from(text))
    }
}

/// A section of the configuration, as in `[mqtt.tls]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Section {
    pub(super) path: String,
    pub(super) meaning: String,
    pub(super) settings: Vec<Setting>,
}

/// All settings, in the order of the structs.
#[must_use]
pub fn settings() -> Vec<Setting> {
    sections().into_iter().flat_map(|section| section.settings).collect()
}

pub(super) fn sections() -> Vec<Section> {
    let defaults = serde_json::to_value(Config::default()).expect("a configuration is JSON");
    let mut sections = Vec::new();
    collect("", &Config::schema(), &defaults, &mut sections);
    sections.retain(|section| !section.settings.is_empty());
    sections
}

fn collect(path: &str, schema: &RefOr<Schema>, defaults: &Value, sections: &mut Vec<Section>) {
    let Some(Schema::Object(object)) = inner(schema) else { return };
    let place = sections.len();
    sections.push(Section {
        path: path.to_owned(),
        meaning: meaning(schema),
        settings: Vec::new(),
    });
    for (name, schema) in &object.properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = &defaults[name];
        if default.is_object() {
            collect(&path, schema, default, sections);
        } else {
            let setting = Setting {
                meaning: meaning(schema),
                kind: kind(schema, default),
                default: default.clone(),
                path,
            };
            sections[place].settings.push(setting);
        }
    }
}

/// A type of ours comes as `allOf`: its own schema, then what the field says.
fn inner(schema: &RefOr<Schema>) -> Option<&Schema> {
    match schema {
        RefOr::T(Schema::AllOf(all)) => all.items.first().and_then(inner),
        RefOr::T(schema) => Some(schema),
        RefOr::Ref(_) => None,
    }
}

fn meaning(schema: &RefOr<Schema>) -> String {
    let of_field = match schema {
        RefOr::T(Schema::AllOf(all)) => all.items.last().unwrap_or(schema),
        other => other,
    };
    let json = serde_json::to_value(of_field).expect("a schema is JSON");
    json["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn kind(schema: &RefOr<Schema>, default: &Value) -> Kind {
    let schema = serde_json::to_value(inner(schema)).expect("a schema is JSON");
    let bound = |name: &str| schema[name].as_f64();
    #[allow(clippy::cast_possible_truncation, reason = "bounds are whole and far below 2^53")]
    match default {
        Value::Bool(_) => Kind::Boolean,
        Value::Number(_) => Kind::Integer {
            min: bound("minimum").map_or(0, |bound| bound as i64),
            max: bound("maximum").map_or(i64::MAX, |bound| bound as i64),
        },
        _ => match schema["enum"].as_array() {
            Some(choices) => {
                Kind::Choice(choices.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            None => Kind::Text { form: schema["format"].as_str().map(str::to_owned) },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_meaning_and_a_default_that_is_allowed() {
        let settings = settings();
        assert!(settings.len() > 20, "{}", settings.len());
        for setting in settings {
            assert!(
                setting.meaning.ends_with('.'),
                "{} says nothing: {:?}",
                setting.path,
                setting.meaning
            );
            assert!(setting.admits(&setting.default), "{}: {}", setting.path, setting.default);
        }
    }

    #[test]
    fn units_stand_last_in_names() {
        for setting in settings() {
            let name = setting.path.rsplit('.').next().unwrap();
            for (unit, suffix) in [("timeout", "_ms"), ("retention", "_hours|_bytes")] {
                let fits = suffix.split('|').any(|suffix| name.ends_with(suffix));
                assert!(!name.contains(unit) || fits, "{name} lacks its unit");
            }
        }
    }
}
