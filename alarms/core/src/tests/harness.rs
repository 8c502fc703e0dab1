//! Short scripts in the language of scenarios, for tests that make their
//! profiles and lines by program.

use crate::scenario;
pub(crate) use crate::scenario::test_world::{START_MS, TestWorld as World};

/// Runs a script and compares each line with what it expects; then once more
/// with a restart behind each line.
#[track_caller]
pub fn check(profile: &str, script: &str) {
    let text = format!(
        "location \"Hall 3\" zone Europe/Amsterdam\nscenario test\nprofile\n{profile}\nend\n{script}"
    );
    let read = &mut |name: &str| Err(format!("{name}: there are no files here"));
    let scenarios = scenario::parse("test", &text, read).unwrap_or_else(|e| panic!("{e:#?}"));
    for outcome in [scenarios[0].run(), scenarios[0].run_with_restarts()] {
        let told: Vec<String> = outcome.failures.iter().map(ToString::to_string).collect();
        assert!(outcome.passed(), "{}\n{text}", told.join("\n"));
    }
}
