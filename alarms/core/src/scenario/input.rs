//! What stands before the arrow of a line with a time.

use schema::{AlarmAction, MAX_GROUPS_OF_LOCATION, MAX_LOCATION_GROUP_BYTES, TimestampMs};

use super::parse::place;
use super::profile::Body;
use super::setup::Setup;
use super::words::Word;
use super::world::{Input, Step, Written};

const SHAPES: &str = "behind the time stands `DEVICE KEY VALUE [KEY VALUE …]`, `clock`, \
    `DEVICE shared KEY VALUE`, `DEVICE client KEY VALUE`, `location [NAME] KEY VALUE`, \
    `tenant KEY VALUE`, `do ACTION DEVICE RULE WHO …`, `profile …`, `describe DEVICE NAME TYPE`, \
    `delete DEVICE` or `place [LOCATION] NAME ZONE [group GROUP]…`; a value `-` takes an attribute away, and a \
    device whose name is one of these words stands in quotes";

const DEEDS: &str = "it reads `do acknowledge|unacknowledge|clear|unshelve DEVICE RULE WHO`, \
    `do shelve DEVICE RULE WHO UNTIL`, `do comment DEVICE RULE WHO \"TEXT\"` or \
    `do assign DEVICE RULE WHO NAME` (`-` for nobody)";

const PLACES: &str = "it reads `place [LOCATION] NAME Europe/Amsterdam [group GROUP]…`";

/// Reads a line up to its arrow; profiles are the caller's.
pub(super) fn parse(words: &[Word], setup: &Setup) -> Result<Step, String> {
    let [time, words @ ..] = words else { return Err(SHAPES.to_owned()) };
    let (at, received) = match time.text.split_once('@') {
        Some((at, received)) => (setup.time(at)?, Some(setup.time(received)?)),
        None => (setup.time(&time.text)?, None),
    };
    let input = one(words, setup)?;
    let observed = matches!(input, Input::Readings { .. } | Input::Attribute { .. });
    if received.is_some() && !observed {
        return Err("only what a device sends has a time of its own: `5s@1h`".to_owned());
    }
    Ok(Step { at, received: received.unwrap_or(at), input })
}

pub(super) fn profile(at: i64, name: String, body: Body) -> Step {
    Step { at, received: at, input: Input::Profile { name, body } }
}

fn one(words: &[Word], setup: &Setup) -> Result<Input, String> {
    match words {
        [only] if only.is("clock") => Ok(Input::Clock),
        [first, rest @ ..] if first.is("do") => deed(rest, setup),
        [verb, device, name, kind] if verb.is("describe") => Ok(Input::Describe {
            device: device.text.clone(),
            name: name.text.clone(),
            device_type: (!kind.is("-")).then(|| kind.text.clone()),
        }),
        [verb, device] if verb.is("delete") => Ok(Input::Delete { device: device.text.clone() }),
        [verb, rest @ ..] if verb.is("place") => directory_location(rest, setup),
        [scope, key, new] if scope.is("tenant") => {
            let (key, value) = (key.text.clone(), attribute(new));
            Ok(Input::SharedAttribute { location: None, key, value })
        }
        [scope, key, new] if scope.is("location") => {
            if setup.locations.len() > 1 {
                let message = "there are several locations: write `location NAME KEY VALUE`";
                return Err(message.to_owned());
            }
            let (key, value) = (key.text.clone(), attribute(new));
            Ok(Input::SharedAttribute { location: Some(0), key, value })
        }
        [scope, name, key, new] if scope.is("location") => {
            let location = Some(place(setup, &name.text)?);
            let (key, value) = (key.text.clone(), attribute(new));
            Ok(Input::SharedAttribute { location, key, value })
        }
        [device, scope, key, new] if scope.is("shared") || scope.is("client") => {
            Ok(Input::Attribute {
                device: device_name(device)?,
                by_platform: scope.is("shared"),
                key: key.text.clone(),
                value: attribute(new),
            })
        }
        [device, pairs @ ..] if !pairs.is_empty() => {
            let device = device_name(device)?;
            let mut values = Vec::new();
            for pair in pairs.chunks(2) {
                let [key, value] = pair else {
                    return Err(format!("`{}` has no value; {SHAPES}", pair[0].text));
                };
                if key.text.is_empty() || value.is("-") {
                    return Err(format!("a reading has a key and a value; {SHAPES}"));
                }
                values.push((key.text.clone(), written(value)));
            }
            Ok(Input::Readings { device, values })
        }
        _ => Err(SHAPES.to_owned()),
    }
}

