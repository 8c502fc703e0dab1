//! Text scenarios: a profile, inputs with their times, and the transitions that
//! they must give, run through the very engine that raises alarms.
//!
//! It stands beside a reading's way: a team keeps its profiles and scenarios in
//! a repository and runs them there, and the core's own tests are written in
//! the same language. `docs/reference/scenarios.md` has all of it. This module
//! reads no file and writes no text to anybody; a caller hands it both.

mod expected;
mod input;
mod parse;
mod profile;
mod run;
mod setup;
mod words;
mod world;

use std::fmt;

use parse::Line;
use setup::Setup;

/// The largest scenario file.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

/// The failed lines of one scenario that are told; further ones are counted.
pub const MAX_FAILURES: usize = 20;

/// A line of a scenario file that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct ScenarioError {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// One named scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    name: String,
    line: usize,
    setup: Setup,
    lines: Vec<Line>,
}

/// A line that went otherwise than expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// From 1.
    pub line: usize,
    /// The line as it is written.
    pub input: String,
    /// What was expected and what came, on several lines.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.input)?;
        for line in self.message.lines() {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

/// What became of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// None where all went as expected; [`MAX_FAILURES`] at most.
    pub failures: Vec<Failure>,
    /// Failures past the limit.
    pub left_out: usize,
    /// All transitions that came.
    pub transitions: usize,
}

impl Outcome {
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Reads the scenarios of a file. `read` gives the text of a profile's file by
/// its path as it is written in the scenario.
///
/// # Errors
/// Every line that is not understood.
pub fn parse(
    file: &str,
    text: &str,
    read: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Vec<Scenario>, Vec<ScenarioError>> {
    parse::parse(file, text, read)
}

impl Scenario {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it begins in its file, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// Runs it through an engine of its own.
    #[must_use]
    pub fn run(&self) -> Outcome {
        run::run(self, false)
    }

    /// The same with the engine restored from a snapshot behind each line,
    /// which must change nothing.
    #[must_use]
    pub fn run_with_restarts(&self) -> Outcome {
        run::run(self, true)
    }
}

#[cfg(test)]
pub(crate) mod test_world;
#[cfg(test)]
mod tests;
