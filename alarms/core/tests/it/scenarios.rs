//! Runs the folder `scenarios`, and sees to it that nothing is missing there.

#![allow(
    clippy::disallowed_methods,
    reason = "the test reads scenario files; the core itself reads none"
)]

use std::fs;
use std::path::{Path, PathBuf};

use alarm_core::scenario::{self, Scenario};

/// What alarms.md promises, and what others got wrong; each is a file.
const REQUIRED: [&str; 59] = [
    "applies-to-location-groups",
    "devices-and-locations-change",
    "keys-of-other-devices",
    "kind-duration",
    "kind-inactivity",
    "kind-repeating",
    "kind-simple",
    "limits-from-keys-and-attributes",
    "operator-age",
    "operator-changed",
    "operator-delta",
    "operator-rate",
    "operators-booleans",
    "operators-numbers",
    "operators-texts",
    "operators-trees",
    "row-01-the-worst-severity-first",
    "row-02-false-resets-and-not-yet-keeps",
    "row-03-raise-beats-clear",
    "row-04-clear-only-while-active",
    "row-05-updated-or-raised-in-severity",
    "row-06-acknowledge-and-clear-are-independent",
    "row-07-a-new-alarm-after-a-clear",
    "row-08-cleared-by-a-person",
    "row-09-details-are-kept",
    "row-10-profiles-deleted-and-edited",
    "schedule-over-midnight",
    "schedule-summer-time-begins",
    "schedule-summer-time-ends",
    "schedule-weekdays",
    "severities",
    "shelving-and-assigning",
    "switch-auto-clear-after",
    "switch-clear-by-severity",
    "switch-de-escalate",
    "switch-deadband",
    "switch-flapping",
    "switch-gap-breaks-duration",
    "switch-latch",
    "switch-max-active",
    "switch-min-on",
    "switch-off-delay",
    "switch-re-alarm-after",
    "switch-reacknowledge-on-escalation",
    "thingsboard-10590-duration-shorter-than-asked",
    "thingsboard-13050-not-raised-again-after-clear",
    "thingsboard-14210-alarm-out-of-a-gap",
    "thingsboard-14301-duration-shown-as-zero",
    "thingsboard-15583-two-messages-two-alarms",
    "thingsboard-16118-schedule-opens-during-a-duration",
    "thingsboard-16150-clear-replaces-details",
    "thingsboard-4207-delayed-data-in-order",
    "thingsboard-5652-created-twice",
    "thingsboard-5800-comment-lost-at-clear",
    "thingsboard-6773-update-by-the-servers-clock",
    "thingsboard-7811-cleared-alarm-used-again",
    "thingsboard-7909-inactivity-not-cleared",
    "thingsboard-8191-end-by-the-servers-clock",
    "thingsboard-8681-time-of-a-batched-reading",
];

/// Of the rows of "Time".
const REQUIRED_OF_TIME: [&str; 9] = [
    "time-catching-up",
    "time-deadlines-first",
    "time-event-time",
    "time-late-readings",
    "time-lateness",
    "time-of-system-keys",
    "time-repeated",
    "time-replay",
    "time-timers",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "scenario")).collect();
    files.sort();
    files
}

fn read(path: &Path) -> Vec<Scenario> {
    let text = fs::read_to_string(path).unwrap();
    let mut profile =
        |name: &str| fs::read_to_string(folder().join(name)).map_err(|error| error.to_string());
    scenario::parse(&path.display().to_string(), &text, &mut profile)
        .unwrap_or_else(|errors| panic!("{errors:#?}"))
}

/// Tells all that fails at once, with the place to go to.
fn run(what: &str, outcome: impl Fn(&Scenario) -> scenario::Outcome) {
    let mut failed = String::new();
    for path in files() {
        for scenario in read(&path) {
            for failure in outcome(&scenario).failures {
                let place = format!("{}:{}", path.display(), failure.line);
                failed.push_str(&format!("{place} in `{}`\n{failure}\n\n", scenario.name()));
            }
        }
    }
    assert!(failed.is_empty(), "{what}:\n\n{failed}");
}

#[test]
fn every_scenario_passes() {
    run("as written", Scenario::run);
}

#[test]
fn every_scenario_passes_with_a_restart_behind_each_line() {
    run("with a restart behind each line", Scenario::run_with_restarts);
}

#[test]
fn nothing_that_is_promised_lacks_its_scenario() {
    let names: Vec<String> =
        files().iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    for required in REQUIRED.iter().chain(&REQUIRED_OF_TIME) {
        assert!(names.iter().any(|name| name == required), "{required}.scenario is missing");
    }
    for name in &names {
        let known = REQUIRED.contains(&name.as_str()) || REQUIRED_OF_TIME.contains(&name.as_str());
        assert!(known, "{name}.scenario is in no list here, so that it could vanish unnoticed");
    }
}

#[test]
fn the_example_of_the_reference_passes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/scenarios.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once("```scenario\n").expect("the reference has an example");
    let (example, _) = rest.split_once("\n```").expect("the example ends");
    let mut none = |name: &str| Err(format!("{name} is not there"));
    let scenarios = scenario::parse("scenarios.md", example, &mut none).unwrap();
    assert_eq!(scenarios.len(), 3);
    for scenario in scenarios {
        let outcome = scenario.run();
        assert!(outcome.passed(), "{}: {:#?}", scenario.name(), outcome.failures);
    }
}
