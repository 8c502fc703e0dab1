//! Random histories: what happens, one step after the other. Times are whole
//! seconds behind the start.

use rand::Rng;
use rand::rngs::StdRng;
use schema::AlarmProfile;
use serde_json::Value as Json;

use super::random::{
    ATTRIBUTES, BOOLEAN, Flavour, NUMBERS, RULES, SYSTEM, TEXT, TEXTS, edited, pick, random_profile,
};

/// When a buffered case is received.
pub const LATER: i64 = 500;

#[derive(Clone, Debug)]
pub enum Scope {
    Shared(usize),
    Client(usize),
    Location,
    Tenant,
}

#[derive(Clone, Copy, Debug)]
pub enum Deed {
    Acknowledge,
    Unacknowledge,
    Clear,
    Shelve(i64),
    Unshelve,
    Comment,
    Assign,
}

#[derive(Clone, Debug)]
pub enum Step {
    Message {
        device: usize,
        at: i64,
        received: i64,
        values: Vec<(&'static str, Json)>,
    },
    Attribute {
        scope: Scope,
        key: &'static str,
        value: Option<Json>,
        at: i64,
    },
    /// On the last alarm of a device and a rule, if there was one.
    Do {
        device: usize,
        rule: &'static str,
        deed: Deed,
        at: i64,
    },
    Profile {
        document: Option<AlarmProfile>,
        at: i64,
    },
    Clock {
        at: i64,
    },
}

fn value(rng: &mut StdRng, key: &str) -> Json {
    match key {
        // A key that once in a while says what it should not.
        _ if rng.random_bool(0.02) => Json::from("broken"),
        TEXT => Json::from(pick(rng, &TEXTS)),
        BOOLEAN => Json::from(rng.random_bool(0.5)),
        _ if rng.random_bool(0.2) => Json::from(f64::from(rng.random_range(0..20)) / 2.0),
        _ => Json::from(rng.random_range(0..10)),
    }
}

fn deed(rng: &mut StdRng, at: i64) -> Deed {
    match rng.random_range(0..12) {
        0..=2 => Deed::Acknowledge,
        3 => Deed::Unacknowledge,
        4 => Deed::Clear,
        5..=7 => Deed::Shelve(at + rng.random_range(-2..60)),
        8 | 9 => Deed::Unshelve,
        10 => Deed::Comment,
        _ => Deed::Assign,
    }
}

fn message(rng: &mut StdRng, flavour: Flavour, at: i64, calm: bool) -> Option<Step> {
    let device = rng.random_range(0..flavour.devices);
    let late = if rng.random_bool(0.15) { rng.random_range(0..8) } else { 0 };
    let mut values = Vec::new();
    if rng.random_bool(0.15) {
        // Mostly alone, and at the server's time.
        values.push((SYSTEM, value(rng, SYSTEM)));
        if rng.random_bool(0.8) {
            let at = if flavour.buffered && rng.random_bool(0.5) { LATER } else { at };
            let received = if flavour.buffered { LATER } else { at };
            return Some(Step::Message { device, at: (at - late).max(0), received, values });
        }
    }
    for key in NUMBERS.into_iter().chain([TEXT, BOOLEAN]) {
        let share = if NUMBERS.contains(&key) { 0.5 } else { 0.2 };
        if rng.random_bool(share) {
            let value = if calm { Json::from(3) } else { value(rng, key) };
            values.push((key, value));
        }
    }
    let received = if flavour.buffered { LATER } else { at };
    let step = Step::Message { device, at: (at - late).max(0), received, values };
    matches!(&step, Step::Message { values, .. } if !values.is_empty()).then_some(step)
}

/// A profile and what happens under it; `None` of a document is its end.
pub fn random_case(rng: &mut StdRng, flavour: Flavour) -> (AlarmProfile, Vec<Step>) {
    let profile = random_profile(rng, flavour);
    let (mut current, mut at, mut target) = (profile.clone(), 1, (0, RULES[0]));
    let mut steps = Vec::new();
    let calm = rng.random_bool(0.05);
    for _ in 0..rng.random_range(3..40) {
        at += [0, 1, 1, 2, 3, 7, 15, 40][rng.random_range(0..8)];
        if at > LATER - 60 {
            break;
        }
        let step = match rng.random_range(0..100) {
            0..=6 => {
                let place = rng.random_range(0..flavour.devices);
                let scope = match rng.random_range(0..4) {
                    0 => Scope::Shared(place),
                    1 => Scope::Client(place),
                    2 => Scope::Location,
                    _ => Scope::Tenant,
                };
                let value = rng.random_bool(0.8).then(|| Json::from(rng.random_range(0..10)));
                Some(Step::Attribute { scope, key: pick(rng, &ATTRIBUTES), value, at })
            }
            7..=24 => {
                // Often on the one that the last was on.
                if rng.random_bool(0.5) {
                    let rule = RULES[rng.random_range(0..current.rules.len().max(1))];
                    target = (rng.random_range(0..flavour.devices), rule);
                }
                let (device, rule) = target;
                Some(Step::Do { device, rule, deed: deed(rng, at), at })
            }
            25..=27 => {
                let document = if rng.random_bool(0.1) {
                    None
                } else {
                    current = edited(rng, flavour, &current);
                    Some(current.clone())
                };
                let step = Step::Profile { document, at };
                at += 1;
                Some(step)
            }
            28..=32 if !flavour.buffered => Some(Step::Clock { at }),
            _ => message(rng, flavour, at, calm),
        };
        steps.extend(step);
    }
    steps.push(Step::Clock { at: LATER + 60 });
    (profile, steps)
}