fn directory_location(words: &[Word], setup: &Setup) -> Result<Input, String> {
    let is_group = |word: &Word| word.is("group");
    let (words, behind) = words.split_at(words.iter().position(is_group).unwrap_or(words.len()));
    let mut groups = Vec::new();
    for pair in behind.chunks(2) {
        match pair {
            [word, group] if is_group(word) => put_group(&mut groups, &group.text)?,
            _ => return Err(PLACES.to_owned()),
        }
    }
    let (location, name, zone) = match words {
        [name, zone] if setup.locations.len() == 1 => (0, name, zone),
        [location, name, zone] => (place(setup, &location.text)?, name, zone),
        _ => return Err(PLACES.to_owned()),
    };
    let zone = known_zone(&zone.text)?;
    Ok(Input::Place { location, name: name.text.clone(), zone, groups })
}

/// Adds a group to those of a location.
pub(super) fn put_group(groups: &mut Vec<String>, group: &str) -> Result<(), String> {
    if !schema::is_location_group(group) {
        return Err(format!(
            "`{group}` is no group's name: 1 to {MAX_LOCATION_GROUP_BYTES} bytes without control \
             characters or spaces around them"
        ));
    }
    if groups.iter().any(|known| known == group) || groups.len() == MAX_GROUPS_OF_LOCATION {
        return Err(format!(
            "`{group}` is one too many: a location is in at most {MAX_GROUPS_OF_LOCATION} groups, \
             in each once"
        ));
    }
    groups.push(group.to_owned());
    Ok(())
}

/// The name of a time zone that there is.
pub(super) fn known_zone(name: &str) -> Result<String, String> {
    match crate::program::Zones::default().find(name) {
        Some(_) => Ok(name.to_owned()),
        None => Err(format!("`{name}` is no IANA time zone, such as `Europe/Amsterdam`")),
    }
}

fn device_name(word: &Word) -> Result<String, String> {
    let keyword = ["clock", "do", "location", "tenant", "profile", "describe", "delete", "place"];
    if word.text.is_empty() || keyword.iter().any(|keyword| word.is(keyword)) {
        return Err(format!("`{}` is no device here; {SHAPES}", word.text));
    }
    Ok(word.text.clone())
}

fn attribute(word: &Word) -> Option<Written> {
    (!word.is("-")).then(|| written(word))
}

/// A value as a router would send it: a number, `true` or `false`, JSON, else
/// text; in quotes always text.
fn written(word: &Word) -> Written {
    let text = word.text.as_str();
    if word.quoted {
        return Written::Text(text.to_owned());
    }
    if text.starts_with(['{', '[']) && serde_json::from_str::<serde_json::Value>(text).is_ok() {
        return Written::Json(text.to_owned());
    }
    let digits = text.trim_start_matches(['-', '+', '.']);
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    match (text, text.parse(), number) {
        ("true", ..) => Written::Boolean(true),
        ("false", ..) => Written::Boolean(false),
        (_, Ok(integer), _) => Written::Integer(integer),
        (_, _, Some(number)) if digits.starts_with(|c: char| c.is_ascii_digit()) => {
            Written::Number(number)
        }
        _ => Written::Text(text.to_owned()),
    }
}

fn deed(words: &[Word], setup: &Setup) -> Result<Input, String> {
    let [what, device, rule, by, rest @ ..] = words else { return Err(DEEDS.to_owned()) };
    let action = match (what.text.as_str(), rest) {
        ("acknowledge", []) => AlarmAction::Acknowledge,
        ("unacknowledge", []) => AlarmAction::Unacknowledge,
        ("clear", []) => AlarmAction::Clear,
        ("unshelve", []) => AlarmAction::Unshelve,
        ("shelve", [until]) => AlarmAction::Shelve { until: TimestampMs(setup.time(&until.text)?) },
        ("comment", [text]) => AlarmAction::Comment { text: text.text.clone() },
        ("assign", [to]) => AlarmAction::Assign { to: (!to.is("-")).then(|| to.text.clone()) },
        _ => return Err(DEEDS.to_owned()),
    };
    let (device, rule, by) = (device.text.clone(), rule.text.clone(), by.text.clone());
    Ok(Input::Deed { device, rule, by, action })
}
