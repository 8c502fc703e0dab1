//! Random profiles × random histories against a slow evaluator that is written
//! from the contract alone. All that the contract knows takes part: every
//! condition, operator, switch and schedule, other devices, attributes,
//! lateness, deeds of people, and profiles that change.

mod compare;
mod drive;
mod groups;
mod memory;
mod naive;
mod named;
mod random;
mod steps;
mod telling;
mod text;

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use schema::{AlarmProfile, Transition, TransitionKind};

use drive::{Driven, told};
use naive::{Naive, Told};
use random::{DEVICES, Flavour};
use steps::{Step, random_case};

use crate::EngineOptions;

/// Cases of the normal test run; `ALARM_ORACLE_CASES` sets another number at
/// compile time, because the core reads no environment.
const CASES: u64 = match option_env!("ALARM_ORACLE_CASES") {
    Some(text) => parse(text),
    None => 2_000,
};

/// The first seed, so that a run can go on where another ended.
const FIRST: u64 = match option_env!("ALARM_ORACLE_FIRST") {
    Some(text) => parse(text),
    None => 0,
};

const fn parse(text: &str) -> u64 {
    let (bytes, mut place, mut number) = (text.as_bytes(), 0, 0);
    while place < bytes.len() {
        number = number * 10 + (bytes[place] - b'0') as u64;
        place += 1;
    }
    number
}

/// Each rule's in their order; how those of different rules mix is free.
fn sorted(mut told: Vec<Told>) -> Vec<Told> {
    told.sort_by(|a, b| (a.device, &a.rule).cmp(&(b.device, &b.rule)));
    told
}

fn make(seed: u64) -> (StdRng, Flavour, AlarmProfile, Vec<Step>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let flavour = Flavour::random(&mut rng);
    let (profile, steps) = random_case(&mut rng, flavour);
    (rng, flavour, profile, steps)
}

/// Runs one case through both; all transitions, step by step.
fn compare(seed: u64) -> Vec<Vec<Transition>> {
    let (_, flavour, profile, steps) = make(seed);
    let names = &DEVICES[..flavour.devices];
    let mut driven = Driven::new(&profile, names);
    let mut naive = Naive::new(profile.clone(), names);
    let mut all = Vec::new();
    for (place, step) in steps.iter().enumerate() {
        let out = driven.step(step);
        let seen = sorted(out.iter().map(told).collect());
        let expected = sorted(naive.step(step));
        assert!(
            seen == expected,
            "seed {seed}, step {place}, {flavour:?}\n{}\n{:#?}\nseen {seen:#?}\nexpected {expected:#?}",
            toml::to_string(&profile).unwrap(),
            &steps[..=place],
        );
        all.push(out);
    }
    all
}

/// From a snapshot at each of the given places it goes on as it did.
fn restart_at(seed: u64, cuts: &[usize], whole: &[Vec<Transition>]) {
    let (_, flavour, profile, steps) = make(seed);
    let mut driven = Driven::new(&profile, &DEVICES[..flavour.devices]);
    for (place, step) in steps.iter().enumerate() {
        if cuts.contains(&place) {
            driven.restart();
        }
        assert_eq!(driven.step(step), whole[place], "seed {seed}, {cuts:?}, step {place}");
    }
}

/// Puts `updated` transitions together as an engine does that gathers them: one
/// that follows another of its alarm takes its place, and leaves its id.
fn gather(gathered: &mut Vec<Transition>, new: &[Transition]) {
    for transition in new {
        let last = gathered.iter_mut().rfind(|last| last.alarm == transition.alarm);
        match (last, &transition.kind) {
            (Some(last), TransitionKind::Updated { times: 1 })
                if matches!(last.kind, TransitionKind::Updated { .. }) =>
            {
                let TransitionKind::Updated { times } = last.kind else { continue };
                let kind = TransitionKind::Updated { times: times + 1 };
                *last = Transition { id: last.id, kind, ..transition.clone() };
            }
            _ => gathered.push(transition.clone()),
        }
    }
}

/// An engine that gathers updates tells the same, whenever what it told is taken.
fn gathers_the_same(seed: u64, whole: &[Vec<Transition>]) {
    let (mut rng, flavour, profile, steps) = make(seed);
    let options = EngineOptions { gathers_updates: true, ..EngineOptions::default() };
    let mut driven = Driven::with(options, &profile, &DEVICES[..flavour.devices]);
    let (mut out, mut expected) = (Vec::new(), Vec::new());
    for (place, step) in steps.iter().enumerate() {
        driven.step_into(step, &mut out);
        gather(&mut expected, &whole[place]);
        assert_eq!(out, expected, "seed {seed}, step {place}");
        if rng.random_ratio(1, 8) {
            out.clear();
            expected.clear();
        }
    }
}

/// Runs one case, and again from snapshots: from each alone where it is short,
/// else sometimes from all of them and from one.
fn case(seed: u64, kinds: &mut BTreeMap<&'static str, u64>) {
    let whole = compare(seed);
    gathers_the_same(seed, &whole);
    let (mut rng, ..) = make(seed);
    if whole.len() <= 10 {
        (0..whole.len()).for_each(|cut| restart_at(seed, &[cut], &whole));
    } else if seed.is_multiple_of(4) {
        let cuts: Vec<usize> = (0..whole.len()).collect();
        restart_at(seed, &cuts, &whole);
        restart_at(seed, &[rng.random_range(0..whole.len())], &whole);
    }
    for transition in whole.iter().flatten() {
        let kind = match (transition.kind.as_str(), &transition.kind) {
            (_, schema::TransitionKind::Cleared { reason }) => match reason {
                schema::ClearReason::Condition => "cleared by rule",
                schema::ClearReason::Time => "cleared by time",
                schema::ClearReason::Person => "cleared by person",
                schema::ClearReason::RuleRemoved => "cleared because its rule is gone",
                schema::ClearReason::DeviceRemoved => "cleared because its device is gone",
            },
            (_, schema::TransitionKind::Unshelved { by_time: true }) => "unshelved by time",
            (kind, _) => kind,
        };
        let limit = matches!(transition.originator, schema::Originator::Tenant(_));
        *kinds.entry(if limit { "limit" } else { kind }).or_default() += 1;
    }
}

#[test]
fn the_engine_agrees_with_a_naive_evaluator() {
    let mut kinds = BTreeMap::new();
    for seed in FIRST..FIRST + CASES {
        case(seed, &mut kinds);
    }
    assert!(kinds.len() >= 16, "some kinds never happen: {kinds:?}");
    let least = CASES / 200;
    assert!(kinds.values().all(|seen| *seen >= least), "too little happens: {kinds:?}");
}
