//! `baken rules`: a team's profiles and scenarios, run and checked where they
//! are kept, without a server.

mod files;
mod junit;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use alarms::scenario::{self, Outcome};
use alarms::{Problem, check, parse_toml};
use clap::Subcommand;

use super::Output;
use super::output::complain;

/// A scenario failed, or a profile has errors.
const FAILED: u8 = 1;

/// A file can't be read or understood, or there was nothing to test: a run that
/// tests nothing must not pass.
const UNTESTED: u8 = 2;

#[derive(Debug, Subcommand)]
pub(super) enum RulesCommand {
    /// Run text scenarios against alarm profiles; exit code 1 if one fails, 2 if
    /// a file is wrong or none is found
    Test {
        /// Scenario files, or folders that are searched for *.scenario
        #[arg(required = true, value_name = "FILE_OR_FOLDER")]
        paths: Vec<PathBuf>,
        /// Write the results to this file too, as JUnit XML
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
    /// Tell what is wrong or doubtful in alarm profiles; exit code 1 if anything
    /// is wrong
    Check {
        #[arg(required = true, value_name = "PROFILE.toml")]
        profiles: Vec<PathBuf>,
        /// Take what is doubtful for wrong
        #[arg(long)]
        strict: bool,
    },
}

pub(super) fn run(command: &RulesCommand, output: &mut Output) -> anyhow::Result<ExitCode> {
    match command {
        RulesCommand::Test { paths, junit } => test(paths, junit.as_deref(), output),
        RulesCommand::Check { profiles, strict } => check_profiles(profiles, *strict, output),
    }
}

/// One scenario that was run.
#[derive(Debug)]
struct Tested {
    name: String,
    /// Where it begins, from 1.
    line: usize,
    outcome: Outcome,
    took: Duration,
}

/// One file of scenarios.
#[derive(Debug)]
struct TestedFile {
    path: String,
    scenarios: Vec<Tested>,
    /// Why it could not be run: (line, what is wrong). No line where the whole
    /// file is meant.
    errors: Vec<(Option<usize>, String)>,
}

fn test(paths: &[PathBuf], junit: Option<&Path>, output: &mut Output) -> anyhow::Result<ExitCode> {
    let (found, wrong) = files::find(paths);
    let mut tested: Vec<TestedFile> = wrong
        .into_iter()
        .map(|(path, error)| TestedFile {
            path: path.display().to_string(),
            scenarios: Vec::new(),
            errors: vec![(None, error)],
        })
        .collect();
    for path in &found {
        tested.push(test_file(path));
    }
    if tested.is_empty() {
        let path = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let error = "there is no file that ends in .scenario".to_owned();
        let (path, errors) = (path.join(" "), vec![(None, error)]);
        tested.push(TestedFile { path, scenarios: Vec::new(), errors });
    }
    let code = tell(&tested, output)?;
    if let Some(file) = junit
        && let Err(error) = std::fs::write(file, junit::report(&tested))
    {
        // A pipeline that reads the file must not take an older one for this.
        complain(&format!("baken: cannot write {}: {error}", file.display()))?;
        return Ok(ExitCode::from(UNTESTED));
    }
    Ok(code)
}

fn test_file(path: &Path) -> TestedFile {
    let name = path.display().to_string();
    let mut tested = TestedFile { path: name.clone(), scenarios: Vec::new(), errors: Vec::new() };
    let text = match files::read(path) {
        Ok(text) => text,
        Err(error) => {
            tested.errors.push((None, error));
            return tested;
        }
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut profile = |name: &str| files::read(&folder.join(name));
    match scenario::parse(&name, &text, &mut profile) {
        Ok(scenarios) => {
            for scenario in scenarios {
                let started = Instant::now();
                let outcome = scenario.run();
                let took = started.elapsed();
                let (name, line) = (scenario.name().to_owned(), scenario.line());
                tested.scenarios.push(Tested { name, line, outcome, took });
            }
        }
        Err(errors) => {
            tested.errors.extend(errors.into_iter().map(|e| (Some(e.line), e.message)));
        }
    }
    tested
}

/// A line for each scenario, the details of what failed, and the totals.
fn tell(files: &[TestedFile], output: &mut Output) -> std::io::Result<ExitCode> {
    let (mut passed, mut failed, mut wrong) = (0, 0, 0);
    for file in files {
        let path = &file.path;
        for (line, message) in &file.errors {
            let place = line.map_or_else(|| path.clone(), |line| format!("{path}:{line}"));
            output.line(&format!("error  {place}: {message}"))?;
        }
        wrong += usize::from(!file.errors.is_empty());
        for Tested { name, line, outcome, .. } in &file.scenarios {
            if outcome.passed() {
                passed += 1;
                output.line(&format!("ok     {path}:{line}  {name}"))?;
                continue;
            }
            failed += 1;
            output.line(&format!("FAILED {path}:{line}  {name}"))?;
            output.line(&indented(&details(outcome)))?;
        }
    }
    let files_wrong = match wrong {
        0 => String::new(),
        1 => "; 1 file could not be tested".to_owned(),
        wrong => format!("; {wrong} files could not be tested"),
    };
    let total = passed + failed;
    let scenarios = if total == 1 { "scenario" } else { "scenarios" };
    output.line(&format!("{total} {scenarios}: {passed} passed, {failed} failed{files_wrong}"))?;
    Ok(match (wrong, failed) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(FAILED),
        _ => ExitCode::from(UNTESTED),
    })
}

/// What failed in a scenario, a line of it after the other.
fn details(outcome: &Outcome) -> String {
    let mut text: Vec<String> = outcome.failures.iter().map(ToString::to_string).collect();
    if outcome.left_out > 0 {
        text.push(format!("and {} lines more", outcome.left_out));
    }
    text.join("\n")
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("       {line}")).collect();
    lines.join("\n")
}

fn check_profiles(
    profiles: &[PathBuf],
    strict: bool,
    output: &mut Output,
) -> anyhow::Result<ExitCode> {
    let (mut wrong, mut unread) = (false, false);
    for path in profiles {
        let name = path.display();
        let text = match files::read(path) {
            Ok(text) => text,
            Err(error) => {
                unread = true;
                output.line(&format!("{name}: error: {error}"))?;
                continue;
            }
        };
        let report = match parse_toml(&text) {
            Ok(profile) => check(&profile),
            Err(report) => report,
        };
        for problem in &report.errors {
            output.line(&format!("{name}: error: {}", show(problem)))?;
        }
        for problem in &report.warnings {
            output.line(&format!("{name}: warning: {}", show(problem)))?;
        }
        wrong |= !report.errors.is_empty() || (strict && !report.warnings.is_empty());
        if report.errors.is_empty() && report.warnings.is_empty() {
            output.line(&format!("{name} is right"))?;
        }
    }
    Ok(match (unread, wrong) {
        (true, _) => ExitCode::from(UNTESTED),
        (false, true) => ExitCode::from(FAILED),
        (false, false) => ExitCode::SUCCESS,
    })
}

fn show(problem: &Problem) -> String {
    let Problem { field, value, message } = problem;
    match value.is_empty() {
        true => format!("{field}: {message}"),
        false => format!("{field}: {message}, and is `{value}`"),
    }
}
