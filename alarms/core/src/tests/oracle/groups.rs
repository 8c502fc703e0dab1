//! A location that leaves a profile's group, and joins it again, is told the
//! same as where the profile ends and begins again. The naive evaluator knows
//! the latter, so it needs no groups of its own.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use schema::{AlarmProfile, Transition};

use super::drive::{Driven, told};
use super::naive::Told;
use super::random::DEVICES;
use super::steps::Step;
use super::{make, sorted};

const CASES: u64 = 1_000;
const GROUP: &str = "Coast";

/// When a step is received.
fn received(step: &Step) -> i64 {
    match step {
        Step::Message { received, .. } => *received,
        Step::Attribute { at, .. }
        | Step::Do { at, .. }
        | Step::Profile { at, .. }
        | Step::Clock { at } => *at,
    }
}

fn grouped(mut profile: AlarmProfile) -> AlarmProfile {
    profile.applies_to.location_groups = vec![GROUP.to_owned()];
    profile
}

fn compared(transitions: &[Transition]) -> Vec<Told> {
    sorted(transitions.iter().map(told).collect())
}

/// Runs one case through both; how many alarms ended by leaving.
fn case(seed: u64) -> usize {
    let (_, flavour, profile, steps) = make(seed);
    let mut rng = StdRng::seed_from_u64(!seed);
    let names = &DEVICES[..flavour.devices];
    let mut ended = Driven::new(&profile, names);
    let mut left = Driven::new(&grouped(profile.clone()), names);
    assert_eq!(left.place(&[GROUP], 0), []);
    let (mut current, mut inside, mut now, mut by_leaving) = (profile, true, 0, 0);
    for (place, step) in steps.iter().enumerate() {
        if rng.random_bool(0.15) {
            inside = !inside;
            let document = inside.then(|| current.clone());
            let seen = left.place(if inside { &[GROUP, "Inland"] } else { &["Inland"] }, now);
            let expected = ended.step(&Step::Profile { document, at: now });
            assert_eq!(compared(&seen), compared(&expected), "seed {seed}, before step {place}");
            by_leaving += seen.len();
        }
        now = now.max(received(step));
        let (seen, expected) = match step {
            Step::Profile { document: None, .. } => continue,
            Step::Profile { document: Some(document), at } => {
                current = document.clone();
                let body = Some(grouped(document.clone()));
                let seen = left.step(&Step::Profile { document: body, at: *at });
                let at = *at;
                // While it is out, both have only the time in common.
                let same = if inside { step } else { &Step::Clock { at } };
                (seen, ended.step(same))
            }
            step => (left.step(step), ended.step(step)),
        };
        assert_eq!(compared(&seen), compared(&expected), "seed {seed}, step {place}");
        if rng.random_bool(0.1) {
            left.restart();
        }
    }
    by_leaving
}

#[test]
fn to_leave_a_group_is_as_if_the_profile_ended() {
    let ends: usize = (0..CASES).map(case).sum();
    assert!(ends > 100, "too little ends by leaving: {ends}");
}
